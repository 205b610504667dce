"""What the management API tells: alarms, clock, queues, topology and permissions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eventbus_rabbitmq import RabbitMQOptions

from eventbus import EventBusError, Topology
from eventbus_rabbitmq_admin._doctor.findings import Finding, failed, passed, skipped, warned
from eventbus_rabbitmq_admin._layout import Layout, declarer_of, layout_of
from eventbus_rabbitmq_admin._management import Management, NotThere
from eventbus_rabbitmq_admin._permissions import Permissions, permissions_of
from eventbus_rabbitmq_admin._plan import plan_for

_CLOCK_SECONDS = 5.0
# Refused or deprecated from RabbitMQ 4.3 on.
_OLD_ARGUMENTS = ("x-queue-mode", "x-queue-version", "x-queue-master-locator", "x-ha-policy")


def look(
    api: Management,
    vhost: str,
    topology: Topology | None,
    options: RabbitMQOptions,
    by_service: Mapping[str, RabbitMQOptions],
    *,
    named: bool,
) -> Iterator[Finding]:
    """The findings, one failing look after the other.

    :param named: somebody said where the management API is, so it must be there.
    """
    try:
        api.get("whoami")
    except EventBusError as error:
        advice = "set EVENTBUS_MANAGEMENT to its URL, and EVENTBUS_MANAGEMENT_USER and ..._PASSWORD to who may look"
        yield failed("management API", str(error), advice) if named else skipped("management API", str(error), advice)
        return
    for check in (_clock, _alarms):
        yield from _guarded(check.__name__.strip("_"), check(api))
    try:
        live = api.layout(vhost)
    except EventBusError as error:
        yield _refused("topology", error)
        return
    yield from _queues(live)
    if topology is None:
        yield skipped("topology", "no --app was given, so nothing is known of what should be there")
        return
    plan = plan_for(vhost, layout_of(topology, declarer_of(options)), live)
    if plan.empty:
        yield passed("topology", f"holds all that {_services(topology)} need")
    else:
        missing = ", ".join(f"{step.action} {step.kind} {step.name}" for step in plan.steps[:3])
        more = f" and {len(plan.steps) - 3} more" if len(plan.steps) > 3 else ""
        yield failed("topology", f"differs: {missing}{more}", "eventbus topology plan, then apply")
    for access in topology.services:
        wanted = permissions_of(access, topology, by_service.get(access.service, options))
        yield from _guarded("permissions", _permissions(api, vhost, wanted))


def _guarded(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except EventBusError as error:
        yield _refused(check, error)


def _refused(check: str, error: EventBusError) -> Finding:
    return skipped(check, f"{error}", "look as a user with the tag administrator: EVENTBUS_MANAGEMENT_USER")


def _clock(api: Management) -> Iterator[Finding]:
    before = time.time()
    theirs = api.clock()
    difference = theirs - (before + time.time()) / 2
    # The header has whole seconds.
    if abs(difference) > _CLOCK_SECONDS:
        yield warned(
            "clock",
            f"the broker's is {difference:+.0f} s from ours",
            "set both by NTP: certificates, tokens and times in events depend on them",
        )
    else:
        yield passed("clock", f"within {_CLOCK_SECONDS:.0f} s of the broker's")


def _alarms(api: Management) -> Iterator[Finding]:
    for node in api.get("nodes"):
        name = str(node["name"])
        if not node.get("running"):
            yield failed(f"node {name}", "is not running", "start it, or remove it from the cluster")
            continue
        alarms = [text for key, text in (("mem_alarm", "memory"), ("disk_free_alarm", "disk")) if node.get(key)]
        if alarms:
            yield failed(
                f"node {name}",
                f"{' and '.join(alarms)} alarm: publishing is blocked",
                "free some, or consume what has queued up; rabbitmq-diagnostics alarms",
            )
        else:
            yield passed(f"node {name}", "runs, without alarms")


def _queues(live: Layout) -> Iterator[Finding]:
    troubled = False
    for queue in live.queues:
        old = [name for name in _OLD_ARGUMENTS if name in queue.arguments]
        if old:
            troubled = True
            yield warned(
                f"queue {queue.name}", f"has {', '.join(old)}", "RabbitMQ 4.3 refuses it: make the queue anew without"
            )
        if not queue.durable:
            troubled = True
            yield warned(
                f"queue {queue.name}",
                "is transient and not exclusive",
                "RabbitMQ 4.3 refuses such queues: make it durable, or exclusive",
            )
    if not troubled:
        quorum = sum(queue.arguments.get("x-queue-type") == "quorum" for queue in live.queues)
        yield passed("queues", f"{len(live.queues)}, {quorum} of them quorum queues")


def _permissions(api: Management, vhost: str, wanted: Permissions) -> Iterator[Finding]:
    check = f"permissions of {wanted.service}"
    try:
        granted = api.get("permissions", vhost, wanted.service)
    except NotThere:
        yield failed(
            check, f"the user has none in {vhost!r}, or does not exist", "eventbus topology permissions --commands"
        )
        return
    lacking = [
        f"{kind} {name}"
        for kind in ("configure", "write", "read")
        for name in samples(getattr(wanted, kind))
        if not _matches(granted[kind], name)
    ]
    topics = _topic_limits(api, vhost, wanted.service)
    for topic in wanted.topics:
        limits = topics.get(topic.exchange)
        for kind in ("write", "read"):
            lacking += [
                f"{kind} topic {name} of {topic.exchange}"
                for name in samples(getattr(topic, kind))
                if limits is not None and not _matches(limits[kind], name)
            ]
    if lacking:
        text = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        yield failed(check, f"may not {text}", "eventbus topology permissions --commands")
    else:
        yield passed(check, "suffice")


def _topic_limits(api: Management, vhost: str, user: str) -> dict[str, Any]:
    try:
        return {item["exchange"]: item for item in api.get("topic-permissions", vhost, user)}
    except NotThere:  # none are set, so topics are not limited
        return {}


def samples(pattern: str) -> list[str]:
    """A name for each alternative of one of our own patterns."""
    if not (pattern.startswith("^(") and pattern.endswith(")\\z")):
        return []
    found = []
    for part in pattern[2:-3].split("|"):
        for regex, text in _SAMPLES:
            part = part.replace(regex, text)
        found.append(re.sub(r"\\(.)", r"\1", part))
    return found


_SAMPLES = (
    ("[A-Za-z0-9_-]+", "x1"),
    ("[0-9]+", "1000"),
    (r"([^.]*\.)*", ""),
    (r"(\.[^.]*)*", ""),
    ("[^.]*", "x"),
    (".*", "x"),
)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern.replace("\\z", "\\Z") or "^$", name) is not None
    except re.error:  # Erlang knows more than Python does; then nothing can be said against it
        return True


def _services(topology: Topology) -> str:
    return " and ".join(access.service for access in topology.services)
