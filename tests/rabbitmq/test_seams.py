"""Where the lane takes hold of the client libraries: a new release that moves these names must be noticed here."""

from __future__ import annotations

import inspect
import socket
import threading

import pika
import pytest
from aiormq.connection import TransportFactory
from eventbus_rabbitmq.local_broker import LocalBroker

from eventbus import ConnectionFailed, EventBus


def test_pika_hands_us_its_bytes_and_takes_ours() -> None:
    for name, parameters in {"_on_data_available": ["self", "data_in"], "_adapter_emit_data": ["self", "data"]}.items():
        assert list(inspect.signature(getattr(pika.SelectConnection, name)).parameters) == parameters


def test_the_socket_of_a_pika_connection_can_be_written_and_aborted(broker: LocalBroker) -> None:
    with EventBus(broker.url, service="seams") as bus:
        session = bus._running().link._engine._publish_side.session  # type: ignore[attr-defined]
        transport = session._connection._transport
        assert isinstance(transport._sock, socket.socket)
        assert isinstance(transport.get_write_buffer_size(), int)
        assert callable(transport.abort)
        assert {"_MAX_RECV_BYTES", "_MAX_CONSUME_BYTES"} <= {
            name for kind in type(transport).__mro__ for name in vars(kind)
        }


def test_pika_would_cancel_consumers_before_it_closes_their_channel_unless_it_had_forgotten_them(
    broker: LocalBroker,
) -> None:
    bus = EventBus(broker.url, service="seams")
    bus.subscribe(pattern="seams.#", ordered=True, name="consumers")(lambda event: None)
    with bus:
        session = bus._running().link._engine._consume_side.session  # type: ignore[attr-defined]
        channels = [channel for channel in session._connection._channels.values() if channel._consumers]
        assert [list(channel._consumers) for channel in channels] == [["eventbus"]]
        cancelled = []
        channels[0].basic_cancel = lambda *args, **rest: cancelled.append(args)
    assert not cancelled


def test_an_attempt_that_is_given_up_in_its_handshake_ends_the_thread_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bus = EventBus(f"amqp://127.0.0.1:{silent.getsockname()[1]}/", service="seams")
        with pytest.raises(ConnectionFailed):
            bus.start(timeout=0.3)
        bus.stop(0.5)
    assert "the I/O thread ended by an error" not in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eventbus-io")]


def test_aiormq_lets_us_open_its_socket() -> None:
    assert "create" in vars(TransportFactory)
