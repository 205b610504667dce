"""One delivery, or one batch, in a task: from opening it to settling it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import copy_context
from typing import Any

from eventbus._bus._batch_members import Member, blame, finish_all, take_in
from eventbus._bus._core import Served
from eventbus._bus._dispatch import Dispatch
from eventbus._bus._workers import Watch, Workers
from eventbus._delivery import Context, Delivery
from eventbus._message import Incoming

log = logging.getLogger("eventbus")


class AsyncHandling:
    """Calls handlers. ``draining``: what comes goes back to the broker."""

    def __init__(self, dispatch: Dispatch, watch: Watch, workers: Workers) -> None:
        self.dispatch = dispatch
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._watch = watch
        self._workers = workers

    async def one(self, served: Served, incoming: Incoming) -> None:
        """Handle and settle one delivery; raises nothing but our own cancellation."""
        if self.draining:
            self.dispatch.give_back(incoming)
            return
        try:
            delivery = self.dispatch.open(served, incoming)
            error: BaseException | None = None
            result = None
            try:
                result = await self._call(served, delivery)
            except asyncio.CancelledError as cancelled:
                if _is_ours():
                    raise  # at the end of the grace period: the broker hands the message out again
                error = cancelled  # the handler's own: something that it awaited was cancelled
            except BaseException as raised:
                error = raised
            self.dispatch.finish(delivery, error, result)
        except Exception:
            log.exception("%s: a delivery could not be settled", served.subscription.name)

    async def _call(self, served: Served, delivery: Delivery) -> Any:
        event, context = self.dispatch.read(served, delivery)
        if not self.dispatch.around:
            return await self._invoke(served, event, context)
        async with AsyncExitStack() as stack:
            await self._enter_around(stack, delivery)
            return await self._invoke(served, event, context)

    async def _enter_around(self, stack: AsyncExitStack, delivery: Delivery) -> None:
        for middleware in self.dispatch.around:
            manager: Any = middleware.handling(delivery)
            if isinstance(manager, AbstractAsyncContextManager):
                await stack.enter_async_context(manager)
            else:
                stack.enter_context(manager)

    async def _invoke(self, served: Served, event: Any, context: Context) -> Any:
        handler, timeout = served.subscription.handler, served.subscription.timeout
        if not handler.is_async:
            return await self._invoke_in_thread(served, event, context)
        if timeout is None:
            return await handler.call_async(event, context)
        async with asyncio.timeout(timeout):
            return await handler.call_async(event, context)

    async def _invoke_in_thread(self, served: Served, event: Any, context: Context) -> Any:
        subscription, loop = served.subscription, self._loop
        outcome: asyncio.Future[Any] = loop.create_future()
        number = None if subscription.timeout is None else self._watch.begin(subscription.name, subscription.timeout)

        def finish(error: BaseException | None, result: Any) -> None:
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def run() -> None:
            error: BaseException | None = None
            result = None
            try:
                result = copied.run(subscription.handler.call, event, context)
            except BaseException as raised:
                # A future takes no StopIteration, and GeneratorExit would end the waiting task instead of
                # reaching it; a handler that raises one has failed all the same.
                odd = isinstance(raised, (StopIteration, GeneratorExit))
                error = RuntimeError(f"the handler raised {type(raised).__name__}") if odd else raised
            if number is not None:
                self._watch.end(number)
            try:
                loop.call_soon_threadsafe(finish, error, result)
            except RuntimeError:  # the loop was closed meanwhile: the message goes back with its connection
                log.warning("%s: the handler ended after its event loop", subscription.name)

        copied = copy_context()
        self._workers.submit(run)
        return await outcome

    # -- batches ------------------------------------------------------------------------------------------

    async def batch(self, served: Served, incomings: list[Incoming]) -> None:
        """Handle and settle a batch; raises nothing but our own cancellation."""
        if self.draining:
            for incoming in incomings:
                self.dispatch.give_back(incoming)
            return
        members = [take_in(self.dispatch, served, incoming, AsyncExitStack()) for incoming in incomings]
        good = [member for member in members if member.error is None and await self._enter(member)]
        error = await self._call_batch(served, good) if good else None
        for member in good:
            await self._leave(member)
        finish_all(self.dispatch, members, error)

    async def _enter(self, member: Member[AsyncExitStack]) -> bool:
        """Enter the middleware around one member; what fails there fails that member alone."""
        try:
            await self._enter_around(member.stack, member.delivery)
        except BaseException as error:
            member.error = error
            await self._leave(member)
            if _is_ours():
                raise
        return member.error is None

    async def _call_batch(self, served: Served, good: list[Member[AsyncExitStack]]) -> BaseException | None:
        context = self.dispatch.batch_context([member.delivery for member in good])
        error: BaseException | None = None
        try:
            await self._invoke(served, [member.event for member in good], context)
        except BaseException as raised:
            error = raised
        common = blame(good, error)
        if error is not None and _is_ours():
            for member in good:
                await self._leave(member)
            raise error
        return common

    async def _leave(self, member: Member[AsyncExitStack]) -> None:
        error = member.error
        try:
            kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
            if await member.stack.__aexit__(kind, error, trace):
                member.error = None  # the middleware has dealt with it
        except BaseException as raised:
            member.error = raised


def _is_ours() -> bool:
    """Whether this task is being cancelled, by us: handlers cannot."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
