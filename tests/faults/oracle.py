"""The judge: reads what the programs have written down, counts, and says what is wrong.

It knows nothing of eventbus and imports nothing of it. What a run must show is given as :class:`Rules`.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.records import Arrival, Fact, Log

OUTCOMES = ("confirmed", "not_sent", "unroutable", "rejected", "unknown")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that must not be; ``code`` is its kind, by which negative controls are recognised."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for one side of one run. Times are seconds."""

    groups: tuple[str, ...]
    timeout: float
    concurrency: int
    window: int
    killed: frozenset[int] = frozenset()
    """Processes that were killed by the fault: what they had under way has no outcome."""
    dead: frozenset[str] = frozenset()
    """Messages that were found in a dead-letter queue, where they belong."""
    ordered: bool = True
    redeliveries_ordered: bool = True
    """Also what a lost consumer had been sent, and not begun, comes again in its order: the broker puts it back in one
    step. A cluster does not, when a consumer's node dies: for a moment two consumers take turns."""
    one_queue: bool = False
    """Every message has one queue, so that "rejected" must mean "not handled"."""
    resends: bool = True
    """Publishers may have lost their connection, so what was in flight may have come twice."""
    losses: bool = True
    """Consumers may have lost theirs, so that what was unsettled comes again."""
    patience: float = 3.0
    """How much later than its deadline an outcome may come on a busy machine."""
    memory: float | None = None
    """Most growth of a process's resident memory, in bytes."""
    exit_codes: tuple[int, ...] = (0,)


