"""The state folder of ``eventbus broker``::

state.json            what was asked for
secrets.json          passwords (0600)
ca/                   certificate authority (with TLS)
rabbitmq/             what a production broker takes: rabbitmq.conf, definitions.json, enabled_plugins, tls/
compose.yaml          the same, as containers; .env beside it has the secret that a cluster's nodes share
services/             for each service: <name>.env, and <name>.pem and .key (with TLS)
admin.password        what admin.env names
nodes/                data and logs of the nodes that run here
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from eventbus import ConfigurationError, Secret

EngineName = Literal["native", "docker"]

ADMIN = "admin"
_OURS = {
    ".env", ".gitignore", "admin.password", "ca", "compose.yaml", "nodes", "rabbitmq", "secrets.json", "services",
    "state.json",
}  # fmt: skip
"""All that is in a state folder."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    engine: EngineName
    vhost: str
    tls: bool
    size: int
    listen: str
    host: str
    services: tuple[str, ...]
    management_ports: tuple[int, ...]
    derived: bool = False
    """Whether the services' permissions come from their code; else they may do everything in the virtual host."""


class StateFolder:
    """Paths of a state folder, and the files that we keep in it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.ca = self.path / "ca"
        self.rabbitmq = self.path / "rabbitmq"
        self.services = self.path / "services"
        self.nodes = self.path / "nodes"
        self.compose = self.path / "compose.yaml"
        self._wish = self.path / "state.json"
        self._secrets = self.path / "secrets.json"

    def make(self) -> None:
        """Make the folders; nobody else can look into them.

        :raises ConfigurationError: the folder is somebody else's.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        strange = min((entry.name for entry in self.path.iterdir()), default=None)
        if strange is not None and not self.exists and not self._secrets.exists():
            raise ConfigurationError(
                f"{self.path} holds other things ({strange}): name a folder for the broker alone with --state"
            )
        for folder in (self.path, self.services, self.nodes, self.rabbitmq):
            folder.mkdir(exist_ok=True)
        self.path.chmod(0o700)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def wish(self) -> Wish:
        """What was asked for.

        :raises ConfigurationError: there is no broker in this folder.
        """
        try:
            return msgspec.json.decode(self._wish.read_bytes(), type=Wish)
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no broker in {self.path}: start one with eventbus broker up (--state names its folder)"
            ) from None
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{self._wish} cannot be read: {error}") from error

    @property
    def exists(self) -> bool:
        """Whether a broker has been made here."""
        return self._wish.exists()

    def delete(self) -> None:
        """Remove what we have made, and the folder if nothing else is in it."""
        for name in _OURS:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def gone(self, wish: Wish) -> list[str]:
        """Services that had a user here before, and are not wished for any more."""
        had = {file.stem for file in self.services.glob("*.env")}
        return sorted(had - {ADMIN, *wish.services})

    def forget(self, service: str) -> None:
        """Remove a service's files and password."""
        for suffix in ("pem", "key"):
            (self.services / f"{service}.{suffix}").unlink(missing_ok=True)
        if self._secrets.exists():
            known = self._known_passwords()
            known.pop(service, None)
            self._keep_passwords(known)
        (self.services / f"{service}.env").unlink(missing_ok=True)  # last: it tells that there was one

    def keep_wish(self, wish: Wish) -> None:
        """Write it down."""
        write_private(self._wish, msgspec.json.format(msgspec.json.encode(wish)).decode() + "\n")

    def passwords(self, users: tuple[str, ...]) -> Mapping[str, Secret]:
        """A random password for each user; the same ones as before."""
        known = self._known_passwords()
        for user in users:
            known.setdefault(user, secrets.token_urlsafe(24))
        self._keep_passwords(known)
        return {user: Secret(known[user]) for user in users}

    def _known_passwords(self) -> dict[str, str]:
        if not self._secrets.exists():
            return {}
        return msgspec.json.decode(self._secrets.read_bytes(), type=dict[str, str])

    def _keep_passwords(self, known: Mapping[str, str]) -> None:
        write_private(self._secrets, msgspec.json.format(msgspec.json.encode(known)).decode() + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
