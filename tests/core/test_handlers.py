"""What handlers may look like, and what they are called with."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from eventbus import ConfigurationError, Context, Delivery, Depends
from eventbus._handlers import Handler

log: list[str] = []


def url() -> str:
    return "db://"


def connection(address: Annotated[str, Depends(url)]) -> Iterator[str]:
    log.append("open")
    yield f"connected to {address}"
    log.append("close")


async def pool(address: Annotated[str, Depends(url)]) -> AsyncIterator[str]:
    log.append("open")
    yield f"pooled {address}"
    log.append("close")


async def token() -> str:
    return "token"


class FakeContext:
    delivery = "the delivery"


CONTEXT: Any = FakeContext()


@pytest.fixture(autouse=True)
def _clear() -> None:
    log.clear()


def test_a_handler_of_the_event_alone() -> None:
    handler = Handler(lambda event: event * 2)
    assert handler.call(21, CONTEXT) == 42


def test_a_second_parameter_without_annotation_is_the_delivery() -> None:
    handler = Handler(lambda event, delivery: (event, delivery))
    assert handler.call(1, CONTEXT) == (1, "the delivery")


def test_context_and_delivery_are_filled_in_by_annotation() -> None:
    def handle(event: int, *, delivery: Delivery, ctx: Context) -> Any:
        return event, delivery, ctx

    assert Handler(handle).call(1, CONTEXT) == (1, "the delivery", CONTEXT)


def test_a_generator_dependency_is_closed_after_the_handler() -> None:
    def handle(event: int, db: Annotated[str, Depends(connection)]) -> str:
        log.append("handle")
        return db

    assert Handler(handle).call(1, CONTEXT) == "connected to db://"
    assert log == ["open", "handle", "close"]


def test_a_generator_dependency_is_closed_when_the_handler_fails() -> None:
    def managed() -> Iterator[str]:
        try:
            yield "x"
        finally:
            log.append("close")

    def handle(event: int, db: Annotated[str, Depends(managed)]) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        Handler(handle).call(1, CONTEXT)
    assert log == ["close"]


def test_a_dependency_wanted_twice_is_made_once() -> None:
    def counted() -> object:
        log.append("made")
        return object()

    def other(one: Annotated[object, Depends(counted)]) -> object:
        return one

    def handle(event: int, a: Annotated[object, Depends(counted)], b: Annotated[object, Depends(other)]) -> bool:
        return a is b

    assert Handler(handle).call(1, CONTEXT) is True
    assert log == ["made"]


def test_async_handlers_take_async_and_plain_dependencies() -> None:
    async def handle(
        event: int,
        a: Annotated[str, Depends(pool)],
        b: Annotated[str, Depends(token)],
        c: Annotated[str, Depends(connection)],
    ) -> tuple[str, str, str]:
        return a, b, c

    handler = Handler(handle)
    assert handler.needs_loop
    assert asyncio.run(handler.call_async(1, CONTEXT)) == ("pooled db://", "token", "connected to db://")


def test_a_parameter_that_nothing_provides_is_refused_with_advice() -> None:
    def handle(event: int, delivery: Delivery, mailer: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"nothing provides parameter 'mailer'.*Depends"):
        Handler(handle)


def test_a_parameter_with_a_default_is_left_alone() -> None:
    def handle(event: int, times: int = 2) -> int:
        return event * times

    assert Handler(handle).call(4, CONTEXT) == 8


def test_a_handler_without_parameters_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes no event"):
        Handler(lambda: None)


def test_a_dependency_on_itself_is_refused() -> None:
    def loop(x: Any) -> None: ...

    loop.__annotations__["x"] = Annotated[None, Depends(loop)]

    def handle(event: int, y: Any) -> None: ...

    handle.__annotations__["y"] = Annotated[None, Depends(loop)]
    with pytest.raises(ConfigurationError, match="depends on itself"):
        Handler(handle)


def test_methods_and_callable_objects_are_handlers() -> None:
    class Service:
        def handle(self, event: int) -> int:
            return event

        async def __call__(self, event: int) -> int:
            return event

    assert Handler(Service().handle).event_type is int
    assert Handler(Service()).is_async
