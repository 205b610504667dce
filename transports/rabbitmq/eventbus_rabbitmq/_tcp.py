"""Socket options of every connection: no delay for small frames, and a dead peer found soon."""

from __future__ import annotations

import socket

# Milliseconds until unacknowledged data fails the connection; seconds of the keepalive schedule.
TCP_OPTIONS = {"TCP_USER_TIMEOUT": 20_000, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


def tune(sock: socket.socket) -> None:
    """Set them, as far as this system knows them."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in TCP_OPTIONS.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
