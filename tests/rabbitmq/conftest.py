"""A real RabbitMQ for the tests here. Without one they fail: a skipped broker test would hide a broken transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eventbus_rabbitmq.local_broker import LocalBroker, LocalTLS

from tests.rabbitmq.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made for this test run."""
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def broker(certificates: Certificates) -> Iterator[LocalBroker]:
    """A private node of this test run, with a TLS listener beside the plain one."""
    certificate, key = certificates.issue("broker", "localhost", "127.0.0.1")
    with LocalBroker(tls=LocalTLS(cafile=certificates.ca, certfile=certificate, keyfile=key)) as broker:
        yield broker
