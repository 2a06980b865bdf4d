"""Writes outcomes back: one fenced statement a flush, over all links of the instance.

One flush is in flight; the next starts when it has committed and anything waits, so batches grow with the load and
no timer is needed. A flush that failed is put back and repeated, since a job is settled only by a commit that was
seen. What the fence keeps out, and late answers to jobs that are settled, go one by one: an accepted answer is never
dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from dispatcher.doubt import late_answers
from dispatcher.job import (
    ACCEPTED,
    KEEP,
    RELEASED,
    SUBMITTED,
    UNANSWERED,
    Accepted,
    Job,
    Late,
    Outcome,
    What,
    after_submit,
    bits,
)
from dispatcher.store import EMPTY, array, quoted, storable, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from dispatcher.claim import Claimer
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.record import Record
    from dispatcher.store import Connection
    from gateway import SubmitResult

log = structlog.get_logger()

MOST_AT_ONCE = 500  # jobs a flush: about 15 ms of Postgres
ELSEWHERE = (What.DEFERRED, What.CLOSED, What.UNCERTAIN)  # rows that leave ready, and not for sent
ON_THE_WIRE = (What.SUBMITTED, What.UNCERTAIN)


class Settler:
    """Outcomes that wait for the next flush."""

    def __init__(
        self,
        *,
        epochs: Mapping[str, int],
        claimer: Claimer,
        record: Record,
        metrics: DispatcherMetrics,
        clock: Callable[[], float],
        wake: Callable[[], None],
        unsettled: set[tuple[str, str]],
        accepted: Callable[[str, str], None],
    ) -> None:
        self._epochs = epochs
        self._claimer = claimer
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._unsettled = unsettled  # link and message id of accepted answers not yet committed
        self._accepted = accepted  # told (link, message_id) once it is committed: an early receipt may wait for it
        self._waiting: dict[Job, None] = {}
        self._flushing: frozenset[Job] = frozenset()
        self._is_flushing = False
        self._flushed = asyncio.Event()
        self._late: list[Late] = []
        self._batches: list[int] = []  # journals that are over
        self._unsure: set[Job] = set()  # of a flush that failed: its commit may have taken place

    @property
    def pending(self) -> int:
        """Jobs and late answers not yet written back."""
        return len(self._waiting) + len(self._flushing) + len(self._late)

    @property
    def is_idle(self) -> bool:
        """Nothing waits to be written, journals that are over included, and no flush is in flight."""
        return not (self.pending or self._batches or self._is_flushing)

    def answered_late(self) -> set[int]:
        """Jobs whose late answer was read and is not yet written."""
        return {late.job.id for late in self._late}

    def put(self, job: Job, outcome: Outcome) -> None:
        """Settle the job with the next flush."""
        job.outcome = outcome
        for answer in job.answers:
            self._unsettled.add((job.link, answer.message_id))
        self._waiting[job] = None
        self._wake()

    def put_late(self, job: Job, result: SubmitResult) -> None:
        """A second answer to a segment: it spares what waits to be sent again, resolves doubt, or is kept."""
        again = self._claimer.claimed_again(job)
        if again is not None and result.verdict is ACCEPTED and self._spare(again, result):
            return
        if result.verdict is not UNANSWERED:
            answer = Accepted(result.segment.part, result.message_id, result.written_at)
            self._late.append(Late(job, answer, accepted=result.verdict is ACCEPTED))
            self._wake()

    def _spare(self, again: Job, result: SubmitResult) -> bool:
        """Keep a part from being sent again that was accepted after all, if it still waits in the link's room."""
        submission, part = again.submission, result.segment.part
        if submission is None or again.outcome not in (None, KEEP) or not submission.spare(part):
            return False
        again.note(part, ACCEPTED, result.command_status, result.message_id, result.written_at)
        outcome = after_submit(again)
        submission.stopped |= outcome is not KEEP
        self.put(again, outcome)
        log.info("late_answer_settled", link=again.link, job_id=again.id, outcome="spared")
        return True

    def released(self, job: Job) -> None:
        """Nothing of the job is on the wire: back to the queue, once its row says which parts are done."""
        if job.answers or job in self._flushing:
            self.put(job, RELEASED)
            return
        self._waiting.pop(job, None)
        job.settled = RELEASED
        job.batch.outstanding -= 1
        if job.batch.outstanding == 0:
            self._batches.append(job.batch.number)
            self._wake()
        self._release(job)

    def _release(self, job: Job) -> None:
        self._claimer.release(job)
        self._record.settled([(job.id, job.enqueued_us)], self._clock())

    async def settled(self, jobs: Collection[Job]) -> None:
        """Wait until none of these waits any more."""
        while any(job in self._waiting or job in self._flushing for job in jobs):
            self._flushed.clear()
            await self._flushed.wait()

    async def flush(self, connection: Connection) -> int:
        """Write back what waits; returns how many jobs it settled.

        Raises:
            StoreUnavailable: nothing is lost; the same jobs wait for the next flush.

        """
        self._is_flushing = True
        try:
            return await self._flush(connection)
        finally:
            self._is_flushing = False

    async def _flush(self, connection: Connection) -> int:
        if self._unsure:
            await self._drop_written(connection)
        jobs = list(self._waiting)[:MOST_AT_ONCE]
        for job in jobs:
            del self._waiting[job]
        batches, self._batches = self._batches, []
        if jobs:
            settling = [(job, job.outcome or KEEP, job.answers) for job in jobs]
            ending: list[int] = []
            for job, outcome, _ in settling:
                job.answers = []
                if outcome is not KEEP:
                    job.batch.outstanding -= 1
                    if job.batch.outstanding == 0:
                        ending.append(job.batch.number)
            self._flushing = frozenset(jobs)
            try:
                if refused := [job.id for job, outcome, _ in settling if outcome.is_refused]:
                    written = await self._settle_refused(connection, settling, batches + ending, refused)
                else:
                    written = await self._settle(connection, settling, batches + ending)
            except BaseException:
                self._batches[:0] = batches
                self._put_back(settling)
                raise
            finally:
                self._flushing = frozenset()
            self._settled(settling, written)
        elif batches:
            try:
                await connection.fetch("release", array(batches))
            except BaseException:
                self._batches[:0] = batches
                raise
        await self._flush_late(connection)
        self._flushed.set()
        return len(jobs)

    async def _settle(
        self, connection: Connection, settling: list[tuple[Job, Outcome, list[Accepted]]], batches: list[int]
    ) -> set[int]:
        number = {link: n for n, link in enumerate(self._epochs, 1)}
        now = self._clock()
        usual: list[tuple[Job, Outcome, list[Accepted]]] = []
        rare: list[tuple[Job, Outcome, list[Accepted]]] = []  # what has more to say than the defaults of the statement
        for item in settling:
            job, outcome, answers = item
            if self._epochs.get(job.link) == job.epoch:
                is_usual = outcome is SUBMITTED and job.parts == 1 and job.attempt == 1 and len(answers) == 1
                (usual if is_usual else rare).append(item)
        owned = rare + usual
        more = [answers[1:] for _, _, answers in rare]
        rows = await connection.fetch(
            "settle",
            texts(self._epochs),
            array(self._epochs.values()),
            array([job.id for job, _, _ in owned]),
            array([number[job.link] for job, _, _ in owned]),
            array([job.lane for job, _, _ in owned]),
            texts([answers[0].message_id if answers else None for _, _, answers in owned]),
            array([_age_us(answers[0], now) if answers else None for _, _, answers in owned]),
            array([0 if outcome is RELEASED else int(outcome.what) for _, outcome, _ in rare]),
            # states and reasons are words of ours: they need no quotes
            array([outcome.state or EMPTY for _, outcome, _ in rare]),
            array([outcome.reason or EMPTY for _, outcome, _ in rare]),
            array([_seconds(job, outcome, now) for job, outcome, _ in rare]),
            array([job.attempt for job, _, _ in rare]),
            array([bits(job.done, job.parts) if job.done else None for job, _, _ in rare]),
            array([bits(job.doubt, job.parts) if job.doubt else None for job, _, _ in rare]),
            array([answers[0].part if answers else None for _, _, answers in rare]),
            array([job.parts for job, _, _ in rare]),
            array([_nested([str(answer.part) for answer in others]) for others in more]),
            array([_nested([quoted(answer.message_id) for answer in others]) for others in more]),
            array([_nested([str(_age_us(answer, now)) for answer in others]) for others in more]),
            array(batches),
            any(outcome.what in ELSEWHERE for _, outcome, _ in rare),
        )
        return set(rows[0][0] or ())

    async def _settle_refused(
        self,
        connection: Connection,
        settling: list[tuple[Job, Outcome, list[Accepted]]],
        batches: list[int],
        refused: list[int],
    ) -> set[int]:
        """Settle, and have SMSCs asked to cancel the accepted parts of what people refuse: both or neither."""
        async with connection.transaction():
            written = await self._settle(connection, settling, batches)
            rows = await connection.fetch("cancel_refused", array([number for number in refused if number in written]))
        log.info("refused_in_flight", jobs=len(refused), segments=rows[0]["segments"])
        return written

    def _committed(self, link: str, answer: Accepted) -> None:
        self._unsettled.discard((link, answer.message_id))
        self._accepted(link, answer.message_id)

    def _put_back(self, settling: list[tuple[Job, Outcome, list[Accepted]]]) -> None:
        """A failed flush waits again, ahead of what came meanwhile; a newer outcome of the same job stands."""
        again: dict[Job, None] = {}
        for job, outcome, answers in settling:
            job.answers[:0] = answers
            if outcome is not KEEP:
                job.batch.outstanding += 1
            again[job] = None
            if answers:
                self._unsure.add(job)
        self._waiting = again | self._waiting

    async def _drop_written(self, connection: Connection) -> None:
        """Drop answers that stand in the database: a second row of a part would make its receipt ambiguous."""
        rows = await connection.fetch("parts_sent", array(job.id for job in self._unsure))
        written = {(row["job_id"], row["part"], row["message_id"]) for row in rows}
        for job in self._unsure:
            answers, job.answers = job.answers, []
            for answer in answers:
                if (job.id, answer.part, storable(answer.message_id)) in written:
                    self._committed(job.link, answer)
                else:
                    job.answers.append(answer)
        self._unsure.clear()

    def _settled(self, settling: list[tuple[Job, Outcome, list[Accepted]]], written: set[int]) -> None:
        ended = []
        told: Counter[tuple[str, str]] = Counter()
        waited: dict[tuple[str, str], list[float]] = {}  # by category and link, for their first submit_sm
        for job, outcome, answers in settling:
            if job.id not in written:
                self._fenced(job, outcome, answers)
                continue
            for answer in answers:
                self._committed(job.link, answer)
            if outcome is KEEP:
                continue
            job.settled = outcome
            job.submission = None
            if outcome is RELEASED:
                self._release(job)
                continue
            self._claimer.gone(job)
            ended.append((job.id, job.enqueued_us))
            told[job.category, outcome.told] += 1
            if job.first_written_at and outcome.what in ON_THE_WIRE:
                waited.setdefault((job.category, job.link), []).append(job.first_written_at - job.due_at)
        for (category, state), jobs in told.items():
            self._metrics.count_job(category, state, jobs)
        for (category, link), seconds in waited.items():
            self._metrics.observe_submits(category, link, seconds)
        if ended:
            self._record.settled(ended, self._clock())

    def _fenced(self, job: Job, outcome: Outcome, answers: list[Accepted]) -> None:
        """Its row is gone, or the link had another owner since its claim: keep the accepted answers, and no more."""
        self._late.extend(Late(job, answer, accepted=True) for answer in answers)
        if outcome is not KEEP:
            job.settled = outcome
            job.submission = None
            self._claimer.gone(job)
            if self._claimer.claimed_again(job) is None:  # what the record knows of the later claim must stay
                self._record.settled([(job.id, job.enqueued_us)], self._clock())
        log.warning("settle_fenced", link=job.link, job_id=job.id, answers=len(answers))

    async def _flush_late(self, connection: Connection) -> None:
        # the job's own outcome goes first
        late = [one for one in self._late if one.job not in self._waiting][:MOST_AT_ONCE]
        if not late:
            return
        outcomes = await late_answers(connection, self._metrics, late, self._clock())
        done = set(late)
        self._late = [one for one in self._late if one not in done]
        for one, outcome in zip(late, outcomes, strict=True):
            if one.accepted:
                self._committed(one.job.link, one.answer)
            log.info("late_answer_settled", link=one.job.link, job_id=one.job.id, outcome=outcome or "ignored")


def _age_us(answer: Accepted, now: float) -> int:
    return int((now - answer.written_at) * 1e6)


def _seconds(job: Job, outcome: Outcome, now: float) -> float:
    """The statement's delay_s: how long a deferred job waits, or how long ago what is in doubt was written."""
    if job.doubt and outcome.what is What.UNCERTAIN:
        return max(now - job.doubted_at, 1e-6) if job.doubted_at else 0.0
    return outcome.delay_s


def _nested(elements: list[str]) -> str | None:
    """An array literal as an element of another one; None for no elements."""
    if not elements:
        return None
    literal = ",".join(elements)
    if '"' in literal:
        literal = literal.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{{{literal}}}"'
