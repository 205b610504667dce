"""``eventbus tail``: what goes over an exchange, live, without taking anything from others."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventbus._cli import exits
from eventbus._cli.settings import app_option, url_option

if TYPE_CHECKING:
    from eventbus._message import Incoming, Message

SERVICE = "eventbus-tail"
_PREFETCH = 500
_SHOWN = 200


@click.command(
    epilog="\b\nExamples:\n  eventbus tail\n  eventbus tail 'customers.#' --limit 10\n"
    "  eventbus tail 'orders.*' --json | jq .body"
)
@click.argument("pattern", default="#")
@url_option(required=False)
@app_option()
@click.option("--exchange", default=None, help="Exchange to listen to; default: eventbus.events.")
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

    PATTERN is a topic pattern, by default # (all).
    """
    from eventbus._cli.apps import load_buses
    from eventbus._plugins import transport_from

    buses = list(load_buses(apps).values())
    if url is None and not buses:
        raise click.UsageError("no broker: give --url or --app, or set EVENTBUS_URL")
    transport = transport_from(url) if url is not None else buses[0].transport
    until = None if seconds is None else time.monotonic() + seconds
    try:
        for number, incoming in enumerate(_messages(transport, exchange, pattern, until), 1):
            click.echo(as_json_line(incoming.message) if as_json else as_line(incoming.message))
            if number == limit:
                break
    except KeyboardInterrupt:
        pass
    return exits.DONE


class _Listener:
    def __init__(self, arrived: queue.Queue[Incoming | Exception]) -> None:
        self._arrived = arrived

    def delivered(self, incoming: Incoming, /) -> None:
        self._arrived.put(incoming)

    def started(self, queue: str, /) -> None:
        click.echo("listening; Ctrl-C ends it", err=True)

    def stopped(self, error: Exception | None, /) -> None:
        """The link tries again by itself."""


def _messages(transport: Any, exchange: str | None, pattern: str, until: float | None) -> Iterator[Incoming]:
    # On the link itself, not on a bus: a bus decodes, and what cannot be decoded is to be seen here too.
    from eventbus._topology import EVENTS_EXCHANGE, Binding, Queue, Topology
    from eventbus.transport import ConsumerSpec, LinkSettings

    own = Queue(name="", durable=False, exclusive=True, auto_delete=True, type="classic")
    binding = Binding(exchange=exchange or EVENTS_EXCHANGE, queue="", pattern=pattern)
    arrived: queue.Queue[Incoming | Exception] = queue.Queue()
    link = transport.sync_link(LinkSettings(service=SERVICE), lambda status: None)
    try:
        link.open()
        spec = ConsumerSpec(
            name="tail", queue=own, topology=Topology(bindings=(binding,)), prefetch=_PREFETCH, auto_ack=True
        )
        link.consume(spec, _Listener(arrived))
        link.wait_ready(30.0)
        while until is None or time.monotonic() < until:
            try:
                item = arrived.get(timeout=0.2)
            except queue.Empty:
                continue
            assert not isinstance(item, Exception)
            yield item
    finally:
        link.close(1.0)


def as_line(message: Message) -> str:
    """A message in a line; nothing in it can move the cursor or colour the screen."""
    when = datetime.fromtimestamp(message.time, UTC).strftime("%H:%M:%S.%f")[:-3] if message.time else "--:--:--.---"
    head = f"{when} {message.topic} type={message.type or '?'} from={message.source or '?'} {len(message.body)} B"
    return printable(f"{head} {_body_text(message.body)}")


def as_json_line(message: Message) -> str:
    """A message as one JSON document; a body that is no JSON stands in ``body_base64``."""
    import base64

    import orjson

    found: dict[str, Any] = {
        "id": message.id,
        "topic": message.topic,
        "exchange": message.exchange,
        "type": message.type,
        "source": message.source,
        "time": message.time,
        "content_type": message.content_type,
        "headers": {name: str(value) for name, value in message.headers.items()},
    }
    try:
        found["body"] = orjson.loads(message.body)
    except orjson.JSONDecodeError:
        found["body_base64"] = base64.b64encode(message.body).decode()
    return orjson.dumps(found).decode()


def _body_text(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"({len(body)} bytes that are no text)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def printable(text: str) -> str:
    """The text without what a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
