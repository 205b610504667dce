"""Templates: the topic of an event from its fields, such as ``customers.registered.{country}``, and its ordering key.

A template is read and checked once, when the event class is declared, and rendered at each publish. A
field fills a word of the topic or a part of it; it never makes more or fewer words, nor wildcards.
"""

from __future__ import annotations

import string
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime
from enum import Enum, Flag
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from eventbus._errors import ConfigurationError, EncodingError
from eventbus._message import MAX_TOPIC_BYTES
from eventbus._routing import validate_topic

ToWord = Callable[[Any], str | None]
"""Writes a value as a word; None for a value that is not of the field's type."""

_WORD_TYPES = "str, int, bool, UUID, date, an Enum or a Literal of these"
_ECHOED_CHARACTERS = 40


class _Purpose(NamedTuple):
    """What fields are written for: how it is called in error texts, and what is wrong with a text for it."""

    whole: str
    part: str
    problem: Callable[[str], str | None]


def _problem(word: str) -> str | None:
    # In this order, not as a loop, because nearly all words are good and each publish asks.
    if word and "." not in word and "*" not in word and "#" not in word:
        return None
    return f"contains {next(c for c in '.*#' if c in word)!r}" if word else "is empty"


_TOPIC = _Purpose("topic", "a topic word", _problem)
_KEY = _Purpose("ordering key", "part of an ordering key", lambda text: None if text else "is empty")


class TopicTemplate:
    """A checked topic template of one event class.

    ``pattern`` is the narrowest AMQP topic pattern that matches every topic of the template: each word
    with a field is ``*``.
    """

    __slots__ = ("pattern", "render", "text")

    def __init__(self, text: str, pattern: str, render: Callable[[object], str]) -> None:
        self.text = text
        self.pattern = pattern
        self.render = render
        """The topic of one event. EncodingError when a field's value cannot be a word of a topic."""

    def __repr__(self) -> str:
        return f"TopicTemplate({self.text!r})"

    @classmethod
    def parse(cls, text: str, fields: Mapping[str, object], owner: str) -> TopicTemplate:
        """Check the template against the fields (name to resolved type hint) of the class ``owner``.

        Every mistake is a ConfigurationError that names the class. A dotted field
        (``{address.country}``) reads an attribute of a nested object with type hints of its own.
        Literal braces are doubled, as in ``str.format``.
        """
        where = f"{owner}: topic template {text!r}"
        if not text:
            raise ConfigurationError(f"{owner}: the topic template is empty")
        constants, paths = _split(text, where)
        if any("*" in constant or "#" in constant for constant in constants):
            raise ConfigurationError(f"{where} contains a wildcard: '*' and '#' belong in patterns")
        to_words = [_to_word(_hint(path, fields, where), f"{where}: field {path!r}", _TOPIC) for path in paths]
        try:
            # The shortest word has one character.
            validate_topic("_".join(constants))
        except EncodingError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        words = "*".join(constants).split(".")
        pattern = ".".join("*" if "*" in word else word for word in words)
        if not paths:
            return cls(text, pattern, lambda _: constants[0])
        layout, writers = _layout(constants), _words(paths, to_words, owner, _TOPIC)

        def render(event: object) -> str:
            topic = layout % tuple([write(event) for write in writers])
            if len(topic) > MAX_TOPIC_BYTES or not topic.isascii():
                try:
                    validate_topic(topic)
                except EncodingError as error:
                    raise EncodingError(f"{owner}: {error}; its fields are {', '.join(paths)}") from None
            return topic

        return cls(text, pattern, render)


def key_renderer(text: str, fields: Mapping[str, object], owner: str) -> Callable[[object], str]:
    """What writes the ordering key of an event of the class ``owner`` by a template; fields are as in topics.

    Every mistake in the template is a ConfigurationError that names the class.
    """
    where = f"{owner}: key template {text!r}"
    constants, paths = _split(text, where)
    if not paths:
        raise ConfigurationError(f"{where} names no field, so that all events would have one key")
    to_words = [_to_word(_hint(path, fields, where), f"{where}: field {path!r}", _KEY) for path in paths]
    layout, writers = _layout(constants), _words(paths, to_words, owner, _KEY)
    return lambda event: layout % tuple([write(event) for write in writers])


def _split(text: str, where: str) -> tuple[list[str], list[str]]:
    """The constant parts and the fields between them: one more constant than fields."""
    constants, paths = [""], []
    try:
        for constant, path, spec, conversion in string.Formatter().parse(text):
            constants[-1] += constant
            if path is None:
                continue
            if spec or conversion:
                raise ConfigurationError(f"{where}: field {path!r} has a format; fields are written plainly")
            paths.append(path)
            constants.append("")
    except ValueError as error:
        raise ConfigurationError(f"{where} cannot be read: {error}") from None
    return constants, paths


