"""Secrets that do not show, and who logs in with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import msgspec

from eventbus._errors import ConfigurationError


class Secret:
    """Text that shows itself only when asked by :meth:`reveal`.

    :raises ConfigurationError: it is not text: most often None, from a variable that is not set.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise ConfigurationError(f"a secret is text, not {type(value).__name__}: is its variable or file there?")
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Credentials(msgspec.Struct, frozen=True):
    """User and password; the password may be a token.

    ``expires`` is when the password ends, in Unix seconds: a transport that can asks for new ones before, and gives
    them to the broker without reconnecting.
    """

    user: str = "guest"
    password: Secret = Secret("guest")
    expires: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.password, Secret):
            raise ConfigurationError("a password is given as Secret(...), which keeps it out of logs")


CredentialsSource = Credentials | Callable[[], Credentials]
"""Credentials, or a function that gives them: called in a thread of its own at every attempt to connect, and again
before they expire."""
