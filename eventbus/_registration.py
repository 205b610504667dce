"""Registering handlers: the decorators that both buses and routers share."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from eventbus._batch import Batch
from eventbus._errors import ConfigurationError
from eventbus._events import EventSpec, is_event, spec_of
from eventbus._handlers import Handler
from eventbus._settlement import Retry
from eventbus._subscribing import Options
from eventbus._subscription import Settle
from eventbus._topology import Exchange, Queue

E = TypeVar("E")
E1 = TypeVar("E1")
E2 = TypeVar("E2")
E3 = TypeVar("E3")
P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound=Callable[..., Any])

RESPONDER_CONCURRENCY = 10


class Registration:
    """One handler with its options, as a router keeps it until a bus takes it in."""

    __slots__ = ("function", "options")

    def __init__(self, options: Options, function: Callable[..., Any]) -> None:
        self.options = options
        self.function = function


class Registrar:
    """The decorators ``subscribe`` and ``respond``."""

    def _register(self, options: Options, function: Callable[..., Any]) -> None:
        raise NotImplementedError

    @overload
    def subscribe(
        self,
        event: type[E],
        /,
        *,
        batch: Batch,
        group: str | None = None,
        broadcast: bool = False,
        pattern: str | Iterable[str] = (),
        exchange: str | Exchange | None = None,
        headers: Mapping[str, Any] | None = None,
        match: Literal["all", "any"] = "all",
        bind_exchange: Iterable[tuple[str | Exchange, str]] = (),
        name: str | None = None,
        queue: str | Queue | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        timeout: float | None = None,
        settle: Settle = "success",
        retry: Retry | None = None,
        dead_letter: bool = True,
        on_unknown: Literal["dead-letter", "ignore"] = "dead-letter",
    ) -> Callable[[Callable[Concatenate[list[E], P], R]], Callable[Concatenate[list[E], P], R]]: ...
    # A class is a callable too, so this overload overlaps the bare one; it stands before it, so it wins.
    @overload
    def subscribe(  # type: ignore[overload-overlap]
        self,
        event: type[E],
        /,
        *,
        group: str | None = None,
        broadcast: bool = False,
        pattern: str | Iterable[str] = (),
        exchange: str | Exchange | None = None,
        headers: Mapping[str, Any] | None = None,
        match: Literal["all", "any"] = "all",
        bind_exchange: Iterable[tuple[str | Exchange, str]] = (),
        name: str | None = None,
        queue: str | Queue | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        timeout: float | None = None,
        settle: Settle = "success",
        retry: Retry | None = None,
        dead_letter: bool = True,
        on_unknown: Literal["dead-letter", "ignore"] = "dead-letter",
        ordered: bool = False,
        partitions: int | None = None,
    ) -> Callable[[Callable[Concatenate[E, P], R]], Callable[Concatenate[E, P], R]]: ...
    @overload
    def subscribe(
        self, event1: type[E1], event2: type[E2], /, *, batch: Batch, **options: Any
    ) -> Callable[[Callable[Concatenate[list[E1 | E2], P], R]], Callable[Concatenate[list[E1 | E2], P], R]]: ...
    @overload
    def subscribe(
        self, event1: type[E1], event2: type[E2], /, **options: Any
    ) -> Callable[[Callable[Concatenate[E1 | E2, P], R]], Callable[Concatenate[E1 | E2, P], R]]: ...
    @overload
    def subscribe(
        self, event1: type[E1], event2: type[E2], event3: type[E3], /, **options: Any
    ) -> Callable[[Callable[Concatenate[E1 | E2 | E3, P], R]], Callable[Concatenate[E1 | E2 | E3, P], R]]: ...
    @overload
    def subscribe(self, handler: Callable[Concatenate[E, P], R], /) -> Callable[Concatenate[E, P], R]: ...
    @overload
    def subscribe(self, /, *events: type[Any], **options: Any) -> Callable[[Function], Function]: ...
    def subscribe(self, /, *events: Any, **options: Any) -> Any:
        """Subscribe a handler: ``@bus.subscribe(CustomerRegistered, group="emails")``.

        Bare, or without event classes, the events are those of the handler's first annotation (``A | B`` for
        several). The handler takes ``(event)`` or ``(event, delivery)``, and parameters annotated with
        ``Context`` or ``Annotated[X, Depends(f)]``.

        :param group: consumers that share the work; every group gets its own copy. Default: the bus's service.
        :param broadcast: every running instance gets its own copy, and none while it is not running.
        :param pattern: topic patterns instead of those of the event classes; without event classes the
            handler gets plain JSON values, or what its first parameter is annotated with.
        :param exchange: exchange to bind to, instead of the events' own.
        :param headers: header match of a ``headers`` exchange, all or any of them by ``match``.
        :param bind_exchange: ``(source, pattern)`` pairs: exchanges that shall feed the subscription's exchange.
        :param name: second half of the queue's name ``<group>.<name>``; default: the event's type, or the
            handler's name for several events or a pattern.
        :param queue: name of the queue, or a whole :class:`Queue`, for an existing topology.
        :param concurrency: most handlers at once, in this process.
        :param prefetch: most unsettled deliveries; default: concurrency + 10.
        :param timeout: seconds for one call of the handler. Async handlers are cancelled; a sync handler
            cannot be stopped: it is reported, and keeps its place until it ends.
        :param settle: ``"success"`` (after the handler returned), ``"receipt"`` (at arrival: at most once),
            ``"manual"`` (by the delivery's methods).
        :param retry: what happens when the handler fails; default: the bus's policy.
        :param dead_letter: keep given-up messages in ``<queue>.dead``.
        :param on_unknown: what becomes of a message whose type is none of the subscription's events.
        :param ordered: messages of one ordering key are handled one after the other, in the order of publishing; a
            failing one is tried again in its place while other keys go on. One process of the group is active, the
            others stand by.
        :param partitions: ordered, and shared by the processes of the group: so many queues, each message in that of
            its key, and each queue served by one process at a time. The number stays once it has been used.
        :param batch: the handler takes a list of events (and a list of deliveries); see :class:`Batch`.
        :raises ConfigurationError: the handler or the options do not fit.
        """
        return self._decorate(events, options, responder=False)

    @overload
    def respond(  # type: ignore[overload-overlap]
        self,
        request: type[E],
        /,
        *,
        group: str | None = None,
        broadcast: bool = False,
        pattern: str | Iterable[str] = (),
        exchange: str | Exchange | None = None,
        name: str | None = None,
        queue: str | Queue | None = None,
        concurrency: int = RESPONDER_CONCURRENCY,
        prefetch: int | None = None,
        timeout: float | None = None,
    ) -> Callable[[Callable[Concatenate[E, P], R]], Callable[Concatenate[E, P], R]]: ...
    @overload
    def respond(self, handler: Callable[Concatenate[E, P], R], /) -> Callable[Concatenate[E, P], R]: ...
    def respond(self, /, *requests: Any, **options: Any) -> Any:
        """Answer requests: ``@bus.respond(QuoteRequested)``; what the handler returns is the reply.

        The instances of a group share the requests; the queue dies with the last of them, so that a requester
        without responder is told at once. A handler's exception becomes ``RemoteError`` at the requester, with
        its type's name and text, and no traceback. Options as for :meth:`subscribe`.
        """
        return self._decorate(requests, options, responder=True)

    def _decorate(self, given: tuple[Any, ...], options: dict[str, Any], *, responder: bool) -> Any:
        if len(given) == 1 and not options and not is_event(given[0]) and inspect.isroutine(given[0]):
            self._register(_options((), {}, responder), given[0])
            return given[0]
        chosen = _options(given, options, responder)

        def register(function: Function) -> Function:
            self._register(chosen, function)
            return function

        return register


class Router(Registrar):
    """A set of handlers that a bus takes in with ``bus.include(router)``; splits a program into files.

    ``group`` is the default group of its subscriptions.
    """

    def __init__(self, *, group: str | None = None) -> None:
        self._group = group
        self.registrations: list[Registration] = []

    def _register(self, options: Options, function: Callable[..., Any]) -> None:
        Handler(
            function, batch=options.batch is not None
        )  # an unusable handler is an error where it is written, not where it is included
        if self._group and not options.group and not options.broadcast:
            options = _replace(options, group=self._group)
        self.registrations.append(Registration(options, function))

    def include(self, router: Router) -> None:
        """Take in the handlers of another router."""
        self.registrations.extend(router.registrations)


def _replace(options: Options, **changes: Any) -> Options:
    import msgspec

    return msgspec.structs.replace(options, **changes)


_ALLOWED = {field for field in Options.__struct_fields__ if field not in ("events", "responder")}


def _options(events: tuple[Any, ...], options: dict[str, Any], responder: bool) -> Options:
    unknown = set(options) - _ALLOWED
    if unknown:
        raise ConfigurationError(
            f"unknown option {', '.join(sorted(unknown))}; known are {', '.join(sorted(_ALLOWED))}"
        )
    for cls in events:
        spec_of(cls)
    values = dict(options)
    pattern = values.pop("pattern", ())
    values["pattern"] = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    values["bind_exchange"] = tuple(values.pop("bind_exchange", ()))
    if responder:
        values.setdefault("concurrency", RESPONDER_CONCURRENCY)
    return Options(events=tuple(events), responder=responder, **values)


def specs_for(options: Options, function: Callable[..., Any]) -> tuple[EventSpec, ...]:
    """The events of a subscription: those given, else those that the handler's annotation names."""
    if options.events:
        return tuple(spec_of(cls) for cls in options.events)
    hint = Handler(function, batch=options.batch is not None).event_type
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if members and all(is_event(member) for member in members):
        return tuple(spec_of(member) for member in members)
    if options.responder:
        raise ConfigurationError(
            f"responder {Handler(function).name} answers nothing: name the request class in respond(...), or annotate "
            "the first parameter with it"
        )
    return ()
