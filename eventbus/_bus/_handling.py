"""One delivery, or one batch, in a thread: from opening it to settling it."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

from eventbus._bus._batch_members import Member, blame, finish_all, take_in
from eventbus._bus._core import Served
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._workers import Watch
from eventbus._delivery import Delivery
from eventbus._message import Incoming

log = logging.getLogger("eventbus")


class Handling:
    """Calls handlers. ``draining``: what comes goes back to the broker."""

    def __init__(self, dispatch: Dispatch, watch: Watch) -> None:
        self.dispatch = dispatch
        self.draining = False
        self._watch = watch

    def one(self, served: Served, incoming: Incoming) -> None:
        """Handle and settle one delivery; never raises."""
        if self.draining:
            self.dispatch.give_back(incoming)
            return
        try:
            delivery = self.dispatch.open(served, incoming)
            error: BaseException | None = None
            result = None
            try:
                result = self._call(served, delivery)
            except BaseException as raised:  # SystemExit in a handler ends the delivery, not the worker
                error = raised
            self.dispatch.finish(delivery, error, result)
        except Exception:
            log.exception("%s: a delivery could not be settled", served.subscription.name)

    def _call(self, served: Served, delivery: Delivery) -> Any:
        subscription = served.subscription
        if subscription.timeout is None and not self.dispatch.around:
            event, context = self.dispatch.read(served, delivery)
            return subscription.handler.call(event, context)
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)
        try:
            event, context = self.dispatch.read(served, delivery)
            with ExitStack() as stack:
                for middleware in self.dispatch.around:
                    stack.enter_context(middleware.handling(delivery))
                return subscription.handler.call(event, context)
        finally:
            if number is not None:
                self._watch.end(number)

    # -- batches ------------------------------------------------------------------------------------------

    def batch(self, served: Served, incomings: list[Incoming]) -> None:
        """Handle and settle a batch; never raises."""
        if self.draining:
            for incoming in incomings:
                self.dispatch.give_back(incoming)
            return
        members = [take_in(self.dispatch, served, incoming, ExitStack()) for incoming in incomings]
        good = [member for member in members if member.error is None and self._enter(member)]
        error = self._call_batch(served, good) if good else None
        for member in good:
            self._leave(member)
        finish_all(self.dispatch, members, error)

    def _enter(self, member: Member[ExitStack]) -> bool:
        """Enter the middleware around one member; what fails there fails that member alone."""
        try:
            for middleware in self.dispatch.around:
                member.stack.enter_context(middleware.handling(member.delivery))
        except BaseException as error:
            member.error = error
            self._leave(member)
        return member.error is None

    def _call_batch(self, served: Served, good: list[Member[ExitStack]]) -> BaseException | None:
        subscription, error = served.subscription, None
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)
        try:
            context = self.dispatch.batch_context([member.delivery for member in good])
            subscription.handler.call([member.event for member in good], context)
        except BaseException as raised:
            error = raised
        finally:
            if number is not None:
                self._watch.end(number)
        return blame(good, error)

    def _leave(self, member: Member[ExitStack]) -> None:
        error = member.error
        try:
            if member.stack.__exit__(type(error) if error else None, error, error.__traceback__ if error else None):
                member.error = None  # the middleware has dealt with it
        except BaseException as raised:
            member.error = raised
