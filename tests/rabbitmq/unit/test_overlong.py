"""Deliveries that stay open too long, as data."""

from __future__ import annotations

import logging

import pytest
from eventbus_rabbitmq._acks import Acks
from eventbus_rabbitmq._overlong import Overlong


def looks(steps: list[tuple[float, list[int], list[int]]]) -> list[bool]:
    """The answers of looks at (time, tags that came before, tags acked before); the timeout is 100 s."""
    acks, overlong, found = Acks(1), Overlong(100.0), []
    for now, came, acked in steps:
        for tag in came:
            acks.delivered(tag)
        for tag in acked:
            acks.ack(tag)
        acks.flush(lambda data: None)
        found.append(overlong.look(acks, "q", now))
    return found


def test_what_has_been_open_for_half_of_the_timeout_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventbus.rabbitmq"):
        assert looks([(0, [1, 2], []), (40, [], [1]), (50, [], []), (60, [], []), (70, [], [2])]) == [
            False, False, True, True, False,
        ]  # fmt: skip
    assert len(caplog.records) == 1
    assert "more than 50 s; after 100 s" in caplog.text


def test_those_that_wait_behind_a_slow_one_are_told_with_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventbus.rabbitmq"):
        assert looks([(0, [1, 2, 3], []), (60, [], []), (70, [], [1])])[-1] is True
    assert len(caplog.records) == 1


def test_a_busy_channel_without_a_slow_one_is_fine() -> None:
    steps = [(10.0 * n, list(range(5 * n + 1, 5 * n + 6)), list(range(5 * n - 4, 5 * n + 1))) for n in range(1, 40)]
    assert not any(looks([(0, [1, 2, 3, 4, 5], []), *steps]))


def test_of_many_looks_little_is_kept() -> None:
    acks, overlong = Acks(1), Overlong(100.0)
    for n in range(1000):
        overlong.look(acks, "q", 10.0 * n)
    assert len(overlong._marks) < 20
