"""RabbitMQ's management HTTP API: the few calls that we need. Errors are ours, and never show a password.

Source: the broker's own page /api/index.html, and https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote, urlsplit

import orjson
import urllib3
from eventbus_rabbitmq._url import is_loopback

from eventbus import AccessRefused, ConfigurationError, ConnectionFailed, EventBusError, LoginRefused, Secret, TLSConfig
from eventbus_rabbitmq_admin._layout import BindingLayout, ExchangeLayout, Layout, PolicyLayout, QueueLayout

log = logging.getLogger("eventbus.admin")

MAX_ANSWER = 256 << 20
COUNTERS_LAG = 12.0
"""Seconds after which counters are new: queues tell them every 5, and nodes collect what was told every 5 again."""


class ManagementError(EventBusError):
    """The management API answered that it cannot do something."""


class NotThere(ManagementError):
    """What was asked for does not exist."""


class Management:
    """One broker's management API. ``url`` is ``http://host:15672`` or ``https://host:15671``."""

    def __init__(
        self, url: str, *, user: str, password: Secret, tls: TLSConfig | None = None, timeout: float = 15.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("a management URL is http://host:15672 or https://host:15671")
        if parts.username or parts.password:
            raise ConfigurationError("user and password of the management API are not given in its URL")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            log.warning("http:// to %s sends the administrator's password in clear text; use https://", parts.hostname)
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/api"
        self.where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._user = user
        self._headers = urllib3.make_headers(basic_auth=f"{user}:{password.reveal()}")
        context = None if parts.scheme == "http" else (tls or TLSConfig()).context()
        # A proxy of the environment is for the outside; and redirects would carry the password elsewhere.
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=min(timeout, 5.0), read=timeout),
            retries=urllib3.Retry(total=0, redirect=0),
            ssl_context=context,
            server_hostname=tls.server_name if tls is not None and context is not None else None,
        )

    def close(self) -> None:
        """Close its connections."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Management {self.where} user={self._user!r}>"

    # -- requests ---------------------------------------------------------------------------------------

    def get(self, *path: str, **query: str) -> Any:
        """Ask for something."""
        return self._call("GET", path, None, query)

    def put(self, *path: str, body: Any) -> None:
        """Make something, or change it."""
        self._call("PUT", path, body, {})

    def post(self, *path: str, body: Any) -> Any:
        """Make something that the broker names, or make the broker do something."""
        return self._call("POST", path, body, {})

    def delete(self, *path: str, **query: str) -> None:
        """Delete something."""
        self._call("DELETE", path, None, query)

    def _call(self, method: str, path: tuple[str, ...], body: Any, query: Mapping[str, str]) -> Any:
        url = "/".join((self._base, *(quote(part, safe="") for part in path)))
        _, data = self._request(method, path, url, body, query)
        return _json(data) if data else None

    def _request(
        self, method: str, path: tuple[str, ...], url: str, body: Any, query: Mapping[str, str]
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        try:
            answer = self._pool.request(
                method,
                url,
                fields=dict(query) or None,
                body=None if body is None else orjson.dumps(body),
                headers={**self._headers, "content-type": "application/json"},
                redirect=False,
                preload_content=False,
            )
            data = answer.read(MAX_ANSWER + 1)
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, ssl.SSLError, OSError) as error:
            raise ConnectionFailed(f"the management API at {self.where} cannot be reached: {_reason(error)}") from error
        if len(data) > MAX_ANSWER:
            raise ManagementError(f"the management API at {self.where} answers {'/'.join(path)} with too much")
        if answer.status >= 300:
            raise self._refusal(answer.status, method, path, data)
        return answer, data

    def _refusal(self, status: int, method: str, path: tuple[str, ...], data: bytes) -> EventBusError:
        said = _json(data)
        reason = str(said.get("reason") or said.get("error") or "") if isinstance(said, dict) else ""
        what = f"{method} {'/'.join(path)}"
        if status == 401:
            return LoginRefused(
                f"the management API at {self.where} refused the login of {self._user!r}: it needs the right password, "
                "and a tag such as management or administrator"
            )
        if status == 403:
            return AccessRefused(f"user {self._user!r} may not {what} at the management API: {reason}")
        if status == 404:
            return NotThere(f"{what}: it does not exist")
        return ManagementError(f"the management API at {self.where} refused {what}: {reason or status}")

    def clock(self) -> float:
        """The broker's time in Unix seconds, as its answers are dated: whole seconds."""
        answer, _ = self._request("GET", ("whoami",), f"{self._base}/whoami", None, {})
        return parsedate_to_datetime(answer.headers["date"]).timestamp()

    # -- topology -----------------------------------------------------------------------------------------

    def layout(self, vhost: str) -> Layout:
        """What a virtual host holds now, without the broker's own exchanges and bindings.

        :raises NotThere: there is no such virtual host.
        """
        self.get("vhosts", vhost)
        return Layout(
            exchanges=tuple(
                ExchangeLayout(
                    name=item["name"],
                    kind=item["type"],
                    durable=item["durable"],
                    auto_delete=item["auto_delete"],
                    internal=item["internal"],
                    arguments=item["arguments"],
                )
                for item in self.get("exchanges", vhost)
                if item["name"] and not item["name"].startswith("amq.")
            ),
            queues=tuple(
                QueueLayout(
                    name=item["name"],
                    durable=item["durable"],
                    auto_delete=item["auto_delete"],
                    arguments=_queue_arguments(item),
                )
                for item in self.get("queues", vhost)
                if not item.get("exclusive") and not item.get("owner_pid_details")
            ),
            bindings=tuple(
                BindingLayout(
                    source=item["source"],
                    destination=item["destination"],
                    to_queue=item["destination_type"] == "queue",
                    routing_key=item["routing_key"],
                    arguments=item["arguments"],
                )
                for item in self.get("bindings", vhost)
                if item["source"]
            ),
            policies=tuple(
                PolicyLayout(
                    name=item["name"],
                    pattern=item["pattern"],
                    apply_to=item["apply-to"],
                    definition=item["definition"],
                    priority=item["priority"],
                )
                for item in self.get("policies", vhost)
            ),
        )

    def holds_messages(self, vhost: str, queue: str) -> bool:
        """Whether a queue holds messages. Its counters lag by seconds, so one message is also looked for."""
        item = self.get("queues", vhost, queue)
        if item.get("messages") or item.get("messages_unacknowledged"):
            return True
        look = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 1}
        try:
            return bool(self.post("queues", vhost, queue, "get", body=look))
        except ManagementError:  # not from streams, nor from quorum queues with a single active consumer
            return self._counts_messages(vhost, queue)

    def _counts_messages(self, vhost: str, queue: str) -> bool:
        """The same by counters alone: watched until they are newer than the question."""
        until = time.monotonic() + COUNTERS_LAG
        while time.monotonic() < until:
            item = self.get("queues", vhost, queue)
            if item.get("messages") or item.get("messages_unacknowledged"):
                return True
            time.sleep(0.25)
        return False


def _queue_arguments(item: Mapping[str, Any]) -> dict[str, Any]:
    # RabbitMQ 4 writes the type of every queue; one without the argument is classic.
    found = dict(item["arguments"])
    if found.get("x-queue-type") == "classic":
        del found["x-queue-type"]
    return found


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"reason": "its answer is no JSON: is this RabbitMQ's management API?"}


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return " ".join(str(cause).split())[:200]
