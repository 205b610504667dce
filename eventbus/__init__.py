"""A pluggable event bus: typed events, routing and request/reply, over RabbitMQ, SQLite or in memory, sync and async.

The public doors are this module, :mod:`eventbus.transport` (for authors of transports) and
:mod:`eventbus.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus._backoff import exponential, fixed
from eventbus._batch import Batch
from eventbus._bus._health import Health, StopReport
from eventbus._bus._receipts import Receipt
from eventbus._bus._sync import EventBus
from eventbus._delivery import Context, Delivery
from eventbus._errors import (
    AccessRefused,
    AlreadyHandled,
    BatchError,
    BusClosed,
    CertificateError,
    ConfigurationError,
    ConnectionFailed,
    DecodingError,
    EncodingError,
    EventBusError,
    ExchangeMissing,
    LoginRefused,
    MessageTooLarge,
    NoResponder,
    NotSent,
    PublishError,
    PublishManyError,
    PublishUnknown,
    Reject,
    Rejected,
    RemoteError,
    RequestError,
    RequestLost,
    RequestTimeout,
    RetryLater,
    TLSNotVerified,
    TopologyMismatch,
    UnknownTransport,
    Unroutable,
)
from eventbus._events import Request, event
from eventbus._handlers import Depends
from eventbus._message import Message
from eventbus._middleware import AsyncMiddleware, Middleware
from eventbus._registration import Router
from eventbus._run import run
from eventbus._secrets import Credentials, CredentialsSource, Secret
from eventbus._settlement import Retry
from eventbus._spool._values import Spool, SpoolHealth
from eventbus._tls import TLSConfig
from eventbus._topology import Access, Binding, Exchange, Policy, Queue, Topology

if TYPE_CHECKING:
    from eventbus._bus._async import AsyncEventBus
    from eventbus._bus._async_receipts import AsyncReceipt

__version__ = "0.1.0"

__all__ = [
    # buses
    "AsyncEventBus", "AsyncReceipt", "EventBus", "Health", "Receipt", "Router", "Spool", "SpoolHealth",
    "StopReport", "run",
    # events, handlers, policies
    "AlreadyHandled", "Batch", "BatchError", "Context", "Delivery", "Depends", "Message", "Reject", "Request", "Retry",
    "RetryLater", "event",
    "exponential", "fixed",
    # topology
    "Access", "Binding", "Exchange", "Policy", "Queue", "Topology",
    # security
    "Credentials", "CredentialsSource", "Secret", "TLSConfig",
    # extending
    "AsyncMiddleware", "Middleware",
    # errors
    "AccessRefused", "BusClosed", "CertificateError", "ConfigurationError", "ConnectionFailed", "DecodingError",
    "EncodingError", "EventBusError", "ExchangeMissing", "LoginRefused", "MessageTooLarge", "NoResponder", "NotSent",
    "PublishError", "PublishManyError", "PublishUnknown", "Rejected", "RemoteError", "RequestError", "RequestLost",
    "RequestTimeout", "TLSNotVerified", "TopologyMismatch", "UnknownTransport", "Unroutable",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # asyncio is imported only by those who use it.
    if name == "AsyncEventBus":
        from eventbus._bus._async import AsyncEventBus

        return AsyncEventBus
    if name == "AsyncReceipt":
        from eventbus._bus._async_receipts import AsyncReceipt

        return AsyncReceipt
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
