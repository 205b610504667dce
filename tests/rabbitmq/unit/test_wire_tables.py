"""Field tables: Python's values come out again, foreign clients' are read, and nonsense is refused."""

import enum
import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import pamqp.decode
import pamqp.encode
import pytest
from eventbus_rabbitmq._wire.tables import (
    LimitExceeded,
    Limits,
    MalformedData,
    UnsupportedValue,
    WireError,
    decode_table,
    encode_shortstr,
    encode_table,
)
from hypothesis import example, given
from hypothesis import strategies as st

WIDE = Limits(max_depth=16, max_entries=100_000, max_bytes=10_000_000)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = texts.filter(lambda text: 1 <= len(text.encode()) <= 80)
decimals = st.builds(
    lambda number, scale: Decimal(f"{number}E-{scale}"), st.integers(-(2**31), 2**31 - 1), st.integers(0, 255)
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    decimals,
    times,
)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(keys, values, max_size=6)


tables = nested(scalars | st.binary(max_size=20))


def wire(*fields: tuple[str, bytes]) -> bytes:
    """A table of keys and raw values (type letter included)."""
    body = b"".join(bytes((len(key.encode()),)) + key.encode() + value for key, value in fields)
    return struct.pack(">I", len(body)) + body


def one(value: bytes) -> Any:
    """What a raw value is read as."""
    data = wire(("k", value))
    table, end = decode_table(data, 0)
    assert end == len(data)
    return table["k"]


@pytest.fixture(params=["bytes", "memoryview", "bytearray"])
def kind(request: pytest.FixtureRequest) -> Any:
    return {"bytes": bytes, "memoryview": memoryview, "bytearray": bytearray}[request.param]


class TestRoundTrips:
    @given(tables)
    def test_what_was_encoded_is_decoded_again(self, table: dict[str, Any]) -> None:
        data = encode_table(table, Limits(max_depth=16))
        assert decode_table(data, 0, WIDE) == (table, len(data))

    @given(tables, st.binary(max_size=9), st.binary(max_size=9))
    def test_a_table_is_read_from_the_middle_of_a_frame(
        self, table: dict[str, Any], before: bytes, after: bytes
    ) -> None:
        data = encode_table(table, Limits(max_depth=16))
        expected = (table, len(before) + len(data))
        assert decode_table(before + data + after, len(before), WIDE) == expected
        assert decode_table(memoryview(before + data + after), len(before), WIDE) == expected

    def test_views_and_byte_arrays_are_read_like_bytes(self, kind: Any) -> None:
        table = {"text": "a", "raw": b"\xff", "deep": {"list": [1, "b", b"c"]}}
        decoded, _ = decode_table(kind(encode_table(table)), 0)
        assert decoded == table
        assert type(decoded["raw"]) is bytes

    def test_true_stays_a_bool_and_one_an_integer(self) -> None:
        decoded, _ = decode_table(encode_table({"yes": True, "one": 1}), 0)
        assert [type(value) for value in decoded.values()] == [bool, int]

    def test_a_number_that_is_not_a_number_survives(self) -> None:
        assert math.isnan(decode_table(encode_table({"n": math.nan}), 0)[0]["n"])

    def test_a_tuple_becomes_an_array(self) -> None:
        assert decode_table(encode_table({"t": (1, (2,))}), 0)[0] == {"t": [1, [2]]}

    def test_members_of_integer_and_text_enumerations_travel_as_their_values(self) -> None:
        class Size(enum.IntEnum):
            HUGE = 2**40

        class Colour(enum.StrEnum):
            RED = "red"

        assert decode_table(encode_table({"s": Size.HUGE, "c": Colour.RED}), 0)[0] == {"s": 2**40, "c": "red"}

    def test_a_time_of_another_zone_becomes_the_same_moment_in_utc(self) -> None:
        time = datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        decoded = decode_table(encode_table({"t": time}), 0)[0]["t"]
        assert decoded == time
        assert decoded.tzinfo is UTC

    def test_fractions_of_a_second_are_cut_off_even_at_the_end_of_time(self) -> None:
        last = datetime.max.replace(tzinfo=UTC)
        assert decode_table(encode_table({"t": last}), 0)[0] == {"t": last.replace(microsecond=0)}

    def test_a_decimal_keeps_its_places_whatever_the_decimal_context(self) -> None:
        with localcontext() as context:
            context.prec = 3
            decoded = decode_table(encode_table({"d": Decimal("12345.60")}), 0)[0]["d"]
        assert str(decoded) == "12345.60"

    @pytest.mark.parametrize(("given", "expected"), [("12E3", 12000), ("-2E9", -2 * 10**9), ("0E9999", 0)])
    def test_a_decimal_with_a_positive_exponent_is_written_out(self, given: str, expected: int) -> None:
        assert decode_table(encode_table({"d": Decimal(given)}), 0)[0]["d"] == expected


