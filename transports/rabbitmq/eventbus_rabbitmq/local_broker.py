"""A private RabbitMQ for tests, demos and benchmarks: started on demand, gone afterwards.

::

    with LocalBroker() as broker:
        print(broker.url)       # amqp://guest:guest@127.0.0.1:23456/
        broker.kill()           # SIGKILL: the data stays
        broker.start()          # same port, same data

It runs the installed server (as any user, beside a system-wide broker, which it leaves alone) or, where none
is installed, a Docker container. It listens on the loopback interface, unless told otherwise. Not for production.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ._local import docker, server
from ._local.common import LOOPBACK, Engine, LocalBrokerError, LocalTLS, Ports, Settings
from ._local.native import NativeEngine

__all__ = ["LocalBroker", "LocalBrokerError", "LocalTLS"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}\Z")
_NOTHING_TO_START = (
    "no RabbitMQ to start: neither an installed rabbitmq-server nor a running Docker engine; on Debian or "
    "Ubuntu: apt-get install rabbitmq-server, elsewhere install RabbitMQ or start Docker"
)


class LocalBroker:
    """One private broker. Creating the object does nothing yet; :meth:`start` or ``with`` starts it.

    ``engine``: ``native`` is the installed server, ``docker`` a container, ``auto`` the first that can be had.
    ``config``: lines of rabbitmq.conf, which override ours. ``plugins``: the only plugins that the node can use.
    ``directory``: where its data lives and stays (a container keeps its data to itself, until :meth:`close`); if not
    given, a temporary folder that :meth:`close` removes. ``tls``: adds a TLS listener; ``plain=False`` leaves that the
    only one. ``listen``: IPv4 address for clients, where other machines shall reach an installed server. ``detached``:
    the node goes on after this program, until somebody calls :meth:`stop` on a LocalBroker of the same ``directory``;
    installed server only. ``epmd_port`` and ``cookie`` are those of the cluster that the node belongs to. One thread at
    a time may call the methods.
    """

    def __init__(
        self,
        *,
        engine: Literal["auto", "native", "docker"] = "auto",
        name: str | None = None,
        config: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
        directory: Path | None = None,
        tls: LocalTLS | None = None,
        plain: bool = True,
        listen: str = LOOPBACK,
        detached: bool = False,
        epmd_port: int | None = None,
        cookie: str | None = None,
    ) -> None:
        if engine not in ("auto", "native", "docker"):
            raise ValueError(f"engine must be auto, native or docker, not {engine!r}")
        if name is not None and not _NAME.match(name):
            raise ValueError(f"a broker's name is made of letters, digits, '-' and '_', not {name!r}")
        if isinstance(plugins, str):
            raise TypeError("plugins must be a sequence of names, not one string")
        self._choice = engine
        self._name = name
        self._config = dict(config or {})
        self._plugins = tuple(plugins)
        if detached and directory is None:
            raise ValueError("a detached broker needs a directory, by which it is found again")
        if not plain and tls is None:
            raise ValueError("a broker without a plain listener needs tls")
        self._directory = directory
        self._tls = tls
        self._plain = plain
        self._listen = listen
        self._detached = detached
        self._epmd_port = epmd_port
        self._cookie = cookie
        self._owner = os.getpid()
        self._settings: Settings | None = None
        self._engine: Engine | None = None

    def start(self, timeout: float = 60) -> None:
        """Starts the broker and returns when clients can connect; does nothing if it runs already.

        Raises LocalBrokerError if there is no RabbitMQ to start, if it ends early (with its last log lines)
        or if it is not ready within ``timeout`` seconds. Fetching a Docker image is not part of this time.
        """
        if self._engine is None:
            self._settings, self._engine = self._open()
            if not self._detached:
                atexit.register(self._at_exit)
        if not self._engine.running():
            self._engine.start(timeout)

    def attach(self) -> bool:
        """Finds a detached broker that an earlier program has started in ``directory``; gives whether it runs."""
        if self._engine is None and self._detached and self._directory is not None and self._ports_file.exists():
            self._settings, self._engine = self._open()
        return self.running

    @property
    def _ports_file(self) -> Path:
        assert self._directory is not None
        return self._directory / "ports.json"

    def stop(self, timeout: float = 15) -> None:
        """Stops the broker in order, and by force after ``timeout`` seconds; its data stays.

        Nothing of it runs afterwards. Does nothing if it does not run.
        """
        self.attach()
        if self._engine is not None:
            self._engine.stop(timeout)

    def close(self) -> None:
        """Stops the broker and removes its temporary folder or its container. A later start begins anew."""
        engine, self._engine, self._settings = self._engine, None, None
        if engine is not None:
            atexit.unregister(self._at_exit)
            engine.close()

    def kill(self) -> None:
        """Ends the broker by SIGKILL, as a crash would; its data stays, :meth:`start` starts it again.

        Queues, exchanges and bindings that were declared in the last seconds may be gone with all that is in
        them: RabbitMQ 3 reports them as declared before they are on disk. A test that needs them calls :meth:`sync`
        first.
        """
        self._started().kill()

    def restart(self, timeout: float = 60) -> None:
        """Stops the broker in order and starts it again with the same data and ports."""
        self.stop()
        self.start(timeout)

    def pause(self) -> None:
        """Freezes the broker (SIGSTOP): its connections stay open and nothing answers."""
        self._started().pause()

    def resume(self) -> None:
        """Lets a paused broker go on (SIGCONT)."""
        self._started().resume()

    def ctl(self, *args: str, timeout: float = 60, program: str = "rabbitmqctl") -> str:
        """Runs ``rabbitmqctl`` against this broker and returns what it prints (without its chatter).

        ``program``: another of RabbitMQ's commands, such as ``rabbitmq-queues``.
        Raises LocalBrokerError with the output if it fails or does not end within ``timeout`` seconds.
        """
        return self._started().ctl(args, timeout, program)

    def sync(self) -> None:
        """Write to disk what the node knows of its queues and exchanges.

        RabbitMQ 3.10 answers a declaration before it is on disk; a node that is killed in the first seconds after
        one may come back without the queue, or with a quorum queue that never finds a leader. Call this between
        declaring and :meth:`kill`.
        """
        self.ctl("eval", "mnesia:sync_log(), [dets:sync(T) || T <- dets:all()], ok.")

    def log_text(self) -> str:
        """All that the broker has logged since it was first started."""
        return self._started().log_text()

    @property
    def running(self) -> bool:
        """Whether the broker's process lives (a paused one does)."""
        return self._engine is not None and self._engine.running()

    @property
    def url(self) -> str:
        """``amqp://guest:guest@127.0.0.1:PORT/``; the same after a restart."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def tls_url(self) -> str:
        """``amqps://guest:guest@localhost:PORT/``. Raises LocalBrokerError without ``tls``."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/"

    @property
    def port(self) -> int:
        """The port of its plain AMQP listener on 127.0.0.1. Raises LocalBrokerError without one."""
        port = self._chosen().ports.amqp
        if port is None:
            raise LocalBrokerError("this broker has no plain listener; see tls_port")
        return port

    @property
    def tls_port(self) -> int:
        """The port of its TLS listener on 127.0.0.1. Raises LocalBrokerError without ``tls``."""
        port = self._chosen().ports.tls
        if port is None:
            raise LocalBrokerError("this broker has no TLS listener: give LocalBroker(tls=...)")
        return port

    @property
    def name(self) -> str:
        """The first half of the node's name, ``<name>@localhost``."""
        return self._chosen().name

    @property
    def directory(self) -> Path:
        """The folder of its data, configuration and log."""
        return self._chosen().directory

    @property
    def pid(self) -> int:
        """The process id of the running broker. Raises LocalBrokerError if it does not run."""
        return self._started().pid

    @property
    def version(self) -> str:
        """RabbitMQ's version, such as ``3.10.8``."""
        return self._started().version

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = (
            "not started" if self._settings is None else f"port={self._settings.ports.amqp or self._settings.ports.tls}"
        )
        return f"LocalBroker({self._choice!r}, {state})"

    def _open(self) -> tuple[Settings, Engine]:
        installation = server.find() if self._choice != "docker" else None
        if installation is None and (self._choice == "native" or not docker.available()):
            raise LocalBrokerError(_NOTHING_TO_START)
        if self._directory is not None:
            directory = self._directory.absolute()
            directory.mkdir(parents=True, exist_ok=True)
            # The data belongs to the node's name, so the same folder must give the same name.
            name = self._name or f"eventbus-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]}"
        else:
            name = self._name or f"eventbus-{secrets.token_hex(4)}"
            directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        settings = Settings(
            name=name,
            directory=directory,
            temporary=self._directory is None,
            ports=self._ports(),
            tls=self._tls,
            config=self._config,
            plugins=self._plugins,
            listen=self._listen,
            detached=self._detached,
            cookie=self._cookie,
            shared_epmd=self._epmd_port is not None,
        )
        if installation is not None:
            return settings, NativeEngine(settings, installation)
        return settings, docker.DockerEngine(settings)

    def _ports(self) -> Ports:
        """Free ports; those of before where a detached broker lives."""
        if self._detached and self._ports_file.exists():
            return Ports(**json.loads(self._ports_file.read_text()))
        ports = Ports.chosen(plain=self._plain, tls=self._tls is not None, epmd=self._epmd_port)
        if self._detached:
            self._ports_file.write_text(json.dumps(asdict(ports)))
        return ports

    def _started(self) -> Engine:
        if self._engine is None:
            raise LocalBrokerError("the broker has not been started yet")
        return self._engine

    def _chosen(self) -> Settings:
        if self._settings is None:
            raise LocalBrokerError("the broker has not been started yet")
        return self._settings

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked child must not end its parent's broker
            self.close()
