"""What tune advises, from measured values and from a short run of its own."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from benchmarks.runner import Sample
from benchmarks.screen import Screen
from benchmarks.tune import Advice, TuneError, tune
from benchmarks.tune import command as tune_command
from benchmarks.tune.advice import BusAdvice, remarks
from benchmarks.tune.decide import Choice, Point, choose, sample_size


def points(**rates: float | tuple[float, ...]) -> list[Point]:
    """``_10=900.0`` is the value 10 with one sample."""
    return [
        Point(int(name[1:]), rate if isinstance(rate, tuple) else (rate * 0.99, rate, rate * 1.01))
        for name, rate in rates.items()
    ]


def quiet() -> Screen:
    return Screen(out=io.StringIO(), err=io.StringIO())


class Curve:
    """Rates that rise with the value up to a knee; publishing waits for a round trip."""

    def __init__(self, round_trip: float = 0.0005, knee: int = 100) -> None:
        self.round_trip, self.knee = round_trip, knee
        self.consumed: list[tuple[int, int, float]] = []

    def publish(self, bus: str, window: int, messages: int) -> Sample:
        latencies = [self.round_trip] * messages if window == 1 else ()
        return Sample(messages, messages / (min(window, self.knee) / self.round_trip), 0.0, latencies)

    def consume(self, bus: str, prefetch: int, concurrency: int, handler_ms: float, messages: int) -> Sample:
        self.consumed.append((prefetch, concurrency, handler_ms))
        handlers = min(concurrency, prefetch, 8) if handler_ms else 1
        return Sample(messages, messages / (1000.0 * handlers * min(prefetch, 50)), 0.0)


def advised(measure: Curve, **options: float) -> Advice:
    return tune("amqp://me:secret@far/", progress=quiet(), say=lambda _: None, measure=measure, **options)  # type: ignore[arg-type]


def test_the_smallest_value_with_95_percent_of_the_best_rate_is_chosen() -> None:
    choice = choose("window", points(_1=100.0, _10=800.0, _100=960.0, _1000=1000.0))
    assert (choice.value, choice.smaller) == (100, 10)
    assert choice.part_of_best == pytest.approx(0.96)
    assert choice.smaller_costs == pytest.approx(1 - 800 / 960)
    assert not choice.close
    assert not choice.at_the_end


def test_a_rate_that_falls_again_does_not_draw_the_choice_to_larger_values() -> None:
    choice = choose("prefetch", points(_1=100.0, _50=1000.0, _200=900.0, _1000=700.0))
    assert (choice.value, choice.best.value) == (50, 50)


def test_the_order_of_the_points_does_not_matter() -> None:
    forward = points(_1=100.0, _10=800.0, _100=960.0)
    assert choose("window", forward) == choose("window", forward[::-1])


def test_nothing_is_advised_where_the_noise_is_greater_than_the_differences() -> None:
    choice = choose("window", points(_1=(700.0, 1000.0, 1300.0), _10=(800.0, 1050.0, 1200.0)))
    assert choice.value is None
    assert choice.noise > 0.3


def test_a_choice_that_lies_within_the_noise_of_the_next_smaller_is_marked() -> None:
    choice = choose("window", points(_1=100.0, _10=(850.0, 900.0, 1000.0), _100=(900.0, 1000.0, 1100.0)))
    assert (choice.value, choice.close) == (100, True)


def test_a_value_to_keep_gives_way_only_to_a_gain_above_the_noise() -> None:
    noisy = points(_1=(800.0, 900.0, 1000.0), _4=(900.0, 1000.0, 1100.0), _16=(500.0, 550.0, 600.0))
    assert (choose("concurrency", noisy, keep=1).value, choose("concurrency", noisy, keep=1).kept) == (1, 1)
    assert choose("concurrency", noisy).value == 4
    assert choose("concurrency", points(_1=100.0, _4=400.0), keep=1).value == 4


def test_the_largest_value_is_named_as_such_and_one_value_is_a_choice_too() -> None:
    assert choose("window", points(_1=100.0, _10=800.0)).at_the_end
    assert choose("window", points(_1=100.0)).value == 1
    with pytest.raises(ValueError, match="nothing was measured of window"):
        choose("window", [])


@pytest.mark.parametrize(
    ("rate", "least", "size"),
    [(10_000.0, 4, 1000), (10_000.0, 2000, 2000), (100.0, 4000, 40), (1.0, 4, 2), (1e9, 4, 5000)],
)
def test_samples_last_about_as_long_as_they_shall(rate: float, least: int, size: int) -> None:
    assert sample_size(0.1, rate, least, most=5000) == size


def test_the_advice_names_values_numbers_and_the_lines_to_write() -> None:
    text = advised(Curve()).text()
    assert "window 100 (most events without their confirm): 200,000 confirmed/s, the best. 50 would cost 50%." in text
    assert 'bus = EventBus(url, service="...", window=100)' in text
    assert 'bus = AsyncEventBus(url, service="...", window=100)' in text
    assert "@bus.subscribe(YourEvent, prefetch=50)" in text  # concurrency made no difference: it stays out
    assert "concurrency (most handlers at once): leave the default" in text
    assert "--handler-ms 20" in text
    assert "secret" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_handlers_that_wait_are_measured_so_and_prefetch_with_the_chosen_concurrency() -> None:
    measure = Curve()
    bus = advised(measure, handler_ms=20.0).buses[0]
    assert (bus.concurrency.value, bus.prefetch.value) == (8, 50)
    assert bus.configuration()[1] == "@bus.subscribe(YourEvent, prefetch=50, concurrency=8)"
    assert {waited for _, _, waited in measure.consumed} == {20.0}
    assert (1, 8, 20.0) in measure.consumed
    assert any("not handled in their order" in note for note in remarks(bus))
    assert not any("--handler-ms" in note for note in remarks(bus))


def test_a_far_broker_needs_a_wider_window_and_its_round_trip_is_named() -> None:
    bus = advised(Curve(round_trip=0.03, knee=5000)).buses[0]
    assert bus.round_trip_ms == pytest.approx(30.0)
    assert bus.window.value == 2000
    assert any(note.startswith("The broker is 30.0 ms away") for note in remarks(bus))
    assert any("2000 is the largest that was tried" in note for note in remarks(bus))


def test_much_noise_is_said() -> None:
    wild = choose("window", points(_1=100.0, _10=(500.0, 1000.0, 1500.0), _100=(600.0, 1100.0, 1700.0)))
    calm = choose("prefetch", points(_1=100.0, _10=1000.0))
    bus = BusAdvice(
        bus="sync", round_trip_ms=1.0, window=wild, concurrency=calm, prefetch=calm, handler_ms=5.0
    )  # fmt: skip
    assert [note for note in remarks(bus) if "Something else works on this machine" in note]


def test_the_advice_as_json_holds_values_points_and_lines() -> None:
    content = json.loads(advised(Curve()).json())
    bus = content["buses"][0]
    assert content["broker"] == "amqp"
    assert (bus["window"]["value"], bus["concurrency"]["value"], bus["prefetch"]["value"]) == (100, None, 50)
    assert bus["window"]["points"][0]["value"] == 1
    assert len(bus["window"]["points"][0]["rates"]) == 3
    assert bus["configuration"][0].endswith("window=100)")


def test_one_bus_alone_can_be_tuned_with_a_number_of_messages() -> None:
    sizes: set[int] = set()

    class Counting(Curve):
        def consume(self, bus: str, prefetch: int, concurrency: int, handler_ms: float, messages: int) -> Sample:
            sizes.add(messages)
            assert bus == "async"
            return super().consume(bus, prefetch, concurrency, handler_ms, messages)

    tune("memory://x", progress=quiet(), say=lambda _: None, buses=["async"], amount=33, measure=Counting())
    assert 33 in sizes
    assert len(sizes) == 2  # and the one for warming up


def test_a_short_run_in_memory_measures_both_buses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = tune_command.run(
        "memory://tune-test", progress=quiet(), handler_ms=0.1, quick=True, amount=20, json_to=tmp_path / "advice.json"
    )
    assert code == 0
    assert "In memory there is no wire" in capsys.readouterr().out
    content = json.loads((tmp_path / "advice.json").read_text())
    assert [bus["bus"] for bus in content["buses"]] == ["sync", "async"]
    for bus in content["buses"]:
        assert bus["round_trip_ms"] > 0
        assert all(rate > 0 for point in bus["prefetch"]["points"] for rate in point["rates"])


@pytest.mark.parametrize("url", ["amqp://localhost?nonsense=1", "nowhere://localhost"])
def test_a_broker_that_cannot_be_used_is_a_clear_error_and_an_exit_code(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune_command.run(url, progress=quiet(), bus="sync", quick=True) == 1
    assert capsys.readouterr().err.startswith("tune: ")
    with pytest.raises(TuneError):
        tune(url, progress=quiet(), quick=True)


def test_a_choice_finds_its_points() -> None:
    choice: Choice = choose("window", points(_1=100.0, _10=800.0))
    assert choice.point(10).rate == 800.0
