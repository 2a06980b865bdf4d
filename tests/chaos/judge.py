"""Pure: the evidence of one run -> findings. Nothing here asks what the daemon believes.

Each rule is a function of its own that yields findings; ``judge`` runs all of them.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.evidence import DELIVERED
from tests.journey.handset import UDHI, Piece, piece_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.evidence import Evidence, Halt, Receipt, TakeOver, Write
    from tests.journey.handset import Taken

GRACE_S = 0.1  # an answer handed to the daemon so long before it was halted or cut off must have been read
SLICE = 64  # segments recorded before one write to the socket: those of the last one before an end may never have left
JITTER_S = 0.25  # two segments written a second apart may be read so much closer to each other
OVERLAP_S = 0.3  # the end of a connection is seen here so much later than the daemon made it
WOKEN_S = 2.0  # a daemon that was stopped ends its sessions so soon after it goes on
CAUSE_S = 10.0  # doubt that an earlier cause made may be told so much later: the database was away
LAG_S = 0.4  # the proxy reads a write so late, where others load the machine; the daemon's time-out began at the write
SKEW_S = 0.05  # between the database's clock and the monotonic one
MOST_DOUBTED = 3  # transmissions of a segment under resend, the first included
CLOSED = {"failed", "expired", "cancelled", "blocked"}
RISING = {"job.unknown": 20, "job.undelivered": 30, "job.delivered": 40}
ENDS = {"job.failed", "job.cancelled", "job.expired", "job.blocked"}


class Finding(NamedTuple):
    """A rule that does not hold, and where."""

    rule: str
    what: str


@dataclass(slots=True)
class Case:
    """The evidence, looked at from several sides."""

    evidence: Evidence
    job_of: dict[str, int] = field(default_factory=dict)  # recipient -> job
    writes: dict[Piece, list[Write]] = field(default_factory=lambda: defaultdict(list))
    by_job: dict[int, list[Write]] = field(default_factory=lambda: defaultdict(list))
    halts: dict[str, list[Halt]] = field(default_factory=lambda: defaultdict(list))
    events: dict[int, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, evidence: Evidence) -> Case:
        """Look at it."""
        case = cls(evidence)
        case.job_of = {job.recipient: job_id for job_id, job in evidence.jobs.items()}
        for write in evidence.writes:
            case.writes[write.piece].append(write)
            if write.piece.destination in case.job_of:
                case.by_job[case.job_of[write.piece.destination]].append(write)
        for halt in sorted(evidence.halts, key=lambda halt: halt.at):
            case.halts[halt.daemon].append(halt)
        for event in evidence.events:
            case.events[event.job_id].append((event.type, event.at))
        return case

    def read_at(self, write: Write) -> float | None:
        """When the daemon had certainly read the answer; None when it may never have."""
        if write.answered_at is None:
            return None
        at = write.answered_at
        for halt in self.halts[write.connection.daemon]:
            if halt.at - GRACE_S < at < halt.until:
                if halt.how != "stop":
                    return None
                at = halt.until  # it lies in the socket until the daemon goes on
        return at + GRACE_S if at + GRACE_S < self.evidence.lives[write.connection].ended else None

    def others_took(self, write: Write, until: float) -> bool:
        """Whether another daemon held the link, or began to take it, at some instant between: it cannot know our answers."""
        return any(
            taken.link == write.connection.link
            and taken.daemon != write.connection.daemon
            and write.at < taken.at + SKEW_S
            and taken.at < until + SKEW_S
            for taken in self.evidence.take_overs
        ) or any(
            connection.link == write.connection.link
            and connection.daemon != write.connection.daemon
            and life.bound is not None
            and life.bound < until
            and life.ended > write.at
            for connection, life in self.evidence.lives.items()
        )

    def doubted(self, job_id: int) -> list[float]:
        """When the job was said to be in doubt."""
        return [at for kind, at in self.events[job_id] if kind == "job.uncertain"]


def judge(evidence: Evidence) -> list[Finding]:
    """Every finding, rule by rule."""
    case = Case.of(evidence)
    rules = (
        _lost,
        _rewritten,
        _held,
        _doubled,
        _doubt,
        _texts,
        _cancelled,
        _rising,
        _journal,
        _rate,
        _binds,
        _receipts,
        _stored,
        _ended,
    )
    return [Finding(rule.__name__[1:], what) for rule in rules for what in rule(case)]


# ---------------------------------------------------------------- rule 1: nothing is lost


def _lost(case: Case) -> Iterator[str]:
    """One terminal state, in one place."""
    evidence = case.evidence
    final = CLOSED | {"unknown", "undelivered", "delivered"} | (set() if evidence.receipts else {"submitted"})
    for job_id in evidence.jobs:
        state = evidence.states.get(job_id, "nowhere")
        if state not in final:
            yield f"job {job_id} is {state}"
        places = evidence.places.get(job_id, [])
        if (
            len(places) != len(set(places))
            or not places
            or set(places) not in ({"sent"}, {"closed"}, {"closed", "sent"})
        ):
            yield f"job {job_id} is in {places}"
    for job_id in evidence.places.keys() - evidence.jobs.keys():
        yield f"job {job_id} was never committed by the client"


# ---------------------------------------------------------------- rules 2 and 3: what is written twice


def _rewritten(case: Case) -> Iterator[str]:
    """An accepted segment whose answer was read is never written again."""
    for piece, writes in case.writes.items():
        for n, write in enumerate(writes):
            read_at = case.read_at(write) if write.status == 0 else None
            if read_at is None:
                continue
            for later in writes[n + 1 :]:
                if later.at > read_at and not case.others_took(write, later.at):
                    yield f"{piece} was accepted at {write.at:.3f}, read by {read_at:.3f}, written again at {later.at:.3f}"


def _is_doubtful(write: Write) -> bool:
    return write.status is None or write.status == 0


def _held(case: Case) -> Iterator[str]:
    """Under hold nothing is written again after a write that was accepted or unanswered."""
    evidence = case.evidence
    for piece, writes in case.writes.items():
        job = case.job_of.get(piece.destination)
        if job is None or evidence.jobs[job].category in evidence.resent:
            continue
        for write in writes[:-1]:
            if _is_doubtful(write):
                yield f"{piece} of job {job} was written {len(writes)} times, at {[round(w.at, 3) for w in writes]}"
                break


def _doubled(case: Case) -> Iterator[str]:
    """Duplicates are a subset of doubt under resend, three at most."""
    evidence = case.evidence
    for piece, writes in case.writes.items():
        job = case.job_of.get(piece.destination)
        if job is None:
            yield f"{piece} belongs to no job"
            continue
        open_ = [write for write in writes if _is_doubtful(write)]
        if len(open_) > MOST_DOUBTED:
            yield f"{piece} of job {job} was written {len(open_)} times"
        if evidence.jobs[job].category in evidence.resent:
            for write, again in pairwise(writes):
                if _is_doubtful(write) and not any(
                    write.at - SKEW_S < at < again.at + SKEW_S for at in case.doubted(job)
                ):
                    yield f"{piece} of job {job} was written again at {again.at:.3f} without doubt"


# ---------------------------------------------------------------- rule 4: no more doubt than there is


def _doubt(case: Case) -> Iterator[str]:
    """Each doubt has a write that was unanswered then, for a cause; of those that never left, a slice a cause at most."""
    evidence = case.evidence
    unseen = [
        (at, job_id)
        for job_id in evidence.jobs
        for at in case.doubted(job_id)
        if not any(_excuses(case, write, at) for write in case.by_job[job_id])
    ]
    causes = sorted(
        [(halt.at, SLICE) for halt in evidence.halts if halt.how == "kill"]
        + [(life.ended, SLICE) for life in evidence.lives.values() if life.bound is not None]
        + [(taken.at - SKEW_S, taken.journalled) for taken in _from_another(evidence)]
    )
    instants = [at for at, _ in causes]
    latest = Counter(bisect.bisect_right(instants, at + SKEW_S) for at, _ in unseen)
    for n, count in latest.items():
        # several causes lie close together: their doubts may come in any order
        most = sum(share for at, share in causes[:n] if at > instants[n - 1] - CAUSE_S) if n else 0
        if count > most:
            yield f"{count} doubts without an unanswered segment, {most} at most: {sorted(unseen)[:3]}"


def _excuses(case: Case, write: Write, at: float) -> bool:
    """Whether this write could be in doubt at this instant: no answer was read, and none could be awaited any more."""
    if write.at > at + SKEW_S:
        return False
    timeout_s = case.evidence.response_timeout_s
    read_at = case.read_at(write)
    if read_at is not None and read_at < min(at - SKEW_S, write.at + timeout_s - LAG_S):
        return False
    return (
        at > write.at + timeout_s - LAG_S
        or case.evidence.lives[write.connection].ended < at + SKEW_S
        or any(write.at - GRACE_S < halt.at < at + SKEW_S for halt in case.halts[write.connection.daemon])
    )


def _from_another(evidence: Evidence) -> Iterator[TakeOver]:
    """Take-overs of what another daemon left: whoever takes a link again after itself has its local record.

    Unless another one began to take it in between and broke off.
    """
    known: dict[str, set[str]] = defaultdict(set)  # link -> who took it last, and who began to since
    for taken in sorted(evidence.take_overs):
        if taken.is_complete:
            known[taken.link] = {taken.daemon}
            continue
        if known[taken.link] - {taken.daemon}:
            yield taken
        known[taken.link].add(taken.daemon)


# ---------------------------------------------------------------- rule 5: texts, cancels, states, limits


def _texts(case: Case) -> Iterator[str]:
    """What the SMSC took, joined, is what was enqueued."""
    evidence = case.evidence
    parts: dict[str, dict[Piece, Taken]] = defaultdict(dict)
    for taken, _ in evidence.taken:
        piece = piece_of(taken)
        if parts[taken.destination].setdefault(piece, taken).octets != taken.octets:
            yield f"{piece} came with two contents"
    for destination, pieces in parts.items():
        job = case.job_of.get(destination)
        if job is None:
            continue  # told by another rule
        if len({(piece.reference, piece.parts) for piece in pieces}) > 1:
            yield f"job {job} was cut in more than one way"
            continue
        texts = {piece.part: _text(taken) for piece, taken in pieces.items()}
        whole = next(iter(pieces)).parts == len(texts)
        joined = "".join(texts[part] for part in sorted(texts))
        body = evidence.jobs[job].body
        if whole and joined != body:
            yield f"job {job}: the text that arrived is another one"
        if not whole and any(text not in body for text in texts.values()):
            yield f"job {job}: a part that arrived is of another text"
        if not whole and evidence.states.get(job) in {"submitted", "delivered"}:
            yield f"job {job} is {evidence.states[job]}, and {len(texts)} of its parts arrived"
    for job, state in evidence.states.items():
        told = state in {"submitted", "delivered", "undelivered"} and job in evidence.jobs
        if told and evidence.jobs[job].recipient not in parts:
            yield f"job {job} is {state}, and the SMSC never saw it"


def _text(taken: Taken) -> str:
    body = taken.octets[taken.octets[0] + 1 :] if taken.esm_class & UDHI else taken.octets
    return text_of(taken.data_coding, body)


def _cancelled(case: Case) -> Iterator[str]:
    """A job that was said to be cancelled is, and never reaches the wire after that."""
    for cancel in case.evidence.cancels:
        if cancel.answer != "cancelled":
            continue
        if case.evidence.states.get(cancel.job_id) != "cancelled":
            yield f"job {cancel.job_id} was cancelled and is {case.evidence.states.get(cancel.job_id)}"
        for write in case.by_job[cancel.job_id]:
            if write.at > cancel.at:
                yield f"job {cancel.job_id} was cancelled at {cancel.at:.3f} and written at {write.at:.3f}"
            elif _is_doubtful(write):
                yield f"job {cancel.job_id} was cancelled and had been sent at {write.at:.3f}"


def _rising(case: Case) -> Iterator[str]:
    """States only rise, and end once."""
    for job_id, told in case.events.items():
        ranks = [RISING[kind] for kind, _ in told if kind in RISING]
        if ranks != sorted(set(ranks)):
            yield f"job {job_id}: {[kind for kind, _ in told]}"
        if sum(kind in ENDS for kind, _ in told) > 1:
            yield f"job {job_id} ended twice: {[kind for kind, _ in told]}"


def _journal(case: Case) -> Iterator[str]:
    """At the end nothing is claimed."""
    if case.evidence.journalled:
        yield f"{case.evidence.journalled} rows of tocsin.claim are left"


def _rate(case: Case) -> Iterator[str]:
    """The link's rate holds in any sliding second, over all instances."""
    instants: dict[str, list[float]] = defaultdict(list)
    for write in case.evidence.writes:
        instants[write.connection.link].append(write.at)
    for link, ats in instants.items():
        ats.sort()
        most, at = max(
            ((n - bisect.bisect_left(ats, ats[n] - (1.0 - JITTER_S)) + 1, ats[n]) for n in range(len(ats))),
            default=(0, 0.0),
        )
        if most > case.evidence.rate:
            yield f"{most} segments in {1.0 - JITTER_S} s on {link}, {case.evidence.rate} are allowed, at {at:.3f}"


