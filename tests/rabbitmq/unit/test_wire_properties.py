"""Message properties: fourteen fields that come out as they went in, and as other clients see them."""

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from eventbus_rabbitmq._wire.properties import Properties, decode_properties, encode_properties
from eventbus_rabbitmq._wire.tables import LimitExceeded, Limits, MalformedData, UnsupportedValue, WireError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

TEXTS = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts | st.lists(texts, max_size=3)
headers = st.dictionaries(texts.filter(lambda text: 1 <= len(text.encode()) <= 80), values, max_size=6)


def some(text: st.SearchStrategy[str], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any selection of the properties."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(TEXTS, text) | fields)


octets = st.integers(0, 255)
times = st.integers(0, 2**64 - 1)
selections = some(texts, headers=headers, delivery_mode=octets, priority=octets, timestamp=times)
# pamqp leaves empty values out, checks the delivery mode and takes times beyond 2106 for milliseconds.
for_pamqp = some(
    texts.filter(bool),
    headers=headers.filter(bool),
    delivery_mode=st.sampled_from([1, 2]),
    priority=octets,
    timestamp=st.integers(0, 2**32 - 1),
)

FULL = Properties(
    content_type="application/json",
    content_encoding="gzip",
    headers={"a": "b", "deep": {"list": [1, "c"]}},
    delivery_mode=2,
    priority=5,
    correlation_id="c-1",
    reply_to="amq.rabbitmq.reply-to",
    expiration="60000",
    message_id="m-1",
    timestamp=1_700_000_000,
    type="orders.created",
    user_id="guest",
    app_id="orders",
    cluster_id="none",
)


def as_pamqp_has_it(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields by pamqp's names, with its idea of a timestamp."""
    theirs = {"message_type" if name == "type" else name: value for name, value in fields.items()}
    if "timestamp" in theirs:
        theirs["timestamp"] = datetime.fromtimestamp(theirs["timestamp"], UTC)
    return theirs


def by_pamqp(fields: dict[str, Any]) -> Basic.Properties:
    properties = Basic.Properties()
    for name, value in as_pamqp_has_it(fields).items():
        setattr(properties, name, value)
    return properties


class TestRoundTrips:
    @given(selections)
    def test_any_selection_of_properties_comes_out_as_it_went_in(self, fields: dict[str, Any]) -> None:
        properties = Properties(**fields)
        data = encode_properties(properties)
        assert decode_properties(data) == (properties, len(data))

    @given(selections, st.binary(max_size=12), st.binary(max_size=9))
    def test_properties_are_read_from_the_middle_of_a_frame(
        self, fields: dict[str, Any], before: bytes, after: bytes
    ) -> None:
        properties = Properties(**fields)
        data = encode_properties(properties)
        expected = (properties, len(before) + len(data))
        for kind in (bytes, bytearray, memoryview):
            assert decode_properties(kind(before + data + after), len(before)) == expected

    def test_no_properties_are_two_zero_bytes(self) -> None:
        assert encode_properties(Properties()) == b"\x00\x00"
        assert decode_properties(b"\x00\x00") == (Properties(), 2)

    def test_an_empty_text_is_not_an_absent_one(self) -> None:
        decoded, _ = decode_properties(encode_properties(Properties(reply_to="", headers={})))
        assert decoded == Properties(reply_to="", headers={})


class TestAgreementWithPamqp:
    @given(for_pamqp)
    def test_pamqp_writes_the_same_bytes(self, fields: dict[str, Any]) -> None:
        # Headers apart, for pamqp sorts them and picks the narrowest integers.
        fields.pop("headers", None)
        assert encode_properties(Properties(**fields)) == by_pamqp(fields).marshal()

    @given(for_pamqp)
    def test_pamqp_reads_what_we_write(self, fields: dict[str, Any]) -> None:
        header = ContentHeader()
        header.unmarshal(struct.pack(">HHQ", 60, 0, 7) + encode_properties(Properties(**fields)))
        expected = as_pamqp_has_it(fields)
        assert {name: getattr(header.properties, name) for name in expected} == expected

    @given(for_pamqp)
    def test_we_read_what_pamqp_writes(self, fields: dict[str, Any]) -> None:
        data = ContentHeader(body_size=7, properties=by_pamqp(fields)).marshal()
        assert decode_properties(data, 12) == (Properties(**fields), len(data))


class TestForeignValues:
    @pytest.mark.parametrize("name", TEXTS)
    def test_a_text_that_is_not_utf8_does_not_cost_the_message(self, name: str) -> None:
        data = encode_properties(Properties(**{name: "??"})).replace(b"??", b"\xffa")
        assert getattr(decode_properties(data)[0], name) == "\ufffda"

    def test_the_unused_flag_is_ignored_as_the_broker_ignores_it(self) -> None:
        assert decode_properties(b"\x00\x02") == (Properties(), 2)

    def test_a_delivery_mode_beyond_the_known_ones_is_read(self) -> None:
        assert decode_properties(b"\x10\x00\x07")[0].delivery_mode == 7


class TestNonsense:
    def test_a_second_word_of_flags_is_refused(self) -> None:
        with pytest.raises(MalformedData):
            decode_properties(b"\x00\x01\x00\x00")

    def test_every_truncation_is_refused_as_malformed(self) -> None:
        data = encode_properties(FULL)
        for length in range(len(data)):
            with pytest.raises(MalformedData):
                decode_properties(data[:length])

    def test_every_truncation_of_every_single_property_is_refused_as_malformed(self) -> None:
        for name in Properties.__struct_fields__:
            data = encode_properties(Properties(**{name: getattr(FULL, name)}))
            for length in range(len(data)):
                with pytest.raises(MalformedData):
                    decode_properties(memoryview(data)[:length])

    @pytest.mark.parametrize("offset", [-1, -2, 1, 2, 50])
    def test_an_offset_outside_the_data_is_refused(self, offset: int) -> None:
        with pytest.raises(MalformedData):
            decode_properties(b"\x00\x00", offset)

    @given(st.binary(max_size=200), st.integers(-3, 200))
    def test_random_bytes_raise_only_wire_errors(self, data: bytes, offset: int) -> None:
        try:
            _, end = decode_properties(data, offset)
        except WireError:
            return
        assert end <= len(data)

    def test_properties_with_one_changed_byte_raise_only_wire_errors(self) -> None:
        data = encode_properties(FULL)
        for position in range(len(data)):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                try:
                    decode_properties(data[:position] + bytes((value,)) + data[position + 1 :])
                except WireError:
                    pass

    def test_headers_beyond_the_limits_are_refused(self) -> None:
        with pytest.raises(LimitExceeded):
            decode_properties(encode_properties(FULL), 0, Limits(max_entries=2))


class TestRefusedValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [(name, "x" * 256) for name in TEXTS]
        + [("type", "\ud800"), ("priority", 256), ("priority", -1), ("delivery_mode", 256)]
        + [("timestamp", -1), ("timestamp", 2**64), ("headers", {"a": object()})],
    )
    def test_a_value_that_does_not_fit_is_refused_by_name(self, name: str, value: Any) -> None:
        with pytest.raises(UnsupportedValue, match=f"^{name}"):
            encode_properties(Properties(**{name: value}))
