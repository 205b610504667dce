"""Acks of one consumer channel, joined where that says the same.

One ``multiple`` ack replaces many only up to the first delivery that is still open: a delivery whose handler has
not finished is never acked with others.
"""

from __future__ import annotations

from collections.abc import Callable

from eventbus_rabbitmq._wire.frames import ack_frame


class Acks:
    """Open deliveries of one channel, by tag in rising order."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._open: dict[int, bool] = {}
        self._newest = 0
        self._done: list[int] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def given(self) -> int:
        """Acks that are not written yet."""
        return len(self._done)

    def __contains__(self, tag: int) -> bool:
        return tag in self._open and not self._open[tag]

    def open_tags(self) -> tuple[int | None, int]:
        """The oldest delivery that is not settled, if there is one, and the newest that has come."""
        oldest = next((tag for tag, acked in self._open.items() if not acked), None)
        return oldest, self._newest

    def delivered(self, tag: int) -> None:
        """A delivery is open from now on."""
        self._open[tag] = False
        self._newest = tag

    def ack(self, tag: int) -> None:
        """It shall be acked at the next flush."""
        self._open[tag] = True
        self._done.append(tag)

    def forget(self, tag: int) -> None:
        """It has been settled otherwise."""
        self._open.pop(tag, None)

    def flush(self, write: Callable[[bytes], None]) -> None:
        """Write the acks given since the last flush."""
        if not self._done:
            return
        top = count = 0
        for tag, acked in self._open.items():
            if not acked:
                break
            top, count = tag, count + 1
        frames = []
        if count > 1:
            frames.append(ack_frame(self._number, top, multiple=True))
            frames += [ack_frame(self._number, tag) for tag in self._done if tag > top]
        else:
            frames = [ack_frame(self._number, tag) for tag in self._done]
        for tag in self._done:
            self._open.pop(tag, None)
        self._done.clear()
        write(b"".join(frames))
