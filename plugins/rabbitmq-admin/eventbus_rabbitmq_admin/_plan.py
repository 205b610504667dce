"""What has to change at a broker so that it holds what the code needs: decided over values.

RabbitMQ never changes an exchange or queue that exists: importing definitions with other arguments says that all is
well and changes nothing. So a difference in properties needs a delete, and loses what is in the queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from eventbus_rabbitmq_admin._layout import BindingLayout, ExchangeLayout, Layout, PolicyLayout, QueueLayout

Item = ExchangeLayout | QueueLayout | BindingLayout | PolicyLayout
Action = Literal["create", "change", "recreate", "delete"]
Kind = Literal["exchange", "queue", "binding", "policy"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``differs`` says what is other now, as ``name: now -> wanted``."""

    action: Action
    kind: Kind
    name: str
    item: Item
    differs: tuple[str, ...] = ()

    @property
    def destructive(self) -> bool:
        """Whether something is deleted on the way."""
        return self.action in ("recreate", "delete")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in the order in which they are taken; ``unmanaged`` is what else is there, and stays."""

    vhost: str
    steps: tuple[Step, ...] = ()
    unmanaged: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the broker holds what it should."""
        return not self.steps


def plan_for(vhost: str, wanted: Layout, live: Layout) -> Plan:
    """The steps from what is to what shall be.

    What is there and not wanted is left alone, for it may be another service's; but a binding between two of ours that
    is wanted no more goes, because it would bring messages that nobody expects. Bindings of others that go with an
    exchange or queue that is made anew are made again.
    """
    exchanges = _named("exchange", wanted.exchanges, live.exchanges)
    queues = _named("queue", wanted.queues, live.queues)
    policies = _named("policy", wanted.policies, live.policies)
    anew = {step.name for step in (*exchanges, *queues) if step.action == "recreate"}
    bindings = _bindings(wanted, live, anew)
    return Plan(
        vhost=vhost,
        steps=(*policies, *exchanges, *queues, *bindings),
        unmanaged=tuple(_unmanaged(wanted, live)),
    )


def _named(kind: Kind, wanted: Iterable[Any], live: Iterable[Any]) -> list[Step]:
    known = {item.name: item for item in live}
    steps = []
    for item in wanted:
        differs = _differences(item, known[item.name]) if item.name in known else ()
        if item.name not in known:
            steps.append(Step(action="create", kind=kind, name=item.name, item=item))
        elif differs:
            action: Action = "change" if kind == "policy" else "recreate"
            steps.append(Step(action=action, kind=kind, name=item.name, item=item, differs=differs))
    return steps


def _differences(wanted: Any, live: Any) -> tuple[str, ...]:
    found = []
    for field in wanted.__struct_fields__:
        ours, theirs = getattr(wanted, field), getattr(live, field)
        if field in ("arguments", "definition"):
            found += [
                f"{name}: {_shown(theirs.get(name))} -> {_shown(ours.get(name))}"
                for name in sorted({*ours, *theirs})
                if _plain(name, ours.get(name)) != _plain(name, theirs.get(name))
            ]
        elif ours != theirs:
            found.append(f"{field}: {_shown(theirs)} -> {_shown(ours)}")
    return tuple(found)


def _plain(name: str, value: Any) -> Any:
    # A queue without a type is a classic one; both are written.
    return None if name == "x-queue-type" and value == "classic" else value


def _shown(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _bindings(wanted: Layout, live: Layout, anew: set[str]) -> list[Step]:
    def key(binding: BindingLayout) -> tuple[Any, ...]:
        arguments = repr(sorted(binding.arguments.items()))
        return binding.source, binding.destination, binding.to_queue, binding.routing_key, arguments

    shall, there = {key(b): b for b in wanted.bindings}, {key(b): b for b in live.bindings}
    queues = {queue.name for queue in wanted.queues}
    exchanges = {exchange.name for exchange in wanted.exchanges}
    lasting = {queue.name for queue in live.queues}
    steps = [
        Step(action="create", kind="binding", name=binding_name(b), item=b)
        for k, b in shall.items()
        if k not in there or b.source in anew or b.destination in anew
    ]
    for k, b in there.items():
        if k in shall:
            continue
        ours = b.source in exchanges and b.destination in (queues if b.to_queue else exchanges)
        lost = b.source in anew or b.destination in anew
        if ours and not lost:
            steps.append(Step(action="delete", kind="binding", name=binding_name(b), item=b))
        elif lost and not ours and (not b.to_queue or b.destination in lasting):
            # Somebody else's, which would go with what is made anew. An exclusive queue's cannot be made by us.
            steps.append(Step(action="create", kind="binding", name=binding_name(b), item=b))
    return steps


def binding_name(binding: BindingLayout) -> str:
    """A binding in a line."""
    key = binding.routing_key or ", ".join(f"{k}={v}" for k, v in sorted(binding.arguments.items()))
    return f"{binding.source} --{key or '(all)'}--> {binding.destination}"


def _unmanaged(wanted: Layout, live: Layout) -> Iterable[str]:
    for kind in ("exchanges", "queues", "policies"):
        ours = {item.name for item in getattr(wanted, kind)}
        for item in getattr(live, kind):
            waiting = any(item.name.startswith(f"{name}.wait.") for name in ours) or _delays(item.name)
            if item.name not in ours and not waiting and not getattr(item, "auto_delete", False):
                yield f"{_SINGULAR[kind]} {item.name}"


def _delays(name: str) -> bool:
    """Whether messages wait there that a service publishes with a delay: made when needed, and gone by itself."""
    return re.search(r"\.delay\..+\.[0-9]+$", name) is not None


_SINGULAR = {"exchanges": "exchange", "queues": "queue", "policies": "policy"}
