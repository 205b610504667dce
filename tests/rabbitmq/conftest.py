"""A real RabbitMQ for the tests here. Without one they fail: a skipped broker test would hide a broken transport."""

from collections.abc import Iterator

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    """A private node of this test run."""
    with LocalBroker() as broker:
        yield broker
