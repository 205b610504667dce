"""Least privilege, derived: what a service's user may do at the broker, from what the service's code does.

RabbitMQ checks three patterns on names (configure, write, read) and, for topic exchanges, two on topics: of a publish
(write) and of a binding (read). A user without topic permissions for an exchange may use all topics of it, so a service
gets them for every topic exchange that it touches. Sources: https://www.rabbitmq.com/docs/access-control (which
operation needs what) and .../topic-exchange-authorisation.

Patterns are regular expressions of Erlang's ``re``, which finds them anywhere in a name unless they are anchored; ``$``
would also match before a line break at the end, so they end in ``\\z``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from eventbus_rabbitmq import RabbitMQOptions
from eventbus_rabbitmq._waiting import DELAYS, delay_name

from eventbus import Access, Exchange, Queue, Topology
from eventbus_rabbitmq_admin._layout import declarer_of

NOTHING = "^$"
DEFAULT_EXCHANGE = "amq.default"
"""What the default exchange is called where permissions are checked."""
SERVER_NAMED = r"amq\.gen-[A-Za-z0-9_-]+"


class TopicPermission(msgspec.Struct, frozen=True, kw_only=True):
    """Topics of one exchange that a user may publish with (write) and bind with (read)."""

    exchange: str
    write: str = NOTHING
    read: str = NOTHING


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """All that a service's user may do in its virtual host."""

    service: str
    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING
    topics: tuple[TopicPermission, ...] = ()


class _Allowed:
    """Collects what a service needs."""

    def __init__(self) -> None:
        self.configure: list[str] = []
        self.write: list[str] = []
        self.read: list[str] = []
        self.topic_write: dict[str, list[str]] = {}
        self.topic_read: dict[str, list[str]] = {}


def permissions_of(access: Access, topology: Topology, options: RabbitMQOptions) -> Permissions:
    """The permissions of one service of a topology.

    With ``declare=create`` it may declare its own part of the topology; with ``passive`` or ``none`` only what lives
    and dies with it: server-named queues, queues of responders, and queues where retries wait.
    """
    return _Derivation(access, topology, options).result()


