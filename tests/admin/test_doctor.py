"""``eventbus doctor``: each thing that is wrong is found, and comes with the next step."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from eventbus_certs import CertificateAuthority
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS
from eventbus_rabbitmq_admin._apply import apply
from eventbus_rabbitmq_admin._definitions import User, definitions
from eventbus_rabbitmq_admin._doctor import inside
from eventbus_rabbitmq_admin._doctor.inside import samples
from eventbus_rabbitmq_admin._layout import declarer_of, layout_of
from eventbus_rabbitmq_admin._management import Management
from eventbus_rabbitmq_admin._permissions import permissions_of
from eventbus_rabbitmq_admin._plan import plan_for

from eventbus import Secret
from eventbus.testing import eventually
from tests.admin import services
from tests.admin.conftest import Site

ROOT = Path(__file__).resolve().parents[2]
SECRET = "S3cr3t-pa55"


def doctor(url: str, *words: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the findings by their check."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTBUS_")}
    ran = subprocess.run(
        [sys.executable, "-m", "eventbus", "doctor", *words, "--json", "--timeout", "3"],
        cwd=ROOT,
        env=clean | {"EVENTBUS_URL": url} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert SECRET not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
    assert "not connected" not in ran.stderr, "what it has to say is in its findings"
    return ran.returncode, {found["check"]: found for found in json.loads(ran.stdout)}


def one(findings: dict[str, dict[str, Any]], start: str) -> dict[str, Any]:
    return next(found for check, found in findings.items() if check.startswith(start))


def test_all_is_well(site: Site) -> None:
    app = services.emails(site.url())
    layout = layout_of(app.topology(), declarer_of(app.transport.options))  # type: ignore[attr-defined]
    apply(plan_for(site.vhost, layout, site.management.layout(site.vhost)), site.management)
    site.broker.ctl("add_user", f"emails-{site.vhost}", SECRET)
    (access,) = app.topology().services
    permissions = permissions_of(access, app.topology(), app.transport.options)  # type: ignore[attr-defined]
    document = definitions(
        vhost=site.vhost, layout=layout, users=[User(name="emails", password=Secret(SECRET))], permissions=[permissions]
    )
    site.management.post("definitions", body=document)
    code, found = doctor(site.url(), "--app", "tests.admin.services:emails", EVENTBUS_MANAGEMENT=site.management_url)
    assert code == 0, [finding for finding in found.values() if finding["outcome"] == "fail"]
    for check in ("name", "port", "mechanism", "login", "clock", "node", "queues", "topology", "permissions of emails"):
        assert one(found, check)["outcome"] == "pass", found
    assert "RabbitMQ" in one(found, "broker")["found"]


def test_a_missing_topology_and_missing_permissions_are_found(site: Site) -> None:
    code, found = doctor(site.url(), "--app", "tests.admin.services:emails", EVENTBUS_MANAGEMENT=site.management_url)
    assert code == 1
    assert "topology plan" in one(found, "topology")["advice"]
    assert one(found, "permissions of emails")["outcome"] == "fail"
    site.broker.ctl("set_permissions", "-p", site.vhost, "guest", ".*", ".*", ".*")


def test_a_permission_that_is_too_small_names_what_is_lacking(site: Site) -> None:
    site.management.put("users", "emails", body={"password": SECRET, "tags": ""})
    small = {"configure": "", "write": ".*", "read": "^emails"}
    site.management.put("permissions", site.vhost, "emails", body=small)
    _, found = doctor(site.url(), "--app", "tests.admin.services:emails", EVENTBUS_MANAGEMENT=site.management_url)
    lacking = one(found, "permissions of emails")
    assert lacking["outcome"] == "fail"
    assert "configure emails.shop.registered" in lacking["found"]


def test_a_wrong_password_and_a_wrong_virtual_host(site: Site) -> None:
    code, found = doctor(site.url("guest", SECRET), EVENTBUS_MANAGEMENT=site.management_url)
    assert (code, found["login"]["outcome"]) == (1, "fail")
    assert "password" in found["login"]["advice"]
    assert (found["management API"]["outcome"], "clock" in found) == ("fail", False)
    code, found = doctor(f"amqp://guest:guest@127.0.0.1:{site.broker.port}/nowhere")
    assert (code, "no virtual host" in found["login"]["found"]) == (1, True)


def test_a_management_api_that_was_named_must_answer_and_a_guessed_one_need_not(site: Site) -> None:
    code, found = doctor(site.url(), EVENTBUS_MANAGEMENT="http://127.0.0.1:9")
    assert (code, found["management API"]["outcome"]) == (1, "fail")
    assert "EVENTBUS_MANAGEMENT_USER" in found["management API"]["advice"]
    user = {"EVENTBUS_MANAGEMENT_USER": "nobody", "EVENTBUS_MANAGEMENT_PASSWORD": SECRET}
    code, found = doctor(site.url(), EVENTBUS_MANAGEMENT=site.management_url, **user)
    assert (code, found["management API"]["outcome"]) == (1, "fail")
    with Management("http://127.0.0.1:9", user="guest", password=Secret("guest")) as guessed:
        (finding,) = inside.look(guessed, site.vhost, None, RabbitMQOptions(), {}, named=False)
    assert (finding.check, finding.outcome) == ("management API", "skip")


def test_no_name_no_port_and_no_amqp(site: Site) -> None:
    code, found = doctor("amqp://no-such-host.invalid/")
    assert (code, one(found, "name")["outcome"]) == (1, "fail")
    code, found = doctor("amqp://127.0.0.1:9/")
    assert (code, one(found, "port")["outcome"]) == (1, "fail")
    assert found["login"]["outcome"] == "skip", "what cannot come off is not tried for seconds"
    code, found = doctor(site.management_url.replace("http://", "amqp://"))
    assert (code, one(found, "AMQP")["outcome"]) == (1, "fail")


def test_a_blocked_broker_is_found(site: Site) -> None:
    def node() -> dict[str, Any]:
        return one(doctor(site.url(), EVENTBUS_MANAGEMENT=site.management_url)[1], "node")

    site.broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        # The management API learns of an alarm with its next look, some seconds later.
        eventually(lambda: "memory alarm" in node()["found"], timeout=60)
        assert node()["outcome"] == "fail"
    finally:
        site.broker.ctl("set_vm_memory_high_watermark", "0.4")
        # The tests after this one share the broker.
        eventually(lambda: node()["outcome"] == "pass", timeout=60)


def test_queues_that_newer_brokers_refuse_are_warned_of(site: Site) -> None:
    site.management.put("queues", site.vhost, "lazy", body={"durable": True, "arguments": {"x-queue-mode": "lazy"}})
    site.management.put("queues", site.vhost, "transient", body={"durable": False})
    _, found = doctor(site.url(), EVENTBUS_MANAGEMENT=site.management_url)
    assert (found["queue lazy"]["outcome"], found["queue transient"]["outcome"]) == ("warn", "warn")


def test_tls_from_the_handshake_to_the_dates(tmp_path: Path) -> None:
    ca = CertificateAuthority.create()
    ca.save(tmp_path / "ca")
    ca.issue_server(["localhost"], days=20).save(tmp_path, "server")
    ca.issue_client("guest").save(tmp_path, "client")
    tls = LocalTLS(cafile=tmp_path / "ca" / "ca.pem", certfile=tmp_path / "server.pem", keyfile=tmp_path / "server.key")
    with LocalBroker(tls=tls) as broker:
        trusted = f"cacertfile={quote(str(tmp_path / 'ca' / 'ca.pem'))}"
        own = f"certfile={quote(str(tmp_path / 'client.pem'))}&keyfile={quote(str(tmp_path / 'client.key'))}"
        code, found = doctor(f"{broker.tls_url}?{trusted}&{own}")
        assert code == 0, found
        assert one(found, "TLS")["found"].startswith("TLSv1.")
        assert one(found, "our certificate")["outcome"] == "pass"
        assert one(found, "certificate of")["outcome"] == "warn", "20 days are few"
        code, found = doctor(broker.tls_url)
        assert (code, one(found, "TLS")["outcome"]) == (1, "fail")
        assert "cacertfile" in one(found, "TLS")["found"]
        code, found = doctor(f"{broker.tls_url}?{trusted}&server_name_indication=other.example")
        assert "other.example" in one(found, "TLS")["found"]
        code, found = doctor(f"{broker.tls_url}?cacertfile=/missing.pem")
        assert (code, one(found, "our TLS files")["outcome"]) == (1, "fail")
        external = f"{broker.tls_url}?{trusted}&{own}&auth_mechanism=external"
        code, found = doctor(external)
        assert (code, "EXTERNAL" in one(found, "mechanism")["advice"]) == (1, True)


def test_a_silent_peer_does_not_hold_it_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, found = doctor(f"amqp://127.0.0.1:{silent.getsockname()[1]}/")
    assert (code, one(found, "AMQP")["outcome"]) == (1, "fail")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("^$", []),
        (r"^(emails\.shop\.registered|amq\.gen-[A-Za-z0-9_-]+)\z", ["emails.shop.registered", "amq.gen-x1"]),
        (r"^(q\.wait\.[0-9]+|a\.[^.]*)\z", ["q.wait.1000", "a.x"]),
    ],
)
def test_samples_are_names_that_a_pattern_allows(pattern: str, names: list[str]) -> None:
    assert samples(pattern) == names
