"""What the demonstration concludes, and from what: the SMSCs' logs, beside what was enqueued and what the app reads.

The daemon is not asked. Texts are read by ``demo_handset``, an alphabet of its own; the fields of a submit_sm by the
gateway's codec, through the simulator. Every check can fail, and then says which job or which segment, by its number.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.demo_handset import Message, Taken, read
from dispatcher.demo_load import LANE_OF, Answer, Request
from gateway import count

STOP: Final = "STOP"  # what patients of the demonstration send to be left alone
FEWEST_OVERTAKEN: Final = 50  # segments that waited on its link and that an emergency came before
MOST_IN_FRONT_S: Final = 0.25  # of the link's rate: what may go between an emergency's commit and its own segments
TOLD: Final = 3  # problems of one check that are told; the others are counted


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as the app knows it."""

    id: int
    request: Request = field(repr=False)
    enqueued_at: float  # monotonic seconds, just before the commit


@dataclass(frozen=True, slots=True)
class LinkLog:
    """What one SMSC took, in the order of the wire, and how many segments it grants a second."""

    name: str
    limit_per_s: int
    taken: Sequence[Taken] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is judged."""

    jobs: Sequence[Job]
    links: Sequence[LinkLog]
    receipts: Mapping[str, str] = field(repr=False)  # message id -> delivered or undelivered, as the SMSC sent it
    states: Mapping[int, str] = field(repr=False)  # job -> state, as the view job_status has it
    answers: Sequence[Answer]  # that the SMSCs sent
    inbox: Sequence[tuple[str, str]] = field(repr=False)  # source and text, oldest first, as the view inbox has them


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold; `fact` says how it was seen."""

    name: str
    fact: str
    problems: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Say in one line what is wrong, if something is."""
        if not self.problems:
            return None
        more = len(self.problems) - TOLD
        return "; ".join(self.problems[:TOLD]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """What became of one category."""

    name: str
    lane: int
    jobs: int
    segments: int
    delivered: int
    undelivered: int
    p50_s: float  # from the commit of the enqueue until the SMSC had read the last segment; nan of nothing
    p99_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where an emergency stood, counted in segments, in the order of the SMSC of its link."""

    link: str
    number: int  # of its last segment, from 1
    total: int
    overtook: int  # enqueued before it, and came after it
    overtaken_by: int  # came between its commit and its own
    waited_s: float  # from its commit until the SMSC had read its last segment


@dataclass(frozen=True, slots=True)
class LinkRow:
    """What one link carried."""

    name: str
    segments: int
    limit_per_s: int
    busiest_second: int  # segments that were read within one second, wherever it begins
    surely: int  # of them: a busy machine reads late what came earlier


