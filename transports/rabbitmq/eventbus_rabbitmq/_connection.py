"""One supervised connection: addresses, attempts, session, and what its end means."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eventbus import CertificateError, ConnectionFailed, Credentials, TLSNotVerified
from eventbus._supervisor import FailureKind, Phase, Policy
from eventbus_rabbitmq._contexts import Contexts
from eventbus_rabbitmq._control import Control
from eventbus_rabbitmq._errors import connection_error
from eventbus_rabbitmq._keeper import Keeper
from eventbus_rabbitmq._login import Logins, Renewal
from eventbus_rabbitmq._options import RabbitMQOptions
from eventbus_rabbitmq._port import Attempt, Reactor, Session, Way

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("eventbus.rabbitmq")


class SupervisedConnection:
    """Keeps a connection to one of the hosts up, and tells its owner of each session's begin and end."""

    def __init__(
        self,
        reactor: Reactor,
        hosts: Sequence[tuple[str, int]],
        options: RabbitMQOptions,
        contexts: Contexts,
        policy: Policy,
        role: str,
        up: Callable[[Session], None],
        down: Callable[[Exception], None],
        changed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._hosts = hosts
        self._options = options
        self._contexts = contexts
        self._role = role
        self._up, self._down, self._changed = up, down, changed
        self.on_blocked: Callable[[str | None], None] = lambda reason: None
        self.session: Session | None = None
        self.control: Control | None = None
        self._attempt: Attempt | None = None
        self._on_closed: list[Callable[[], None]] = []
        self._logins = Logins(reactor, options)
        self._login: Credentials | None = None
        self._renewal: Renewal | None = None
        self._reconnecting = False
        self._stale = False
        self.keeper = Keeper(
            reactor, policy, open=self._open, abort=self._abort, close=self._close, lost=lambda: None, changed=changed
        )

    def start(self) -> None:
        """Begin to connect."""
        self.keeper.start()

    def why_not(self) -> str:
        """Why nothing can be sent now; empty when something can."""
        if self.keeper.phase is Phase.READY:
            return ""
        error = self.keeper.error
        return f"not connected{f': {error}' if error is not None else ''}"

    def _open(self, token: int, address: int) -> None:
        host, port = self._hosts[address % len(self._hosts)]

        self._stale = False  # what was to be read anew will be

        def told(login: Credentials | None, cause: Exception | None) -> None:
            if not self._awaited(token):
                return
            if login is None:  # the user's function failed
                error = ConnectionFailed(
                    f"no credentials for {host}:{port}: their function raised {type(cause).__name__}"
                )
                error.__cause__ = cause
                self.keeper.failed(token, error, FailureKind.TRANSIENT)
                return
            self._login = login
            self._contexts.ask(self._reactor, lambda context, error: made(login, context, error))

        def made(login: Credentials, context: ssl.SSLContext | None, error: Exception | None) -> None:
            if not self._awaited(token):
                return
            if error is not None:
                self.failed(token, error, host, port)
                return
            way = Way(host, port, self._role, login, context, self._contexts.server_name(host))
            self._attempt = self._reactor.connect(way, _Told(self, token, host, port))

        self._logins.ask(told)

    def _awaited(self, token: int) -> bool:
        """Whether this attempt is the one that is waited for: functions may answer late."""
        return token == self.keeper.state.token and self.keeper.phase is Phase.CONNECTING

    def _abort(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abort()
        if self.session is not None:
            self.session.abort()
        if self.keeper.phase is Phase.CLOSING:
            self._closed()

    def _close(self) -> None:
        if self.session is not None:
            self.session.close()
        else:
            self._closed()

    def _closed(self) -> None:
        self.keeper.closed()
        waiting, self._on_closed = self._on_closed, []
        for done in waiting:
            done()

    def close(self, done: Callable[[], None]) -> None:
        """Close in order; ``done`` is called when it has."""
        if self.keeper.phase in (Phase.CLOSED, Phase.IDLE):
            self.keeper.stop()
            done()
            return
        self._on_closed.append(done)
        self.keeper.stop()
        if self.session is None:
            self._closed()  # nothing was open

    def reconnect(self) -> None:
        """Close in order and open again, at once; also what has given up."""
        if self.session is not None and self.keeper.phase is Phase.READY:
            self._reconnecting = True
            self.session.close()
        elif self.keeper.phase is Phase.CONNECTING:
            self._stale = True  # this attempt may have read the old files
        elif self.keeper.phase is Phase.FAILED:
            self.keeper.start()
        else:
            self.keeper.hurry()

    def abort(self) -> None:
        """Close the socket now."""
        if self.session is not None:
            self.session.abort()
        elif self._attempt is not None:
            self._attempt.abort()
            self._attempt = None
        self._closed()

    # -- what an attempt tells --------------------------------------------------------------------------

    def opened(self, token: int, session: Session) -> None:
        """An attempt succeeded."""
        if not self._awaited(token):
            session.abort()
            return
        self._attempt = None
        self.session = session
        self.control = Control(session)
        self._up(session)
        if self._login is not None and self._login.expires is not None:
            self._renewal = Renewal(self._reactor, self._logins, session, self._login.expires)
        self.keeper.opened(token)
        if self._stale:
            self.reconnect()

    def failed(self, token: int, error: BaseException, host: str, port: int) -> None:
        """An attempt failed."""
        self._attempt = None
        ours, kind = self._classify(error, host, port, opening=True)
        self.keeper.failed(token, ours, kind)

    def lost(self, token: int, session: Session | None, error: BaseException | None, host: str, port: int) -> None:
        """A session ended."""
        if session is None or session is not self.session:
            return
        self.session = self.control = None
        if self._renewal is not None:
            self._renewal.stop()
            self._renewal = None
        ours, kind = self._classify(error or ConnectionFailed("closed"), host, port, opening=False)
        self._down(ours)
        if self.keeper.phase is Phase.CLOSING:
            self._closed()
        elif self.keeper.phase is Phase.READY:
            wished, self._reconnecting = self._reconnecting, False
            if wished:
                log.info("%s connection closed, to open it anew", self._role)
                self.keeper.lost(token, ConnectionFailed("closed by us, to connect anew"), FailureKind.TRANSIENT)
                self.keeper.hurry()
            else:
                log.warning("%s connection lost: %s", self._role, ours)
                self.keeper.lost(token, ours, kind)

    def _classify(self, error: BaseException, host: str, port: int, *, opening: bool) -> tuple[Exception, FailureKind]:
        ours, kind = connection_error(error, host, port, self._who(), self._options.vhost, opening=opening)
        if self.keeper.state.ever_ready and isinstance(ours, (TLSNotVerified, CertificateError)):
            # These certificates were good once, and are replaced while we run, ours and the broker's: not at one time.
            kind = FailureKind.TRANSIENT
        return ours, kind

    def _who(self) -> str:
        if self._options.auth_mechanism == "external":
            return "the user of our certificate"
        return f"user {self._login.user!r}" if self._login is not None else "the user"


class _Told:
    """What one attempt, and its session, tell: with the token that says which attempt it was."""

    def __init__(self, connection: SupervisedConnection, token: int, host: str, port: int) -> None:
        self._connection = connection
        self._token = token
        self._host, self._port = host, port
        self._session: Session | None = None
        self._reason: str | None = None

    def opened(self, session: Session) -> None:
        self._session = session
        self._connection.opened(self._token, session)
        if self._reason is not None:  # said in the same packet as the connection's opening
            self.blocked(self._reason)

    def failed(self, error: BaseException) -> None:
        self._connection.failed(self._token, error, self._host, self._port)

    def lost(self, error: BaseException | None) -> None:
        self._connection.lost(self._token, self._session, error, self._host, self._port)

    def blocked(self, reason: str | None) -> None:
        self._reason = reason
        if self._session is not None and self._session is self._connection.session:
            self._connection.on_blocked(reason)
