"""A few faults of the suite in every test run, and the judge judged: what it must find, it finds.

All faults: ``make test-faults``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.catalogue import SHORT, faults
from tests.faults.controls import CONTROLS, once
from tests.faults.oracle import Rules, judge
from tests.faults.proxy import Frames
from tests.faults.records import Log
from tests.faults.suite import Suite

RULES = Rules(groups=("ordered", "parallel"), timeout=5.0, concurrency=2, window=10, resends=False, losses=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(tmp_path_factory.mktemp("faults")) as suite:
        yield suite


@pytest.mark.parametrize("name", SHORT)
def test_nothing_confirmed_is_lost(name: str, suite: Suite) -> None:
    seed = random.randrange(1_000_000)
    result = suite.once(faults()[name](), seed)
    assert result.invalid is None, f"seed {seed}: the fault did not happen: {result.invalid}"
    assert not result.problems, f"seed {seed}, records in {result.folder}"
    for verdict in result.verdicts.values():
        assert verdict.counts["confirmed"] >= 40
        assert verdict.counts["lost"] == 0
        assert verdict.recovery is not None


def test_a_broken_variant_is_caught(suite: Suite) -> None:
    one = next(one for one in CONTROLS if one.mutant == "mandatory_off")
    assert once(suite, one, random.randrange(1_000_000)).caught


# -- the judge ------------------------------------------------------------------------------------------------


class Story:
    """Records as programs write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.numbers = 0

    def tell(self, kind: str, **fact: Any) -> None:
        self.now += 0.01
        with (self.folder / "records.jsonl").open("a") as file:
            file.write(json.dumps({"t": self.now, "pid": 1, "kind": kind, **fact}) + "\n")

    def publish(self, id_: str, outcome: str | None = "confirmed", **more: Any) -> None:
        self.tell("attempt", id=id_, key="k", seq=int(id_))
        if outcome is not None:
            self.tell("outcome", id=id_, outcome=outcome, **more)

    def begin(self, group: str, id_: str, **more: Any) -> int:
        self.numbers += 1
        known = {"mid": f"m{id_}", "attempt": 1, "redelivered": False, "key": "k", "seq": int(id_)}
        self.tell("begin", group=group, n=self.numbers, id=id_, **{**known, **more})
        return self.numbers

    def handle(self, id_: str, *groups: str, **more: Any) -> None:
        for group in groups or RULES.groups:
            number = self.begin(group, id_, **more)
            self.tell("end", group=group, n=number, id=id_, ok=True)

    def problems(self, **rules: Any) -> list[str]:
        changed = Rules(**{**{f: getattr(RULES, f) for f in RULES.__dataclass_fields__}, **rules})
        return sorted({problem.code for problem in judge(Log(self.folder), changed).problems})


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_good_run_has_no_problem(story: Story) -> None:
    for number in "123":
        story.publish(number)
        story.handle(number)
    story.publish("4", "unknown")
    story.handle("4")
    story.publish("5", "rejected")
    assert story.problems() == []


def test_what_one_group_has_not_handled_is_lost(story: Story) -> None:
    story.publish("1")
    story.handle("1", "ordered")
    assert story.problems() == ["lost"]
    assert story.problems(dead=frozenset("1")) == []


def test_a_handler_that_did_not_end_has_not_handled(story: Story) -> None:
    story.publish("1")
    story.handle("1", "ordered")
    story.begin("parallel", "1")
    assert story.problems() == ["lost"]


@pytest.mark.parametrize(
    ("outcome", "rules", "found"),
    [
        ("not_sent", {}, ["false failure"]),
        ("unroutable", {}, ["false failure"]),
        ("rejected", {}, []),  # two queues: one of them may have taken it
        ("rejected", {"one_queue": True}, ["false failure"]),
        ("unknown", {}, []),
    ],
)
def test_a_failure_that_was_none_is_found(outcome: str, rules: dict[str, Any], found: list[str], story: Story) -> None:
    story.publish("1", outcome)
    story.handle("1")
    assert story.problems(**rules) == found


