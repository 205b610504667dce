"""A message made ready for the wire, in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from eventbus import EncodingError, MessageTooLarge, PublishError
from eventbus._message import MAX_TOPIC_BYTES, Message
from eventbus_rabbitmq._mapping import HeaderEncoder
from eventbus_rabbitmq._operations import DIRECT_REPLY_TO
from eventbus_rabbitmq._publisher import Outgoing
from eventbus_rabbitmq._waiting import scheduled


def prepare(
    encoder: HeaderEncoder,
    message: Message,
    *,
    max_body: int,
    deadline: float,
    done: Callable[[PublishError | None], None],
    service: str,
    queue_exchange: str = "",
) -> Outgoing:
    """A message ready for the wire. Pure: runs in the caller's thread.

    What is to be delivered later goes to a place of ``service``'s own, to wait there. ``queue_exchange`` takes the
    place of the default exchange; see :class:`RabbitMQOptions`.

    :raises NotSent: it does not fit.
    """
    if len(message.body) > max_body:
        raise MessageTooLarge(f"the body has {len(message.body)} bytes, above the limit of {max_body}")
    if not (_fits(message.topic) and _fits(message.exchange)):
        raise MessageTooLarge(f"topic and exchange have at most {MAX_TOPIC_BYTES} bytes each")
    exchange = message.exchange
    if not exchange and queue_exchange and not message.topic.startswith(DIRECT_REPLY_TO):
        exchange = queue_exchange
    wait = None
    if message.deliver_at is not None:
        message, wait = scheduled(message, service, exchange, time.time())
        if wait is not None and not _fits(wait.name):
            raise MessageTooLarge(f"the names of service and exchange are too long for a delay: {wait.name!r}")
    try:
        header = encoder.encode(message)
    except (ValueError, OverflowError) as error:  # UnsupportedValue and UnicodeEncodeError are ValueErrors
        raise EncodingError(f"headers or attributes cannot be sent: {error}") from error
    if len(header) > 100_000:
        raise MessageTooLarge(f"headers and attributes have {len(header)} bytes; they must fit one frame")
    return Outgoing(
        exchange=exchange if wait is None else wait.name,
        topic=message.topic,
        id=message.id,
        header=header,
        body=message.body,
        deadline=deadline,
        finish_with=done,
        wait=wait,
    )


def _fits(name: str) -> bool:
    # At most four bytes for a character: short names need no encoding to know.
    return len(name) * 4 <= MAX_TOPIC_BYTES or len(name.encode()) <= MAX_TOPIC_BYTES
