"""pika's I/O services with one mend: a stream that cannot be set up ends its attempt, and not the I/O thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter


class Services(SelectorIOServicesAdapter):  # type: ignore[misc]
    """What :class:`pika.SelectConnection` makes for itself around an I/O loop."""

    def create_streaming_connection(
        self, protocol_factory: Any, sock: Any, on_done: Callable[[Any], None], *args: Any, **rest: Any
    ) -> Any:
        """As pika's.

        pika 1.4 raises in its loop when the peer has reset the connection between its TCP handshake and this call, as a
        load balancer without a backend does. (Its own call closes the socket then.)
        """
        try:
            return super().create_streaming_connection(protocol_factory, sock, on_done, *args, **rest)
        except (OSError, ValueError) as error:
            return self.call_later(0, partial(on_done, error))
