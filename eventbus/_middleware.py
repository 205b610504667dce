"""Middleware: code around publishing and handling. One object serves both buses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from eventbus._errors import ConfigurationError, PublishError
from eventbus._message import Message
from eventbus._plugins import load

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._bus._sync import EventBus
    from eventbus._delivery import Delivery
    from eventbus._settlement import Settlement
    from eventbus._spool._values import SpoolHealth
    from eventbus.transport import LinkStatus

log = logging.getLogger("eventbus.middleware")


class Middleware:
    """Base of middleware; override what you need. Hooks that only watch never change the outcome.

    ``outgoing`` and ``handling`` run in the order in which the middleware was given, the first outermost.
    An exception in ``outgoing`` fails that publish; one in ``handling`` fails that delivery like the
    handler's own; one in a watching hook is logged and ignored. Hooks may run in any thread.
    """

    def outgoing(self, message: Message) -> Message:
        """The message to send instead: a pure function, called once per publish, request and reply."""
        return message

    def published(self, message: Message, error: PublishError | None, seconds: float) -> None:
        """Watch a publish end: confirmed (``error`` None) or not, ``seconds`` after it began."""

    def received(self, delivery: Delivery) -> None:
        """Watch a delivery begin, before its body is decoded."""

    def handling(self, delivery: Delivery) -> AbstractContextManager[Any]:
        """A context around dependencies and handler of one delivery; it sees the handler's exception."""
        return nullcontext()

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Watch a delivery end, ``seconds`` after ``received``."""

    def overdue(self, subscription: str, timeout: float) -> None:
        """Watch a handler in a thread run past its timeout: it cannot be stopped, and keeps its place until it ends."""

    def link_changed(self, bus: EventBus | AsyncEventBus, status: LinkStatus) -> None:
        """Watch the states of a bus's connection and consumers."""

    def spool_changed(self, bus: EventBus | AsyncEventBus, health: SpoolHealth) -> None:
        """Watch the spool of a bus that has one: when its state changes, and now and then."""


class AsyncMiddleware(Middleware):
    """Middleware whose ``handling`` needs ``async with``. The sync bus refuses it when it is built."""

    def handling(self, delivery: Delivery) -> AbstractAsyncContextManager[Any]:  # type: ignore[override]
        """An async context around dependencies and handler of one delivery."""
        raise NotImplementedError


class MiddlewareStack:
    """The bus's middleware, with the hooks that are really overridden sorted out once."""

    def __init__(self, given: Iterable[Middleware | str], *, allow_async: bool) -> None:
        self.members: list[Middleware] = [_resolve(item) for item in given]
        for member in self.members:
            if isinstance(member, AsyncMiddleware) and not allow_async:
                raise ConfigurationError(
                    f"{type(member).__name__} is async-only middleware; use it with AsyncEventBus, "
                    "or derive it from Middleware"
                )
        self._outgoing = [m.outgoing for m in self._overriding("outgoing")]
        self._published = [m.published for m in self._overriding("published")]
        self._received = [m.received for m in self._overriding("received")]
        self._settled = [m.settled for m in self._overriding("settled")]
        self._overdue = [m.overdue for m in self._overriding("overdue")]
        self._link_changed = [m.link_changed for m in self._overriding("link_changed")]
        self._spool_changed = [m.spool_changed for m in self._overriding("spool_changed")]
        self.around: Sequence[Middleware] = self._overriding("handling")
        # Asked before the hooks are called: most buses have none, and there is one call for each message.
        self.watches_outgoing = bool(self._outgoing)
        self.watches_publishes = bool(self._published)
        self.watches_received = bool(self._received)
        self.watches_settled = bool(self._settled)

    def _overriding(self, hook: str) -> list[Middleware]:
        base = getattr(Middleware, hook)
        return [m for m in self.members if getattr(type(m), hook, base) is not base]

    def outgoing(self, message: Message) -> Message:
        """The message after every middleware, the first one last to touch it (it is the outermost)."""
        for hook in reversed(self._outgoing):
            message = hook(message)
        return message

    def published(self, message: Message, error: PublishError | None, seconds: float) -> None:
        """Tell all of a publish's end."""
        _tell(self._published, message, error, seconds)

    def received(self, delivery: Delivery) -> None:
        """Tell all of a delivery's begin."""
        _tell(self._received, delivery)

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Tell all of a delivery's end."""
        _tell(self._settled, delivery, settlement, seconds)

    def overdue(self, subscription: str, timeout: float) -> None:
        """Tell all of a handler that runs past its timeout."""
        _tell(self._overdue, subscription, timeout)

    def link_changed(self, bus: Any, status: LinkStatus) -> None:
        """Tell all of a change of a bus's link."""
        _tell(self._link_changed, bus, status)

    def spool_changed(self, bus: Any, health: SpoolHealth) -> None:
        """Tell all of the state of a bus's spool."""
        _tell(self._spool_changed, bus, health)


def _resolve(item: Middleware | str) -> Middleware:
    if isinstance(item, str):
        made = load("eventbus.middleware", item)
        item = made() if isinstance(made, type) else made
    if not isinstance(item, Middleware):
        raise ConfigurationError(f"middleware is an object of eventbus.Middleware or the name of one, not {item!r}")
    return item


def _tell(hooks: Sequence[Callable[..., None]], *args: object) -> None:
    for hook in hooks:
        try:
            hook(*args)
        except Exception:
            log.exception("a watching middleware failed: %r", getattr(hook, "__qualname__", hook))
