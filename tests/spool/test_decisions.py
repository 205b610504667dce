"""The spool's decisions, as data."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from eventbus_memory import MemoryTransport

from eventbus import (
    AccessRefused,
    BusClosed,
    ConfigurationError,
    ConnectionFailed,
    EncodingError,
    EventBus,
    Exchange,
    ExchangeMissing,
    LoginRefused,
    Message,
    MessageTooLarge,
    NotSent,
    PublishError,
    PublishUnknown,
    Rejected,
    Spool,
    Unroutable,
)
from eventbus._spool._copies import (
    HEADER,
    Kept,
    Marker,
    marker_message,
    notice_message,
    pack,
    read_notice,
    restore,
    unpack,
)
from eventbus._spool._flight import Flight, before
from eventbus._spool._outcomes import Fate, fate, is_event, not_kept, reach, speaks_of_connection
from eventbus._spool._values import settings_of
from eventbus.transport import LinkStatus, Phase

EVENT = Message(exchange="events", topic="a.b", body=b"{}", id="1", type="a")


def because(error: PublishError, cause: Exception) -> PublishError:
    error.__cause__ = cause
    return error


def test_events_wait_and_requests_and_replies_do_not() -> None:
    assert is_event(EVENT)
    assert is_event(msgspec.structs.replace(EVENT, correlation_id="of the application"))
    assert is_event(msgspec.structs.replace(EVENT, exchange=""))
    assert not is_event(msgspec.structs.replace(EVENT, reply_to="amq.gen-x"))
    assert not is_event(msgspec.structs.replace(EVENT, exchange="", correlation_id="of a request"))


@pytest.mark.parametrize(
    ("status", "reached"),
    [
        (LinkStatus(phase=Phase.READY), True),
        (LinkStatus(phase=Phase.READY, blocked="memory"), False),
        (LinkStatus(phase=Phase.WAITING), False),
        (LinkStatus(phase=Phase.FAILED), False),
        (LinkStatus(phase=Phase.IDLE), None),
        (LinkStatus(phase=Phase.CONNECTING), None),
        (LinkStatus(phase=Phase.CLOSED), None),
    ],
)
def test_what_a_status_says_of_the_broker(status: LinkStatus, reached: bool | None) -> None:
    assert reach(status) is reached


@pytest.mark.parametrize(
    ("error", "lost", "later"),
    [
        (NotSent("not connected"), True, Fate.AGAIN),
        (because(NotSent("x"), ConnectionFailed("x")), True, Fate.AGAIN),
        (because(NotSent("x"), LoginRefused("x")), True, Fate.AGAIN),
        (because(NotSent("x"), OSError("x")), True, Fate.AGAIN),
        (PublishUnknown("no confirm"), True, Fate.AGAIN),
        (because(PublishUnknown("sent twice"), Unroutable("x")), False, Fate.AGAIN),
        (BusClosed("x"), False, Fate.AGAIN),
        (because(NotSent("x"), AccessRefused("x")), False, Fate.REFUSED),
        (Rejected("full"), False, Fate.REFUSED),
        (ExchangeMissing("x"), False, Fate.REFUSED),
        (Unroutable("x"), False, Fate.UNHEARD),
        (MessageTooLarge("x"), False, Fate.BURY),
        (EncodingError("x"), False, Fate.BURY),
    ],
)
def test_what_an_outcome_means(error: PublishError, lost: bool, later: Fate) -> None:
    assert speaks_of_connection(error) is lost
    assert fate(error, mandatory=False) is later


def test_a_confirm_is_the_end_and_mandatory_events_without_a_queue_are_set_aside() -> None:
    assert fate(None, mandatory=True) is Fate.SENT
    assert fate(Unroutable("x"), mandatory=True) is Fate.BURY


@pytest.mark.parametrize(
    ("spool", "direct", "told"),
    [
        (NotSent("it is full"), None, NotSent),
        (NotSent("it is full"), NotSent("away"), NotSent),
        (NotSent("it is full"), PublishUnknown("lost"), PublishUnknown),
        (PublishUnknown("no confirm"), None, PublishUnknown),
    ],
)
def test_what_the_caller_hears_when_the_spool_does_not_take_it(
    spool: PublishError, direct: PublishError | None, told: type[PublishError]
) -> None:
    error = not_kept(spool, direct)
    assert type(error) is told
    assert f"spool did not keep the event: {spool}" in str(error)
    assert error.__cause__ is spool


FULL = Message(
    exchange="shop",
    topic="orders.placed.se",
    body=b'{"a":1}',
    id="0190-id",
    type="orders.placed",
    source="shop",
    time=1e9,
    subject="s",
    dataschema="urn:x",
    content_type="application/json",
    content_encoding="zstd",
    headers={"a": [1, 2.5, None, True], "when": datetime(2026, 1, 1, tzinfo=UTC), "d": Decimal("1.5"), "b": b"x"},
    correlation_id="c",
    priority=3,
    ttl=60.0,
    persistent=False,
    user_id="me",
    deliver_at=1e9 + 100,
)


def kept_of(message: Message, **options: Any) -> Kept:
    return Kept(
        bus="b",
        number=1,
        at=message.time,
        exchange=Exchange(name=message.exchange, kind="direct", arguments={"alternate-exchange": "other"}),
        topic=message.topic,
        ttl=message.ttl,
        priority=message.priority,
        deliver_at=message.deliver_at,
        user_id=message.user_id,
        persistent=message.persistent,
        **options,
    )


def test_an_event_comes_out_of_the_spool_as_it_went_in() -> None:
    kept = kept_of(FULL, mandatory=True)
    copy = pack(FULL, kept, "shop.spool")
    assert (copy.exchange, copy.topic, copy.id, copy.body) == ("", "shop.spool", FULL.id, FULL.body)
    assert (copy.ttl, copy.priority, copy.deliver_at, copy.user_id, copy.persistent) == (None, None, None, None, True)
    assert unpack(copy) == kept
    assert restore(copy, kept, now=FULL.time) == FULL


@pytest.mark.parametrize(
    ("ttl", "deliver_at", "age", "left"),
    [
        (None, None, 1e6, None),
        (60.0, None, 10.0, 50.0),
        (60.0, None, 60.0, "over"),
        (60.0, None, -1000.0, 60.0),  # the clock was put back
        (60.0, 100.0, 50.0, 60.0),  # it counts from the time of delivery
        (60.0, 100.0, 130.0, 30.0),
        (60.0, 100.0, 161.0, "over"),
    ],
)
def test_the_time_to_live_goes_on_in_the_spool(
    ttl: float | None, deliver_at: float | None, age: float, left: float | str | None
) -> None:
    due = None if deliver_at is None else 1e9 + deliver_at
    message = msgspec.structs.replace(EVENT, ttl=ttl, deliver_at=due, time=1e9)
    kept = kept_of(message)
    restored = restore(pack(message, kept, "q"), kept, now=1e9 + age)
    assert ("over" if restored is None else restored.ttl) == left


@pytest.mark.parametrize(
    "headers",
    [{}, {HEADER: None}, {HEADER: "x"}, {HEADER: {}}, {HEADER: {"bus": 1}}, {HEADER: {"bus": "b", "number": "1"}}],
)
def test_what_no_spool_has_put_there_is_not_read(headers: dict[str, Any]) -> None:
    message = msgspec.structs.replace(EVENT, headers=headers)
    assert unpack(message) is None
    assert read_notice(message) is None


def test_markers_and_notices_are_read_as_they_were_written() -> None:
    marker = Marker(bus="b", marker=7, address="amq.gen-x")
    assert unpack(marker_message(marker, "q")) == marker
    notice = notice_message(marker)
    assert (notice.exchange, notice.topic) == ("", "amq.gen-x")
    assert read_notice(notice) == marker


def test_publishes_on_their_way_share_one_deadline_which_is_renewed_between_them() -> None:
    flight = Flight()
    assert flight.join(10.0, now=0.0) == 10.0
    assert flight.join(14.0, now=4.0) == 10.0
    assert flight.join(9.0, now=4.0) is None, "it cannot wait so long"
    assert flight.join(16.0, now=6.0) is None, "too little time would be left"
    flight.leave()
    assert flight.join(15.0, now=4.5) == 10.0
    for _ in range(2):
        flight.leave()
    assert flight.join(16.0, now=6.0) == 16.0
    assert before(10.0, now=0.0) == 9.0
    assert before(1.0, now=0.0) == pytest.approx(0.8)


def test_a_store_that_would_lose_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"would not outlive the process.*sqlite:///spool\.db"):
        EventBus("memory://", spool="memory://")
    settings = settings_of(Spool("memory://", volatile=True, max_messages=5), "shop")
    assert (settings.queue, settings.max_messages) == ("shop.spool", 5)
    assert settings_of(Spool(MemoryTransport(), queue="mine", volatile=True), None).queue == "mine"


@pytest.mark.parametrize("options", [{"max_messages": 0}, {"max_age": 0.0}, {"queue": ""}, {"queue": "q" * 201}])
def test_limits_of_a_spool_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Spool("memory://", **options)


def test_a_spool_is_a_url_a_transport_or_a_value() -> None:
    with pytest.raises(ConfigurationError, match="a URL, a transport or a Spool, not int"):
        EventBus("memory://", spool=7)  # type: ignore[arg-type]
