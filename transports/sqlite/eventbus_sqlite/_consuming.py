"""A consumer that shall run: how it stands, and how it is made so within a transaction."""

from __future__ import annotations

from eventbus._errors import EventBusError
from eventbus.transport import (
    SCHEDULED,
    Binding,
    ConsumerListener,
    ConsumerSpec,
    ConsumerStatus,
    Exchange,
    Phase,
    Queue,
    Topology,
)

from ._store import Store
from ._tables import check_exists

NO_QUEUE = -1


class Consuming:
    """One consumer of a link.

    ``hungry``: there may be messages for it. ``more_soon``: there are, and others have had the chance to take some.
    """

    def __init__(self, spec: ConsumerSpec, listener: ConsumerListener) -> None:
        self.spec = spec
        self.listener = listener
        self.status = ConsumerStatus(phase=Phase.IDLE)
        self.scheduled_only = spec.inspect and spec.queue.name == SCHEDULED
        self.cancelled = False
        self._reset()

    def _reset(self) -> None:
        self.id: int | None = None
        self.session = 0
        self.queue = NO_QUEUE
        self.queue_name = ""
        self.unsettled = 0
        self.hungry = False
        self.more_soon = False

    def room(self, freed: int = 0) -> int:
        """How many more deliveries it may hold."""
        if self.cancelled:
            return 0
        if not self.spec.prefetch or self.spec.auto_ack:
            return 1000
        return self.spec.prefetch - self.unsettled + freed

    def orphaned(self, store: Store) -> bool:
        """Whether its queue is no more."""
        return self.id is not None and not self.scheduled_only and self.queue not in store.by_id

    def started(self, session: int, id: int, queue: int, name: str) -> None:
        """The file has the consumer."""
        self._reset()
        self.session, self.id, self.queue, self.queue_name, self.hungry = session, id, queue, name, True
        self.status = ConsumerStatus(phase=Phase.READY, queue=name)

    def stopped(self, status: ConsumerStatus) -> None:
        """The file has it no more."""
        self._reset()
        self.status = status

    def begin(self, store: Store, session: int) -> tuple[int, int, str]:
        """Make it exist: its id, its queue's id and its name.

        :raises EventBusError: it cannot be; what can be declared is.
        """
        spec = self.spec
        if self.scheduled_only:
            # Reported like a queue; there is none, so nobody else has to know of this consumer.
            return -session, NO_QUEUE, SCHEDULED
        if spec.inspect:
            queue = check_exists(store, spec.queue.name)
        else:
            # The exchanges of its topology may be needed by others even if its queue is refused.
            refused = declare(store, Topology(exchanges=spec.topology.exchanges), session)
            queue = store.declare(spec.queue, session)
            rest = Topology(queues=spec.topology.queues, bindings=spec.topology.bindings)
            refused.update(declare(store, rest, session, own=queue.name))
            for error in refused.values():
                raise error
        return store.add_consumer(queue, session, spec.name), queue.id, queue.name


def declare(store: Store, topology: Topology, session: int, own: str = "") -> dict[str, Exception]:
    """Declare all that can be declared; what was refused, and why."""
    refused: dict[str, Exception] = {}
    for entity in (*topology.exchanges, *topology.queues, *topology.bindings):
        try:
            if isinstance(entity, Exchange):
                store.declare_exchange(entity)
            elif isinstance(entity, Binding):
                store.bind(entity, own)
            elif isinstance(entity, Queue) and entity.name:
                store.declare(entity, session)
        except EventBusError as error:
            refused[repr(entity)] = error
    return refused
