"""The comparison of queues in SQLite files: same durability for all, samples that are whole, targets judged rightly."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.environments import HERE
from benchmarks.peers.registry import Absent
from benchmarks.peers.rounds import FailedError
from benchmarks.report.page import page
from benchmarks.report.sqlite import SQLITE
from benchmarks.runner import Amount, Plan, Result, Sample, Settings
from benchmarks.sqlite import CLIENTS, WORKS, Choice, run
from benchmarks.sqlite.clients import bare, shared, store
from benchmarks.sqlite.clients.shared import Job, Report
from benchmarks.sqlite.disk import IN_MEMORY, NotADiskError, checked, file_system
from benchmarks.sqlite.registry import BARE, BODY, FEW, MANY, QUICK_MANY, Work, works
from benchmarks.sqlite.rounds import Runner, measured, messages
from benchmarks.sqlite.targets import OURS, Verdict, verdicts
from benchmarks.sqlite.team import summed, together

ROOT = Path(__file__).resolve().parents[2]
ON_DISK = file_system(ROOT) not in IN_MEMORY


class Quiet:
    @contextmanager
    def measuring(self, benchmark: str, client: str, settings: Settings) -> Iterator[None]:
        yield


def plan(*, amount: Amount = Amount(40), rounds: int = 1, quick: bool = True) -> Plan:  # noqa: B008
    return Plan("", amount, Quiet(), rounds, quick=quick, given=None if amount.seconds else amount.messages)


def job(tmp_path: Path, **more: Any) -> Job:
    made = Job(
        work="publish", file=tmp_path / "bench.db", synchronous="FULL", messages=20, window=8, prefetch=6, body=BODY
    )
    return replace(made, **more)


def runner(tmp_path: Path, script: str = "", *, name: str = BARE) -> Runner:
    command = [sys.executable, "-c", script] if script else [sys.executable, "-m", "benchmarks.sqlite.clients.bare"]
    return Runner(CLIENTS[name], command, tmp_path)


def said(**more: Any) -> str:
    report = Report(sample=Sample(40, 1.0, 0.1), pragmas={"journal_mode": "wal", "synchronous": "FULL"}, left=0)
    return f"print({json.dumps(asdict(replace(report, **more)))!r})"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, a long queue that is not long, and a small team."""
    known = works
    monkeypatch.setattr(
        "benchmarks.sqlite.registry.works",
        lambda *, quick: {
            name: replace(work, team=(2, 2)) if work.name == "processes" else work
            for name, work in known(quick=quick).items()
        },
    )
    monkeypatch.setattr("benchmarks.sqlite.registry.QUICK_MANY", 2_000)
    monkeypatch.setattr("benchmarks.sqlite.registry.QUICK_IDLE_SECONDS", 1)


@pytest.mark.skipif(not ON_DISK, reason="the working directory is kept in memory")
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("client", "asked"), [("eventbus-sync", WORKS), ("eventbus-async", ("publish-one", "publish", "handle", "latency"))]
)
def test_works_are_measured_for_the_bare_loop_and_a_bus_and_the_targets_are_judged(
    client: str, asked: Sequence[str]
) -> None:
    found = list(run(plan(amount=Amount(80)), Choice(folder=ROOT / "tests", works=asked, clients=[client])))
    results = [one for one in found if isinstance(one, Result)]
    assert [one for one in found if isinstance(one, Absent)] == []
    expected = [
        (f"sqlite/{work.name}", name, work.queued)
        for work in works(quick=True).values()
        for name in (BARE, client)
        if work.name in asked and work.name in CLIENTS[name].works
    ]
    assert [(r.benchmark, r.client, r.settings.get("queued", 0)) for r in results] == expected
    for result in results:
        assert result.settings["synchronous"] == "FULL"
        if result.benchmark == "sqlite/idle":
            assert result.idle_cpu is not None
            continue
        assert result.messages_per_second > 0
        assert (result.of_ceiling is None) == (result.benchmark == "sqlite/latency")
        if result.benchmark in ("sqlite/publish-one", "sqlite/latency", "sqlite/claim"):
            assert 0 < result.latency_ms["p50"] <= result.latency_ms["p99"] <= result.latency_ms["max"]
    judged = [one for one in found if isinstance(one, Verdict)]
    assert judged == verdicts(results)
    assert {one.work for one in judged if one.client == client and one.met is not None} == set(asked) - {"idle"}
    assert not list((ROOT / "tests").glob("benchmark-sqlite-*"))


