"""What both buses are made of: configuration, registered handlers, messages. No waiting, no threads."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal, Unpack

import msgspec

from eventbus._bus._health import REPLY_CONSUMER, one_line
from eventbus._codecs import Codec, Codecs
from eventbus._errors import ConfigurationError
from eventbus._events import is_event, spec_of
from eventbus._inbound import Reader
from eventbus._message import Message
from eventbus._middleware import Middleware, MiddlewareStack
from eventbus._outgoing import Encoder, PublishKeywords, PublishOptions, options_from
from eventbus._plugins import transport_from
from eventbus._registration import Registrar, Router, specs_for
from eventbus._replies import DIRECT_REPLY_TO, REPLY_ADDRESSES, deadline_headers
from eventbus._secrets import CredentialsSource
from eventbus._settlement import Retry
from eventbus._spool._values import Spool, SpoolHealth, SpoolSettings, settings_of
from eventbus._subscribing import Options, build
from eventbus._subscription import Subscription, access_of, exchange_of
from eventbus._supervisor import Phase
from eventbus._tls import TLSConfig
from eventbus._topology import Exchange, Policy, Queue, Topology
from eventbus.transport import ConsumerSpec, LinkSettings, LinkStatus, ReloadsTLS, SecuredTransport, Transport

log = logging.getLogger("eventbus")

in_handler: contextvars.ContextVar[bool] = contextvars.ContextVar("eventbus_in_handler", default=False)
"""Handlers may still publish while the bus drains; others may not."""


class Served:
    """A subscription with the reader of its messages."""

    __slots__ = ("reader", "subscription")

    def __init__(self, subscription: Subscription, codecs: Codecs) -> None:
        self.subscription = subscription
        self.reader = Reader(subscription, codecs)


class BusCore(Registrar):
    """Configuration and decisions of a bus; see :class:`eventbus.EventBus` for the parameters."""

    _allow_async = False

    def __init__(
        self,
        url: str | Transport,
        *,
        service: str | None = None,
        middleware: Iterable[Middleware | str] = (),
        codecs: Iterable[Codec] = (),
        retry: Retry | None = None,
        mandatory: bool = False,
        timeout: float = 10.0,
        window: int = 1000,
        max_body: int = 16 * 1024 * 1024,
        grace: float = 30.0,
        reply: Literal["queue", "direct"] = "queue",
        reply_addresses: Iterable[str] = (),
        tls: TLSConfig | None = None,
        credentials: CredentialsSource | None = None,
        publishes: Iterable[type] = (),
        requests: Iterable[type] = (),
        schedules: Iterable[type] = (),
        policies: Iterable[Policy] = (),
        spool: str | Transport | Spool | None = None,
    ) -> None:
        if window < 1 or timeout <= 0 or grace < 0 or max_body < 1:
            raise ConfigurationError("a bus wants window >= 1, timeout > 0, grace >= 0 and max_body >= 1")
        if service is not None and (not service or len(service) > 100):
            raise ConfigurationError("service is a name of 1 to 100 characters")
        self.transport: Transport = transport_from(url) if isinstance(url, str) else url
        if not isinstance(self.transport, Transport):
            raise ConfigurationError(f"a bus is given a URL or a transport, not {type(url).__name__}")
        if tls is not None or credentials is not None:
            if not isinstance(self.transport, SecuredTransport):
                raise ConfigurationError("this transport takes neither tls= nor credentials=")
            self.transport = self.transport.secured(tls=tls, credentials=credentials)
        if reply == "direct" and not self.transport.capabilities.direct_reply:
            raise ConfigurationError('this transport has no direct reply-to; use reply="queue"')
        self._spool: SpoolSettings | None = None if spool is None else settings_of(spool, service)
        self.service = service
        self.timeout = timeout
        self.grace = grace
        self._settings = LinkSettings(service=service or "eventbus", max_body=max_body)
        self._middleware = MiddlewareStack(middleware, allow_async=self._allow_async)
        self._codecs = Codecs(codecs)
        self._retry = retry or Retry()
        self._mandatory = mandatory
        self._window_size = window
        self._reply_mode = reply
        self._reply_addresses = (*REPLY_ADDRESSES, *reply_addresses)
        self._encoder = Encoder(
            codecs=self._codecs,
            source=self._settings.service,
            max_body=max_body,
            declare=self.declare,
            first=self._first_of,
        )
        self._served: dict[str, Served] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._reply_decoders: dict[tuple[str, Any], Callable[[bytes], Any]] = {}
        self._unroutable_topics: set[str] = set()
        self._unroutable = 0
        self._status = LinkStatus(phase=Phase.IDLE)
        self._schedules = tuple(dict.fromkeys(schedules))
        self._publishes = tuple(dict.fromkeys((*publishes, *self._schedules)))
        self._requests = tuple(dict.fromkeys(requests))
        self._policies = tuple(policies)
        for responder, classes in ((False, self._publishes), (True, self._requests)):
            for cls in classes:
                self._note_exchange(exchange_of(spec_of(cls), responder=responder))
        self._setup()

    def _setup(self) -> None:
        """What a bus needs beyond its configuration, before anything runs."""

    # -- registering ------------------------------------------------------------------------------------

    def _register(self, options: Options, function: Callable[..., Any]) -> None:
        specs = specs_for(options, function)
        subscription = build(options, function, service=self.service, retry=self._retry, specs=specs)
        if subscription.handler.needs_loop and not self._allow_async:
            raise ConfigurationError(
                f"handler {subscription.handler.name} is async (or has an async dependency); use AsyncEventBus for it"
            )
        if subscription.handler.needs_loop and not subscription.handler.is_async:
            raise ConfigurationError(
                f"handler {subscription.handler.name} is a plain function with an async dependency; make it async"
            )
        if subscription.name in self._served:
            raise ConfigurationError(
                f"two subscriptions are named {subscription.name!r} and would share one queue; give one name=..."
            )
        served = Served(subscription, self._codecs)
        for exchange in subscription.topology().exchanges:
            self._note_exchange(exchange)
        self._served[subscription.name] = served
        self._subscribed(served)

    def include(self, router: Router) -> None:
        """Take in the handlers of a router."""
        for registration in router.registrations:
            self._register(registration.options, registration.function)

    def _subscribed(self, served: Served) -> None:
        """A subscription is new; a running bus begins to serve it."""

    def declare(self, exchange: Exchange) -> None:
        """Have this exchange declared before anything is published from now on.

        Events bring their exchanges with them; this is for messages that were made elsewhere (see :meth:`message`).

        :raises ConfigurationError: the bus knows an exchange of this name with other properties.
        """
        if self._note_exchange(exchange):
            self._declared(exchange)

    def _note_exchange(self, exchange: Exchange) -> bool:
        known = self._exchanges.get(exchange.name)
        if known is not None and known != exchange:
            raise ConfigurationError(
                f"exchange {exchange.name!r} is declared twice, as {known.kind} (durable={known.durable}) and as "
                f"{exchange.kind} (durable={exchange.durable})"
            )
        self._exchanges[exchange.name] = exchange
        return known is None

    def _declared(self, exchange: Exchange) -> None:
        """An exchange is new; a running bus tells its link."""

    def _first_of(self, cls: type, request: bool) -> None:
        """The first event of a class is on its way out."""
        declared = self._requests if request else self._publishes
        if (self._publishes or self._requests) and cls not in declared and is_event(cls):
            log.warning(
                "%s is not among what this bus %s: permissions made from its topology will not allow it",
                cls.__name__,
                "requests" if request else "publishes",
            )

    def topology(self) -> Topology:
        """The exchanges, queues, bindings and policies that this bus needs, and what it does with them, as a value.

        What it publishes and asks is known from ``publishes``, ``schedules`` (with a delay) and ``requests``.
        """
        subscriptions = [served.subscription for served in self._served.values()]
        access = access_of(
            self._settings.service,
            subscriptions,
            publishes=self._publishes,
            requests=self._requests,
            schedules=self._schedules,
        )
        whole = Topology(exchanges=tuple(self._exchanges.values()), policies=self._policies, services=(access,))
        for subscription in subscriptions:
            whole = whole.merged(subscription.topology())
        return whole

    def event_classes(self) -> dict[str, type]:
        """The event and request classes that this bus's code knows, by their type on the wire."""
        found = [spec_of(cls) for cls in (*self._publishes, *self._requests)]
        found += [spec for served in self._served.values() for spec in served.subscription.events]
        return {spec.type: spec.cls for spec in found}

    def reload_tls(self) -> None:
        """Connect anew with the TLS files as they are now, without waiting for it.

        Files are read again at every reconnect anyway; this makes one now, also where the bus has given up. Messages
        without a confirm are sent again with the same id; deliveries that are being handled come again. Functions of
        the settings are called in here once, to see whether what they give can be used.

        :raises CertificateError: the files cannot be used; the bus goes on with the connections that it has.
        :raises ConfigurationError: the bus is not running, or its transport has no TLS.
        """
        link = self._link()
        if link is None:
            raise ConfigurationError("the bus is not running: it reads the TLS files when it connects")
        if not isinstance(link, ReloadsTLS):
            raise ConfigurationError("this transport has no TLS")
        link.reload_tls()

    def _link(self) -> object | None:
        """The link of a running bus."""
        raise NotImplementedError

    # -- publishing -------------------------------------------------------------------------------------

    def message(self, event: object, /, **options: Unpack[PublishKeywords]) -> Message:
        """The message of an event, encoded and not sent: ``publish`` takes it later, with the same id.

        What stores it meanwhile (an outbox) needs no more than this value.

        :raises NotSent: it cannot be encoded.
        """
        return self._encoder.message(event, options_from(options))

    def _message(self, event: Any, options: PublishOptions) -> Message:
        """The message of an event. :raises NotSent: it cannot be encoded."""
        message = self._encoder.message(event, options)
        if message.deliver_at is not None and not self.transport.capabilities.schedules:
            raise ConfigurationError("this transport delivers at once: it knows neither delay nor deliver_at")
        return self._middleware.outgoing(message) if self._middleware.watches_outgoing else message

    def _must_route(self, cls: type, chosen: bool | None) -> bool:
        """Whether Unroutable is the caller's business: the caller says, or the event class, or the bus."""
        if chosen is not None:
            return chosen
        declared = self._encoder.mandatory(cls)
        return self._mandatory if declared is None else declared

    def _note_unroutable(self, message: Message) -> None:
        """Nobody listening is legitimate for an event; a silent loss is not: counted, and logged once a topic."""
        self._unroutable += 1
        if message.topic not in self._unroutable_topics and len(self._unroutable_topics) < 1000:
            self._unroutable_topics.add(message.topic)
            log.warning(
                "no queue takes topic %r of exchange %r at %r: nobody is subscribed (further ones are only counted)",
                message.topic,
                message.exchange,
                self.transport,  # shows no secrets; a wrong file or virtual host is a likely cause
            )

    # -- requests ---------------------------------------------------------------------------------------

    def _reply_consumer(self) -> ConsumerSpec:
        direct = self._reply_mode == "direct"
        queue = Queue(
            name=DIRECT_REPLY_TO if direct else "",
            durable=False,
            exclusive=True,
            auto_delete=True,
            type="classic",
        )
        # Replies are matched and handed on at once, so the limit only bounds what is on the way.
        return ConsumerSpec(
            name=REPLY_CONSUMER, queue=queue, prefetch=1000, auto_ack=True, direct_reply=direct, replies=True
        )

    def _request(
        self, request: Any, options: PublishOptions, timeout: float, correlation: str, address: str
    ) -> Message:
        """The message of a request. :raises NotSent: it cannot be encoded."""
        options = msgspec.structs.replace(options, correlation_id=correlation, ttl=options.ttl or timeout)
        headers = deadline_headers(timeout)
        return self._middleware.outgoing(
            self._encoder.message(request, options, request=True, reply_to=address, extra_headers=headers)
        )

    def _reply_type(self, request: Any, reply: Any) -> Any:
        if reply is not None:
            return reply
        cls = type(request)
        declared = spec_of(cls).reply if is_event(cls) else None
        return Any if declared is None else declared

    def _reply_decoder(self, content_type: str, reply: Any) -> Callable[[bytes], Any]:
        key = (content_type, reply)
        decode = self._reply_decoders.get(key)
        if decode is None:
            decode = self._codecs.get(content_type).decoder(reply)
            if len(self._reply_decoders) < 1000:
                self._reply_decoders[key] = decode
        return decode

    # -- state ------------------------------------------------------------------------------------------

    def _note_status(self, status: LinkStatus) -> None:
        before, self._status = self._status, status
        self._middleware.link_changed(self, status)
        if status.phase is not before.phase:
            _log_phase(status)
        for name, consumer in status.consumers.items():
            known = before.consumers.get(name)
            if consumer.phase is Phase.FAILED and (known is None or known.phase is not Phase.FAILED):
                log.error("consumer %s cannot run: %s", name, one_line(consumer.error))

    def _note_spool(self, health: SpoolHealth) -> None:
        self._middleware.spool_changed(self, health)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} service={self.service!r} transport={type(self.transport).__name__}>"


def _log_phase(status: LinkStatus) -> None:
    if status.phase is Phase.READY:
        log.info("connected")
    elif status.phase is Phase.WAITING:
        log.warning("not connected, trying again: %s", one_line(status.error))
    elif status.phase is Phase.FAILED:
        log.error("not connected, and trying again will not help: %s", one_line(status.error))
