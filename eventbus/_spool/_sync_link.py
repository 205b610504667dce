"""The link with a spool, for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eventbus._message import Message
from eventbus._spool._core import SpoolCore
from eventbus._spool._values import SpoolHealth, SpoolSettings
from eventbus.transport import LinkSettings, StatusListener, SyncLink, Transport


class SpoolSyncLink(SpoolCore[SyncLink]):
    """See :class:`eventbus.transport.SyncLink`."""

    def __init__(
        self,
        transport: Transport,
        settings: LinkSettings,
        spool: SpoolSettings,
        on_status: StatusListener,
        on_spool: Callable[[SpoolHealth], None],
        unheard: Callable[[Message], None],
    ) -> None:
        super().__init__(spool, on_status, on_spool, unheard)
        self._changed = threading.Event()
        self.main = transport.sync_link(settings, self._main_changed)
        self._store.link = self._kept_by = spool.transport.sync_link(settings, self._store_changed)

    def _step(self, decide: Callable[..., None], *arguments: object) -> None:
        super()._step(decide, *arguments)
        self._changed.set()

    def wait_ready(self, timeout: float) -> None:
        """Until store and broker are connected and every consumer runs; raises as a link does."""
        until = time.monotonic() + timeout
        self._kept_by.wait_ready(timeout)
        self.main.wait_ready(max(0.0, until - time.monotonic()))

    def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers of the bus but ordered ones and that of replies."""
        self.main.stop_consuming(timeout)

    def flush(self, timeout: float) -> bool:
        """Until settlements are written, and what was sent from the spool has its outcome. Nothing more is sent."""
        until = time.monotonic() + timeout
        self._step(self._halt)
        self._until(self._landed, until)
        flushed = self.main.flush(max(0.0, until - time.monotonic()))
        if self._store.broken:
            return flushed
        return self._kept_by.flush(max(0.0, until - time.monotonic())) and flushed

    def close(self, timeout: float) -> None:
        """Close both links within ``timeout`` seconds; what has no outcome goes into the spool first."""
        until = time.monotonic() + timeout
        self._step(self._end)
        self._until(self._all_kept, until - timeout / 2)
        self._tell_health()
        self.main.close(max(0.0, (until - time.monotonic()) / 2))
        self._kept_by.close(max(0.0, until - time.monotonic()))

    def _until(self, check: Callable[[], bool], until: float) -> None:
        while not check() and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
            self._changed.clear()
