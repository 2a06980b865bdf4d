"""The links that this process has open, by name."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from gateway.link import Link
from gateway.metrics import GatewayMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from config.settings import LinkSettings
    from gateway.observer import LinkObserver

log = structlog.get_logger(__name__)


class Gateway:
    """Opens and closes links, and keeps the task of each."""

    def __init__(self, observer: LinkObserver, metrics: GatewayMetrics | None = None) -> None:
        self.metrics = GatewayMetrics() if metrics is None else metrics
        self._observer = observer
        self._links: dict[str, Link] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def links(self) -> Mapping[str, Link]:
        """The open links by name."""
        return MappingProxyType(self._links)

    def __getitem__(self, name: str) -> Link:
        """Return the open link of this name. Raises KeyError."""
        return self._links[name]

    def __contains__(self, name: object) -> bool:
        """Say whether a link of this name is open."""
        return name in self._links

    def open(self, settings: LinkSettings, *, sent_at: Sequence[float] | None = None) -> Link:
        """Begin to keep a link bound; `sent_at` as for Link. A name may be open once."""
        assert settings.name not in self._links
        link = Link(settings, self._observer, metrics=self.metrics.link(settings.name), sent_at=sent_at)
        task = asyncio.get_running_loop().create_task(link.run(), name=f"link {settings.name}")
        self._links[settings.name] = link
        self._tasks[settings.name] = task
        task.add_done_callback(self._look_why_it_ended)
        return link

    async def close(self, name: str, timeout_s: float) -> None:
        """Stop a link in order (`Link.stop`); 0 seconds leave no time for answers, but for the unbind."""
        if name not in self._links:
            return  # somebody else has closed it
        link, task = self._links[name], self._tasks[name]
        try:
            await link.stop(timeout_s)
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._links.pop(name, None)
            self._tasks.pop(name, None)

    async def close_all(self, timeout_s: float) -> None:
        """Stop all links at the same time."""
        await asyncio.gather(*(self.close(name, timeout_s) for name in self._links))

    def _look_why_it_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("link_failed", task=task.get_name(), exc_info=error)
