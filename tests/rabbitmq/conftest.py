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
    tls = LocalTLS(cafile=certificates.ca, certfile=certificate, keyfile=key)
    # RabbitMQ 4 takes 16 MiB unless told otherwise; 3.10 took more.
    with LocalBroker(tls=tls, config={"max_message_size": str(128 << 20)}) as broker:
        yield broker
