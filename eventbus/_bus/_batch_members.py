"""The members of a batch, each with its own outcome: what threads and tasks share."""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar

from eventbus._batch import errors_of
from eventbus._bus._core import Served
from eventbus._bus._dispatch import Dispatch
from eventbus._delivery import Delivery
from eventbus._errors import BatchError
from eventbus._message import Incoming

log = logging.getLogger("eventbus.handler")

S = TypeVar("S")


class Member(Generic[S]):
    """One delivery of a batch; ``stack`` holds the middleware around it, ``error`` is what it has come to."""

    __slots__ = ("delivery", "error", "event", "stack")

    def __init__(self, delivery: Delivery, stack: S) -> None:
        self.delivery = delivery
        self.stack = stack
        self.event: Any = None
        self.error: BaseException | None = None


def take_in(dispatch: Dispatch, served: Served, incoming: Incoming, stack: S) -> Member[S]:
    """A member, with its event or with what is wrong with it: the others do without it."""
    member = Member(dispatch.open(served, incoming), stack)
    try:
        member.event, _ = dispatch.read(served, member.delivery)
    except Exception as error:
        member.error = error
    return member


def blame(good: list[Member[S]], error: BaseException | None) -> BaseException | None:
    """Tell each what it has come to, when the handler ended with ``error``; gives the error that is that of all."""
    for member, own in zip(good, errors_of(error, len(good)), strict=True):
        member.error = own
    return None if isinstance(error, BatchError) else error


def finish_all(dispatch: Dispatch, members: list[Member[S]], common: BaseException | None) -> None:
    """Settle each by its own outcome. The error of all is told of once."""
    told = 0
    for member in members:
        is_common = common is not None and member.error is common
        try:
            dispatch.finish(member.delivery, member.error, None, report=not (is_common and told))
        except Exception:
            log.exception("%s: a delivery could not be settled", member.delivery.subscription.name)
        told += is_common
    if told > 1:
        log.warning("%s: so did %d more of its batch", members[0].delivery.subscription.name, told - 1)
