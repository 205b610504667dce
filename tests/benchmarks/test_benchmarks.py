"""The benchmarks run, and say what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.publish import cases
from benchmarks.runner import Amount, Sample, enough, percentiles, summary

ROOT = Path(__file__).resolve().parents[2]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )


def measured(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    file = tmp_path / "found.json"
    ran = benchmarks(*arguments, "--json", str(file))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(file.read_text())["results"]
    for result in found:
        assert f"{result['messages_per_second']:,.0f}" in ran.stdout
    return list(found)


def test_the_memory_benchmark_writes_rates_and_processor_time_of_both_buses(tmp_path: Path) -> None:
    found = measured(tmp_path, "memory", "--messages", "500")
    assert [(r["benchmark"], r["client"]) for r in found] == [("memory", "sync"), ("memory", "async")]
    for result in found:
        assert (result["messages"], result["repeats"]) == (500, 3)
        assert result["messages_per_second"] > 0
        assert result["cpu_us_per_message"] >= 0


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("publish-confirm", "window", {1, 10, 100, 1000}),
        ("prefetch", "prefetch", {1, 10, 50, 200, 1000, "unlimited"}),
        ("rpc", "in flight", {1, 100}),
        ("latency", "rate", {100, 1000, 5000}),
        ("fanout", "groups", {1, 5, 10, 50}),
    ],
)
def test_every_setting_is_measured_on_both_buses(name: str, key: str, values: set[int | str], tmp_path: Path) -> None:
    amount = ["--seconds", "0.02"] if name == "latency" else ["--messages", "50"]
    found = measured(tmp_path, name, *amount, "--quick", "--repeats", "1", "--transport", "memory://benchmarks-test")
    for bus in ("sync", "async"):
        assert {r["settings"][key] for r in found if r["client"] == bus} == values
    if name in ("latency", "rpc"):
        assert all(0 < r["latency_ms"]["p50"] <= r["latency_ms"]["p99"] <= r["latency_ms"]["max"] for r in found)


def test_memory_is_read_after_each_tenth_of_a_stream(tmp_path: Path) -> None:
    found = measured(tmp_path, "footprint", "--messages", "2000", "--transport", "memory://benchmarks-test")
    for result in found:
        assert list(result["rss_mb"]) == [f"{part} %" for part in range(10, 101, 10)]
        assert all(size > 1 for size in result["rss_mb"].values())


def test_the_full_set_has_every_body_at_every_window_and_the_quick_one_at_the_widest() -> None:
    full, quick = cases(quick=False, tls=True), cases(quick=True, tls=False)
    bodies = {256, 4096, 65536}
    assert {(c.window, c.body) for c in full} == {(w, b) for w in (1, 10, 100, 1000) for b in bodies}
    assert {c.body for c in quick} == bodies
    assert any(c.tls for c in full)
    assert not any(c.tls for c in quick)
    for some in (full, quick):
        assert {(c.delivery, c.queue) for c in some} == {
            (d, q) for d in ("persistent", "transient") for q in ("quorum", "classic")
        }


def test_a_password_of_the_broker_is_shown_nowhere(tmp_path: Path) -> None:
    secret = "very-secret"
    ran = benchmarks("memory", "--messages", "2", "--transport", f"amqp://me:{secret}@localhost/", "--json",
                     str(tmp_path / "found.json"))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert secret not in ran.stdout + ran.stderr + (tmp_path / "found.json").read_text()


def test_a_broker_that_is_not_there_is_told_of_in_one_line() -> None:
    ran = benchmarks("latency", "--transport", "amqp://guest:guest@127.0.0.1:1/?connection_timeout=1000")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("cannot measure: ")
    assert "Traceback" not in ran.stderr


def test_results_are_medians_of_the_samples_and_latencies_of_all_of_them() -> None:
    samples = [Sample(100, 1.0, 0.001, [0.001]), Sample(100, 2.0, 0.003, [0.003]), Sample(100, 10.0, 0.002, [0.002])]
    result = summary(samples, benchmark="memory", client="sync", settings={})
    assert (result.messages_per_second, result.cpu_us_per_message) == (50.0, 20.0)
    assert result.latency_ms == {"p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}


def test_percentiles_are_the_nearest_ranks() -> None:
    thousand = [n / 1e6 for n in range(1, 1001)]
    assert percentiles(thousand) == {"p50": 0.501, "p90": 0.901, "p99": 0.991, "max": 1.0}
    assert percentiles([]) == {}


def test_seconds_become_messages_by_the_rate_of_the_warm_up() -> None:
    assert enough(Sample(100, 0.1, 0.0), Amount(5, seconds=2.0)) == 2000
    assert enough(Sample(100, 0.1, 0.0), Amount(5)) == 5
    assert enough(Sample(100, 100.0, 0.0), Amount(5, seconds=0.1)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["memory", "--messages", "0"], "at least 2"),
        (["memory", "--seconds", "0"], "0.01 to 600"),
        (["memory", "--messages", "5", "--seconds", "5"], "not allowed with"),
        (["unheard-of"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(arguments: list[str], words: str) -> None:
    ran = benchmarks(*arguments)
    assert (ran.returncode, words in ran.stderr) == (2, True)


def test_a_report_is_drawn_from_a_file_of_results(tmp_path: Path) -> None:
    measured(tmp_path, "memory", "--messages", "50")
    ran = benchmarks("report", str(tmp_path / "found.json"), "--to", str(tmp_path / "page"))
    assert ran.returncode == 0, ran.stderr
    assert "eventbus" in (tmp_path / "page" / "index.html").read_text()
    (tmp_path / "other.json").write_text("[]")
    ran = benchmarks("report", str(tmp_path / "other.json"))
    assert (ran.returncode, "holds no results" in ran.stderr) == (1, True)
