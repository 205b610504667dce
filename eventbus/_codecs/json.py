"""The JSON codec: event classes through their adapters, everything else by its type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from eventbus._codecs.adapters import DEFAULT_ADAPTERS, EventAdapter
from eventbus._codecs.failures import cause, decoding_error
from eventbus._codecs.values import reader, writer
from eventbus._errors import DecodingError


class JsonCodec:
    """Bodies of ``application/json``. Adapters choose how whole bodies are read and written, the first that fits.

    Encoders and decoders are for keeping: making one costs far more than calling it.
    """

    content_type = "application/json"

    def __init__(self, adapters: Sequence[EventAdapter] = DEFAULT_ADAPTERS) -> None:
        self._adapters = tuple(adapters)

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        """A function that writes objects of a class; what cannot be written is an EncodingError then."""
        adapter = self._adapter(cls)
        return writer(cls) if adapter is None else adapter.encoder(cls)

    def decoder(self, cls: object) -> Callable[[bytes], Any]:
        """A function that reads bodies as any type form; ``object``, ``Any`` and ``dict`` give plain values.

        :raises ConfigurationError: the type cannot be read from JSON.
        """
        if cls is Any or cls is object:
            return _read_plain
        if cls is dict:
            return _read_dict
        adapter = self._adapter(cls)
        return reader(cls) if adapter is None else adapter.decoder(cls)  # type: ignore[arg-type]

    def _adapter(self, cls: object) -> EventAdapter | None:
        if not isinstance(cls, type):
            return None
        return next((adapter for adapter in self._adapters if adapter.matches(cls)), None)


def _read_plain(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except Exception as error:
        raise decoding_error("JSON", error) from cause(error)


def _read_dict(body: bytes) -> Any:
    value = _read_plain(body)
    if type(value) is not dict:
        raise DecodingError(f"dict: Expected `object`, got `{type(value).__name__}`")
    return value
