"""A table of exchanges and bindings that finds the destinations of a message, as a broker does."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from eventbus._errors import ConfigurationError, TopologyMismatch
from eventbus._message import NO_HEADERS, HeaderValue
from eventbus._routing.headers import Matcher, frozen_arguments, header_matcher
from eventbus._routing.topics import TopicTrie, validate_pattern
from eventbus._topology import ExchangeKind

T = TypeVar("T", bound=Hashable)

DEFAULT_EXCHANGE = ""


class UnknownExchange(LookupError):
    """No exchange of this name is declared. ``exchange`` is the name."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"no exchange {exchange!r}")
        self.exchange = exchange


class Router(Generic[T]):
    """Exchanges of the four kinds, bound to destinations of type T and to one another.

    The rules are RabbitMQ's:

    - A binding is identified by its exchange, destination, pattern and arguments (for every kind, also
      where routing does not look at them). Binding twice or unbinding what is not bound does nothing.
    - A message comes to each destination once, however many bindings lead there; exchanges may be
      bound in circles.
    - Deleting an exchange deletes the bindings from it and to it.
    - What finds no binding of an exchange with an alternate one goes there, if that exists.
    - The default exchange ``""`` always exists and cannot be declared, deleted or bound. ``default``
      gives the destination whose name is the topic.

    The routing keys in ``CC`` and ``BCC`` headers, which RabbitMQ adds to the topic, are not read.
    """

    def __init__(self, default: Callable[[str], T | None]) -> None:
        self._default = default
        self._exchanges: dict[str, _Exchange[T]] = {}
        # The bindings by what they lead to, so that a queue can go without a search through all.
        self._leading_to: dict[T | _ToExchange, dict[tuple[str, _Binding[T]], None]] = {}

    def declare_exchange(self, name: str, kind: ExchangeKind, alternate: str | None = None) -> None:
        """Create the exchange unless it exists; TopologyMismatch when it exists as another kind."""
        _refuse_default(name)
        if kind not in _TABLES:
            raise ConfigurationError(f"an exchange is one of {', '.join(_TABLES)}, not {kind!r}")
        existing = self._exchanges.get(name)
        if existing is None:
            self._exchanges[name] = _Exchange(kind, alternate)
        elif existing.kind != kind:
            raise TopologyMismatch(f"exchange {name!r} is declared as {existing.kind}, not as {kind}")

    def delete_exchange(self, name: str) -> None:
        """Delete the exchange and its bindings; nothing happens when there is none."""
        _refuse_default(name)
        exchange = self._exchanges.get(name)
        if exchange is not None:
            self._unbind_target(_ToExchange(name))
            for binding in tuple(exchange.bindings):
                self._remove(name, binding)
            del self._exchanges[name]

    def bind_queue(
        self,
        exchange: str,
        destination: T,
        pattern: str = "",
        arguments: Mapping[str, HeaderValue] | None = None,
    ) -> None:
        """Hand messages from the exchange that fit the pattern or arguments to the destination."""
        self._bind(exchange, destination, pattern, arguments)

    def unbind_queue(
        self,
        exchange: str,
        destination: T,
        pattern: str = "",
        arguments: Mapping[str, HeaderValue] | None = None,
    ) -> None:
        """Undo :meth:`bind_queue` with the same pattern and arguments; nothing else."""
        self._unbind(exchange, destination, pattern, arguments)

    def unbind_all(self, destination: T) -> None:
        """Remove all bindings of the destination, as when a queue is deleted."""
        self._unbind_target(destination)

    def bind_exchange(
        self,
        source: str,
        destination_exchange: str,
        pattern: str = "",
        arguments: Mapping[str, HeaderValue] | None = None,
    ) -> None:
        """Hand messages from one exchange that fit the pattern or arguments to another exchange."""
        _refuse_default(destination_exchange)
        self._exchange(destination_exchange)
        self._bind(source, _ToExchange(destination_exchange), pattern, arguments)

    def unbind_exchange(
        self,
        source: str,
        destination_exchange: str,
        pattern: str = "",
        arguments: Mapping[str, HeaderValue] | None = None,
    ) -> None:
        """Undo :meth:`bind_exchange` with the same pattern and arguments; nothing else."""
        _refuse_default(destination_exchange)
        self._unbind(source, _ToExchange(destination_exchange), pattern, arguments)

    def route(self, exchange: str, topic: str, headers: Mapping[str, HeaderValue] = NO_HEADERS) -> list[T]:
        """The destinations of a message, each once; UnknownExchange when there is no such exchange.

        In binding order; those of further exchanges follow after those of the exchange before.
        """
        if exchange == DEFAULT_EXCHANGE:
            destination = self._default(topic)
            return [] if destination is None else [destination]
        start = self._exchange(exchange)
        found: dict[T, None] = {}
        pending, seen = [start], {exchange}
        for current in pending:
            matching = current.table.match(topic, headers)
            if not matching and current.alternate is not None and current.alternate not in seen:
                seen.add(current.alternate)
                other = self._exchanges.get(current.alternate)
                if other is not None:
                    pending.append(other)
            for binding in matching:
                target = binding.target
                if not isinstance(target, _ToExchange):
                    found[target] = None
                elif target.name not in seen:
                    seen.add(target.name)
                    pending.append(self._exchanges[target.name])
        return list(found)

    def _exchange(self, name: str) -> _Exchange[T]:
        try:
            return self._exchanges[name]
        except KeyError:
            raise UnknownExchange(name) from None

    def _bind(
        self, name: str, target: T | _ToExchange, pattern: str, arguments: Mapping[str, HeaderValue] | None
    ) -> None:
        _refuse_default(name)
        validate_pattern(pattern)
        exchange = self._exchange(name)
        binding = _Binding(target, pattern, frozen_arguments(arguments or {}))
        if binding not in exchange.bindings:
            exchange.table.insert(binding, arguments or {})
            exchange.bindings[binding] = None
            self._leading_to.setdefault(target, {})[name, binding] = None

    def _unbind(
        self, name: str, target: T | _ToExchange, pattern: str, arguments: Mapping[str, HeaderValue] | None
    ) -> None:
        _refuse_default(name)
        exchange = self._exchanges.get(name)
        binding = _Binding(target, pattern, frozen_arguments(arguments or {}))
        if exchange is not None and binding in exchange.bindings:
            self._remove(name, binding)

    def _unbind_target(self, target: T | _ToExchange) -> None:
        for name, binding in tuple(self._leading_to.get(target, ())):
            self._remove(name, binding)

    def _remove(self, name: str, binding: _Binding[T]) -> None:
        exchange = self._exchanges[name]
        del exchange.bindings[binding]
        exchange.table.remove(binding)
        others = self._leading_to[binding.target]
        del others[name, binding]
        if not others:
            del self._leading_to[binding.target]


