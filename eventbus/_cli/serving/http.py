"""Health over HTTP: ``GET /ready`` and ``GET /live``."""

from __future__ import annotations

import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from eventbus._cli.serving.health import Board
from eventbus._errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT``, ``PORT`` or ``[IPv6]:PORT``.

    :raises ConfigurationError: it is none of these.
    """
    host, _, port = text.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and plain == host):
        raise ConfigurationError(f"--health is HOST:PORT, not {text!r}")
    return plain or LOOPBACK, int(port)


def answer(path: str, board: Board) -> tuple[int, dict[str, Any]]:
    """Status and document for a path."""
    document = board.document()
    match path.partition("?")[0]:
        case "/live":
            return 200, document
        case "/ready":
            return (200 if document["ready"] else 503), document
        case _:
            return 404, {"error": "there are /ready and /live"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The parent class asks the name service for our own name, which may take long and serves nothing.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "eventbus", int(self.server_address[1])


class HealthServer:
    """For load balancers, systemd and Kubernetes.

    :raises ConfigurationError: nobody can listen at this address.
    """

    def __init__(self, address: str, board: Board) -> None:
        host, port = address_of(address)

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0
            server_version, sys_version = "eventbus", ""

            def do_GET(self) -> None:
                status, document = answer(self.path, board)
                body = orjson.dumps(document)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Probes come every few seconds; nobody wants to read of them."""

        server = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
        try:
            self._server: _Server = server((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(f"--health {address}: {error.strerror or error}") from None
        self._host = f"[{host}]" if ":" in host else host
        self._thread = threading.Thread(target=self._server.serve_forever, name="eventbus-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is found."""
        return f"http://{self._host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
