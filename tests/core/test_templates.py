"""Topic templates: checked when an event class is declared, rendered for each event."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus._errors import ConfigurationError, EncodingError
from eventbus._routing import topic_matches
from eventbus._templates import TopicTemplate


class Country(enum.Enum):
    NORWAY = "no"
    SPAIN = "es"


class Tier(enum.IntEnum):
    FREE = 0
    PAID = 1


class Plan(enum.StrEnum):
    BASIC = "basic"


class Version(enum.Enum):
    FIRST = "1.0"


class Rights(enum.IntFlag):
    READ = 1


@dataclass
class Address:
    country: Country
    street: str | None = None


class Looseness(TypedDict):
    country: str


@dataclass
class Unreadable:
    country: "Missing"  # type: ignore[name-defined]  # noqa: F821, UP037


CustomerId = NewType("CustomerId", UUID)


def topic_of(text: str, fields: dict[str, object], **values: Any) -> str:
    return TopicTemplate.parse(text, fields, "Registered").render(SimpleNamespace(**values))


def test_a_template_without_fields_is_the_topic_of_every_event() -> None:
    template = TopicTemplate.parse("customers.registered", {"id": UUID}, "Registered")

    assert template.render(object()) == "customers.registered"
    assert template.pattern == "customers.registered"


@pytest.mark.parametrize(
    ("hint", "value", "word"),
    [
        (str, "no", "no"),
        (str, "Ålesund", "Ålesund"),
        (str, "100 %s {x}", "100 %s {x}"),
        (str, Plan.BASIC, "basic"),
        (int, -5, "-5"),
        (int, Tier.PAID, "1"),
        (bool, True, "true"),
        (bool, False, "false"),
        (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (CustomerId, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date, date(2024, 2, 29), "2024-02-29"),
        (Country, Country.NORWAY, "no"),
        (Country, "no", "no"),
        (Tier, Tier.PAID, "1"),
        (Plan, Plan.BASIC, "basic"),
        (Literal["a", 1, True], "a", "a"),
        (Literal["a", 1, True], 1, "1"),
        (Literal["a", 1, True], True, "true"),
        (Literal[Country.NORWAY], Country.NORWAY, "no"),
        (Annotated[str, "length 2"], "no", "no"),
        (int | str, 7, "7"),
        (Union[UUID, str], "x", "x"),  # noqa: UP007
    ],
)
def test_a_value_of_an_allowed_type_becomes_a_word(hint: object, value: object, word: str) -> None:
    assert topic_of("a.{field}", {"field": hint}, field=value) == f"a.{word}"


@pytest.mark.parametrize(
    "hint", [float, bytes, list[str], dict[str, str], tuple[int, ...], Address, datetime, Rights, object, Any]
)
def test_a_field_whose_type_cannot_be_a_word_is_refused_when_the_class_is_declared(hint: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^Registered: .*field 'field' is .* cannot be a topic word"):
        TopicTemplate.parse("a.{field}", {"field": hint}, "Registered")


@pytest.mark.parametrize("hint", [str | None, Optional[int], Annotated[str | None, 1], Literal["a", None]])  # noqa: UP045
def test_a_field_that_may_be_none_is_refused_when_the_class_is_declared(hint: object) -> None:
    with pytest.raises(ConfigurationError, match="'field' may be None"):
        TopicTemplate.parse("a.{field}", {"field": hint}, "Registered")


@pytest.mark.parametrize(
    ("hint", "problem"),
    [(Version, r"contains '\.'"), (Literal["ok", ""], "is empty"), (Literal["*"], r"contains '\*'")],
)
def test_an_enum_or_literal_with_a_member_that_is_no_word_is_refused(hint: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        TopicTemplate.parse("a.{field}", {"field": hint}, "Registered")


def test_an_unknown_field_is_refused_with_the_names_of_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"^Registered: .*no field 'contry'; the fields are: country, id"):
        TopicTemplate.parse("a.{contry}", {"id": UUID, "country": str}, "Registered")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a.*", "wildcard"),
        ("a.{id}.#", "wildcard"),
        ("a.{id", "cannot be read"),
        ("a.id}", "cannot be read"),
        ("a.{}", "no field ''"),
        ("a.{0}", "no field '0'"),
        ("a.{id[0]}", "no field 'id\\[0\\]'"),
        ("a.{id:>8}", "format"),
        ("a.{id!r}", "format"),
        ("a" * 256, "256 bytes"),
        ("é" * 127 + "a{id}", "256 bytes"),
    ],
)
def test_a_template_that_makes_no_topic_is_refused_when_the_class_is_declared(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        TopicTemplate.parse(text, {"id": int}, "Registered")
    assert str(refused.value).startswith("Registered: ")


def test_several_fields_may_share_a_word() -> None:
    fields: dict[str, object] = {"a": str, "b": int}
    template = TopicTemplate.parse("x.{a}-{b}.y.pre_{b}.{{%s}}", fields, "Registered")

    assert template.render(SimpleNamespace(a="k", b=2)) == "x.k-2.y.pre_2.{%s}"
    assert template.pattern == "x.*.y.*.{%s}"


def test_a_dotted_field_reads_an_attribute_of_a_nested_object() -> None:
    template = TopicTemplate.parse("a.{address.country}", {"address": Address}, "Registered")

    assert template.render(SimpleNamespace(address=Address(Country.SPAIN))) == "a.es"
    assert template.pattern == "a.*"
    with pytest.raises(EncodingError, match=r"Registered\.address\.country has no value"):
        template.render(SimpleNamespace(address=None))


@pytest.mark.parametrize(
    ("hint", "path", "problem"),
    [
        (Address, "field.city", "Address: there is no field 'city'; the fields are: country, street"),
        (Address, "field.street", "'field.street' may be None"),
        (Address | None, "field.country", "has no attributes"),
        (list[str], "field.country", "has no attributes"),
        (Looseness, "field.country", "has no attributes"),
        (str, "field.upper", "no field 'upper'"),
        (Unreadable, "field.country", "types in Unreadable are unknown: .*Missing"),
    ],
)
def test_a_dotted_field_is_checked_when_the_class_is_declared(hint: object, path: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        TopicTemplate.parse(f"a.{{{path}}}", {"field": hint}, "Registered")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "'' is empty"),
        ("a.b", r"'a\.b' contains '\.'"),
        ("*", r"'\*' contains '\*'"),
        ("a#", "'a#' contains '#'"),
        (None, "None is not of the field's type"),
        (5, "a value of type int is not of the field's type"),
    ],
)
def test_a_value_that_is_no_word_is_an_encoding_error_with_class_and_field(value: object, problem: str) -> None:
    with pytest.raises(EncodingError, match=r"^Registered\.field cannot be a topic word: " + problem):
        topic_of("a.{field}", {"field": str}, field=value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, True),
        (int, "5"),
        (bool, 1),
        (date, datetime(2024, 2, 29)),
        (UUID, "00000000-0000-0000-0000-000000000001"),
        (Country, "NORWAY"),
        (Country, ["no"]),
        (Literal[1], True),
        (int | UUID, "x"),
    ],
)
def test_a_value_of_another_type_than_the_field_has_is_an_encoding_error(hint: object, value: object) -> None:
    with pytest.raises(EncodingError, match="not of the field's type"):
        topic_of("a.{field}", {"field": hint}, field=value)


def test_a_long_value_is_not_echoed() -> None:
    with pytest.raises(EncodingError, match="a text of 1001 characters contains") as refused:
        topic_of("a.{field}", {"field": str}, field="secret" + "x" * 994 + ".")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("value", ["x" * 254, "é" * 127, "\ud800"])
def test_a_topic_that_does_not_fit_in_255_bytes_of_utf_8_is_an_encoding_error(value: str) -> None:
    with pytest.raises(EncodingError, match=r"^Registered: the topic (has 256 bytes|cannot .* UTF-8).*field"):
        topic_of("a.{field}", {"field": str}, field=value)


def test_an_integer_with_more_digits_than_python_writes_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match=r"Registered\.field"):
        topic_of("a.{field}", {"field": int}, field=10**5000)


constants = st.text(st.sampled_from("ab.é%-"), max_size=6)


@given(st.lists(st.tuples(constants, st.sampled_from(["name", "number"])), max_size=4), constants, st.data())
def test_the_pattern_of_a_template_matches_each_topic_that_it_renders(
    parts: list[tuple[str, str]], end: str, data: st.DataObject
) -> None:
    text = "".join(f"{constant}{{{field}}}" for constant, field in parts) + end or "a"
    template = TopicTemplate.parse(text, {"name": str, "number": int}, "Registered")
    name = data.draw(st.text(st.sampled_from("xyé{}%"), min_size=1, max_size=5))
    number = data.draw(st.integers())

    topic = template.render(SimpleNamespace(name=name, number=number))

    assert topic == text.replace("{number}", str(number)).replace("{name}", name)
    assert topic_matches(template.pattern, topic)
    assert topic.count(".") == text.count(".")