class _Derivation:
    def __init__(self, access: Access, topology: Topology, options: RabbitMQOptions) -> None:
        self._access = access
        self._exchanges = {exchange.name: exchange for exchange in topology.exchanges}
        self._creates = options.declare == "create"
        self._declarer = declarer_of(options)
        self._shared = options.queue_exchange
        self._to = _Allowed()

    def result(self) -> Permissions:
        access, to = self._access, self._to
        for write in access.writes:
            self._publish(write.exchange, topic_regex(write.pattern))
            if write.delayed:
                self._delay(write.exchange, topic_regex(write.pattern))
            self._declare_exchange(write.exchange)
        for queue in access.queues:
            self._consume(queue)
        for binding in access.bindings:
            own = next((queue for queue in access.queues if queue.name == binding.queue), None)
            if binding.to_exchange is not None:
                if self._creates:
                    self._bind(binding.exchange, binding.pattern)
                    self._declare_exchange(binding.exchange)
                    to.write.append(re.escape(binding.to_exchange))
                continue
            self._declare_exchange(binding.exchange)
            if own is None or self._declarer.creates(own):
                self._bind(binding.exchange, binding.pattern)
        if access.asks:
            self._server_named()
        if access.answers:
            self._publish_to_queue(SERVER_NAMED)
        topics = sorted({*to.topic_write, *to.topic_read})
        return Permissions(
            service=access.service,
            configure=_any_of(to.configure),
            write=_any_of(to.write),
            read=_any_of(to.read),
            topics=tuple(
                TopicPermission(
                    exchange=name,
                    write=_any_of(to.topic_write.get(name, [])),
                    read=_any_of(to.topic_read.get(name, [])),
                )
                for name in topics
            ),
        )

    # -- what a service does, and what each of it needs ---------------------------------------------------

    def _publish(self, exchange: str, topics: str) -> None:
        self._to.write.append(_resource(exchange))
        if self._is_topic(exchange):
            self._to.topic_write.setdefault(exchange, []).append(topics)

    def _delay(self, exchange: str, topics: str) -> None:
        """Publish to places of its own, where messages wait; their topics are checked there, and not again after it."""
        own = [delay_name(self._access.service, exchange or self._shared, step) for step in DELAYS]
        names = [re.escape(name) for name in own]
        self._to.configure += names
        self._to.write += names
        self._to.read += names
        for name in own:
            self._to.topic_write.setdefault(name, []).append(topics)
            self._to.topic_read.setdefault(name, []).append("#")

    def _bind(self, exchange: str, key: str) -> None:
        self._to.read.append(_resource(exchange))
        if self._is_topic(exchange):
            self._to.topic_read.setdefault(exchange, []).append(re.escape(key))

    def _bind_by_name(self, name: str) -> None:
        """Every queue of ours is bound to the shared exchange by its own name."""
        if self._shared:
            self._to.read.append(re.escape(self._shared))
            self._to.topic_read.setdefault(self._shared, []).append(name)

    def _publish_to_queue(self, name: str) -> None:
        """By its name: over the shared exchange, or over the default one, which leads to every queue."""
        if self._shared:
            self._publish(self._shared, name)
        else:
            self._to.write.append(_resource(""))

    def _declare_exchange(self, name: str) -> None:
        if self._creates and name and not name.startswith("amq."):
            self._to.configure.append(re.escape(name))
            known = self._exchanges.get(name)
            alternate = known.arguments.get("alternate-exchange") if known is not None else None
            if alternate:
                self._to.read.append(re.escape(name))
                self._to.write.append(re.escape(alternate))

    def _declare_queue(self, name: str) -> None:
        """Declare it, with dead-lettering (which needs read), and bind it."""
        self._to.configure.append(name)
        self._to.write.append(name)
        self._to.read.append(name)
        self._bind_by_name(name)

    def _server_named(self) -> None:
        self._declare_queue(SERVER_NAMED)

    def _consume(self, queue: Queue) -> None:
        to = self._to
        if not queue.name:
            self._server_named()
            self._wait_queues(SERVER_NAMED)
            return
        name = re.escape(queue.name)
        to.read.append(name)
        if self._declarer.creates(queue):
            self._declare_queue(name)
            if self._shared and self._creates:
                to.configure.append(re.escape(self._shared))
        if queue.dead_letter:
            dead = re.escape(queue.dead_letter)
            if self._creates:
                self._declare_queue(dead)
            self._publish_to_queue(dead)
        if not queue.auto_delete:
            self._wait_queues(name)

    def _wait_queues(self, name: str) -> None:
        """Where copies of failed deliveries wait, to go back to the queue itself."""
        waiting = name + r"\.wait\.[0-9]+"
        self._declare_queue(waiting)
        self._publish_to_queue(waiting)
        self._publish_to_queue(name)

    def _is_topic(self, name: str) -> bool:
        known = self._exchanges.get(name, Exchange(name=name))
        return bool(name) and (name == self._shared or known.kind == "topic")


def topic_regex(pattern: str) -> str:
    """The regular expression, not anchored, of the topics that match a topic pattern."""
    words = re.sub(r"(?<![^.])#(\.#)+(?![^.])", "#", pattern).split(".")
    if words == ["#"]:
        return ".*"
    text = ""
    separate = False
    for position, word in enumerate(words):
        if word == "#":
            # Zero words have no dot beside them either.
            text += r"(\.[^.]*)*" if position else r"([^.]*\.)*"
            separate = position > 0
            continue
        text += r"\." if separate else ""
        text += "[^.]*" if word == "*" else re.escape(word)
        separate = True
    return text


def _resource(exchange: str) -> str:
    return re.escape(exchange or DEFAULT_EXCHANGE)


def _any_of(patterns: Iterable[str]) -> str:
    found = list(dict.fromkeys(patterns))
    return f"^({'|'.join(found)})\\z" if found else NOTHING
