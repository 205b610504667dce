"""What has to change, as values; and the steps taken at a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq_admin._apply import Refused, apply
from eventbus_rabbitmq_admin._layout import BindingLayout, Layout, QueueLayout, declarer_of, layout_of, topology_of
from eventbus_rabbitmq_admin._plan import Plan, plan_for

from eventbus import ConfigurationError, EventBus, Policy, Topology
from eventbus._bus._core import BusCore
from eventbus.testing import eventually
from tests.admin import services
from tests.admin.conftest import Site
from tests.admin.services import Registered

ROOT = Path(__file__).resolve().parents[2]
STRICT = RabbitMQOptions(declare="passive", queue_exchange="eventbus.queues")


def wanted(*buses: BusCore) -> Layout:
    whole = Topology()
    for bus in buses:
        whole = whole.merged(bus.topology())
    return layout_of(whole, declarer_of(STRICT))


def steps(plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in plan.steps]


# -- over values --------------------------------------------------------------------------------------------


def test_an_empty_broker_gets_everything_and_a_full_one_nothing() -> None:
    layout = wanted(services.signup(), services.emails())
    plan = plan_for("v", layout, Layout())
    assert ("create", "queue", "emails.shop.registered.dead") in steps(plan)
    assert not any(step.destructive for step in plan.steps)
    assert plan_for("v", layout, layout).empty


def test_a_changed_argument_needs_a_recreation_and_says_from_what_to_what() -> None:
    before, after = wanted(services.emails()), wanted(services.emails(limit=100))
    plan = plan_for("v", after, before)
    recreated = plan.steps[0]
    assert (recreated.action, recreated.name, recreated.destructive) == ("recreate", "emails.shop.registered", True)
    assert recreated.differs == ("x-max-length: (none) -> 100",)
    # Its bindings went with it.
    assert {step.kind for step in plan.steps[1:]} == {"binding"}


def test_a_policy_is_changed_in_its_place() -> None:
    before = wanted(services.signup(policies=[Policy(name="p", pattern="^a", definition={"max-length": 1})]))
    after = wanted(services.signup(policies=[Policy(name="p", pattern="^a", definition={"max-length": 2})]))
    (step,) = plan_for("v", after, before).steps
    assert (step.action, step.destructive, step.differs) == ("change", False, ("max-length: 1 -> 2",))


def test_what_others_have_is_left_alone_and_named() -> None:
    layout = wanted(services.emails())
    theirs = Layout(
        queues=(*layout.queues, QueueLayout(name="legacy")), exchanges=layout.exchanges, bindings=layout.bindings
    )
    plan = plan_for("v", layout, theirs)
    assert plan.empty
    assert plan.unmanaged == ("queue legacy",)


def test_a_stale_binding_of_ours_goes_and_one_of_others_stays() -> None:
    layout = wanted(services.emails())
    stale = BindingLayout(
        source="eventbus.events", destination="emails.shop.registered", to_queue=True, routing_key="old.#"
    )
    foreign = BindingLayout(source="eventbus.events", destination="legacy", to_queue=True, routing_key="#")
    live = Layout(exchanges=layout.exchanges, queues=layout.queues, bindings=(*layout.bindings, stale, foreign))
    (step,) = plan_for("v", layout, live).steps
    assert (step.action, step.kind, step.item, step.destructive) == ("delete", "binding", stale, True)


def test_bindings_of_others_that_go_with_a_recreation_are_made_again() -> None:
    layout = wanted(services.emails())
    changed = Layout(
        exchanges=tuple(
            msgspec.structs.replace(exchange, kind="direct") if exchange.name == "eventbus.events" else exchange
            for exchange in layout.exchanges
        ),
        queues=(*layout.queues, QueueLayout(name="legacy")),
        bindings=layout.bindings,
    )
    foreign = BindingLayout(source="eventbus.events", destination="legacy", to_queue=True, routing_key="#")
    onward = BindingLayout(source="eventbus.events", destination="amq.topic", to_queue=False, routing_key="#")
    reply = BindingLayout(source="eventbus.events", destination="amq.gen-1", to_queue=True, routing_key="x")
    stale = BindingLayout(
        source="eventbus.events", destination="emails.shop.registered", to_queue=True, routing_key="old"
    )
    live = msgspec.structs.replace(changed, bindings=(*layout.bindings, foreign, onward, reply, stale))
    plan = plan_for("v", layout, live)
    assert steps(plan)[0] == ("recreate", "exchange", "eventbus.events")
    again = [step.item for step in plan.steps if step.kind == "binding"]
    assert all(step.action == "create" for step in plan.steps[1:])
    assert (foreign in again, onward in again, reply in again, stale in again) == (True, True, False, False)


def test_queues_that_live_with_their_consumers_are_not_planned() -> None:
    bus = services.pricing()
    bus.subscribe(Registered, broadcast=True)(lambda event: None)
    assert wanted(bus).queues == ()


def test_buses_that_disagree_on_the_broker_are_named() -> None:
    other = EventBus("amqp://localhost/?queue_type=classic", service="other")
    with pytest.raises(ConfigurationError, match=r"one:bus and two:bus .*queue_type"):
        topology_of({"one:bus": services.emails(), "two:bus": other})


# -- at a broker --------------------------------------------------------------------------------------------


def plan_at(site: Site, layout: Layout) -> Plan:
    return plan_for(site.vhost, layout, site.management.layout(site.vhost))


def test_after_apply_nothing_is_left_to_do(site: Site) -> None:
    policies = [Policy(name="bounded", pattern="^emails", definition={"max-length": 5}, priority=1)]
    layout = wanted(services.signup(policies=policies), services.emails())
    taken = []
    apply(plan_at(site, layout), site.management, told=taken.append)
    assert len(taken) == len(plan_for("v", layout, Layout()).steps)
    assert plan_at(site, layout).empty


def test_what_is_applied_is_what_the_service_would_declare(site: Site) -> None:
    apply(plan_at(site, layout_of(services.emails().topology(), declarer_of(RabbitMQOptions()))), site.management)
    with services.emails(site.url()) as bus:  # declares it: other arguments would be refused
        assert bus.health().status == "ready"
    assert plan_at(site, layout_of(services.emails().topology(), declarer_of(RabbitMQOptions()))).empty


def test_nothing_is_destroyed_without_leave(site: Site) -> None:
    apply(plan_at(site, wanted(services.emails())), site.management)
    changed = wanted(services.emails(limit=100), services.signup())
    with pytest.raises(Refused, match="--allow-destroy"):
        apply(plan_at(site, changed), site.management)
    assert steps(plan_at(site, changed))[-1][0] == "create", "nothing at all was done"
    apply(plan_at(site, changed), site.management, allow_destroy=True)
    assert plan_at(site, changed).empty


def test_a_queue_with_messages_needs_leave_of_its_own(site: Site) -> None:
    apply(plan_at(site, wanted(services.emails())), site.management)
    with EventBus(site.url(), service="signup") as bus:
        bus.publish({"country": "se"}, topic="shop.registered.se", mandatory=True)
    changed = wanted(services.emails(limit=100))
    with pytest.raises(Refused, match="holds messages"):
        apply(plan_at(site, changed), site.management, allow_destroy=True)
    assert site.management.holds_messages(site.vhost, "emails.shop.registered")
    apply(plan_at(site, changed), site.management, allow_destroy=True, allow_data_loss=True)
    assert plan_at(site, changed).empty
    assert not site.management.holds_messages(site.vhost, "emails.shop.registered")


def test_an_exchange_of_another_kind_is_made_anew_with_the_bindings_of_others(site: Site) -> None:
    layout = wanted(services.emails())
    site.management.put("exchanges", site.vhost, "eventbus.events", body={"type": "direct", "durable": True})
    site.management.put("queues", site.vhost, "legacy", body={"durable": True})
    foreign = ("bindings", site.vhost, "e", "eventbus.events", "q", "legacy")
    site.management.post(*foreign, body={"routing_key": "shop.registered.se", "arguments": {}})
    with pytest.raises(Refused, match=r"recreate exchange eventbus\.events"):
        apply(plan_at(site, layout), site.management)
    apply(plan_at(site, layout), site.management, allow_destroy=True)
    assert plan_at(site, layout).empty
    assert [binding["routing_key"] for binding in site.management.get(*foreign)] == ["shop.registered.se"]


def test_a_queue_whose_messages_cannot_be_looked_at_is_judged_by_its_counters(site: Site) -> None:
    single = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    before = Layout(queues=(QueueLayout(name="single", arguments=single),))
    after = Layout(queues=(QueueLayout(name="single", arguments={**single, "x-max-length": 9}),))
    apply(plan_at(site, before), site.management)
    with EventBus(site.url(), service="s") as bus:
        bus.publish({}, topic="single", exchange="", mandatory=True)
    with pytest.raises(Refused, match="holds messages"):
        apply(plan_at(site, after), site.management, allow_destroy=True)
    site.management.delete("queues", site.vhost, "single", "contents")
    eventually(lambda: site.management.get("queues", site.vhost, "single")["messages"] == 0, timeout=30)
    apply(plan_at(site, after), site.management, allow_destroy=True)
    assert plan_at(site, after).empty


# -- the commands -------------------------------------------------------------------------------------------


def eventbus(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
    return subprocess.run(
        [sys.executable, "-m", "eventbus", "topology", *words],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


APPS = ("tests.admin.services:signup", "tests.admin.services:emails")


def test_plan_apply_plan(site: Site) -> None:
    # The apps, too, read the broker's URL from the environment.
    where = {"EVENTBUS_URL": site.url(declare="passive"), "EVENTBUS_MANAGEMENT": site.management_url}
    first = eventbus("plan", *APPS, "--json", **where)
    assert first.returncode == 2, first.stderr
    assert json.loads(first.stdout)["differs"] is True
    dry = eventbus("apply", *APPS, "--dry-run", **where)
    assert (dry.returncode, "+ create queue emails.shop.registered" in dry.stdout) == (0, True), dry.stderr
    assert eventbus("plan", *APPS, **where).returncode == 2
    applied = eventbus("apply", *APPS, "--json", **where)
    assert applied.returncode == 0, applied.stderr
    assert len(json.loads(applied.stdout)["applied"]) == len(json.loads(first.stdout)["steps"])
    last = eventbus("plan", *APPS, "--json", **where)
    assert (last.returncode, json.loads(last.stdout)["steps"]) == (0, [])


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"EVENTBUS_MANAGEMENT": "http://127.0.0.1:9"}, 69, "cannot be reached"),
        ({"EVENTBUS_MANAGEMENT_USER": "nobody", "EVENTBUS_MANAGEMENT_PASSWORD": "S3cr3t"}, 77, "refused the login"),
        ({"EVENTBUS_URL": "amqp://guest:guest@127.0.0.1/nowhere"}, 1, "does not exist"),
        ({"EVENTBUS_MANAGEMENT": "ftp://x"}, 78, "management URL"),
    ],
)
def test_mistakes_are_said_in_a_line(site: Site, changes: dict[str, str], code: int, said: str) -> None:
    where = {"EVENTBUS_URL": site.url(), "EVENTBUS_MANAGEMENT": site.management_url, **changes}
    ran = eventbus("plan", *APPS, **where)
    assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
    assert "S3cr3t" not in ran.stderr
    assert "Traceback" not in ran.stderr


def test_pictures_and_permissions_need_no_broker() -> None:
    shown = eventbus("show", *APPS)
    assert "eventbus.events (topic exchange)" in shown.stdout
    drawn = eventbus("show", *APPS, "--format", "mermaid")
    assert drawn.stdout.startswith("flowchart LR\n")
    assert 's2(["signup"])' in drawn.stdout
    dotted = eventbus("show", *APPS, "--format", "dot")
    assert dotted.stdout.startswith("digraph topology {")
    found: list[dict[str, Any]] = json.loads(eventbus("permissions", *APPS, "--json").stdout)
    assert [each["service"] for each in found] == ["signup", "emails"]
    commands = eventbus("permissions", *APPS, "--commands", "--vhost", "customers").stdout
    assert "rabbitmqctl set_topic_permissions -p customers signup eventbus.events" in commands


def test_an_export_is_imported_by_the_broker(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    ran = eventbus("export", "--definitions", *APPS, "--vhost", site.vhost, "-o", str(file))
    assert ran.returncode == 0, ran.stderr
    site.broker.ctl("import_definitions", str(file))
    names = {queue.name for queue in site.management.layout(site.vhost).queues}
    assert names == {"emails.shop.registered", "emails.shop.registered.dead"}
    assert "signup" in site.broker.ctl("list_permissions", "-p", site.vhost)
