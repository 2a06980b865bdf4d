"""One claimed job, and what can become of it: pure values and decisions.

While a job is in memory its row stands in ``ready`` and a journal names it. It leaves memory with an outcome:

    KEEP       a part was answered, others are still on their way; the row stays, with what is done
    SUBMITTED  the SMSC took every part; from here on receipts decide
    DEFERRED   refused for now: it waits its delay, an attempt is spent
    CLOSED     ended before acceptance: failed, expired or blocked, with one reason
    UNCERTAIN  a part was written and never answered; SESSION_LOST: its session is over, so that no answer can come
    RELEASED   nothing of it is on the wire: back to the queue as it was
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from gateway import Submission, Verdict, status_name

if TYPE_CHECKING:
    from dispatcher.policy import Decision

MOST_ATTEMPTS = 10  # claims that reached the wire and were refused for now
MOST_AMBIGUOUS_ATTEMPTS = 3  # for a refusal that does not say why
TRIES_BEFORE_OTHER_LINK = {Verdict.RETRY: 3, Verdict.AMBIGUOUS: 2}  # of one link; lane 0: one try
URGENT_DELAY_S = 1.0  # first wait of lanes 0 and 1; doubles, at most 60 s
OTHER_LINK_URGENT_S = 3.0  # for another link to take it, of lanes 0 and 1; then the same link tries again
OTHER_LINK_S = 30.0
DELAY_S = 5.0  # first wait of the other lanes; doubles, at most 300 s
# Python 3.11 takes 0.15 us to find a member of an enum: too long for what is asked for each segment.
ACCEPTED, UNANSWERED = Verdict.ACCEPTED, Verdict.UNANSWERED


class What(IntEnum):
    """How an outcome changes the row; the numbers are those of the settle statement."""

    KEEP = 0
    SUBMITTED = 1
    DEFERRED = 2
    CLOSED = 3
    UNCERTAIN = 4
    RELEASED = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write about a job."""

    what: What
    state: str = ""  # of CLOSED: failed, expired, blocked
    reason: str = ""
    delay_s: float = 0.0  # of DEFERRED
    is_refused: bool = False  # the person refuses it: the SMSC is asked to cancel what it has of it

    @property
    def told(self) -> str:
        """The state's name as users know it; of an outcome that takes the row out of ``ready``."""
        return self.state or _TOLD[self.what]


_TOLD = {What.SUBMITTED: "submitted", What.DEFERRED: "deferred", What.UNCERTAIN: "uncertain"}

KEEP = Outcome(What.KEEP)
SUBMITTED = Outcome(What.SUBMITTED)
UNCERTAIN = Outcome(What.UNCERTAIN, reason="UNANSWERED")
SESSION_LOST = Outcome(What.UNCERTAIN, reason="SESSION_LOST")
RELEASED = Outcome(What.RELEASED)


class Accepted(NamedTuple):
    """A segment that the SMSC took."""

    part: int
    message_id: str
    written_at: float  # monotonic


@dataclass(slots=True, eq=False)
class Late:
    """An answer to a job that is settled already, or that its fence kept out."""

    job: Job
    answer: Accepted
    accepted: bool


@dataclass(slots=True, eq=False)
class Batch:
    """One claim's journal: it lives until each of its jobs is settled or released."""

    number: int
    outstanding: int


class Job:
    """A claimed row: what the wire needs, and what has come back so far. Parts count from 1, bit 0 is part 1."""

    __slots__ = (
        *("answers", "attempt", "batch", "body", "cap", "category", "done", "doubt", "doubted_at", "due_at"),
        *("enqueued_us", "epoch", "expires_at", "first_written_at", "flash", "id", "lane", "link", "lost", "options"),
        *("outcome", "parts", "recipient", "refusal", "resends", "sender", "settled", "submission", "suppressed"),
    )

    # written out: that of a dataclass stays Python where the rest is compiled, and takes ten times as long
    def __init__(
        self,
        id: int,  # noqa: A002
        link: str,
        lane: int,
        epoch: int,
        batch: Batch,
        recipient: str,
        sender: str,
        body: str,
        category: str,
        *,
        flash: bool,
        options: str | None,
        attempt: int,
        resends: int,
        parts: int,
        done: int,
        enqueued_us: int,
        expires_at: float,
        due_at: float,
        suppressed: str = "",
    ) -> None:
        self.id = id
        self.link = link
        self.lane = lane
        self.epoch = epoch  # of the ownership under which it was claimed; only that one may settle it
        self.batch = batch
        self.recipient = recipient
        self.sender = sender
        self.body = body
        self.category = category
        self.flash = flash
        self.options = options  # JSON
        self.attempt = attempt  # including this one
        self.resends = resends
        self.parts = parts
        self.done = done  # bits of the parts accepted
        self.enqueued_us = enqueued_us
        self.expires_at = expires_at  # monotonic
        self.due_at = due_at  # monotonic
        self.suppressed = suppressed  # reason why nothing may go to this number; "": none
        self.submission: Submission | None = None
        self.first_written_at = 0.0  # monotonic; 0.0 until a segment was written
        self.doubt = 0  # bits of the parts written and unanswered
        self.lost = 0  # bits of those of them whose session is over
        self.doubted_at = 0.0  # monotonic: when the last of them was written; 0.0 when that is not known
        self.refusal: tuple[Verdict, int] | None = None  # and its command_status
        self.answers: list[Accepted] = []  # not yet settled
        self.outcome: Outcome | None = None  # waiting to be settled
        self.cap: Decision | None = None  # of one that has a cap: what came of counting it; None: not counted yet
        self.settled: Outcome | None = None  # already settled; a late answer may still come

    @property
    def all_parts(self) -> int:
        """Bits of every part."""
        return (1 << self.parts) - 1

    def note(
        self,
        part: int,
        verdict: Verdict,
        command_status: int,
        message_id: str,
        written_at: float,
        *,
        session_over: bool = False,
    ) -> None:
        """Take in what became of one segment."""
        bit = 1 << (part - 1)
        if verdict is ACCEPTED:
            self.done |= bit
            self.doubt &= ~bit
            self.answers.append(tuple.__new__(Accepted, (part, message_id, written_at)))
        elif verdict is UNANSWERED:
            self.doubt |= bit
            self.lost |= bit if session_over else 0
            self.doubted_at = max(self.doubted_at, written_at)
        else:
            self.refusal = (verdict, command_status)
        if written_at and not self.first_written_at:
            self.first_written_at = written_at

    @property
    def is_over(self) -> bool:
        """Nothing more will come back of what was handed to the link, but a late answer."""
        submission = self.submission
        return submission is None or self.done == self.all_parts or (submission.stopped and submission.unanswered == 0)


