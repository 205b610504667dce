"""Bodies: each kind of class, the content types, and what errors may say."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from eventbus._codecs import DEFAULT_ADAPTERS, Codecs, JsonCodec, adapter_for
from eventbus._errors import ConfigurationError, DecodingError, EncodingError

T = TypeVar("T")
SECRET = "hunter2"
CODEC = JsonCodec()


class Color(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@dataclass
class DataLine:
    sku: str
    qty: int


@dataclass
class DataOrder:
    id: UUID
    lines: list[DataLine]
    color: Color = Color.RED
    note: str | None = None


@attrs.frozen
class AttrsLine:
    sku: str
    qty: int


@attrs.frozen
class AttrsOrder:
    id: UUID
    lines: list[AttrsLine]
    color: Color = Color.RED
    note: str | None = None


class StructLine(msgspec.Struct):
    sku: str
    qty: int


class StructOrder(msgspec.Struct):
    id: UUID
    lines: list[StructLine]
    color: Color = Color.RED
    note: str | None = None


class ModelLine(pydantic.BaseModel):
    sku: str
    qty: int


class ModelOrder(pydantic.BaseModel):
    id: UUID
    lines: list[ModelLine]
    color: Color = Color.RED
    note: str | None = None


ORDERS: list[tuple[Any, Any]] = [
    (DataOrder, DataLine),
    (AttrsOrder, AttrsLine),
    (StructOrder, StructLine),
    (ModelOrder, ModelLine),
]
STRICT = [DataOrder, AttrsOrder, StructOrder]
ID = UUID(int=7)
BODY = b'{"id":"00000000-0000-0000-0000-000000000007","lines":[{"sku":"a","qty":1}],"color":"red","note":null}'

every_kind = pytest.mark.parametrize(("order", "line"), ORDERS, ids=lambda cls: cls.__name__)
every_order = pytest.mark.parametrize("order", [order for order, _ in ORDERS])


def encode(value: Any) -> bytes:
    return CODEC.encoder(type(value))(value)


def refused(cls: object, body: bytes) -> DecodingError:
    with pytest.raises(DecodingError) as caught:
        CODEC.decoder(cls)(body)
    assert SECRET not in str(caught.value)
    link: BaseException | None = caught.value.__cause__
    while link is not None:
        assert SECRET not in str(link)
        link = link.__cause__
    return caught.value


def not_encoded(value: Any, cls: type | None = None) -> EncodingError:
    with pytest.raises(EncodingError) as caught:
        CODEC.encoder(cls or type(value))(value)
    assert SECRET not in str(caught.value)
    return caught.value


# -- there and back ---------------------------------------------------------------------------------------


@every_kind
def test_every_kind_writes_the_same_bytes_and_reads_them_back(order: Any, line: Any) -> None:
    event = order(id=ID, lines=[line(sku="a", qty=1)])
    assert encode(event) == BODY
    assert CODEC.decoder(order)(BODY) == event


@every_order
def test_unknown_fields_are_ignored(order: Any) -> None:
    event = CODEC.decoder(order)(BODY[:-1] + b',"added_later":{"x":[1,2]}}')
    assert event.note is None


@every_order
def test_of_duplicate_keys_the_last_wins(order: Any) -> None:
    assert CODEC.decoder(order)(BODY[:-1] + b',"note":"last"}').note == "last"


def test_plain_values_of_every_type_are_written() -> None:
    class Point(NamedTuple):
        x: int
        y: int

    value = {
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "east": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
        "naive": datetime(2026, 1, 2, 3, 4, 5),
        "day": date(2026, 1, 2),
        "time": time(1, 2, 3),
        "long": timedelta(days=1, seconds=5),
        "price": Decimal("1234.50"),
        "color": Color.RED,
        "size": Size.BIG,
        "raw": b"\x00\xff",
        "set": {1},
        "frozen": frozenset({2}),
        "tuple": (1, "a"),
        "point": Point(1, 2),
        5: None,
    }
    assert CODEC.decoder(dict)(encode(value)) == {
        "at": "2026-01-02T03:04:05Z",
        "east": "2026-01-02T03:04:05.000006+02:00",
        "naive": "2026-01-02T03:04:05",
        "day": "2026-01-02",
        "time": "01:02:03",
        "long": "P1DT5S",
        "price": "1234.50",
        "color": "red",
        "size": 3,
        "raw": base64.b64encode(b"\x00\xff").decode(),
        "set": [1],
        "frozen": [2],
        "tuple": [1, "a"],
        "point": [1, 2],
        "5": None,
    }


@dataclass
class DataWithAll:
    attr: AttrsLine
    struct: StructLine
    model: ModelLine


@attrs.frozen
class AttrsWithAll:
    attr: AttrsLine
    struct: StructLine
    model: ModelLine
    data: DataLine


class StructWithAll(msgspec.Struct):
    attr: AttrsLine
    struct: StructLine
    model: ModelLine
    data: DataLine


@pytest.mark.parametrize("cls", [DataWithAll, AttrsWithAll, StructWithAll])
def test_kinds_nest_in_each_other(cls: Any) -> None:
    parts: dict[str, Any] = {
        "attr": AttrsLine("a", 1),
        "struct": StructLine("a", 1),
        "model": ModelLine(sku="a", qty=1),
        "data": DataLine("a", 1),
    }
    event = cls(**{name: parts[name] for name in adapter_for(cls).fields(cls)})
    body = encode(event)
    assert CODEC.decoder(dict)(body) == {name: {"sku": "a", "qty": 1} for name in parts if hasattr(event, name)}
    assert CODEC.decoder(cls)(body) == event


def test_a_field_of_a_nested_pydantic_model_is_named_with_its_whole_path() -> None:
    error = refused(
        StructWithAll, b'{"attr":{"sku":"","qty":1},"struct":{"sku":"","qty":1},"model":{"sku":"a","qty":"hunter2"}}'
    )
    assert error.field == "model.qty"
    assert str(error).endswith("- at `$.model.qty`")


def test_lists_and_options_of_any_kind_are_read() -> None:
    assert CODEC.decoder(list[ModelLine])(b'[{"sku":"a","qty":1}]') == [ModelLine(sku="a", qty=1)]
    assert CODEC.decoder(ModelLine | None)(b"null") is None
    assert CODEC.decoder(StructLine | None)(b'{"sku":"a","qty":1}') == StructLine("a", 1)
    assert encode([ModelLine(sku="a", qty=1), AttrsLine("b", 2)]) == b'[{"sku":"a","qty":1},{"sku":"b","qty":2}]'


class Movie(TypedDict):
    title: str
    year: int


@pytest.mark.parametrize(
    ("form", "body", "value"),
    [
        (dict, b'{"a":1}', {"a": 1}),
        (object, b"[1]", [1]),
        (Any, b'"x"', "x"),
        (int, b"4", 4),
        (str, b'"x"', "x"),
        (None, b"null", None),
        (type(None), b"null", None),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (list[Decimal], b'["1.50"]', [Decimal("1.50")]),
        (Movie, b'{"title":"x","year":1}', {"title": "x", "year": 1}),
        (Annotated[int, msgspec.Meta(gt=2)], b"3", 3),
    ],
    ids=str,
)
def test_any_type_form_can_be_read(form: object, body: bytes, value: object) -> None:
    assert CODEC.decoder(form)(body) == value


@pytest.mark.parametrize(("form", "body"), [(dict, b"[1]"), (int, b'"x"'), (Movie, b"{}"), (list[int], b"{}")])
def test_any_type_form_refuses_what_does_not_fit(form: object, body: bytes) -> None:
    refused(form, body)


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: Page[T] | None = None


def test_generic_and_recursive_classes_are_read() -> None:
    page = Page([1], Page([2]))
    assert CODEC.decoder(Page[int])(encode(page)) == page
    assert refused(Page[int], b'{"items":[],"next":{"items":["x"]}}').field == "next.items[0]"


def test_a_dataclass_writes_its_fields_and_nothing_else() -> None:
    @dataclass
    class Person:
        name: str
        _born: int = 1990
        tags: list[str] = field(default_factory=list, init=False)

        @cached_property
        def token(self) -> str:
            return SECRET

    person = Person("Ada")
    assert person.token == SECRET
    assert encode(person) == b'{"name":"Ada","_born":1990,"tags":[]}'
    assert encode({"nested": [person]}) == b'{"nested":[{"name":"Ada","_born":1990,"tags":[]}]}'


@pytest.mark.parametrize("microseconds", [0, 1, 9_999, 10_000, 99_999, 100_000])
def test_times_keep_their_microseconds(microseconds: int) -> None:
    # orjson 3.13.0 by itself loses a zero from 10,000 to 99,999.
    value = time(1, 2, 3, microseconds)
    assert CODEC.decoder(dict[str, time])(encode({"x": value})) == {"x": value}
    assert encode({"x": value.replace(tzinfo=UTC)}) == b'{"x":"%sZ"}' % value.isoformat().encode()


def test_classes_with_one_field_or_none_are_written() -> None:
    assert encode(attrs.make_class("Empty", [])()) == b"{}"
    assert encode(attrs.make_class("Single", ["x"])(1)) == b'{"x":1}'


def test_tags_and_renamed_fields_of_structs_are_written_and_read() -> None:
    class Renamed(msgspec.Struct, rename="camel", tag="renamed"):
        unit_price: int

    body = encode(Renamed(1))
    assert body == b'{"type":"renamed","unitPrice":1}'
    assert CODEC.decoder(Renamed)(body) == Renamed(1)
    assert encode({"x": Renamed(1)}) == b'{"x":' + body + b"}"


def test_pydantic_models_are_written_under_the_names_that_they_are_read_by() -> None:
    class Aliased(pydantic.BaseModel):
        unit_price: int = pydantic.Field(alias="unitPrice")

    body = encode(Aliased(unitPrice=1))
    assert body == b'{"unitPrice":1}'
    assert CODEC.decoder(Aliased)(body) == Aliased(unitPrice=1)


def test_pydantic_dataclasses_go_through_pydantic() -> None:
    @pydantic.dataclasses.dataclass
    class Point:
        x: int

    assert adapter_for(Point).name == "pydantic model"
    assert CODEC.decoder(Point)(encode(Point(1))) == Point(1)
    assert encode([Point(1)]) == b'[{"x":1}]'


def test_subclasses_of_str_and_numbers_are_written_as_what_they_are() -> None:
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "overridden"

    class Any_(msgspec.Struct):
        x: Any

    assert encode(Any_([Name("a"), type("I", (int,), {})(4), type("F", (float,), {})(1.5)])) == b'{"x":["a",4,1.5]}'
    assert encode({"x": Name("a")}) == b'{"x":"a"}'


# -- what does not fit ------------------------------------------------------------------------------------


@every_order
def test_a_wrong_type_names_class_and_path_and_echoes_nothing(order: Any) -> None:
    error = refused(order, BODY.replace(b'"qty":1', b'"qty":"hunter2"'))
    assert error.field == "lines[0].qty"
    assert str(error).startswith(f"{order.__name__}: ")
    assert "at `$.lines[0].qty`" in str(error)


@pytest.mark.parametrize("order", STRICT)
def test_the_text_tells_what_was_expected_and_what_came(order: Any) -> None:
    error = refused(order, BODY.replace(b'"qty":1', b'"qty":"x"'))
    assert str(error) == f"{order.__name__}: Expected `int`, got `str` - at `$.lines[0].qty`"


@every_order
def test_a_missing_field_is_named(order: Any) -> None:
    assert (
        refused(order, b'{"id":"00000000-0000-0000-0000-000000000007","lines":[{"sku":"a"}]}').field == "lines[0].qty"
    )
    assert refused(order, b'{"id":"00000000-0000-0000-0000-000000000007"}').field == "lines"


@every_order
def test_a_body_of_another_shape_has_no_field(order: Any) -> None:
    assert refused(order, b"[1]").field is None


@every_order
@pytest.mark.parametrize("value", [b'"hunter2"', b'"hunter2 - at `$.x`"', b'"hunter2\\n - at `$.x`"'])
def test_an_unknown_enum_value_is_not_echoed(order: Any, value: bytes) -> None:
    assert refused(order, BODY.replace(b'"red"', value)).field == "color"


@every_order
def test_a_malformed_uuid_is_not_echoed(order: Any) -> None:
    error = refused(order, BODY.replace(str(ID).encode(), b"~hunter2"))
    assert error.field == "id"
    assert "~" not in str(error)


def test_pydantic_tells_the_first_error_and_counts_the_rest() -> None:
    error = refused(ModelOrder, b'{"id":"hunter2","lines":[{"sku":1},{}]}')
    assert error.field == "id"
    assert "(and 4 more) - at `$.id`" in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_tags_are_not_echoed() -> None:
    class Cat(msgspec.Struct, tag="cat"):
        pass

    class Dog(msgspec.Struct, tag="dog"):
        pass

    assert refused(list[Cat | Dog], b'[{"type":"hunter2"}]').field == "[0].type"

    class CatModel(pydantic.BaseModel):
        kind: Annotated[str, pydantic.Field()] = "cat"

    class Zoo(pydantic.BaseModel):
        pet: Annotated[
            Annotated[CatModel, pydantic.Tag("cat")] | Annotated[int, pydantic.Tag("int")],
            pydantic.Discriminator(lambda value: value["kind"]),
        ]

    assert refused(Zoo, b'{"pet":{"kind":"hunter2"}}').field == "pet"


def test_keys_of_dicts_are_told_as_keys() -> None:
    error = refused(dict[str, dict[int, int]], b'{"a":{"hunter2":1}}')
    assert error.field == "[...]"
    assert "at a key in `$[...]`" in str(error)


def test_a_value_error_of_the_class_itself_is_passed_on() -> None:
    @dataclass
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.high < self.low:
                raise ValueError("low is above high")

    assert "Range: low is above high" in str(refused(Range, b'{"low":2,"high":1}'))


def test_validators_of_attrs_name_the_attribute_and_not_the_value() -> None:
    @attrs.define
    class Login:
        password: str = attrs.field(validator=attrs.validators.max_len(3))
        user: str = attrs.field(default="ada", validator=attrs.validators.matches_re("[a-z]+"))
        role: Any = attrs.field(
            default="a", validator=attrs.validators.or_(attrs.validators.in_("ab"), attrs.validators.in_("cd"))
        )

    assert refused(Login, b'{"password":"hunter2"}').field == "password"
    assert refused(list[Login], b'[{"password":"x","user":"hunter2"}]').field == "[0].user"
    assert refused(list[Login], b'[{"password":"x","role":"hunter2"}]').field == "[0].role"


def test_other_errors_of_the_class_itself_do_not_escape() -> None:
    @dataclass
    class Broken:
        x: int

        def __post_init__(self) -> None:
            raise KeyError("x")

    error = refused(Broken, b'{"x":1}')
    assert str(error) == "Broken: KeyError in the code of the class"
    assert isinstance(error.__cause__, KeyError)


# -- bodies that are no JSON ------------------------------------------------------------------------------

FORMS: list[Any] = [dict, object, list[int], Movie, *(order for order, _ in ORDERS)]


NO_JSON = {
    "empty": b"",
    "cut short": b"{",
    "half a word": b"nul",
    "no UTF-8": b"\xff",
    "a string of no UTF-8": b'"\xff"',
    "a field of no UTF-8": b'{"note":"\xff"}',
    "an unknown field of no UTF-8": BODY[:-1] + b',"zz":"\xff"}',
    "NaN": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "NaN in a field": b'{"note":NaN}',
    "infinity in an unknown field": BODY[:-1] + b',"zz":Infinity}',
    "more behind it": BODY + b"x",
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"zz":' * 100_000,
    "deep arrays in an unknown field": BODY[:-1] + b',"zz":' + b"[" * 100_000,
}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_a_decoding_error(form: Any, body: bytes) -> None:
    refused(form, body)


def test_a_secret_near_broken_json_is_in_no_error() -> None:
    for form in FORMS:
        error = refused(form, b'{"note":"hunter2",}')
        assert error.__cause__ is None


# -- what cannot be written -------------------------------------------------------------------------------


class Stranger:
    def __repr__(self) -> str:
        return SECRET


@dataclass
class DataAny:
    x: Any


@attrs.define
class AttrsAny:
    x: Any


class StructAny(msgspec.Struct):
    x: Any


class ModelAny(pydantic.BaseModel):
    x: Any


ANY: list[Callable[..., Any]] = [DataAny, AttrsAny, StructAny, ModelAny, dict]
every_any = pytest.mark.parametrize("make", ANY)


@every_any
@pytest.mark.parametrize("value", [Stranger(), {Stranger()}, [Stranger()], {"k": (Stranger(),)}, object])
def test_an_object_that_json_does_not_know_is_an_encoding_error(make: Any, value: Any) -> None:
    error = not_encoded(make(x=value))
    assert str(error).startswith(f"{make.__name__}: ")


@every_any
def test_text_that_is_no_unicode_is_an_encoding_error_without_its_value(make: Any) -> None:
    error = not_encoded(make(x="hunter2\ud800"))
    link: BaseException | None = error
    while link is not None:
        assert not isinstance(link, UnicodeError)
        link = link.__cause__


@every_any
def test_endless_nesting_is_an_encoding_error(make: Any) -> None:
    endless: list[Any] = []
    endless.append(endless)
    not_encoded(make(x=endless))


@pytest.mark.parametrize("make", [DataAny, AttrsAny, dict])
def test_an_integer_above_64_bits_is_an_encoding_error(make: Any) -> None:
    error = not_encoded(make(x=2**64))
    assert str(error) == f"{make.__name__}: Integer exceeds 64-bit range"
    assert isinstance(error.__cause__, TypeError)


@pytest.mark.parametrize("make", [StructAny, ModelAny])
def test_structs_and_pydantic_models_write_integers_above_64_bits(make: Any) -> None:
    assert CODEC.decoder(make)(encode(make(x=2**64))).x == 2**64


def test_a_value_that_does_not_fit_a_pydantic_model_is_named_and_not_echoed(recwarn: pytest.WarningsRecorder) -> None:
    line = ModelLine(sku="a", qty=1)
    line.qty = SECRET  # type: ignore[assignment]
    error = not_encoded(line)
    assert str(error) == "ModelLine: Expected `int` in field `qty`"
    assert error.__cause__ is None
    assert not_encoded({"nested": line}).__cause__ is None
    assert not recwarn.list


def test_an_attribute_that_was_never_set_is_an_encoding_error() -> None:
    line = AttrsLine.__new__(AttrsLine)
    assert "AttrsLine: " in str(not_encoded(line))


def test_a_private_attribute_of_an_attrs_class_is_written_and_read() -> None:
    @attrs.define
    class Hidden:
        shown: int
        _hidden: int

    hidden = Hidden(1, hidden=2)
    assert CODEC.decoder(Hidden)(encode(hidden)) == hidden


# -- kinds and fields -------------------------------------------------------------------------------------


@every_order
def test_fields_are_told_by_name_with_resolved_types(order: Any) -> None:
    fields = adapter_for(order).fields(order)
    assert list(fields) == ["id", "lines", "color", "note"]
    assert fields["id"] is UUID
    assert fields["note"] == str | None


def test_class_variables_are_no_fields_and_annotations_are_kept() -> None:
    @dataclass
    class Tagged:
        x: Annotated[int, "extra"]
        limit: ClassVar[int] = 3

    assert adapter_for(Tagged).fields(Tagged) == {"x": Annotated[int, "extra"]}


def test_a_class_may_mention_itself_before_its_name_is_bound() -> None:
    seen: list[dict[str, object]] = []

    def declare(cls: type) -> type:
        seen.append(adapter_for(cls).fields(cls))
        return cls

    @declare
    @dataclass
    class Node:
        child: Node | None = None

    assert seen == [{"child": Node | None}]


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    class Local(msgspec.Struct):
        x: int

    @dataclass
    class Outer:
        inner: list[Local]

    with pytest.raises(ConfigurationError, match=r"Outer: .*'list\[Local\]' of field `inner`.*'Local' is not defined"):
        adapter_for(Outer).fields(Outer)
    with pytest.raises(ConfigurationError, match=r"Outer: .*'list\[Local\]' of field `inner`.*'Local' is not defined"):
        CODEC.decoder(Outer)


def test_pydantic_models_resolve_classes_of_the_function_around_them() -> None:
    class Local(pydantic.BaseModel):
        x: int

    class Outer(pydantic.BaseModel):
        inner: Local

    assert adapter_for(Outer).fields(Outer) == {"inner": Local}


def test_a_pydantic_model_that_is_not_complete_is_a_configuration_error() -> None:
    class Later(pydantic.BaseModel):
        inner: Nowhere  # type: ignore[name-defined]  # noqa: F821

    for use in (CODEC.encoder, CODEC.decoder, adapter_for(Later).fields):
        with pytest.raises(ConfigurationError, match=r"Later: .*Nowhere"):
            use(Later)


def test_a_type_that_cannot_be_read_is_a_configuration_error_and_not_one_of_every_message() -> None:
    with pytest.raises(ConfigurationError, match="DataStranger: Stranger cannot be read from JSON"):
        CODEC.decoder(DataStranger)
    with pytest.raises(ConfigurationError, match="cannot be read from JSON"):
        CODEC.decoder(list[Stranger] | int)
    with pytest.raises(ConfigurationError, match="cannot be read from JSON"):
        CODEC.decoder(StructLine | StructOrder)


@dataclass
class DataStranger:
    x: dict[str, list[Stranger | None]]


def test_a_class_of_no_known_kind_is_told_which_kinds_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"Stranger .*msgspec\.Struct, pydantic model, attrs class, dataclass"):
        adapter_for(Stranger)


class StrangerAdapter:
    name = "stranger"

    def matches(self, cls: type) -> bool:
        return issubclass(cls, Stranger)

    def fields(self, cls: type) -> dict[str, object]:
        return {}

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        return lambda event: b"{}"

    def decoder(self, cls: type) -> Callable[[bytes], Any]:
        return lambda body: cls()


def test_further_adapters_add_kinds() -> None:
    codec = JsonCodec(adapters=(StrangerAdapter(), *DEFAULT_ADAPTERS))
    assert codec.encoder(Stranger)(Stranger()) == b"{}"
    assert isinstance(codec.decoder(Stranger)(b"{}"), Stranger)
    assert codec.encoder(DataLine)(DataLine("a", 1)) == b'{"sku":"a","qty":1}'


# -- content types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        " application/json ",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "text/json",
        "application/cloudevents+json",
        "application/vnd.shop+json; v=1",
    ],
)
def test_json_has_many_names(content_type: str | None) -> None:
    assert isinstance(Codecs().get(content_type), JsonCodec)


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonx", "application/x-python-pickle", "json"])
def test_an_unknown_content_type_is_a_decoding_error_that_names_it(content_type: str) -> None:
    with pytest.raises(DecodingError, match=rf"'{content_type}' is not understood.*application/json.*\+json"):
        Codecs().get(content_type)


def test_a_very_long_content_type_is_cut_in_the_error() -> None:
    with pytest.raises(DecodingError) as caught:
        Codecs().get("x" * 10_000)
    assert len(str(caught.value)) < 300


class Plain:
    def __init__(self, content_type: str) -> None:
        self.content_type = content_type

    def encoder(self, cls: type) -> Callable[[Any], bytes]:
        return lambda value: str(value).encode()

    def decoder(self, cls: object) -> Callable[[bytes], Any]:
        return lambda body: body.decode()


def test_further_codecs_are_found_by_their_content_type() -> None:
    plain = Plain("Text/Plain")
    codecs = Codecs([plain])
    assert codecs.get("text/plain; charset=utf-8") is plain
    assert isinstance(codecs.get(None), JsonCodec)
    with pytest.raises(DecodingError, match="application/json, text/json, text/plain"):
        codecs.get("image/png")


def test_a_codec_may_replace_json_or_take_a_json_type_of_its_own() -> None:
    json, special = Plain("application/json"), Plain("application/special+json")
    codecs = Codecs([json, special])
    assert [codecs.get(name) for name in (None, "text/json", "application/x+json")] == [json] * 3
    assert codecs.get("application/special+json") is special


def test_pydantic_and_attrs_are_not_imported() -> None:
    code = "import sys, eventbus._codecs; print({'pydantic', 'pydantic_core', 'attr', 'attrs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
