"""What tune found, as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass

from benchmarks.tune.decide import ENOUGH, NOISY, Choice, is_far

DEFAULTS = {"window": 1000, "concurrency": 1}
"""What eventbus takes where nothing is set; the default prefetch is concurrency + 10."""
BUS_CLASSES = {"sync": "EventBus", "async": "AsyncEventBus"}
UNITS = {"window": "confirmed/s", "concurrency": "handled/s", "prefetch": "handled/s"}
MEANINGS = {
    "window": "most events without their confirm",
    "concurrency": "most handlers at once",
    "prefetch": "most unsettled deliveries",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAdvice:
    """For one of the buses."""

    bus: str
    round_trip_ms: float | None
    """Median of a single publish and its confirm."""
    window: Choice
    concurrency: Choice
    prefetch: Choice
    handler_ms: float

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All three, in the order of their measuring."""
        return self.window, self.concurrency, self.prefetch

    def configuration(self) -> list[str]:
        """The lines to write; what is not in them stays at its default."""
        window = "" if self.window.value is None else f", window={self.window.value}"
        options = [f"{c.parameter}={c.value}" for c in (self.prefetch, self.concurrency) if c.value is not None]
        lines = [f'bus = {BUS_CLASSES[self.bus]}(url, service="..."{window})']
        return [*lines, f"@bus.subscribe({', '.join(['YourEvent', *options])})"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to set, for each bus that was measured."""

    broker: str
    seconds: float
    buses: tuple[BusAdvice, ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For people."""
        parts = [_bus_text(bus) for bus in self.buses]
        parts.append(_closing(self))
        return "\n\n".join(parts)

    def json(self) -> str:
        """For programs."""
        content = asdict(self)
        for bus, found in zip(self.buses, content["buses"], strict=True):
            found["configuration"] = bus.configuration()
            found["notes"] = remarks(bus)
        return json.dumps(content, indent=2)

    def __str__(self) -> str:
        return self.text()


def _bus_text(bus: BusAdvice) -> str:
    trip = "" if bus.round_trip_ms is None else f"; one publish and its confirm take {bus.round_trip_ms:.2f} ms"
    handler = f"handlers that take {bus.handler_ms:g} ms" if bus.handler_ms else "handlers that return at once"
    lines = [f"{bus.bus} bus ({BUS_CLASSES[bus.bus]}), {handler}{trip}"]
    for choice in bus.choices:
        lines += ["", _wrapped(reason(choice), "  ", "  "), "", *(f"    {row}" for row in numbers(choice))]
    lines += ["", "  Write:", "", *(f"    {line}" for line in bus.configuration())]
    notes = remarks(bus)
    if notes:
        lines += ["", *(_wrapped(note, "  - ", "    ") for note in notes)]
    return "\n".join(lines)


def _wrapped(text: str, first: str, rest: str) -> str:
    return textwrap.fill(text, 100, initial_indent=first, subsequent_indent=rest)


def reason(choice: Choice) -> str:
    """Why this value, in a sentence."""
    unit, what, value = UNITS[choice.parameter], MEANINGS[choice.parameter], choice.value
    if value is None:
        return (
            f"{choice.parameter} ({what}): leave the default. The values differ by less than the samples of one "
            f"value do ({choice.noise:.0%})."
        )
    chosen, best = choice.point(value), choice.best
    words = f"{choice.parameter} {value} ({what}): {chosen.rate:,.0f} {unit}"
    if chosen is best:
        words += ", the best."
    else:
        words += f", {choice.part_of_best:.0%} of the best ({best.rate:,.0f} with {best.value})."
    if value == DEFAULTS.get(choice.parameter):
        words += " It is the default."
    if choice.kept is not None:
        words += f" Kept: the gain is less than the samples of one value differ by ({choice.noise:.0%})."
    if choice.smaller is not None:
        words += f" {choice.smaller} would cost {max(0.0, choice.smaller_costs):.0%}."
    return words


def numbers(choice: Choice) -> list[str]:
    """All that was measured of a parameter, in two rows."""
    unit = UNITS[choice.parameter]
    head = [f"{point.value}" for point in choice.points]
    rates = [f"{point.rate:,.0f}" for point in choice.points]
    widths = [max(len(one), len(other)) for one, other in zip(head, rates, strict=True)]
    return [
        "  ".join([f"{name:<11}", *(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))])
        for name, texts in ((choice.parameter, head), (unit, rates))
    ]


def remarks(bus: BusAdvice) -> list[str]:
    """What a user should know before setting these values."""
    found = []
    window, concurrency = bus.window, bus.concurrency
    if is_far(bus.round_trip_ms):
        found.append(
            f"The broker is {bus.round_trip_ms:.1f} ms away. The farther it is, the wider the window has to be: about "
            "the rate that you need, in events a second, times the round trip in seconds."
        )
    if window.value is not None and window.value < DEFAULTS["window"]:
        found.append(
            f"The default window of {DEFAULTS['window']} is no slower; with {window.value}, fewer events have an "
            "unknown outcome when the connection is lost."
            if _as_fast(window, DEFAULTS["window"])
            else f"The default window of {DEFAULTS['window']} was slower here."
        )
    if concurrency.value is not None and concurrency.value > 1:
        found.append("With a concurrency above 1, the events of a queue are not handled in their order.")
    if not bus.handler_ms:
        found.append(
            "The handler returned at once. If yours waits (database, HTTP), name its time: --handler-ms 20; "
            "concurrency and prefetch depend on it most."
        )
    noisy = [choice for choice in bus.choices if choice.noise > NOISY]
    if noisy:
        found.append(
            f"The samples of one value lie up to {max(choice.noise for choice in noisy):.0%} apart "
            f"({', '.join(choice.parameter for choice in noisy)}). Something else works on this machine or on the "
            "broker; measure again when it is quiet."
        )
    for choice in bus.choices:
        if choice.close and choice not in noisy:
            found.append(
                f"{choice.parameter}: {choice.smaller} or {choice.value} may be either way: they differ by less than "
                f"the samples do ({choice.noise:.0%})."
            )
        if choice.at_the_end:
            found.append(f"{choice.parameter}: {choice.value} is the largest that was tried; more may be faster.")
    return found


def _as_fast(choice: Choice, value: int) -> bool:
    rates = {point.value: point.rate for point in choice.points}
    return rates.get(value, 0.0) >= (ENOUGH - choice.noise) * choice.best.rate


def _closing(advice: Advice) -> str:
    lines = [
        f"Measured over {advice.broker} in {advice.seconds:.0f} s. Rates are medians; the smallest value that reaches "
        f"{ENOUGH:.0%} of the best rate is advised.",
        "These are arguments of the bus and of the subscription; URL and environment have no options for them.",
        *advice.notes,
    ]
    return "\n".join(_wrapped(line, "", "") for line in lines)