def _binds(case: Case) -> Iterator[str]:
    """No more sessions are bound than the link has, over all instances; a stopped daemon's cannot end."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for connection, life in case.evidence.lives.items():
        if life.bound is None:
            continue
        ended = life.ended
        for halt in case.halts[connection.daemon]:
            if halt.how == "stop" and halt.at - GRACE_S <= life.ended <= halt.until + WOKEN_S:
                ended = min(ended, halt.at)
        spans[connection.link].append((life.bound, ended))
    for link, lives in spans.items():
        for bound, _ in lives:
            together = sum(begin <= bound and end > bound + OVERLAP_S for begin, end in lives)
            if together > case.evidence.sessions:
                yield f"{together} sessions on {link} at {bound:.3f}, {case.evidence.sessions} are allowed"


# ---------------------------------------------------------------- rule 6: receipts mean what they say


def _receipts(case: Case) -> Iterator[str]:
    """Delivered only if every part's receipt says so; and no acknowledged receipt of an accepted segment is lost."""
    evidence = case.evidence
    if not evidence.receipts:
        return
    told: dict[str, dict[Piece, list[Receipt]]] = defaultdict(lambda: defaultdict(list))
    for taken, message_id in evidence.taken:
        receipts = told[taken.destination][piece_of(taken)]
        if (receipt := evidence.receipts_sent.get(message_id or "")) is not None:
            receipts.append(receipt)
    for job_id, job in evidence.jobs.items():
        state, pieces = evidence.states.get(job_id), told[job.recipient]
        whole = bool(pieces) and len(pieces) == next(iter(pieces)).parts
        good = [[r for r in receipts if r.state == DELIVERED] for receipts in pieces.values()]
        if state == "delivered" and not (whole and all(good)):
            yield f"job {job_id} is delivered, and not every part's receipt says so"
        certain = all(write.status == 0 and case.read_at(write) is not None for write in case.by_job[job_id])
        told_good = whole and all(any(r.acknowledged for r in receipts) for receipts in good)
        if state != "delivered" and told_good and certain and not case.doubted(job_id):
            yield f"job {job_id} is {state}, and acknowledged receipts say delivered"


def _stored(case: Case) -> Iterator[str]:
    """The message id of an accepted segment is kept once its answer was read: its receipt will ask for it."""
    for write in case.evidence.writes:
        if write.status or write.message_id in case.evidence.stored or case.read_at(write) is None:
            continue
        if not case.others_took(write, float("inf")):
            yield f"{write.piece}: {write.message_id}, written at {write.at:.3f}, is not in tocsin.sent"


# ---------------------------------------------------------------- besides


def _ended(case: Case) -> Iterator[str]:
    """A drain ends in time and with 0; a daemon says nothing but log lines."""
    for drain in case.evidence.drains:
        if drain.code != 0:
            yield f"daemon {drain.daemon} drained at {drain.at:.3f} and ended with {drain.code}"
    if case.evidence.outcries:
        yield case.evidence.outcries[-1]
