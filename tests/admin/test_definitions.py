"""Definitions: hashes that the broker takes, and files that come out as they went in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq.local_broker import LocalBroker
from eventbus_rabbitmq_admin._conf import Listening, TLSPaths, as_text, cluster_lines, configuration
from eventbus_rabbitmq_admin._definitions import Hashing, User, comparable, definitions, password_hash
from eventbus_rabbitmq_admin._layout import declarer_of, layout_of
from eventbus_rabbitmq_admin._permissions import permissions_of

from eventbus import EventBus, LoginRefused, Policy, Secret
from tests.admin import services
from tests.admin.conftest import Site

STRICT = RabbitMQOptions(declare="passive", queue_exchange="eventbus.queues")


def document(vhost: str, *, algorithm: Hashing = "sha256", prefix: str = "") -> dict[str, Any]:
    policies = [Policy(name="bounded", pattern=r"^emails\.", definition={"max-length-bytes": 1_000_000}, priority=3)]
    topology = services.signup(policies=policies).topology().merged(services.emails().topology())
    return definitions(
        vhost=vhost,
        layout=layout_of(topology, declarer_of(STRICT)),
        users=[
            User(name=f"{prefix}signup", password=Secret("first")),
            User(name=f"{prefix}emails"),
            User(name=f"{prefix}boss", password=Secret("second"), tags=("monitoring", "policymaker")),
        ],
        permissions=[],
        administrators=[f"{prefix}boss", f"{prefix}signup", f"{prefix}emails"],
        algorithm=algorithm,
    ) | {
        "topic_permissions": [
            {
                "user": f"{prefix}signup",
                "vhost": vhost,
                "exchange": topic.exchange,
                "write": topic.write,
                "read": topic.read,
            }
            for topic in permissions_of(topology.services[0], topology, STRICT).topics
        ]
    }


def test_a_hash_is_salt_and_digest() -> None:
    # The example of https://www.rabbitmq.com/docs/passwords: "test12", salt 908DC60A.
    assert password_hash("test12", salt=bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    made = base64.b64decode(password_hash("pässwörd", algorithm="sha512"))
    assert made[4:] == hashlib.sha512(made[:4] + "pässwörd".encode()).digest()
    assert password_hash("same") != password_hash("same")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_broker_takes_our_hashes(site: Site, algorithm: Hashing) -> None:
    site.management.post("definitions", body=document(site.vhost, algorithm=algorithm, prefix=f"{site.vhost}-"))
    with EventBus(site.url(f"{site.vhost}-signup", "first"), service="signup") as bus:
        assert bus.health().connected
    for user, password in ((f"{site.vhost}-signup", "wrong"), (f"{site.vhost}-emails", "")):
        bus = EventBus(site.url(user, password), service="signup")
        with pytest.raises(LoginRefused):
            bus.start(timeout=10)
        bus.stop(1)


def exported(broker: LocalBroker, folder: Path) -> dict[str, Any]:
    file = folder / "exported.json"
    broker.ctl("export_definitions", str(file))
    return comparable(json.loads(file.read_text()))


def test_export_import_export_gives_the_same(tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    first.write_text(json.dumps(document("customers")))
    with LocalBroker() as broker:
        broker.ctl("import_definitions", str(first))
        once = exported(broker, tmp_path)
        again = tmp_path / "exported.json"
        broker.ctl("import_definitions", str(again))
        assert exported(broker, tmp_path) == once
    with LocalBroker() as other:
        other.ctl("import_definitions", str(again))
        twice = exported(other, tmp_path)
    assert twice == once
    ours = comparable(document("customers"))
    for section in ("exchanges", "queues", "bindings", "policies", "topic_permissions"):
        there = [item for item in once[section] if item.get("vhost") == "customers"]
        kept = set(ours[section][0])
        assert [{k: v for k, v in item.items() if k in kept} for item in there] == ours[section], section


def test_definitions_loaded_at_boot_leave_no_guest(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(document("customers")))
    with LocalBroker(config={"load_definitions": str(file)}) as broker:
        users = broker.ctl("list_users")
        assert "guest" not in users
        assert re.search(r"boss\s+\[.*policymaker.*\]", users)
        assert "emails.shop.registered" in broker.ctl("list_queues", "-p", "customers", "name")
        url = f"amqp://signup:first@127.0.0.1:{broker.port}/customers?declare=passive"
        with EventBus(url, service="signup") as bus:
            assert bus.health().connected


def test_the_configuration_of_a_tls_broker_has_no_way_in_without_a_certificate() -> None:
    paths = TLSPaths(ca="/tls/ca.pem", certificate="/tls/server.pem", key="/tls/server.key")
    lines = configuration(listening=Listening(amqps="127.0.0.1:5671"), definitions="/d.json", tls=paths)
    assert lines["listeners.tcp"] == "none"
    assert lines["ssl_options.verify"] == "verify_peer"
    assert lines["ssl_options.fail_if_no_peer_cert"] == "true"
    assert {lines["ssl_options.versions.1"], lines["ssl_options.versions.2"]} == {"tlsv1.2", "tlsv1.3"}
    assert lines["auth_mechanisms.1"] == "EXTERNAL"
    assert "auth_mechanisms.2" not in lines
    newest = configuration(listening=Listening(), definitions="/d.json", tls=paths, minimum_version="1.3")
    assert "ssl_options.versions.2" not in newest
    assert "load_definitions = /d.json\n" in as_text(lines)
    assert cluster_lines(["only@one"]) == {}
    assert cluster_lines(["a@b", "c@d"])["cluster_formation.classic_config.nodes.2"] == "c@d"
