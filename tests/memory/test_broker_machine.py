"""Random histories of a broker, against a model that only knows where each message may be."""

from __future__ import annotations

from typing import Any

from eventbus_memory import Consumer, ManualClock, MemoryBroker
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eventbus.transport import Ack, DeadLetter, Incoming, Message, Queue, Requeue, RetryIn, Settlement


class BrokerMachine(RuleBasedStateMachine):
    """Every message is somewhere: waiting, at a consumer, in a delay, dead, or acked."""

    @initialize(kind=st.sampled_from(["quorum", "classic"]), limit=st.sampled_from([None, 2]))
    def begin(self, kind: Any, limit: int | None) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(clock=self.clock)
        self.broker.declare(Queue(name="q", type=kind, dead_letter="dead", delivery_limit=limit))
        self.published: set[str] = set()
        self.acked: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.delivered_before: set[str] = set()
        self.fresh_copies: set[str] = set()
        self.at: dict[Consumer, list[Incoming]] = {}

    @rule(ttl=st.sampled_from([None, None, 1.0, 3.0]))
    def publish(self, ttl: float | None) -> None:
        name = f"m{len(self.published)}"
        self.published.add(name)
        assert self.broker.publish(Message(exchange="", topic="q", body=b"", id=name, type="t", ttl=ttl)) is None

    @rule(prefetch=st.integers(1, 3))
    def subscribe(self, prefetch: int) -> None:
        def deliver(incoming: Incoming) -> None:
            name = incoming.message.id
            # Doubles are marked; a copy made for a retry is a new message to the broker.
            assert incoming.redelivered or name not in self.delivered_before or name in self.fresh_copies
            self.fresh_copies.discard(name)
            self.delivered_before.add(name)
            self.at[consumer].append(incoming)

        consumer = Consumer(f"c{len(self.at)}", deliver=deliver, prefetch=prefetch)
        self.at[consumer] = []
        self.broker.consume("q", consumer)

    @precondition(lambda self: any(self.at.values()))
    @rule(data=st.data(), how=st.sampled_from(["ack", "requeue", "retry", "delay", "dead", "verbatim"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        consumer = data.draw(st.sampled_from([c for c, held in self.at.items() if held]))
        incoming = self.at[consumer].pop(data.draw(st.integers(0, len(self.at[consumer]) - 1)))
        name = incoming.message.id
        if how == "ack":
            self.acked.add(name)
        elif how == "delay":
            self.delayed[name] = self.clock.now() + 2.0
        if how in ("retry", "delay"):
            self.fresh_copies.add(name)
        settlements: dict[str, Settlement] = {
            "ack": Ack(),
            "requeue": Requeue(),
            "retry": RetryIn(),
            "delay": RetryIn(delay=2.0),
            "dead": DeadLetter(reason="no"),
            "verbatim": DeadLetter(reason="no", verbatim=True),
        }
        assert self.broker.settle(incoming, settlements[how])
        assert not self.broker.settle(incoming, Ack())

    @precondition(lambda self: self.at)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        consumer = data.draw(st.sampled_from(list(self.at)))
        lost = self.at.pop(consumer)
        self.broker.drop(consumer)
        assert not any(self.broker.settle(incoming, Ack()) for incoming in lost)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5]))
    def wait(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        self.delayed = {name: due for name, due in self.delayed.items() if due > until}
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_lost_and_nothing_is_in_two_places(self) -> None:
        waiting = [m.id for queue in ("q", "dead") for m in self.broker.messages(queue)]
        held = [incoming.message.id for held in self.at.values() for incoming in held]
        everywhere = [*waiting, *held, *self.delayed, *self.acked]
        assert sorted(everywhere) == sorted(self.published)

    @invariant()
    def limits_hold_and_nobody_waits_beside_work(self) -> None:
        snapshot = self.broker.queue("q")
        assert snapshot.unsettled == sum(map(len, self.at.values()))
        for consumer, held in self.at.items():
            assert len(held) <= consumer.prefetch
            assert len(held) == consumer.prefetch or snapshot.ready == 0


BrokerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_random_histories_lose_nothing_and_double_nothing = BrokerMachine.TestCase
