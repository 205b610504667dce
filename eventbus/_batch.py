"""Batches: how many deliveries one call of a handler gets, and what becomes of each when some of them fail."""

from __future__ import annotations

import msgspec

from eventbus._errors import BatchError, ConfigurationError

MAX_BATCH = 10_000


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A handler gets a list: ``size`` events, or those that are there ``wait`` seconds after the first of them came.

    ``@bus.subscribe(CustomerRegistered, batch=Batch(size=100, wait=0.5))`` on a handler that takes
    ``list[CustomerRegistered]``.
    """

    size: int = 100
    wait: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_BATCH or self.wait < 0:
            raise ConfigurationError(f"a batch has a size of 1 to {MAX_BATCH}, and waits 0 seconds or longer")


def errors_of(error: BaseException | None, size: int) -> list[BaseException | None]:
    """What each event of a batch came to, when its handler ended with ``error`` (None: it returned)."""
    if not isinstance(error, BatchError):
        return [error] * size
    strange = [index for index in error.failures if not isinstance(index, int) or not 0 <= index < size]
    if strange or not error.failures:
        wrong: BaseException = ConfigurationError(
            f"BatchError names places that the batch of {size} does not have: {strange[:5]}"
            if strange
            else "BatchError names no failures"
        )
        wrong.__cause__ = error
        # Which of them failed is not known, so none of them counts as done.
        return [wrong] * size
    return [error.failures.get(index) for index in range(size)]
