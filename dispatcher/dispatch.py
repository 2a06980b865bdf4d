"""THE journey of one job, from the claim to its outcome.

    claim        claim.py       a journalled Job, its row still in ``ready``
    policy       policy.py      may it go, by its own flags, the clock, and the recipient's hours (windows.py)
    count        caps.py        what has a cap is counted, one statement a batch, before it is dispatched
    segment      gateway        the text cut into segments for its link's alphabet
    submit       gateway.Link   waits in its lane for token and slot, then is encoded
    record       record.py      what is about to be written, on local disk, before the socket
    answer       gateway.Link   each segment's result comes back, a batch a read
    decide       job.py         KEEP, SUBMITTED, DEFERRED, CLOSED, UNCERTAIN or RELEASED
    settle       settle.py      one fenced statement a flush

``Dispatcher.dispatch`` is the way out, ``Dispatcher.answered`` the way back. Both take batches, since a batch is
what a claim and a read give; neither waits for anything, and neither raises for anything that an SMSC says.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from dispatcher.caps import Caps
from dispatcher.job import KEEP, RELEASED, UNANSWERED, What, after_submit, closed, deferred
from dispatcher.policy import LEAST_LIFE_S, CategoryRules, Defer, Send, Stop, before_send
from dispatcher.route import other_links
from dispatcher.windows import Windows
from gateway import (
    ShortMessage,
    Submission,
    TooManySegments,
    UnencodableText,
    Verdict,
    destination_address,
    segment,
    source_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from config.settings import LinkSettings, Settings
    from dispatcher.inbound import InboundDesk
    from dispatcher.intake import Intake
    from dispatcher.job import Job
    from dispatcher.ownership import Fence
    from dispatcher.policy import Decision
    from dispatcher.record import Record
    from dispatcher.settle import Settler
    from dispatcher.stops import Stops
    from dispatcher.store import Connection
    from gateway import Delivery, Gateway, Segment, SubmitResult

log = structlog.get_logger()

PRIORITY_FLAG = (3, 2, 0, 0, 0, 0)  # by lane, where the link does not fix it; SMPP v3.4 section 5.2.14, 0 is the lowest
HELD = {"destination": "DESTINATION_FULL", "sender": "SENDER_REFUSED"}  # what a link holds back -> reason
UNKNOWN = CategoryRules()  # of a category that the file no longer names, or not yet read
REGISTERED_DELIVERY = {"all": 1, "failures": 2, "none": 0}  # SMPP v3.4 section 5.2.17


class Dispatcher:
    """Carries jobs to the links and their results to the settler. It is what the gateway's links report to."""

    def __init__(
        self,
        *,
        links: Mapping[str, LinkSettings],
        gateway: Callable[[], Gateway],
        settler: Settler,
        intake: Intake,
        inbound: InboundDesk,
        record: Record,
        fence: Fence,
        clock: Callable[[], float],
        wake_claimer: Callable[[], None],
        settings: Settings,
        hand_on: Callable[[], None],
        stops: Stops,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._links = links
        self.stops = stops
        self._windows = Windows(settings.windows)
        self.caps = Caps(settings.caps)
        self.configure(settings)
        self._hand_on = hand_on  # a job is to go by another link: look soon
        self._gateway = gateway
        self._settler = settler
        self._intake = intake
        self._inbound = inbound
        self._record = record
        self._fence = fence
        self._clock = clock
        self._wall_clock = wall_clock  # seconds since 1970, for windows alone
        self._wake_claimer = wake_claimer
        self.categories: dict[str, CategoryRules] = {}  # as the database says; upkeep reads them

    def configure(self, settings: Settings) -> None:
        """Take what the file says; what waits is asked again where windows or caps changed."""
        self.stops.configure(settings)
        if (settings.windows, settings.caps) != (self._windows.settings, self.caps.settings):
            self._windows = Windows(settings.windows)
            self.caps.configure(settings.caps)
            for link in self._gateway().links.values():
                link.withdraw(_may_wait)
        self._settings = settings
        self._kept_as_they_are = {category.name for category in settings.categories if not category.substitute}
        self._tlvs = {category.name: category.tlv for category in settings.categories if category.tlv}

    # ------------------------------------------------------------------ the way out

    async def count(self, connection: Connection, jobs: Sequence[Job]) -> None:
        """Count those of the claimed jobs that have a cap and may go otherwise; without caps this is nothing.

        Raises:
            StoreUnavailable: all of the jobs are back in the queue.

        """
        if not self.caps.settings:
            return
        now, utc_now = self._clock(), self._wall_clock()
        capped = [
            job for job in jobs if self.caps.cap(job) is not None and isinstance(self._decide(job, now, utc_now), Send)
        ]
        if not capped:
            return
        try:
            await self.caps.take(connection, capped, self._windows, now, utc_now)
        except BaseException:
            for job in jobs:
                self._settler.released(job)
            raise

    def _decide(self, job: Job, now: float, utc_now: float) -> Decision:
        job.suppressed = job.suppressed or self.stops.reason(job)
        hours = self._windows.hours(job, utc_now, LEAST_LIFE_S) if self._windows.settings else None
        return before_send(job, self.categories.get(job.category, UNKNOWN), now, hours, utc_now)

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Send claimed jobs on their way; each comes back through ``answered`` or ``recalled``, or is settled here."""
        now, utc_now = self._clock(), self._wall_clock()
        outgoing: dict[str, list[Submission]] = {}
        for job in jobs:
            decision = self._decide(job, now, utc_now)
            if self.caps.settings and isinstance(decision, Send) and self.caps.cap(job) is not None:
                if job.cap is None:  # it has only just become free to go
                    self._settler.released(job)
                    continue
                decision = replace(job.cap, until=decision.until) if isinstance(job.cap, Send) else job.cap
            match decision:
                case Send():
                    submission = self._submission(job, decision)
                    if submission is not None and not self._is_held(job, submission):
                        outgoing.setdefault(job.link, []).append(submission)
                case Defer(reason, delay_s):
                    self._settler.put(job, deferred(job, reason, delay_s))
                case Stop(state, reason):
                    self._settler.put(job, closed(job, state, reason))
        for link, submissions in outgoing.items():
            if link in self._gateway():
                self._gateway()[link].submit(submissions)
            else:
                self.recalled(link, submissions)

    def _submission(self, job: Job, send: Send) -> Submission | None:
        """The job as its link takes it: the segments not yet accepted; None when it is settled instead."""
        settings = self._links[job.link]
        try:
            segments = segment(
                job.body,
                reference=job.id,  # the same on every resend, restart and link
                alphabet=settings.default_alphabet,
                concatenation=settings.concatenation,
                flash=job.flash,
                flash_form=settings.flash,
                national=settings.national_tables,
                substitute=settings.substitute and job.category not in self._kept_as_they_are,
            )
        except TooManySegments:
            self._settler.put(job, closed(job, "failed", "TOO_MANY_PARTS"))
            return None
        except UnencodableText:
            self._settler.put(job, closed(job, "failed", "UNENCODABLE"))
            return None
        if len(segments) > self.categories.get(job.category, UNKNOWN).max_parts:
            self._settler.put(job, closed(job, "failed", "TOO_MANY_PARTS"))
            return None
        if job.done and len(segments) != job.parts:  # its link cuts texts in another way now: the rest would not fit
            self._settler.put(job, closed(job, "failed", "PARTIAL"))
            return None
        job.parts = len(segments)
        priority = PRIORITY_FLAG[job.lane] if settings.priority_flag is None else settings.priority_flag
        if job.options is not None:
            priority = int(json.loads(job.options).get("priority_flag", priority))
        job.submission = Submission(
            lane=job.lane,
            message=ShortMessage(
                source=source_address(job.sender, ton=settings.source_ton, npi=settings.source_npi),
                destination=destination_address(job.recipient, ton=settings.dest_ton, npi=settings.dest_npi),
                priority_flag=priority,
                service_type=settings.service_type,
                registered_delivery=REGISTERED_DELIVERY[settings.receipts],
                flash=job.flash,
                tlvs=self._tlvs.get(job.category, ()),
            ),
            segments=segments if not job.done else tuple(s for s in segments if not job.done >> (s.part - 1) & 1),
            deadline=min(job.expires_at, send.until),
            context=job,
            written_before=send.day_until,
        )
        return job.submission

    def _is_held(self, job: Job, submission: Submission) -> bool:
        """Let a job wait whose number or sender its SMSC refuses for now; of lane 0 each is tried."""
        if not job.lane or job.link not in self._gateway():
            return False
        held, for_s = self._gateway()[job.link].held_back(submission.message)
        if held:
            job.submission = None
            self._settler.put(job, deferred(job, HELD[held], for_s))
        return bool(held)

    def writing(self, link: str, batch: Sequence[tuple[Submission, Segment]]) -> None:
        """Record what is about to be written; an OSError keeps it off the wire."""
        entries = []
        for submission, part in batch:
            job: Job = submission.context  # type: ignore[assignment]
            entries.append((job.id, job.enqueued_us, part.part))
        self._record.written(link, self._clock(), entries)

    def may_write(self, link: str) -> bool:
        """Whether this process still owns the link; asked directly before each write to its socket."""
        return self._fence.holds(link)

    # ------------------------------------------------------------------ the way back

    def answered(self, link: str, results: Sequence[SubmitResult]) -> None:
        """Record what was answered, and decide each job that it completes."""
        self._record_answers(link, results)
        touched: dict[Job, None] = {}
        for result in results:
            job: Job = result.submission.context  # type: ignore[assignment]
            if job.settled is not None or (job.outcome is not None and job.outcome is not KEEP):
                self._settler.put_late(job, result)
                continue
            job.note(
                result.segment.part,
                result.verdict,
                result.command_status,
                result.message_id,
                result.written_at,
                session_over=result.session_over,
            )
            touched[job] = None
        for job in touched:
            outcome = after_submit(job, self._other_links(job) if job.refusal is not None else 0)
            if outcome.reason.startswith("OTHER_LINK_"):
                self._hand_on()
            if job.refusal is not None and outcome.what is What.CLOSED and job.refusal[0] is Verdict.MISCONFIGURED:
                log.error("submit_misconfigured", link=link, job_id=job.id, reason=outcome.reason)
            if outcome is RELEASED:
                self._settler.released(job)
            else:
                self._settler.put(job, outcome)

    def _other_links(self, job: Job) -> int:
        return other_links(self._settings, job.recipient, job.sender, job.category, job.link)

    def repeating(self, link: str, results: Sequence[SubmitResult]) -> None:
        """Record answers after which the link itself repeats the segments: they are in no doubt."""
        self._record_answers(link, results)

    def _record_answers(self, link: str, results: Sequence[SubmitResult]) -> None:
        entries = []
        for result in results:
            if result.verdict is not UNANSWERED and result.written_at:
                job: Job = result.submission.context  # type: ignore[assignment]
                entries.append((job.id, job.enqueued_us, result.segment.part, result.command_status, result.message_id))
        if entries:
            try:
                self._record.answered(link, self._clock(), entries)
            except OSError as error:
                # the settle makes it durable; until then a kill -9 leaves these in doubt
                log.error("record_failed", link=link, error=error.strerror)

    def recalled(self, link: str, submissions: Sequence[Submission]) -> None:
        """Nothing of these is on the wire: back to the queue as they were."""
        for submission in submissions:
            job: Job = submission.context  # type: ignore[assignment]
            self._settler.released(job)
        log.info("jobs_released", link=link, jobs=len(submissions))

    # ------------------------------------------------------------------ what a link tells besides

    def delivered(self, link: str, deliveries: Sequence[Delivery]) -> None:
        """Receipts and MO messages; each is answered once it is committed."""
        self._intake.take(link, deliveries)
        self._inbound.take(link, deliveries)

    def undecodable(self, link: str, octets: bytes, command_status: int) -> None:  # noqa: ARG002
        """A deliver_sm that nobody can read was refused by the session; it is kept."""
        self._inbound.take_undecodable(link, octets)

    def state_changed(self, link: str, state: str, detail: str) -> None:
        """A link was bound or lost."""
        log.info("link_state_changed", link=link, state=state, detail=detail)
        self._wake_claimer()

    def capacity_freed(self, link: str) -> None:  # noqa: ARG002
        """A waiting room has room again."""
        self._wake_claimer()


def _may_wait(submission: Submission) -> bool:
    return submission.lane != 0
