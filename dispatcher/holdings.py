"""The links that this instance holds: it beats for them, takes free ones over, opens and closes them.

A link that it holds beyond its share it hands over, one at a time and in order: claims stop and the waiting room goes
back to the queue, the window empties (a response time-out at most) and the sessions unbind, outcomes are settled, and
only then is the link free for the other one to bind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.ownership import BEAT_SHARE, Owner, Taken
from dispatcher.store import PINNED, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.settings import LinkSettings
    from dispatcher.claim import Claimer
    from dispatcher.inbound import InboundDesk
    from dispatcher.intake import Intake
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
LEAVING_S = 0.1  # between looks whether a link that is handed over is closed
EMPTIED_S = 0.01  # between looks whether memory holds no job of a closed link
HAND_OVER_EVERY_S = 4.0  # so that the links do not all pause at once
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
        intake: Intake,
        inbound: InboundDesk,
        pauses: Pauses,
        record: Record,
        metrics: DispatcherMetrics,
        takeover_s: float,
        signals: Signals,
        accounted: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._links = links  # what everyone reads; it is changed here alone
        self._gateway = gateway
        self._claimer = claimer
        self._settler = settler
        self._receipts = receipts
        self._intake = intake
        self._inbound = inbound
        self._pauses = pauses
        self._record = record
        self._metrics = metrics
        self._takeover_s = takeover_s
        self._signals = signals
        self._accounted = accounted  # told once all that an earlier process, or a lost primary, left is dealt with
        self._clock = clock
        self._leaving: dict[str, asyncio.Task[None]] = {}  # the link being handed over, and its closing
        self._hand_over_at = 0.0
        self._unopened: dict[str, Taken] = {}
        self._changing = asyncio.Lock()  # held while links are taken or given back: an end waits for what is half done

    async def beat(self, connection: Connection) -> None:
        """Beat for what is ours, whatever else takes its time, until the connection breaks."""
        while True:
            states = {name: link.state for name, link in self._gateway.links.items()}
            lost = await self._owner.beat(connection, states, drains=self._signals.stopping.is_set())
            for name in lost:
                self._claimer.forget(name)
                self._unopened.pop(name, None)
            # all at once: each may take the second that an unbind has, and the others' next beat waits for it
            await asyncio.gather(*(self._gateway.close(name, 0.0) for name in lost if name not in self._leaving))
            await asyncio.sleep(BEAT_SHARE * self._takeover_s)

    async def keep(self, connection: Connection) -> None:
        """Take what is free and give away what is beyond our share, until the connection breaks."""
        candidates_at = 0.0
        while True:
            now = self._clock()
            async with self._changing:
                if not self._signals.stopping.is_set():
                    if now >= candidates_at:
                        candidates_at = now + CANDIDATES_S
                        await self._take_links(connection)
                        self._choose_one_to_leave(now)
                    await self._leave(connection)
            await asyncio.sleep(LEAVING_S if self._leaving else max(LEAVING_S, candidates_at - self._clock()))

    async def give_all_back(self, connection: Connection) -> None:
        """Give back every link, all of them closed and settled, as an instance that ends."""
        async with self._changing:
            await self._give_back(connection, list(self._owner.epochs))
            await self._owner.leave(connection)

    async def _give_back(self, connection: Connection, names: Sequence[str]) -> None:
        """Give back links that are closed, each as soon as memory holds no job of it."""
        while waiting := [name for name in names if name in self._owner.epochs]:
            for name in waiting:
                if await self._owner.give_back(connection, name, self._is_empty):
                    self._claimer.forget(name)
            await asyncio.sleep(EMPTIED_S)

    def _is_empty(self, link: str) -> bool:
        return not self._claimer.holds(link)

    def _choose_one_to_leave(self, now: float) -> None:
        name = self._owner.surplus()
        if name is None or name not in self._gateway or self._leaving or now < self._hand_over_at:
            return
        self._hand_over_at = now + HAND_OVER_EVERY_S
        log.info("link_leaving", link=name)
        # what is written before the end of the window's answers has their whole time, and half of it again to unbind
        timeout_s = self._links[name].response_timeout_s * 1.5
        self._leaving[name] = asyncio.create_task(self._gateway.close(name, timeout_s), name=f"leave {name}")

    async def _leave(self, connection: Connection) -> None:
        """Give the link back that is being handed over, once it is closed and settled."""
        for name, closing in list(self._leaving.items()):
            if not closing.done():
                continue
            if name not in self._owner.epochs:  # lost meanwhile
                del self._leaving[name]
            elif self._is_empty(name) and await self._owner.give_back(connection, name, self._is_empty):
                del self._leaving[name]
                self._claimer.forget(name)
                self._hand_over_at = self._clock() + HAND_OVER_EVERY_S
                log.info("link_handed_over", link=name)

    async def _take_links(self, connection: Connection) -> None:
        """Take over what is free; open it once everything that we owned before is accounted for."""
        for name in await self._owner.candidates(connection):
            link = await self._owner.take(connection, name, self._settler)
            if link is not None:
                self._unopened[name] = link
        now = self._clock()
        if not self._record.is_recovered:
            if self._owner.aftermath is not None:
                await self._owner.aftermath.finish(connection)
            try:
                self._accounted()
                self._record.recovered(now)
            except OSError as error:
                log.error("record_failed", error=error.strerror)  # tried again; a kill until then leaves more doubt
        if not self._unopened:
            return
        await self._receipts.restore(connection, self._unopened)
        await self._intake.restore(connection, self._unopened)
        # an owner that ended in order has answered what it stored: an equal message that comes now is a new one
        await self._inbound.restore(connection, [name for name, link in self._unopened.items() if not link.orderly])
        for name, link in self._unopened.items():
            sent_at: list[float] | None = None
            if link.recorded:
                sent_at = self._record.replay.sent_at(name, now - SENT_BEFORE_S)
            elif link.epoch == 1:
                sent_at = []  # nobody had it before, so nothing was sent
            if name in self._owner.epochs and name not in self._gateway and not self._signals.stopping.is_set():
                self._pauses.apply(self._gateway.open(self._links[name], sent_at=sent_at))
        self._unopened.clear()

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
        if before is None or name in self._leaving:
            self._links[name] = settings
            return
        await self._gateway.close(name, before.settings.response_timeout_s)
        self._links[name] = settings  # texts claimed before were cut for the link as it was
        if name in self._owner.epochs and not self._signals.stopping.is_set():
            self._pauses.apply(self._gateway.open(settings, sent_at=before.sent_at))

    async def _remove(self, names: Sequence[str], url: str) -> None:
        """Close links in order and give them back; what waits for them stays under their names."""
        await asyncio.gather(*(self._gateway.close(name, self._links[name].response_timeout_s) for name in names))
        while any(name in self._owner.epochs for name in names):
            try:
                connection = await connect(url, PINNED)
                try:
                    await self._give_back(connection, names)
                finally:
                    await connection.close()
            except StoreUnavailable as error:
                log.warning("link_not_given_back", links=list(names), problem=str(error))
                await asyncio.sleep(CANDIDATES_S)
        for name in names:
            self._claimer.forget(name)
            self._metrics.forget_link(name)
            self._gateway.metrics.forget(name)
            del self._links[name]
