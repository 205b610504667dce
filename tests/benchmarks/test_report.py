"""What the terminal shows of results, and what the report says of them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import write_report
from benchmarks.report.charts import charts
from benchmarks.runner import Result, read, write
from benchmarks.screen import Screen, rate_text, setting_text, size_text

WHERE = {"python": "3.11", "broker": "RabbitMQ <3.10>"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(benchmark: str, client: str, rate: float = 1000.0, **more: object) -> Result:
    made = Result(
        benchmark=benchmark,
        client=client,
        settings={},
        messages=20_000,
        repeats=3,
        messages_per_second=rate,
        cpu_us_per_message=25.0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def published(window: int, rate: float, client: str = "sync", **more: object) -> Result:
    settings = {"window": window, "body": 256, "delivery": "persistent", "queue": "quorum", "tls": "no", **more}
    return result("publish-confirm", client, rate, settings=settings, body_bytes=settings["body"])


LATENCIES = {"p50": 0.5, "p90": 0.9, "p99": 2.5, "max": 12.0}
ALL = [
    published(1, 1500.0),
    published(1000, 30_000.0),
    published(1000, 40_000.0, queue="classic"),
    result("prefetch", "async", 900.0, settings={"prefetch": 1, "handler": "at once"}),
    result("prefetch", "async", 9000.0, settings={"prefetch": "unlimited", "handler": "at once"}),
    result("latency", "sync", settings={"rate": 1000}, latency_ms=LATENCIES),
    result("rpc", "sync", settings={"in flight": 1}, latency_ms=LATENCIES),
    result("fanout", "async", settings={"groups": 1}),
    result("fanout", "async", settings={"groups": 50}),
    result("footprint", "sync", rss_mb={"10 %": 50.0, "100 %": 50.5}),
    result("memory", "sync"),
    result("peers/publish", "ceiling", 50_000.0, of_ceiling=1.0),
    result("peers/publish", "eventbus-async", 30_000.0, of_ceiling=0.6),
    result("peers/publish", "pika-select", 20_000.0, of_ceiling=0.4),
]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"window": 100, "body": 4096, "delivery": "persistent", "queue": "quorum", "tls": "no"},
         "window 100, 4 KiB, persistent, quorum"),
        ({"window": 1, "body": 256, "tls": "yes"}, "window 1, 256 B, TLS"),
        ({"prefetch": "unlimited", "handler": "waits 1 ms"}, "prefetch unlimited, handler waits 1 ms"),
        ({"in flight": 100}, "in flight 100"),
        ({"rate": 500}, "rate 500/s"),
        ({}, ""),
    ],
)  # fmt: skip
def test_settings_are_said_in_words(settings: dict[str, str | int | float], text: str) -> None:
    assert setting_text(settings) == text


def test_sizes_and_rates_are_said_with_their_units() -> None:
    assert [size_text(size) for size in (120, 1000, 4096, 65536, 2 << 20)] == [
        "120 B", "1000 B", "4 KiB", "64 KiB", "2 MiB",
    ]  # fmt: skip
    assert [rate_text(rate) for rate in (3.26, 12_345.6)] == ["3.3", "12,346"]


def test_the_table_is_plain_and_aligned_where_stdout_is_no_terminal() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out=out, err=err, total=2)
    for one in (published(1000, 30_000.0, body=65536), ALL[5], ALL[-1]):
        with screen.measuring(one.benchmark, one.client, one.settings):
            pass
        screen.show(one)
    head, first, second, third = out.getvalue().splitlines()
    assert err.getvalue() == ""
    assert "\x1b" not in out.getvalue()
    assert first.split()[-5:] == ["1,966.1", "25.0", "-", "-", "-"]
    assert second.split()[-5:] == ["-", "25.0", "0.50", "2.50", "-"]
    assert third.endswith("40%")
    for title, cell in (("messages/s", "30,000"), ("MB/s", "1,966.1")):
        assert head.index(title) + len(title) == first.index(cell) + len(cell)


def test_a_row_is_written_as_soon_as_it_is_there() -> None:
    out = io.StringIO()
    screen = Screen(out=out, err=io.StringIO())
    screen.show(ALL[0])
    assert "1,500" in out.getvalue()


def test_a_terminal_gets_a_part_for_each_benchmark_and_only_the_columns_that_it_fills(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    screen = Screen(out=out, err=io.StringIO())
    for one in (ALL[0], ALL[1], ALL[5]):
        screen.show(one)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "\x1b[" in out.getvalue()
    assert [line for line in plain.splitlines() if line in ("publish-confirm", "latency")] == [
        "publish-confirm",
        "latency",
    ]
    publishing, latency = plain.split("latency\n")
    assert ("p99" in publishing, "p99" in latency) == (False, True)
    assert "of ceiling" not in plain


@pytest.mark.parametrize("total", [None, 7])
def test_a_terminal_shows_what_is_being_measured(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    err = Terminal()
    screen = Screen(out=io.StringIO(), err=err, total=total)
    with screen.measuring("publish-confirm", "sync", {"window": 10}):
        pass
    assert "publish-confirm: sync: window 10" in err.getvalue()
    assert ("0/7" in err.getvalue()) == (total is not None)


def test_every_chart_that_there_are_results_for_is_written_in_light_and_dark(tmp_path: Path) -> None:
    chosen = [one for one in ALL if one.benchmark in ("publish-confirm", "latency", "peers/publish")]
    written = write_report(chosen, WHERE, tmp_path / "new" / "folder")
    names = {path.name for path in written}
    assert written[0].name == "index.html"
    for name in ("publish-window", "publish-kinds", "latency", "peers-publish"):
        assert {f"{name}.png", f"{name}.svg", f"{name}-dark.svg"} <= names
    for path in written:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
            assert len(content) > 10_000  # an empty picture of this size has less
        if path.suffix == ".svg":
            assert content.count(b"<path") > 20
    page = written[0].read_text(encoding="utf-8")
    for file in re.findall(r'(?:src|srcset|href)="([^"#]+)"', page):
        assert file in names


def test_there_is_a_chart_for_each_kind_of_result_and_none_without_results() -> None:
    assert [chart.name for chart in charts(ALL)] == [
        "publish-window", "publish-kinds", "prefetch", "latency", "rpc", "fanout", "footprint", "peers-publish",
    ]  # fmt: skip
    assert charts([]) == []
    assert charts([result("memory", "sync")]) == []


def test_titles_say_what_is_to_be_seen() -> None:
    titles = {chart.name: chart.title for chart in charts(ALL)}
    assert titles["publish-window"].endswith("20 times the rate with 1,000 instead of 1 (sync)")
    assert titles["prefetch"].endswith("10 times the rate with unlimited instead of 1 (async)")
    assert "2.50 ms (sync at 1,000/s)" in titles["latency"]
    assert titles["peers-publish"].endswith("eventbus-async reaches 60% of a plain socket")


def test_the_page_escapes_what_it_is_given_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    hostile = result("peers/<b>../x", "<script>alert(1)</script>", settings={"<i>": "&"})
    page = write_report([hostile], WHERE, tmp_path, notes=["kombu: absent (<none>)"])[0].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "RabbitMQ &lt;3.10&gt;" in page
    assert "kombu: absent (&lt;none&gt;)" in page
    assert not re.search(r'(?:src|srcset|href)="(?!#|[\w-]+\.(?:svg|png)")', page)
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_the_page_shows_every_number_and_how_it_was_measured(tmp_path: Path) -> None:
    results = [result("memory", "sync", 54_321.0), result("memory", "async", 12_345.0)]
    page = write_report(results, WHERE, tmp_path)[0].read_text(encoding="utf-8")
    for text in ("54,321", "12,345", "25.0", "median of 3 samples", "CPU is the processor time of the client"):
        assert text in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_results_give_the_same_files_also_after_being_written_and_read(tmp_path: Path) -> None:
    chosen = [published(1, 1500.0), published(1000, 30_000.0)]
    write(tmp_path / "results.json", chosen, WHERE)
    first = write_report(chosen, WHERE, tmp_path / "first")
    second = write_report(*read(tmp_path / "results.json"), tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
