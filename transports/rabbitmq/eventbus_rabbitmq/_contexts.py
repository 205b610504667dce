"""TLS contexts of one link: made anew at every attempt to connect, so that replaced files are picked up."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable

from eventbus import CertificateError, TLSConfig
from eventbus_rabbitmq._port import Reactor

log = logging.getLogger("eventbus.rabbitmq")


class Contexts:
    """Makes contexts; while new files cannot be used, the last good ones are."""

    def __init__(self, tls: TLSConfig | None) -> None:
        self._tls = tls
        self._last: ssl.SSLContext | None = None
        self.expires: float | None = None
        """When the certificate in use ends, in Unix seconds; None without one."""

    def ask(self, reactor: Reactor, told: Callable[[ssl.SSLContext | None, Exception | None], None]) -> None:
        """Call ``told`` with the context of this attempt, or with the error, on the engine's thread.

        Files are read at once; functions, which may ask somebody far away, are called in a thread of their own.
        """
        if not self._asks_functions():
            told(*self._made())
            return

        def run() -> None:
            found = self._made()
            reactor.wake(lambda: told(*found))

        threading.Thread(target=run, name="eventbus-tls", daemon=True).start()

    def _asks_functions(self) -> bool:
        tls = self._tls
        return tls is not None and any(
            map(callable, (tls.ca, tls.certificate, tls.key, tls.client_ca, tls.key_password))
        )

    def _made(self) -> tuple[ssl.SSLContext | None, Exception | None]:
        try:
            return self.make(), None
        except Exception as error:  # a function of the user may raise anything
            return None, error

    def make(self) -> ssl.SSLContext | None:
        """The context for this attempt; None without TLS.

        :raises CertificateError: the files cannot be used, and none could before.
        """
        if self._tls is None:
            return None
        try:
            made, ends = self._tls.context(), self._tls.expires()
        except CertificateError as error:
            if self._last is None:
                raise
            log.error("the new TLS files cannot be used, so the last good ones are: %s", error)
            return self._last
        self._last, self.expires = made, ends
        return made

    def warn(self) -> None:
        """Say it again when the certificate in use ends soon: a connection may live for months."""
        if self._tls is not None and self.expires is not None:
            days = (self.expires - time.time()) / 86400
            if days < self._tls.warn_days:
                log.warning("our TLS certificate ends in %d days: renew it, and it is taken at the next connect", days)

    def check(self) -> None:
        """Look whether the files can be used now.

        :raises ConfigurationError: they cannot, and why.
        """
        if self._tls is not None:
            self._tls.context()

    def server_name(self, host: str) -> str | None:
        """The name that the broker's certificate must have; None without TLS."""
        return None if self._tls is None else self._tls.server_name or host
