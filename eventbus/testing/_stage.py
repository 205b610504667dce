"""Where a scenario plays: names of its own on a broker that others may share, buses, and an orderly end."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from eventbus._bus._async import AsyncEventBus
from eventbus._bus._sync import EventBus
from eventbus._events import event as declare
from eventbus._events import spec_of
from eventbus._plugins import transport_from
from eventbus._settlement import Retry
from eventbus._topology import Exchange, ExchangeKind, Topology
from eventbus.testing._facade import AsyncRunner, Bus, Runner, SyncRunner
from eventbus.testing._outside import Outside
from eventbus.transport import Transport

E = TypeVar("E")


AT_ONCE = Retry(backoff=None)
"""Scenarios are about what is tried again, and not about how long that takes."""


class Stage:
    """Makes what a scenario needs, each with a name that no other scenario uses."""

    def __init__(self, target: str | Transport, flavour: str, option_set: str, suite: Any) -> None:
        self.target = target
        self.flavour = flavour
        self.option_set = option_set
        self.suite = suite
        self.id = uuid.uuid4().hex[:10]
        self.transport: Transport = transport_from(target) if isinstance(target, str) else target
        self.runner: Runner = AsyncRunner() if flavour == "async" else SyncRunner()
        self.exchange = Exchange(name=self.name("events"))
        self.service = self.name("service")
        self._buses: list[Bus] = []
        self._outsides: list[Outside] = []

    @property
    def is_async(self) -> bool:
        """Whether the buses are async."""
        return self.flavour == "async"

    def name(self, hint: str) -> str:
        """A name of this scenario alone."""
        return f"t{self.id}.{hint}"

    def event(self, base: type[E], topic: str | None = None, **options: Any) -> type[E]:
        """An event class like ``base`` with a type, and an exchange, of this scenario alone."""
        options.setdefault("exchange", self.exchange)
        name = base.__name__.lower()
        copied: type[E] = type(base.__name__, (base,), {"__module__": base.__module__})
        return declare(self.name(name), topic=topic or name, **options)(copied)

    def other_exchange(self, hint: str, kind: ExchangeKind = "topic") -> Exchange:
        """A further exchange."""
        return Exchange(name=self.name(hint), kind=kind)

    def queue_of(self, cls: type, group: str | None = None) -> str:
        """The queue of a subscription to this class."""
        return f"{group or self.service}.{spec_of(cls).type}"

    def bus(self, *, service: str | None = None, **options: Any) -> Bus:
        """A new bus, which the stage stops at the end. A bus without ``service`` has the scenario's own."""
        made: EventBus | AsyncEventBus
        settings: Mapping[str, Any] = {"service": service or self.service, "timeout": 10.0, "retry": AT_ONCE, **options}
        make = AsyncEventBus if self.is_async else EventBus
        made = self.runner.call(lambda: make(self.target, **settings))
        self._buses.append(Bus(made, self.runner))
        return self._buses[-1]

    def outside(self) -> Outside:
        """The world outside of a bus."""
        self._outsides.append(Outside(self.transport, self.name("outside")))
        return self._outsides[-1]

    def topology(self) -> Topology:
        """What the scenario's buses have declared."""
        whole = Topology()
        for bus in self._buses:
            ours = bus.real.topology()
            known = {queue.name for queue in whole.queues} | {exchange.name for exchange in whole.exchanges}
            whole = Topology(
                exchanges=whole.exchanges + tuple(e for e in ours.exchanges if e.name not in known),
                queues=whole.queues + tuple(q for q in ours.queues if q.name not in known),
                bindings=whole.bindings + ours.bindings,
            )
        return whole

    def close(self) -> None:
        """Stop everything, and let the suite clean up."""
        try:
            for bus in self._buses:
                bus.stop(1.0)
            for outside in self._outsides:
                outside.close()
        finally:
            self.runner.close()
            self.suite.cleanup(self.transport, self.topology())
