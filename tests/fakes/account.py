"""A link, its SMSC and its observer, up and bound."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from config.settings import LinkSettings
from gateway import Link, LinkMetrics
from tests.fakes.observer import Recorder
from tests.fakes.smsc import Smsc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Account:
    """What a test of a link looks at."""

    def __init__(self, smsc: Smsc, *, sent_at=(), **settings) -> None:
        usual = {
            "name": "carrier-a",
            "hosts": ("127.0.0.1",),
            "port": smsc.port,
            "system_id": "clinic",
            "password": "secret-word",
            "rebind_delay_s": 0.05,
            "throughput_per_s": 1000,
        }
        self.smsc = smsc
        self.seen = Recorder()
        self.metrics = LinkMetrics()
        self.link = Link(LinkSettings(**(usual | settings)), self.seen, metrics=self.metrics, sent_at=sent_at)

        take = self.link._binds._on_events

        def take_and_wake(live, events) -> None:
            take(live, events)
            self.seen.wake()

        self.link._binds._on_events = take_and_wake

    async def until_bound(self) -> None:
        await self.seen.until(lambda: self.link.is_bound)


@contextlib.asynccontextmanager
async def account(
    *, bound: bool = True, prepare: Callable[[Smsc], object] = lambda _: None, **settings: Any
) -> AsyncIterator[Account]:
    """Run a link for the length of a test."""
    async with Smsc() as smsc:
        prepare(smsc)
        opened = Account(smsc, **settings)
        task = asyncio.create_task(opened.link.run())
        try:
            if bound:
                await opened.until_bound()
            yield opened
        finally:
            task.cancel()
            await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()
