"""A handler that is slower than the broker's patience: told before, and the message comes again."""

from __future__ import annotations

import logging
import threading
import uuid

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import Delivery, EventBus
from eventbus.testing import eventually


def test_a_slow_handler_is_told_before_the_broker_closes_its_channel_and_its_message_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # 3.10 looks for deliveries that are too old once in a channel's tick, and asks for its settings when it opens.
    with LocalBroker() as broker:
        broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 4000).")
        broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).")
        attempts: list[int] = []
        go = threading.Event()
        bus = EventBus(f"{broker.url}?consumer_timeout=4", service=f"slow-{uuid.uuid4().hex[:8]}")

        @bus.subscribe(pattern="slow.*", name="slow")
        def slow(event: object, delivery: Delivery) -> None:
            attempts.append(delivery.attempt)
            if len(attempts) == 1:
                go.wait(60)

        with caplog.at_level(logging.WARNING, "eventbus.rabbitmq"), bus:
            bus.publish({"a": 1}, topic="slow.one")
            eventually(lambda: "has been open for more than 2 s; after 4 s" in caplog.text, timeout=30)
            assert attempts == [1]
            assert bus.health().consumers_overlong == 1
            assert "timed out" not in caplog.text
            eventually(lambda: "timed out" in caplog.text, timeout=60)  # the broker's own words
            go.set()
            eventually(lambda: attempts == [1, 2], timeout=30)
            bus.wait_ready()
