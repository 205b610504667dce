"""Runs a RabbitMQ container, for machines with Docker and without an installed server."""

# ruff: noqa: S603, S607  (fixed commands without a shell; no input from outside)

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence

from . import common
from .common import LOOPBACK, LocalBrokerError, Settings

DEFAULT_IMAGE = "rabbitmq:3.13"
_PULL_TIMEOUT = 600.0
_COMMAND_TIMEOUT = 60.0


def available() -> bool:
    """Whether a Docker engine answers (the client alone is not enough)."""
    if shutil.which("docker") is None:
        return False
    try:
        _docker("info", timeout=20)
    except LocalBrokerError:
        return False
    return True


def _docker(*args: str, timeout: float = _COMMAND_TIMEOUT) -> str:
    return common.run_ctl(["docker", *args], f"docker {args[0]}", timeout)


class DockerEngine:
    """One container. It is kept, with its data and its port, until :meth:`close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._image = os.environ.get("EVENTBUS_RABBITMQ_IMAGE", DEFAULT_IMAGE)
        self._container = settings.name
        self._created = False
        self._paused = False
        self._version: str | None = None
        self._guard = common.Guard()
        if settings.ports.amqp is None or settings.detached:
            raise LocalBrokerError(
                "a container of ours has a plain port and ends with us; use the compose file instead"
            )
        self._port = settings.ports.amqp

    @property
    def pid(self) -> int:
        if not self.running():
            raise LocalBrokerError("the broker is not running")
        return int(_docker("inspect", "--format", "{{.State.Pid}}", self._container))

    @property
    def version(self) -> str:
        if self._version is None:
            self._version = self.ctl(["version"], _COMMAND_TIMEOUT).strip()
        return self._version

    def running(self) -> bool:
        if not self._created:
            return False
        return _docker("inspect", "--format", "{{.State.Running}}", self._container).strip() == "true"

    def log_text(self) -> str:
        if not self._created:
            return ""
        done = subprocess.run(
            ["docker", "logs", self._container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
        return common.plain(done.stdout)

    def start(self, timeout: float) -> None:
        if not self._created:
            self._create()
        deadline = time.monotonic() + timeout
        _docker("start", self._container, timeout=timeout)
        try:
            self._wait_ready(deadline, timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float) -> None:
        if not self.running():
            return
        self.resume()
        seconds = max(1, round(timeout))
        _docker("stop", "-t", str(seconds), self._container, timeout=seconds + _COMMAND_TIMEOUT)

    def kill(self) -> None:
        if self.running():
            _docker("kill", self._container)
        self._paused = False

    def pause(self) -> None:
        _docker("pause", self._container)
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            _docker("unpause", self._container)
        self._paused = False

    def close(self) -> None:
        if self._created:
            _docker("rm", "--force", "--volumes", self._container)
            self._created = False
        self._guard.disarm()
        if self._settings.temporary:
            shutil.rmtree(self._settings.directory, ignore_errors=True)

    def ctl(self, args: Sequence[str], timeout: float, program: str = "rabbitmqctl") -> str:
        if not self._created:
            raise LocalBrokerError("the broker has not been started yet")
        what = f"{program} {args[0] if args else ''}"
        command = ["docker", "exec", self._container, program, "-q", *args]
        return common.run_ctl(command, what, timeout)

    def _create(self) -> None:
        try:
            _docker("image", "inspect", self._image)
        except LocalBrokerError:
            _docker("pull", "--quiet", self._image, timeout=_PULL_TIMEOUT)
        # The container's user is another one than ours: what it mounts must be readable by all. The folder
        # around it stays private.
        mounts = self._settings.directory / "container"
        mounts.mkdir(parents=True, exist_ok=True)
        mounts.chmod(0o755)
        ports = ["--publish", f"{LOOPBACK}:{self._settings.ports.amqp}:5672"]
        defaults: dict[str, str] = {}
        if self._settings.tls is not None:
            common.copy_tls(self._settings.tls, mounts / "tls", mode=0o644)
            (mounts / "tls").chmod(0o755)
            defaults = common.tls_config(self._settings.tls, folder="/eventbus/tls", listener="0.0.0.0:5671")
            ports += ["--publish", f"{LOOPBACK}:{self._settings.ports.tls}:5671"]
        for name, text in (
            ("90-eventbus.conf", self._settings.config_text(defaults)),
            ("enabled_plugins", self._settings.enabled_plugins_text()),
        ):
            (mounts / name).write_text(text)
            (mounts / name).chmod(0o644)
        _docker(
            "create",
            *("--name", self._container),
            *("--hostname", self._container),  # the node's name: the data belongs to it
            *ports,
            *("--volume", f"{mounts}:/eventbus:ro"),
            *("--volume", f"{mounts}/90-eventbus.conf:/etc/rabbitmq/conf.d/90-eventbus.conf:ro"),
            *("--env", "RABBITMQ_ENABLED_PLUGINS_FILE=/eventbus/enabled_plugins"),
            *("--env", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none"),
            self._image,
        )
        self._created = True
        folder = str(self._settings.directory) if self._settings.temporary else ""
        script = 'docker rm --force --volumes "$1"; [ -z "$2" ] || rm -rf -- "$2"'
        self._guard.arm(script, self._container, folder)

    def _wait_ready(self, deadline: float, timeout: float) -> None:
        def settled() -> bool:
            return common.speaks_amqp(self._port) or not self.running()

        answered = common.wait_until(settled, deadline, every=0.25)
        if answered and self.running():
            self.ctl(["await_startup"], max(1.0, deadline - time.monotonic()))
            return
        log = common.last_lines(self.log_text())
        if not self.running():
            raise LocalBrokerError(f"the RabbitMQ container ended while starting:\n{log}")
        raise LocalBrokerError(f"RabbitMQ was not ready within {timeout:g} s:\n{log}")
