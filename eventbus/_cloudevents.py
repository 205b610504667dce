"""CloudEvents 1.0 structured mode, on reading: the whole event is a JSON object in the body.

Binary mode (attributes in headers) is each transport's own mapping.
Source: CloudEvents JSON event format 1.0.2, sections 3 and 3.1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson

from eventbus._errors import DecodingError
from eventbus._message import Message

STRUCTURED = "application/cloudevents"


def unwrap(message: Message) -> Message:
    """The message with attributes and data taken out of a structured-mode body.

    :raises DecodingError: the body is no CloudEvent in JSON.
    """
    if not message.content_type.startswith("application/cloudevents+json"):
        raise DecodingError(f"cannot read a CloudEvent of content type {message.content_type!r}; +json is understood")
    try:
        whole = orjson.loads(message.body)
    except ValueError as error:
        raise DecodingError(f"a structured CloudEvent that is not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise DecodingError("a structured CloudEvent is a JSON object")
    for name in ("id", "type", "source"):
        if not isinstance(whole.get(name), str):
            raise DecodingError(f"a structured CloudEvent without {name!r}", field=name)
    content_type = whole.get("datacontenttype") or "application/json"
    return msgspec.structs.replace(
        message,
        id=whole["id"],
        type=whole["type"],
        source=whole["source"],
        subject=_text(whole, "subject"),
        dataschema=_text(whole, "dataschema"),
        time=parse_time(whole.get("time")),
        content_type=str(content_type),
        body=_data(whole),
    )


def _text(whole: Mapping[str, Any], name: str) -> str | None:
    value = whole.get(name)
    return value if isinstance(value, str) else None


def _data(whole: Mapping[str, Any]) -> bytes:
    if "data_base64" in whole:
        try:
            return base64.b64decode(whole["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise DecodingError("data_base64 is not base64", field="data_base64") from None
    return orjson.dumps(whole.get("data"))


def parse_time(value: object) -> float:
    """Unix seconds of an RFC 3339 time; 0.0 for anything else (a wrong clock must not cost a message)."""
    if not isinstance(value, str):
        return 0.0
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return 0.0
