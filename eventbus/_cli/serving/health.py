"""What is known of the workers' health, and how others ask for it: by a file, or over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import orjson


class Board:
    """The last health of each worker, by its name."""

    def __init__(self, ready_file: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Mapping[str, Any]] = {}
        self._ready_file = ready_file
        self._expected: set[str] = set()
        self._show()

    def expect(self, name: str) -> None:
        """A worker that there should be: not ready yet."""
        with self._lock:
            self._expected.add(name)
            self._known.pop(name, None)
        self._show()

    def note(self, name: str, health: Mapping[str, Any]) -> bool:
        """A worker has told of itself; gives whether its status is another one now."""
        with self._lock:
            before = self._known.get(name, {}).get("status")
            self._known[name] = health
        self._show()
        return bool(before != health["status"])

    @property
    def ready(self) -> bool:
        """Whether all workers are."""
        with self._lock:
            states = [self._known.get(name, {}).get("status") for name in self._expected]
        return bool(states) and all(state == "ready" for state in states)

    def document(self) -> dict[str, Any]:
        """All that is known."""
        ready = self.ready
        with self._lock:
            return {"ready": ready, "workers": {name: self._known.get(name) for name in sorted(self._expected)}}

    def close(self) -> None:
        """Nobody is ready any more."""
        with self._lock:
            self._expected.clear()
        self._show()

    def _show(self) -> None:
        if self._ready_file is not None:
            if self.ready:
                self._ready_file.touch()
            else:
                self._ready_file.unlink(missing_ok=True)


class HealthServer:
    """``GET /ready`` (200 or 503) and ``GET /live`` (200), for load balancers and Kubernetes."""

    def __init__(self, address: str, board: Board) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise click.UsageError(f"--health is HOST:PORT, not {address!r}")

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                status = 200 if self.path == "/live" or (self.path == "/ready" and board.ready) else 503
                if self.path not in ("/live", "/ready"):
                    status = 404
                body = orjson.dumps(board.document())
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Probes come every few seconds; nobody wants to read of them."""

        try:
            self._server = ThreadingHTTPServer((host.strip("[]") or "127.0.0.1", int(port)), Handler)
        except OSError as error:
            raise click.UsageError(f"--health {address}: {error.strerror}") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="eventbus-http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
