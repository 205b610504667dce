"""The same broker as containers: the text of a compose file."""

from __future__ import annotations

import os

from eventbus_rabbitmq_admin._broker.state import Wish

DEFAULT_IMAGE = "rabbitmq:4.1"
GIVEN = "/given"
"""Where a container sees the folder ``rabbitmq``."""

# The image's user is another one than ours, and Erlang refuses a key that others may read: so the container's root
# hands out copies before the server starts.
_ENTRY = """\
      - sh
      - -ec
      - |
        mkdir -p /etc/rabbitmq/eventbus
        cp -r {given}/. /etc/rabbitmq/eventbus/
        cp {given}/rabbitmq.conf /etc/rabbitmq/conf.d/90-eventbus.conf
        cp {given}/enabled_plugins /etc/rabbitmq/enabled_plugins
        echo '{management}.ip = 0.0.0.0' > /etc/rabbitmq/conf.d/91-container.conf
        chown -R rabbitmq:rabbitmq /etc/rabbitmq
        exec docker-entrypoint.sh rabbitmq-server
"""


def compose_text(wish: Wish) -> str:
    """A compose file with a service for each node. Its ports are open on ``listen`` only."""
    image = os.environ.get("EVENTBUS_RABBITMQ_IMAGE", DEFAULT_IMAGE)
    inside = 5671 if wish.tls else 5672
    inside_management = 15671 if wish.tls else 15672
    text = "# Made by eventbus broker up; see docs/topology.md.\nservices:\n"
    for number in range(1, wish.size + 1):
        outside = inside + 10 * (number - 1)
        text += f"""\
  rabbit{number}:
    image: {image}
    hostname: rabbit{number}
    restart: unless-stopped
    entrypoint:
{_ENTRY.format(given=GIVEN, management="management.ssl" if wish.tls else "management.tcp")}\
    volumes:
      - ./rabbitmq:{GIVEN}:ro
      - rabbit{number}:/var/lib/rabbitmq
    ports:
      - "{wish.listen}:{outside}:{inside}"
      - "{wish.listen}:{wish.management_ports[number - 1]}:{inside_management}"
    healthcheck:
      test: ["CMD", "rabbitmq-diagnostics", "-q", "check_port_connectivity"]
      interval: 10s
      timeout: 15s
      retries: 12
"""
        if wish.size > 1:
            text += "    environment:\n"
            text += "      RABBITMQ_ERLANG_COOKIE: ${RABBITMQ_ERLANG_COOKIE:?set it to a secret of your own}\n"
    text += "volumes:\n" + "".join(f"  rabbit{number}: {{}}\n" for number in range(1, wish.size + 1))
    return text
