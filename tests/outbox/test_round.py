"""What a round of a relay decides, without a database or a broker."""

from __future__ import annotations

from eventbus_outbox._pace import Pace
from eventbus_outbox._round import Round
from eventbus_outbox._rows import Row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus import EncodingError, ExchangeMissing, MessageTooLarge, NotSent, PublishUnknown, Rejected, fixed

PAUSE = fixed(7)


def rows(*keys: str | None) -> list[Row]:
    return [Row(number, key, 0, b"") for number, key in enumerate(keys)]


def given_out(round: Round) -> list[int]:
    found = []
    while (row := round.next()) is not None:
        found.append(row.id)
    return found


def test_of_each_key_one_is_under_way_and_those_without_a_key_all() -> None:
    a, b, *others = rows("a", "b", "a", None, None, "b")
    round = Round([a, b, *others])
    assert given_out(round) == [0, 1, 3, 4]
    round.ended(b, None)
    assert given_out(round) == [5]
    round.ended(a, None)
    assert given_out(round) == [2]


def test_one_that_is_not_confirmed_stops_its_key_and_no_other() -> None:
    a, b, a2, b2 = rows("a", "b", "a", "b")
    round = Round([a, b, a2, b2], retry=PAUSE)
    given_out(round)
    round.ended(a, Rejected("full"))
    round.ended(b, None)
    assert given_out(round) == [3]
    round.ended(b2, None)
    verdict = round.verdict()
    assert list(verdict.confirmed) == [1, 3]
    assert [(failed.id, failed.error, failed.pause) for failed in verdict.failed] == [(0, "Rejected: full", 7.0)]
    assert list(verdict.released) == [2]
    assert isinstance(round.trouble, Rejected)


def test_what_was_not_sent_goes_back_without_a_word_against_it() -> None:
    a, a2, free = rows("a", "a", None)
    round = Round([a, a2, free])
    given_out(round)
    round.ended(a, NotSent("not connected"))
    round.ended(free, PublishUnknown("no confirm"))
    verdict = round.verdict()
    assert list(verdict.released) == [0, 1]
    assert [failed.id for failed in verdict.failed] == [2], "it may have been sent, which counts as an attempt"


def test_what_no_try_would_mend_is_set_aside_and_stops_its_key_or_does_not() -> None:
    for error in (MessageTooLarge("big"), ExchangeMissing("gone"), EncodingError("bad")):
        for stop_keys, then in ((True, []), (False, [1])):
            first, second = rows("a", "a")
            round = Round([first, second], stop_keys=stop_keys)
            given_out(round)
            round.ended(first, error)
            assert given_out(round) == then
            verdict = round.verdict()
            assert [failed.id for failed in verdict.set_aside] == [0]
            assert list(verdict.released) == ([1] if stop_keys else [])
            assert verdict.stop_keys is stop_keys
            assert round.trouble is None, "it says nothing about the broker"


def test_a_stop_gives_back_what_was_not_given_out() -> None:
    a, a2, b, free = rows("a", "a", "b", None)
    round = Round([a, a2, b, free])
    assert round.next() == a
    round.stop()
    assert round.next() is None
    round.ended(a, None)
    assert round.next() is None
    assert sorted(round.verdict().released) == [1, 2, 3]
    assert list(round.verdict().confirmed) == [0]


def test_an_outcome_counts_once() -> None:
    (row,) = rows(None)
    round = Round([row])
    round.next()
    round.give_up(PublishUnknown("silence"))
    round.ended(row, None)
    assert not round.verdict().confirmed
    assert len(round.verdict().failed) == 1


errors = st.sampled_from([None, Rejected("full"), NotSent("away"), MessageTooLarge("big")])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30),
    luck=st.randoms(use_true_random=False),
    stop_after=st.integers(0, 40),
    stop_keys=st.booleans(),
    data=st.data(),
)
def test_every_row_has_one_fate_and_the_order_of_each_key_is_kept(
    keys: list[str | None], luck: object, stop_after: int, stop_keys: bool, data: st.DataObject
) -> None:
    everything = rows(*keys)
    round = Round(everything, stop_keys=stop_keys)
    sent: list[Row] = []
    confirmed: list[Row] = []
    open_: list[Row] = []
    while True:
        while (row := round.next()) is not None:
            assert row.key is None or row.key not in [other.key for other in open_]
            sent.append(row)
            open_.append(row)
        if not open_:
            break
        row = open_.pop(luck.randrange(len(open_)))  # type: ignore[attr-defined]
        error = data.draw(errors)
        round.ended(row, error)
        if error is None:
            confirmed.append(row)
        if len(sent) >= stop_after:
            round.stop()
    verdict = round.verdict()
    fates = [*verdict.confirmed, *verdict.released, *(f.id for f in verdict.failed), *(f.id for f in verdict.set_aside)]
    assert sorted(fates) == [row.id for row in everything]
    lost = {f.id for f in verdict.failed} | set(verdict.released)
    for key in {key for key in keys if key is not None}:
        ids = [row.id for row in confirmed if row.key == key]
        assert ids == sorted(ids)
        blocked = [row.id for row in everything if row.key == key and row.id in lost]
        if blocked:
            assert all(id < blocked[0] for id in ids), "nothing overtakes what was not confirmed"


def test_pauses_grow_up_to_the_longest_and_work_ends_them() -> None:
    pace = Pace(1.0)
    pauses = [pace.idle() for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.05
    assert pauses[-1] == 1.0
    assert pace.idling
    assert pace.found() == 0
    assert not pace.idling
    assert pace.idle() == pauses[0]
    assert all(0 < pace.trouble() <= 30 for _ in range(100))
    assert not pace.idling, "new rows are no reason to try a broker that is away"