@dataclass(frozen=True, slots=True)
class Judgement:
    """The summary."""

    categories: tuple[CategoryRow, ...]
    emergencies: tuple[Place, ...]
    links: tuple[LinkRow, ...]
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Say whether all of it is as it should be."""
        return all(not check.problems for check in self.checks)


def judge(evidence: Evidence) -> Judgement:
    """Read the logs, and set them beside everything else."""
    return _Trial(evidence).judgement()


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Give the smallest value that so many per cent do not exceed; nan of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def busiest_second(taken: Sequence[Taken], *, surely: bool = False) -> int:
    """Give the most segments that were read within one second, wherever it begins; or that surely came within one.

    One that waited while the reader was busy may have come at any instant since: it surely lies in a second only if
    all of that time does.
    """
    most = first = 0
    for last, segment in enumerate(taken):
        while first < last and segment.at - (taken[first].since if surely else taken[first].at) >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


class _Trial:
    """One judging: what the handset read, and which job each message is."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._link_of: dict[int, LinkLog] = {}  # job -> where its message came out
        self._message_of: dict[int, Message] = {}
        self._text_problems: list[str] = []
        self._once_problems: list[str] = []
        self._stopped = {answer.source for answer in evidence.answers if answer.text == STOP}
        self._confirmations: list[Message] = []
        self._match()
        self._held = {
            job.id
            for job in evidence.jobs  # to somebody who sent STOP, blocked, and it did not come
            if job.request.recipient in self._stopped
            and job.id not in self._message_of
            and evidence.states.get(job.id) == "blocked"
        }

    def judgement(self) -> Judgement:
        places = {job.id: self._place(job) for job in self._emergencies() if job.id in self._message_of}
        links = tuple(
            LinkRow(
                link.name,
                len(link.taken),
                link.limit_per_s,
                busiest_second(link.taken),
                busiest_second(link.taken, surely=True),
            )
            for link in self._evidence.links
        )
        return Judgement(
            self._categories(),
            tuple(places.values()),
            links,
            (
                self._texts(),
                self._once(),
                self._flash(),
                self._emergency(places),
                _rates(links),
                self._states(),
                self._replies(),
                self._stops(),
            ),
        )

    def _match(self) -> None:
        """Find the job of each message by its number and text, which are there once."""
        wanted: dict[tuple[str, str], Job] = {
            (job.request.recipient, job.request.body): job for job in self._evidence.jobs
        }
        for link in self._evidence.links:
            messages, problems = read(link.taken)
            self._once_problems += [f"{link.name}: {problem}" for problem in problems]
            for message in messages:
                job = wanted.get((message.destination, message.text))
                where = f"{link.name}: segment {message.places[0] + 1}"
                if job is None and message.destination in self._stopped:
                    self._confirmations.append(message)
                elif job is None:
                    self._text_problems.append(f"{where} begins a text that nobody enqueued")
                elif job.id in self._message_of:
                    self._once_problems.append(f"{where} begins job {job.id} once more")
                else:
                    self._message_of[job.id] = message
                    self._link_of[job.id] = link

    def _emergencies(self) -> list[Job]:
        return [job for job in self._evidence.jobs if job.request.category == "emergency"]

    def _segments(self) -> int:
        return sum(len(link.taken) for link in self._evidence.links)

    # The checks

    def _texts(self) -> Check:
        missing = [f"job {job.id} did not come as it was enqueued" for job in self._unmatched()]
        return Check(
            "texts",
            f"{len(self._message_of):,} texts, read and joined, equal what was enqueued",
            (*missing, *self._text_problems),
        )

    def _unmatched(self) -> list[Job]:
        return [job for job in self._evidence.jobs if job.id not in self._message_of and job.id not in self._held]

    def _once(self) -> Check:
        expected = sum(count(job.request.body)[1] for job in self._evidence.jobs if job.id not in self._held)
        expected += sum(len(message.places) for message in self._confirmations)
        problems = list(self._once_problems)
        if self._segments() != expected:
            problems.append(f"{self._segments():,} segments came, {expected:,} were to come")
        return Check("once", f"each of {expected:,} segments came once", tuple(problems))

    def _flash(self) -> Check:
        asked = sum(job.request.flash for job in self._evidence.jobs)
        problems = tuple(
            f"job {job.id} {'was no flash' if job.request.flash else 'was a flash that nobody asked for'}"
            for job in self._evidence.jobs
            if job.id in self._message_of and self._message_of[job.id].flash != job.request.flash
        )
        return Check("flash", f"{asked} flash messages were asked for, and no other was one", problems)

    def _emergency(self, places: Mapping[int, Place]) -> Check:
        emergencies = self._emergencies()
        limits = {link.name: link.limit_per_s for link in self._evidence.links}
        problems = [f"job {job.id} did not come" for job in emergencies if job.id not in places]
        for job, place in places.items():
            most = int(MOST_IN_FRONT_S * limits[place.link])
            if place.overtaken_by > most:
                problems.append(f"{place.overtaken_by} segments went before job {job} after its commit, {most} may")
            if place.overtook < FEWEST_OVERTAKEN:
                problems.append(
                    f"job {job} overtook {place.overtook} segments, {FEWEST_OVERTAKEN} would show something"
                )
        if not emergencies:
            problems.append("none was enqueued")
        return Check("emergency", f"{len(emergencies)} emergencies came before what waited", tuple(problems))

    def _states(self) -> Check:
        """A job is the worst of its segments."""
        said: dict[int, str] = {}
        for job, message in self._message_of.items():
            taken = self._link_of[job].taken
            receipts = {self._evidence.receipts.get(taken[place].message_id, "nothing") for place in message.places}
            said[job] = next(worst for worst in ("nothing", "undelivered", "delivered") if worst in receipts)
        problems = tuple(
            f"job {job.id} is {self._evidence.states.get(job.id, 'missing')}, its receipts say {said[job.id]}"
            for job in self._evidence.jobs
            if job.id in said and self._evidence.states.get(job.id) != said[job.id]
        )
        return Check(
            "receipts",
            f"{len(said):,} states in job_status are what {len(self._evidence.receipts):,} receipts said",
            problems,
        )

    def _replies(self) -> Check:
        """The parts of a long one may be rows of their own."""
        sent = {answer.source: answer.text for answer in self._evidence.answers}
        came: defaultdict[str, str] = defaultdict(str)
        for source, text in self._evidence.inbox:
            came[source] += text
        wrong = sum(came.get(source) != text for source, text in sent.items())
        problems = [f"{wrong} of {len(sent)} are not in the inbox as they were sent"] if wrong else []
        strangers = len(came.keys() - sent.keys())
        if strangers:
            problems.append(f"the inbox has rows of {strangers} people who sent nothing")
        return Check("replies", f"{len(sent)} were sent, and are in the inbox word for word", tuple(problems))

    def _stops(self) -> Check:
        """Each STOP is confirmed once; what went before it is out."""
        told = Counter(message.destination for message in self._confirmations)
        problems = [f"{times} confirmations went to one number" for times in told.values() if times > 1]
        if len(told) < len(self._stopped):
            problems.append(f"{len(told)} of {len(self._stopped)} were confirmed")
        return Check(
            "stop",
            f"{len(self._stopped)} sent STOP: {len(self._held)} messages held back, each confirmed once",
            tuple(problems),
        )

    # The figures

    def _place(self, job: Job) -> Place:
        link, message = self._link_of[job.id], self._message_of[job.id]
        last = max(message.places)
        ours = set(message.places)
        enqueued_later = {
            place
            for other in self._emergencies()
            if other.enqueued_at > job.enqueued_at and self._link_of.get(other.id) is link
            for place in self._message_of[other.id].places
        }
        before = sum(taken.at < job.enqueued_at for taken in link.taken)
        return Place(
            link=link.name,
            number=last + 1,
            total=len(link.taken),
            overtook=sum(place not in enqueued_later for place in range(last + 1, len(link.taken))),
            overtaken_by=sum(place not in ours for place in range(before, last)),
            waited_s=link.taken[last].at - job.enqueued_at,
        )

    def _categories(self) -> tuple[CategoryRow, ...]:
        rows = []
        for name in sorted(
            {job.request.category for job in self._evidence.jobs}, key=lambda name: (LANE_OF[name], name)
        ):
            jobs = [job for job in self._evidence.jobs if job.request.category == name]
            came = [job for job in jobs if job.id in self._message_of]
            waits = sorted(
                self._link_of[job.id].taken[max(self._message_of[job.id].places)].at - job.enqueued_at for job in came
            )
            states = Counter(self._evidence.states.get(job.id) for job in jobs)
            rows.append(
                CategoryRow(
                    name,
                    LANE_OF[name],
                    len(jobs),
                    sum(len(self._message_of[job.id].places) for job in came),
                    states["delivered"],
                    states["undelivered"],
                    percentile(waits, 50),
                    percentile(waits, 99),
                )
            )
        return tuple(rows)


def _rates(links: Sequence[LinkRow]) -> Check:
    return Check(
        "rate",
        "at most " + ", ".join(map(_rate, links)),
        tuple(
            f"{link.name} took {link.surely} segments within a second, {link.limit_per_s} are its limit"
            for link in links
            if link.surely > link.limit_per_s
        ),
    )


def _rate(link: LinkRow) -> str:
    if link.busiest_second <= link.limit_per_s:
        return f"{link.busiest_second} of {link.limit_per_s}/s on {link.name}"
    return f"{link.surely} of {link.limit_per_s}/s on {link.name} ({link.busiest_second} read late, together)"
