"""Several workers, each a process: started, watched, started again when one dies, and stopped together."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from eventbus._bus._health import StopReport
from eventbus._cli import exits
from eventbus._cli.serving.health import Board
from eventbus._cli.serving.place import Place
from eventbus._cli.serving.plan import (
    GIVE_UP_AFTER,
    SOON_SECONDS,
    Outcome,
    Plan,
    code_of,
    deaths_in_a_row,
    how_died,
    how_ended,
    pause_after,
)

log = logging.getLogger("eventbus.run")


class Supervisor:
    """Runs the workers of a plan until it is told to stop."""

    def __init__(self, plan: Plan, board: Board) -> None:
        self._plan = plan
        self._board = board
        self._places = [Place(name, app, plan.grace, plan.debug) for name, app in plan.places()]
        self._outcome = Outcome(exits.DONE)
        self._stops_asked = self._stops_done = 0
        self._changes_asked = self._changes_done = 0
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._woken, False)

    # -- from outside: signal handlers and threads only ask, the loop does it ---------------------------------

    def stop(self) -> None:
        """All workers shall drain; a second time: stop at once; a third: be killed."""
        self._stops_asked += 1
        self._wake()

    def reload(self, changed: Sequence[str]) -> None:
        """Stop the workers in order and start them again, with the code as it is now."""
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        log.info("%s%s changed: starting again", os.path.relpath(changed[0]) if changed else "code", more)
        self._changes_asked += 1
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            pass  # it is full, so the loop wakes anyway

    # -- the loop ---------------------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._stops_done > 0

    def run(self) -> Outcome:
        """Until all have ended."""
        for place in self._places:
            place.due = time.monotonic()
        try:
            while self._goes_on():
                self._do_what_was_asked()
                self._do_what_is_due()
                self._wait()
        finally:
            for place in self._places:
                if place.process is not None:  # only after an error of ours
                    place.kill()
        return self._outcome

    def _goes_on(self) -> bool:
        for_changes = self._plan.reload and not self._stopping
        return for_changes or any(place.process is not None or place.due for place in self._places)

    def _do_what_was_asked(self) -> None:
        while self._stops_done < self._stops_asked:
            self._stops_done += 1
            for place in self._places:
                place.due = 0.0
                if self._stops_done > 2:
                    place.kill()
                else:
                    place.ask_to_end(None if self._stops_done == 1 else 0.0)
        if self._changes_done < self._changes_asked:
            self._changes_done = self._changes_asked
            if not self._stopping:
                self._replace_all()

    def _replace_all(self) -> None:
        for place in self._places:
            place.deaths = 0
            if place.process is None:
                place.due = time.monotonic()
            elif not place.replaced:  # asked twice, it would not drain
                place.replaced = True
                place.ask_to_end()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.due and place.due <= now and not self._stopping:
                self._board.expect(place.name)
                place.start()
            if place.kill_when_late():
                log.error("%s: did not end in time, and is killed", place.name)

    def _wait(self) -> None:
        sources: dict[Any, Callable[[], object]] = {self._woken: self._clear}
        for place in self._places:
            if place.process is not None:
                sources[place.process.sentinel] = partial(self._ended, place)
            if place.pipe is not None:
                sources[place.pipe] = partial(self._heard, place)
        looks = [place.next_look for place in self._places if place.next_look is not None]
        if not looks and not self._goes_on():
            return
        pause = max(0.0, min(looks) - time.monotonic()) if looks else None
        ready = wait(list(sources), pause)
        for source in sorted(ready, key=lambda found: isinstance(found, int)):  # what was said before an end first
            sources[source]()

    def _clear(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass

    # -- what workers do --------------------------------------------------------------------------------------

    def _heard(self, place: Place) -> None:
        if place.pipe is None:
            return
        try:
            kind, value = place.pipe.recv()
        except (EOFError, OSError):
            place.hung_up()
            return
        match kind:
            case "health":
                if self._board.note(place.name, value):
                    log.info("%s: %s (process %d)", place.name, value["status"], place.pid)
            case "begun":
                place.grace, reaches_others = value
                if not reaches_others and len(self._places) > 1:
                    log.warning("%s: its transport does not reach other processes: it is on its own", place.name)
            case "failed":
                place.failure = value
            case "ended":
                place.report = StopReport(abandoned=value[0], unknown=value[1])

    def _ended(self, place: Place) -> None:
        while place.pipe is not None and place.pipe.poll():
            self._heard(place)
        lived = place.lived
        code = place.ended()
        self._board.expect(place.name)
        if place.failure is not None:
            self._failed(Outcome(*place.failure))
        elif self._stopping or place.replaced:
            self._ended_as_asked(place, code)
        else:
            self._died(place, code, lived)

    def _ended_as_asked(self, place: Place, code: int) -> None:
        log.info("%s: %s", place.name, how_ended(place.report) if place.report else f"ended by {how_died(code)}")
        if not self._stopping:
            place.due = time.monotonic()
            return
        worst = code_of(place.report) if place.report is not None else (exits.FAILED if code else exits.DONE)
        self._outcome = self._outcome.joined(Outcome(worst))

    def _died(self, place: Place, code: int, lived: float) -> None:
        place.deaths = deaths_in_a_row(place.deaths, lived)
        pause = pause_after(place.deaths)
        how = how_died(code)
        if pause is None:
            why = f"{place.name} died {GIVE_UP_AFTER} times in a row within {SOON_SECONDS:.0f} s of its start"
            self._failed(Outcome(exits.FAILED, f"{why}, the last time by {how}"))
            return
        log.error("%s: ended by %s; another starts in %.1f s", place.name, how, pause)
        place.due = time.monotonic() + pause

    def _failed(self, outcome: Outcome) -> None:
        if self._plan.reload and not self._stopping:
            log.error("%s; waiting for a change of the code", outcome.error)
            return
        first = self._outcome.code == exits.DONE
        self._outcome = self._outcome.joined(outcome)
        if first and not self._stopping:
            self.stop()
