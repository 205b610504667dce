"""The demo, as a user runs it: a command in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

KEY_LINES = (
    "users      published customers.registered.se for Ada: confirmed",
    "emails     mail to bo@example.com failed: the mail server is busy (attempt 1, from emails.customers.registered)",
    "emails     mail to bo@example.com: welcome, Bo! (attempt 2, from emails.customers.registered)",
    "analytics  Cleo is number 2 from se",
    "pricing    asked for 3 x tea: answered 13.50 EUR",
    "users      asked for 3 x tea: 13.50 EUR",
    "support    given up because the body could not be decoded",
    "   dead letters                 1",
    "Everything adds up.",
)


def run(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", f"examples.customers.{module}", *arguments],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("broker", ["memory", "rabbitmq"])
def test_the_demo_tells_its_story_and_its_numbers_add_up(broker: str) -> None:
    ran = run("demo", "--broker", broker)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in KEY_LINES if line not in ran.stdout] == []
    assert ran.stderr == ""
    assert "\x1b" not in ran.stdout


def test_a_service_without_a_broker_says_what_to_set() -> None:
    ran = run("emails")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "EVENTBUS_URL" in ran.stderr


def test_a_service_on_memory_says_that_processes_do_not_meet_there() -> None:
    ran = run("pricing", EVENTBUS_URL="memory://demo")
    assert ran.returncode == 1
    assert "one process" in ran.stderr


def test_a_url_for_the_memory_demo_is_refused() -> None:
    ran = run("demo", "--broker", "memory", "--url", "amqp://localhost/")
    assert (ran.returncode, "--broker rabbitmq" in ran.stderr) == (2, True)
