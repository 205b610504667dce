"""The login, as a service does it: user, password or certificate, and virtual host."""

from __future__ import annotations

import logging

from eventbus import AccessRefused, ConfigurationError, ConnectionFailed, EventBus, LoginRefused, TLSNotVerified
from eventbus_rabbitmq_admin._doctor.findings import Finding, failed, passed


def login(url: str, vhost: str, timeout: float) -> Finding:
    """Connect as a service does, and leave again."""
    bus = EventBus(url, service="eventbus-doctor")
    log = logging.getLogger("eventbus")
    before = log.level
    log.setLevel(logging.CRITICAL)  # what it would say of each attempt, the finding says once
    try:
        bus.start(timeout=timeout)
    except LoginRefused as error:
        return failed(
            "login", str(error), "mend user, password or virtual host; see rabbitmqctl list_users and list_vhosts"
        )
    except TLSNotVerified as error:
        return failed("login", str(error), "eventbus certs inspect shows what a certificate says")
    except (ConnectionFailed, AccessRefused, ConfigurationError) as error:
        return failed("login", str(error), "see the findings above")
    finally:
        bus.stop(1.0)
        log.setLevel(before)
    return passed("login", f"into virtual host {vhost!r}")