def test_the_command_writes_results_and_says_on_what_it_measured(tmp_path: Path) -> None:
    if file_system(tmp_path) in IN_MEMORY:
        tmp_path = ROOT
    file = tmp_path / "found.json"
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sqlite", "--works", "publish-one", "--clients", BARE, "--repeats", "2",
         "--messages", "50", "--synchronous", "NORMAL", "--folder", str(tmp_path), "--json", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    content = json.loads(file.read_text())
    file.unlink()
    assert content["environment"]["broker"] == f"SQLite {sqlite3.sqlite_version} on {file_system(tmp_path)}"
    (result,) = content["results"]
    assert (result["benchmark"], result["client"], result["messages"], result["repeats"]) == (
        "sqlite/publish-one", BARE, 50, 2,
    )  # fmt: skip
    assert (result["settings"], result["of_ceiling"]) == (
        {"synchronous": "NORMAL", "window": 1, "body": BODY}, 1.0,
    )  # fmt: skip
    assert "the yardstick: takes and deletes in one transaction" in ran.stdout


def test_files_in_memory_are_refused() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm")
    with pytest.raises(NotADiskError, match="kept in memory: choose a --folder"):
        checked(Path("/dev/shm"))
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sqlite", "--folder", "/dev/shm"],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("cannot measure: ")
    assert "Traceback" not in ran.stderr


def test_the_file_system_is_that_of_the_deepest_mount_and_of_two_at_one_point_the_later(tmp_path: Path) -> None:
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        f"30 22 0:40 / {str(tmp_path.resolve()).replace(' ', chr(92) + '040')}/a\\040b rw - xfs /dev/b rw\n"
        f"31 22 0:41 / {tmp_path.resolve()}/twice rw - xfs /dev/c rw\n"
        f"32 22 0:42 / {tmp_path.resolve()}/twice rw shared:2 - tmpfs none rw\n"
    )
    found = {name: file_system(tmp_path / name, mounts) for name in ("other", "a b", "a b/c", "twice")}
    assert found == {"other": "ext4", "a b": "xfs", "a b/c": "xfs", "twice": "tmpfs"}
    assert file_system(tmp_path, "") == "unknown"


def test_bodies_are_of_the_size_that_is_said_and_tell_their_number() -> None:
    for number in (0, 7, 123_456, 10**18):
        body = shared.body_of(number, BODY)
        assert len(body) == BODY
        assert json.loads(body)["number"] == shared.number_of(body) == shared.number_of(body.decode()) == number


def test_the_bare_loop_commits_each_message_hands_out_in_order_and_keeps_nothing_back(tmp_path: Path) -> None:
    one, two = (bare.Bare(tmp_path / "bench.db", "FULL") for _ in range(2))
    assert one.pragmas() == {"journal_mode": "wal", "synchronous": "FULL"}
    one.put(b"first")
    assert two.left() == 1
    one.put_many([b"%d" % number for number in range(10)], 4)
    assert two.left() == 11
    taken = [body for _, body in (*two.take(3), *one.take(100))]
    assert set(taken[:3]) == {b"first", b"0", b"1"}
    assert (len(taken), set(taken)) == (11, {b"first", *(b"%d" % number for number in range(10))})
    assert (list(one.take(1)), two.left()) == ([], 0)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_pragmas_are_read_back_and_not_believed(tmp_path: Path, synchronous: str) -> None:
    found = store.publish(bare.Bare(tmp_path / "bench.db", synchronous), job(tmp_path))
    assert found.pragmas == {"journal_mode": "wal", "synchronous": synchronous}
    assert found.left == 20


