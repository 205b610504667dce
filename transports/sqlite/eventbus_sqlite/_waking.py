"""How processes wake one another, and see that another one is dead: a Unix datagram socket for each link.

A datagram says "look at the file" and nothing else, so nothing depends on it: who cannot be reached polls. On Linux the
sockets have names in the abstract namespace (unix(7)), which leave no files behind and are gone with their process.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

_ABSTRACT = sys.platform == "linux"


class Waker:
    """This link's socket, and a way for this process's other threads to end :meth:`wait`."""

    def __init__(self) -> None:
        name = f"eventbus-{secrets.token_hex(16)}"
        self.address = "@" + name if _ABSTRACT else str(Path(tempfile.gettempdir()) / name)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_real(self.address))
        self._socket.setblocking(False)
        self._inside, self._own = socket.socketpair()
        self._inside.setblocking(False)
        self._own.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._own, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Until somebody wakes us, or for so long; says whether another process did."""
        ready = self._poll.poll(max(0.0, seconds) * 1000)
        outside = False
        for descriptor, _ in ready:
            if descriptor == self._own.fileno():
                _drain(self._own)
            else:
                outside = True
                _drain(self._socket)
        return outside

    def wake(self) -> None:
        """End the wait of this link; from any thread."""
        try:
            self._inside.send(b".")
        except OSError:  # full: it wakes anyway; closed: nobody waits
            pass

    def wake_others(self, addresses: Iterable[str]) -> None:
        """Tell other links to look; who cannot be reached looks by itself, later."""
        for address in addresses:
            try:
                self._socket.sendto(b".", _real(address))
            except OSError:
                pass

    def close_in_child(self) -> None:
        """After a fork: while a child keeps the socket open, its parent seems to live."""
        for one in (self._socket, self._inside, self._own):
            one.close()

    def close(self) -> None:
        """Be reached no more."""
        self.close_in_child()
        if not _ABSTRACT:
            try:
                os.unlink(self.address)
            except OSError:
                pass


def is_dead(address: str) -> bool:
    """Whether nobody has this address any more. False where it cannot be known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(_real(address))
        except OSError as error:
            return error.errno == errno.ECONNREFUSED or (not _ABSTRACT and error.errno == errno.ENOENT)
    return False


def _real(address: str) -> str:
    return "\0" + address[1:] if address.startswith("@") else address


def _drain(one: socket.socket) -> None:
    try:
        while one.recv(4096):
            pass
    except OSError:
        pass