def test_a_second_success_needs_a_flag_or_a_resend(story: Story) -> None:
    story.publish("1")
    story.handle("1")
    story.handle("1")
    assert story.problems() == ["duplicate", "unflagged"]
    assert story.problems(losses=True) == ["unflagged"]
    assert story.problems(resends=True) == []


def test_a_flagged_redelivery_is_no_problem_where_a_connection_was_lost(story: Story) -> None:
    story.publish("1")
    story.handle("1")
    story.handle("1", redelivered=True)
    assert story.problems(losses=True) == []
    assert story.problems() == ["duplicate"]


def test_copies_must_keep_the_message_id(story: Story) -> None:
    story.publish("1")
    story.handle("1", redelivered=True)
    story.handle("1", redelivered=True, mid="another")
    assert story.problems(losses=True) == ["id"]


def test_order_is_that_of_first_arrivals_of_confirmed_messages(story: Story) -> None:
    for number in "123":
        story.publish(number, "unknown" if number == "3" else "confirmed")
    story.handle("3")
    story.handle("1")
    story.handle("2")
    assert story.problems() == []
    story.publish("5")
    story.publish("6")
    story.handle("6")
    story.handle("5")
    assert story.problems() == ["order"]


def test_redeliveries_may_come_out_of_order_where_the_rules_say_so(story: Story) -> None:
    for id_ in "12":
        story.publish(id_)
    story.handle("2")
    story.handle("1", redelivered=True)
    assert story.problems() == ["order"]
    assert story.problems(redeliveries_ordered=False) == []


def test_more_handlers_than_allowed_are_found(story: Story) -> None:
    for id_ in "123":
        story.publish(id_)
        story.handle(id_, "ordered")
    numbers = {id_: story.begin("parallel", id_) for id_ in "123"}
    for id_, number in numbers.items():
        story.tell("end", group="parallel", n=number, id=id_, ok=True)
    assert story.problems() == ["limit"]
    assert story.problems(concurrency=3) == []


def test_outcomes_that_are_late_missing_double_or_foreign_are_found(story: Story) -> None:
    story.publish("1", None)
    assert story.problems() == ["hung"]
    assert story.problems(killed=frozenset([1])) == []
    story.now += 60.0
    story.tell("outcome", id="1", outcome="unknown")
    assert story.problems() == ["late"]
    story.tell("outcome", id="1", outcome="confirmed")
    assert "outcome" in story.problems()


def test_an_error_that_is_not_ours_is_found(story: Story) -> None:
    story.publish("1", "error", error="ConnectionResetError", text="", ours=False)
    assert story.problems() == ["foreign"]


def test_what_nobody_published_is_a_phantom(story: Story) -> None:
    story.handle("9")
    assert story.problems() == ["phantom"]


def test_more_open_publishes_than_the_window_has_places_are_found(story: Story) -> None:
    for id_ in map(str, range(20)):
        story.publish(id_, None)
    for id_ in map(str, range(20)):
        story.tell("outcome", id=id_, outcome="unknown")
    assert story.problems() == ["window"]


def test_leaks_and_slow_ends_are_found(story: Story) -> None:
    story.tell("state", when="before", threads=1, sockets=0, rss=1)
    story.tell("state", when="stopped", threads=2, sockets=0, rss=1)
    assert story.problems() == ["leak"]
    story.tell("exit", name="worker", code=0, seconds=9.0, allowed=5.0)
    assert story.problems() == ["exit", "leak"]


def test_the_line_that_a_killed_process_was_writing_is_left_out(story: Story) -> None:
    story.publish("1", "unknown")
    with (story.folder / "records.jsonl").open("a") as file:
        file.write('{"t": 1, "pi')
    assert story.problems() == []


def test_the_proxy_knows_where_frames_end() -> None:
    stream = b"AMQP\x00\x00\x09\x01" + b"\x08\x00\x00\x00\x00\x00\x00\xce" + b"\x01\x00\x01\x00\x00\x00\x03abc\xce"
    ends = {8, 16, 27}
    for length in range(1, len(stream) + 1):
        for step in (1, 3, length):
            frames = Frames(header=8)
            for at in range(0, length, step):
                frames.feed(stream[at : min(at + step, length)])
            assert frames.inside == (length not in ends)
