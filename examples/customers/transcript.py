"""What the services of the demo have said, as a story and as numbers that must add up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

from examples.customers.users import CUSTOMERS

Line = tuple[str, str]

# Chapter, and the lines that belong to it: service and pattern.
CHAPTERS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Customers register: everybody who wants to know gets a copy", (("users", r"published .* for "),)),
    ("Group emails shares one queue; a failed mail is tried again", (("emails", "mail to "),)),
    ("Analytics is a broadcast: each instance has a queue of its own", (("analytics", "is number"),)),
    ("Questions go to one pricing service, answers to the caller", (("pricing", "asked"), ("users", "asked"))),
    ("An event that cannot be read stops nobody: it is kept with the reason", (("users", "half"), ("support", ""))),
)  # fmt: skip


class Transcript:
    """Lines of all services; any thread may add."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._changed = threading.Condition()

    def teller(self, service: str) -> Callable[[str], None]:
        """A ``say`` for this service."""

        def say(text: str) -> None:
            with self._changed:
                self._lines.append((service, text))
                self._changed.notify_all()

        return say

    def count(self, service: str, pattern: str) -> int:
        """How many lines of the service fit."""
        return sum(1 for _ in self.matches(service, pattern))

    def matches(self, service: str, pattern: str) -> Iterator[re.Match[str]]:
        """The places in the service's lines that fit."""
        for who, text in list(self._lines):
            if who == service and (match := re.search(pattern, text)):
                yield match

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait for a line that makes ``done()`` true; False when none came in time."""
        until = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(done, max(0.0, until - time.monotonic()))

    def complete(self) -> bool:
        """Whether everything that must happen has happened."""
        return not self.problems()

    def story(self) -> Iterator[tuple[str, list[Line]]]:
        """Chapters with their lines, each in the order in which it was said."""
        for title, wanted in CHAPTERS:
            lines = [
                (service, text)
                for service, pattern in wanted
                for who, text in self._lines
                if who == service and text not in ("ready", "(ended)") and re.search(pattern, text)
            ]
            yield title, lines

    def totals(self) -> dict[str, int]:
        """What was counted."""
        return {
            "registrations published": self.count("users", r"^published .* for "),
            "welcome mails": self.count("emails", "welcome"),
            "mails tried again": self.count("emails", "failed"),
            "customers counted": self.count("analytics", "is number"),
            "quotes answered": self.count("pricing", "^asked"),
            "quotes received": self.count("users", "^asked"),
            "dead letters": self.count("support", "^given up"),
        }

    def problems(self) -> list[str]:
        """What does not add up; empty when all is well."""
        customers = len(CUSTOMERS)
        expected = dict.fromkeys(self.totals(), customers) | {"mails tried again": 1, "dead letters": 1}
        found = [
            f"{name}: {number} instead of {expected[name]}"
            for name, number in self.totals().items()
            if number != expected[name]
        ]
        mailed = {m[1] for m in self.matches("emails", r"^mail to (\S+)@\S+: welcome")}
        if missing := sorted({name.lower() for name, *_ in CUSTOMERS} - mailed):
            found.append(f"no mail went to {', '.join(missing)}")
        answered = sorted(f"{m[1]}: {m[2]}" for m in self.matches("pricing", "^asked for (.*): answered (.*)"))
        received = sorted(f"{m[1]}: {m[2]}" for m in self.matches("users", "^asked for (.*): (.*)"))
        if answered != received:
            found.append(f"answers {answered} are not those received: {received}")
        return found
