"""Runs an installed RabbitMQ as a private node: own ports, data, cookie and epmd, as any user."""

# ruff: noqa: S603  (fixed commands without a shell; no input from outside)

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import common, processes
from .common import ANYWHERE, LOOPBACK, LocalBrokerError, Settings
from .server import Installation

_BOOTED = re.compile(r"completed with \d+ plugins|Server startup complete")
_PROCESSES = "processes.json"
_LOOPBACK_ERLANG = "{127,0,0,1}"


class NativeEngine:
    """One RabbitMQ node and its epmd: children of this process, or of an earlier one that left them running."""

    def __init__(self, settings: Settings, installation: Installation) -> None:
        self._settings = settings
        self._installation = installation
        self._directory = settings.directory
        self._ports = settings.ports
        self._console = self._directory / "console.log"
        self._broker: subprocess.Popen[bytes] | processes.Adopted | None = None
        self._epmd: subprocess.Popen[bytes] | processes.Adopted | None = None
        self._guard = common.Guard()
        self._scripts: Path | None = None
        if settings.detached:
            self._adopt()

    @property
    def pid(self) -> int:
        if self._broker is None or self._broker.poll() is not None:
            raise LocalBrokerError("the broker is not running")
        return self._broker.pid

    @property
    def version(self) -> str:
        return self._installation.version

    def running(self) -> bool:
        return self._broker is not None and self._broker.poll() is None

    def log_text(self) -> str:
        return self._read_console(0)

    def _read_console(self, offset: int) -> str:
        try:
            with self._console.open("rb") as console:
                console.seek(offset)
                return common.plain(console.read().decode(errors="replace"))
        except FileNotFoundError:
            return ""

    def start(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.kill()  # reaps a broker that died by itself, with its helpers
        common.check_folder(self._directory)
        common.check_ports(self._ports, self._host)
        self._prepare()
        try:
            self._start_epmd(deadline)
            offset = self._console.stat().st_size if self._console.exists() else 0
            self._start_broker()
            self._wait_ready(deadline, timeout, offset)
        except BaseException:
            self.stop(0)
            raise

    @property
    def _host(self) -> str:
        return LOOPBACK if self._settings.listen == ANYWHERE else self._settings.listen

    def stop(self, timeout: float) -> None:
        broker = self._broker
        if broker is not None and broker.poll() is None:
            helpers = processes.descendants(broker.pid)
            self.resume()
            broker.terminate()  # the node's own orderly shutdown
            try:
                broker.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            else:
                self._end_helpers(helpers)
        self.kill()
        if not self._settings.shared_epmd:
            self._end_epmd()

    def _end_epmd(self) -> None:
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait()
        self._remember()
        self._guard.disarm()

    def kill(self) -> None:
        broker, self._broker = self._broker, None
        if broker is None:
            return
        if broker.poll() is None:
            helpers = processes.descendants(broker.pid)
            broker.kill()
            broker.wait()
            self._end_helpers(helpers)
        self._arm_guard()

    def _end_helpers(self, helpers: list[int]) -> None:
        """erl_child_setup and inet_gethost end by themselves when their pipe to the broker breaks."""

        def ended() -> bool:
            return not any(processes.alive(pid) for pid in helpers)

        if not common.wait_until(ended, time.monotonic() + 2, every=0.005):
            for pid in helpers:
                processes.send(pid, signal.SIGKILL)
            common.wait_until(ended, time.monotonic() + 5)

    def pause(self) -> None:
        processes.send(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        processes.send(self.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._settings.temporary:
            self.kill()  # an orderly stop takes seconds, and saves what goes away now
        self.stop(10)
        self._end_epmd()
        if self._settings.temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def ctl(self, args: Sequence[str], timeout: float, program: str = "rabbitmqctl") -> str:
        if self._scripts is None:
            raise LocalBrokerError("the broker has not been started yet")
        command = self._installation.command(str(self._scripts / program), "-q", *args)
        return common.run_ctl(command, f"{program} {args[0] if args else ''}", timeout, self._environment())

    def _prepare(self) -> None:
        home = self._directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(self._settings.cookie or secrets.token_hex(20))
            cookie.chmod(0o400)  # Erlang refuses a cookie that others may read
        defaults = {
            **_plain_listener(self._settings.listen, self._ports.amqp),
            "log.console": "true",
            "log.console.level": "info",
            "log.file": "false",
        }
        if self._settings.tls is not None:
            folder = self._directory / "tls"
            common.copy_tls(self._settings.tls, folder, mode=0o600)
            listener = f"{self._settings.listen}:{self._ports.tls}"
            defaults |= common.tls_config(self._settings.tls, folder=str(folder), listener=listener)
        (self._directory / "rabbitmq.conf").write_text(self._settings.config_text(defaults))
        (self._directory / "enabled_plugins").write_text(self._settings.enabled_plugins_text())
        (self._directory / "rabbitmq-env.conf").write_text("")  # or the system's own would be read
        if self._scripts is None:
            self._scripts = self._installation.slim_copy(self._directory / "server", self._settings.plugins)

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_"))}
        at = self._directory
        return inherited | {
            "HOME": str(at / "home"),
            "LC_ALL": "C.UTF-8",  # the command line tools complain about any other encoding
            "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the node: its pid is the broker's
            "RABBITMQ_NODENAME": f"{self._settings.name}@localhost",
            "RABBITMQ_DIST_PORT": str(self._ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(at / "data"),
            "RABBITMQ_LOG_BASE": str(at / "log"),
            "RABBITMQ_PLUGINS_DIR": str(at / "server" / "plugins"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(at / "expanded-plugins"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(at / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(at / "feature_flags"),
            "RABBITMQ_CONFIG_FILE": str(at / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(at / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(at / "rabbitmq-env.conf"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(at / "generated-config"),
            # Idle schedulers sleep instead of spinning: a test machine has better uses for its cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": str(self._ports.epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_AFLAGS": f"-kernel inet_dist_use_interface {_LOOPBACK_ERLANG}",
            "ERL_CRASH_DUMP_SECONDS": "0",
        }

    def _start_epmd(self, deadline: float) -> None:
        """Our own epmd in the foreground: else the node would leave a daemon behind that nobody owns."""
        if self._epmd is not None and self._epmd.poll() is None:
            return
        if self._settings.shared_epmd and common.port_open(self._ports.epmd):
            return  # another node's
        self._epmd = subprocess.Popen(
            self._installation.command(self._installation.epmd, "-port", str(self._ports.epmd), "-address", LOOPBACK),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._arm_guard()
        if not common.wait_until(lambda: common.port_open(self._ports.epmd), deadline, every=0.005):
            raise LocalBrokerError("epmd, Erlang's port mapper, did not start")

    def _start_broker(self) -> None:
        assert self._scripts is not None
        with self._console.open("ab") as console:
            self._broker = subprocess.Popen(
                self._installation.command(str(self._scripts / "rabbitmq-server")),
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._arm_guard()

    def _wait_ready(self, deadline: float, timeout: float, offset: int) -> None:
        """Reads the log instead of asking rabbitmqctl, which costs a second of CPU for each question."""
        broker = self._broker
        assert broker is not None

        def booted() -> bool:
            return _BOOTED.search(self._read_console(offset)) is not None

        if common.wait_until(lambda: broker.poll() is not None or booted(), deadline):
            common.wait_until(lambda: broker.poll() is not None or self._answers(), deadline)
        if broker.poll() is None and time.monotonic() < deadline:
            return
        log = common.why(self._read_console(offset))
        if broker.poll() is not None:
            raise LocalBrokerError(f"RabbitMQ ended while starting (exit code {broker.returncode}):\n{log}")
        raise LocalBrokerError(f"RabbitMQ was not ready within {timeout:g} s:\n{log}")

    def _answers(self) -> bool:
        if self._ports.amqp is not None:
            return common.speaks_amqp(self._ports.amqp, self._host)
        return self._ports.tls is None or common.port_open(self._ports.tls, self._host)

    def _arm_guard(self) -> None:
        self._remember()
        if self._settings.detached:
            return
        pids = [str(child.pid) for child in (self._broker, self._epmd) if child is not None]
        folder = str(self._directory) if self._settings.temporary else ""
        script = 'dir=$1; shift; kill -KILL "$@"; [ -z "$dir" ] || { sleep 1; rm -rf -- "$dir"; }'
        self._guard.arm(script, folder, *pids)

    # -- processes that outlive their starter ---------------------------------------------------------------

    def _remember(self) -> None:
        """Write down who runs, for a later program."""
        if self._settings.detached and self._directory.exists():
            known = {
                name: [child.pid, processes.began(child.pid)]
                for name, child in (("broker", self._broker), ("epmd", self._epmd))
                if child is not None
            }
            (self._directory / _PROCESSES).write_text(json.dumps(known))

    def _adopt(self) -> None:
        """Take over what an earlier program left running."""
        file = self._directory / _PROCESSES
        known = json.loads(file.read_text()) if file.exists() else {}
        if "broker" in known:
            self._broker = processes.Adopted(*known["broker"])
        if "epmd" in known:
            self._epmd = processes.Adopted(*known["epmd"])
        scripts = self._directory / "server" / "sbin"
        if self.running() and scripts.exists():
            self._scripts = scripts


def _plain_listener(address: str, port: int | None) -> dict[str, str]:
    return {"listeners.tcp": "none"} if port is None else {"listeners.tcp.1": f"{address}:{port}"}
