"""Finds an installed RabbitMQ, and makes the slim view of it that boots in half the time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .common import LocalBrokerError

_HOMES = (
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*",
    "/opt/rabbitmq",
    "/opt/homebrew/opt/rabbitmq",
    "/usr/local/opt/rabbitmq",
)
_APPLICATIONS = re.compile(r"\{\s*(?:included_)?applications\s*,\s*\[(.*?)\]", re.DOTALL)


# A server that is installed below another root, such as a newer distribution's, runs there: in mounts of its own, which
# go with it, and with the same /tmp, where the folders of private nodes are.
_IN_ROOT = (
    'root=$1; shift; for folder in proc dev tmp; do mount --bind "/$folder" "$root/$folder"; done; '
    'exec chroot "$root" "$@"'
)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """An unpacked RabbitMQ server and the Erlang port mapper that goes with it.

    ``root`` is the root of the system that it is installed in, if not this one's; the other paths are those in there.
    """

    home: Path
    version: str
    epmd: str
    root: Path | None = None

    def command(self, *words: str) -> list[str]:
        """How to run a command of this installation."""
        if self.root is None:
            return list(words)
        return ["unshare", "--mount", "sh", "-ec", _IN_ROOT, "sh", str(self.root), *words]

    @property
    def _home_here(self) -> Path:
        return self.home if self.root is None else self.root / self.home.relative_to("/")

    def slim_copy(self, target: Path, plugins: Sequence[str]) -> Path:
        """Links only the applications that a node with these plugins needs; returns its scripts folder.

        Erlang looks for every module in every folder of its path, and the server puts all of its 70
        applications there: leaving out those that are not used halves the time to boot.
        Raises LocalBrokerError for a plugin that is not installed.
        """
        applications = self._applications()
        if missing := [plugin for plugin in plugins if plugin not in applications]:
            raise LocalBrokerError(f"not among the plugins of this RabbitMQ: {', '.join(missing)}")
        if target.exists():
            shutil.rmtree(target)
        (target / "plugins").mkdir(parents=True)
        for part in ("sbin", "escript"):
            (target / part).symlink_to(self.home / part)
        for folder in _closure(applications, ("rabbit", "rabbitmq_prelaunch", *plugins)):
            (target / "plugins" / folder.name).symlink_to(self.home / "plugins" / folder.name)
        for archive in (self._home_here / "plugins").glob("*.ez"):
            (target / "plugins" / archive.name).symlink_to(self.home / "plugins" / archive.name)
        return target / "sbin"

    def _applications(self) -> dict[str, Path]:
        return {file.stem: file for file in sorted((self._home_here / "plugins").glob("*/ebin/*.app"))}


def _closure(applications: dict[str, Path], roots: Iterable[str]) -> list[Path]:
    """The folders of these applications and of all that they name as needed."""
    todo, seen = list(roots), dict[str, Path]()
    while todo:
        name = todo.pop()
        if name in seen or name not in applications:
            continue  # Erlang's own applications are found by Erlang
        seen[name] = applications[name].parent.parent
        text = applications[name].read_text(errors="replace")
        for names in _APPLICATIONS.findall(text):
            todo += re.findall(r"\w+", names)
    return list(seen.values())


def find() -> Installation | None:
    """The installed RabbitMQ, newest first, or None.

    ``EVENTBUS_RABBITMQ_HOME`` names another one, ``EVENTBUS_RABBITMQ_ROOT`` the root of another system that has one (to
    be run as root, by chroot); it raises LocalBrokerError when there is none.
    """
    root = os.environ.get("EVENTBUS_RABBITMQ_ROOT")
    if root:
        return _below(Path(root))
    named = os.environ.get("EVENTBUS_RABBITMQ_HOME")
    if named:
        installation = _look(Path(named))
        if installation is None:
            raise LocalBrokerError(
                "EVENTBUS_RABBITMQ_HOME must name a folder with sbin/rabbitmq-server and plugins/, "
                "and Erlang's erl and epmd must be on PATH"
            )
        return installation
    candidates: list[Path] = []
    for pattern in _HOMES:
        candidates += sorted(Path("/").glob(pattern[1:]), key=_version_key, reverse=True)
    script = shutil.which("rabbitmq-server")
    if script is not None:
        candidates.append(Path(script).resolve().parent.parent)
    return next((found for home in candidates if (found := _look(home)) is not None), None)


def _below(root: Path) -> Installation:
    homes = sorted(root.glob(_HOMES[0][1:]), key=_version_key, reverse=True)
    rabbit = next((found for home in homes for found in (home / "plugins").glob("rabbit-*")), None)
    if rabbit is None or not (root / "usr/bin/epmd").exists():
        raise LocalBrokerError(f"EVENTBUS_RABBITMQ_ROOT={root} names no system with RabbitMQ and Erlang")
    home = Path("/") / rabbit.parent.parent.relative_to(root)
    return Installation(home=home, version=rabbit.name.removeprefix("rabbit-"), epmd="/usr/bin/epmd", root=root)


def _look(home: Path) -> Installation | None:
    """Checks for the server's own scripts: a distribution's wrapper of the same name changes the user."""
    rabbit = next(iter(sorted((home / "plugins").glob("rabbit-*"), reverse=True)), None)
    erl = shutil.which("erl")
    scripts = all((home / "sbin" / name).is_file() for name in ("rabbitmq-server", "rabbitmq-env", "rabbitmqctl"))
    if rabbit is None or erl is None or not scripts:
        return None
    beside_erl = Path(erl).resolve().parent / "epmd"
    epmd = shutil.which("epmd") or (str(beside_erl) if beside_erl.is_file() else None)
    if epmd is None:
        return None
    return Installation(home=home, version=rabbit.name.removeprefix("rabbit-"), epmd=epmd)


def _version_key(home: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", home.name)]
