"""What our errors say when a body cannot be written or read: the class and the field, never a value.

A value may be a secret, and error texts reach logs, dead letters and other services. Only what the author
of a class wrote into a ``ValueError`` of its own checks is passed on as it is.
"""

from __future__ import annotations

import inspect
import re
from types import TracebackType
from typing import Any

import msgspec
import orjson

from eventbus._errors import ConfigurationError, DecodingError, EncodingError

# msgspec ends its texts with one of: " - at `$.lines[0].qty`", " - at `key` in `$.prices`".
_PATH = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_ECHOES_VALUE = re.compile(r"(Invalid (?:enum )?value) .*", re.DOTALL)
_NAMES_MEMBER = re.compile(r"Object (?:missing required|contains unknown) field `([^`]+)`$")
_PYDANTIC_MISFIT = re.compile(r"\(Expected `([^`]*)` - [^\[]*\[field_name='([^']*)'")
_PYDANTIC_ECHOES = {
    "union_tag_invalid": "Input tag is none of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
_LONGEST_KEY = 64


class NestedFailure(ValueError):
    """A pydantic model inside another kind of class did not fit; msgspec adds the path to its text."""


def type_name(cls: Any) -> str:
    """A class by its name, any other type form (``list[int]``) as it is written."""
    return cls.__name__ if isinstance(cls, type) else str(cls)


def encoding_error(name: str, error: Exception) -> EncodingError:
    """Our error for what a library raised while writing an object of the class ``name``."""
    if isinstance(error, RecursionError):
        text = "nested too deeply"
    elif isinstance(error, TypeError | OverflowError | AttributeError):
        text = str(error)
    elif misfit := _PYDANTIC_MISFIT.search(str(error)):
        text = f"Expected `{misfit[1]}` in field `{misfit[2]}`"
    elif str(error).startswith("Unable to serialize unknown type: "):
        text = str(error)
    else:
        text = f"cannot be written as JSON ({type(error).__name__})"
    return EncodingError(f"{name}: {text}")


def decoding_error(name: str, error: Exception) -> DecodingError:
    """Our error for what a library, or the class itself, raised while reading a body as ``name``."""
    path: str | None = None
    if isinstance(error, RecursionError):
        text = "the body is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        text = "the body is not UTF-8"
    elif isinstance(error, orjson.JSONDecodeError):
        text = f"the body is not JSON: {error}"
    elif isinstance(error, msgspec.ValidationError):
        text, path = _msgspec_failure(error)
    elif isinstance(error, msgspec.DecodeError):
        text = str(error)
    elif isinstance(error, ValueError) and hasattr(error, "errors"):
        text, path = pydantic_failure(error)
    else:
        text = f"{type(error).__name__} in the code of the class"
    return DecodingError(f"{name}: {text}", field=path.lstrip(".") if path else None)


def cause(error: Exception) -> Exception | None:
    """The error if it may be chained to ours: a ValueError of a library carries the value or the body."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ValueError):
            return None
        link = link.__cause__ or link.__context__
    return error


def pydantic_failure(error: Any) -> tuple[str, str]:
    """Text and path of pydantic's first error. ``str(error)`` is of no use: it quotes the input."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{str(step)[:_LONGEST_KEY]}" for step in first["loc"])
    text = _PYDANTIC_ECHOES.get(first["type"]) or first["msg"]
    if len(problems) > 1:
        text += f" (and {len(problems) - 1} more)"
    return text + (f" - at `${path}`" if path else ""), path


def unresolved(cls: Any, error: Exception) -> ConfigurationError:
    """Our error for an annotation that cannot be resolved, naming class, field and annotation."""
    missing = getattr(error, "name", None)
    word = re.compile(rf"\b{re.escape(missing)}\b") if missing else None
    for base in getattr(cls, "__mro__", ()):
        for field, annotation in inspect.get_annotations(base).items():
            written = annotation if isinstance(annotation, str) else repr(annotation)
            if word is not None and word.search(written):
                return ConfigurationError(
                    f"{base.__name__}: the annotation {written!r} of field `{field}` cannot be resolved: {error}; "
                    "names must be known in the module when the event is declared"
                )
    return ConfigurationError(f"{type_name(cls)}: an annotation cannot be resolved: {error}")


def _msgspec_failure(error: msgspec.ValidationError) -> tuple[str, str]:
    """Text and path of a msgspec error, without the value that some of its texts quote."""
    text, path, key = str(error), "", False
    while at := _PATH.search(text):  # more than one where a pydantic model is nested; the outermost is last
        path += at[1]
        key = key or "`key` in" in at[0]
        text = text[: at.start()]
    own = error.__cause__
    by_attrs, attribute = _attrs_validator(own.__traceback__ if own else None)
    if by_attrs:
        path += f".{attribute}" if attribute else ""
        text = "refused by a validator of the attrs class"
    elif own is None:
        text = _ECHOES_VALUE.sub(r"\1", text)
    where = f" - at {'a key in ' if key else ''}`${path}`" if path else ""
    if own is None and (member := _NAMES_MEMBER.match(text)):
        path += f".{member[1][:_LONGEST_KEY]}"
    return text + where, path


def _attrs_validator(traceback: TracebackType | None) -> tuple[bool, str | None]:
    """Whether a stock validator of attrs raised this, whose text quotes the value; and of which attribute."""
    if traceback is None:
        return False, None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    module = str(frame.f_globals.get("__name__", ""))
    return module == "attr.validators", getattr(frame.f_locals.get("attr"), "name", None)
