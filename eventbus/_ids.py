"""Identifiers: time-ordered for messages, random for correlation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

# Asking the system for randomness costs more than the rest of an id, so it is asked once for many.
_AT_ONCE = 256

_tails: Iterator[str] = iter(())
_secrets: Iterator[str] = iter(())
_prefix = (0, "")


def uuid7() -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, 66 random bits, 8 that count (RFC 9562 sections 5.7, 6.2).

    Ids are unique, not secret: who knows one can guess its neighbours.
    """
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
    """New tails: 12 random bits, the variant, 54 more random bits and the count, as ``xxx-yxxx-xxxxxxxxxxxx``."""
    global _tails
    digits = os.urandom(9).hex()
    base = f"{digits[:3]}-{'89ab'[int(digits[3], 16) & 3]}{digits[4:7]}-{digits[7:17]}"
    made = [f"{base}{count:02x}" for count in range(_AT_ONCE)]
    _tails = iter(made)
    return next(_tails)


def _forget() -> None:
    global _tails, _secrets
    _tails = _secrets = iter(())


# A forked child would give out what its parent gives out.
os.register_at_fork(after_in_child=_forget)


def correlation_id() -> str:
    """A new correlation id: 128 random bits as hex, so that a stranger cannot guess one and forge a reply."""
    secret = next(_secrets, None)
    return _more_secrets() if secret is None else secret


def _more_secrets() -> str:
    global _secrets
    digits = os.urandom(16 * _AT_ONCE).hex()
    _secrets = iter([digits[at : at + 32] for at in range(0, len(digits), 32)])
    return next(_secrets)
