"""The scenarios of the conformance suite, by subject. Each is written once, and played on both buses."""

from __future__ import annotations

from eventbus.testing.scenarios.batches import Batches
from eventbus.testing.scenarios.dead_letters import InspectedDeadLetters
from eventbus.testing.scenarios.delays import Delays
from eventbus.testing.scenarios.failures import Failures
from eventbus.testing.scenarios.groups import Groups
from eventbus.testing.scenarios.handlers import Handlers
from eventbus.testing.scenarios.kinds import Kinds
from eventbus.testing.scenarios.lifecycle import Lifecycle
from eventbus.testing.scenarios.losses import Losses
from eventbus.testing.scenarios.messages import Messages
from eventbus.testing.scenarios.ordering import Ordering
from eventbus.testing.scenarios.partitions import Partitions
from eventbus.testing.scenarios.publishing import Publishing
from eventbus.testing.scenarios.replies import Replies
from eventbus.testing.scenarios.requests import Requests
from eventbus.testing.scenarios.routing import Routing
from eventbus.testing.scenarios.settling import Settling


class Scenarios(
    Publishing,
    Messages,
    Routing,
    Groups,
    Settling,
    Failures,
    Delays,
    Losses,
    Handlers,
    Requests,
    Replies,
    Lifecycle,
    Kinds,
    Ordering,
    Partitions,
    Batches,
    InspectedDeadLetters,
):
    """All of them."""


__all__ = ["Scenarios"]
