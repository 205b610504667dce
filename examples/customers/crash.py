"""The demo's second act: a service is killed while it works, and everything that was confirmed is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from examples.customers.emails import STUCK
from examples.customers.processes import PATIENCE, DemoFailed, Service
from examples.customers.transcript import Line, Transcript

HALF = 100
"""Customers that register before the service is killed, and again while it is dead."""

_STUCK = rf"^mail to {STUCK.lower().replace(' ', '-')}@\S+: no answer"


class Crash:
    """What happened when the email service was killed; ``said`` is what the services told meanwhile."""

    def __init__(self) -> None:
        self.said = Transcript()
        self._story: list[Line] = []

    def play(self, services: dict[str, Service], start: Callable[..., Service]) -> None:
        """Kill the email service while a crowd registers, start it again, and wait until all mails are out.

        ``services`` are those that run; the killed one is replaced. ``start(name, transcript, *arguments)`` starts one.

        :raises DemoFailed: something did not happen.
        """
        for service in services.values():
            service.transcript = self.said
        self._tell("users", f"register {HALF} customers, one after the other")
        first = start("users", self.said, "1", str(HALF))
        self._wait(lambda: self.said.count("emails", _STUCK) > 0, "the email service did not reach the mail server")
        services["emails"].kill()  # it holds the delivery that it works on, and some that it has fetched ahead
        self._tell("emails", f"mail to {STUCK}: no answer from the mail server")
        sent = len(self._mailed())
        self._tell("demo", f"kills the email service with SIGKILL while it holds deliveries; it has sent {sent} mails")
        first.wait(PATIENCE)
        start("users", self.said, str(HALF + 1), str(2 * HALF)).wait(PATIENCE)
        self._tell("users", f"register more, while nobody sends mail: {len(self._confirmed())} confirmed in all")
        services["emails"] = start("emails", self.said)
        services["emails"].wait_ready()
        self._tell("demo", "starts the email service again")
        self.said.wait_until(lambda: not self.problems(), PATIENCE)
        marked = self.totals()["came again, marked"]
        self._tell("emails", f"{len(set(self._mailed()))} customers have mail; {marked} deliveries came a second time")

    def _wait(self, done: Callable[[], bool], failure: str) -> None:
        if not self.said.wait_until(done, PATIENCE):
            raise DemoFailed(f"{failure} within {PATIENCE:g} s")

    def _tell(self, who: str, text: str) -> None:
        self._story.append((who, text))

    def story(self) -> tuple[str, list[Line]]:
        """The chapter: its title and its lines."""
        return "A service is killed while it works: nothing is lost, and what comes again is marked", self._story

    # -- the count ------------------------------------------------------------------------------------------

    def _confirmed(self) -> list[str]:
        return [match[1] for match in self.said.matches("users", r"^published \S+ for Customer (\d+): confirmed$")]

    def _mails(self) -> Iterator[tuple[str, bool]]:
        """Each mail: to which customer, and whether its delivery was marked as redelivered."""
        for match in self.said.matches("emails", r"^mail to customer-(\d+)@\S+: welcome.*?(, redelivered)?\)$"):
            yield match[1], match[2] is not None

    def _mailed(self) -> list[str]:
        return [number for number, _ in self._mails()]

    def _counted(self) -> list[str]:
        return [match[1] for match in self.said.matches("analytics", r"^Customer (\d+) is number")]

    def totals(self) -> dict[str, int]:
        """What was counted."""
        confirmed, mailed = set(self._confirmed()), self._mailed()
        return {
            "crowd: confirmed": len(confirmed),
            "handled by emails": len(confirmed & set(mailed)),
            "handled by analytics": len(confirmed & set(self._counted())),
            "lost": len(confirmed - set(mailed)) + len(confirmed - set(self._counted())),
            "came again, marked": sum(marked for _, marked in self._mails()),
            "of these, mailed before": len(mailed) - len(set(mailed)),
        }

    def problems(self) -> list[str]:
        """What does not add up; empty when all is well."""
        confirmed, found = self._confirmed(), []
        if len(confirmed) != 2 * HALF:
            found.append(f"registrations confirmed: {len(confirmed)} instead of {2 * HALF}")
        for group, handled in (("emails", self._mailed()), ("analytics", self._counted())):
            if lost := sorted(set(confirmed) - set(handled), key=int):
                found.append(f"lost by {group}: {', '.join(lost)}")
        # Only the first delivery of a message is without a mark, and nobody has killed analytics.
        first_mails = [number for number, marked in self._mails() if not marked]
        for group, handled in (("emails", first_mails), ("analytics", self._counted())):
            if twice := sorted((number for number, times in Counter(handled).items() if times > 1), key=int):
                found.append(f"handled again by {group}, without a mark: {', '.join(twice)}")
        if not any(marked for _, marked in self._mails()):
            found.append("nothing came again: the service was killed while it held nothing")
        return found