def _hint(path: str, fields: Mapping[str, object], where: str) -> object:
    """The type hint at the end of a dotted path that begins with a field."""
    name, *attributes = path.split(".")
    hint = _known(name, fields, where)
    for attribute in attributes:
        nested = _plain(hint)
        if not isinstance(nested, type) or typing.is_typeddict(nested):
            raise ConfigurationError(f"{where}: {name!r} in {path!r} is {_name(hint)} and has no attributes")
        try:
            hints = get_type_hints(nested, include_extras=True)
        except (NameError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"{where}: the types in {_name(nested)} are unknown: {error}") from None
        name, hint = attribute, _known(attribute, hints, f"{where}: {_name(nested)}")
    return hint


def _known(name: str, fields: Mapping[str, object], where: str) -> object:
    try:
        return fields[name]
    except KeyError:
        existing = ", ".join(sorted(fields)) or "none"
        raise ConfigurationError(f"{where}: there is no field {name!r}; the fields are: {existing}") from None


def _plain(hint: object) -> object:
    """The hint without Annotated, NewType and type aliases around it."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif hasattr(typing, "TypeAliasType") and isinstance(hint, typing.TypeAliasType):
            hint = hint.__value__
        else:
            return hint


def _to_word(hint: object, where: str, purpose: _Purpose) -> ToWord:
    """How values of the type become words; ConfigurationError for a type that cannot be one."""
    plain = _plain(hint)
    if get_origin(plain) in (Union, types.UnionType):
        if type(None) in get_args(plain):
            raise ConfigurationError(f"{where} may be None, and {purpose.part} may not")
        return _first([_to_word(option, where, purpose) for option in get_args(plain)])
    if get_origin(plain) is Literal:
        return _one_of(get_args(plain), where, purpose)
    if isinstance(plain, type):
        if issubclass(plain, Enum) and not issubclass(plain, Flag):
            return _one_of(tuple(plain), where, purpose)
        for kind, to_word in _TO_WORD.items():
            if issubclass(plain, kind) and not issubclass(plain, datetime | Flag):
                return to_word
    raise ConfigurationError(f"{where} is {_name(hint)}, which cannot be {purpose.part}; it may be {_WORD_TYPES}")


def _first(to_words: list[ToWord]) -> ToWord:
    def to_word(value: Any) -> str | None:
        return next((word for each in to_words if (word := each(value)) is not None), None)

    return to_word


def _one_of(options: tuple[Any, ...], where: str, purpose: _Purpose) -> ToWord:
    """For Enum and Literal: all words are known, so they are checked now and looked up later."""
    words: dict[tuple[type, Any], str] = {}
    for option in options:
        value = option.value if isinstance(option, Enum) else option
        word = next((to_word(value) for kind, to_word in _TO_WORD.items() if isinstance(value, kind)), None)
        if word is None:
            raise ConfigurationError(f"{where} may be {option!r}, which cannot be {purpose.part}")
        problem = purpose.problem(word)
        if problem:
            raise ConfigurationError(f"{where} may be {option!r}, which {problem}")
        # By type as well, because True == 1. Enums also by value: pydantic can keep that in the field.
        words[type(option), option] = words[type(value), value] = word

    def to_word(value: Any) -> str | None:
        try:
            return words.get((type(value), value))
        except TypeError:  # not hashable, so none of the options
            return None

    return to_word


_TO_WORD: Mapping[type, ToWord] = {
    str: lambda value: str.__str__(value) if isinstance(value, str) else None,
    bool: lambda value: ("true" if value else "false") if isinstance(value, bool) else None,
    int: lambda value: int.__repr__(value) if isinstance(value, int) and not isinstance(value, bool) else None,
    UUID: lambda value: str(value) if isinstance(value, UUID) else None,
    date: lambda value: date.isoformat(value) if isinstance(value, date) and not isinstance(value, datetime) else None,
}


def _layout(constants: list[str]) -> str:
    return "%s".join(constant.replace("%", "%%") for constant in constants)


def _words(paths: list[str], to_words: list[ToWord], owner: str, purpose: _Purpose) -> list[Callable[[object], str]]:
    """What reads each field of an event and writes it. EncodingError for a value that does not fit."""
    return [_word(path, to_word, owner, purpose) for path, to_word in zip(paths, to_words, strict=True)]


def _word(path: str, to_word: ToWord, owner: str, purpose: _Purpose) -> Callable[[object], str]:
    get = attrgetter(path)
    whole, part, find_problem = purpose

    def word(event: object) -> str:
        try:
            value = get(event)
        except AttributeError as error:
            raise EncodingError(f"{owner}.{path} has no value for the {whole}: {error}") from None
        try:
            written = to_word(value)
        except ValueError:  # int: more digits than Python converts
            written = None
        if written is None:
            raise EncodingError(f"{owner}.{path} cannot be {part}: {_short(value)} is not of the field's type")
        problem = find_problem(written)
        if problem:
            raise EncodingError(f"{owner}.{path} cannot be {part}: {_short(written)} {problem}")
        return written

    return word


def _short(value: object) -> str:
    """The value for an error text, unless it is long: then only its kind and size."""
    if isinstance(value, str) and len(value) > _ECHOED_CHARACTERS:
        return f"a text of {len(value)} characters"
    if isinstance(value, str | bool | None):
        return repr(value)
    return f"a value of type {type(value).__qualname__}"


def _name(hint: object) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)
