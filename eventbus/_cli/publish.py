"""``eventbus publish`` and ``eventbus request``: one event, or one question, from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventbus._cli import exits
from eventbus._cli.output import json_option, print_json
from eventbus._cli.settings import app_option, url_option

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus

F = TypeVar("F", bound=Callable[..., Any])

SERVICE = "eventbus-cli"


def _message_options() -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in (
            json_option(),
            click.option(
                "--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, metavar="S"
            ),
            click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; several times."),
            click.option("--exchange", help="Exchange; default: that of the event, or eventbus' own."),
            click.option("--topic", help="Topic; default: that of the event, or TYPE."),
            url_option(required=False),
            app_option(),
            click.argument("body", metavar="[JSON]", required=False),
            click.argument("kind", metavar="TYPE"),
        ):
            function = option(function)
        return function

    return decorate


_BODY = "JSON is the argument, @FILE, or standard input when it is - or missing."


@click.command(
    epilog="\b\nExamples:\n"
    '  eventbus publish customers.registered \'{"country": "se"}\' --topic customers.registered.se\n'
    "  eventbus publish customers.registered @event.json --app shop.signup:bus\n"
    "  echo '{}' | eventbus publish jobs.nightly --mandatory"
)
@_message_options()
@click.option("--mandatory", is_flag=True, help="Fail when nobody is subscribed.")
def publish(
    kind: str,
    body: str | None,
    apps: tuple[str, ...],
    url: str | None,
    topic: str | None,
    exchange: str | None,
    headers: tuple[str, ...],
    timeout: float,
    as_json: bool,
    mandatory: bool,
) -> int:
    """Publish one event and wait until the broker has confirmed it.

    With --app, TYPE is an event of that program: the JSON must fit it, and its topic and exchange are used.
    """
    from eventbus._errors import Unroutable

    bus, event, options = _prepared(kind, body, apps, url, topic, exchange, headers, timeout, request=False)
    routed = True
    try:
        bus.publish(event, mandatory=True, **options)
    except Unroutable:
        if mandatory:
            raise
        routed = False
    finally:
        bus.stop(1.0)
    if as_json:
        print_json({"type": kind, "confirmed": routed, "routed": routed})
    else:
        click.echo(f"{kind}: confirmed" if routed else f"{kind}: nobody is subscribed, so the broker has dropped it")
    return exits.DONE


publish.help = f"{publish.help}\n\n{_BODY}"


@click.command(
    epilog='\b\nExamples:\n  eventbus request pricing.quote-requested \'{"product": "tea"}\'\n'
    "  eventbus request pricing.quote-requested @question.json --app shop.signup:bus --timeout 2"
)
@_message_options()
def request(
    kind: str,
    body: str | None,
    apps: tuple[str, ...],
    url: str | None,
    topic: str | None,
    exchange: str | None,
    headers: tuple[str, ...],
    timeout: float,
    as_json: bool,
) -> int:
    """Ask one question and print the answer's JSON."""
    bus, question, options = _prepared(kind, body, apps, url, topic, exchange, headers, timeout, request=True)
    try:
        answer = bus.request(question, reply=Any, **options)
    finally:
        bus.stop(1.0)
    print_json(answer)
    return exits.DONE


request.help = f"{request.help}\n\n{_BODY}"


def _prepared(
    kind: str,
    body: str | None,
    apps: tuple[str, ...],
    url: str | None,
    topic: str | None,
    exchange: str | None,
    headers: tuple[str, ...],
    timeout: float,
    *,
    request: bool,
) -> tuple[EventBus, Any, dict[str, Any]]:
    """A bus of our own, the event, and the keywords to publish it with."""
    from eventbus._bus._sync import EventBus
    from eventbus._cli.apps import load_buses

    known = load_buses(apps)
    if url is None and not known:
        raise click.UsageError("no broker: give --url or --app, or set EVENTBUS_URL")
    classes = {name: cls for bus in known.values() for name, cls in bus.event_classes().items()}
    if known and kind not in classes:
        raise click.UsageError(f"{' and '.join(known)} know no event {kind!r}; known: {', '.join(sorted(classes))}")
    event = _event(_text(body), classes.get(kind))
    options: dict[str, Any] = {"timeout": timeout}
    if not known:
        options |= {"type": kind, "topic": topic or kind}
    elif topic is not None:
        options["topic"] = topic
    if exchange is not None:
        options["exchange"] = exchange
    if headers:
        options["headers"] = dict(_header(header) for header in headers)
    transport = url if url is not None else next(iter(known.values())).transport
    return EventBus(transport, service=SERVICE), event, options


def _text(body: str | None) -> bytes:
    if body is None or body == "-":
        return sys.stdin.buffer.read()
    if body.startswith("@"):
        try:
            with open(body[1:], "rb") as file:
                return file.read()
        except OSError as error:
            raise click.UsageError(f"{body[1:]} cannot be read: {error.strerror}") from None
    return body.encode()


def _event(text: bytes, cls: type | None) -> Any:
    import orjson

    from eventbus._codecs import Codecs
    from eventbus._errors import DecodingError

    if cls is not None:
        try:
            return Codecs().get("application/json").decoder(cls)(text)
        except DecodingError as error:
            raise click.UsageError(f"the JSON is no {cls.__name__}: {error}") from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"this is no JSON: {error}") from None
    if not isinstance(value, (dict, list)):
        raise click.UsageError("an event is a JSON object")
    return value


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--header is NAME=VALUE, not {text!r}")
    return name, value
