"""The decision of ordered subscriptions: which delivery may be handled now."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventbus._bus._keyed import KeyedLine, Turn

LANES = (0, 1)


def test_keys_run_side_by_side_and_each_of_them_one_after_the_other() -> None:
    line = KeyedLine[str](2)
    for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")):
        line.put(0, key, item)
    a1, b1 = line.take()
    assert (a1.item, b1.item) == ("a1", "b1")
    line.finish(a1)
    line.ended(a1)
    (c1,) = line.take()
    assert c1.item == "c1", "keys take turns"
    line.finish(b1)
    line.ended(b1)
    assert [turn.item for turn in line.take()] == ["a2"]


def test_a_held_turn_keeps_its_key_and_gives_its_place_back() -> None:
    line = KeyedLine[str](1)
    for key, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        line.put(0, key, item)
    (a1,) = line.take()
    line.hold(a1)
    line.ended(a1)
    (b1,) = line.take()
    assert b1.item == "b1"
    line.finish(b1)
    line.ended(b1)
    assert not list(line.take())
    assert line.parked == 2
    line.resume(a1)
    assert [turn.item for turn in line.take()] == ["a1"]


def test_a_turn_that_is_to_be_tried_again_at_once_waits_for_its_handler_to_end() -> None:
    line = KeyedLine[str](2)
    turn = line.put(0, "a", "a1")
    assert list(line.take()) == [turn]
    line.hold(turn)
    line.resume(turn)
    assert not list(line.take())
    line.ended(turn)
    assert list(line.take()) == [turn]


def test_what_came_again_waits_for_the_handler_that_still_has_the_lost_one() -> None:
    line = KeyedLine[str](5)
    first, second = line.put(0, "a", "a1"), line.put(0, "a", "a2")
    assert list(line.take()) == [first]
    assert line.forget(0) == [second]
    line.put(0, "a", "a1 again")
    assert not list(line.take())
    line.ended(first)
    assert [turn.item for turn in line.take()] == ["a1 again"]


class Machine(RuleBasedStateMachine):
    """Deliveries come, handlers end in every way, connections are lost; the rules hold at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.concurrency = 3
        self.line = KeyedLine[int](self.concurrency)
        self.numbers = 0
        self.arrived: dict[int, tuple[int, str | None]] = {}
        self.running: dict[int, Turn[int]] = {}
        self.held: dict[int, Turn[int]] = {}
        self.unsettled: dict[int, Turn[int]] = {}  # the handler has returned, and somebody settles later
        self.waiting: set[int] = set()
        self.last: dict[tuple[int, str], int] = defaultdict(int)

    def begin(self) -> None:
        for turn in self.line.take():
            number = turn.item
            assert number in self.waiting
            self.waiting.discard(number)
            lane, key = self.arrived[number]
            if key is not None:
                others = [*self.running.values(), *self.held.values(), *self.unsettled.values()]
                assert all(other.chain != (lane, key) for other in others), "two of one key at once"
                assert number >= self.last[lane, key], "overtaken"
                self.last[lane, key] = number
            self.running[number] = turn

    def pick(self, data: st.DataObject, turns: dict[int, Turn[int]]) -> Turn[int]:
        return turns.pop(data.draw(st.sampled_from(sorted(turns))))

    @rule(lane=st.sampled_from(LANES), key=st.sampled_from(["a", "b", "c", None]))
    def arrives(self, lane: int, key: str | None) -> None:
        self.numbers += 1
        self.arrived[self.numbers] = (lane, key)
        self.waiting.add(self.numbers)
        self.line.put(lane, key, self.numbers)
        self.begin()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), finish_first=st.booleans())
    def succeeds(self, data: st.DataObject, finish_first: bool) -> None:
        turn = self.pick(data, self.running)
        if finish_first or turn.lost:
            self.line.finish(turn)
        self.line.ended(turn)
        self.line.finish(turn)
        self.begin()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), at_once=st.booleans())
    def fails(self, data: st.DataObject, at_once: bool) -> None:
        turn = self.pick(data, self.running)
        self.line.hold(turn)
        if at_once:
            self.line.resume(turn)
        self.line.ended(turn)
        if not turn.lost:
            (self.waiting.add if at_once else lambda n: self.held.__setitem__(n, turn))(turn.item)
        self.begin()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def returns_unsettled(self, data: st.DataObject) -> None:
        turn = self.pick(data, self.running)
        self.line.ended(turn)
        if not turn.lost:
            self.unsettled[turn.item] = turn
        self.begin()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def time_comes(self, data: st.DataObject) -> None:
        turn = self.pick(data, self.held)
        self.waiting.add(turn.item)
        self.line.resume(turn)
        self.begin()

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def is_settled_later(self, data: st.DataObject) -> None:
        self.line.finish(self.pick(data, self.unsettled))
        self.begin()

    @rule(lane=st.sampled_from(LANES))
    def connection_is_lost(self, lane: int) -> None:
        gone = {n for n in (*self.waiting, *self.held, *self.unsettled) if self.arrived[n][0] == lane}
        dropped = self.line.forget(lane)
        assert {turn.item for turn in dropped} == gone, "exactly what no handler has goes back"
        assert len(dropped) == len(gone)
        self.waiting -= gone
        for turns in (self.held, self.unsettled):
            for number in gone & set(turns):
                stale = turns.pop(number)
                self.line.resume(stale)  # its timer, or its settlement, comes all the same
                self.line.finish(stale)
        for key in ("a", "b", "c"):
            self.last[lane, key] = 0
        self.begin()

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.running) == self.line.running <= self.concurrency
        for lane in LANES:
            running = sum(turn.lane == lane for turn in self.running.values())
            assert self.line.running_in(lane) == running

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """Where there is a place, all that waits waits for its key."""
        if len(self.running) == self.concurrency:
            return
        busy = {t.chain for ts in (self.running, self.held, self.unsettled) for t in ts.values()}
        for number in self.waiting:
            lane, key = self.arrived[number]
            assert key is not None
            assert (lane, key) in busy
        assert self.line.parked == len(self.waiting) + len(self.held) + len(self.unsettled)
        assert self.line.idle == (not self.running)

    def teardown(self) -> None:
        """When all handlers return, everything that came is over."""
        for turn in [*self.held.values(), *self.unsettled.values()]:
            self.line.finish(turn)
        self.held, self.unsettled = {}, {}
        self.begin()
        while self.running:
            _, turn = self.running.popitem()
            self.line.finish(turn)
            self.line.ended(turn)
            self.begin()
        assert not self.waiting
        assert self.line.parked == 0
        assert not self.line._behind, "no key is remembered for ever"


TestKeyedLine = Machine.TestCase
TestKeyedLine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
