"""The state folder of ``eventbus broker``::

state.json            what was asked for
secrets.json          passwords (0600)
ca/                   certificate authority (with TLS)
rabbitmq/             what a production broker takes: rabbitmq.conf, definitions.json, enabled_plugins, tls/
compose.yaml          the same, as containers
services/             for each service: <name>.env, and <name>.pem and .key (with TLS)
nodes/                data and logs of the nodes that run here
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from eventbus import ConfigurationError, Secret

EngineName = Literal["native", "docker"]

ADMIN = "admin"


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
        """Make the folders; nobody else can look into them."""
        self.path.mkdir(parents=True, exist_ok=True)
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

    def keep_wish(self, wish: Wish) -> None:
        """Write it down."""
        write_private(self._wish, msgspec.json.format(msgspec.json.encode(wish)).decode() + "\n")

    def passwords(self, users: tuple[str, ...]) -> Mapping[str, Secret]:
        """A random password for each user; the same ones as before."""
        known: dict[str, str] = {}
        if self._secrets.exists():
            known = msgspec.json.decode(self._secrets.read_bytes(), type=dict[str, str])
        for user in users:
            known.setdefault(user, secrets.token_urlsafe(24))
        write_private(self._secrets, msgspec.json.format(msgspec.json.encode(known)).decode() + "\n")
        return {user: Secret(known[user]) for user in users}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
