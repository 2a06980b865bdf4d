"""The loops that carry work between the database and the links, each on a connection of its own.

    listen    hears `tocsin_ready` (an emergency was enqueued) and `tocsin_control` (an operator paused something)
    urgent    claims lane 0, woken by the notification or its own clock
    claim     claims lanes 1 to 5
    settle    outcomes; one flush in flight
    receive   keeps receipts, and answers them
    replies   stores MO messages, and answers them
    receipts  applies the receipts that were kept; one flush in flight

An emergency never queues behind a flush, and the SMSC, which lets 1 to 100 deliver_sm be unanswered, never waits for a
settle, nor the text of a handset for receipts. Each loop runs until its connection breaks (``StoreUnavailable``) and is
then given another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatcher.claim import LANES
from dispatcher.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dispatcher.backlog import Backlog
    from dispatcher.claim import Claimer
    from dispatcher.dispatch import Dispatcher
    from dispatcher.inbound import InboundDesk
    from dispatcher.intake import Intake
    from dispatcher.job import Job
    from dispatcher.pauses import Pauses
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.settle import Settler
    from dispatcher.store import Connection
    from gateway import Gateway

MOST_CLAIMED = 500  # rows of a lane and link at once: emergencies and receipts wait while so many are taken in
BUSY_S = 0.02  # between claims of lanes 1 to 5 while there is work, once they have found all there was
IDLE_S = 0.2
URGENT_BUSY_S = 0.05  # between claims of lane 0; a notification comes before
URGENT_IDLE_S = 0.25
MORE_URGENT_S = 1.0  # for which lanes 1 to 5 wait for more of lane 0, should no claim say by then that there is none
PROBE_S = 0.2  # how late a row may be seen whose transaction committed behind the frontier
PROBE_WHOLE_S = 10.0
PROBE_WHOLE_PAUSES = 50  # likewise: behind a snapshot that is held open it walks over all that has gone since
PROBE_PAUSES = 10  # of a probe's own length pass before the next one, at least: it may walk over a lot that is gone
LISTEN_CHECK_S = 5.0
EVENTS_S = 0.1  # readers of tocsin.event are told at most this often
PAUSE_S = 0.02  # after a small flush of outcomes or receipts: a flush costs as much as 15 of its jobs
GATHER_S = 0.008  # receipts gather this long at most, and no longer than more of them come within each step
GATHER_STEP_S = 0.002
SMALLEST_USUAL = 8  # fewer are worth waiting for company
SMALL_FLUSH = 400
SLICE = 32  # jobs dispatched before the loop turns: 2 ms; fewer make more writes, to the record and to the socket


@dataclass(frozen=True, slots=True)
class Signals:
    """What the loops wait for, and what they tell."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    claim: asyncio.Event = field(default_factory=asyncio.Event)  # lanes 1 to 5 may have become claimable
    urgent: asyncio.Event = field(default_factory=asyncio.Event)  # lane 0 may have
    outcome: asyncio.Event = field(default_factory=asyncio.Event)  # an outcome waits to be written
    arrival: asyncio.Event = field(default_factory=asyncio.Event)  # a receipt waits to be kept
    reply: asyncio.Event = field(default_factory=asyncio.Event)  # an MO message waits to be stored
    kept: asyncio.Event = field(default_factory=asyncio.Event)  # a receipt waits to be applied
    written: asyncio.Event = field(default_factory=asyncio.Event)  # something was written

    def wake_claims(self) -> None:
        """Look for work in every lane."""
        self.claim.set()
        self.urgent.set()

    def wake_writers(self) -> None:
        """Write what waits."""
        for waits in (self.outcome, self.arrival, self.reply, self.kept):
            waits.set()


