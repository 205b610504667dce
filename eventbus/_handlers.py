"""Handlers: what a user's function wants to be called with, found out once, when it is registered."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from eventbus._delivery import Context, Delivery
from eventbus._errors import ConfigurationError

T = TypeVar("T")


class Depends(Generic[T]):
    """Marks a handler parameter that a function provides: ``db: Annotated[Db, Depends(open_db)]``.

    The function may be plain, a generator (what follows its ``yield`` runs after the handler), and on the async
    bus also a coroutine function or an async generator. It may itself take ``Context``, ``Delivery`` and
    ``Depends`` parameters. Its result is shared by all who want it within one delivery.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., T]) -> None:
        self.function = function


class Step:
    """One dependency of a handler: a function, and where its arguments come from."""

    __slots__ = ("arguments", "enter", "function", "is_async")

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self.is_async = inspect.iscoroutinefunction(function)
        self.enter: Callable[..., Any] | None = None
        self.function = function
        if inspect.isgeneratorfunction(function):
            self.enter = contextmanager(typing.cast("Callable[..., Iterator[Any]]", function))
        elif inspect.isasyncgenfunction(function):
            self.is_async = True
            self.enter = asynccontextmanager(typing.cast("Callable[..., AsyncIterator[Any]]", function))


class Handler:
    """A user's function with a plan of its arguments. With ``batch`` it takes lists of events, and of deliveries."""

    def __init__(self, function: Callable[..., Any], *, batch: bool = False) -> None:
        self.function = function
        self.batch = batch
        self.name = getattr(function, "__name__", type(function).__name__)
        called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        self.is_async = inspect.iscoroutinefunction(called)
        hints = _hints(function)
        self.reply_type = hints.get("return")
        self.steps: dict[Callable[..., Any], Step] = {}
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in _POSITIONAL:
            raise ConfigurationError(f"handler {self.name} takes no event: its first parameter is the event")
        self.event_type = hints.get(parameters[0].name)
        if batch:
            self.event_type = _item_type(self.event_type, self.name)
        self.takes_delivery = len(parameters) > 1 and _is_delivery(parameters[1], hints, batch)
        rest = parameters[2 if self.takes_delivery else 1 :]
        self.arguments = self._plan(rest, hints, self.name)
        self.is_plain = not self.arguments and not batch
        """Whether event and delivery are all that it takes."""

    @property
    def needs_loop(self) -> bool:
        """Whether only the async bus can call it: itself or one of its dependencies is async."""
        return self.is_async or any(step.is_async for step in self.steps.values())

    def _plan(self, parameters: list[inspect.Parameter], hints: Mapping[str, Any], owner: str) -> dict[str, Any]:
        """Source of each parameter: Delivery, Context, or the dependency's function."""
        plan: dict[str, Any] = {}
        for parameter in parameters:
            hint = hints.get(parameter.name)
            dependency = _dependency(hint)
            if dependency is not None:
                self._add_step(dependency, (owner,))
                plan[parameter.name] = dependency
            elif hint is Delivery and self.batch:
                raise ConfigurationError(
                    f"{owner}: a batch has many deliveries; take them as second parameter: deliveries: list[Delivery]"
                )
            elif hint is Context or hint is Delivery:
                plan[parameter.name] = hint
            elif parameter.default is parameter.empty and parameter.kind not in _VARIADIC:
                raise ConfigurationError(
                    f"{owner}: nothing provides parameter {parameter.name!r}; annotate it with Context, Delivery or "
                    "Annotated[..., Depends(function)], or give it a default"
                )
        return plan

    def _add_step(self, function: Callable[..., Any], path: tuple[Any, ...]) -> None:
        if function in path:
            raise ConfigurationError(f"{self.name}: dependency {_name(function)} depends on itself")
        if function in self.steps:
            return
        hints = _hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters:
            inner = _dependency(hints.get(parameter.name))
            if inner is not None:
                self._add_step(inner, (*path, function))
        self.steps[function] = Step(function, self._plan(parameters, hints, _name(function)))

    def call(self, event: Any, context: Context) -> Any:
        """Call it in this thread, dependencies around it."""
        if self.is_plain:
            return self.function(event, context.delivery) if self.takes_delivery else self.function(event)
        with ExitStack() as stack:
            made: dict[Any, Any] = {Context: context, Delivery: context.delivery}
            for function, step in self.steps.items():
                arguments = {name: made[source] for name, source in step.arguments.items()}
                if step.enter is None:
                    made[function] = function(**arguments)
                else:
                    made[function] = stack.enter_context(step.enter(**arguments))
            return self.function(*self._positional(event, context), **self._keywords(made))

    async def call_async(self, event: Any, context: Context) -> Any:
        """Call and await it on this loop, dependencies around it."""
        if self.is_plain:
            return await (self.function(event, context.delivery) if self.takes_delivery else self.function(event))
        async with AsyncExitStack() as stack:
            made: dict[Any, Any] = {Context: context, Delivery: context.delivery}
            for function, step in self.steps.items():
                arguments = {name: made[source] for name, source in step.arguments.items()}
                if step.enter is not None and step.is_async:
                    made[function] = await stack.enter_async_context(step.enter(**arguments))
                elif step.enter is not None:
                    made[function] = stack.enter_context(step.enter(**arguments))
                else:
                    value = function(**arguments)
                    made[function] = await value if step.is_async else value
            return await self.function(*self._positional(event, context), **self._keywords(made))

    def _positional(self, event: Any, context: Context) -> tuple[Any, ...]:
        if not self.takes_delivery:
            return (event,)
        return (event, context.deliveries if self.batch else context.delivery)

    def _keywords(self, made: Mapping[Any, Any]) -> dict[str, Any]:
        return {name: made[source] for name, source in self.arguments.items()}


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_delivery(parameter: inspect.Parameter, hints: Mapping[str, Any], batch: bool) -> bool:
    if parameter.kind not in _POSITIONAL or parameter.default is not parameter.empty:
        return False
    hint = hints.get(parameter.name)
    wanted = _is_list(hint) and get_args(hint) == (Delivery,) if batch else hint is Delivery
    return wanted or hint is Any or (hint is None and parameter.annotation is parameter.empty)


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (list, Sequence)


def _item_type(hint: Any, name: str) -> Any:
    """What the list of a batch's handler is a list of."""
    if hint is None or hint is Any or hint is list:
        return None
    if _is_list(hint):
        return get_args(hint)[0]
    raise ConfigurationError(f"handler {name} gets a batch: its first parameter is a list of events, list[...]")


def _dependency(hint: Any) -> Callable[..., Any] | None:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Depends):
                function: Callable[..., Any] = extra.function
                return function
    return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    if inspect.isclass(function):
        target = function.__init__  # a class as a dependency: its constructor's parameters
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        hints = _hints_in_closure(target, error)
    return hints


def _hints_in_closure(function: Callable[..., Any], error: NameError) -> dict[str, Any]:
    """Annotations kept as text may name classes of the enclosing function, which only its closure knows."""
    names: dict[str, Any] = {}
    try:
        names.update(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        pass
    found: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        probe = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found[name] = typing.get_type_hints(
                probe, getattr(function, "__globals__", {}), names, include_extras=True
            )[name]
        except NameError:
            if isinstance(annotation, str) and "Depends" in annotation:
                raise ConfigurationError(
                    f"{_name(function)}: annotation {annotation!r} cannot be read: {error}"
                ) from None
    return found


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))
