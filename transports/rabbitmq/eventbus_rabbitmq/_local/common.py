"""What both engines share: settings, ports, readiness probe, the guard against left-overs."""

# ruff: noqa: S603  (fixed commands without a shell; no input from outside)

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 (compared with what the caller has asked for)
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_taken_ports: set[int] = set()


class LocalBrokerError(RuntimeError):
    """A private broker cannot be had, did not start, or refused a command. The text says why."""


@dataclass(frozen=True, kw_only=True)
class LocalTLS:
    """Certificate files (PEM) of a private broker's TLS listener.

    With ``verify_peer`` the broker demands a client certificate signed by ``cafile``.
    """

    cafile: Path
    certfile: Path
    keyfile: Path
    verify_peer: bool = False


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of a node on 127.0.0.1; None where it does not listen."""

    amqp: int | None
    tls: int | None
    distribution: int
    epmd: int

    @classmethod
    def chosen(cls, *, plain: bool = True, tls: bool = False, epmd: int | None = None) -> Ports:
        """Free ones."""
        return cls(
            amqp=free_port() if plain else None,
            tls=free_port() if tls else None,
            distribution=free_port(),
            epmd=free_port() if epmd is None else epmd,
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that an engine needs to know. Ports are chosen once, so a restart keeps them."""

    name: str
    directory: Path
    temporary: bool
    ports: Ports
    tls: LocalTLS | None
    config: Mapping[str, str]
    plugins: Sequence[str]
    listen: str = LOOPBACK
    detached: bool = False
    cookie: str | None = None
    shared_epmd: bool = False
    """Other nodes use our epmd too, so it stays when this node stops; :meth:`Engine.close` ends it."""

    def config_text(self, defaults: Mapping[str, str]) -> str:
        """The text of rabbitmq.conf: ``defaults``, overridden and extended by the caller's lines."""
        return "".join(f"{key} = {value}\n" for key, value in {**defaults, **self.config}.items())

    def enabled_plugins_text(self) -> str:
        return f"[{','.join(self.plugins)}].\n"


class Engine(Protocol):
    """One way to run a broker. ``timeout`` is in seconds; failures raise LocalBrokerError."""

    def start(self, timeout: float) -> None: ...
    def stop(self, timeout: float) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...
    def running(self) -> bool: ...
    def ctl(self, args: Sequence[str], timeout: float, program: str = "rabbitmqctl") -> str: ...
    def log_text(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def version(self) -> str: ...


def tls_config(tls: LocalTLS, *, folder: str, listener: str) -> dict[str, str]:
    """The rabbitmq.conf lines of a TLS listener; ``folder`` holds ca.pem, cert.pem and key.pem."""
    return {
        "listeners.ssl.1": listener,
        "ssl_options.cacertfile": f"{folder}/ca.pem",
        "ssl_options.certfile": f"{folder}/cert.pem",
        "ssl_options.keyfile": f"{folder}/key.pem",
        "ssl_options.verify": "verify_peer" if tls.verify_peer else "verify_none",
        "ssl_options.fail_if_no_peer_cert": str(tls.verify_peer).lower(),
    }


def copy_tls(tls: LocalTLS, folder: Path, *, mode: int) -> None:
    """Copies the certificate files to the names that :func:`tls_config` uses, with file mode ``mode``."""
    folder.mkdir(exist_ok=True)
    for source, name in ((tls.cafile, "ca.pem"), (tls.certfile, "cert.pem"), (tls.keyfile, "key.pem")):
        try:
            (folder / name).unlink(missing_ok=True)
            shutil.copyfile(source, folder / name)
        except OSError as error:
            raise LocalBrokerError(f"cannot read the TLS file {source}: {error.strerror}") from error
        (folder / name).chmod(mode)


def free_port() -> int:
    """A free loopback port *below* the usual ephemeral range.

    While the broker is down, the kernel must not hand its port to an outgoing connection: the next start
    would fail, and a client that retries to connect could even end up connected to itself.
    """
    for _ in range(500):
        port = random.randint(12_000, 32_000)
        if port in _taken_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        _taken_ports.add(port)
        return port
    raise LocalBrokerError(f"no free port on {LOOPBACK} between 12000 and 32000")


def port_open(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens on this port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def check_ports(ports: Ports, host: str) -> None:
    """A folder keeps its ports; while its broker was down, another program may have got one.

    :raises LocalBrokerError: naming the port.
    """
    for port, where in ((ports.amqp, host), (ports.tls, host), (ports.distribution, LOOPBACK)):
        if port is not None and port_open(port, where):
            raise LocalBrokerError(f"another program listens on port {port}, which this broker had: stop that one")


def check_folder(folder: Path) -> None:
    """RabbitMQ's shell scripts do not quote the paths that they are given.

    :raises LocalBrokerError: it has a character that they stumble over.
    """
    if re.search(r"[^\w@%+=:,./-]", str(folder)):
        raise LocalBrokerError(
            f"RabbitMQ's scripts do not work in {folder}: its path must have no spaces, quotes or other signs of shells"
        )


def speaks_amqp(port: int, host: str = LOOPBACK) -> bool:
    """Whether a broker answers AMQP's protocol header with a method frame (Connection.Start)."""
    try:
        with socket.create_connection((host, port), timeout=2) as client:
            client.sendall(_AMQP_HEADER)
            return client.recv(1) == b"\x01"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], deadline: float, *, every: float = 0.02) -> bool:
    """Polls ``condition`` until it holds (True) or the monotonic clock passes ``deadline`` (False)."""
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def plain(text: str) -> str:
    """A broker's log without its terminal colours."""
    return _ANSI.sub("", text)