class Counting(bare.Bare):
    """Counts what it is asked for."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "FULL")
        self.asked: list[int] = []

    def take(self, most: int) -> Sequence[store.Taken]:
        self.asked.append(most)
        return super().take(most)


def test_a_claim_fills_the_queue_once_and_asks_for_whole_batches(tmp_path: Path) -> None:
    given = job(tmp_path, work="claim", messages=18, queued=2000)
    counting = Counting(given.file)
    first = store.claim(counting, given)
    assert first.sample is not None
    assert (first.sample.messages, len(first.sample.latencies), counting.asked) == (18, 3, [6] * 4)
    assert counting.left() == 2000 - 24
    store.claim(Counting(given.file), given)
    assert counting.left() == 2000 - 48


def test_a_claim_of_a_client_that_is_slow_is_measured_with_what_it_got_in_the_time(tmp_path: Path) -> None:
    given = job(tmp_path, work="claim", messages=18, queued=100, limit=0.0)
    counting = Counting(given.file)
    counting.one_by_one = True
    found = store.claim(counting, given).sample
    assert found is not None
    assert (found.messages, counting.asked) == (3, [1] * 4)
    assert sum(found.latencies) == pytest.approx(found.seconds * given.prefetch, rel=0.5)  # as if it were whole batches


def test_a_claim_without_anything_to_claim_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nothing to claim"):
        store.claim(Counting(tmp_path / "bench.db"), job(tmp_path, work="claim", messages=18, queued=7))


def test_wrong_pragmas_and_lost_messages_are_failures_and_no_figures(tmp_path: Path) -> None:
    publish = works(quick=True)["publish"]
    for script, reason in (
        (said(pragmas={"journal_mode": "delete", "synchronous": "FULL"}, left=40), "its pragmas are"),
        (said(pragmas={"journal_mode": "wal", "synchronous": "NORMAL"}, left=40), "its pragmas are"),
        (said(left=39), "39 messages are in the queue, not 40"),
        ("raise SystemExit('no luck')", "no luck"),
    ):
        found = list(measured(plan(), [publish], "FULL", [runner(tmp_path, script)], 1))
        assert [type(one) for one in found] == [Absent]
        assert reason in str(found[0])
    (whole,) = measured(plan(), [publish], "FULL", [runner(tmp_path, said(left=40))], 1)
    assert isinstance(whole, Result)
    (left,) = measured(plan(), [works(quick=True)["handle"]], "FULL", [runner(tmp_path, said(left=1))], 1)
    assert "1 messages are in the queue, not 0" in str(left)


def test_a_client_that_fails_once_is_out_and_the_others_go_on(tmp_path: Path) -> None:
    broken = runner(tmp_path, "raise SystemExit('no luck')", name="huey")
    found = list(measured(plan(rounds=2), [works(quick=True)["publish"]], "FULL", [runner(tmp_path), broken], 1))
    assert found[0] == Absent(benchmark="sqlite/publish FULL", client="huey", reason="failed: no luck")
    assert isinstance(found[1], Result)
    assert found[1].repeats == 2
    assert not list(tmp_path.glob("*/bench.db*"))


def test_a_team_handles_everything_once_and_its_time_runs_from_first_start_to_last_handler(tmp_path: Path) -> None:
    found = together(runner(tmp_path).command, job(tmp_path, work="processes", messages=90), 3, 2)
    assert found.sample is not None
    assert found.sample.messages == 90
    assert 0 < found.sample.seconds < 60


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('no luck')", "no luck"),
        ("print('ready', flush=True); input(); raise SystemExit('too bad')", "too bad"),
    ],
)
def test_a_member_that_fails_ends_its_team(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(FailedError, match=reason):
        together([sys.executable, "-c", script], job(tmp_path, work="processes", messages=8), 2, 2)


def test_the_reports_of_a_team_become_one() -> None:
    taking = [
        Report(began=1.0, ended=5.0, cpu=0.5, numbers=[0, 2], latencies=[0.1]),
        Report(began=1.0, ended=6.0, cpu=0.25, numbers=[1, 3], latencies=[0.2]),
    ]
    giving = [Report(began=2.0, ended=4.0, cpu=1.0), Report(began=2.5, ended=4.0, cpu=1.0)]
    assert summed([*taking, *giving], 4, 2).sample == Sample(4, 4.0, 2.75, [0.1, 0.2])
    with pytest.raises(FailedError, match="of 5 messages 1 were not handled"):
        summed([*taking, *giving], 5, 2)
    again = [taking[0], replace(taking[1], numbers=[1, 2, 3])]
    with pytest.raises(FailedError, match="of 4 messages 1 were handled more than once"):
        summed([*again, *giving], 4, 2)


def test_samples_last_about_as_long_as_asked_and_a_team_shares_them_evenly() -> None:
    known, client = works(quick=False), CLIENTS["litequeue"]
    asked = plan(amount=Amount(seconds=0.5), quick=False)
    assert messages(asked, known["publish-one"], client, []) == int(known["publish-one"].pace * client.speed) // 2
    assert messages(asked, known["publish-one"], client, [Sample(100, 0.1, 0.0)]) == 500
    assert messages(asked, known["publish-one"], client, [Sample(1, 100.0, 0.0)]) == 40
    assert messages(asked, known["publish"], client, [Sample(10**9, 1.0, 0.0)]) == 200_000
    assert messages(plan(amount=Amount(7)), known["publish"], client, []) == 7
    assert messages(plan(amount=Amount(43)), known["processes"], client, []) == 40
    assert messages(asked, known["latency"], client, []) == 200


def test_quick_leaves_out_the_million_and_normal() -> None:
    choice = Choice(folder=Path())
    assert choice.chosen_synchronous(quick=True) == ["FULL"]
    assert choice.chosen_synchronous(quick=False) == ["FULL", "NORMAL"]
    for quick, most in ((True, QUICK_MANY), (False, MANY)):
        queued = [work.queued for work in choice.chosen_works(quick=quick) if work.queued]
        assert queued == [FEW, most]
    assert [c.name for c in Choice(folder=Path(), clients=["huey"]).chosen_clients()] == [BARE, "huey"]
    assert {work.name for work in Choice(folder=Path(), works=["claim"]).chosen_works(quick=True)} == {"claim"}


def test_every_client_has_its_module_and_requirements_and_says_what_it_lacks() -> None:
    for client in CLIENTS.values():
        assert (ROOT / "benchmarks/sqlite/clients" / f"{client.module}.py").is_file()
        assert set(client.works) <= set(WORKS)
        assert bool(client.lacks) != (client.name in OURS)
        if client.environment:
            assert (HERE / "requirements" / f"{client.environment}.txt").is_file()


def test_what_is_asked_of_a_script_is_what_it_reads(tmp_path: Path) -> None:
    asked = job(tmp_path, role="publisher", first=5, queued=7, limit=0.5)
    assert shared.asked(shared.arguments(asked)) == asked


def result(work: str, client: str, rate: float = 1000.0, **more: Any) -> Result:
    settings = {"synchronous": "FULL", **more.pop("settings", {})}
    made = Result(
        benchmark=f"sqlite/{work}", client=client, settings=settings, messages=100, repeats=3,
        messages_per_second=rate, cpu_us_per_message=25.0,
    )  # fmt: skip
    return replace(made, **more)


def judged(work: str, *results: Result) -> list[bool | None]:
    return [one.met for one in verdicts(results) if one.work == work and one.client == "eventbus-sync"]


@pytest.mark.parametrize(
    ("work", "rate", "ratio", "met"),
    [
        ("publish-one", 9000.0, 0.79, False),
        ("publish-one", 900.0, 0.8, True),
        ("publish", 19_999.0, 0.49, False),
        ("publish", 20_000.0, 0.01, True),
        ("publish", 100.0, 0.5, True),
        ("handle", 7_999.0, 1.0, False),
        ("handle", 8_000.0, 0.1, True),
        ("processes", 4_999.0, 1.0, False),
        ("processes", 5_000.0, 0.1, True),
    ],
)
def test_rates_are_judged_by_the_target(work: str, rate: float, ratio: float, met: bool) -> None:
    assert judged(work, result(work, "eventbus-sync", rate, of_ceiling=ratio)) == [met]


@pytest.mark.parametrize(("p50", "p99", "met"), [(5.0, 25.0, True), (5.01, 6.0, False), (1.0, 25.1, False)])
def test_latency_is_judged_by_both_percentiles(p50: float, p99: float, met: bool) -> None:
    assert judged("latency", result("latency", "eventbus-sync", latency_ms={"p50": p50, "p99": p99})) == [met]


@pytest.mark.parametrize(("p50", "met"), [(2.0, True), (2.01, False)])
def test_claims_are_judged_by_the_median_of_the_batches(p50: float, met: bool) -> None:
    few = result("claim", "eventbus-sync", settings={"queued": FEW}, latency_ms={"p50": 1.0})
    many = result("claim", "eventbus-sync", settings={"queued": MANY}, latency_ms={"p50": p50})
    assert judged("claim", few, many) == [met]
    assert judged("claim", few) == [None]


def test_what_was_not_measured_with_full_is_no_verdict() -> None:
    normal = result("handle", "eventbus-sync", 9000.0, settings={"synchronous": "NORMAL"})
    assert verdicts([normal]) == []
    bare_only = verdicts([result("handle", BARE)])
    assert {one.met for one in bare_only} == {None}
    assert all("not measured" in str(one) for one in bare_only)


def test_a_verdict_says_what_was_measured_beside_what() -> None:
    found = verdicts([result("publish-one", BARE, 5000.0), result("publish-one", OURS[0], 4100.0, of_ceiling=0.82)])
    assert str(found[0]) == (
        "target publish-one, eventbus-sync: 4,100/s, 0.82 x the bare loop's 5,000/s; wanted >= 0.80 x "
        "the bare loop: met"
    )


def test_the_page_has_charts_targets_and_idle_time() -> None:
    latencies = {"p50": 0.5, "p90": 0.9, "p99": 2.5, "max": 12.0}
    results = [
        result("publish-one", BARE, 5000.0, of_ceiling=1.0),
        result("publish-one", "eventbus-sync", 4100.0, of_ceiling=0.82),
        result("latency", "eventbus-sync", latency_ms=latencies),
        *(
            result("claim", "eventbus-sync", settings={"queued": queued}, latency_ms=latencies)
            for queued in (FEW, MANY)
        ),
        result("idle", "eventbus-sync", idle_cpu=0.25),
    ]
    drawn = [chart for make in SQLITE for chart in make(results)]
    assert [chart.name for chart in drawn] == ["sqlite-publish-one-full", "sqlite-latency-full", "sqlite-claim-full"]
    assert drawn[0].title.endswith("eventbus-sync reaches 82% of the bare loop")
    text = page(results, {}, drawn, [])
    for words in ("idle CPU s/minute", "0.25", "target publish-one, eventbus-sync", "bare loop of sqlite3"):
        assert words in text


def test_works_that_are_known_are_all_drawn_or_explained() -> None:
    from benchmarks.report.sqlite import ABOUT

    assert set(ABOUT) == set(WORKS)
    assert isinstance(works(quick=True)["idle"], Work)
