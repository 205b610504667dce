"""What a broker's close of the publish channel says about the messages that were on it: decided over values.

A broker answers a publish that it refuses by closing the channel, with every unconfirmed message on it. Most of them
have done nothing wrong, and are sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from eventbus import AccessRefused, ExchangeMissing, MessageTooLarge, PublishError, PublishUnknown, Rejected
from eventbus_rabbitmq._errors import ACCESS_REFUSED, NOT_FOUND, PRECONDITION
from eventbus_rabbitmq._publisher import Outgoing
from eventbus_rabbitmq._wire.frames import PUBLISH

DEFAULT_EXCHANGE = "amq.default"
"""The name that the broker gives the default exchange in its texts and permissions."""

_EXCHANGE = re.compile(r"exchange '([^']*)'")
_TOPIC = re.compile(r"access to topic '([^']*)' in exchange '([^']*)'")
_SIZE = re.compile(r"message size (\d+) is larger")


class Refusal(msgspec.Struct, frozen=True):
    """Which messages end here, each with its error; which exchange to look for again; whether to go on with care.

    With care means one message at a time, so that the next close names the one that caused it.
    """

    ended: tuple[tuple[int, PublishError], ...] = ()
    forget: str | None = None
    careful: bool = False


def refusal(unconfirmed: dict[int, Outgoing], proven: set[str], code: int, text: str, method: int) -> Refusal:
    """What the close with ``code`` and ``text``, caused by ``method``, means for the messages by delivery tag."""
    text = " ".join(text.split())
    if method not in (PUBLISH, 0):
        return Refusal()
    named = _EXCHANGE.search(text)
    if code == NOT_FOUND and named:
        return Refusal(forget=named[1])
    if code == ACCESS_REFUSED and named:
        return Refusal(ended=tuple(_denied(unconfirmed, proven, named[1], text)))
    if code == PRECONDITION and (size := _SIZE.search(text)):
        tag = next((tag for tag, o in unconfirmed.items() if len(o.body) == int(size[1])), None)
        if tag is not None:
            return Refusal(ended=((tag, MessageTooLarge(f"the broker refuses it: {text}")),))
    if method == PUBLISH and len(unconfirmed) == 1:
        ((tag, only),) = unconfirmed.items()
        return Refusal(ended=((tag, refused(only, False, f"the broker refused it: {text} ({code})")),))
    return Refusal(careful=method == PUBLISH)


def missing(outgoing: Outgoing, proven: set[str], exchange: str) -> PublishError:
    """The error of a message whose exchange the broker does not know."""
    why = f"exchange {exchange!r} does not exist: check its name, or declare it"
    if outgoing.sends > 1 or exchange in proven:
        return PublishUnknown(f"sent before, and now {why}")
    return ExchangeMissing(why)


def refused(outgoing: Outgoing, proven: bool, why: str) -> PublishError:
    """Rejected, if no copy of it can have been taken before."""
    if outgoing.sends > 1 or proven:
        return PublishUnknown(f"{why}; earlier messages were taken, so this one may have been too")
    return Rejected(why)


def _denied(
    unconfirmed: dict[int, Outgoing], proven: set[str], exchange: str, text: str
) -> Iterable[tuple[int, PublishError]]:
    topic = _TOPIC.search(text)
    published = "" if exchange == DEFAULT_EXCHANGE else exchange
    for tag, outgoing in unconfirmed.items():
        if outgoing.exchange != published or (topic and outgoing.topic != topic[1]):
            continue
        what = f"to topic {topic[1]!r} of exchange {exchange!r}" if topic else f"to exchange {exchange!r}"
        why = f"the user lacks the permission to write {what} ({text}); see rabbitmqctl set_permissions"
        # A permission to topics: what the exchange took before had other topics.
        error = refused(outgoing, published in proven and not topic, why)
        error.__cause__ = AccessRefused(text)
        yield tag, error


def too_large(size: int, limit: int) -> PublishError:
    """The error of headers that do not fit one frame."""
    return MessageTooLarge(f"headers and attributes have {size} bytes; at most {limit} fit one frame of this broker")
