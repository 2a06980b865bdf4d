"""After a failover of Postgres: what the local record knows and the new primary may have forgotten.

A standby that followed asynchronously lacks the last commits of the old primary: claims, settles, promotions,
enqueues. A job whose segments were accepted may stand in ``ready`` again, named by no journal. So before the first
claim every job of the record, kept for 10 minutes past its settle, is looked for, by id *and* enqueued_at:

    sent, with all that was accepted   as it should be
    ready                              journalled again, and accounted for like any dead owner's claim
    deferred                           the same if a part was accepted or is in doubt: its promotion was lost
    uncertain                          a recorded answer resolves it
    closed                             an accepted part is kept beside it as FENCED
    nowhere                            its enqueue was lost: counted and logged; without a row nothing can be kept

Five thousand jobs a statement, index probes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from dispatcher.job import mask
from dispatcher.record import ACCEPTED
from dispatcher.store import array, storable, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dispatcher.record import Answer, Replay
    from dispatcher.store import Connection, Record

log = structlog.get_logger()

AT_ONCE = 5_000  # jobs a statement: about 50 ms of Postgres

Numbered = tuple[int, int]  # a job by its id and enqueued_us: the id alone may be another job's by now


class Aftermath:
    """The jobs of the record that the new primary does not show as they should be."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._open: list[Numbered] | None = None  # None: not looked yet
        self._links: set[str] = set()  # those that were accounted for

    def concerns(self, link: str) -> bool:
        """Whether this link has yet to be accounted for."""
        return link not in self._links

    def accounted(self, link: str) -> None:
        """What the record knows of this link is settled: at a later take-over it would be old news."""
        self._links.add(link)

    async def look(self, connection: Connection) -> None:
        """Leave out the jobs whose accepted parts all stand in sent: nearly all of them. Once is enough.

        Raises:
            StoreUnavailable: to be called again.

        """
        if self._open is not None:
            return
        missing = []
        for jobs in _slices(sorted(self._replay.every_job)):
            rows = await connection.fetch("sent_known", array(job_id for job_id, _ in jobs), _earliest(jobs))
            stored = {(row["job_id"], row["enqueued_us"], row["part"]): row["message_id"] for row in rows}
            for job in jobs:
                parts = self._replay.parts(*job, settled=True)
                if not all(
                    answer is not None
                    and answer.command_status == ACCEPTED
                    and stored.get((*job, part)) == storable(answer.message_id)
                    for part, answer in parts.items()
                ):
                    missing.append(job)
        self._open = missing

    async def restore(self, connection: Connection, link: str, epoch: int) -> int:
        """Write a link's lost claims into a journal of this epoch, which is over; returns how many.

        To be called in the transaction that takes the link over, so that nobody claims, promotes or settles meanwhile.

        Raises:
            StoreUnavailable: the transaction is to be rolled back.

        """
        journalled = 0
        for jobs in _slices(self._open or []):
            await self._recall(connection, link, jobs)
            row = await connection.fetchrow("journal_known", link, *_columns(jobs), epoch)
            journalled += row["jobs"] if row is not None else 0
            await _end_doubt(connection, link, self._replay, jobs, settled=True)
        return journalled

    async def _recall(self, connection: Connection, link: str, jobs: Sequence[Numbered]) -> None:
        """Take rows back out of deferred that were promoted and written after the standby's last word."""
        again = []
        for row in await connection.fetch("deferred_known", link, *_columns(jobs)):
            done = mask(row["done"])
            for part, answer in self._replay.parts(row["id"], row["enqueued_us"], settled=True).items():
                is_done = done >> (part - 1) & 1
                if not is_done and (answer is None or answer.command_status == ACCEPTED):
                    again.append(row["id"])
                    break
        if again:
            await connection.fetch("recall_deferred", link, array(again))

    async def finish(self, connection: Connection) -> None:
        """Keep what was accepted of jobs that are closed, and say how many are nowhere.

        Raises:
            StoreUnavailable: to be called again; nothing is kept twice.

        """
        await self.look(connection)
        lost = accepted = 0
        for jobs in _slices(self._open or []):
            columns = _columns(jobs)
            ours = set(jobs)
            found = {row["id"] for row in await connection.fetch("queued_known", *columns)}
            for row in await connection.fetch("closed_known", *columns, _earliest(jobs)):
                found.add(row["id"])
                for part, answer in self._replay.parts(row["id"], row["enqueued_us"], settled=True).items():
                    if answer is not None and answer.command_status == ACCEPTED:
                        await _settle(connection, row["link"], row, part, answer)
            sent = await connection.fetch("sent_known", columns[0], _earliest(jobs))
            found |= {row["job_id"] for row in sent if (row["job_id"], row["enqueued_us"]) in ours}
            for job in jobs:
                if job[0] not in found:
                    lost += 1
                    answers = self._replay.parts(*job, settled=True).values()
                    accepted += any(answer is not None and answer.command_status == ACCEPTED for answer in answers)
        if lost:
            log.error("jobs_lost_by_failover", jobs=lost, accepted=accepted)


async def end_doubt(connection: Connection, link: str, replay: Replay) -> None:
    """End doubt by answers that the record has and the database lacks: they came late, and no settle came after them.

    Raises:
        StoreUnavailable: to be called again; nothing is kept twice.

    """
    for jobs in _slices(sorted(replay.jobs)):
        await _end_doubt(connection, link, replay, jobs, settled=False)


async def _end_doubt(
    connection: Connection, link: str, replay: Replay, jobs: Sequence[Numbered], *, settled: bool
) -> None:
    """End doubt about these jobs that a recorded answer ends; with ``settled`` one before their last settle, too."""
    for row in await connection.fetch("uncertain_known", link, *_columns(jobs)):
        doubt = mask(row["doubt"])
        for part, answer in replay.parts(row["id"], row["enqueued_us"], settled=settled).items():
            if answer is not None and doubt >> (part - 1) & 1:
                await _settle(connection, link, row, part, answer)


async def _settle(connection: Connection, link: str, row: Record, part: int, answer: Answer) -> None:
    await connection.fetch(
        "settle_orphans",
        array([row["id"]]),
        array([part]),
        array([row["parts"]]),
        array([row["attempt"]]),
        texts([link]),
        texts([row["recipient"]]),
        texts([row["sender"]]),
        texts([row["category"]]),
        array([row["lane"]]),
        array([row["enqueued_us"]]),
        texts([answer.message_id]),
        array([0.0]),  # its age is not known across processes
        array(["t" if answer.command_status == ACCEPTED else "f"]),
    )


def _slices(jobs: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    for begin in range(0, len(jobs), AT_ONCE):
        yield jobs[begin : begin + AT_ONCE]


def _columns(jobs: Sequence[Numbered]) -> tuple[str, str]:
    return array(job_id for job_id, _ in jobs), array(enqueued_us for _, enqueued_us in jobs)


def _earliest(jobs: Sequence[Numbered]) -> int:
    return min(enqueued_us for _, enqueued_us in jobs)
