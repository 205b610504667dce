"""``eventbus run`` with one bus: in its own process, or started again at changes."""

from __future__ import annotations

import os
import signal

import pytest

from eventbus.testing import eventually
from tests.cli.run import programs
from tests.cli.run.running import PATIENCE, Folder, alive, workers_of

kinds = pytest.mark.parametrize("program", [programs.SYNC, programs.ASYNC], ids=["sync", "async"])


@kinds
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(folder: Folder, program: str, number: signal.Signals) -> None:
    folder.write("app.py", program)
    run = folder.start("run", "app:bus")
    run.says("running app:bus")
    run.says("app:bus: ready")
    run.signal(number)
    assert run.ends() == 0
    assert run.lines("app:bus: ended, nothing left behind")
    assert not run.lines("Traceback")


@kinds
def test_what_is_being_handled_is_finished_first(folder: Folder, program: str) -> None:
    folder.write("app.py", program + programs.WITH_A_JOB)
    run = folder.start("run", "app:bus")
    run.says("began")
    run.signal(signal.SIGTERM)
    run.says("app:bus: draining")
    folder.write("go", "")
    assert run.ends() == 0
    assert run.lines("done")


@kinds
def test_a_handler_that_outlives_the_grace_period_makes_it_1(folder: Folder, program: str) -> None:
    folder.write("app.py", program + programs.WITH_A_JOB)
    run = folder.start("run", "app:bus", "--grace", "0.3")
    run.says("began")
    run.signal(signal.SIGTERM)
    assert run.ends() == 1
    assert run.lines("1 handlers did not end in time")


@kinds
def test_a_second_signal_does_not_wait_for_the_grace_period(folder: Folder, program: str) -> None:
    folder.write("app.py", program + programs.WITH_A_JOB)
    run = folder.start("run", "app:bus", "--grace", "600")
    run.says("began")
    run.signal(signal.SIGTERM)
    run.says("app:bus: draining")
    run.signal(signal.SIGTERM)
    assert run.ends() == 1  # long before the grace period


def test_a_signal_while_the_program_is_imported_ends_it_with_0(folder: Folder) -> None:
    folder.write("app.py", "import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    run = folder.start("run", "app:bus")
    run.says("importing")
    run.signal(signal.SIGTERM)
    assert run.ends() == 0
    assert not run.lines("Traceback")


def test_a_bus_that_cannot_be_loaded_is_told_once(folder: Folder) -> None:
    done = folder.run("run", "nowhere:bus")
    assert done.code == 78
    assert done.err.count("no module 'nowhere'") == 1
    assert "Traceback" not in done.err


def test_mistakes_of_usage_are_told_before_anything_runs(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    for arguments, code, told in (
        (("app:bus", "--reload", "--workers", "2"), 64, "--reload is for one worker"),
        (("app:bus", "app:bus"), 64, "named twice"),
        (("app:bus", "--health", "nonsense"), 78, "HOST:PORT"),
        (("app:bus", "--ready-file", "nowhere/ready"), 78, "no such folder"),
        ((), 64, "EVENTBUS_APP"),
    ):
        done = folder.run("run", *arguments)
        assert done.code == code, done.err
        assert told in done.err
        assert "running" not in done.err


# -- the ready file -----------------------------------------------------------------------------------------


def test_the_ready_file_is_there_while_the_bus_is_ready(folder: Folder) -> None:
    folder.write("app.py", programs.SYNC + programs.WITH_A_JOB)
    ready = folder.path / "ready"
    run = folder.start("run", "app:bus", "--ready-file", "ready")
    run.says("app:bus: ready")
    assert ready.exists()
    run.says("began")
    run.signal(signal.SIGTERM)
    eventually(lambda: not ready.exists(), PATIENCE, what="the file goes while the bus drains")
    assert run.running
    folder.write("go", "")
    assert run.ends() == 0
    assert not ready.exists()


def test_a_ready_file_of_an_earlier_run_goes_at_once(folder: Folder) -> None:
    folder.write("app.py", programs.UNREADY)
    ready = folder.write("ready", "")
    run = folder.start("run", "app:bus", "--ready-file", "ready")
    run.says("app:bus: connecting")
    assert not ready.exists()
    run.signal(signal.SIGTERM)
    assert run.ends() == 0


# -- reload -------------------------------------------------------------------------------------------------


def version(number: int) -> str:
    return f"{programs.QUIET}\nprint('version', {number!r}, flush=True)\n{'#' * number}\n"


def test_reload_starts_again_with_the_changed_code(folder: Folder) -> None:
    folder.write("app.py", version(1))
    run = folder.start("run", "app:bus", "--reload")
    run.says("version 1")
    run.says("app:bus: ready")
    folder.write("app.py", version(2))
    run.says("version 2")
    run.says("app:bus: ready", 2)
    run.signal(signal.SIGTERM)
    assert run.ends() == 0


def test_reload_outlives_a_mistake_in_the_code(folder: Folder) -> None:
    folder.write("app.py", "def\n")
    run = folder.start("run", "app:bus", "--reload")
    run.says("SyntaxError")
    run.says("waiting for a change of the code")
    folder.write("app.py", version(1))
    run.says("app:bus: ready")
    folder.write("app.py", f"{version(2)}\n1 / 0\n")
    run.says(f"ZeroDivisionError: division by zero ({folder.path / 'app.py'}, line ")
    run.says("waiting for a change of the code", 2)
    folder.write("app.py", version(3))
    run.says("app:bus: ready", 2)
    run.signal(signal.SIGINT)
    assert run.ends() == 0


def test_reload_without_watchfiles_says_what_to_install(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    folder.write("watchfiles.py", "raise ImportError('not here')\n")
    done = folder.run("run", "app:bus", "--reload", env={"PYTHONPATH": str(folder.path)})
    assert done.code == 78
    assert 'pip install "eventbus[reload]"' in done.err


def test_reload_leaves_no_process_behind(folder: Folder) -> None:
    folder.write("app.py", version(1))
    run = folder.start("run", "app:bus", "--reload")
    (first,) = workers_of(run, 1).values()
    folder.write("app.py", version(2))
    run.says("app:bus: ready", 2)
    assert not alive(first)
    os.kill(run.pid, signal.SIGTERM)
    assert run.ends() == 0
