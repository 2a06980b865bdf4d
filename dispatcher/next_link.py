"""Waiting jobs of a link that cannot send go to the next link of their route.

A link cannot send while it is not bound, paused, gone from the file, or while its owner shows no sign of life. After
30 s of that (lane 0: 3 s) the owner of the next able link in the order of a job's route takes its row, oldest first.

It may do so though the other owner may live: a claim locks its rows and commits their ids to the journal before it
writes; this move takes the row in one statement and looks at the journal in the next. So a job is never on two links.
What is left alone: a job that a journal names, and one with accepted parts, since a handset joins only what comes over
one link. A text that would need more parts than its category allows on the next link waits for its own.

A job that its link refused, without a word against the message itself, waits in ``deferred`` for another link of its
route (OTHER_LINK_...): the owner of the next able one takes it at once. So does what a failing link cannot send.

Lane 0 is taken at once; of the other lanes no more than the next link has room for, so that the rest is there when the
link comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dispatcher.store import array, texts
from dispatcher.unjournalled import take_unjournalled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dispatcher.claim import Claimer
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.store import Connection, Record
    from gateway import Gateway

log = structlog.get_logger()

MOST_AT_ONCE = 500  # rows a statement: some 20 ms of Postgres
LANES = range(6)


@dataclass(slots=True)
class Seen:
    """What a link showed last, on our clock."""

    epoch: int
    beat: int
    beat_at: float  # when this beat was first seen
    unable_since: float | None


class NextLink:
    """The moves into the links that this instance owns."""

    def __init__(
        self,
        *,
        epochs: Mapping[str, int],
        gateway: Callable[[], Gateway],
        claimer: Claimer,
        metrics: DispatcherMetrics,
        after_s: float,
        after_urgent_s: float,
        beat_s: float,
        wake_claimer: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._epochs = epochs
        self._gateway = gateway
        self._claimer = claimer
        self._metrics = metrics
        self._after_s = after_s
        self._after_urgent_s = after_urgent_s
        self._beat_s = beat_s
        self._wake_claimer = wake_claimer
        self._clock = clock
        self._seen: dict[str, Seen] = {}
        self._looked: dict[tuple[str, int], int] = {}  # link, lane -> id up to which its rows were looked at

    def carries(self, link: str) -> bool:
        """Say whether the link is ours and sends: then nothing of it has to go elsewhere."""
        if link not in self._epochs or link not in self._gateway():
            return False
        ours = self._gateway()[link]
        return ours.can_send and not ours.is_failing

    async def take_waiting(self, connection: Connection) -> None:
        """Take what waits for links that cannot send.

        Raises:
            StoreUnavailable: what was taken before was told to the claimer.

        """
        ours = [name for name in self._epochs if self.carries(name)]
        if not ours:
            return
        rows = await connection.fetch("link_states")
        unable = {row["name"]: self._unable_for(row) for row in rows}
        able = [name for name, for_s in unable.items() if for_s is None]
        mine = [name for name in ours if name in able]
        if not mine:
            return
        await self._take_refused(connection, able, mine)
        for row in rows:
            link, for_s = row["name"], unable[row["name"]]
            if for_s is None or for_s < min(self._after_urgent_s, self._after_s):
                continue
            for lane in LANES:
                if for_s >= (self._after_s if lane else self._after_urgent_s):
                    await self._take(connection, link, lane, able, mine)
            if link not in self._epochs and for_s >= self._after_s:
                await self._take_due(connection, link, able, mine)

    def _unable_for(self, row: Record) -> float | None:
        """Seconds for which the link could not send; None while it can."""
        link, now = row["name"], self._clock()
        seen = self._seen.get(link)
        if seen is None or (seen.epoch, seen.beat) != (row["epoch"], row["beat"]):
            since = None if seen is None else seen.unable_since
            seen = self._seen[link] = Seen(row["epoch"], row["beat"], now, since)
        able = self.carries(link) if link in self._epochs else row["able"] and row["owner"] != ""
        if not able:
            if seen.unable_since is None:
                seen.unable_since = now
                if link not in self._epochs:  # it may have been so before we looked
                    seen.unable_since -= max(0.0, row["unbound_for_s"])
            return now - seen.unable_since
        seen.unable_since = None
        silent_s = now - seen.beat_at - self._beat_s
        return silent_s if link not in self._epochs and silent_s > self._beat_s / 2 else None

    async def _take(self, connection: Connection, link: str, lane: int, able: list[str], mine: list[str]) -> None:
        rows = 0

        async def take(leave: str) -> Record | None:
            nonlocal rows
            still = [name for name in mine if self.carries(name)]  # one may be lost or closed meanwhile
            rows = MOST_AT_ONCE
            if lane:
                still = [name for name in still if self._gateway()[name].room(lane)]
                rows = min(rows, sum(self._gateway()[name].room(lane) for name in still))
            if not still:
                return None
            return await connection.fetchrow(
                "move_waiting",
                link,
                lane,
                self._looked.get((link, lane), 0),
                rows,
                texts(able),
                texts(still),
                array(self._epochs[name] for name in still),
                leave,
            )

        moved = await take_unjournalled(connection, link, lane, (), take)
        if moved is None:
            return
        self._looked[link, lane] = moved["upto"] if moved["looked"] == rows else 0
        numbers = [int(number) for number in moved["ids"][1:-1].split(",") if number]
        self._tell(link, [(to, lane, number) for to, number in zip(moved["links"], numbers, strict=True)])

    async def _take_refused(self, connection: Connection, able: list[str], mine: list[str]) -> None:
        """Take what other links refused and ours are to try."""
        moved = await connection.fetch(
            "move_refused", MOST_AT_ONCE, texts(able), texts(mine), array(self._epochs[name] for name in mine)
        )
        for link in {row["refused_by"] for row in moved}:
            self._tell(link, [(row["link"], row["lane"], row["id"]) for row in moved if row["refused_by"] == link])

    async def _take_due(self, connection: Connection, link: str, able: list[str], mine: list[str]) -> None:
        """Nobody promotes the rows of a link without a living owner."""
        mine = [name for name in mine if self.carries(name)]
        moved = await connection.fetch(
            "move_due",
            link,
            MOST_AT_ONCE,
            texts(able),
            texts(mine),
            array(self._epochs[name] for name in mine),
        )
        self._tell(link, [(row["link"], row["lane"], row["id"]) for row in moved])

    def _tell(self, link: str, moved: list[tuple[str, int, int]]) -> None:
        counts: dict[tuple[str, int], int] = {}
        for to, lane, number in moved:
            self._claimer.arrived(to, lane, (number,))
            counts[to, lane] = counts.get((to, lane), 0) + 1
        for (to, lane), jobs in counts.items():
            log.info("jobs_failed_over", link=link, to=to, lane=lane, jobs=jobs)
        if moved:
            self._metrics.count_failed_over(link, len(moved))
            self._wake_claimer()
