"""Messages that are made first and published later, as an outbox does."""

from __future__ import annotations

import uuid

import pytest

from eventbus import ConfigurationError, Delivery, EventBus, MessageTooLarge
from eventbus.testing import eventually


def bus_of(name: str = "") -> EventBus:
    return EventBus(f"memory://{name or uuid.uuid4()}", service="made")


def test_a_message_is_made_without_a_broker_and_published_later_by_another_bus_with_its_id() -> None:
    message = bus_of().message({"a": 1}, topic="made.one", headers={"color": "blue"})
    seen: list[tuple[object, Delivery]] = []
    with bus_of() as bus:

        @bus.subscribe(pattern="made.#", name="more")
        def more(body: object, delivery: Delivery) -> None:
            seen.append((body, delivery))

        bus.wait_ready()
        bus.publish(message)
        assert bus.publish_many([message, message]) == 2
        bus.submit(message).wait()
        eventually(lambda: len(seen) == 4)
    assert {delivery.id for _, delivery in seen} == {message.id}
    assert seen[0][0] == {"a": 1}
    assert dict(seen[0][1].headers) == {"color": "blue"}


def test_what_belongs_to_its_making_cannot_be_said_when_it_is_published() -> None:
    with bus_of() as bus:
        message = bus.message({"a": 1}, topic="made.one")
        with pytest.raises(ConfigurationError, match="topic"):
            bus.publish(message, topic="made.two")
        bus.publish(message, timeout=5.0)


def test_a_message_from_elsewhere_has_the_limits_of_the_bus() -> None:
    message = bus_of().message({"a": "x" * 100}, topic="made.one")
    with EventBus(f"memory://{uuid.uuid4()}", service="made", max_body=50) as bus, pytest.raises(MessageTooLarge):
        bus.publish(message)
