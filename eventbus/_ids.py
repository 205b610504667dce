"""Identifiers: time-ordered for messages, random for correlation."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

# Asking the system for randomness costs more than the rest of an id, so it is asked for many at once.
_AT_ONCE = 256

_tails: Iterator[str] = iter(())
_prefix = (0, "")


def uuid7() -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562 section 5.7)."""
    global _prefix
    milliseconds = time.time_ns() // 1_000_000
    known, prefix = _prefix
    if known != milliseconds:
        text = f"{milliseconds:012x}"
        prefix = f"{text[:8]}-{text[8:]}-7"
        _prefix = (milliseconds, prefix)
    # Taking from a list's iterator is one step of the interpreter: no two threads get the same.
    tail = next(_tails, None)
    return prefix + (_more() if tail is None else tail)


def _more() -> str:
    """New tails: 12 random bits, the variant with 2, and 60 more bits, as ``xxx-yxxx-xxxxxxxxxxxx``."""
    global _tails
    digits = os.urandom(10 * _AT_ONCE).hex()
    made = [
        f"{d[:3]}-{'89ab'[int(d[3], 16) & 3]}{d[4:7]}-{d[7:19]}"
        for d in (digits[at : at + 20] for at in range(0, len(digits), 20))
    ]
    last = made.pop()
    _tails = iter(made)
    return last


def _forget() -> None:
    global _tails
    _tails = iter(())


# A forked child would give out what its parent gives out.
os.register_at_fork(after_in_child=_forget)


def correlation_id() -> str:
    """A new correlation id: 122 random bits, so that a stranger cannot guess one and forge a reply."""
    return str(uuid.uuid4())
