"""Who logs in: credentials asked for without holding up the link, and renewed before they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from eventbus import Credentials, CredentialsSource, Secret
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._port import Reactor, Session, Timer

log = logging.getLogger("eventbus.rabbitmq")

Told = Callable[[Credentials | None, Exception | None], None]

_BY_CERTIFICATE = Credentials("", Secret(""))
# Of the time that a token has left, when it is renewed, and how long after a failure the next try is made.
_RENEW, _AGAIN = 0.8, 0.2
_SHORTEST = 1.0


class Logins:
    """Asks for credentials: a value is there at once, a function runs in a thread of its own."""

    def __init__(self, reactor: Reactor, options: RabbitMQOptions) -> None:
        self._reactor = reactor
        self._source: CredentialsSource = options.credentials
        if options.auth_mechanism == "external":
            self._source = _BY_CERTIFICATE

    def ask(self, told: Told) -> None:
        """Call ``told`` with the credentials or with the error, on the engine's thread."""
        source = self._source
        if isinstance(source, Credentials):
            told(source, None)
            return

        def run() -> None:
            try:
                found = source()
                if not isinstance(found, Credentials):
                    raise TypeError(f"the function gave {type(found).__name__} instead of Credentials")
            except Exception as error:  # the user's function; the name is bound by this block only
                failure = error
                self._reactor.wake(lambda: told(None, failure))
            else:
                self._reactor.wake(lambda: told(found, None))

        threading.Thread(target=run, name="eventbus-credentials", daemon=True).start()


class Renewal:
    """Gives a connection new credentials before the old ones end (RabbitMQ's ``connection.update-secret``)."""

    def __init__(self, reactor: Reactor, logins: Logins, session: Session, expires: float) -> None:
        self._reactor = reactor
        self._logins = logins
        self._session = session
        self._expires = expires
        self._timer: Timer | None = None
        self._stopped = False
        self._after(_RENEW)

    def stop(self) -> None:
        """The connection has gone."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _after(self, part: float) -> None:
        left = self._expires - time.time()
        self._timer = self._reactor.call_later(max(_SHORTEST, left * part), self._ask)

    def _ask(self) -> None:
        self._timer = None
        if not self._stopped:
            self._logins.ask(self._got)

    def _got(self, login: Credentials | None, error: Exception | None) -> None:
        if self._stopped:
            return
        if login is None:
            self._failed(error)
            return

        def done(error: Exception | None) -> None:
            if self._stopped:
                return
            if error is not None:
                self._failed(error)
            elif login.expires is not None:
                self._expires = login.expires
                log.info("the broker has taken new credentials")
                self._after(_RENEW)

        self._session.update_secret(login.password.reveal(), done)

    def _failed(self, error: Exception | None) -> None:
        # The broker will end the connection when the old ones end; the next attempt asks again.
        left = self._expires - time.time()
        when = f"end in {left:.0f} s" if left > 0 else "have ended"
        log.warning("no new credentials (%s); the old ones %s", type(error).__name__, when)
        self._after(_AGAIN)
