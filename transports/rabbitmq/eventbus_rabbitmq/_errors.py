"""Drivers' errors become ours: what it is, in one line that says what to do, and whether trying again helps.

Both drivers wrap the interesting error several times, each in its own way, so the whole chain is searched. No
text here contains a password: texts are made from the endpoint and the user's name, and from the broker's replies.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from eventbus import (
    AccessRefused,
    ConfigurationError,
    ConnectionFailed,
    EventBusError,
    LoginRefused,
    TopologyMismatch,
)
from eventbus._supervisor import FailureKind
from eventbus_rabbitmq._tls_errors import tls_error
from eventbus_rabbitmq._wire.lane import LaneError

Classified = tuple[EventBusError, FailureKind]

NOT_FOUND, ACCESS_REFUSED, LOCKED, PRECONDITION, NOT_ALLOWED = 404, 403, 405, 406, 530


class MissingEntity(EventBusError):
    """An exchange or queue that does not exist (internal: becomes ExchangeMissing or TopologyMismatch)."""


def existing(error: Exception | None) -> Exception:
    """The error of somebody who asked for a queue or exchange that shall exist."""
    if isinstance(error, MissingEntity):
        return TopologyMismatch(str(error))
    return error or ConnectionFailed("no answer")


def connection_error(error: BaseException, host: str, port: int, who: str, vhost: str, *, opening: bool) -> Classified:
    """Why a connection could not be opened, or was lost."""
    chain = list(_chain(error))
    where = f"{host}:{port}"
    for link in chain:
        if isinstance(link, ConfigurationError):
            return link, FailureKind.FATAL
        found = tls_error(link, where)
        if found is not None:
            return _caused(found, error), FailureKind.FATAL
    text = " ".join(f"{type(link).__name__} {link}" for link in chain)
    if "ACCESS_REFUSED" in text or "ProbableAuthentication" in text or re.search(r"\b403\b", text):
        return _caused(
            LoginRefused(f"{where} refused the login of {who}: {_login_advice(who)}"), error
        ), FailureKind.REFUSED
    if "New secret was refused" in text:
        return _caused(
            LoginRefused(
                f"{where} refused the new credentials of {who}, and ended the connection: {_login_advice(who)}"
            ),
            error,
        ), FailureKind.REFUSED
    if ("NOT_ALLOWED" in text or "ProbableAccessDenied" in text) and _PASSING.search(text):
        return _caused(
            ConnectionFailed(f"{where} takes no connection to virtual host {vhost!r} now: {_last(chain)}"), error
        ), FailureKind.TRANSIENT
    if "NOT_ALLOWED" in text or "ProbableAccessDenied" in text or re.search(r"\b530\b", text):
        return _caused(
            LoginRefused(
                f"{where} has no virtual host {vhost!r}, or {who} may not use it "
                "(rabbitmqctl add_vhost, rabbitmqctl set_permissions)"
            ),
            error,
        ), FailureKind.REFUSED
    if "AuthenticationError" in text:
        return _caused(LoginRefused(f"{where} does not offer {_mechanism(who)}"), error), FailureKind.REFUSED
    return _caused(ConnectionFailed(_network_text(chain, where, host, opening)), error), FailureKind.TRANSIENT


def _login_advice(who: str) -> str:
    if "certificate" in who:
        return "is there a user named as the certificate's common name (or as ssl_cert_login_from of the broker says)?"
    return "check user name and password"


def _mechanism(who: str) -> str:
    if "certificate" in who:
        return (
            "logging in by certificate (EXTERNAL): enable rabbitmq_auth_mechanism_ssl and add EXTERNAL to its "
            "auth_mechanisms"
        )
    return f"the authentication mechanism PLAIN to {who}"


# The same code as for a wrong vhost, for states that pass.
_PASSING = re.compile(r"limit \(\d+\) is reached|vhost .* is down")


def _network_text(chain: list[BaseException], where: str, host: str, opening: bool) -> str:
    for link in chain:
        if isinstance(link, socket.gaierror):
            return f"the host name {host!r} cannot be resolved: check its spelling and the DNS"
        if isinstance(link, ConnectionRefusedError):
            return f"nothing answers at {where}: is RabbitMQ running there?"
        if isinstance(link, LaneError):
            return f"{where} does not speak AMQP 0-9-1 as agreed: {link}"
    if any(isinstance(link, TimeoutError) or "Timeout" in type(link).__name__ for link in chain):
        return f"{where} does not answer in time: is RabbitMQ running there, and is the way to it free?"
    for link in chain:
        code = getattr(link, "reply_code", None)
        if isinstance(code, int) and code not in (0, 200):
            return f"{where} closed the connection: {getattr(link, 'reply_text', '')} ({code})"
    last = _last(chain)
    if opening:
        return (
            f"{where} took the connection and ended it before the login: is it RabbitMQ, and a port without TLS? "
            f"(amqps:// speaks TLS){f': {last}' if last else ''}"
        )
    return f"the connection to {where} was lost{f': {last}' if last else ''}"


def _last(chain: list[BaseException]) -> str:
    """The innermost error's text, in one line."""
    return " ".join(str(chain[-1]).split())[:200] if chain else ""


# Said with the same code as that there is no such queue: its leader, or the node that has it, is away for a while.
_AWAY = ("failed to perform operation on queue", "is down or inaccessible")


def channel_error(code: int, text: str, what: str) -> Classified:
    """Why the broker closed a channel, while it was asked for ``what`` (such as ``queue 'a'``)."""
    text = " ".join(text.split())
    if code == ACCESS_REFUSED:
        return AccessRefused(
            f"{what}: the broker user lacks a permission ({text}); grant it with rabbitmqctl set_permissions, or use "
            "declare=passive in the URL where the topology exists already"
        ), FailureKind.FATAL
    if code == PRECONDITION:
        other = "exists with other properties" if "inequivalent" in text else "cannot be declared like this"
        return TopologyMismatch(f"{what} {other} ({text}); delete it, or declare it as it is"), FailureKind.FATAL
    if code == NOT_FOUND and any(words in text for words in _AWAY):
        return ConnectionFailed(f"{what} cannot be reached now ({text})"), FailureKind.TRANSIENT
    if code == NOT_FOUND:
        return MissingEntity(f"{what} does not exist ({text})"), FailureKind.FATAL
    if code == LOCKED:
        # Left over from our own lost connection, which the broker has not noticed yet (RELEASED by its heartbeat).
        return ConnectionFailed(f"{what} is locked by another connection ({text})"), FailureKind.TRANSIENT
    return ConnectionFailed(f"{what}: the broker closed the channel: {text} ({code})"), FailureKind.TRANSIENT


def _caused(error: EventBusError, cause: BaseException) -> EventBusError:
    error.__cause__ = cause
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it holds, outermost first; each once."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo and len(seen) < 50:
        item = todo.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        todo += [item.__cause__, item.__context__, getattr(item, "exception", None), *item.args]
        many = getattr(item, "exceptions", None)
        if isinstance(many, (list, tuple)):
            todo += reversed(many)
