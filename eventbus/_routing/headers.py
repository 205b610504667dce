"""Header matches, decided as RabbitMQ 3.10's headers exchange decides them (rabbit_exchange_type_headers).

A binding's arguments name headers and the values they should have:

- ``x-match`` is ``all`` (the default) or ``any``; these look at no argument whose name begins with
  ``x-``. ``all-with-x`` and ``any-with-x`` look at every argument but ``x-match`` itself.
- ``None`` matches a header that is present, whatever its value; ``None`` too.
- Without anything to look at, ``all`` matches every message and ``any`` matches none.

Values are equal when the broker's terms are, which are not quite Python's values:

- ``1`` equals ``1.0``, but neither equals ``True`` or ``"1"``: booleans are atoms.
- Text equals the bytes of its UTF-8; a datetime equals the number of its Unix seconds.
- Decimals are compared with their scale: ``1.0`` and ``1.00`` differ.
- Inside lists and tables the types count too: ``[1]`` and ``[1.0]`` differ. Tables within a value are
  compared in the order in which they were written. An empty table equals an empty list.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from decimal import Decimal

from eventbus._errors import ConfigurationError
from eventbus._message import HeaderValue

Matcher = Callable[[Mapping[str, HeaderValue]], bool]

_MODES = ("all", "any", "all-with-x", "any-with-x")


def headers_match(arguments: Mapping[str, HeaderValue], headers: Mapping[str, HeaderValue]) -> bool:
    """Whether the headers satisfy a binding's arguments."""
    return header_matcher(arguments)(headers)


def header_matcher(arguments: Mapping[str, HeaderValue]) -> Matcher:
    """The test for a binding's arguments, prepared once for many messages.

    Arguments that the broker refuses (a wrong ``x-match``) are a ConfigurationError.
    """
    mode = arguments.get("x-match", "all")
    if not isinstance(mode, str) or mode not in _MODES:
        raise ConfigurationError(f"x-match is one of {', '.join(_MODES)}, not {mode!r}")
    with_x = mode.endswith("-with-x")
    expected = {
        name: None if value is None else _tagged(value)[1]
        for name, value in arguments.items()
        if (with_x and name != "x-match") or not name.startswith("x-")
    }
    combine = all if mode.startswith("all") else any

    def matches(headers: Mapping[str, HeaderValue]) -> bool:
        return combine(
            name in headers and (term is None or _tagged(headers[name])[1] == term) for name, term in expected.items()
        )

    return matches


def frozen_arguments(arguments: Mapping[str, HeaderValue]) -> Hashable:
    """The identity of a binding's arguments: equal when RabbitMQ takes two bindings for the same one.

    Stricter than a match, because types count: ``{"a": 1}`` and ``{"a": 1.0}`` are two bindings. The
    order of the arguments does not count, that of tables within them does.
    """
    return tuple(sorted((name, _tagged(value)) for name, value in arguments.items())) if arguments else ()


def _tagged(value: HeaderValue) -> tuple[str, Hashable]:
    """The value as the broker holds it: its type and its Erlang term.

    Terms compare with ``==`` as in Erlang: bytes are binaries, text is an atom.
    """
    match value:
        case str():
            # Whether text can be sent at all is for the encoder to say.
            return "text", value.encode(errors="surrogatepass")
        case bool():
            return "bool", "true" if value else "false"
        case int():
            return "int", value
        case float():
            return "float", value
        case None:
            return "void", "undefined"
        case bytes():
            return "bytes", value
        case datetime():
            # A datetime without a zone is taken for UTC, as by AMQP clients for Python.
            return "timestamp", calendar.timegm(value.utctimetuple())
        case Decimal() if value.is_finite():
            scale = max(0, -int(value.as_tuple().exponent))
            return "decimal", ("decimal", scale, int(value.scaleb(scale)))
        case list() | tuple():
            return "list", tuple(_tagged(item) for item in value)
        case Mapping():
            return "table", tuple((name, *_tagged(item)) for name, item in value.items())
    raise ConfigurationError(f"a header cannot hold a value of type {type(value).__qualname__}")
