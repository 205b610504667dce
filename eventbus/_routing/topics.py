"""Topic patterns, matched as RabbitMQ's topic exchange matches them (rabbit_exchange_type_topic).

- A topic or pattern is split into words at each ``.``; an empty word is a word: ``a..b`` has three and
  ``a.`` has two. The empty topic has no words at all, so ``#`` matches it and ``*`` does not.
- ``*`` stands for exactly one word (an empty one too), ``#`` for zero or more. Inside a longer word
  (``a*``) and in a topic they are characters like any other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import accumulate
from operator import or_
from typing import Generic, TypeVar

from eventbus._errors import ConfigurationError, EncodingError
from eventbus._message import MAX_TOPIC_BYTES

V = TypeVar("V", bound=Hashable)

ONE_WORD = "*"
ANY_WORDS = "#"

_CACHED_TOPICS = 4096


def validate_topic(topic: str) -> None:
    """Raise EncodingError unless the topic fits in an AMQP short string: 255 bytes of UTF-8."""
    problem = _problem(topic)
    if problem:
        raise EncodingError(f"the topic {problem}")


def validate_pattern(pattern: str) -> None:
    """Raise ConfigurationError unless the pattern fits in an AMQP short string: 255 bytes of UTF-8."""
    problem = _problem(pattern)
    if problem:
        raise ConfigurationError(f"the topic pattern {problem}")


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether one pattern matches the topic. For many patterns use :class:`TopicTrie`."""
    words = _words(topic)
    # matched[n] says whether the part of the pattern read so far matches the first n words. A row of
    # flags, and not recursion, because recursion takes exponential time on "#.#.#.#".
    matched = [True] + [False] * len(words)
    for expected in _words(pattern):
        if expected == ANY_WORDS:
            matched = list(accumulate(matched, or_))
        else:
            before = zip(matched, words, strict=False)
            matched = [False, *(so_far and expected in (ONE_WORD, word) for so_far, word in before)]
    return matched[-1]


class TopicTrie(Generic[V]):
    """Values under topic patterns, found by topic at a cost that depends on the topic's words.

    A value may be under several patterns; a match gives it once. Matches are in order of insertion.
    """

    __slots__ = ("_cache", "_inserted", "_root")

    def __init__(self) -> None:
        self._root: _Node[V] = _Node(any_words=False)
        self._inserted = 0
        # The same topics recur, so results are kept until a change, or until there are too many (then
        # all are dropped, which is cheaper than a least-recently-used order and as good here).
        self._cache: dict[str, tuple[V, ...]] = {}

    def insert(self, pattern: str, value: V) -> None:
        """Put the value under the pattern. A second time changes nothing, its place neither."""
        node = self._root
        for word in _words(pattern):
            child = node.children.get(word)
            if child is None:
                child = node.children[word] = _Node(any_words=word == ANY_WORDS)
            node = child
        self._inserted += 1
        node.values.setdefault(value, self._inserted)
        self._cache.clear()

    def remove(self, pattern: str, value: V) -> None:
        """Take the value from under the pattern; nothing happens when it is not there."""
        node = self._root
        path = []
        for word in _words(pattern):
            child = node.children.get(word)
            if child is None:
                return
            path.append((node, word))
            node = child
        node.values.pop(value, None)
        for parent, word in reversed(path):
            child = parent.children[word]
            if child.values or child.children:
                break
            del parent.children[word]
        self._cache.clear()

    def match(self, topic: str) -> tuple[V, ...]:
        """All values with a pattern that matches the topic."""
        found = self._cache.get(topic)
        if found is None:
            found = self._find(topic)
            if len(self._cache) >= _CACHED_TOPICS:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def _find(self, topic: str) -> tuple[V, ...]:
        # All nodes reachable after each word, as a set, so that no node is walked twice for one word:
        # "#" nodes can be reached in very many ways.
        nodes = _and_any_words([self._root])
        for word in _words(topic):
            reached = {node for node in nodes if node.any_words}
            for node in nodes:
                for step in (word, ONE_WORD):
                    child = node.children.get(step)
                    if child is not None:
                        reached.add(child)
            nodes = _and_any_words(reached)
        first: dict[V, int] = {}
        for node in nodes:
            for value, inserted in node.values.items():
                first[value] = min(inserted, first.get(value, inserted))
        return tuple(sorted(first, key=first.__getitem__))


class _Node(Generic[V]):
    """The end of the patterns that begin with the same words. ``any_words``: the last one is ``#``."""

    __slots__ = ("any_words", "children", "values")

    def __init__(self, *, any_words: bool) -> None:
        self.any_words = any_words
        self.children: dict[str, _Node[V]] = {}
        self.values: dict[V, int] = {}


def _and_any_words(nodes: Iterable[_Node[V]]) -> set[_Node[V]]:
    """The nodes and all that a ``#`` for zero words leads to from them."""
    reached = set(nodes)
    for start in tuple(reached):
        node = start.children.get(ANY_WORDS)
        while node is not None and node not in reached:
            reached.add(node)
            node = node.children.get(ANY_WORDS)
    return reached


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _problem(text: str) -> str | None:
    if len(text) <= MAX_TOPIC_BYTES and text.isascii():
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "cannot be written in UTF-8: it contains half of a surrogate pair"
    if size > MAX_TOPIC_BYTES:
        return f"has {size} bytes in UTF-8; the limit is {MAX_TOPIC_BYTES}"
    return None
