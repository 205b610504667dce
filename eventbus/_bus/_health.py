"""State of a bus as values: its health now, and what a stop left behind."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from eventbus._replies import PendingReplies
from eventbus._spool._values import SpoolHealth
from eventbus._supervisor import Phase
from eventbus.transport import LinkStatus

REPLY_CONSUMER = "(replies)"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """State of a bus now.

    ``status`` is ``ready``, ``connecting``, ``degraded`` (connected, a consumer is not running), ``blocked`` (the
    broker takes no publishes), ``draining``, ``stopped`` or ``failed`` (terminal: see ``error``). ``consumers`` gives
    each subscription's phase, ``errors`` the last error of those that are not ready. ``certificate_days`` is how many
    whole days our TLS certificate has left (below 0: expired); None without one. ``handlers_overdue`` run past their
    timeout and cannot be stopped; ``consumers_overlong`` have a delivery that the broker will soon take back. ``spool``
    is the state of the spool; None without one, or while the bus does not run.
    """

    status: Literal["ready", "connecting", "degraded", "blocked", "draining", "stopped", "failed"]
    connected: bool = False
    blocked: str | None = None
    error: str | None = None
    consumers: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}
    publishes_in_flight: int = 0
    handlers_in_flight: int = 0
    handlers_overdue: int = 0
    consumers_overlong: int = 0
    requests_in_flight: int = 0
    reconnects: int = 0
    unroutable: int = 0
    replies_dropped: int = 0
    settlements_dropped: int = 0
    certificate_days: int | None = None
    spool: SpoolHealth | None = None


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop left behind: handlers that did not end, publishes without an outcome."""

    abandoned: int = 0
    unknown: int = 0

    @property
    def clean(self) -> bool:
        """Whether everything ended in time."""
        return not self.abandoned and not self.unknown


def health_of(
    status: LinkStatus,
    *,
    draining: bool,
    handlers: int,
    overdue: int,
    publishes: int,
    pending: PendingReplies,
    unroutable: int,
    spool: SpoolHealth | None = None,
) -> Health:
    """The state of a running bus."""
    consumers = {n: c for n, c in status.consumers.items() if n != REPLY_CONSUMER}
    waiting = [c for c in consumers.values() if c.phase is not Phase.READY]
    name: Any = "ready"
    if draining:
        name = "draining"
    elif status.phase is Phase.FAILED:
        name = "failed"
    elif status.phase is not Phase.READY:
        name = "connecting"
    elif status.blocked is not None:
        name = "blocked"
    elif waiting:
        name = "degraded"
    return Health(
        status=name,
        connected=status.phase is Phase.READY,
        blocked=status.blocked,
        error=None if status.error is None else one_line(status.error),
        consumers={n: str(c.phase) for n, c in consumers.items()},
        errors={n: one_line(c.error) for n, c in consumers.items() if c.error and c.phase is not Phase.READY},
        publishes_in_flight=publishes,
        handlers_in_flight=handlers,
        handlers_overdue=overdue,
        consumers_overlong=status.overlong,
        requests_in_flight=len(pending),
        reconnects=status.reconnects,
        unroutable=unroutable,
        replies_dropped=pending.unmatched,
        settlements_dropped=status.stale_settlements,
        certificate_days=_days_left(status.certificate_expires),
        spool=spool,
    )


def _days_left(expires: float | None) -> int | None:
    return None if expires is None else math.floor((expires - time.time()) / 86400)


def one_line(error: BaseException | None) -> str:
    """An error as one line of text."""
    return " ".join(str(error).split()) or type(error).__name__
