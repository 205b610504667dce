"""The comparison with other clients: samples are whole, ratios are of the same round, nobody is left out silently."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from benchmarks.peers import CLIENTS, WORKS, Absent, Choice, run
from benchmarks.peers.clients import ceiling, shared
from benchmarks.peers.clients.wire import Refused, message, method
from benchmarks.peers.environments import HERE, NO_GO, NoEnvironmentError, ready
from benchmarks.peers.registry import LARGE, SMALL, QueueType, Work
from benchmarks.peers.rounds import Runner, body_of, measured, messages, of_ceiling, prepared, shuffled
from benchmarks.runner import Amount, Plan, Result, Sample, Settings

OURS = ("ceiling", "eventbus-async", "eventbus-sync")


class Quiet:
    @contextmanager
    def measuring(self, benchmark: str, client: str, settings: Settings) -> Iterator[None]:
        yield


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker() as broker:
        yield broker


def plan(url: str = "amqp://localhost/", rounds: int = 1, amount: Amount = Amount(60)) -> Plan:  # noqa: B008
    return Plan(url, amount, Quiet(), rounds)


@pytest.mark.parametrize(
    ("work", "queue", "clients"),
    [
        ("publish", "quorum", OURS),
        ("publish", "classic", OURS[:1]),
        ("publish-one", "quorum", OURS),
        ("publish-64k", "quorum", OURS[:2]),
        ("consume", "quorum", OURS),
        ("consume-64k", "classic", OURS[:1]),
        ("rpc", "classic", OURS[1:]),
    ],
)
def test_a_work_is_measured_for_the_ceiling_and_for_eventbus(
    broker: LocalBroker, work: str, queue: QueueType, clients: tuple[str, ...]
) -> None:
    choice = Choice(works=[work], clients=clients, queue=queue, build=False)
    found = [r for r in run(plan(broker.url), choice) if isinstance(r, Result)]
    assert [r.client for r in found] == [c for c in clients if work in CLIENTS[c].works]
    for result in found:
        assert (result.benchmark, result.messages, result.repeats) == (f"peers/{work}", 60, 1)
        assert result.messages_per_second > 0
        assert (result.of_ceiling is not None) == (work != "rpc")
        assert bool(result.latency_ms) == (work in ("publish-one", "rpc"))
        assert result.settings.get("queue") == (None if work == "rpc" else queue)


def test_a_sample_that_leaves_messages_out_is_a_failure_and_no_figure(broker: LocalBroker) -> None:
    half = Runner(CLIENTS["ceiling"], [sys.executable, "-c", 'print("{\\"messages\\":9,\\"seconds\\":1,\\"cpu\\":1}")'])
    for work, reason in (("publish", "of 300 messages 0 are in the queue"), ("consume", "300 messages were left")):
        found = list(measured(plan(broker.url, amount=Amount(300)), WORKS[work], [half], Choice()))
        assert [type(f) for f in found] == [Absent]
        assert reason in str(found[0])


def test_a_client_that_fails_is_reported_with_its_last_words_and_the_others_go_on(broker: LocalBroker) -> None:
    broken = Runner(CLIENTS["kombu"], [sys.executable, "-c", "raise SystemExit('no luck')"])
    whole = Runner(CLIENTS["ceiling"], ready(CLIENTS["ceiling"]).command)
    found = list(measured(plan(broker.url), WORKS["publish"], [broken, whole], Choice()))
    assert found[0] == Absent(benchmark="peers/publish", client="kombu", reason="failed: no luck")
    assert isinstance(found[1], Result)


def test_the_queue_of_the_samples_is_gone_afterwards(broker: LocalBroker) -> None:
    with prepared(broker.url, WORKS["publish"], "classic") as bench:
        assert bench.job.queue in broker.ctl("list_queues", "name")
    assert bench.job.queue not in broker.ctl("list_queues", "name")


def test_clients_without_an_environment_are_reported_and_not_skipped(tmp_path: Path) -> None:
    for client in CLIENTS.values():
        if client.environment and client.environment != "go":
            with pytest.raises(NoEnvironmentError, match="its environment is not made: "):
                ready(client, build=False, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_go_its_client_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEnvironmentError, match=NO_GO):
        ready(CLIENTS["go-amqp091"], folder=tmp_path)


def test_an_environment_is_made_anew_when_its_requirements_change(tmp_path: Path) -> None:
    stamp = tmp_path / "kombu" / "made-from.json"
    stamp.parent.mkdir()
    made = {
        "requirements": (HERE / "requirements" / "kombu.txt").read_text(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "versions": {"kombu": "5.0"},
    }
    stamp.write_text(json.dumps(made))
    assert ready(CLIENTS["kombu"], build=False, folder=tmp_path).versions == {"kombu": "5.0"}
    stamp.write_text(json.dumps({**made, "requirements": "kombu<5"}))
    with pytest.raises(NoEnvironmentError):
        ready(CLIENTS["kombu"], build=False, folder=tmp_path)


def test_every_environment_has_its_requirements_and_every_client_its_module() -> None:
    for client in CLIENTS.values():
        if client.environment != "go":
            assert (HERE / "clients" / f"{client.module}.py").is_file()
        if client.environment not in ("", "go"):
            assert (HERE / "requirements" / f"{client.environment}.txt").is_file()


@pytest.mark.parametrize(
    ("rates", "ratio"),
    [
        ([100, 100, 100], 1.0),
        ([50, 90, 10], 0.5),
        ([50, 90], 0.7),
    ],
)
def test_the_part_of_the_ceiling_is_the_median_over_the_rounds(rates: list[int], ratio: float) -> None:
    taken = {"ceiling": [Sample(100, 1.0, 0.0)] * len(rates), "one": [Sample(rate, 1.0, 0.0) for rate in rates]}
    assert of_ceiling(taken) == {"ceiling": 1.0, "one": ratio}


def test_the_part_of_the_ceiling_is_taken_round_by_round() -> None:
    """When the machine is twice as slow in a round for all, the ratio does not show it."""
    ceiling_taken = [Sample(1000, 1.0, 0.0), Sample(1000, 2.0, 0.0), Sample(1000, 4.0, 0.0)]
    taken = {"ceiling": ceiling_taken, "one": [Sample(s.messages // 2, s.seconds, 0.0) for s in ceiling_taken]}
    assert of_ceiling(taken)["one"] == 0.5


def test_there_is_no_ratio_without_a_ceiling() -> None:
    assert of_ceiling({"one": [Sample(1, 1.0, 0.0)]}) == {}


def test_samples_last_about_as_long_as_asked_whatever_the_pace() -> None:
    asked, client = plan(amount=Amount(seconds=0.5)), CLIENTS["kombu"]
    assert messages(asked, WORKS["consume"], client, []) == WORKS["consume"].pace // 2
    assert messages(asked, WORKS["consume"], client, [Sample(100, 0.1, 0.0)]) == 500
    assert messages(asked, WORKS["publish"], client, []) == WORKS["publish-one"].pace // 2
    endless = Sample(10**9, 1.0, 0.0)
    assert messages(asked, WORKS["publish-64k"], client, [endless]) * LARGE <= 256 << 20
    assert messages(plan(amount=Amount(77)), WORKS["publish"], client, [endless]) == 77


def test_a_client_that_publishes_one_by_one_says_so_in_its_settings() -> None:
    work, kombu = WORKS["publish"], CLIENTS["kombu"]
    assert work.settings("quorum", kombu.window(work)) == {"queue": "quorum", "window": 1, "body": SMALL}
    assert kombu.window(WORKS["consume"]) == WORKS["consume"].window


def test_the_order_differs_by_round_and_is_the_same_for_a_seed() -> None:
    runners = [Runner(client, []) for client in CLIENTS.values()]
    orders = [[r.client.name for r in shuffled(runners, seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(CLIENTS)


def test_the_ceiling_is_always_measured_and_quick_leaves_out_large_bodies() -> None:
    choice = Choice(clients=["kombu"])
    assert [c.name for c in choice.chosen_clients()] == ["ceiling", "kombu"]
    assert {w.name for w in choice.chosen_works(quick=False)} == set(WORKS)
    assert {w.body for w in choice.chosen_works(quick=True)} == {SMALL}
    with pytest.raises(ValueError, match="no such work: 'nothing'"):
        Choice(works=["nothing"]).chosen_works(quick=True)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_bodies_are_events_of_the_size_that_is_said(size: int) -> None:
    assert len(body_of(size)) == size
    assert json.loads(body_of(size))["name"] == "Ada Lovelace"


def ack(tag: int, multiple: bool) -> bytes:
    return method(60, 80, tag.to_bytes(8, "big") + bytes([multiple]))


@pytest.mark.parametrize(
    ("confirms", "count"),
    [
        ([(1, False), (2, False)], 2),
        ([(3, False)], 1),
        ([(5, True)], 5),
        ([(2, False), (4, False), (3, True)], 4),
        ([(4, False), (3, True), (5, False)], 5),
        ([(9, True), (9, True)], 9),
    ],
)
def test_the_ceiling_counts_confirms_of_one_and_of_many(confirms: list[tuple[int, bool]], count: int) -> None:
    found, buffer = ceiling.Confirms(), bytearray()
    for tag, multiple in confirms:
        buffer += ack(tag, multiple)
    rest = buffer[-5:]
    del buffer[-5:]
    found.take(buffer)
    buffer += rest
    found.take(buffer)
    assert (found.count, len(buffer)) == (count, 0)


def test_the_ceiling_takes_nothing_for_a_confirm_that_is_none() -> None:
    with pytest.raises(Refused, match="kind 1"):
        ceiling.Confirms().take(bytearray(method(60, 50, bytes(40))))


def test_a_body_larger_than_a_frame_is_cut() -> None:
    body = os.urandom(10_000)
    frames = message("e", "k", b"\0\0", body, frame_max=4096)
    assert frames.count(b"\x03\x00\x01\x00\x00\x0f\xf8") == 2
    assert frames.endswith(body[-1800:] + b"\xce")


def test_what_the_orchestrator_asks_is_what_the_script_reads(tmp_path: Path) -> None:
    work: Work = WORKS["publish"]
    body = tmp_path / "body"
    body.write_bytes(body_of(SMALL))
    asked = shared.Job(
        work=work.name,
        url="amqp://me:secret@localhost/%2f",
        exchange="e",
        key="k",
        queue="q",
        queue_type="quorum",
        messages=3,
        window=1,
        prefetch=2,
        body=body.read_bytes(),
    )
    read = shared.asked([*shared.arguments(asked, body), "--uvloop"])
    assert asdict(read) == asdict(asked)