def after_submit(job: Job, other_links: int = 0) -> Outcome:
    """Decide what became of a job whose submission is over, or KEEP while it is not (carriers.md's retry table).

    ``other_links`` are those of its route that may carry it, too: what a link refuses without a word against the
    message is handed on to them. Should none of them take it in time, the same link tries again.
    """
    if not job.is_over:
        return KEEP
    if job.doubt:
        return UNCERTAIN if job.doubt & ~job.lost else SESSION_LOST
    if job.done == job.all_parts:
        return SUBMITTED
    if job.refusal is None:
        return RELEASED
    verdict, command_status = job.refusal
    if verdict is Verdict.EXPIRED:
        submission = job.submission
        if submission is not None and min(submission.deadline, submission.written_before) < job.expires_at:
            return RELEASED  # its window has closed, or its day is over: the policy says until when
        return closed(job, "expired", "EXPIRED")
    if verdict is Verdict.OPTED_OUT:
        return closed(job, "failed", "OPTED_OUT")
    reason = status_name(command_status) if command_status else "UNENCODABLE"
    most = {Verdict.RETRY: MOST_ATTEMPTS, Verdict.AMBIGUOUS: MOST_AMBIGUOUS_ATTEMPTS}.get(verdict, 0)
    if other_links and not job.done and _goes_by_another(job, verdict, command_status, max(most, other_links + 1)):
        wait_s = OTHER_LINK_URGENT_S if job.lane <= 1 else OTHER_LINK_S
        return Outcome(What.DEFERRED, reason=f"OTHER_LINK_{reason}", delay_s=wait_s)
    if job.attempt < most:
        return Outcome(What.DEFERRED, reason=f"RETRY_{reason}", delay_s=retry_delay_s(job.lane, job.attempt))
    return closed(job, "failed", reason)


def _goes_by_another(job: Job, verdict: Verdict, command_status: int, most: int) -> bool:
    """Say whether another link is to try: at once what this one is not set up for, the rest after some tries here."""
    if job.attempt >= most:
        return False
    if verdict is Verdict.MISCONFIGURED:
        return bool(command_status)  # without one it was refused here, and would be there
    tries = TRIES_BEFORE_OTHER_LINK.get(verdict, 0)
    if job.lane == 0:
        tries = min(tries, 1)
    return tries > 0 and job.attempt % (tries + 1) == tries  # after a try elsewhere its wait grows as ever


def closed(job: Job, state: str, reason: str) -> Outcome:
    """End a job before acceptance; once parts were accepted, that is a failure whatever the cause.

    One that was to be sent again and may not any more is in doubt as before: its earlier write was never answered. Only
    a refusal by the SMSC ends it, which would have said the same of the earlier one.
    """
    if job.resends and state in ("expired", "blocked"):
        job.doubt = job.all_parts & ~job.done
        return UNCERTAIN
    if job.done:
        return Outcome(What.CLOSED, "failed", "PARTIAL", is_refused=state == "blocked")
    return Outcome(What.CLOSED, state, reason)


def deferred(job: Job, reason: str, delay_s: float) -> Outcome:
    """Let a job wait that may not go now; nothing was tried, so no attempt is spent."""
    job.attempt -= 1
    return Outcome(What.DEFERRED, reason=reason, delay_s=delay_s)


def retry_delay_s(lane: int, attempt: int) -> float:
    """Seconds before the next attempt: doubling, shorter for lanes 0 and 1."""
    first, most = (URGENT_DELAY_S, 60.0) if lane <= 1 else (DELAY_S, 300.0)
    return min(first * 2.0 ** (attempt - 1), most)


def bits(mask: int, parts: int) -> str:
    """A mask as Postgres writes a bit string: part 1 first."""
    return f"{mask:0{parts}b}"[::-1]


def mask(bits_text: str | None) -> int:
    """The inverse of ``bits``; nothing is 0."""
    return int(bits_text[::-1], 2) if bits_text else 0
