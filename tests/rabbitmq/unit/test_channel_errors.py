"""What the broker says when it closes a channel, and whether it is worth another try."""

from __future__ import annotations

import pytest
from eventbus_rabbitmq._errors import MissingEntity, channel_error

from eventbus import AccessRefused, ConnectionFailed, TopologyMismatch
from eventbus._supervisor import FailureKind


@pytest.mark.parametrize(
    "text",
    [
        # RabbitMQ 4.0, when a quorum queue has no leader; RabbitMQ 3.10, when the node of a classic queue is down.
        "NOT_FOUND - failed to perform operation on queue 'q' in vhost '/': its leader {q,'rabbit@a'} may be stopping "
        "or being demoted",
        "NOT_FOUND - home node 'rabbit@a' of durable queue 'q' in vhost '/' is down or inaccessible",
    ],
)
def test_a_queue_that_is_away_for_a_while_is_tried_again(text: str) -> None:
    error, kind = channel_error(404, text, "queue 'q'")
    assert isinstance(error, ConnectionFailed)
    assert kind is FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", MissingEntity),
        (403, "ACCESS_REFUSED - read access to queue 'q' refused", AccessRefused),
        (406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q'", TopologyMismatch),
    ],
)
def test_what_only_somebody_can_mend_is_said_and_not_tried_again(code: int, text: str, expected: type) -> None:
    error, kind = channel_error(code, text, "queue 'q'")
    assert isinstance(error, expected)
    assert kind is FailureKind.FATAL
