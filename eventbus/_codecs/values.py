"""Writing and reading values as JSON with orjson and msgspec, of all kinds of classes and their mixtures.

What is the same whichever kind of class an event is: UUID, date, time and datetime (a zero offset is ``Z``;
naive stays naive; six digits of microseconds, or none), Decimal as string, bytes as standard base64, enums
by value, sets and tuples as arrays, None as null, and the order of the fields.

What is not:

* Floats of 1e16 and more: msgspec writes ``1e16``, the others ``1e+16``. NaN and infinity become null.
* Integers of 64 bits and more: a msgspec.Struct and a pydantic model write them, dataclasses, attrs classes
  and dicts refuse them.
* timedelta: pydantic writes other ISO 8601 durations (``P1DT1H``) than the others (``P1DT3600S``).
* bytes in pydantic are UTF-8 text unless the model asks for base64.
* Datetimes whose offset has seconds, as some before 1900 have, are rounded to minutes in different ways.
* Times as keys of a dict: with orjson 3.13.0, dataclasses, attrs classes and dicts write some of them wrongly.
* Fields that begin with ``_``: written for dataclasses, attrs classes and Structs, while pydantic has none;
  msgspec leaves them out of an attrs class inside a Struct.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from eventbus._codecs.failures import (
    NestedFailure,
    cause,
    decoding_error,
    encoding_error,
    pydantic_failure,
    type_name,
    unresolved,
)
from eventbus._errors import ConfigurationError

# Natively orjson writes whatever is in the __dict__ of a dataclass, a cached_property for instance, and is
# slow with slots; from a dict of the fields it writes just those. And orjson 3.13.0 writes the time
# 00:00:00.010000 as 00:00:00.10000, ten times as long, so dates and times are left to msgspec.
_OPTIONS = (
    orjson.OPT_NON_STR_KEYS
    | orjson.OPT_UTC_Z  # for datetimes that are keys
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)


def field_names(cls: Any) -> tuple[str, ...]:
    """Names of the fields of a Struct, attrs class or dataclass, in their order."""
    if hasattr(cls, "__struct_fields__"):
        return tuple(cls.__struct_fields__)
    if hasattr(cls, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in cls.__attrs_attrs__)
    return tuple(field.name for field in dataclasses.fields(cls))


def field_reader(cls: type) -> Callable[[Any], dict[str, Any]]:
    """A function from an instance of a dataclass or attrs class to the dict of its fields."""
    items = ", ".join(f"{name!r}: o.{name}" for name in field_names(cls))
    # Three times as quick as any loop over the names, which are identifiers: dataclasses and attrs see to it.
    read: Callable[[Any], dict[str, Any]] = eval(f"lambda o: {{{items}}}")  # noqa: S307
    return read


def pydantic_json(instance: Any) -> bytes:
    """A pydantic model as JSON, under the names that it is read by.

    A value that does not fit its field is an error: pydantic would write it and warn, quoting the value.
    """
    body: bytes = type(instance).__pydantic_serializer__.to_json(instance, by_alias=True, warnings="error")
    return body


@lru_cache(maxsize=1024)
def _simplifier(cls: type) -> Callable[[Any], Any]:
    """How objects of a class that orjson does not know become what it knows."""
    if issubclass(cls, Decimal):
        return str
    if hasattr(cls, "__pydantic_serializer__"):
        return lambda value: orjson.Fragment(pydantic_json(value))
    if hasattr(cls, "__attrs_attrs__") or hasattr(cls, "__dataclass_fields__"):
        return field_reader(cls)
    if issubclass(cls, set | frozenset | tuple):
        return list
    return lambda value: orjson.Fragment(struct_json(value))


def _simplify(value: Any) -> Any:
    cls: type = type(value)
    return _simplifier(cls)(value)


def _simplify_for_msgspec(value: Any) -> Any:
    if hasattr(type(value), "__pydantic_serializer__"):
        return msgspec.Raw(pydantic_json(value))
    for kind in (str, int, float):
        if isinstance(value, kind):
            return getattr(kind, f"__{kind.__name__}__")(value)  # not str(value): the subclass may override it
    raise TypeError(f"objects of type {type(value).__name__} cannot be written as JSON")


struct_json = msgspec.json.Encoder(enc_hook=_simplify_for_msgspec).encode
"""JSON by msgspec: for Structs, and for what orjson does not know."""


def writer(cls: object, read: Callable[[Any], Any] | None = None) -> Callable[[Any], bytes]:
    """A function that writes objects with orjson; ``read`` is applied to each before."""
    name, dumps = type_name(cls), orjson.dumps

    def write(value: Any) -> bytes:
        try:
            return dumps(value if read is None else read(value), _simplify, _OPTIONS)
        except Exception as error:
            raise encoding_error(name, error) from cause(error)

    return write


def reader(cls: Any) -> Callable[[bytes], Any]:
    """A function that reads bodies as a type that msgspec knows, strictly.

    :raises ConfigurationError: a type in it cannot be read, or an annotation cannot be resolved.
    """
    name = type_name(cls)
    try:
        _check_readable(name, msgspec.inspect.type_info(cls), set())
        decode = msgspec.json.Decoder(cls, dec_hook=_read_nested).decode
    except ConfigurationError:
        raise
    except NameError as error:
        raise unresolved(cls, error) from error
    except Exception as error:
        raise ConfigurationError(f"{name} cannot be read from JSON: {error}") from error

    def read(body: bytes) -> Any:
        try:
            body.decode()  # msgspec does not look into what it skips
            return decode(body)
        except Exception as error:
            raise decoding_error(name, error) from cause(error)

    return read


def _read_nested(cls: Any, value: Any) -> Any:
    """Read a pydantic model inside another kind of class, or inside ``list[Model]`` or ``Model | None``."""
    try:
        return cls.__pydantic_validator__.validate_json(orjson.dumps(value))
    except ValueError as error:
        raise NestedFailure(pydantic_failure(error)[0]) from None


def _check_readable(name: str, node: Any, seen: set[int]) -> None:
    """Refuse a type that msgspec would accept now and fail to read at every message."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, msgspec.inspect.CustomType) and not hasattr(node.cls, "__pydantic_validator__"):
        raise ConfigurationError(f"{name}: {type_name(node.cls)} cannot be read from JSON")
    if isinstance(node, tuple):
        for part in node:
            _check_readable(name, part, seen)
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
        for attribute in node.__struct_fields__:
            if attribute not in ("default", "default_factory", "cls"):
                _check_readable(name, getattr(node, attribute), seen)
