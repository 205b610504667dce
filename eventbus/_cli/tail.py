"""``eventbus tail``: what goes over an exchange, live, without taking anything from others."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from eventbus._cli import exits
from eventbus._cli.output import printable
from eventbus._cli.settings import app_option, url_option
from eventbus._cli.showing import as_json_line, as_line

if TYPE_CHECKING:
    from eventbus._message import Incoming
    from eventbus._topology import Exchange
    from eventbus.transport import LinkStatus, Transport

SERVICE = "eventbus-tail"
_CONSUMER = "tail"
_CONNECT_SECONDS = 15.0
_MOST_WAITING = 10_000
_MOST_BYTES = 64 * 1024 * 1024


@click.command(
    epilog="\b\nExamples:\n  eventbus tail\n  eventbus tail 'customers.#' --limit 10\n"
    "  eventbus tail 'orders.*' --json | jq .body\n  eventbus tail --exchange eventbus.requests --for 60"
)
@click.argument("pattern", default="#")
@url_option(required=False)
@app_option()
@click.option("--exchange", metavar="NAME", help="Exchange to listen to; default: eventbus.events.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option(
    "--for", "seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="End after so many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
def tail(
    pattern: str,
    url: str | None,
    apps: tuple[str, ...],
    exchange: str | None,
    limit: int | None,
    seconds: float | None,
    as_json: bool,
) -> int:
    """Show messages as they come, on a temporary queue of its own: others get theirs all the same.

    PATTERN is a topic pattern, by default # (all). A message whose body is no JSON is shown too. Ctrl-C ends it.
    """
    target = _target(url, apps, exchange, pattern)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for number, incoming in enumerate(_messages(target, pattern, seconds), 1):
            line = as_json_line(incoming) if as_json else as_line(incoming, time.time())
            click.echo(line)  # and flushes
            if number == limit:
                break
    except KeyboardInterrupt:
        pass
    return exits.DONE


class Target(NamedTuple):
    """Where to listen; ``declare`` is the exchange if we know how it is to be declared."""

    transport: Transport
    exchange: str
    declare: tuple[Exchange, ...]


def _target(url: str | None, apps: Sequence[str], exchange: str | None, pattern: str) -> Target:
    from eventbus._cli.apps import load_buses
    from eventbus._plugins import transport_from
    from eventbus._routing.topics import validate_pattern
    from eventbus._topology import EVENTS_EXCHANGE, REQUESTS_EXCHANGE, Exchange

    if url is None and not apps:
        raise click.UsageError("no broker: give --url or --app, or set EVENTBUS_URL")
    validate_pattern(pattern)
    if exchange == "":
        raise click.UsageError("the default exchange cannot be listened to: it only knows queues by name")
    name = EVENTS_EXCHANGE if exchange is None else exchange
    known = {own: Exchange(name=own) for own in (EVENTS_EXCHANGE, REQUESTS_EXCHANGE)}
    buses = list(load_buses(apps).values()) if url is None or name not in known else []
    known |= {found.name: found for bus in buses for found in bus.topology().exchanges}
    transport = transport_from(url) if url is not None else buses[0].transport
    return Target(transport, name, (known[name],) if name in known else ())


# -- listening ----------------------------------------------------------------------------------------------


class Arrivals:
    """What has arrived and is not yet shown, within limits: the broker has forgotten it, so all of it is here."""

    def __init__(self, most: int = _MOST_WAITING, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._changed = threading.Condition()
        self._waiting: deque[Incoming] = deque()
        self._bytes = 0
        self._skipped = 0
        self._error: Exception | None = None

    def put(self, incoming: Incoming) -> None:
        """Take one in; the oldest go when there are too many."""
        with self._changed:
            self._waiting.append(incoming)
            self._bytes += len(incoming.message.body)
            while len(self._waiting) > self._most or (self._bytes > self._most_bytes and len(self._waiting) > 1):
                self._bytes -= len(self._waiting.popleft().message.body)
                self._skipped += 1
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Nothing more will come."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def get(self, timeout: float) -> Incoming | None:
        """The oldest, or None when there is none in time. Raises what :meth:`fail` was told."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._error, timeout)
            if self._waiting:
                incoming = self._waiting.popleft()
                self._bytes -= len(incoming.message.body)
                return incoming
            if self._error is not None:
                raise self._error
            return None

    def skipped(self) -> int:
        """How many went unshown since the last call."""
        with self._changed:
            skipped, self._skipped = self._skipped, 0
            return skipped


class _Listener:
    def __init__(self, arrivals: Arrivals, what: str) -> None:
        self._arrivals, self._what = arrivals, what

    def delivered(self, incoming: Incoming, /) -> None:
        self._arrivals.put(incoming)

    def started(self, queue: str, /) -> None:
        click.echo(f"listening to {self._what}", err=True)

    def stopped(self, error: Exception | None, /) -> None:
        if error is not None:
            click.echo(f"not listening, trying again: {printable(str(error))}", err=True)


def _messages(target: Target, pattern: str, seconds: float | None) -> Iterator[Incoming]:
    # On the link itself, not on a bus: a bus decodes, and what cannot be decoded is to be seen here too.
    from eventbus._errors import TopologyMismatch
    from eventbus._supervisor import Phase
    from eventbus._topology import Binding, Queue, Topology
    from eventbus.transport import ConsumerSpec, LinkSettings

    own = Queue(name="", durable=False, exclusive=True, auto_delete=True, type="classic")
    binding = Binding(exchange=target.exchange, queue="", pattern=pattern)
    topology = Topology(exchanges=target.declare, queues=(own,), bindings=(binding,))
    arrivals = Arrivals()

    def noted(status: LinkStatus) -> None:
        states = [(status.phase, status.error), *((one.phase, one.error) for one in status.consumers.values())]
        for phase, error in states:
            if phase is Phase.FAILED and error is not None:
                arrivals.fail(error)

    link = target.transport.sync_link(LinkSettings(service=SERVICE), noted)
    try:
        link.open()
        listener = _Listener(arrivals, f"{target.exchange} ({pattern}); Ctrl-C ends it")
        link.consume(ConsumerSpec(name=_CONSUMER, queue=own, topology=topology, auto_ack=True), listener)
        link.wait_ready(_CONNECT_SECONDS)
        yield from _until(arrivals, None if seconds is None else time.monotonic() + seconds)
    except TopologyMismatch as error:
        if target.declare:
            raise
        raise TopologyMismatch(
            f"this virtual host has no exchange {target.exchange!r}: check the name, or give --app to declare it"
        ) from error
    finally:
        link.close(1.0)


def _until(arrivals: Arrivals, end: float | None) -> Iterator[Incoming]:
    while end is None or time.monotonic() < end:
        incoming = arrivals.get(0.5 if end is None else min(0.5, max(0.0, end - time.monotonic())))
        if (skipped := arrivals.skipped()) > 0:
            click.echo(f"{skipped} messages are not shown: they come faster than they can be written", err=True)
        if incoming is not None:
            yield incoming
