"""Which queues a move means, and what they need at the destination: decided over values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from eventbus._errors import ConfigurationError
from eventbus._inspection import SCHEDULED
from eventbus._moving._values import Choice, Place
from eventbus._topology import DEAD_SUFFIX, Queue, Topology


def places_of(choice: Choice, topology: Topology | None, listed: Collection[str] | None) -> tuple[Place, ...]:
    """The queues that are meant: those named, else those of the topology, else those that the source lists.

    Work comes first, then dead letters, then what is scheduled.

    :raises ConfigurationError: nobody knows which, or there are none.
    """
    beside = _dead_letters_of(topology)
    names = _names(choice, topology, listed)
    found: dict[str, Place] = {}
    dead: dict[str, list[str]] = {}
    for name in names:
        if _is_dead(name, beside):
            if choice.queues or choice.dead_letters:
                dead.setdefault(name, [])
            continue
        found[name] = Place(name=name, expected=bool(choice.queues))
        if choice.dead_letters:
            dead.setdefault(beside.get(name, name + DEAD_SUFFIX), []).append(name)
    for name, sources in dead.items():
        known = sources or [queue for queue, its in beside.items() if its == name] or [name.removesuffix(DEAD_SUFFIX)]
        found[name] = Place(name=name, kind="dead", expected=name in choice.queues, sources=tuple(known))
    if choice.scheduled:
        if listed is None or SCHEDULED not in listed:
            raise ConfigurationError("the source hands out no delayed messages before they are due")
        found[SCHEDULED] = Place(name=SCHEDULED, kind="scheduled")
    if not found:
        of = f" of group {choice.group!r}" if choice.group else ""
        raise ConfigurationError(f"there are no queues{of} to move: name some with queues")
    return tuple(found.values())


def _names(choice: Choice, topology: Topology | None, listed: Collection[str] | None) -> Iterable[str]:
    if choice.queues:
        return dict.fromkeys(choice.queues)
    if topology is not None:
        names: Iterable[str] = (queue.name for queue in lasting(topology).queues)
    elif listed is not None:
        names = (name for name in sorted(listed) if name != SCHEDULED)
    else:
        raise ConfigurationError(
            "the source cannot tell which queues it has: name them, or give the program whose queues are meant"
        )
    prefix = "" if choice.group is None else f"{choice.group}."
    return [name for name in names if name.startswith(prefix)]


def _dead_letters_of(topology: Topology | None) -> Mapping[str, str]:
    queues = topology.queues if topology is not None else ()
    return {queue.name: queue.dead_letter for queue in queues if queue.dead_letter}


def _is_dead(name: str, beside: Mapping[str, str]) -> bool:
    return name in beside.values() or (name not in beside and name.endswith(DEAD_SUFFIX))


def beside_of(places: Iterable[Place], counts: Mapping[str, int]) -> Mapping[str, int]:
    """Messages that the source has beside those that were meant: dead letters of the queues, and delayed ones."""
    meant = {place.name for place in places}
    dead = {name + DEAD_SUFFIX for name in meant}
    return {name: n for name, n in counts.items() if n and name not in meant and (name in dead or name == SCHEDULED)}


def lasting(topology: Topology) -> Topology:
    """What of a topology outlives its consumers: messages wait nowhere else."""
    queues = tuple(queue for queue in topology.queues if _lasts(queue))
    names = {queue.name for queue in queues}
    bindings = tuple(b for b in topology.bindings if b.queue is None or b.queue in names)
    return Topology(exchanges=topology.exchanges, queues=queues, bindings=bindings)


def _lasts(queue: Queue) -> bool:
    return bool(queue.name) and not queue.exclusive and not queue.auto_delete


def declarable(place: Place, topology: Topology | None) -> Queue | None:
    """The queue to consume for a moment, so that the destination has the place's queue; None where nobody knows it."""
    for queue in lasting(topology).queues if topology is not None else ():
        if place.name in (queue.name, queue.dead_letter):
            return queue
    return None
