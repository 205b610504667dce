"""Batches: when one is there, and what each member of it came to."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventbus import Batch, BatchError, ConfigurationError
from eventbus._batch import errors_of
from eventbus._bus._gathering import Gathering

SIZE, WAIT, CONCURRENCY = 3, 10.0, 2


def test_a_full_batch_is_handed_out_at_once_and_a_part_of_one_when_its_time_is_over() -> None:
    gathering = Gathering[int](2, 5.0, 9)
    gathering.put(1, 100.0)
    assert gathering.take(100.0) is None
    gathering.put(2, 101.0)
    assert gathering.take(101.0) == [1, 2]
    gathering.put(3, 102.0)
    due = gathering.next_due(103.0)
    assert due is not None
    assert due[1] == 4.0
    gathering.overdue(due[0])
    assert gathering.take(103.0) == [3]


def test_what_is_overdue_while_no_place_is_free_goes_as_soon_as_one_is() -> None:
    gathering = Gathering[int](2, 5.0, 1)
    for item in (1, 2, 3):
        gathering.put(item, 0.0)
    assert gathering.take(0.0) == [1, 2]
    assert gathering.next_due(0.0) is None
    assert gathering.take(6.0) is None
    gathering.ended()
    assert gathering.take(6.0) == [3]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.gathering = Gathering[int](SIZE, WAIT, CONCURRENCY)
        self.now = 0.0
        self.came: list[float] = []
        self.handed: list[int] = []
        self.running = 0
        self.timer: tuple[int, float] | None = None

    def work(self) -> None:
        """What a shell does after every event: begin all batches, and have one timer."""
        while (batch := self.gathering.take(self.now)) is not None:
            assert 1 <= len(batch) <= SIZE
            self.handed += batch
            self.running += 1
        if self.timer is None and (due := self.gathering.next_due(self.now)) is not None:
            self.timer = (due[0], self.now + due[1])

    @rule()
    def comes(self) -> None:
        self.came.append(self.now)
        if self.gathering.put(len(self.came) - 1, self.now):
            self.work()

    @precondition(lambda self: self.running)
    @rule()
    def ends(self) -> None:
        self.running -= 1
        self.gathering.ended()
        self.work()

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.timer is not None and self.timer[1] <= until:
            number, self.now = self.timer
            self.timer = None
            self.gathering.overdue(number)
            self.work()
        self.now = until

    @invariant()
    def in_order_and_each_once(self) -> None:
        assert self.handed == list(range(len(self.handed)))
        assert len(self.handed) + self.gathering.waiting == len(self.came)
        assert self.running == self.gathering.running <= CONCURRENCY

    @invariant()
    def nothing_waits_too_long_where_there_is_a_place(self) -> None:
        if self.running < CONCURRENCY and self.gathering.waiting:
            assert self.gathering.waiting < SIZE
            assert self.now < self.came[len(self.handed)] + WAIT


TestGathering = Machine.TestCase
TestGathering.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_handler_that_returns_or_raises_means_all() -> None:
    error = ValueError("no")
    assert errors_of(None, 2) == [None, None]
    assert errors_of(error, 2) == [error, error]


def test_a_batch_error_means_only_those_that_it_names() -> None:
    error = KeyError("k")
    assert errors_of(BatchError({1: error}), 3) == [None, error, None]


@pytest.mark.parametrize("failures", [{5: ValueError()}, {-1: ValueError()}, {}])
def test_a_batch_error_that_makes_no_sense_acks_nothing(failures: dict[int, BaseException]) -> None:
    assert all(isinstance(error, ConfigurationError) for error in errors_of(BatchError(failures), 3))


def test_a_batch_error_tells_how_many() -> None:
    assert "7 of a batch failed (0: ValueError" in str(BatchError({n: ValueError() for n in range(7)}))


@pytest.mark.parametrize("values", [{"size": 0}, {"size": 10_001}, {"wait": -1.0}])
def test_a_batch_out_of_bounds_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        Batch(**values)
