"""Doubt, from settle to its end: segments that were written and never answered.

``settle`` puts a job with such a part into ``uncertain``. It says whether the session of the write is over: then no
answer can come any more. What ends it, whichever is first:

    answer    a late submit_sm_resp on a session that lives (``late_answers``, called by settle.py); while it waits to
              be written, its job is left alone. Or one that an earlier owner, fenced off, had put into `sent` before
    receipt   one that names no known id but the job's two addresses, with nothing to choose (``receipts``)
    resent    the category's rule is `resend`: after doubt_resend_s, or at once when the session is over; twice at most,
              by the next link of the route. What is accepted then is marked POSSIBLE_DUPLICATE
    requeued  an operator said so (`tocsin requeue`)
    unknown   unknown_after_s past the end of the job's time; ``expired`` when only that time kept it from being resent

A resend sends the parts not accepted, with the same reference (the job id). A late answer to a part that waits to be
sent again takes it out of that. A resend whose own time runs out is in doubt again, and ends as unknown.
The rules stand in SQL, in migrations/0006_doubt.sql and 0011_end_of_doubt.sql.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from dispatcher.store import array, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from config.settings import DaemonSettings
    from dispatcher.job import Late
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.store import Connection, Record

log = structlog.get_logger()


class Doubt:
    """The chores of doubt on the links of one instance; upkeep.py says when."""

    def __init__(
        self,
        *,
        settings: DaemonSettings,
        links: Iterable[str],
        epochs: Mapping[str, int],
        metrics: DispatcherMetrics,
        answered_late: Callable[[], Iterable[int]],
    ) -> None:
        self._answered_late = answered_late  # jobs whose late answer was read and is not yet written
        self._settings = settings
        self._links = links  # of the file
        self._epochs = epochs
        self._metrics = metrics

    async def send_again(self, connection: Connection) -> None:
        """Send again what the category's rule says and whose time has come."""
        await self._accept_fenced(connection)
        again = await connection.fetch(
            "resend", texts(self._epochs), self._settings.doubt_resend_s, array(self._answered_late())
        )
        for row in again:
            self._metrics.count_doubt_ended(row["link"], "resent")
        if again:
            log.warning("doubt_resent", jobs=len(again))

    async def give_up(self, connection: Connection) -> None:
        """End as unknown what nothing resolved in time."""
        await self._accept_fenced(connection)
        for row in await connection.fetch(
            "give_up_doubt", texts(self._epochs), self._settings.unknown_after_s, array(self._answered_late())
        ):
            self._metrics.count_doubt_ended(row["link"], "expired" if row["expired"] else "unknown")
            if row["told"]:
                self._metrics.count_job(row["category"], "unknown")

    async def _accept_fenced(self, connection: Connection) -> None:
        for row in await connection.fetch("accept_fenced", texts(self._epochs), self._settings.unknown_after_s):
            if row["outcome"] != "doubtful":
                self._metrics.count_doubt_ended(row["link"], "answer")
            if row["outcome"] == "submitted":
                self._metrics.count_job(row["category"], "submitted")

    async def measure(self, connection: Connection) -> None:
        """Show the segments in doubt of our links; another link's are for its owner to show."""
        segments = {row["link"]: row["segments"] for row in await connection.fetch("uncertain_count")}
        for link in self._links:
            self._metrics.set_uncertain(link, segments.get(link, 0) if link in self._epochs else 0)


async def late_answers(
    connection: Connection, metrics: DispatcherMetrics, late: Sequence[Late], now: float
) -> list[str | None]:
    """Take in answers to jobs that are settled already, or that their fence kept out; returns what each did.

    Raises:
        StoreUnavailable: none is written; the same answers may be given again.

    """
    jobs = [one.job for one in late]
    rows = await connection.fetch(
        "settle_orphans",
        array(job.id for job in jobs),
        array(one.answer.part for one in late),
        array(job.parts for job in jobs),
        array(job.attempt for job in jobs),
        texts(job.link for job in jobs),
        texts(job.recipient for job in jobs),
        texts(job.sender for job in jobs),
        texts(job.category for job in jobs),
        array(job.lane for job in jobs),
        array(job.enqueued_us for job in jobs),
        texts(one.answer.message_id for one in late),
        array(now - one.answer.written_at for one in late),
        array("t" if one.accepted else "f" for one in late),
    )
    outcomes: list[str | None] = [row["outcome"] for row in rows]
    for job, outcome in zip(jobs, outcomes, strict=True):
        match outcome:
            case "resolved" | "submitted":
                metrics.count_doubt_ended(job.link, "answer")
            case "fenced":
                metrics.count_fenced(job.link)
        if outcome in ("submitted", "withdrawn"):
            metrics.count_job(job.category, "submitted")
    return outcomes


async def receipts(
    connection: Connection, metrics: DispatcherMetrics, parked_ids: Iterable[int], horizon_s: float
) -> list[Record]:
    """Try parked receipts that fit no id by their addresses; returns a row for each that resolved a part in doubt.

    Nothing is guessed: the conditions stand at tocsin.resolve_by_receipts. A query_sm could not help, as it names a
    message by the SMSC's message_id, which a submit_sm without an answer does not have.

    Raises:
        StoreUnavailable: nothing was resolved.

    """
    rows = await connection.fetch("resolve_by_receipts", array(sorted(parked_ids)), horizon_s)
    for row in rows:
        if row["outcome"] != "doubtful":
            metrics.count_doubt_ended(row["link"], "receipt")
        log.info("doubt_resolved_by_receipt", link=row["link"], job_id=row["job_id"], parked_id=row["parked_id"])
    return rows
