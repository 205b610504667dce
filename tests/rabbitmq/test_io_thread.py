"""The I/O thread of a sync bus outlives errors of pika's, which come out of its loop."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from eventbus_rabbitmq._pika_services import Services
from eventbus_rabbitmq.local_broker import LocalBroker
from pika.adapters.select_connection import IOLoop

from eventbus import EventBus
from eventbus.testing import eventually


def test_a_connection_that_is_reset_before_pika_has_looked_at_it_ends_its_attempt() -> None:
    loop: Any = IOLoop()
    found: list[Any] = []

    def done(result: Any) -> None:
        found.append(result)
        loop.stop()

    sock = socket.socket()  # not connected, as one is that was reset
    sock.setblocking(False)
    Services(loop).create_streaming_connection(lambda: None, sock, done)
    loop.call_later(5, loop.stop)
    loop.start()
    loop.close()
    assert "Transport endpoint is not connected" in str(found[0])
    assert sock.fileno() == -1


def test_an_error_in_the_loop_is_told_and_publishing_goes_on(
    broker: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with EventBus(broker.url, service="io-thread") as bus:
        assert bus._runtime is not None
        loop = bus._runtime.link._reactor.loop  # type: ignore[attr-defined]
        bus.publish({"n": 1}, topic="io-thread")
        loop.add_callback_threadsafe(lambda: 1 / 0)
        eventually(lambda: "ZeroDivisionError" in caplog.text)
        assert [record.levelno for record in caplog.records if record.exc_info] == [logging.CRITICAL]
        bus.publish({"n": 2}, topic="io-thread")
        assert bus.health().reconnects == 0
