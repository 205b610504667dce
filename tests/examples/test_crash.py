"""What the demo counts after it has killed a service: it must see every loss and every unmarked second delivery."""

from __future__ import annotations

import pytest

from examples.customers.crash import HALF, Crash

CROWD = range(1, 2 * HALF + 1)
MARKED = {30, 31, 32}


def published(number: int) -> tuple[str, str]:
    return "users", f"published customers.registered.se for Customer {number}: confirmed"


def mailed(number: int, marked: bool) -> tuple[str, str]:
    mark = ", redelivered" if marked else ""
    return "emails", f"mail to customer-{number}@example.com: welcome, Customer {number}! (attempt 1, from q{mark})"


def counted(number: int) -> tuple[str, str]:
    return "analytics", f"Customer {number} is number {number} from se"


def a_good_run() -> list[tuple[str, str]]:
    return [line for n in CROWD for line in (published(n), mailed(n, n in MARKED), counted(n))]


def crash_of(lines: list[tuple[str, str]]) -> Crash:
    crash = Crash()
    for service, text in lines:
        crash.said.teller(service)(text)
    return crash


def test_a_run_in_which_all_was_handled_and_some_came_again_adds_up() -> None:
    crash = crash_of([*a_good_run(), mailed(29, True)])
    assert crash.problems() == []
    assert crash.totals() == {
        "crowd: confirmed": 200,
        "handled by emails": 200,
        "handled by analytics": 200,
        "lost": 0,
        "came again, marked": 4,
        "of these, mailed before": 1,
    }


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        (mailed(77, False), "lost by emails: 77"),
        (mailed(31, True), "lost by emails: 31"),
        (counted(200), "lost by analytics: 200"),
    ],
)
def test_a_loss_is_seen(gone: tuple[str, str], problem: str) -> None:
    crash = crash_of([line for line in a_good_run() if line != gone])
    assert crash.problems() == [problem]
    assert crash.totals()["lost"] == 1


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (mailed(5, False), "handled again by emails, without a mark: 5"),
        (counted(5), "handled again by analytics, without a mark: 5"),
    ],
)
def test_a_second_delivery_without_a_mark_is_seen(more: tuple[str, str], problem: str) -> None:
    assert crash_of([*a_good_run(), more]).problems() == [problem]


def test_a_publish_that_was_not_confirmed_is_seen() -> None:
    lines = [line for line in a_good_run() if line != published(3)]
    assert crash_of(lines).problems() == ["registrations confirmed: 199 instead of 200"]


def test_a_kill_that_hit_nothing_is_seen() -> None:
    lines = [line for n in CROWD for line in (published(n), mailed(n, False), counted(n))]
    assert crash_of(lines).problems() == ["nothing came again: the service was killed while it held nothing"]
