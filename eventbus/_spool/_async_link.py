"""The link with a spool, for one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from eventbus._message import Message
from eventbus._spool._core import SpoolCore
from eventbus._spool._values import SpoolHealth, SpoolSettings
from eventbus.transport import AsyncLink, LinkSettings, StatusListener, Transport


class SpoolAsyncLink(SpoolCore[AsyncLink]):
    """See :class:`eventbus.transport.AsyncLink`."""

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
        self._changed = asyncio.Event()
        self.main = transport.async_link(settings, self._main_changed)
        self._store.link = self._kept_by = spool.transport.async_link(settings, self._store_changed)

    def _step(self, decide: Callable[..., None], *arguments: object) -> None:
        super()._step(decide, *arguments)
        self._changed.set()

    async def wait_ready(self, timeout: float) -> None:
        """Until store and broker are connected and every consumer runs; raises as a link does."""
        until = time.monotonic() + timeout
        await self._kept_by.wait_ready(timeout)
        await self.main.wait_ready(max(0.0, until - time.monotonic()))

    async def stop_consuming(self, timeout: float) -> None:
        """Cancel all consumers of the bus but ordered ones and that of replies."""
        await self.main.stop_consuming(timeout)

    async def flush(self, timeout: float) -> bool:
        """Until settlements are written, and what was sent from the spool has its outcome. Nothing more is sent."""
        until = time.monotonic() + timeout
        self._step(self._halt)
        await self._until(self._landed, until)
        flushed = await self.main.flush(max(0.0, until - time.monotonic()))
        if self._store.broken:
            return flushed
        return await self._kept_by.flush(max(0.0, until - time.monotonic())) and flushed

    async def close(self, timeout: float) -> None:
        """Close both links within ``timeout`` seconds; what has no outcome goes into the spool first."""
        until = time.monotonic() + timeout
        self._step(self._end)
        await self._until(self._all_kept, until - timeout / 2)
        self._tell_health()
        await self.main.close(max(0.0, (until - time.monotonic()) / 2))
        await self._kept_by.close(max(0.0, until - time.monotonic()))

    async def _until(self, check: Callable[[], bool], until: float) -> None:
        while not check() and (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return
            self._changed.clear()