@dataclass
class Verdict:
    """The counts of one side of one run, and what is wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    recovery: float | None = None
    gap: float = 0.0

    def says(self, code: str, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(code=code, text=text))


def judge(log: Log, rules: Rules, healed: float | None = None) -> Verdict:
    """Everything that can be said from the records of one side."""
    log.poll()
    verdict = Verdict()
    _outcomes(log, rules, verdict)
    _deliveries(log, rules, verdict)
    _order(log, rules, verdict)
    _limits(log, rules, verdict)
    _requests(log, rules, verdict)
    verdict.recovery = recovery(log, rules.groups, healed)
    verdict.gap = longest_gap(log)
    return verdict


def recovery(log: Log, groups: Iterable[str], healed: float | None) -> float | None:
    """Seconds from the heal to the first message after it that is confirmed and handled in every group."""
    if healed is None:
        return None
    best: float | None = None
    fresh = [
        id_
        for id_, a in log.attempts.items()
        if a.t >= healed and log.outcomes.get(id_, {}).get("outcome") == "confirmed"
    ]
    for id_ in fresh[:2000]:
        ends = [[a.end for a in log.arrivals[g].get(id_, []) if a.ok and a.end is not None] for g in groups]
        if all(ends):
            latest = max(min(one) for one in ends) if ends else log.outcomes[id_]["t"]
            best = latest if best is None else min(best, latest)
    return None if best is None else max(0.0, best - healed)


def longest_gap(log: Log) -> float:
    """Longest time between two confirms."""
    times = sorted(fact["t"] for fact in log.outcomes.values() if fact["outcome"] == "confirmed")
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


def _outcomes(log: Log, rules: Rules, verdict: Verdict) -> None:
    counts = verdict.counts
    counts["attempted"] = len(log.attempts)
    for text in log.odd:
        verdict.says("outcome", text)
    for id_, attempt in log.attempts.items():
        fact = attempt.outcome
        if fact is None:
            counts["unfinished"] += 1
            if attempt.pid not in rules.killed:
                verdict.says("hung", f"publish of {id_} never ended")
            continue
        counts[fact["outcome"] if fact["outcome"] in OUTCOMES else "foreign"] += 1
        if fact["outcome"] not in OUTCOMES or not fact.get("ours", True):
            verdict.says("foreign", f"{id_} raised {fact.get('error')}: {fact.get('text')}")
        elif fact["t"] - attempt.t > rules.timeout + rules.patience:
            verdict.says("late", f"{id_} had its outcome after {fact['t'] - attempt.t:.1f} s of {rules.timeout:g} s")
    total = sum(counts[name] for name in (*OUTCOMES, "unfinished", "foreign"))
    if total != counts["attempted"]:
        verdict.says("outcome", f"{counts['attempted']} attempts have {total} outcomes")
    for pid in {a.pid for a in log.attempts.values()}:
        open_ = _most_at_once(
            [(a.t, a.outcome["t"] if a.outcome else float("inf")) for a in log.attempts.values() if a.pid == pid]
        )
        if open_ > rules.window + 3:  # each of the three lanes has one that waits for a place
            verdict.says("window", f"{open_} publishes were open at once, {rules.window} were allowed")


def _deliveries(log: Log, rules: Rules, verdict: Verdict) -> None:
    counts = verdict.counts
    confirmed, attempted = log.confirmed(), set(log.attempts)
    by_outcome = defaultdict(set)
    for id_, fact in log.outcomes.items():
        by_outcome[fact["outcome"]].add(id_)
    anywhere: set[str] = set()
    for group in rules.groups:
        handled = log.handled(group)
        anywhere |= handled
        counts["handled"] += len(handled & confirmed)
        lost = confirmed - handled - rules.dead
        counts["lost"] += len(lost)
        if lost:
            verdict.says("lost", f"{group}: {len(lost)} confirmed messages were not handled, such as {min(lost)}")
        phantoms = set(log.arrivals[group]) - attempted
        if phantoms:
            verdict.says("phantom", f"{group}: {len(phantoms)} handled that nobody published, such as {min(phantoms)}")
        for name in ("not_sent", "unroutable"):
            _false_failure(name, by_outcome[name] & handled, verdict)
        if rules.one_queue:
            _false_failure("rejected", by_outcome["rejected"] & handled, verdict)
        for id_, arrivals in log.arrivals[group].items():
            counts["duplicates"] += max(0, sum(1 for a in arrivals if a.ok) - 1)
            _twice(id_, group, arrivals, log, rules, verdict)
    counts["recovered"] = len(by_outcome["unknown"] & anywhere)


def _false_failure(name: str, found: set[str], verdict: Verdict) -> None:
    if found:
        verdict.says("false failure", f"{len(found)} messages were {name} and handled, such as {min(found)}")


def _twice(id_: str, group: str, arrivals: list[Arrival], log: Log, rules: Rules, verdict: Verdict) -> None:
    """A second success must have said that it is one, unless the publisher had to send the message again."""
    if len({a.fact["mid"] for a in arrivals}) > 1:
        verdict.says("id", f"{group}: {id_} came with several message ids")
    done = [a for a in arrivals if a.ok]
    if len(done) < 2:
        return
    if not (rules.resends or rules.losses):
        verdict.says("duplicate", f"{group}: {id_} was handled {len(done)} times, and no connection was lost")
    unflagged = [a for a in done if not a.fact["redelivered"] and a.fact["attempt"] == 1]
    if len(unflagged) > 1 and not rules.resends:
        verdict.says("unflagged", f"{group}: {id_} was handled {len(unflagged)} times as if it were the first")


def _order(log: Log, rules: Rules, verdict: Verdict) -> None:
    """One at a time means in order: first arrivals of confirmed messages, by key."""
    if not rules.ordered or "ordered" not in rules.groups:
        return
    confirmed = log.confirmed()
    last: dict[str, int] = defaultdict(int)
    firsts = sorted(
        (
            (min(arrivals, key=lambda a: a.t), id_)
            for id_, arrivals in log.arrivals["ordered"].items()
            if id_ in confirmed
        ),
        key=lambda first: first[0].t,
    )
    for first, id_ in firsts:
        if first.fact["redelivered"] and not rules.redeliveries_ordered:
            continue
        attempt = log.attempts[id_]
        if attempt.seq < last[attempt.key]:
            verdict.counts["inversions"] += 1
            verdict.says("order", f"{attempt.key}: {attempt.seq} came after {last[attempt.key]}")
        last[attempt.key] = max(last[attempt.key], attempt.seq)


def _limits(log: Log, rules: Rules, verdict: Verdict) -> None:
    for group, most in (("ordered", 1), ("parallel", rules.concurrency)):
        spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
        ends = {a.pid: max(a.t, a.end or 0.0) for one in log.arrivals[group].values() for a in one}
        for arrivals in log.arrivals[group].values():
            for arrival in arrivals:
                spans[arrival.pid].append((arrival.t, arrival.end if arrival.end is not None else ends[arrival.pid]))
        for pid, found in spans.items():
            at_once = _most_at_once(found)
            verdict.counts[f"most {group}"] = max(verdict.counts[f"most {group}"], at_once)
            if at_once > most:
                verdict.says("limit", f"{group}: {at_once} handlers ran at once in process {pid}, {most} were allowed")
    _leaks(log, rules, verdict)


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans], key=lambda e: (e[0], e[1]))
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def _leaks(log: Log, rules: Rules, verdict: Verdict) -> None:
    """Threads, tasks and sockets are back where they were."""
    states: dict[int, dict[str, Fact]] = defaultdict(dict)
    for fact in log.facts("state"):
        states[fact["pid"]].setdefault(fact["when"], fact)
    for pid, by_name in states.items():
        for first, then, names in (
            ("before", "stopped", ("threads", "sockets")),
            ("ready", "healed", ("sockets", "tasks")),
        ):
            if first in by_name and then in by_name:
                for name in names:
                    before, after = by_name[first].get(name), by_name[then].get(name)
                    if before is not None and after is not None and after > before:
                        verdict.says("leak", f"process {pid}: {name} were {before} {first} and {after} {then}")
        tasks = by_name.get("unlooped", {}).get("tasks", 1)
        if tasks > 1:
            verdict.says("leak", f"process {pid}: {tasks} tasks were left after the stop")
        if rules.memory is not None:
            sizes = [f["rss"] for f in log.facts("state", pid=pid)]
            if sizes and max(sizes) - sizes[0] > rules.memory:
                verdict.says("memory", f"process {pid} grew by {(max(sizes) - sizes[0]) / 2**20:.0f} MiB")
    for fact in log.facts("exit"):
        if fact["code"] not in rules.exit_codes and fact["pid"] not in rules.killed:
            verdict.says("exit", f"{fact['name']} ended with code {fact['code']}")
        if fact["seconds"] > fact["allowed"]:
            verdict.says(
                "exit", f"{fact['name']} took {fact['seconds']:.1f} s to end, {fact['allowed']:g} s were allowed"
            )


def _requests(log: Log, rules: Rules, verdict: Verdict) -> None:
    """Every request has one outcome, and a reply is the right one."""
    answers: Counter[str] = Counter()
    for fact in log.facts("answer"):
        answers[fact["id"]] += 1
        verdict.counts["replies"] += fact["outcome"] == "reply"
        if not fact["right"]:
            verdict.says("reply", f"request {fact['id']} got the answer to another one")
        if fact["outcome"] != "reply" and not fact.get("ours", True):
            verdict.says("foreign", f"request {fact['id']} raised {fact.get('error')}: {fact.get('text')}")
    for fact in log.facts("ask"):
        if answers[fact["id"]] != 1 and fact["pid"] not in rules.killed:
            verdict.says("hung", f"request {fact['id']} has {answers[fact['id']]} outcomes")
