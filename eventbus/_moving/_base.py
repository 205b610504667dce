"""What the sync and the async class have in common: both transports, and what is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eventbus._bus._core import BusCore
from eventbus._errors import ConfigurationError
from eventbus._moving._mover import Mover, Plan
from eventbus._moving._values import Choice
from eventbus._plugins import transport_from
from eventbus._topology import Topology
from eventbus.transport import LinkSettings, Transport

SERVICE = "eventbus-move"


class MoveBase:
    """Where from, where to, and which messages."""

    def __init__(
        self,
        source: BusCore | Transport | str,
        destination: BusCore | Transport | str,
        *,
        queues: Iterable[str] = (),
        group: str | None = None,
        topology: Topology | None = None,
        dead_letters: bool = False,
        scheduled: bool = False,
        window: int = 200,
        timeout: float = 10.0,
        patience: float = 300.0,
        max_body: int | None = None,
    ) -> None:
        if window < 1:
            raise ConfigurationError("a move needs a window of at least one message")
        for side in (source, destination):
            if isinstance(side, BusCore):
                topology = topology or side.topology()
                max_body = max_body or side._settings.max_body
        self._source, self._destination = transport_of(source), transport_of(destination)
        if self._source is self._destination or (isinstance(source, str) and source == destination):
            raise ConfigurationError("source and destination are the same: a queue cannot be moved onto itself")
        self._topology = topology
        self._choice = Choice(queues=tuple(queues), group=group, dead_letters=dead_letters, scheduled=scheduled)
        self._window, self._timeout, self._patience = window, timeout, patience
        self._settings = LinkSettings(
            service=SERVICE, max_body=max_body or LinkSettings(service="").max_body, resend=False
        )
        self._stopped = False

    def stop(self) -> None:
        """End a move in order, soon: what was sent gets its outcome, everything else stays. From anywhere."""
        # No more than this: it is called by signal handlers, which must not take a lock.
        self._stopped = True

    def _mover(
        self,
        wake: Callable[[], None],
        rate: float | None,
        limit: int | None,
        dry_run: bool,
        follow: bool,
        moved: Callable[[str, str], None] | None,
    ) -> Mover:
        if (rate is not None and rate <= 0) or (limit is not None and limit < 1):
            raise ConfigurationError("rate (messages a second) and limit (messages) are above 0; None is no limit")
        self._stopped = False
        plan = Plan(
            choice=self._choice,
            rate=rate,
            limit=limit,
            dry_run=dry_run,
            follow=follow,
            window=self._window,
            timeout=self._timeout,
            patience=self._patience,
            moved=moved,
        )
        return Mover(plan, self._topology, wake, lambda: self._stopped)


def transport_of(side: BusCore | Transport | str) -> Transport:
    """The transport of a bus, or of a URL, or the one given."""
    if isinstance(side, BusCore):
        return side.transport
    found: Transport = transport_from(side) if isinstance(side, str) else side
    if not isinstance(found, Transport):
        raise ConfigurationError(f"messages are moved between buses, transports or URLs, not {found!r}")
    return found
