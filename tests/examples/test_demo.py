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

KILLED = (
    "emails     mail to Customer 30: no answer from the mail server",
    "demo       kills the email service with SIGKILL while it holds deliveries; it has sent 29 mails",
    "demo       starts the email service again",
    "   crowd: confirmed           200",
    "   handled by emails          200",
    "   handled by analytics       200",
    "   lost                         0",
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


def went_well(ran: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in (*KEY_LINES, *lines) if line not in ran.stdout] == []
    assert ran.stderr == ""
    assert "\x1b" not in ran.stdout


def test_the_demo_in_one_process_tells_its_story_and_its_numbers_add_up() -> None:
    ran = run("demo", "--broker", "memory")
    went_well(ran)
    assert "SIGKILL" not in ran.stdout


def test_the_demo_is_of_processes_over_one_file_and_a_killed_service_loses_nothing(tmp_path: Path) -> None:
    ran = run("demo", TMPDIR=str(tmp_path))
    went_well(ran, *KILLED)
    assert ran.stdout.startswith("Customers, over one SQLite file and no server: each service a process\n")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_goes_to_rabbitmq_by_its_url_and_a_killed_service_loses_nothing() -> None:
    went_well(run("demo", "--broker", "rabbitmq"), *KILLED)


def test_the_demo_runs_over_a_file_of_ones_own(tmp_path: Path) -> None:
    went_well(run("demo", "--url", f"sqlite:///{tmp_path}/shop.db"), *KILLED)
    assert (tmp_path / "shop.db").exists()


def test_the_demo_says_what_is_wrong_with_its_url(tmp_path: Path) -> None:
    ran = run("demo", "--url", f"sqlite:///{tmp_path}/missing/shop.db")
    assert ran.returncode == 1
    assert f"there is no folder {tmp_path}/missing" in ran.stderr


def test_a_service_without_a_broker_says_what_to_set() -> None:
    ran = run("emails")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "EVENTBUS_URL" in ran.stderr
    assert "sqlite:///bus.db" in ran.stderr


def test_a_service_on_memory_says_that_processes_do_not_meet_there() -> None:
    ran = run("pricing", EVENTBUS_URL="memory://demo")
    assert ran.returncode == 1
    assert "one process" in ran.stderr


@pytest.mark.parametrize("given", [("--broker", "memory", "--url", "amqp://localhost/"), ("--url", "memory://")])
def test_a_url_for_the_memory_demo_is_refused(given: tuple[str, ...]) -> None:
    ran = run("demo", *given)
    assert (ran.returncode, "usage:" in ran.stderr) == (2, True)
