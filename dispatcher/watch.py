"""Makes the status document of a running daemon, and reads the database for it only while somebody looks.

Nothing is counted for it on a message's journey: what the links and the metrics know already is read when the document
is asked for. The database is read on a connection of its own, which lives from the first look to a few seconds after
the last one; reads lie at least two seconds apart, and further when they take long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.log import failure
from dispatcher.look import LANES, link_of, look
from dispatcher.status import STALE_AFTER_S, LaneStatus, LinkStatus, Status, emergencies
from dispatcher.store import PINNED, connect
from dispatcher.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.settings import LinkSettings
    from dispatcher.look import Seen, SeenLink
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.ownership import Owner
    from gateway import Gateway, Link

log = structlog.get_logger()

EVERY_S: Final = 2.0  # between two reads of the database
SHARE: Final = 10  # a read that takes long (0.3 s for twelve full lanes) is followed by a pause so many times as long,
LONGEST_PAUSE_S: Final = 10.0  # up to this: what is shown must not go stale
WATCHED_FOR_S: Final = 10.0  # after the last look the connection is kept so long
FRESH_WITHIN_S: Final = 1.5  # the first look waits at most so long for what the database says
RETRY_S: Final = 1.0
SESSION: Final = PINNED | {"application_name": "tocsin status", "statement_timeout": "5s"}
SAMPLE_S: Final = 0.5  # between two samples of the counters
RATE_OVER_S: Final = 5.0
MATCHED: Final = ("delivered", "undelivered", "unknown")  # final ones: those under way are not looked up


@dataclass(frozen=True, slots=True)
class Facts:
    """What the daemon knows of itself at this moment."""

    ready: bool
    draining: bool
    database: str
    schema: str
    unsettled: int
    receipts_waiting: int


class _Beat(NamedTuple):
    epoch: int
    beat: int
    seen_at: float  # first, on our clock
    moved: bool  # it was another one before


class Watch:
    """One daemon's answers to who looks at it."""

    def __init__(
        self,
        *,
        instance: str,
        links: Mapping[str, LinkSettings],
        url: str,
        owner: Owner,
        gateway: Callable[[], Gateway],
        metrics: DispatcherMetrics,
        facts: Callable[[], Facts],
        clock: Callable[[], float],
    ) -> None:
        self._instance = instance
        self._named = links
        self._url = url
        self._owner = owner
        self._gateway = gateway
        self._metrics = metrics
        self._facts = facts
        self._clock = clock
        self._started_at = clock()
        self._started = datetime.now(UTC)
        self._looked_at = float("-inf")
        self._looked = asyncio.Event()
        self._read = asyncio.Event()
        self._is_reading = False  # what the database said is as new as it gets
        self._seen: Seen | None = None
        self._seen_at = 0.0
        self._beats: dict[str, _Beat] = {}
        self._samples: deque[tuple[float, dict[str, float]]] = deque()  # instant, receipts matched a link

    async def run(self) -> None:
        """Read the database while somebody looks."""
        while True:
            await self._looked.wait()
            self._looked.clear()
            try:
                await self._read_while_watched()
            except StoreUnavailable as error:
                log.info("status_unread", problem=str(error))
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # a fault in what is shown must not end what sends
                log.warning("status_unread", **failure(error))
                await asyncio.sleep(RETRY_S)

    async def _read_while_watched(self) -> None:
        self._beats.clear()  # a beat that moved while nobody looked says nothing about now
        connection = await connect(self._url, SESSION)
        try:
            while (began := self._clock()) - self._looked_at < WATCHED_FOR_S:
                self._take(await look(connection))
                self._is_reading = True
                await asyncio.sleep(min(LONGEST_PAUSE_S, max(EVERY_S, SHARE * (self._clock() - began))))
        finally:
            self._is_reading = False
            await connection.close()

    def _take(self, seen: Seen) -> None:
        now = self._clock()
        for link in seen.links:
            last = self._beats.get(link.name)
            if last is None:
                self._beats[link.name] = _Beat(link.epoch, link.beat, now, moved=False)
            elif (last.epoch, last.beat) != (link.epoch, link.beat):
                self._beats[link.name] = _Beat(link.epoch, link.beat, now, moved=True)
        self._seen, self._seen_at = seen, now
        self._read.set()

    async def look(self) -> Status:
        """Give the document, with what the database says now or said a moment ago."""
        self._looked_at = self._clock()
        self._looked.set()
        if not self._is_reading and self._facts().database == "up":
            self._read.clear()
            try:
                async with asyncio.timeout(FRESH_WITHIN_S):
                    await self._read.wait()
            except TimeoutError:
                pass  # the document says how old its numbers are
        return self._document()

    def _document(self) -> Status:
        now, facts, seen = self._clock(), self._facts(), self._seen
        self._sample(now)
        links = self._links(now)
        lanes = tuple(LaneStatus(lane, (), (), None, False, None) for lane in LANES) if seen is None else seen.lanes
        read_age_s = None if seen is None else round(now - self._seen_at, 3)
        missing = [
            *(["draining"] if facts.draining else []),
            *([f"database: {facts.database}"] if facts.database != "up" else []),
            *(
                []
                if any(link.owner == "this" and link.state == "bound" for link in links)
                else ["no link of its own is bound"]
            ),
        ]
        return Status(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            source="daemon",
            instance=self._instance,
            version=VERSION,
            started_at=self._started.isoformat(timespec="milliseconds"),
            up_for_s=round(now - self._started_at, 1),
            ready=facts.ready,
            missing=tuple(missing),
            emergencies=emergencies(
                draining=facts.draining, database=facts.database, read_age_s=read_age_s, links=links, lanes=lanes
            ),
            database=facts.database,
            schema=facts.schema,
            read_age_s=read_age_s,
            unsettled=facts.unsettled,
            receipts_waiting=facts.receipts_waiting,
            uncertain_segments=None if seen is None else sum(seen.uncertain.values()),
            paused_categories=tuple(name for lane in lanes for name in lane.paused),
            links=links,
            lanes=lanes,
            events=() if seen is None else seen.events,
        )

    def _sample(self, now: float) -> None:
        while self._samples and now - self._samples[0][0] > RATE_OVER_S:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            matched = {name: self._matched(name) for name in self._named}
            self._samples.append((now, matched))

    def _matched(self, link: str) -> float:
        return sum(self._metrics.receipts(link, state) for state in MATCHED)

    def _receipts_per_s(self, link: str) -> float | None:
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        if last_at - first_at < 1.0:
            return None
        return round((last.get(link, 0.0) - first.get(link, 0.0)) / (last_at - first_at), 1)

    def _links(self, now: float) -> tuple[LinkStatus, ...]:
        rows = {} if self._seen is None else {link.name: link for link in self._seen.links}
        named = list(self._named)
        open_here = self._gateway().links
        found = []
        for name in [*named, *(name for name in rows if name not in named)]:
            link, row = open_here.get(name), rows.get(name)
            if link is not None and name in self._owner.epochs:
                found.append(self._own(link, row, now))
            else:
                found.append(self._elsewhere(name, row, now))
        return tuple(found)

    def _own(self, link: Link, row: SeenLink | None, now: float) -> LinkStatus:
        settings, counts = link.settings, self._gateway().metrics.link(link.name)
        return LinkStatus(
            name=link.name,
            state=link.state,
            state_detail=link.state_detail,
            state_for_s=round(now - link.state_since, 1),
            owner="this",
            owner_instance=self._instance,
            epoch=self._owner.epochs[link.name],
            beat=None if row is None else row.beat,
            beat_age_s=None,
            in_file=True,
            paused=link.is_paused or (row is not None and row.paused),
            sessions_bound=link.sessions_bound,
            sessions_configured=settings.binds,
            window_in_use=link.window_in_use,
            window_size=settings.window_size * settings.sessions,
            segments_per_s=link.segments_last_second,
            limit_per_s=link.throughput_limit,
            reserved_per_s=link.throughput_reserve,
            configured_per_s=settings.throughput_per_s,
            held_for_s=round(link.held_for_s, 1),
            throttled_total=counts.throttled,
            unanswered_total=counts.timed_out,
            uncertain_segments=None if self._seen is None else self._seen.uncertain.get(link.name, 0),
            receipts_matched_total=int(self._matched(link.name)),
            receipts_unmatched_total=int(self._metrics.receipts(link.name, "unmatched")),
            receipts_per_s=self._receipts_per_s(link.name),
        )

    def _elsewhere(self, name: str, row: SeenLink | None, now: float) -> LinkStatus:
        beat = self._beats.get(name)
        age_s = None if beat is None else round(now - beat.seen_at, 1)
        if beat is not None and not beat.moved and now - beat.seen_at < STALE_AFTER_S:
            age_s = None
        uncertain = None if self._seen is None else self._seen.uncertain
        return link_of(name, row, own=self._owner.name, beat_age_s=age_s, uncertain=uncertain)
