"""The decisions behind ``run`` and ``tail``, as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventbus import ConfigurationError, ConnectionFailed, StopReport
from eventbus._cli.output import printable, printable_json
from eventbus._cli.serving.health import Board
from eventbus._cli.serving.http import address_of, answer
from eventbus._cli.serving.plan import (
    GIVE_UP_AFTER,
    Outcome,
    Plan,
    code_of,
    deaths_in_a_row,
    how_died,
    how_ended,
    pause_after,
)
from eventbus._cli.showing import as_json_line, as_line
from eventbus._cli.tail import Arrivals
from eventbus.transport import Incoming, Message


def incoming(body: bytes = b"{}", problem: str | None = None, **fields: Any) -> Incoming:
    values: dict[str, Any] = {"exchange": "e", "topic": "t", "id": "1", "type": "x", "body": body, **fields}
    return Incoming(message=Message(**values), consumer="tail", queue="q", problem=problem)


# -- run ----------------------------------------------------------------------------------------------------


def test_one_bus_with_one_worker_needs_no_process() -> None:
    assert Plan(("a:bus",)).in_this_process
    assert not Plan(("a:bus",), workers=2).in_this_process
    assert not Plan(("a:bus", "b:bus")).in_this_process
    assert not Plan(("a:bus",), reload=True).in_this_process


def test_every_worker_has_a_name_of_its_own() -> None:
    assert Plan(("a:bus", "b:bus")).places() == [("a:bus", "a:bus"), ("b:bus", "b:bus")]
    assert Plan(("a:bus",), workers=2).places() == [("a:bus#1", "a:bus"), ("a:bus#2", "a:bus")]


def test_pauses_grow_until_we_give_up() -> None:
    pauses = [pause_after(deaths) for deaths in range(1, GIVE_UP_AFTER + 1)]
    grown = [pause for pause in pauses if pause is not None]
    assert pauses[-1] is None
    assert grown == sorted(set(grown))
    assert len(grown) == GIVE_UP_AFTER - 1


def test_a_worker_that_has_worked_begins_anew() -> None:
    assert deaths_in_a_row(3, lived=0.1) == 4
    assert deaths_in_a_row(3, lived=60.0) == 1


def test_the_first_outcome_that_is_not_good_counts() -> None:
    good, bad, worse = Outcome(0), Outcome(78, "a"), Outcome(1, "b")
    assert good.joined(bad).joined(worse) == bad
    assert good.joined(good) == good


def test_what_was_left_behind_is_told() -> None:
    left = StopReport(abandoned=2, unknown=1)
    assert (code_of(left), code_of(StopReport())) == (1, 0)
    assert "2 handlers" in how_ended(left)
    assert "1 publishes" in how_ended(left)
    assert how_died(-9) == "SIGKILL"
    assert how_died(3) == "exit code 3"
    assert how_died(0) == "itself"


def test_ready_is_only_when_all_are(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    board = Board(file)
    assert not board.ready
    board.expect("a")
    board.expect("b")
    assert board.note("a", {"status": "ready"})
    assert not board.note("a", {"status": "ready"})
    assert (board.ready, file.exists(), answer("/ready", board)[0]) == (False, False, 503)
    board.note("b", {"status": "ready"})
    assert (board.ready, file.exists(), answer("/ready?probe", board)[0]) == (True, True, 200)
    board.note("b", {"status": "degraded"})
    assert (board.ready, file.exists()) == (False, False)
    board.note("b", {"status": "ready"})
    board.close()
    assert (board.ready, file.exists(), answer("/live", board)[0]) == (False, False, 200)


def test_a_ready_file_that_cannot_be_written_later_ends_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    board = Board(folder / "ready")
    folder.rmdir()
    board.expect("a")
    for handlers in range(3):
        board.note("a", {"status": "ready", "handlers_in_flight": handlers})
    assert board.ready
    assert [record.message for record in caplog.records] == [
        f"--ready-file {folder / 'ready'}: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        (":80", ("127.0.0.1", 80)),
        ("80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_health_is_served_on_the_loopback_unless_a_host_is_given(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1:80", "host:²"])
def test_what_is_no_address_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigurationError):
        address_of(text)


# -- tail ---------------------------------------------------------------------------------------------------


def test_a_line_has_time_topic_type_source_size_and_body() -> None:
    line = as_line(incoming(b'{"a":1}', source="shop", time=1.5), now=100.0)
    assert line == '00:00:01.500 t type=x from=shop 7 B {"a":1}'


@pytest.mark.parametrize("time", [0.0, 1e300, float("nan"), -1e300])
def test_a_message_without_a_sensible_time_has_that_of_its_arrival(time: float) -> None:
    assert as_line(incoming(time=time), now=2.0).startswith("00:00:02.000 ")


def test_long_texts_are_shortened() -> None:
    line = as_line(incoming(b"x" * 10_000, type="y" * 10_000, source="z" * 10_000), now=1.0)
    assert "10000 B" in line
    assert len(line) < 600


@pytest.mark.parametrize(
    ("body", "fields", "shown"),
    [
        (b"\xff\xfe", {}, "(2 bytes that are no text)"),
        (b"\x1f\x8b", {"content_encoding": "gzip"}, "(2 bytes, gzip)"),
        (b"plain text", {"content_type": "text/plain"}, "plain text"),
        (b"", {}, " 0 B "),
    ],
)
def test_a_body_that_is_no_json_is_shown_too(body: bytes, fields: dict[str, Any], shown: str) -> None:
    assert shown in as_line(incoming(body, **fields), now=1.0)


def test_a_message_that_could_not_be_read_says_why() -> None:
    assert "[body too large]" in as_line(incoming(problem="body too large"), now=1.0)
    assert json.loads(as_json_line(incoming(problem="body too large")))["problem"] == "body too large"


def test_a_structured_cloud_event_is_taken_apart() -> None:
    body = b'{"specversion":"1.0","id":"7","type":"orders.placed","source":"web","data":{"n":1}}'
    found = json.loads(as_json_line(incoming(body, content_type="application/cloudevents+json", type="")))
    assert (found["id"], found["type"], found["source"], found["body"]) == ("7", "orders.placed", "web", {"n": 1})
    broken = json.loads(as_json_line(incoming(b"{", content_type="application/cloudevents+json", type="")))
    assert broken["body_text"] == "{"


@pytest.mark.parametrize(
    ("body", "key", "value"),
    [
        (b'{"a": [1]}', "body", {"a": [1]}),
        (b"no json", "body_text", "no json"),
        (b"\xff", "body_base64", "/w=="),
        (b"[" * 300 + b"]" * 300, "body_text", "[" * 300 + "]" * 300),  # deeper than orjson writes
    ],
)
def test_a_json_line_holds_every_body(body: bytes, key: str, value: Any) -> None:
    assert json.loads(as_json_line(incoming(body)))[key] == value


def test_any_header_can_be_written_as_json() -> None:
    deep: Any = "end"
    for _ in range(1000):
        deep = [deep]
    headers = {"b": b"\xff", "big": 2**70, "lone": "\ud800", "deep": deep, "t": {"x": [None, True, 1.5]}, "é": "é"}
    found = json.loads(as_json_line(incoming(headers=headers)))["headers"]
    assert (found["b"], found["big"], found["lone"], found["é"]) == ("\\xff", str(2**70), "\\ud800", "é")
    assert found["t"] == {"x": [None, True, 1.5]}


def test_what_comes_too_fast_is_counted_instead_of_kept() -> None:
    arrivals = Arrivals(most=2, most_bytes=100)
    for number in range(5):
        arrivals.put(incoming(b"%d" % number))
    assert arrivals.skipped() == 3
    assert arrivals.skipped() == 0
    arrivals.put(incoming(b"x" * 200))
    assert arrivals.skipped() == 2
    kept = arrivals.get(0)
    assert kept is not None
    assert len(kept.message.body) == 200
    assert arrivals.get(0) is None


def test_what_has_arrived_is_shown_before_an_error_is_raised() -> None:
    arrivals = Arrivals()
    arrivals.put(incoming())
    arrivals.fail(ConnectionFailed("gone"))
    assert arrivals.get(0) is not None
    with pytest.raises(ConnectionFailed):
        arrivals.get(0)


# -- texts of strangers -------------------------------------------------------------------------------------


def test_a_terminal_is_told_nothing_to_act_on() -> None:
    assert printable("a\x1b[31mb\u202e\nc\x9b") == "a\\x1b[31mb\\u202e\\nc\\x9b"
    assert printable("schön 日本") == "schön 日本"


def test_json_without_such_characters_means_the_same() -> None:
    hostile = {"a": "\x9b31m\u202e\U000e0001\x7f", "é": [1]}
    text = printable_json(json.dumps(hostile, ensure_ascii=False))
    assert text.isprintable()
    assert json.loads(text) == hostile