@dataclass(frozen=True, slots=True)
class _ToExchange:
    """An exchange as the target of a binding, distinct from any destination of the caller's."""

    name: str


@dataclass(frozen=True, slots=True)
class _Binding(Generic[T]):
    target: T | _ToExchange
    pattern: str
    arguments: Hashable


class _Exchange(Generic[T]):
    def __init__(self, kind: ExchangeKind, alternate: str | None) -> None:
        self.kind = kind
        self.alternate = alternate
        self.bindings: dict[_Binding[T], None] = {}
        self.table: _Table[T] = _TABLES[kind]()


class _Table(Protocol[T]):
    """The bindings of one exchange, arranged for its kind. ``match`` answers in binding order."""

    def insert(self, binding: _Binding[T], arguments: Mapping[str, HeaderValue]) -> None: ...
    def remove(self, binding: _Binding[T]) -> None: ...
    def match(self, topic: str, headers: Mapping[str, HeaderValue]) -> Iterable[_Binding[T]]: ...


class _TopicTable(Generic[T]):
    def __init__(self) -> None:
        self._trie: TopicTrie[_Binding[T]] = TopicTrie()

    def insert(self, binding: _Binding[T], arguments: Mapping[str, HeaderValue]) -> None:
        self._trie.insert(binding.pattern, binding)

    def remove(self, binding: _Binding[T]) -> None:
        self._trie.remove(binding.pattern, binding)

    def match(self, topic: str, headers: Mapping[str, HeaderValue]) -> Iterable[_Binding[T]]:
        return self._trie.match(topic)


class _DirectTable(Generic[T]):
    def __init__(self) -> None:
        self._by_topic: dict[str, dict[_Binding[T], None]] = {}

    def insert(self, binding: _Binding[T], arguments: Mapping[str, HeaderValue]) -> None:
        self._by_topic.setdefault(binding.pattern, {})[binding] = None

    def remove(self, binding: _Binding[T]) -> None:
        bindings = self._by_topic[binding.pattern]
        del bindings[binding]
        if not bindings:
            del self._by_topic[binding.pattern]

    def match(self, topic: str, headers: Mapping[str, HeaderValue]) -> Iterable[_Binding[T]]:
        return self._by_topic.get(topic, ())


class _FanoutTable(Generic[T]):
    def __init__(self) -> None:
        self._bindings: dict[_Binding[T], None] = {}

    def insert(self, binding: _Binding[T], arguments: Mapping[str, HeaderValue]) -> None:
        self._bindings[binding] = None

    def remove(self, binding: _Binding[T]) -> None:
        del self._bindings[binding]

    def match(self, topic: str, headers: Mapping[str, HeaderValue]) -> Iterable[_Binding[T]]:
        return self._bindings


class _HeadersTable(Generic[T]):
    def __init__(self) -> None:
        self._matchers: dict[_Binding[T], Matcher] = {}

    def insert(self, binding: _Binding[T], arguments: Mapping[str, HeaderValue]) -> None:
        self._matchers[binding] = header_matcher(arguments)

    def remove(self, binding: _Binding[T]) -> None:
        del self._matchers[binding]

    def match(self, topic: str, headers: Mapping[str, HeaderValue]) -> Iterable[_Binding[T]]:
        return [binding for binding, matches in self._matchers.items() if matches(headers)]


_TABLES: Mapping[ExchangeKind, type[_Table[Any]]] = {
    "topic": _TopicTable,
    "direct": _DirectTable,
    "fanout": _FanoutTable,
    "headers": _HeadersTable,
}


def _refuse_default(name: str) -> None:
    if name == DEFAULT_EXCHANGE:
        raise ConfigurationError("the default exchange cannot be declared, deleted or bound")
