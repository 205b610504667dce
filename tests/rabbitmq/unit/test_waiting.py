"""Waits that are longer than a step of the ladder, as data."""

from __future__ import annotations

import math

import pytest
from eventbus_rabbitmq._waiting import (
    DELAYS,
    DELIVER_AT,
    REST,
    Wait,
    arrived,
    held_copy,
    scheduled,
    split,
)
from hypothesis import given
from hypothesis import strategies as st

from eventbus._schedule import LONGEST
from eventbus._settlement import restore_origin
from eventbus.transport import Incoming, Message

NOW = 1_800_000_000.0


def message(**changes: object) -> Message:
    given: dict[str, object] = {"exchange": "shop", "topic": "a.b", "body": b"{}", "id": "1", "type": "t", **changes}
    return Message(**given)  # type: ignore[arg-type]


@given(st.floats(0.001, LONGEST))
def test_all_steps_of_a_wait_together_are_never_too_short_and_late_by_little(seconds: float) -> None:
    waited, rest, steps = 0.0, seconds, 0
    while rest > 0:
        step, rest = split(rest)
        assert step in DELAYS
        waited += step
        steps += 1
    assert waited >= seconds - 1e-6
    assert waited - seconds <= max(0.25, 0.02 * seconds) + 1e-6
    assert steps <= 40


def test_what_is_due_is_sent_as_it_is() -> None:
    for due in (None, NOW, NOW - 5):
        assert scheduled(message(deliver_at=due), "svc", "shop", NOW) == (message(deliver_at=due), None)


def test_what_is_due_later_waits_in_a_place_of_its_service_for_the_longest_step_that_fits() -> None:
    sent, wait = scheduled(message(deliver_at=NOW + 45, headers={"own": 1}), "svc", "shop", NOW)
    assert wait == Wait(name="svc.delay.shop.30000", seconds=30, to="shop")
    assert sent.headers == {"own": 1, DELIVER_AT: NOW + 45, REST: 15.0}
    came, left = arrived(sent, NOW + 30)
    assert (came.headers, came.deliver_at, left) == ({"own": 1}, NOW + 45, 15.0)


def test_the_rest_is_cut_short_by_the_clock_and_never_made_longer() -> None:
    sent, _ = scheduled(message(deliver_at=NOW + 45), "svc", "shop", NOW)
    assert arrived(sent, NOW + 44)[1] == 1.0  # it has stood in its queue for a while
    assert arrived(sent, NOW + 100)[1] == 0
    assert arrived(sent, NOW - 86400)[1] == 15.0  # this machine's clock is a day behind


@pytest.mark.parametrize("forged", ["soon", None, True, [], {}, math.inf, math.nan, -1.0])
def test_a_forged_plan_holds_nothing_up_for_ever(forged: object) -> None:
    for headers in ({DELIVER_AT: forged, REST: 5.0}, {DELIVER_AT: NOW + 9e9, REST: forged}):
        came, left = arrived(message(headers=headers), NOW)
        assert 0 <= left <= LONGEST
        assert not set(came.headers) & {DELIVER_AT, REST}


def test_a_held_copy_comes_back_as_the_delivery_that_it_was() -> None:
    was = Incoming(message=message(deliver_at=NOW + 45, headers={"own": 1}), consumer="c", queue="g.q", attempt=3)
    copy = held_copy(was, 5.0)
    assert (copy.exchange, copy.topic) == ("", "g.q")
    origin = restore_origin(copy)
    assert (origin.attempt, origin.first_seen) == (3, None)
    assert arrived(origin.message, NOW + 40) == (was.message, 5.0)
