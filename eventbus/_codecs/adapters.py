"""Kinds of event classes, told apart by what they carry: pydantic and attrs are never imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, get_type_hints

import orjson

from eventbus._codecs.failures import cause, decoding_error, encoding_error, unresolved
from eventbus._codecs.values import field_names, field_reader, pydantic_json, reader, struct_json, writer
from eventbus._errors import ConfigurationError


class EventAdapter(Protocol):
    """How one kind of class (dataclass, Struct, ...) becomes bytes and comes back.

    Encoders and decoders are made once for each class, so making them may take its time.
    """

    name: str

    def matches(self, cls: type) -> bool:
        """Whether the class is of this kind."""
        ...

    def fields(self, cls: type) -> dict[str, object]:
        """Its fields by name, with resolved types. ConfigurationError if an annotation cannot be resolved."""
        ...

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        """A function that writes an instance, raising EncodingError."""
        ...

    def decoder(self, cls: type) -> Callable[[bytes], Any]:
        """A function that reads an instance, raising DecodingError with the path of the field."""
        ...


class FieldsAdapter:
    """Dataclasses and attrs classes: written by orjson from their fields, read strictly by msgspec.

    msgspec runs ``__post_init__`` and attrs validators, but neither ``__init__`` nor attrs converters.
    """

    def __init__(self, name: str, marker: str) -> None:
        self.name = name
        self._marker = marker

    def matches(self, cls: type) -> bool:
        return hasattr(cls, self._marker)

    def fields(self, cls: type) -> dict[str, object]:
        hints = _hints(cls)
        return {name: hints[name] for name in field_names(cls) if name in hints}

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        return writer(cls, field_reader(cls))

    def decoder(self, cls: type) -> Callable[[bytes], Any]:
        return reader(cls)


class StructAdapter(FieldsAdapter):
    """Classes of msgspec: it knows their tags and renamed fields, so it writes them too."""

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        name = cls.__name__

        def encode(event: Any) -> bytes:
            try:
                return struct_json(event)
            except Exception as error:
                raise encoding_error(name, error) from cause(error)

        return encode


class PydanticAdapter:
    """pydantic models and dataclasses: pydantic writes and reads them, by alias and as lax as they are.

    A number too large for a float, such as 1e999, is read as infinity, and so is the string "Infinity" in a
    float field, unless the model says ``allow_inf_nan=False``.
    """

    name = "pydantic model"

    def matches(self, cls: type) -> bool:
        return hasattr(cls, "__pydantic_validator__")

    def fields(self, cls: type) -> dict[str, object]:
        model: Any = cls
        if not getattr(model, "__pydantic_complete__", True):
            hints = _hints(cls)
            return {name: hints[name] for name in model.__pydantic_fields__}
        # pydantic has resolved these itself, in functions too.
        return {name: field.annotation for name, field in model.__pydantic_fields__.items()}

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        name = cls.__name__
        _check_complete(cls)

        def encode(event: Any) -> bytes:
            try:
                return pydantic_json(event)
            except Exception as error:
                raise encoding_error(name, error) from cause(error)

        return encode

    def decoder(self, cls: type) -> Callable[[bytes], Any]:
        name = cls.__name__
        _check_complete(cls)
        validate = cls.__pydantic_validator__.validate_json  # type: ignore[attr-defined]

        def decode(body: bytes) -> Any:
            try:
                if b"N" in body or b"I" in body:
                    orjson.loads(body)  # pydantic takes NaN and Infinity, which are no JSON
                return validate(body)
            except Exception as error:
                raise decoding_error(name, error) from cause(error)

        return decode


# attrs and pydantic can decorate classes that look like dataclasses too, so these come last.
DEFAULT_ADAPTERS: Sequence[EventAdapter] = (
    StructAdapter("msgspec.Struct", "__struct_fields__"),
    PydanticAdapter(),
    FieldsAdapter("attrs class", "__attrs_attrs__"),
    FieldsAdapter("dataclass", "__dataclass_fields__"),
)


def adapter_for(cls: type, adapters: Sequence[EventAdapter] = DEFAULT_ADAPTERS) -> EventAdapter:
    """The first adapter that fits the class.

    :raises ConfigurationError: none fits.
    """
    for adapter in adapters:
        if adapter.matches(cls):
            return adapter
    understood = ", ".join(adapter.name for adapter in adapters)
    raise ConfigurationError(
        f"{cls.__name__} is of no kind that can be an event; understood are: {understood}. "
        "A decorator that makes it one, such as @dataclass, goes below ours"
    )


def _hints(cls: type) -> dict[str, Any]:
    try:
        # The class may be mentioned in its own fields, and its name is not bound yet when it is declared.
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except Exception as error:
        raise unresolved(cls, error) from error


def _check_complete(cls: Any) -> None:
    """Have pydantic resolve now what it put off when the class was made."""
    try:
        _ = cls.__pydantic_validator__.validate_json, cls.__pydantic_serializer__.to_json
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"{cls.__name__}: pydantic cannot build this class: {reason}") from error
