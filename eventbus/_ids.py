"""Identifiers: time-ordered for messages, random for correlation."""

from __future__ import annotations

import os
import time
import uuid


def uuid7() -> str:
    """A new UUIDv7 as text: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562 section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def correlation_id() -> str:
    """A new correlation id: 122 random bits, so that a stranger cannot guess one and forge a reply."""
    return str(uuid.uuid4())