class Loops:
    """The loops of one instance."""

    def __init__(
        self,
        *,
        owner: str,
        epochs: Mapping[str, int],
        claimer: Claimer,
        dispatcher: Dispatcher,
        settler: Settler,
        receipts: ReceiptDesk,
        intake: Intake,
        inbound: InboundDesk,
        backlog: Backlog,
        pauses: Pauses,
        gateway: Callable[[], Gateway],
        emergency_enqueued: Callable[[str], None],
        rules_changed: Callable[[], None],
        signals: Signals,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._epochs = epochs
        self._claimer = claimer
        self._dispatcher = dispatcher
        self._settler = settler
        self._receipts = receipts
        self._intake = intake
        self._inbound = inbound
        self._backlog = backlog
        self._pauses = pauses
        self._gateway = gateway
        self._emergency_enqueued = emergency_enqueued
        self._rules_changed = rules_changed
        self._signals = signals
        self._clock = clock
        self._events = asyncio.Event()  # some were written since readers were last told
        self._usual_flush = 0  # receipts that waited before the last flushes

    async def listen(self, connection: Connection) -> None:
        """Hear what is notified, and tell readers of `tocsin.event` that there is more."""
        heard_at = said_at = self._clock()

        def heard(_payload: str) -> None:
            nonlocal heard_at
            heard_at = self._clock()

        def ready(link: str) -> None:
            self._signals.urgent.set()
            self._emergency_enqueued(link)

        await connection.listen("tocsin_ready", ready)
        await connection.listen("tocsin_control", lambda _: self._rules_changed())
        await connection.listen("tocsin_suppressed", self._dispatcher.stops.notified)
        await connection.listen("tocsin_alive", heard)
        await connection.fetch("notify_alive", self._owner)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(said_at + LISTEN_CHECK_S - self._clock()):
                    await self._events.wait()
            if self._events.is_set():
                self._events.clear()
                await connection.fetch("notify_events")
                await asyncio.sleep(EVENTS_S)
            now = self._clock()
            if now - said_at >= LISTEN_CHECK_S:
                if heard_at < said_at:
                    raise StoreUnavailable("nothing is heard on the listening connection")
                said_at = now
                await connection.fetch("notify_alive", self._owner)

    async def claim_urgent(self, connection: Connection) -> None:
        """Claim lane 0."""
        while True:
            jobs = []
            if not self._signals.stopping.is_set() and not self._backlog.holds_urgent():
                rooms = self._rooms(0)
                windows = [w for link, room in rooms for w in self._claimer.windows(link, 0, room)]
                jobs = await self._claimer.claim(connection, windows)
                await self._dispatch_urgent(jobs, rooms)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(URGENT_BUSY_S if jobs else URGENT_IDLE_S):
                    await self._signals.urgent.wait()
            self._signals.urgent.clear()

    async def claim(self, connection: Connection) -> None:
        """Claim lanes 1 to 5, and look for rows that became visible late."""
        probe_at = whole_at = self._clock()
        while True:
            jobs: list[Job] = []
            if not self._signals.stopping.is_set() and not self._backlog.holds_others():
                windows = [
                    window
                    for lane in range(1, LANES)
                    for link, room in self._rooms(lane)
                    for window in self._claimer.windows(link, lane, min(room, MOST_CLAIMED))
                ]
                jobs = await self._claimer.claim(connection, windows)
                await self._dispatcher.count(connection, jobs)
                await self._dispatch(jobs)
            await self._dispatcher.caps.give_back(connection, self._clock())
            now = self._clock()
            if now >= probe_at:
                whole = now >= whole_at
                found = await self._claimer.probe(connection, whole=whole)
                took_s = self._clock() - now
                if whole:  # the next one, of what is new alone, is as short as the one before: the floor must not wait
                    whole_at = now + max(PROBE_WHOLE_S, took_s + PROBE_WHOLE_PAUSES * took_s)
                else:
                    probe_at = now + max(PROBE_S, took_s + PROBE_PAUSES * took_s)
                if found:
                    continue
            if jobs:
                claimed = Counter((job.link, job.lane) for job in jobs)
                await asyncio.sleep(0.0 if max(claimed.values()) >= MOST_CLAIMED else BUSY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._signals.claim.wait()
            self._signals.claim.clear()

    def _rooms(self, lane: int) -> list[tuple[str, int]]:
        if lane in self._pauses.lanes:
            return []
        return [(name, link.room(lane)) for name, link in self._gateway().links.items() if name in self._epochs]

    async def _dispatch_urgent(self, jobs: list[Job], rooms: list[tuple[str, int]]) -> None:
        """Dispatch what was claimed of lane 0, and let nothing of lanes 1 to 5 go between, nor before the next claim.

        That is where a link's room is full now, so that more may wait: a fast link empties it until then.
        """
        links = self._gateway().links
        found = Counter(job.link for job in jobs)
        for link in found.keys() & links.keys():
            links[link].expect_urgent(MORE_URGENT_S)
        await self._dispatch(jobs)
        for link, room in rooms:
            if link in links:
                links[link].expect_urgent(MORE_URGENT_S if found[link] >= room else 0.0)

    async def _dispatch(self, jobs: list[Job]) -> None:
        for start in range(0, len(jobs), SLICE):
            self._dispatcher.dispatch(jobs[start : start + SLICE])
            if start + SLICE < len(jobs):
                await asyncio.sleep(0)  # a block of 500 would hold the loop for 10 ms

    async def settle(self, connection: Connection) -> None:
        """Write outcomes back."""
        self._signals.outcome.set()  # what a broken connection left
        while True:
            await self._signals.outcome.wait()
            self._signals.outcome.clear()
            settled = await self._settler.flush(connection)
            if settled:
                self._events.set()
            if self._settler.pending:
                self._signals.outcome.set()
            self._signals.written.set()
            if settled < SMALL_FLUSH:
                await asyncio.sleep(PAUSE_S)

    async def receive(self, connection: Connection) -> None:
        """Keep receipts, and answer them."""
        self._signals.arrival.set()  # what a broken connection left
        while True:
            await self._signals.arrival.wait()
            await self._gather()
            self._signals.arrival.clear()
            await self._intake.keep(connection)
            if self._intake.pending:
                self._signals.arrival.set()
            self._signals.written.set()

    async def store_replies(self, connection: Connection) -> None:
        """Store MO messages, and answer them; what comes during a flush is the next one."""
        self._signals.reply.set()  # what a broken connection left
        while True:
            await self._signals.reply.wait()
            self._signals.reply.clear()
            if await self._inbound.flush(connection):
                self._events.set()
            if self._inbound.pending:
                self._signals.reply.set()
            self._signals.written.set()

    async def refuse(self) -> None:
        """Answer each deliver_sm 0x64, until cancelled: the SMSC sends it again to whom it can be stored by."""

        async def refuse(arrival: asyncio.Event, desk: Intake | InboundDesk) -> None:
            while True:
                arrival.clear()
                desk.refuse()
                await arrival.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refuse(self._signals.arrival, self._intake))
            tasks.create_task(refuse(self._signals.reply, self._inbound))

    async def apply_receipts(self, connection: Connection) -> None:
        """Raise the states of the segments that receipts name."""
        self._signals.kept.set()  # what a broken connection left
        while True:
            await self._signals.kept.wait()
            self._signals.kept.clear()
            applied = await self._receipts.flush(connection)
            if applied:
                self._events.set()
            if self._receipts.pending:
                self._signals.kept.set()
            self._signals.written.set()
            if applied < SMALL_FLUSH:
                await asyncio.sleep(PAUSE_S)

    async def _gather(self) -> None:
        """Wait while receipts keep coming, some milliseconds at most: a flush of few costs as much as one of many.

        An SMSC leaves only so many unanswered. Without this its window falls in two halves, each waiting for the
        other's flush; and once as many wait as usual, that is its window, and no more will come.
        """
        seen = 0
        until = self._clock() + GATHER_S
        while seen < (waiting := self._intake.pending) and self._clock() < until:
            if waiting >= max(self._usual_flush, SMALLEST_USUAL):
                break
            seen = waiting
            await asyncio.sleep(GATHER_STEP_S)
        self._usual_flush = max(waiting, int(self._usual_flush * 0.95))
