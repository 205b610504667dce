"""Which codec reads and writes which content type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from eventbus._codecs.json import JsonCodec
from eventbus._errors import DecodingError

_ECHOED_CHARACTERS = 100


class Codec(Protocol):
    """Bodies of one content type, such as ``application/json``."""

    content_type: str

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        """A function that writes objects of a class, raising EncodingError."""
        ...

    def decoder(self, cls: object) -> Callable[[bytes], Any]:
        """A function that reads bodies as any type form, raising DecodingError."""
        ...


class Codecs:
    """Codecs by content type: JSON, and the extra ones, which may also replace JSON."""

    def __init__(self, extra: Iterable[Codec] = ()) -> None:
        self._by_type: dict[str, Codec] = {"application/json": JsonCodec()}
        self._by_type.update((_bare(codec.content_type), codec) for codec in extra)
        self._json = self._by_type["application/json"]
        self._by_type.setdefault("text/json", self._json)

    def get(self, content_type: str | None) -> Codec:
        """The codec of a content type; parameters do not count, and a missing one is JSON.

        :raises DecodingError: nothing here understands it.
        """
        if not content_type:
            return self._json
        codec = self._by_type.get(content_type)
        if codec is not None:
            return codec
        bare = _bare(content_type)
        codec = self._by_type.get(bare)
        if codec is not None:
            return codec
        if not bare or bare.endswith("+json"):
            return self._json
        understood = ", ".join(sorted(self._by_type))
        raise DecodingError(
            f"content type {content_type[:_ECHOED_CHARACTERS]!r} is not understood; "
            f"understood are {understood} and types that end in +json"
        )


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
