"""Handlers: what they may take, and what stands around them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import msgspec
import pytest

from eventbus._delivery import Context, Delivery
from eventbus._handlers import Depends
from eventbus._message import Message
from eventbus._middleware import Middleware
from eventbus._registration import Router
from eventbus._settlement import Retry, Settlement
from eventbus.testing._eventually import eventually
from eventbus.testing._features import only_on
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen, Word, noting

STEPS: Seen[str] = Seen()


def outer() -> Iterator[str]:
    """A dependency that is cleaned up."""
    STEPS.add("open outer")
    try:
        yield "outer"
    except RuntimeError:
        STEPS.add("outer saw the error")
        raise
    finally:
        STEPS.add("close outer")


def inner(outer: Annotated[str, Depends(outer)]) -> Iterator[str]:
    """A dependency that needs another one."""
    STEPS.add("open inner")
    yield f"{outer}.inner"
    STEPS.add("close inner")


def plain(delivery: Delivery, context: Context) -> str:
    """A dependency that asks for the delivery."""
    return f"{context.subscription}/{delivery.attempt}"


class Noting(Middleware):
    """Notes everything that happens to it."""

    def __init__(self, name: str, seen: Seen[str]) -> None:
        self.name = name
        self.seen = seen

    def outgoing(self, message: Message) -> Message:
        """Add itself to a header."""
        path = f"{message.headers.get('path', '')}{self.name}"
        return msgspec.structs.replace(message, headers={**message.headers, "path": path})

    def handling(self, delivery: Delivery) -> AbstractContextManager[Any]:
        """Note the way in and out."""
        return self._around()

    @contextmanager
    def _around(self) -> Iterator[None]:
        self.seen.add(f"in {self.name}")
        try:
            yield
        except ValueError as error:
            self.seen.add(f"{self.name} saw {error}")
            raise
        self.seen.add(f"out {self.name}")

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Note the outcome."""
        self.seen.add(f"{self.name}: {type(settlement).__name__}")


