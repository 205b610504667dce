"""Ordering keys: what a publish says of its order, and which partition it belongs to.

Messages of one key are handled in the order in which they were published. A key goes over the wire as the header
``eventbus-key``. Beside it stands one of 64 headers ``eventbus-slot-<n>``, chosen by a hash of the key: the queues of a
partitioned subscription are bound by it to a headers exchange, so that the broker finds the partition without a plugin,
and the publisher need not know how many partitions a subscription has.
"""

from __future__ import annotations

import zlib

from eventbus._errors import EncodingError
from eventbus._message import HeaderValue, Message

KEY = "eventbus-key"

SLOTS = 64
"""Part of the wire format: publishers and subscriptions of different versions must agree on it."""

MAX_KEY_BYTES = 255

SLOT_HEADERS = tuple(f"eventbus-slot-{slot}" for slot in range(SLOTS))


def slot_of(key: str) -> int:
    """The slot of a key: CRC-32 (as in zlib) of its UTF-8 bytes, modulo 64, which other languages can compute too."""
    return zlib.crc32(key.encode()) % SLOTS


def key_headers(key: str) -> dict[str, HeaderValue]:
    """What a message with this key carries.

    :raises EncodingError: it is no text, or empty, or longer than 255 bytes of UTF-8.
    """
    if not isinstance(key, str) or not key:
        raise EncodingError(f"an ordering key is non-empty text, not {'empty' if key == '' else type(key).__name__}")
    try:
        written = key.encode()
    except UnicodeEncodeError:
        raise EncodingError("an ordering key is text that UTF-8 can carry") from None
    if len(written) > MAX_KEY_BYTES:
        raise EncodingError(f"the ordering key has {len(written)} bytes; at most {MAX_KEY_BYTES} are sent")
    return {KEY: key, SLOT_HEADERS[zlib.crc32(written) % SLOTS]: True}


def key_of(message: Message) -> str | None:
    """The ordering key of a message, if it has one."""
    key = message.headers.get(KEY)
    return key if isinstance(key, str) and key else None


def slots_of(partition: int, partitions: int) -> range:
    """The slots that belong to one of so many partitions, counted from 0."""
    return range(partition, SLOTS, partitions)
