"""The ``/metrics`` endpoint: prometheus_client's own server, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer


class Endpoint:
    """A running endpoint; :meth:`close` ends it. Its thread never keeps the process from exiting."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self._lock = threading.Lock()
        self._closed = False
        self.host, self.port = str(server.server_address[0]), int(server.server_address[1])

    @property
    def url(self) -> str:
        """Where to scrape."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def close(self) -> None:
        """End the server and its thread, and free the port. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}{' closed' if self._closed else ''}>"


def serve(port: int = 9464, host: str = "127.0.0.1", *, registry: CollectorRegistry = REGISTRY) -> Endpoint:
    """Serve the metrics of ``registry`` over HTTP; ``port=0`` takes a free one.

    Only this machine can reach it unless ``host`` says otherwise: metrics tell names of events and groups.

    :raises OSError: the port is taken, or the host is not ours.
    """
    server, thread = start_http_server(port, host, registry=registry)
    return Endpoint(server, thread)
