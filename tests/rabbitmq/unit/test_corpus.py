"""What a real broker once said, cut into every two pieces and into many: it always means the same."""

from __future__ import annotations

import random

import pytest

from tests.rabbitmq.receiving import CORPUS, Receiver


def heard(*pieces: bytes) -> tuple[list[object], bytes]:
    receiver = Receiver()
    receiver.feed(*pieces)
    assert receiver.held == 0
    return receiver.told, bytes(receiver.forwarded)


def test_the_consumers_recording_has_what_it_should() -> None:
    told, forwarded = heard(CORPUS["consumer"])
    arrivals = [one for one in told if one[0] == "arrived"]  # type: ignore[index]
    assert [len(one[5]) for one in arrivals] == [0, 3, 5_000, 256, 3, 3, 5_000]  # type: ignore[index]
    assert sum(one[2] for one in arrivals) == 1  # type: ignore[index]
    assert ("cancelled",) in told
    assert forwarded.count(b"\x08\x00\x00\x00\x00\x00\x00\xce") == 6  # the heartbeats are the library's


def test_the_publishers_recording_has_what_it_should() -> None:
    told, _ = heard(CORPUS["publisher"])
    outcomes = [one[2] for one in told if one[0] == "outcome"]  # type: ignore[index]
    assert len(outcomes) == 55
    assert sum(outcome is None for outcome in outcomes) == 51
    assert sum("Rejected" in outcome for outcome in outcomes if outcome) == 2
    assert sum("Unroutable" in outcome for outcome in outcomes if outcome) == 2
    assert [one for one in told if one[0] == "blocked"] == [("blocked", "low on memory"), ("blocked", None)]  # type: ignore[index]
    assert told[-1][:3] == ("closed", 2, 404)  # type: ignore[index]


@pytest.mark.parametrize("name", CORPUS)
def test_a_recording_cut_at_every_offset_means_the_same(name: str) -> None:
    stream = CORPUS[name]
    expected = heard(stream)
    for cut in range(len(stream) + 1):
        assert heard(stream[:cut], stream[cut:]) == expected, cut


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("seed", range(20))
def test_a_recording_in_pieces_of_any_size_means_the_same(name: str, seed: int) -> None:
    chance, stream, pieces, at = random.Random(seed), CORPUS[name], [], 0
    while at < len(stream):
        size = chance.choice((1, 2, 7, 8, 9, 100, 4096)) if seed else 1
        pieces.append(stream[at : at + size])
        at += size
    assert heard(*pieces) == heard(stream)
