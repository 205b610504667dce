"""``eventbus run`` with several processes: they are looked after, and end together."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from typing import Any

from eventbus.testing import eventually
from tests.cli.run import programs
from tests.cli.run.running import PATIENCE, Folder, Running, alive, process_in, workers_of


def get(running: Running, path: str) -> tuple[int, Any]:
    """Status and document of its health server."""
    url = running.says("health at ")[0].rpartition("health at ")[2]
    try:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_all_drain_at_sigterm_and_the_code_is_0(folder: Folder) -> None:
    folder.write("app.py", programs.SYNC + programs.WITH_A_JOB)
    folder.write("other.py", programs.ASYNC + programs.WITH_A_JOB)
    run = folder.start("run", "app:bus", "other:bus")
    run.says("began", 2)
    workers = workers_of(run, 2)
    assert set(workers) == {"app:bus", "other:bus"}
    run.signal(signal.SIGTERM)
    run.says(": draining", 2)
    assert run.running
    folder.write("go", "")
    assert run.ends() == 0
    assert len(run.lines("done")) == 2
    assert not any(alive(pid) for pid in workers.values())


def test_one_that_does_not_drain_in_time_makes_the_code_1(folder: Folder) -> None:
    folder.write("app.py", programs.SYNC + programs.WITH_A_JOB)
    folder.write("other.py", programs.QUIET)
    run = folder.start("run", "app:bus", "other:bus", "--grace", "0.3")
    run.says("began")
    workers_of(run, 2)
    run.signal(signal.SIGTERM)
    assert run.ends() == 1
    assert run.lines("app:bus: ended, but 1 handlers")
    assert run.lines("other:bus: ended, nothing left behind")


def test_a_second_signal_stops_all_at_once(folder: Folder) -> None:
    folder.write("app.py", programs.ASYNC + programs.WITH_A_JOB)
    run = folder.start("run", "app:bus", "--workers", "2", "--grace", "600")
    run.says("began", 2)
    workers_of(run, 2)
    run.signal(signal.SIGINT)
    run.says(": draining", 2)
    run.signal(signal.SIGINT)
    assert run.ends() == 1


def test_a_worker_that_is_killed_is_started_again_and_the_others_go_on(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    run = folder.start("run", "app:bus", "--workers", "2")
    workers = workers_of(run, 2)
    assert set(workers) == {"app:bus#1", "app:bus#2"}
    os.kill(workers["app:bus#1"], signal.SIGKILL)
    assert "ended by SIGKILL; another starts in" in run.says("app:bus#1: ended by")[0]
    again = process_in(run.says("app:bus#1: ready", 2)[1])
    assert again != workers["app:bus#1"]
    assert alive(again)
    assert alive(workers["app:bus#2"])
    run.signal(signal.SIGTERM)
    assert run.ends() == 0


def test_a_worker_that_ends_unasked_is_started_again_too(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    run = folder.start("run", "app:bus", "--workers", "2")
    os.kill(workers_of(run, 2)["app:bus#1"], signal.SIGTERM)
    run.says("app:bus#1: ended by itself; another starts in")
    run.says("app:bus#1: ready", 2)
    run.signal(signal.SIGTERM)
    assert run.ends() == 0


def test_a_worker_that_dies_at_once_again_and_again_ends_the_run(folder: Folder) -> None:
    folder.write("app.py", "import os\nos._exit(7)\n")
    folder.write("other.py", programs.QUIET)
    run = folder.start("run", "app:bus", "other:bus")
    other = workers_of(run, 1)["other:bus"]
    assert run.ends() == 1
    pauses = [float(line.split("starts in ")[1].split(" s")[0]) for line in run.lines("exit code 7; another")]
    assert pauses == sorted(set(pauses))  # growing
    assert len(run.lines("error: app:bus died 5 times in a row")) == 1
    assert not alive(other)


def test_a_mistake_in_one_program_ends_the_whole_run_with_its_code_told_once(folder: Folder) -> None:
    folder.write("other.py", programs.QUIET)
    done = folder.run("run", "nowhere:bus", "other:bus", "--workers", "2")
    assert done.code == 78
    assert done.err.count("no module 'nowhere'") == 1
    assert "another starts" not in done.err
    assert "Traceback" not in done.err


def test_workers_end_when_their_parent_is_killed(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    run = folder.start("run", "app:bus", "--workers", "2")
    workers = workers_of(run, 2).values()
    run.signal(signal.SIGKILL)
    run.ends()
    eventually(lambda: not any(alive(pid) for pid in workers), PATIENCE, what="the end of the workers")


def test_a_worker_that_does_not_end_is_killed_in_the_end(folder: Folder) -> None:
    # A thread of the program that never ends keeps an interpreter from ending.
    hangs = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    folder.write("app.py", programs.QUIET + hangs)
    run = folder.start("run", "app:bus", "--workers", "2", "--grace", "0")
    workers = workers_of(run, 2).values()
    run.signal(signal.SIGTERM)
    run.says("ended, nothing left behind", 2)
    assert run.ends() == 0
    assert not any(alive(pid) for pid in workers)


def test_a_signal_while_workers_start_ends_the_run_in_good_order(folder: Folder) -> None:
    folder.write("app.py", "import os, time\nos.write(1, b'importing\\n')\ntime.sleep(600)\n")
    run = folder.start("run", "app:bus", "--workers", "2")
    run.says("importing", 2)
    run.signal(signal.SIGTERM)
    assert run.ends() == 0
    assert not run.lines("Traceback")


# -- health -------------------------------------------------------------------------------------------------


def test_health_tells_of_every_worker_and_the_ready_file_agrees(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    folder.write("other.py", programs.UNREADY)
    run = folder.start("run", "app:bus", "other:bus", "--health", "127.0.0.1:0", "--ready-file", "ready")
    workers_of(run, 1)
    run.says("other:bus: connecting")
    status, document = get(run, "/ready")
    assert (status, document["ready"]) == (503, False)
    assert document["workers"]["app:bus"]["status"] == "ready"
    assert document["workers"]["other:bus"]["status"] == "connecting"
    assert get(run, "/live")[0] == 200
    assert get(run, "/elsewhere")[0] == 404
    assert not (folder.path / "ready").exists()
    run.signal(signal.SIGTERM)
    assert run.ends() == 0


def test_ready_comes_when_all_are_and_goes_when_one_dies(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    run = folder.start("run", "app:bus", "--workers", "2", "--health", ":0", "--ready-file", "ready")
    ready = folder.path / "ready"
    workers = workers_of(run, 2)
    eventually(lambda: get(run, "/ready")[0] == 200, PATIENCE)
    assert ready.exists()
    os.kill(workers["app:bus#2"], signal.SIGKILL)
    run.says("another starts")
    run.says("app:bus#2: ready", 2)
    eventually(lambda: get(run, "/ready")[0] == 200 and ready.exists(), PATIENCE)
    os.kill(workers["app:bus#1"], signal.SIGSTOP)  # so that it stays away
    os.kill(workers["app:bus#1"], signal.SIGKILL)
    eventually(lambda: get(run, "/ready")[0] == 503 and not ready.exists(), PATIENCE)
    run.signal(signal.SIGTERM)
    assert run.ends() == 0
    assert not ready.exists()


def test_an_address_that_is_taken_is_told(folder: Folder) -> None:
    folder.write("app.py", programs.QUIET)
    run = folder.start("run", "app:bus", "--health", "127.0.0.1:0")
    taken = run.says("health at ")[0].rpartition("http://")[2]
    done = folder.run("run", "app:bus", "--health", taken)
    assert done.code == 78
    assert taken in done.err
    assert "Traceback" not in done.err