class Late(Middleware):
    """Notes who ran past a timeout."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def overdue(self, subscription: str, timeout: float) -> None:
        self.told.append((subscription, timeout))


class Handlers:
    """Arguments, dependencies, routers, middleware, timeouts."""

    def test_a_handler_may_take_delivery_and_context(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        bus = stage.bus()

        @bus.subscribe(event, name="named")
        def handle(number: Number, delivery: Delivery, *, context: Context) -> None:
            same = context.bus is bus.real and context.delivery is delivery
            seen.add((number, delivery.attempt, delivery.queue, context.subscription, same))

        bus.start().publish(event(1))
        name = f"{stage.service}.named"
        assert seen.wait() == [(event(1), 1, name, name, True)]

    def test_dependencies_are_opened_in_order_and_closed_in_reverse(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        bus = stage.bus()
        STEPS.all.clear()

        @bus.subscribe(event, name="x")
        def handle(
            number: Number,
            text: Annotated[str, Depends(inner)],
            again: Annotated[str, Depends(outer)],
            about: Annotated[str, Depends(plain)],
        ) -> None:
            STEPS.add("handle")
            seen.add((text, again, about))

        bus.start().publish(event(1))
        assert seen.wait() == [("outer.inner", "outer", f"{stage.service}.x/1")]
        assert STEPS.wait(5) == ["open outer", "open inner", "handle", "close inner", "close outer"]

    def test_a_dependency_sees_the_handler_s_error(self, stage: Stage) -> None:
        event = stage.event(Number)
        bus = stage.bus()
        STEPS.all.clear()

        @bus.subscribe(event, retry=Retry(attempts=1, backoff=None))
        def handle(number: Number, text: Annotated[str, Depends(outer)]) -> None:
            raise RuntimeError("no")

        bus.start().publish(event(1))
        assert STEPS.wait(3) == ["open outer", "outer saw the error", "close outer"]

    def test_a_router_s_handlers_run_on_the_bus_that_includes_it(self, stage: Stage) -> None:
        number, word, seen = stage.event(Number), stage.event(Word), Seen[Any]()
        bus = stage.bus()
        router, nested = Router(group=stage.name("routed")), Router()
        router.subscribe(number)(bus.handler(noting(seen)))
        nested.subscribe(word, name="nested")(bus.handler(noting(seen)))
        router.include(nested)
        bus.include(router)
        bus.start().publish(number(1))
        bus.publish(word("w"))
        assert sorted(seen.wait(2), key=str) == [number(1), word("w")]
        assert set(bus.health().consumers) == {stage.queue_of(number, stage.name("routed")), f"{stage.service}.nested"}

    def test_a_bare_subscribe_takes_the_event_from_the_annotation(self, stage: Stage) -> None:
        number, word, seen = stage.event(Number), stage.event(Word), Seen[Any]()
        bus = stage.bus()

        def one(event: Any) -> None:
            seen.add(event)

        def either(event: Any) -> None:
            seen.add(event)

        one.__annotations__["event"] = number
        either.__annotations__["event"] = number | word
        stage.runner.call(bus.real.subscribe, bus.handler(one))
        bus.subscribe()(either)
        bus.start().publish(word("w"))
        assert seen.wait() == [word("w")]
        bus.publish(number(1))
        assert seen.wait(3) == [word("w"), number(1), number(1)]

    def test_the_first_middleware_is_outermost(self, stage: Stage) -> None:
        event, seen, paths = stage.event(Number), Seen[str](), Seen[object]()
        bus = stage.bus(middleware=[Noting("a", seen), Noting("b", seen)])

        @bus.subscribe(event)
        def handle(number: Number, delivery: Delivery) -> None:
            seen.add("handle")
            paths.add(delivery.headers["path"])

        bus.start().publish(event(1))
        assert seen.wait(7) == ["in a", "in b", "handle", "out b", "out a", "a: Ack", "b: Ack"]
        assert paths.all == ["ba"]

    def test_middleware_sees_the_handler_s_error_and_the_outcome(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[str]()
        bus = stage.bus(middleware=[Noting("m", seen)])

        @bus.subscribe(event, retry=Retry(attempts=2, backoff=None))
        def handle(number: Number) -> None:
            raise ValueError("no")

        bus.start().publish(event(1))
        assert seen.wait(6) == ["in m", "m saw no", "m: RetryIn", "in m", "m saw no", "m: DeadLetter"]

    @only_on("async")
    def test_an_async_handler_past_its_timeout_is_cancelled_and_tried_again(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        @bus.subscribe(event, timeout=0.05)
        async def handle(number: Number, delivery: Delivery) -> None:
            seen.add(delivery.attempt)
            if delivery.attempt == 1:
                await asyncio.sleep(60)

        bus.start().publish(event(1))
        assert seen.wait(2) == [1, 2]

    @only_on("sync")
    def test_a_sync_handler_past_its_timeout_may_still_end_well(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[int]()
        late = Late()
        bus = stage.bus(middleware=[late])

        @bus.subscribe(event, timeout=0.02)
        def handle(number: Number, delivery: Delivery) -> None:
            eventually(lambda: len(late.told) > len(seen.all))
            seen.add(delivery.attempt)

        bus.start().publish(event(1))
        bus.publish(event(2))
        assert seen.wait(2) == [1, 1]
        assert late.told == [(stage.queue_of(event), 0.02)] * 2

    @only_on("async")
    def test_a_plain_function_on_the_async_bus_runs_in_a_thread(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[Any]()
        bus = stage.bus()
        loop_thread = stage.runner.call(threading.get_ident)
        both = threading.Barrier(2)

        def handle(number: Number) -> None:
            both.wait(10)  # would hang if both ran on the loop
            seen.add(threading.get_ident() != loop_thread)

        stage.runner.call(lambda: bus.real.subscribe(event, concurrency=2)(handle))
        bus.start().publish_many([event(1), event(2)])
        assert seen.wait(2) == [True, True]

    @only_on("async")
    @pytest.mark.parametrize("error", [StopIteration, GeneratorExit, SystemExit])
    def test_a_plain_function_that_raises_oddly_on_the_async_bus_costs_only_its_delivery(
        self, stage: Stage, error: type[BaseException]
    ) -> None:
        event, seen = stage.event(Number), Seen[int]()
        bus = stage.bus()

        def handle(number: Number) -> None:
            if number.value == 0:
                raise error
            seen.add(number.value)

        stage.runner.call(lambda: bus.real.subscribe(event, retry=Retry(attempts=1, backoff=None))(handle))
        bus.start().publish_many(event(n) for n in range(3))
        assert seen.wait(2) == [1, 2]
        stage.outside().dead_letters(stage.queue_of(event)).wait()

    def test_a_handler_may_publish(self, stage: Stage) -> None:
        number, word, seen = stage.event(Number), stage.event(Word), Seen[Word]()
        bus = stage.bus()

        @bus.subscribe(number)
        def handle(event: Number) -> None:
            bus.publish(word(str(event.value)), mandatory=True)

        bus.subscribe(word)(noting(seen))
        bus.start().publish(number(5))
        assert seen.wait() == [word("5")]
