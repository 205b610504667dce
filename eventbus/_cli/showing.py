"""Messages as text: a line for people, or a JSON document a line; whatever strangers wrote."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eventbus._cli.output import printable, printable_json

if TYPE_CHECKING:
    from eventbus._message import Incoming, Message

_SHOWN_BODY = 200
_SHOWN_NAME = 120
_DEEPEST = 16


def as_line(incoming: Incoming, now: float) -> str:
    """A message in a line; nothing in it can move the cursor or colour the screen."""
    message = unwrapped(incoming.message)
    when = _time(message.time) or _time(now)
    names = f"{short(message.topic)} type={short(message.type) or '?'} from={short(message.source) or '?'}"
    problem = f" [{incoming.problem}]" if incoming.problem is not None else ""
    return printable(f"{when} {names} {len(message.body)} B{problem} {_body_text(message)}")


def as_json_line(incoming: Incoming) -> str:
    """A message as one JSON document; a body that is no JSON stands in ``body_text`` or ``body_base64``."""
    import orjson

    message = unwrapped(incoming.message)
    found: dict[str, Any] = {
        "id": message.id,
        "topic": message.topic,
        "exchange": message.exchange,
        "type": message.type,
        "source": message.source,
        "time": message.time,
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "headers": message.headers,
        "problem": incoming.problem,
        "size": len(message.body),
    }
    return printable_json(orjson.dumps({**plain(found), **body_json(message)}).decode())


def body_json(message: Message) -> dict[str, Any]:
    import base64

    import orjson

    try:
        return {"body": orjson.Fragment(orjson.dumps(orjson.loads(message.body)))}
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it reads deeper nesting than it writes
        pass
    try:
        return {"body_text": message.body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(message.body).decode()}


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it, whatever strangers put into a header."""
    if isinstance(value, (bool, float)) or value is None:
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if depth >= _DEEPEST and isinstance(value, (Mapping, list, tuple)):
        return "..."
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else plain_text(str(value))


def plain_text(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def unwrapped(message: Message) -> Message:
    """A structured CloudEvent taken apart; anything else as it is."""
    from eventbus._cloudevents import STRUCTURED, unwrap
    from eventbus._errors import DecodingError

    if not message.content_type.startswith(STRUCTURED):
        return message
    try:
        return unwrap(message)
    except DecodingError:
        return message


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:-3] if seconds else ""
    except (OverflowError, ValueError, OSError):  # strangers write it
        return ""


def short(text: str, most: int = _SHOWN_NAME) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _body_text(message: Message) -> str:
    if message.content_encoding not in (None, "", "identity", "utf-8"):
        return f"({len(message.body)} bytes, {message.content_encoding})"
    try:
        return short(message.body.decode(), _SHOWN_BODY)
    except UnicodeDecodeError:
        return f"({len(message.body)} bytes that are no text)"
