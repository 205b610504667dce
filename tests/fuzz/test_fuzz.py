"""The fuzz target for a moment, always with the same inputs; ``make fuzz`` runs it longer, with new ones."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_lane


@pytest.mark.parametrize("seed", range(8))
def test_hostile_bytes_are_taken_or_refused(seed: int) -> None:
    ended = fuzz_lane.run(seed, lambda count: count < 500)
    assert ended["taken"] > 20
    assert ended["refused"] > 20


def test_a_reader_that_raises_something_else_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*anything: object) -> None:
        raise KeyError

    monkeypatch.setattr("eventbus_rabbitmq._wire.lane.Lane._frames", wrong)
    with pytest.raises(KeyError):
        fuzz_lane.run(0, lambda count: count < 5)


def test_a_reader_that_keeps_too_much_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.rabbitmq.receiving.Receiver.held", property(lambda self: 10**9))
    with pytest.raises(fuzz_lane.Broken):
        fuzz_lane.run(0, lambda count: count < 5)
