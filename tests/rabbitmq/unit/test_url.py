"""AMQP URLs: what they say, what is refused, and that they never show a password."""

import logging
import pickle

import pytest
from eventbus_rabbitmq import RabbitMQTransport
from eventbus_rabbitmq._operations import Declarer
from eventbus_rabbitmq._url import parse_url
from eventbus_rabbitmq._waiting import DELAYS, delay_step

from eventbus import ConfigurationError, Credentials, Queue, Secret, TLSConfig


def test_defaults_are_those_of_rabbitmq() -> None:
    options = parse_url("amqp://localhost")
    assert (options.hosts, options.vhost, options.tls) == ((("localhost", 5672),), "/", None)
    assert options.credentials == Credentials("guest", Secret("guest"))


@pytest.mark.parametrize(
    ("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/shop", "shop"), ("/a%2Fb", "a/b")]
)
def test_the_path_is_the_virtual_host(path: str, vhost: str) -> None:
    assert parse_url(f"amqp://localhost{path}").vhost == vhost


def test_several_hosts_ports_and_ipv6() -> None:
    assert parse_url("amqp://u:p@a,b:5673,[::1]:5674,[::1]/").hosts == (
        ("a", 5672),
        ("b", 5673),
        ("::1", 5674),
        ("::1", 5672),
    )


def test_amqps_verifies_and_takes_files() -> None:
    files = "cacertfile=ca.pem&certfile=c.pem&keyfile=k.pem"
    options = parse_url(f"amqps://h/v?{files}&server_name_indication=n&verify=verify_peer")
    assert options.hosts == (("h", 5671),)
    assert options.tls == TLSConfig(ca="ca.pem", certificate="c.pem", key="k.pem", server_name="n")


def test_options_are_read() -> None:
    options = parse_url(
        "amqp://localhost/?heartbeat=30&connection_timeout=2500&queue_type=classic&declare=none&name=me"
    )
    assert (options.heartbeat, options.connect_timeout) == (30, 2.5)
    assert (options.queue_type, options.declare, options.name) == ("classic", "none", "me")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "amqp://"),
        ("amqp://", "names a host"),
        ("amqp://h:0", "port"),
        ("amqp://h:99999", "port"),
        ("amqp://h/a/b", "%2F"),
        ("amqp://h/#x", "%23"),
        ("amqp://h/?colour=red", "unknown URL option 'colour'"),
        ("amqp://h/?heartbeat", "name=value"),
        ("amqp://h/?heartbeat=99999", "heartbeat"),
        ("amqp://h/?cacertfile=x", "amqps"),
        ("amqps://h/?verify=verify_none", "no URL switches it off"),
        ("amqps://h/?keyfile=k", "without certfile"),
        ("amqp://[::1", "brackets"),
        ("amqp://h/?auth_mechanism=anonymous", "plain"),
        ("amqp://h/?auth_mechanism=EXTERNAL", "amqps"),
        ("amqps://h/?tls_version=1.1", "1.2"),
    ],
)
def test_what_is_wrong_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    assert said in str(caught.value)


def test_a_password_shows_nowhere() -> None:
    transport = RabbitMQTransport.from_url("amqp://me:S3cr3t@localhost/v")
    login = transport.options.credentials
    assert isinstance(login, Credentials)
    for shown in (repr(transport), repr(transport.options), repr(login), str(login.password), f"{login.password:>9}"):
        assert "S3cr3t" not in shown
    assert login.password.reveal() == "S3cr3t"
    with pytest.raises(TypeError):
        pickle.dumps(login.password)


def test_clear_text_to_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "eventbus.rabbitmq"):
        parse_url("amqp://localhost,127.0.0.1,[::1]")
        assert not caplog.records
        parse_url("amqp://me:S3cr3t@broker.example")
    assert "amqps" in caplog.text
    assert "S3cr3t" not in caplog.text


def test_a_durable_group_is_a_quorum_queue_that_dead_letters_at_least_once() -> None:
    arguments = Declarer(queue_type="quorum", declare="create").arguments(
        Queue(name="q", dead_letter="q.dead", delivery_limit=20)
    )
    assert arguments == {
        "x-queue-type": "quorum",
        "x-queue-leader-locator": "balanced",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "q.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_an_argument_of_ours_is_taken_away_by_none() -> None:
    queue = Queue(name="q", arguments={"x-queue-leader-locator": None, "x-max-length": 5})
    assert Declarer(queue_type="quorum", declare="create").arguments(queue) == {
        "x-queue-type": "quorum",
        "x-max-length": 5,
    }


def test_exclusive_and_auto_delete_queues_are_classic() -> None:
    declarer = Declarer(queue_type="quorum", declare="create")
    assert declarer.type_of(Queue(name="")) == "classic"
    assert declarer.type_of(Queue(name="q", auto_delete=True)) == "classic"
    assert declarer.type_of(Queue(name="q", type="classic")) == "classic"


@pytest.mark.parametrize("delay", [0.001, 0.1, 0.11, 3, 59.9, 60, 86401, 30 * 86400, 10**9])
def test_a_delay_is_rounded_up_to_a_step(delay: float) -> None:
    step = delay_step(delay)
    assert step in DELAYS
    assert step >= min(delay, DELAYS[-1])
