"""The links that this instance holds: it beats for them, takes free ones over, opens and closes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.ownership import BEAT_SHARE, Owner, Taken
from dispatcher.store import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.settings import LinkSettings
    from dispatcher.claim import Claimer
    from dispatcher.inbound import InboundDesk
    from dispatcher.loops import Signals
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.pauses import Pauses
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.record import Record
    from dispatcher.reload import Reloaded
    from dispatcher.settle import Settler
    from dispatcher.store import Connection
    from gateway import Gateway

log = structlog.get_logger()

CANDIDATES_S = 1.0
SENT_BEFORE_S = 2.0  # of the local record: what a restarted link's throttle must count


class Holdings:
    """The open links of one instance, and its right to them."""

    def __init__(
        self,
        *,
        owner: Owner,
        links: dict[str, LinkSettings],
        gateway: Gateway,
        claimer: Claimer,
        settler: Settler,
        receipts: ReceiptDesk,
        inbound: InboundDesk,
        pauses: Pauses,
        record: Record,
        metrics: DispatcherMetrics,
        takeover_s: float,
        signals: Signals,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._links = links  # what everyone reads; it is changed here alone
        self._gateway = gateway
        self._claimer = claimer
        self._settler = settler
        self._receipts = receipts
        self._inbound = inbound
        self._pauses = pauses
        self._record = record
        self._metrics = metrics
        self._takeover_s = takeover_s
        self._signals = signals
        self._clock = clock
        self._changing = asyncio.Lock()  # links are taken, closed and opened one after the other

    async def keep(self, connection: Connection) -> None:
        """Beat for what is ours and look for what is free, until the connection breaks."""
        beat_at = candidates_at = 0.0
        while True:
            now = self._clock()
            if now >= beat_at:
                beat_at = now + BEAT_SHARE * self._takeover_s
                states = {name: link.state for name, link in self._gateway.links.items()}
                for lost in await self._owner.beat(connection, states):
                    self._claimer.forget(lost)
                    await self._gateway.close(lost, 0.0)
            if now >= candidates_at and not self._signals.stopping.is_set():
                candidates_at = now + CANDIDATES_S
                async with self._changing:
                    await self._take_links(connection)
            await asyncio.sleep(0.1)

    async def _take_links(self, connection: Connection) -> None:
        """Take over what is free; open it once everything that we owned before is accounted for."""
        taken: dict[str, Taken] = {}
        for name in await self._owner.candidates(connection):
            link = await self._owner.take(connection, name, self._settler)
            if link is not None:
                taken[name] = link
        now = self._clock()
        if not self._record.is_recovered:
            try:
                self._record.recovered(now)
            except OSError as error:
                log.error("record_failed", error=error.strerror)  # tried again; a kill until then leaves more doubt
        if not taken:
            return
        await self._receipts.restore(connection, taken)
        await self._inbound.restore(connection, taken)
        for name, link in taken.items():
            sent_at = self._record.replay.sent_at(name, now - SENT_BEFORE_S) if link.recorded else None
            if name not in self._gateway:
                self._pauses.apply(self._gateway.open(self._links[name], sent_at=sent_at))

    async def reload(self, reloaded: Reloaded, url: str) -> None:
        """Carry over what a changed file says of the links. Sessions of links that it leaves alone stay."""
        for link in reloaded.changed:
            self._links[link.name] = link
            if link.name in self._gateway:
                self._gateway[link.name].reconfigure(link)
        for link in reloaded.added:
            self._links[link.name] = link
        self._metrics.prepare([link.name for link in reloaded.added], [])
        self._receipts.links_changed()
        async with self._changing:
            await asyncio.gather(*map(self._bind_anew, reloaded.bound_anew))
            if reloaded.removed:
                await self._remove(reloaded.removed, url)
        self._receipts.links_changed()
        self._signals.wake_claims()

    async def _bind_anew(self, settings: LinkSettings) -> None:
        """Close the link in order and open it again under the same ownership."""
        name = settings.name
        before = self._gateway.links.get(name)
        if before is None:
            self._links[name] = settings
            return
        await self._gateway.close(name, before.settings.response_timeout_s)
        self._links[name] = settings  # texts claimed before were cut for the link as it was
        if name in self._owner.epochs and not self._signals.stopping.is_set():
            self._pauses.apply(self._gateway.open(settings, sent_at=before.sent_at))

    async def _remove(self, names: Sequence[str], url: str) -> None:
        """Close links in order and give them back; what waits for them stays under their names."""
        for name in names:
            if name in self._gateway:
                await self._gateway.close(name, self._links[name].response_timeout_s)
            await self._settler.emptied(name)
        ours = [name for name in names if name in self._owner.epochs]
        if ours:
            try:
                connection = await connect(url)
                try:
                    await self._owner.give_back(connection, ours)
                finally:
                    await connection.close()
            except StoreUnavailable as error:  # nobody beats for it any more: free to all after takeover_s
                log.warning("link_not_given_back", links=list(ours), problem=str(error))
                self._owner.drop(ours)
        for name in names:
            self._claimer.forget(name)
            self._metrics.forget_link(name)
            self._gateway.metrics.forget(name)
            del self._links[name]
