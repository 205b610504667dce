"""Messages that wait in the source for their time: delayed ones on their way to an exchange, and retries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus import ConfigurationError, Delivery, RetryLater
from eventbus.testing import eventually
from eventbus.testing._facade import Runner
from eventbus.transport import SCHEDULED
from tests.moving.conftest import Ends, Sent


@pytest.fixture
def ends(runner: Runner, rabbits: tuple[str, str], tmp_path: Path) -> Iterator[Ends]:
    """From a file to RabbitMQ."""
    made = Ends(runner, f"sqlite:///{tmp_path}/bus.db", rabbits[1])
    yield made
    made.close()


def test_a_retry_that_waits_is_moved_with_the_rest_of_its_pause(ends: Ends) -> None:
    ends.destination.prepare()
    failed: list[float] = []

    def fail(sent: Sent, delivery: Delivery) -> None:
        failed.append(time.time())
        raise RetryLater(3.0)

    bus = ends.source.service(fail)
    bus.start()
    (id_,) = ends.source.publish(range(1))
    eventually(lambda: failed, 20)
    bus.stop(5)
    assert ends.move().moved == 1
    came: list[float] = []
    (delivery,) = ends.destination.serve(1, handle=lambda sent, delivery: came.append(time.time()))
    assert (delivery.id, delivery.attempt) == (id_, 2)
    assert delivery.first_seen == pytest.approx(failed[0], abs=3)
    assert failed[0] + 2.9 <= came[0] <= failed[0] + 30


def test_delayed_messages_are_told_of_and_moved_where_they_are_meant(ends: Ends) -> None:
    ends.prepare()
    published = time.time()
    ids = ends.source.publish(range(3), delay=3.0)
    report = ends.move()
    assert (report.moved, report.beside) == (0, {SCHEDULED: 3})
    report = ends.move(how={"group": ends.group, "scheduled": True})
    assert [(queue.name, queue.moved) for queue in report.queues] == [(ends.source.queue, 0), (SCHEDULED, 3)]
    assert report.beside == {}
    came: list[float] = []
    got = ends.destination.serve(3, handle=lambda sent, delivery: came.append(time.time()))
    assert {delivery.id for delivery in got} == set(ids)
    assert {(d.attempt, d.topic, d.exchange) for d in got} == {(1, "parcels.sent.se", "eventbus.events")}
    assert published + 2.9 <= min(came) <= max(came) <= published + 30


def test_a_time_to_live_goes_on_where_it_stood(ends: Ends) -> None:
    ends.prepare()
    ends.source.publish(range(1), ttl=60.0)
    ends.move()
    (incoming,) = ends.destination.look(1)
    assert incoming.message.ttl is not None
    assert 20 < incoming.message.ttl < 60


def test_rabbitmq_hands_out_no_delayed_messages(runner: Runner, rabbits: tuple[str, str]) -> None:
    ends = Ends(runner, *rabbits)
    with pytest.raises(ConfigurationError, match="hands out no delayed messages"):
        ends.move(how={"queues": [ends.source.queue], "scheduled": True})
    ends.close()
