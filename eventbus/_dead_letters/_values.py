"""Dead letters as values: what is known of one, which are meant, and what has become of them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from eventbus._message import Message
from eventbus._routing import topic_matches, validate_pattern


class DeadMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message in a dead-letter queue, with what is known of its failure. Times are Unix seconds.

    ``queue`` is the queue of the group that failed (empty: not known), ``dead_queue`` the one that it lies in.
    ``exchange`` and ``topic`` are those that it was published to, ``published`` when (0: not known). ``id`` is the
    message's own; one that came without gets ``body-`` and a digest of its body.

    ``reason``, ``error_type``, ``error`` and ``digest`` tell why: the digest is the same for errors of one type from
    one place of the code. ``attempts`` counts handlings (None: nobody has counted them); ``first_seen`` is when the
    first one failed, ``died`` when the message was given up. ``by_broker``: the broker moved it by itself, so there is
    no error, and ``reason`` begins with the broker's word: ``delivery_limit``, ``expired``, ``rejected`` or ``maxlen``
    (https://www.rabbitmq.com/docs/dlx#effects).

    ``problem`` is set when the transport cannot read the message within its limits: it can be discarded, and not
    replayed. ``message`` is as it lies in the queue; its headers and body were written by others.
    """

    id: str
    type: str
    source: str
    exchange: str
    topic: str
    published: float
    queue: str
    dead_queue: str
    reason: str
    error_type: str = ""
    error: str = ""
    digest: str = ""
    attempts: int | None = None
    first_seen: float | None = None
    died: float | None = None
    by_broker: bool = False
    problem: str | None = None
    message: Message


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those to which everything that is given applies.

    ``queue`` is the name of a group's queue, ``group`` the first part of it. ``reason`` is a part of the reason, in any
    case; ``error_type`` the class name, with or without the classes around it; ``type`` the event type; ``topic`` a
    topic pattern; ``digest`` the digest or its beginning. ``since`` and ``until`` are Unix seconds, and no dead letter
    is meant whose time is not known.
    """

    queue: str | None = None
    group: str | None = None
    reason: str | None = None
    error_type: str | None = None
    type: str | None = None
    topic: str | None = None
    digest: str | None = None
    since: float | None = None
    until: float | None = None
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.topic is not None:
            validate_pattern(self.topic)

    def matches(self, dead: DeadMessage) -> bool:
        """Whether this one is meant."""
        return (
            (not self.ids or dead.id in self.ids)
            and self.queue in (None, dead.queue)
            and (self.group is None or dead.queue.startswith(f"{self.group}."))
            and (self.reason is None or self.reason.casefold() in dead.reason.casefold())
            and (self.error_type is None or self.error_type in (dead.error_type, dead.error_type.rpartition(".")[2]))
            and self.type in (None, dead.type)
            and (self.topic is None or topic_matches(self.topic, dead.topic))
            and (self.digest is None or (bool(dead.digest) and dead.digest.startswith(self.digest)))
            and self._in_time(dead.died)
        )

    def _in_time(self, died: float | None) -> bool:
        if self.since is None and self.until is None:
            return True
        if died is None:
            return False
        return (self.since is None or died >= self.since) and (self.until is None or died <= self.until)


EVERYTHING = DeadLetterFilter()


class DeadLetterQueue(msgspec.Struct, frozen=True):
    """A dead-letter queue, and the queues whose dead letters it takes; none named means that nobody knows."""

    name: str
    sources: tuple[str, ...] = ()

    def takes(self, queue: str) -> bool:
        """Whether messages that failed in ``queue`` belong here: a source, or a partition of one."""
        if not self.sources or queue in self.sources:
            return True
        head, _, number = queue.rpartition(".")
        return head in self.sources and number.isascii() and number.isdecimal()


class FoundDeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters, in the order of their deaths: those that died last, if a limit left some out.

    ``matched`` counts all that were meant, ``looked_at`` all that were there. ``missing`` names dead-letter queues that
    do not exist, ``shared`` those with consumers beside us: what those hold is not found.
    """

    messages: tuple[DeadMessage, ...] = ()
    matched: int = 0
    looked_at: int = 0
    missing: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[DeadMessage]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters that failed alike: same queue, same error type (or reason, where there was no error), same digest.

    ``example`` is the id of one; ``error`` is that one's. ``first`` and ``last`` are when they died.
    """

    queue: str
    error_type: str
    digest: str
    count: int
    reason: str
    error: str
    example: str
    first: float | None
    last: float | None


class GroupedDeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Groups of dead letters, the largest first; the rest as in :class:`FoundDeadLetters`."""

    groups: tuple[DeadLetterGroup, ...] = ()
    matched: int = 0
    looked_at: int = 0
    missing: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[DeadLetterGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)


class DeadLetterReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of dead letters: ``done`` of those that ``matched`` were replayed or discarded.

    The others are where they were: ``skipped`` counts them, and ``problems`` says why, each reason once. In a dry run
    ``done`` is what would have been tried.
    """

    matched: int = 0
    done: int = 0
    skipped: int = 0
    looked_at: int = 0
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    dry_run: bool = False
