"""Where the other clients run: environments under ``.bench/``, made once, and anew when their requirements change."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.registry import Client

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".bench"
PATIENCE = 300.0
"""Seconds for making one environment."""

GO_SOURCES = Path("/usr/share/gocode")
GO_CLIENT = GO_SOURCES / "src/github.com/rabbitmq/amqp091-go"
NO_GO = "install golang-go and golang-github-rabbitmq-amqp091-go-dev"
_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class NoEnvironmentError(Exception):
    """It is not there and cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A client that can run."""

    command: Sequence[str]
    versions: dict[str, str] = field(default_factory=dict)


def ready(client: Client, *, build: bool = True, folder: Path = FOLDER) -> Ready:
    """How to run the client.

    :raises NoEnvironmentError: it cannot run here.
    """
    if client.environment == "go":
        return _go(folder / "go", build=build)
    if not client.environment:
        if "--uvloop" in client.options and find_spec("uvloop") is None:
            raise NoEnvironmentError("uvloop is not installed")
        return Ready([sys.executable, "-m", _module(client)])
    python, versions = interpreter(client.environment, folder, build=build)
    return Ready([str(python), "-m", _module(client)], versions)


def _module(client: Client) -> str:
    return f"benchmarks.peers.clients.{client.module}"


def interpreter(name: str, folder: Path = FOLDER, *, build: bool = True) -> tuple[Path, dict[str, str]]:
    """The Python of the environment of this name, and the versions of what was asked for in it.

    :raises NoEnvironmentError: it is not there, and is not to be made or cannot be.
    """
    requirements = HERE / "requirements" / f"{name}.txt"
    wanted = {"requirements": requirements.read_text(encoding="utf-8"), "python": platform.python_version()}
    place, stamp = folder / name, folder / name / "made-from.json"
    python = place / "bin" / "python"
    try:
        made = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        made = {}
    if {key: made.get(key) for key in wanted} != wanted:
        if not build:
            raise NoEnvironmentError(f"its environment is not made: {', '.join(wanted['requirements'].split())}")
        _prepare(folder)
        shutil.rmtree(place, ignore_errors=True)
        _install(place, python, requirements)
        names = re.findall(r"^[A-Za-z0-9_-]+", wanted["requirements"], re.MULTILINE)
        versions = json.loads(_run([str(python), "-c", _VERSIONS, *names]))
        made = {**wanted, "versions": versions}
        stamp.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return python, made["versions"]


def _install(place: Path, python: Path, requirements: Path) -> None:
    own = ROOT / ".boot" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)])
    else:
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)])


def _go(place: Path, *, build: bool) -> Ready:
    source, program = HERE / "go" / "main.go", place / "peer"
    versions = _go_version()
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        go = shutil.which("go")
        if go is None or not versions:
            raise NoEnvironmentError(NO_GO)
        if not build:
            raise NoEnvironmentError("its program is not built")
        _prepare(place.parent)
        place.mkdir(exist_ok=True)
        settings = {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOCACHE": str(place / "cache"), "GOFLAGS": ""}
        _run([go, "build", "-o", str(program), str(source)], settings)
    return Ready([str(program)], versions)


def _go_version() -> dict[str, str]:
    try:
        found = re.search(r'buildVersion\s*=\s*"([^"]+)"', (GO_CLIENT / "connection.go").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {"amqp091-go": found.group(1) if found else "unknown"}


def _prepare(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def _run(command: Sequence[str], settings: dict[str, str] | None = None) -> str:
    try:
        ran = subprocess.run(
            command, env={**os.environ, **(settings or {})}, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnvironmentError(f"{Path(command[0]).name}: {error}") from error
    if ran.returncode:
        raise NoEnvironmentError(last_line(ran.stderr) or f"{Path(command[0]).name} failed")
    return ran.stdout


def last_line(text: str) -> str:
    """Where programs say what went wrong."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