class TestAgreementWithPamqp:
    @given(nested(scalars))
    def test_pamqp_reads_what_we_write(self, table: dict[str, Any]) -> None:
        data = encode_table(table, Limits(max_depth=16))
        assert pamqp.decode.field_table(data) == (len(data), table)

    # pamqp writes single precision and takes bytearray for binary values.
    @given(nested(scalars.filter(lambda v: not isinstance(v, float)) | st.floats(width=32, allow_nan=False)))
    def test_we_read_what_pamqp_writes(self, table: dict[str, Any]) -> None:
        data = pamqp.encode.field_table(table)
        assert decode_table(data, 0, WIDE) == (table, len(data))

    @given(st.binary(max_size=30))
    def test_binary_values_agree_both_ways(self, value: bytes) -> None:
        data = encode_table({"x": value})
        assert pamqp.encode.field_table({"x": bytearray(value)}) == data
        assert pamqp.decode.field_table(data)[1] == decode_table(data, 0)[0]

    @pytest.mark.parametrize("letter", "tbBsuIilLfdT")
    @given(raw=st.binary(min_size=8, max_size=8))
    @example(raw=b"\xff" * 8)
    @example(raw=b"\x80" + bytes(7))
    def test_every_fixed_type_is_read_as_pamqp_reads_it(self, letter: str, raw: bytes) -> None:
        if letter == "T":
            raw = bytes(4) + raw[4:]  # beyond the year 2106 pamqp guesses milliseconds
        size = {"t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "f": 4}.get(letter, 8)
        value = letter.encode() + raw[:size]
        expected = pamqp.decode.field_table(wire(("k", value)))[1]["k"]
        assert repr(one(value)) == repr(expected)  # repr, so that types count and NaN equals NaN

    @given(st.integers(0, 255), st.integers(-(2**31), 2**31 - 1))
    def test_every_decimal_is_read_as_pamqp_reads_it(self, scale: int, number: int) -> None:
        value = struct.pack(">cBi", b"D", scale, number)
        assert one(value) == pamqp.decode.field_table(wire(("k", value)))[1]["k"]


class TestForeignValues:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"t\x02", True),
            (b"b\xff", -1),
            (b"B\xff", 255),
            (b"s\xff\xff", -1),
            (b"u\xff\xff", 65535),
            (b"I\xff\xff\xff\xff", -1),
            (b"i\xff\xff\xff\xff", 2**32 - 1),
            (b"l" + b"\xff" * 8, -1),
            (b"L" + b"\xff" * 8, -1),
            (b"f\x3f\x80\x00\x00", 1.0),
            (b"V", None),
            (b"S\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
            (b"A\x00\x00\x00\x07S\x00\x00\x00\x02\xff\xfe", [b"\xff\xfe"]),
            (b"x\x00\x00\x00\x01a", b"a"),
            (b"T" + b"\xff" * 8, 2**64 - 1),
            (b"T" + struct.pack(">Q", 253402300800), 253402300800),
            (b"T" + bytes(8), datetime(1970, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_a_value_is_read_by_its_type_letter(self, value: bytes, expected: object) -> None:
        assert one(value) == expected
        assert type(one(value)) is type(expected)

    def test_a_key_that_is_not_utf8_is_read_with_replacement_characters(self) -> None:
        assert decode_table(b"\x00\x00\x00\x04\x02\xffaV", 0)[0] == {"\ufffda": None}

    def test_an_empty_key_is_read(self) -> None:
        assert decode_table(b"\x00\x00\x00\x02\x00V", 0)[0] == {"": None}

    def test_of_a_key_that_stands_twice_the_last_value_counts(self) -> None:
        assert decode_table(wire(("k", b"t\x00"), ("k", b"t\x01")), 0)[0] == {"k": True}


def deep_tables(levels: int) -> bytes:
    data = wire()
    for _ in range(levels - 1):
        data = wire(("k", b"F" + data))
    return data


def deep_arrays(levels: int) -> bytes:
    data = b"A" + bytes(4)
    for _ in range(levels - 1):
        data = b"A" + struct.pack(">I", len(data)) + data
    return wire(("k", data))


class TestLimits:
    @pytest.mark.parametrize("deep", [deep_tables, deep_arrays])
    def test_a_table_nested_too_deep_is_refused(self, deep: Any) -> None:
        with pytest.raises(LimitExceeded):
            decode_table(deep(700), 0)

    def test_as_many_levels_as_allowed_are_read(self) -> None:
        decode_table(deep_tables(8), 0)
        with pytest.raises(LimitExceeded):
            decode_table(deep_tables(9), 0)

    def test_as_many_entries_as_allowed_are_read_counted_over_all_levels(self) -> None:
        limits = Limits(max_entries=5)
        table = {"a": 1, "b": {"c": 2}, "d": [3]}
        assert decode_table(encode_table(table), 0, limits)[0] == table
        for more in ({**table, "e": 4}, {**table, "d": [3, 4]}, {**table, "b": {"c": 2, "x": "y"}}):
            with pytest.raises(LimitExceeded):
                decode_table(encode_table(more), 0, limits)

    def test_as_many_bytes_as_allowed_are_read(self) -> None:
        data = encode_table({"k": "x" * 100})
        assert decode_table(data, 0, Limits(max_bytes=len(data) - 4))[1] == len(data)
        with pytest.raises(LimitExceeded):
            decode_table(data, 0, Limits(max_bytes=len(data) - 5))

    def test_a_length_beyond_the_limit_is_refused_before_its_bytes_are_looked_for(self) -> None:
        with pytest.raises(LimitExceeded):
            decode_table(b"\xff\xff\xff\xff", 0)

    def test_a_depth_that_could_exhaust_the_stack_cannot_be_asked_for(self) -> None:
        for depth in (0, 65):
            with pytest.raises(ValueError, match="max_depth"):
                Limits(max_depth=depth)
        with pytest.raises(LimitExceeded):
            decode_table(deep_tables(700), 0, Limits(max_depth=64))


def everything() -> dict[str, Any]:
    return {
        "text": "grün",
        "none": None,
        "yes": True,
        "int": 1,
        "long": 2**40,
        "float": 1.5,
        "raw": b"\xff",
        "time": datetime(2024, 1, 1, tzinfo=UTC),
        "price": Decimal("9.99"),
        "list": ["a", 1, {"b": [None]}],
        "table": {"inner": {"c": "d"}, "n": 1},
    }


def lengths(data: bytes) -> Iterator[bytes]:
    """The data with each of its bytes changed in turn to values that lengths and letters dislike."""
    for position in range(len(data)):
        for value in (0, 1, 0x7F, 0xFF, *b"SFAxVtD"):
            yield data[:position] + bytes((value,)) + data[position + 1 :]


class TestNonsense:
    def test_every_truncation_is_refused_as_malformed(self, kind: Any) -> None:
        data = encode_table(everything())
        for length in range(len(data)):
            with pytest.raises(MalformedData):
                decode_table(kind(data[:length]), 0)

    def test_a_table_that_announces_less_than_it_holds_raises_only_wire_errors(self) -> None:
        data = encode_table(everything())
        for length in range(len(data) - 4):
            cut = struct.pack(">I", length) + data[4:]
            try:
                assert decode_table(cut, 0)[1] == length + 4
            except WireError:
                pass

    def test_a_table_with_one_changed_byte_raises_only_wire_errors(self) -> None:
        for changed in lengths(encode_table(everything())):
            try:
                decode_table(changed, 0)
            except WireError:
                pass

    @given(st.binary(max_size=200), st.integers(-5, 210))
    def test_random_bytes_raise_only_wire_errors(self, data: bytes, offset: int) -> None:
        try:
            decode_table(data, offset)
        except WireError:
            pass

    @given(st.lists(st.sampled_from([*b"tbBsuIilLfdDSATFVx", 0, 1, 2, 5, 255]), max_size=60).map(bytes))
    def test_random_type_letters_and_lengths_raise_only_wire_errors(self, body: bytes) -> None:
        try:
            assert decode_table(struct.pack(">I", len(body)) + body, 0)[1] == len(body) + 4
        except WireError:
            pass

    @pytest.mark.parametrize("offset", [-1, -4, 5, 100])
    def test_an_offset_outside_the_data_is_refused(self, offset: int) -> None:
        with pytest.raises(MalformedData):
            decode_table(bytes(8), offset)

    @pytest.mark.parametrize("letter", [b"\x00", b"U", b"Z", b"\xff"])
    def test_an_unknown_type_letter_is_refused(self, letter: bytes) -> None:
        with pytest.raises(MalformedData, match="unknown field type"):
            decode_table(wire(("k", letter + bytes(8))), 0)

    @pytest.mark.parametrize("letter", "SFAxtIlD")
    def test_a_value_that_runs_from_an_inner_table_into_the_outer_one_is_refused(self, letter: str) -> None:
        inner = b"F" + wire(("i", letter.encode()))
        with pytest.raises(MalformedData):
            decode_table(wire(("k", inner), ("more", b"S\x00\x00\x00\x0a0123456789")), 0)


class TestRefusedValues:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (2**63, "an int beyond 64 bits"),
            (-(2**63) - 1, "an int beyond 64 bits"),
            (object(), "a object cannot be carried"),
            ({1, 2}, "a set cannot be carried"),
            (datetime(2024, 1, 1), "a datetime without time zone"),
            (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "a datetime before 1970"),
            (Decimal("NaN"), "a Decimal that is no number"),
            (Decimal("Infinity"), "a Decimal that is no number"),
            (Decimal(2**31), "a Decimal that does not fit"),
            (Decimal("1E10"), "a Decimal that does not fit"),
            (Decimal("1E-256"), "a Decimal that does not fit"),
            (Decimal("1E999999"), "a Decimal that does not fit"),
            (Decimal("1" * 5000), "a Decimal that does not fit"),
            ("\ud800", "a str with a lone surrogate"),
            ({"k" * 256: 1}, "a key has 1 to 255 bytes"),
            ({"ü" * 128: 1}, "a key has 1 to 255 bytes"),
            ({"": 1}, "a key has 1 to 255 bytes"),
            ({"\udfff": 1}, "a str with a lone surrogate"),
            ({7: 1}, "a key is text, not int"),
        ],
    )
    def test_a_value_that_cannot_be_carried_is_named_by_its_path(self, value: object, message: str) -> None:
        with pytest.raises(UnsupportedValue) as refusal:
            encode_table({"a": {"b": [0, 1, value]}})
        assert str(refusal.value).startswith(f"headers.a.b[2]: {message}")

    def test_the_path_begins_with_the_name_of_the_table(self) -> None:
        with pytest.raises(UnsupportedValue, match=r"^arguments\.x-max-length: "):
            encode_table({"x-max-length": 2**70}, name="arguments")

    def test_a_key_of_255_bytes_is_taken(self) -> None:
        assert decode_table(encode_table({"k" * 255: 1}), 0)[0] == {"k" * 255: 1}

    def test_a_table_that_contains_itself_is_refused(self) -> None:
        table: dict[str, object] = {}
        table["self"] = table
        items: list[object] = []
        items.append(items)
        for endless in (table, {"items": items}):
            with pytest.raises(UnsupportedValue, match="nested too deep"):
                encode_table(endless)

    def test_what_may_be_written_is_what_may_be_read(self) -> None:
        table: dict[str, object] = {}
        for _ in range(7):
            table = {"k": table}
        assert decode_table(encode_table(table), 0)[0] == table
        with pytest.raises(UnsupportedValue, match="nested too deep"):
            encode_table({"k": table})


class TestShortStrings:
    @given(texts)
    def test_a_short_string_is_read_by_pamqp(self, text: str) -> None:
        data = encode_shortstr(text)
        assert pamqp.decode.short_str(data) == (len(data), text)

    @pytest.mark.parametrize("text", ["x" * 256, "ü" * 128, "\ud800"])
    def test_a_text_too_long_or_without_utf8_is_refused(self, text: str) -> None:
        with pytest.raises(UnsupportedValue):
            encode_shortstr(text)
