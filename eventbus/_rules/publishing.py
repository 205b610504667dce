"""What becomes of a publish before it is in any queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from eventbus._errors import ExchangeMissing, MessageTooLarge, NotSent, PublishError, Rejected, Unroutable
from eventbus._message import Message
from eventbus._routing import Router, UnknownExchange, validate_topic
from eventbus._topology import Exchange

Q = TypeVar("Q")


def oversize(message: Message, max_body: int) -> NotSent | None:
    """Why the message is above a limit; None when it is not."""
    if len(message.body) > max_body:
        return MessageTooLarge(f"the body has {len(message.body)} bytes; the limit is {max_body}")
    if len(message.topic) > 63:  # may have more than 255 bytes
        try:
            validate_topic(message.topic)
        except NotSent as error:
            return error
    return None


def destinations(router: Router[Q], exchanges: Mapping[str, Exchange], message: Message) -> list[Q] | PublishError:
    """The queues that the message goes to, at least one; or its outcome."""
    exchange = message.exchange
    try:
        queues = router.route(exchange, message.topic, message.headers)
    except UnknownExchange:
        return ExchangeMissing(f"exchange {exchange!r} does not exist")
    if exchange and exchanges[exchange].internal:
        return Rejected(f"exchange {exchange!r} is internal: only other exchanges publish to it")
    if not queues:
        return Unroutable(f"no queue takes topic {message.topic!r} of exchange {exchange!r}")
    return queues
