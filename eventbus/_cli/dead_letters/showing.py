"""Dead letters as text and JSON. Strangers wrote what is in them, so nothing of it reaches a terminal as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eventbus._cli.output import printable
from eventbus._cli.showing import body_json, plain, short, unwrapped

if TYPE_CHECKING:
    from eventbus._message import Message
    from eventbus.dead_letters import DeadLetterGroup, DeadMessage

LIST_COLUMNS = ("died", "id", "queue", "type", "attempts", "why")
GROUP_COLUMNS = ("count", "queue", "error", "digest", "first", "last", "example")


def list_row(dead: DeadMessage) -> Sequence[str]:
    """A dead letter in a row of a table."""
    why = f"{dead.error_type}: {dead.error}" if dead.error_type else dead.problem or dead.reason
    attempts = "" if dead.attempts is None else str(dead.attempts)
    return _row(when(dead.died), dead.id, dead.queue or dead.dead_queue, dead.type, attempts, why)


def group_row(group: DeadLetterGroup) -> Sequence[str]:
    """A group in a row of a table."""
    what = f"{group.error_type}: {group.error}" if group.error else group.error_type
    times = when(group.first), when(group.last)
    return _row(str(group.count), group.queue, what, group.digest, *times, group.example)


def as_json(dead: DeadMessage, *, whole: bool) -> dict[str, Any]:
    """What is known of a dead letter; with ``whole`` its headers and body too."""
    fields = {name: getattr(dead, name) for name in dead.__struct_fields__ if name != "message"}
    found: dict[str, Any] = {**plain(fields), "size": len(dead.message.body)}
    if whole:
        message = dead.message
        found |= {"content_type": plain(message.content_type), "headers": plain(message.headers)}
        found |= body_json(unwrapped(message))
    return found


def as_text(dead: DeadMessage, most: int) -> str:
    """Everything of a dead letter for people, of its body at most ``most`` characters."""
    message = dead.message
    handled = "" if dead.attempts is None else f", in attempt {dead.attempts}"
    since = "" if dead.first_seen is None else f"; first failed {when(dead.first_seen)}"
    by = " (moved by the broker)" if dead.by_broker else ""
    fields = {
        "id": dead.id,
        "type": dead.type,
        "published": f"{when(dead.published)} by {dead.source or '?'}",
        "to": f"exchange {dead.exchange or '(default)'}, topic {dead.topic}",
        "failed in": f"{dead.queue or '(not known)'}, now in {dead.dead_queue}",
        "died": f"{when(dead.died)}{handled}{since}",
        "reason": f"{dead.reason}{by}",
        "error": f"{dead.error_type}: {dead.error}" if dead.error_type else "",
        "digest": dead.digest,
        "problem": dead.problem or "",
    }
    lines = [f"{name:<10} {printable(value)}" for name, value in fields.items() if value]
    lines.append("headers")
    lines += [
        f"  {printable(short(str(name)))}: {printable(short(str(plain(v)), most))}" for name, v in _headers(message)
    ]
    lines.append(f"body ({len(message.body)} bytes, {printable(message.content_type)})")
    lines.append(f"  {_body(message, most)}")
    return "\n".join(lines)


def when(seconds: float | None) -> str:
    """A time in UTC, to the second; a question mark where it is not known."""
    if not seconds:
        return "?"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # strangers write it
        return "?"


def _headers(message: Message) -> Sequence[tuple[Any, Any]]:
    """Without those that are told above."""
    return [(name, value) for name, value in message.headers.items() if not str(name).startswith("eventbus-dead-")]


def _body(message: Message, most: int) -> str:
    # Bytes that are no text are shown as such, and can be told from text that looks like them.
    text = message.body[: 4 * most].decode(errors="backslashreplace")
    shown = printable(text[:most])
    return shown if len(text) <= most else f"{shown}... (--body N shows more, --json all)"


def _row(*cells: str) -> Sequence[str]:
    from rich.markup import escape

    return [escape(printable(short(cell))) for cell in cells]
