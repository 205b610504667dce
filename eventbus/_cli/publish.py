"""``eventbus publish`` and ``eventbus request``: events, or one question, from the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from eventbus._cli import exits
from eventbus._cli.output import print_json, printable
from eventbus._cli.settings import app_option, url_option

if TYPE_CHECKING:
    from eventbus._bus._sync import EventBus
    from eventbus._message import Message

F = TypeVar("F", bound=Callable[..., Any])

SERVICE = "eventbus-cli"


class Given(NamedTuple):
    """What both commands are told."""

    kind: str
    body: str | None
    apps: tuple[str, ...]
    url: str | None
    topic: str | None
    exchange: str | None
    headers: tuple[str, ...]
    timeout: float
    as_json: bool


def _message_options(json_help: str) -> Callable[[F], F]:
    options = (
        click.option("--json", "as_json", is_flag=True, help=json_help),
        click.option(
            "--timeout",
            type=click.FloatRange(0, min_open=True),
            default=10.0,
            show_default=True,
            metavar="S",
            help="Seconds to wait for the connection, and for the outcome.",
        ),
        click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; several times."),
        click.option("--exchange", help="Exchange; default: that of the event, or eventbus' own."),
        click.option("--topic", help="Topic; default: that of the event, or TYPE."),
        url_option(required=False),
        app_option(),
        click.argument("body", metavar="[JSON]", required=False),
        click.argument("kind", metavar="TYPE"),
    )

    def decorate(function: F) -> F:
        for option in options:
            function = option(function)
        return function

    return decorate


@click.command(
    epilog="\b\nExamples:\n"
    '  eventbus publish customers.registered \'{"country": "se"}\' --topic customers.registered.se\n'
    "  eventbus publish customers.registered @event.json --app shop.signup:bus\n"
    "  echo '{}' | eventbus publish jobs.nightly --mandatory\n"
    "  eventbus publish customers.registered --app shop.signup:bus --file registered.ndjson"
)
@_message_options("Print the outcome as JSON.")
@click.option("--mandatory", is_flag=True, help="Fail when nobody is subscribed.")
@click.option("--count", type=click.IntRange(1), default=1, metavar="N", help="Publish it so many times.")
@click.option("--file", type=click.File("rb"), help="Publish every line of a file of JSON lines; - is standard input.")
def publish(mandatory: bool, count: int, file: Any, **options: Any) -> int:
    """Publish events and wait until the broker has confirmed them.

    With --app, TYPE is an event of that program: the JSON must fit it, and its topic and exchange are used.

    JSON is the argument, @FILE, or standard input when it is - or missing.
    """
    given = Given(**options)
    if file is not None and (given.body is not None or count != 1):
        raise click.UsageError("--file brings the events: give neither JSON nor --count with it")
    decode, keywords = _known(given)
    if file is None and count == 1:
        return _publish_one(given, decode(_text(given.body)), keywords, mandatory)
    lines = _Lines(file, decode) if file is not None else None
    events = iter(lines) if lines is not None else repeat(decode(_text(given.body)), count)
    return _publish_many(given, events, lines, keywords, mandatory)


@click.command(
    epilog='\b\nExamples:\n  eventbus request pricing.quote-requested \'{"product": "tea"}\'\n'
    "  eventbus request pricing.quote-requested @question.json --app shop.signup:bus --timeout 2"
)
@_message_options("Print the answer in one line.")
def request(**options: Any) -> int:
    """Ask one question and print the answer's JSON.

    With --app, TYPE is a request of that program: the JSON must fit it, and its topic and exchange are used.

    JSON is the argument, @FILE, or standard input when it is - or missing.
    """
    from eventbus._errors import RequestError

    given = Given(**options)
    decode, keywords = _known(given)
    question = decode(_text(given.body))
    bus = _bus(given, keywords.pop("transport"))
    try:
        bus.start(timeout=given.timeout)
        answer = bus.request(question, reply=Any, **keywords)
    except RequestError as error:
        # The responder may have written this.
        raise click.ClickException(printable(f"{type(error).__name__}: {error}")) from None
    finally:
        bus.stop(1.0)
    print_json(answer, line=given.as_json)
    return exits.DONE


# -- what is published --------------------------------------------------------------------------------------


def _known(given: Given) -> tuple[Callable[[bytes], Any], dict[str, Any]]:
    """How to read the event, and the keywords to publish it with (and the transport)."""
    from eventbus._cli.apps import load_buses

    if not given.kind:
        raise click.UsageError("TYPE is empty: write one such as customers.registered")
    known = load_buses(given.apps)
    if given.url is None and not known:
        raise click.UsageError("no broker: give --url or --app, or set EVENTBUS_URL")
    classes = {name: cls for bus in known.values() for name, cls in bus.event_classes().items()}
    if known and given.kind not in classes:
        raise click.UsageError(
            f"{' and '.join(known)} know no event {given.kind!r}; known: {', '.join(sorted(classes)) or 'none'}"
        )
    keywords: dict[str, Any] = {"timeout": given.timeout}
    if not known:
        keywords |= {"type": given.kind, "topic": given.topic or given.kind}
    elif given.topic is not None:
        keywords["topic"] = given.topic
    if given.exchange is not None:
        keywords["exchange"] = given.exchange
    if given.headers:
        keywords["headers"] = dict(_header(header) for header in given.headers)
    keywords["transport"] = given.url if given.url is not None else next(iter(known.values())).transport
    return _decoder(classes.get(given.kind)), keywords


def _decoder(cls: type | None) -> Callable[[bytes], Any]:
    from eventbus._codecs import Codecs
    from eventbus._errors import DecodingError

    fits = Codecs().get("application/json").decoder(cls) if cls is not None else None

    def decode(text: bytes) -> Any:
        if fits is None:
            return _plain(text)
        try:
            return fits(text)
        except DecodingError as error:
            raise click.UsageError(f"the JSON does not fit: {error}") from None

    return decode


def _plain(text: bytes) -> Any:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"this is no JSON: {error}") from None
    if not isinstance(value, (dict, list)):
        raise click.UsageError("an event is a JSON object or list")
    return value


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


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--header is NAME=VALUE, not {text!r}")
    return name, value


class _Lines:
    """Events of a file of JSON lines. It ends at a line that is none, and keeps what is wrong with it."""

    def __init__(self, file: Any, decode: Callable[[bytes], Any]) -> None:
        self._file, self._decode = file, decode
        self.mistake: str | None = None

    def __iter__(self) -> Iterator[Any]:
        for number, line in enumerate(self._file, 1):
            if not line.strip():
                continue
            try:
                event = self._decode(line)
            except click.UsageError as mistake:
                self.mistake = f"line {number}: {mistake.message}"
                return
            yield event


# -- publishing ---------------------------------------------------------------------------------------------


def _bus(given: Given, transport: Any, sent: list[Message] | None = None) -> EventBus:
    """A bus of our own; it notes what it sends in ``sent``."""
    from eventbus._bus._sync import EventBus
    from eventbus._middleware import Middleware

    class Notes(Middleware):
        def outgoing(self, message: Message) -> Message:
            if sent is not None:
                sent.append(message)
            return message

    if logging.getLogger().level >= logging.WARNING:
        logging.getLogger("eventbus").setLevel(logging.CRITICAL)  # all that matters here comes as an error
    return EventBus(transport, service=SERVICE, timeout=given.timeout, middleware=[Notes()] if sent is not None else [])


def _publish_one(given: Given, event: Any, keywords: dict[str, Any], mandatory: bool) -> int:
    from eventbus._errors import Unroutable

    sent: list[Message] = []
    bus = _bus(given, keywords.pop("transport"), sent)
    routed = True
    try:
        bus.start(timeout=given.timeout)
        bus.publish(event, mandatory=True, **keywords)
    except Unroutable:
        if mandatory:
            raise
        routed = False
    finally:
        bus.stop(1.0)
    message = sent[0]
    where = f"topic {message.topic}, exchange {message.exchange or '(default)'}, id {message.id}"
    if given.as_json:
        found = {"type": message.type, "topic": message.topic, "exchange": message.exchange, "id": message.id}
        print_json({**found, "confirmed": routed, "routed": routed}, line=True)
    elif routed:
        click.echo(printable(f"{message.type}: confirmed ({where})"))
    else:
        where = f"{where}, at {bus.transport!r}"  # a wrong file or virtual host is a likely cause
        click.echo(printable(f"{message.type}: nobody is subscribed, so the broker has dropped it ({where})"))
    return exits.DONE


def _publish_many(
    given: Given, events: Iterator[Any], lines: _Lines | None, keywords: dict[str, Any], mandatory: bool
) -> int:
    from eventbus._errors import PublishError, PublishManyError, Unroutable

    bus = _bus(given, keywords.pop("transport"))
    failures: list[PublishError] = []
    try:
        bus.start(timeout=given.timeout)
        confirmed = bus.publish_many(events, mandatory=True, **keywords)
    except PublishManyError as error:
        confirmed, failures = error.confirmed, [failure for _, _, failure in error.failures]
    finally:
        bus.stop(1.0)
    dropped = sum(isinstance(failure, Unroutable) for failure in failures)
    failed = len(failures) - dropped
    if given.as_json:
        counts = {"type": given.kind, "confirmed": confirmed, "unroutable": dropped, "failed": failed}
        print_json(counts, line=True)
    else:
        nobody = f", {dropped} dropped because nobody is subscribed" if dropped else ""
        click.echo(f"{given.kind}: {confirmed} confirmed{nobody}{f', {failed} failed' if failed else ''}")
    if lines is not None and lines.mistake is not None:
        raise click.UsageError(f"{lines.mistake} (this line and those after it were not published)")
    serious = [failure for failure in failures if mandatory or not isinstance(failure, Unroutable)]
    if serious:
        raise serious[0]
    return exits.DONE
