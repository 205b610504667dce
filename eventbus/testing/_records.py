"""What a tester has seen: events by class, and dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

import msgspec

from eventbus._codecs import Codecs
from eventbus._delivery import Delivery
from eventbus._errors import PublishError
from eventbus._events import spec_of
from eventbus._message import Message
from eventbus._middleware import Middleware
from eventbus._settlement import Ack, DeadLetter, Settlement

E = TypeVar("E")


class Fault(Protocol):
    """A scripted fault; ``fired`` counts how often it has happened."""

    fired: int


class Faults(Protocol):
    """What goes wrong with publishes whose topic fits the pattern: the next ``times``, or for ever with None."""

    def nack(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The broker refuses the message: Rejected."""

    def unroutable(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The broker has no queue for the message: Unroutable."""

    def never_confirm(self, *, times: int | None = 1, topic: str = "#", taken: bool = True) -> Fault:
        """No confirm comes: PublishUnknown. ``taken`` says whether the broker has the message."""

    def duplicate(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The message is delivered twice."""

    def refuse(self, *, times: int | None = 1, topic: str = "#") -> Fault:
        """The message does not leave the process: NotSent."""

    def disconnect(self) -> None:
        """The connection is lost and comes back: unsettled messages are delivered again."""

    def clear(self) -> None:
        """Forget all faults."""


class Time(Protocol):
    """The broker's time in seconds."""

    def now(self) -> float:
        """The time that the test has reached."""

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due happens now."""


class DeadLettered(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up, and why.

    ``subscription`` is ``<group>.<name>``; ``error_type`` and ``error`` are those of the handler's exception, if
    that was the reason; ``attempts`` counts the arrivals. Where the broker itself gave the message up, ``reason``
    is its word for that: ``expired``, ``delivery_limit``, ``maxlen``.
    """

    message: Message
    subscription: str
    reason: str
    error_type: str = ""
    error: str = ""
    attempts: int = 0


class Events:
    """Events in the order in which they were recorded.

    ``events[CustomerRegistered]`` is the list of those of this class, decoded from what went over the wire;
    ``len(events)`` counts all; iterating gives the messages, with topic, headers and all.
    """

    def __init__(self, messages: Sequence[Message], codecs: Codecs) -> None:
        self._messages = messages
        self._codecs = codecs

    def __getitem__(self, cls: type[E]) -> list[E]:
        """The events of this class."""
        name = spec_of(cls).type
        return [
            self._codecs.get(message.content_type).decoder(cls)(message.body)
            for message in list(self._messages)
            if message.type == name
        ]

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(list(self._messages))

    def __repr__(self) -> str:
        return f"<Events {[message.type or message.topic for message in self._messages]}>"


class Recorder(Middleware):
    """Middleware that keeps what passes. Lists only grow, so they are read without a lock."""

    def __init__(self) -> None:
        self.published_messages: list[Message] = []
        self.failed: list[tuple[Message, PublishError]] = []
        self.handled_messages: list[Message] = []
        self.dead: list[DeadLettered] = []
        self.errors: list[BaseException] = []
        self.events = 0
        """Grows with everything that happens; whoever waits for rest compares it."""

    def outgoing(self, message: Message) -> Message:
        """Something is about to be published."""
        self.events += 1
        return message

    def published(self, message: Message, error: PublishError | None, seconds: float) -> None:
        """Keep what was published, with its outcome."""
        self.events += 1
        if error is None:
            self.published_messages.append(message)
        else:
            self.failed.append((message, error))

    def received(self, delivery: Delivery) -> None:
        """A delivery begins."""
        self.events += 1

    def handling(self, delivery: Delivery) -> AbstractContextManager[Any]:
        """Keep what handlers raise."""
        return self._errors_kept()

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.errors.append(error)
            raise

    def settled(self, delivery: Delivery, settlement: Settlement, seconds: float) -> None:
        """Keep what was handled, and what was given up."""
        if isinstance(settlement, Ack):
            self.handled_messages.append(delivery.message)
        elif isinstance(settlement, DeadLetter):
            self.dead.append(
                DeadLettered(
                    message=delivery.message,
                    subscription=delivery.subscription.name,
                    reason=settlement.reason,
                    error_type=settlement.error_type,
                    error=settlement.error,
                    attempts=delivery.attempt,
                )
            )
        self.events += 1
