"""The exchanges, queues and bindings of a broker: declared, compared and deleted as RabbitMQ does."""

from __future__ import annotations

import secrets
from collections.abc import Hashable

from eventbus._errors import AccessRefused, ConfigurationError, TopologyMismatch
from eventbus._routing import Router
from eventbus._routing.headers import frozen_arguments
from eventbus._rules.names import GENERATED, PREDECLARED, refuse_reserved
from eventbus._rules.properties import check_same_exchange, check_same_queue, properties_of
from eventbus.transport import Binding, Exchange, Queue

from ._queue import Queued


class Tables:
    """What exists. No locks: the broker's core calls it under its own."""

    def __init__(self, default_type: str) -> None:
        self.default_type = default_type
        self.queues: dict[str, Queued] = {}
        self.exchanges: dict[str, Exchange] = {exchange.name: exchange for exchange in PREDECLARED}
        self.router: Router[Queued] = Router(self.queues.get)
        for exchange in PREDECLARED:
            self.router.declare_exchange(exchange.name, exchange.kind)
        # The bindings of exchanges that go with their last binding.
        self._bound: dict[str, dict[Hashable, Queued | str]] = {}

    def declare_exchange(self, exchange: Exchange) -> None:
        """Make the exchange exist; TopologyMismatch when it exists with other properties."""
        if not exchange.name:
            return  # the default exchange always exists
        existing = self.exchanges.get(exchange.name)
        if existing is not None:
            check_same_exchange(existing, exchange)
            return
        refuse_reserved("exchange", exchange.name)
        self.router.declare_exchange(exchange.name, exchange.kind, exchange.arguments.get("alternate-exchange"))
        self.exchanges[exchange.name] = exchange

    def declare_queue(self, queue: Queue, owner: object | None, now: float) -> tuple[Queued, bool]:
        """Make the queue exist, owned by a connection if it is exclusive; and whether it is new."""
        wanted = properties_of(queue, self.default_type)
        existing = self.queues.get(queue.name) if queue.name else None
        if existing is not None:
            check_owner(existing, owner)
            check_same_queue(queue.name, existing.properties, wanted)
            existing.used = now
            return existing, False
        if queue.name:
            refuse_reserved("queue", queue.name)
        name = queue.name or GENERATED + secrets.token_urlsafe(16)
        queued = Queued(name, wanted, owner if wanted.exclusive else None, now)
        self.queues[name] = queued
        return queued, True

    def bind(self, binding: Binding, own: str = "") -> None:
        """Make the binding exist; ``own`` is the queue meant by an empty queue name."""
        source, pattern, arguments = binding.exchange, binding.pattern, binding.arguments
        target: Queued | str
        if binding.to_exchange is not None:
            self._known(source)
            self._known(binding.to_exchange)
            self.router.bind_exchange(source, binding.to_exchange, pattern, arguments)
            target = binding.to_exchange
        else:
            target = self.queue(binding.queue or own)
            self._known(source)
            self.router.bind_queue(source, target, pattern, arguments)
        if self.exchanges[source].auto_delete:
            key = (target, pattern, frozen_arguments(arguments))
            self._bound.setdefault(source, {})[key] = target

    def unbind(self, binding: Binding, own: str = "") -> None:
        """Undo :meth:`bind`; nothing happens when there is no such binding."""
        source, pattern, arguments = binding.exchange, binding.pattern, binding.arguments
        target: Queued | str
        if binding.to_exchange is not None:
            self.router.unbind_exchange(source, binding.to_exchange, pattern, arguments)
            target = binding.to_exchange
        else:
            target = self.queue(binding.queue or own)
            self.router.unbind_queue(source, target, pattern, arguments)
        bound = self._bound.get(source, {})
        if bound.pop((target, pattern, frozen_arguments(arguments)), None) is not None and not bound:
            self.delete_exchange(source)

    def queue(self, name: str) -> Queued:
        """The queue of this name; ConfigurationError when there is none."""
        try:
            return self.queues[name]
        except KeyError:
            raise ConfigurationError(f"there is no queue {name!r}") from None

    def existing(self, name: str) -> str:
        """The name again; TopologyMismatch when there is no such queue."""
        if name not in self.queues:
            raise TopologyMismatch(f"queue {name!r} does not exist")
        return name

    def remove_queue(self, queued: Queued) -> None:
        """Take the queue and its bindings out of the tables."""
        del self.queues[queued.name]
        self.router.unbind_all(queued)
        self._without(queued)

    def delete_exchange(self, name: str) -> None:
        """Delete the exchange and its bindings; nothing happens when there is none."""
        if self.exchanges.pop(name, None) is not None:
            self.router.delete_exchange(name)
            self._bound.pop(name, None)
            self._without(name)

    def _without(self, target: Queued | str) -> None:
        """An exchange that goes with its last binding does so now, if that led to the target."""
        for source, bound in list(self._bound.items()):
            keys = [key for key, leads_to in bound.items() if leads_to == target]
            for key in keys:
                del bound[key]
            if keys and not bound:
                self.delete_exchange(source)

    def _known(self, exchange: str) -> None:
        if exchange not in self.exchanges:
            raise ConfigurationError(f"there is no exchange {exchange!r} that can be bound")


def check_owner(queued: Queued, owner: object | None) -> None:
    """AccessRefused when the queue is exclusive to another connection (RESOURCE_LOCKED on RabbitMQ)."""
    if queued.owner is not None and queued.owner is not owner:
        raise AccessRefused(f"queue {queued.name!r} is exclusive to another connection")
