"""From what a user says of a subscription to the subscription as a value, or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventbus._batch import Batch
from eventbus._errors import ConfigurationError
from eventbus._events import EventSpec
from eventbus._handlers import Handler
from eventbus._partitions import MAX_PARTITIONS
from eventbus._settlement import Retry
from eventbus._subscription import Settle, Subscription, default_exchange, exchange_of
from eventbus._topology import DEAD_SUFFIX, EVENTS_EXCHANGE, Binding, Exchange, Queue

READ_AHEAD = 10
# Messages of a key that is taken wait here: to find one of another key, more of them have to be looked at.
ORDERED_READ_AHEAD = 100
PARTITION_READ_AHEAD = 20
DELIVERY_LIMIT = 20


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the user gave to ``subscribe`` or ``respond``, before the bus's defaults are filled in."""

    events: tuple[type, ...] = ()
    group: str | None = None
    broadcast: bool = False
    pattern: tuple[str, ...] = ()
    exchange: str | Exchange | None = None
    headers: Mapping[str, Any] | None = None
    match: Literal["all", "any"] = "all"
    bind_exchange: tuple[tuple[str | Exchange, str], ...] = ()
    name: str | None = None
    queue: str | Queue | None = None
    concurrency: int = 1
    prefetch: int | None = None
    timeout: float | None = None
    settle: Settle = "success"
    retry: Retry | None = None
    dead_letter: bool = True
    on_unknown: Literal["dead-letter", "ignore"] = "dead-letter"
    responder: bool = False
    ordered: bool = False
    partitions: int | None = None
    batch: Batch | None = None


def build(
    options: Options,
    function: Callable[..., Any],
    *,
    service: str | None,
    retry: Retry,
    specs: Sequence[EventSpec],
) -> Subscription:
    """The subscription that ``options`` and the handler's own annotations describe.

    :raises ConfigurationError: nothing to subscribe to, no group, or limits out of range.
    """
    handler = Handler(function, batch=options.batch is not None)
    _check(options, handler)
    name = options.name or (specs[0].type if len(specs) == 1 else handler.name)
    group = None if options.broadcast else (options.group or service)
    if group is None and not options.broadcast and options.queue is None:
        raise ConfigurationError(
            f"subscription {name!r} has no group: give the bus a service name, or the subscription group=..., "
            "or broadcast=True; a silent default would lose messages while the service is down"
        )
    if not specs and not options.pattern and options.headers is None and options.exchange is None:
        raise ConfigurationError(
            f"handler {handler.name} is subscribed to nothing: give event classes or pattern=..., or annotate its "
            "first parameter with an event class"
        )
    queue = _queue(options, group, name)
    exchanges, bindings = _bindings(options, specs, queue.name)
    return Subscription(
        name=f"{group}.{name}" if group else name,
        handler=handler,
        events=tuple(specs),
        raw=None if specs else (handler.event_type if handler.event_type is not None else Any),
        group=group,
        exchanges=exchanges,
        bindings=bindings,
        queue=queue,
        concurrency=options.concurrency,
        prefetch=options.prefetch if options.prefetch is not None else _prefetch(options),
        timeout=options.timeout,
        settle=options.settle,
        retry=options.retry or retry,
        responder=options.responder,
        ignore_unknown=options.on_unknown == "ignore",
        ordered=options.ordered or bool(options.partitions),
        partitions=options.partitions or 0,
        batch=options.batch,
    )


def _prefetch(options: Options) -> int:
    """How many deliveries to hold, where the user does not say."""
    if options.batch is not None:  # while some batches are handled, another one comes together
        return min(65535, (options.concurrency + 1) * options.batch.size)
    if options.partitions:
        return options.concurrency + max(ORDERED_READ_AHEAD, options.partitions * PARTITION_READ_AHEAD)
    return options.concurrency + (ORDERED_READ_AHEAD if options.ordered else READ_AHEAD)


def _check(options: Options, handler: Handler) -> None:
    where = f"handler {handler.name}"
    if options.concurrency < 1:
        raise ConfigurationError(f"{where}: concurrency is at least 1")
    if options.prefetch is not None and not 1 <= options.prefetch <= 65535:
        raise ConfigurationError(f"{where}: prefetch is 1 to 65535; without a limit a backlog fills the memory")
    if options.timeout is not None and options.timeout <= 0:
        raise ConfigurationError(f"{where}: timeout is seconds above 0")
    if options.broadcast and (options.group or options.queue):
        raise ConfigurationError(f"{where}: broadcast has neither group nor queue: each instance gets its own")
    if options.settle not in ("success", "receipt", "manual"):
        raise ConfigurationError(f'{where}: settle is "success", "receipt" or "manual", not {options.settle!r}')
    _check_order(options, where)


