"""The links that this instance holds: it beats for them, takes free ones over, opens and closes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from dispatcher.ownership import BEAT_SHARE, Owner, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.settings import LinkSettings
    from dispatcher.claim import Claimer
    from dispatcher.inbound import InboundDesk
    from dispatcher.loops import Signals
    from dispatcher.pauses import Pauses
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.record import Record
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
        links: Mapping[str, LinkSettings],
        gateway: Gateway,
        claimer: Claimer,
        settler: Settler,
        receipts: ReceiptDesk,
        inbound: InboundDesk,
        pauses: Pauses,
        record: Record,
        takeover_s: float,
        signals: Signals,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._links = links
        self._gateway = gateway
        self._claimer = claimer
        self._settler = settler
        self._receipts = receipts
        self._inbound = inbound
        self._pauses = pauses
        self._record = record
        self._takeover_s = takeover_s
        self._signals = signals
        self._clock = clock

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