def last_lines(text: str, count: int = 25) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def first_and_last_lines(text: str) -> str:
    """A complaint comes first or last, with a page of help or of stack beside it."""
    lines = text.strip().splitlines()
    return "\n".join(lines if len(lines) <= 25 else [*lines[:5], "...", *lines[-20:]])


def why(log: str) -> str:
    """The lines of a broker's log that tell why it did not start: around "BOOT FAILED", else the last."""
    lines = [line if len(line) < 500 else line[:500] + "..." for line in log.strip().splitlines()]
    at = next((number for number, line in enumerate(lines) if "BOOT FAILED" in line), None)
    return "\n".join(lines[-25:]) if at is None else "\n".join(lines[max(0, at - 10) : at + 16])


def run_ctl(command: Sequence[str], what: str, timeout: float, env: Mapping[str, str] | None = None) -> str:
    """Runs a broker command and returns what it printed.

    ``what`` stands for the command in errors: the arguments may hold a password, and stay out of them.
    Raises LocalBrokerError with the command's output when it fails or takes longer than ``timeout`` seconds.
    """
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalBrokerError(f"{what}: no answer within {timeout:g} s") from error
    except OSError as error:
        raise LocalBrokerError(f"{what}: cannot be run: {error}") from error
    if done.returncode != 0:
        output = first_and_last_lines(plain(f"{done.stdout}\n{done.stderr}"))
        raise LocalBrokerError(f"{what} failed with exit code {done.returncode}:\n{output}")
    return done.stdout


class Guard:
    """Runs a clean-up command when this process dies without having cleaned up, even by SIGKILL.

    A shell waits on a pipe whose other end only this process holds: the kernel closes it at our death.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def arm(self, script: str, *args: str) -> None:
        """Replaces what shall be done: ``script`` (POSIX shell) with ``args`` as its parameters."""
        previous, self._process = (
            self._process,
            subprocess.Popen(
                ["/bin/sh", "-c", f"read -r _; {script}", "eventbus-guard", *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal must not end the guard first
            ),
        )
        _end(previous)

    def disarm(self) -> None:
        process, self._process = self._process, None
        _end(process)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
