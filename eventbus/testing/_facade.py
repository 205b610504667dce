"""One face for both buses: scenarios are plain sync code, and the async bus lives on a loop in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from eventbus._bus._health import Health, StopReport
from eventbus._errors import PublishError
from eventbus._registration import Router

CALL_SECONDS = 60.0
"""No call of a scenario takes longer; a bus that hangs fails the test instead of hanging it."""

LOOP_THREADS = "conformance-loop"


class Runner(Protocol):
    """How a bus's methods are called, and what its handlers look like."""

    flavour: str

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of the call, awaited where it is a coroutine."""

    def handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A plain function as this bus's kind of handler."""

    def close(self) -> None:
        """End what the runner has started."""


class SyncRunner:
    """Calls straight through."""

    flavour = "sync"

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return function(*args, **kwargs)

    def handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is."""
        return function

    def close(self) -> None:
        """Nothing to end."""


class AsyncRunner:
    """An event loop in a thread of its own; calls are made there and waited for here.

    Plain functions become coroutine functions whose bodies run in the loop's executor: they may block, as
    they may on the sync bus, and the bus sees coroutines.
    """

    flavour = "async"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(64, thread_name_prefix=LOOP_THREADS)
        self.loop.set_default_executor(self._threads)
        self._thread = threading.Thread(target=self.loop.run_forever, name=LOOP_THREADS, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it on the loop, and await what it returns."""

        async def run() -> Any:
            result = function(*args, **kwargs)
            return await result if inspect.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(CALL_SECONDS)

    def handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A coroutine function with the function's signature."""
        if inspect.iscoroutinefunction(function):
            return function

        def run(args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
            try:
                return function(*args, **kwargs), None
            except BaseException as error:  # not every error survives the way through a future
                return None, error

        @functools.wraps(function)
        async def handle(*args: Any, **kwargs: Any) -> Any:
            context = contextvars.copy_context()
            result, error = await self.loop.run_in_executor(None, context.run, run, args, kwargs)
            if error is not None:
                raise error
            return result

        return handle

    def tasks(self) -> int:
        """How many tasks the loop has."""
        return self.call(lambda: len(asyncio.all_tasks(self.loop)) - 1)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Cancel what is left, and end loop and threads."""

        async def cancel() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.wait(rest, timeout=2.0) if rest else None

        self.call(cancel)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self.loop.close()


class ReceiptFace:
    """A receipt of either bus."""

    def __init__(self, receipt: Any, runner: Runner) -> None:
        self._receipt = receipt
        self._runner = runner
        self.id: str = receipt.id

    def done(self) -> bool:
        """Whether the outcome is known."""
        return bool(self._runner.call(self._receipt.done))

    def error(self) -> PublishError | None:
        """The outcome, waited for."""
        error: PublishError | None = self._runner.call(self._receipt.error)
        return error


class Bus:
    """A bus of either kind, with methods that wait. ``real`` is the bus itself."""

    def __init__(self, real: Any, runner: Runner) -> None:
        self.real = real
        self._runner = runner

    def start(self, *, wait: bool = True, timeout: float = 20.0) -> Bus:
        """Start it; gives itself."""
        self._runner.call(self.real.start, wait=wait, timeout=timeout)
        return self

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Until connected and every subscription runs."""
        self._runner.call(self.real.wait_ready, timeout)

    def stop(self, grace: float = 5.0) -> StopReport:
        """Drain and close."""
        report: StopReport = self._runner.call(self.real.stop, grace)
        return report

    def health(self) -> Health:
        """Its state."""
        health: Health = self._runner.call(self.real.health)
        return health

    def publish(self, event: object, **options: Any) -> None:
        """Publish and wait for the outcome."""
        self._runner.call(self.real.publish, event, **options)

    def submit(self, event: object, **options: Any) -> ReceiptFace:
        """Publish without waiting for the outcome."""
        return ReceiptFace(self._runner.call(self.real.submit, event, **options), self._runner)

    def publish_many(self, events: Iterable[object], **options: Any) -> int:
        """Publish all."""
        confirmed: int = self._runner.call(self.real.publish_many, events, **options)
        return confirmed

    def request(self, request: object, **options: Any) -> Any:
        """Ask, and wait for the answer."""
        return self._runner.call(self.real.request, request, **options)

    def request_many(self, request: object, **options: Any) -> list[Any]:
        """Ask all, and gather."""
        answers: list[Any] = self._runner.call(self.real.request_many, request, **options)
        return answers

    def subscribe(self, *events: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Subscribe a handler, made a coroutine function on the async bus."""
        return self._registering(self.real.subscribe, events, options)

    def respond(self, *requests: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a responder, made a coroutine function on the async bus."""
        return self._registering(self.real.respond, requests, options)

    def include(self, router: Router) -> None:
        """Take in a router, with its functions as they are."""
        self._runner.call(self.real.include, router)

    def handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as this bus's kind of handler."""
        return self._runner.handler(function)

    def _registering(
        self, decorator: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            handler = self._runner.handler(function)
            self._runner.call(lambda: decorator(*given, **options)(handler))
            return function

        return register
