"""Dead letters: looked at without harm, and sent again to the group that failed."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus._delivery import Delivery
from eventbus._errors import TopologyMismatch
from eventbus._settlement import Retry
from eventbus.dead_letters import AsyncDeadLetters, DeadLetters
from eventbus.testing._eventually import eventually
from eventbus.testing._facade import Bus
from eventbus.testing._features import needs
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios.samples import Number, Seen


class InspectedDeadLetters:
    """What :class:`eventbus.transport.InspectsQueues` promises, seen through the tools that need it."""

    def _letters(self, stage: Stage, bus: Bus) -> Any:
        made = (AsyncDeadLetters if stage.is_async else DeadLetters)(bus.real)

        class Called:
            def __getattr__(self, name: str) -> Any:
                return lambda *args, **kwargs: stage.runner.call(getattr(made, name), *args, **kwargs)

        return Called()

    @needs("inspects")
    def test_a_replayed_dead_letter_comes_to_the_group_that_failed_alone(self, stage: Stage) -> None:
        event, seen = stage.event(Number), Seen[tuple[str, str, int, str]]()
        failing, other = stage.bus(), stage.bus(service=stage.name("other"))
        mended: list[bool] = []

        @failing.subscribe(event, retry=Retry(attempts=2, backoff=None))
        def fail(number: Number, delivery: Delivery) -> None:
            seen.add(("failing", delivery.id, delivery.attempt, delivery.topic))
            if not mended:
                raise ValueError("not yet")

        @other.subscribe(event)
        def take(number: Number, delivery: Delivery) -> None:
            seen.add(("other", delivery.id, delivery.attempt, delivery.topic))

        failing.start()
        other.start().publish(event(1))
        letters = self._letters(stage, failing)
        (dead,) = eventually(letters.list, 10)
        assert (dead.queue, dead.error_type, dead.error, dead.attempts) == (
            stage.queue_of(event), "ValueError", "not yet", 2,
        )  # fmt: skip
        mended.append(True)
        assert letters.replay().done == 1
        seen.wait(4)
        assert letters.list().looked_at == 0
        one = [(dead.id, number, dead.topic) for number in (1, 2, 1)]
        assert [entry[1:] for entry in seen.all if entry[0] == "failing"] == one
        assert [entry[1:] for entry in seen.all if entry[0] == "other"] == one[:1]

    @needs("inspects")
    def test_dead_letters_keep_their_place_when_they_are_looked_at(self, stage: Stage) -> None:
        event = stage.event(Number)
        bus = stage.bus(retry=Retry(attempts=1))

        @bus.subscribe(event)
        def fail(number: Number) -> None:
            raise ValueError(number.value)

        bus.start()
        for value in range(45):
            bus.publish(event(value))
        letters = self._letters(stage, bus)
        eventually(lambda: letters.list(limit=0).matched == 45, 20)
        bus.stop(5.0)
        orders = []
        for _ in range(22):  # some brokers drop what has come back 20 times
            order: list[str] = []
            assert letters.discard(dry_run=True, moved=lambda dead, to=order: to.append(dead.id)).done == 45
            orders.append(order)
        assert all(order == orders[0] for order in orders)
        assert letters.discard().done == 45
        assert letters.list().looked_at == 0

    @needs("inspects")
    def test_looking_for_dead_letters_declares_nothing(self, stage: Stage) -> None:
        queue = stage.name("nobody")
        made = (AsyncDeadLetters if stage.is_async else DeadLetters)(stage.transport, queues=[queue])
        for _ in range(2):
            with pytest.raises(TopologyMismatch, match=r"nobody\.dead"):
                stage.runner.call(made.list)
