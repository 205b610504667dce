"""What an engine works for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from eventbus._errors import EventBusError

from ._consuming import Consuming
from ._store import Store
from ._work import Effect


class Duty(Protocol):
    """A link, as its engine sees it. Called by the engine's thread."""

    def consumers(self) -> list[Consuming]:
        """Its consumers."""

    def begin(self, store: Store, session: int) -> Effect:
        """Within the first transaction of a session: make everything exist."""

    def lost(self, error: EventBusError, *, terminal: bool) -> None:
        """The session is over, or could not begin."""

    def gone(self, consumers: Iterable[Consuming]) -> None:
        """Their queues were deleted under them."""

    def blocked(self, reason: str | None) -> None:
        """Nothing can be written for now (None: it can again)."""

    def dropped(self, settlements: int) -> None:
        """So many settlements came too late."""

    def post(self, effects: list[Effect]) -> None:
        """Do these where listeners are called."""

    def abandoned(self) -> bool:
        """Whether nobody can be told anything any more, though nobody has closed the link."""

    def ended(self) -> None:
        """The thread ends now."""
