"""What both relays are made of: settings, counts, and what is told of them. No waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from eventbus import ConfigurationError
from eventbus._backoff import Backoff
from eventbus._bus._core import BusCore
from eventbus._ids import uuid7
from eventbus_outbox._pace import Pace
from eventbus_outbox._round import RETRY, Round
from eventbus_outbox._rows import Lag, Row
from eventbus_outbox._stored import Stored, decode
from eventbus_outbox._table import OutboxTable, Verdict
from eventbus_outbox.sql import Dialect, Steps, quiet_text

log = logging.getLogger("eventbus.outbox")

MARGIN_SECONDS = 5.0
"""A lease outlasts the outcome of the last message by so much: time to write it down."""
LOOK_SECONDS = 0.5
"""How long to wait for the broker before a stop is looked for."""

State = Literal["stopped", "relaying", "waiting for the broker", "waiting for the database", "failed"]


class RelayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of a relay now, and what it has done since it was made.

    ``relayed`` messages were confirmed by the broker; ``failed`` counts attempts that ended otherwise and are made
    again; ``set_aside`` messages are tried no more; ``overtaken`` ones were taken by another relay before we had
    written down that they were confirmed, so they were sent twice. ``error`` is the last error, while it matters.
    """

    state: State = "stopped"
    relayed: int = 0
    failed: int = 0
    set_aside: int = 0
    overtaken: int = 0
    error: str | None = None


class RelayCore:
    """Settings, decisions and counts of a relay; see :class:`eventbus_outbox.Relay` for the parameters."""

    def __init__(
        self,
        bus: BusCore,
        *,
        table: str = "eventbus_outbox",
        batch: int = 200,
        lease: float = 60.0,
        poll: float = 1.0,
        listen: bool = True,
        backoff: Backoff = RETRY,
        on_set_aside: Literal["stop-key", "go-on"] = "stop-key",
    ) -> None:
        if batch < 1 or poll <= 0:
            raise ConfigurationError("a relay wants batch >= 1 and poll > 0")
        if lease < bus.timeout + MARGIN_SECONDS:
            raise ConfigurationError(
                f"the lease of {lease:g} s is too short: the bus gives up a publish after {bus.timeout:g} s, and "
                f"another {MARGIN_SECONDS:g} s are needed to write that down"
            )
        if on_set_aside not in ("stop-key", "go-on"):
            raise ConfigurationError(f'on_set_aside is "stop-key" or "go-on", not {on_set_aside!r}')
        self._table = OutboxTable(table)
        self._batch = batch
        self._lease = lease
        self._listen = listen
        self._backoff = backoff
        self._stop_keys = on_set_aside == "stop-key"
        self._publish_timeout = bus.timeout
        self._pace = Pace(poll)
        self._status = RelayStatus()
        self._error: BaseException | None = None

    def status(self) -> RelayStatus:
        """State and counts now; cheap, from any thread."""
        return self._status

    # -- one round --------------------------------------------------------------------------------------

    def _without_broker(self) -> float:
        """The pause before the broker is looked for again: short, for it is the bus that takes its time."""
        self._pace.idling = False
        return LOOK_SECONDS / 5

    def _new_claim(self) -> tuple[str, float]:
        """Its name, and until when we may rely on it."""
        return uuid7(), time.monotonic() + self._lease

    def _claiming(self, claim: str) -> Callable[[Dialect], Steps[list[Row]]]:
        return partial(self._table.claim, claim=claim, size=self._batch, lease=self._lease)

    def _round(self, rows: list[Row]) -> Round:
        return Round(rows, stop_keys=self._stop_keys, retry=self._backoff)

    def _may_send(self, until: float, stopping: bool) -> bool:
        """Whether a message that is sent now has its outcome while the rows are ours."""
        return not stopping and time.monotonic() + self._publish_timeout + MARGIN_SECONDS / 2 < until

    def _settling(self, claim: str, verdict: Verdict) -> Callable[[Dialect], Steps[int]]:
        return partial(self._table.settle, claim=claim, verdict=verdict)

    def _lagging(self, dialect: Dialect) -> Steps[Lag]:
        return self._table.lag(dialect)

    def _after(self, round: Round) -> float:
        """Count what a round has done; gives the pause until the next."""
        verdict, trouble = round.verdict(), round.trouble
        self._note(
            relayed=self._status.relayed + len(verdict.confirmed),
            failed=self._status.failed + len(verdict.failed),
            set_aside=self._status.set_aside + len(verdict.set_aside),
        )
        for failed in verdict.set_aside:
            log.error("outbox row %d was set aside, no further try would help: %s", failed.id, failed.error)
        if trouble is None or verdict.confirmed:
            self._now("relaying", None if trouble is None else quiet_text(trouble))
            return self._pace.found()
        self._now("waiting for the broker", quiet_text(trouble))
        return self._pace.trouble()

    # -- telling ----------------------------------------------------------------------------------------

    def _note(self, **changes: Any) -> None:
        self._status = msgspec.structs.replace(self._status, **changes)

    def _now(self, state: State, error: str | None = None) -> None:
        before = self._status
        if before.state == state and before.error == error:
            return
        self._note(state=state, error=error)
        if error is not None and (before.error != error or before.state != state):
            log.warning("outbox: %s: %s", state, error)
        elif before.state != state:
            log.info("outbox: %s", state)

    def _overtaken(self, count: int) -> None:
        if count:
            self._note(overtaken=self._status.overtaken + count)
            log.warning("%d outbox rows were relayed by another relay too: our lease had ended", count)

    def _not_written(self, verdict: Verdict) -> None:
        log.warning(
            "what became of %d outbox rows could not be written; %d that were confirmed will be relayed again",
            sum(map(len, (verdict.confirmed, verdict.failed, verdict.set_aside, verdict.released))),
            len(verdict.confirmed),
        )

    def _database_trouble(self, error: Exception) -> float:
        self._now("waiting for the database", quiet_text(error))
        return self._pace.trouble()


def read(bus: BusCore, row: Row) -> tuple[Stored, dict[str, Any]]:
    """A row's message, ready to be published by ``bus``, and the options of its publish.

    :raises DecodingError: it cannot be read.
    """
    stored = decode(row.body)
    if stored.exchange is not None:
        try:
            bus.declare(stored.exchange)
        except ConfigurationError:  # the bus knows it otherwise, by newer code than that which stored the row
            pass
    return stored, {} if stored.mandatory is None else {"mandatory": stored.mandatory}
