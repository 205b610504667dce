"""The benchmarks run, and say what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.runner import Sample, summary

ROOT = Path(__file__).resolve().parents[2]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )


def test_the_memory_benchmark_writes_rates_and_processor_time_of_both_buses(tmp_path: Path) -> None:
    ran = benchmarks("memory", "--messages", "50", "--json", str(tmp_path / "found.json"))
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["environment"]["broker"] == "memory"
    assert [(r["benchmark"], r["bus"]) for r in found["results"]] == [("memory", "sync"), ("memory", "async")]
    for result in found["results"]:
        assert (result["messages"], result["repeats"]) == (50, 3)
        assert result["messages_per_second"] > 0
        assert result["cpu_us_per_message"] >= 0
        assert f"{result['messages_per_second']:,.0f}" in ran.stdout


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("publish-confirm", ["window 1", "window 10", "window 100", "window 1000"]),
        ("prefetch", ["prefetch 1", "prefetch 10", "prefetch 50", "prefetch 200"]),
    ],
)
def test_every_setting_is_measured_on_both_buses(name: str, settings: list[str], tmp_path: Path) -> None:
    url = "memory://benchmarks-test"
    ran = benchmarks(name, "--messages", "20", "--transport", url, "--json", str(tmp_path / "found.json"))
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "found.json").read_text())["results"]
    assert [(r["setting"], r["bus"]) for r in results] == [(s, bus) for s in settings for bus in ("sync", "async")]


def test_a_password_of_the_broker_is_shown_nowhere(tmp_path: Path) -> None:
    secret = "very-secret"
    ran = benchmarks("memory", "--messages", "2", "--transport", f"amqp://me:{secret}@localhost/", "--json",
                     str(tmp_path / "found.json"))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert secret not in ran.stdout + ran.stderr + (tmp_path / "found.json").read_text()


def test_results_are_medians_of_the_samples() -> None:
    samples = [Sample(100, 1.0, 0.001), Sample(100, 2.0, 0.003), Sample(100, 10.0, 0.002)]
    result = summary(samples, benchmark="memory", bus="sync", setting="end to end")
    assert (result.messages_per_second, result.cpu_us_per_message) == (50.0, 20.0)


def test_an_impossible_number_of_messages_is_refused_with_the_reason() -> None:
    ran = benchmarks("memory", "--messages", "0")
    assert (ran.returncode, "at least 2" in ran.stderr) == (2, True)
