"""Retry and dead-letter copies under way, and who waits for their end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from eventbus import PublishError
from eventbus._message import Message
from eventbus_rabbitmq._port import Reactor
from eventbus_rabbitmq._publisher import Outgoing
from eventbus_rabbitmq._publishing import FOREVER, Publishing
from eventbus_rabbitmq._waiting import Wait

IDLE_SECONDS = 0.01


class Copies:
    """Publishes copies. ``flush`` writes the acks of their originals, before it is told that none is under way."""

    def __init__(
        self, reactor: Reactor, prepare: Callable[..., Outgoing], publishing: Publishing, flush: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._prepare = prepare
        self._publishing = publishing
        self._flush = flush
        self._count = 0
        self._waiting: list[Callable[[], None]] = []

    def publish(
        self,
        copy: Message,
        wait: Wait | None,
        alive: Callable[[], bool],
        done: Callable[[PublishError | None], None],
    ) -> None:
        """Publish a copy: no deadline of its own, as long as its original can be settled."""
        if wait is not None:
            copy = msgspec.structs.replace(copy, topic=wait.name)
        self._count += 1

        def finished(error: PublishError | None) -> None:
            self._count -= 1
            done(error)
            self._tell()

        try:
            outgoing = self._prepare(copy, deadline=FOREVER, done=finished)
        except PublishError as error:
            finished(error)
            return
        outgoing.wait = wait
        outgoing.alive = alive
        self._publishing.publish(outgoing)

    def when_none(self, done: Callable[[], None]) -> None:
        """Call when no copy, and no answer of a responder, is under way."""
        self._waiting.append(done)
        self._look()

    def _look(self) -> None:
        # Answers of responders are in no window and have no copy's count, so what is pending is looked at.
        if self._waiting and (self._count or self._publishing.pending()):
            self._reactor.call_later(IDLE_SECONDS, self._look)
        self._tell()

    def _tell(self) -> None:
        if self._count == 0 and self._waiting and not self._publishing.pending():
            waiting, self._waiting = self._waiting, []
            self._flush()
            for done in waiting:
                done()