def _check_order(options: Options, where: str) -> None:
    ordered = options.ordered or options.partitions is not None
    if options.responder and (ordered or options.batch is not None):
        raise ConfigurationError(f"{where}: a responder answers requests one by one, as they come")
    if ordered and options.batch is not None:
        raise ConfigurationError(f"{where}: a batch mixes keys, so it cannot be ordered by key")
    if ordered and options.settle == "receipt":
        raise ConfigurationError(f"{where}: settled at receipt, what is lost on the way would break the order")
    if options.partitions is not None:
        if not 1 <= options.partitions <= MAX_PARTITIONS:
            raise ConfigurationError(f"{where}: partitions is 1 to {MAX_PARTITIONS}")
        if options.broadcast:
            raise ConfigurationError(f"{where}: broadcast has no partitions: each instance gets all messages")
        if options.prefetch is not None and options.prefetch < options.partitions:
            raise ConfigurationError(f"{where}: prefetch is shared by the partitions: at least one for each")
    if options.batch is not None and options.prefetch is not None and options.prefetch < options.batch.size:
        raise ConfigurationError(f"{where}: with a prefetch below its size a batch would never be full")


def _queue(options: Options, group: str | None, name: str) -> Queue:
    if isinstance(options.queue, Queue):
        return options.queue
    if options.broadcast:
        return Queue(name="", durable=False, exclusive=True, auto_delete=True, type="classic")
    full = options.queue or f"{group}.{name}"
    if len(full.encode()) > 255 - len(DEAD_SUFFIX) - 20:
        raise ConfigurationError(f"queue name {full[:60]!r}... is too long; give the subscription a shorter name=...")
    if options.responder:
        # Dies with the last responder, so that a request without one is unroutable at once.
        return Queue(name=full, type="classic", auto_delete=True)
    return Queue(
        name=full,
        dead_letter=full + DEAD_SUFFIX if options.dead_letter else None,
        delivery_limit=DELIVERY_LIMIT,
        single_active_consumer=options.ordered or options.partitions is not None,
    )


def _bindings(
    options: Options, specs: Sequence[EventSpec], queue: str
) -> tuple[tuple[Exchange, ...], tuple[Binding, ...]]:
    exchanges: dict[str, Exchange] = {}
    bindings: list[Binding] = []

    def bind(exchange: Exchange, pattern: str) -> None:
        known = exchanges.setdefault(exchange.name, exchange)
        if known != exchange:
            raise ConfigurationError(f"exchange {exchange.name!r} is declared as {known.kind} and as {exchange.kind}")
        if not exchange.name:  # every queue is bound to the default exchange by its own name
            return
        arguments = {} if options.headers is None else {**options.headers, "x-match": options.match}
        bindings.append(Binding(exchange=exchange.name, queue=queue, pattern=pattern, arguments=arguments))

    given = _exchange(options.exchange, options)
    for spec in specs:
        exchange = given or exchange_of(spec, responder=options.responder)
        for pattern in options.pattern or (_pattern(spec, exchange),):
            bind(exchange, pattern)
    if not specs:
        for pattern in options.pattern or ("",):
            bind(given or default_exchange(responder=options.responder), pattern)
    for source, pattern in options.bind_exchange:
        origin = _exchange(source, options)
        assert origin is not None
        exchanges.setdefault(origin.name, origin)
        target = bindings[0].exchange if bindings else EVENTS_EXCHANGE
        bindings.append(Binding(exchange=origin.name, to_exchange=target, pattern=pattern))
    return tuple(exchanges.values()), tuple(bindings)


def _pattern(spec: EventSpec, exchange: Exchange) -> str:
    pattern = spec.template.pattern
    if exchange.kind == "direct" and "*" in pattern:
        raise ConfigurationError(
            f"{spec.cls.__name__} goes to the direct exchange {exchange.name!r}, which knows no patterns: "
            "subscribe with pattern=... naming exact topics"
        )
    return pattern


def _exchange(given: str | Exchange | None, options: Options) -> Exchange | None:
    if isinstance(given, str):
        kind: Literal["topic", "headers"] = "topic" if options.headers is None else "headers"
        return Exchange(name=given, kind=kind)
    return given
