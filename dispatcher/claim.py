"""Takes jobs out of the queue into the journal, lane by lane, no more than the links have room for.

A claim locks its rows, writes their ids into the journal and commits; only then may a segment of theirs reach a
socket. Rows are not updated: a lock leaves no dead row behind. The rows stay in ``ready`` until they are settled,
so memory says which ids it holds and each lane remembers how far it has read:

* ``frontier``: the highest id read. The next claim starts behind it.
* ``missing``: ids at or below the frontier that may go: released ones, and rows that became visible late, since ids
  are not handed out in commit order.
* ``floor``: nothing at or below it can still become visible. It follows the frontier by marks (highest id read,
  xid of that claim): once a later snapshot's xmin is greater than that xid, a probe of the range up to the mark's id
  has seen everything born below it, because ``enqueue`` has its xid before it draws an id. What a probe saw and nobody
  holds keeps the floor below it: a row that was locked when it was asked for, until the lock ends.

A transaction that stays open and has written something, whatever and in whichever database, holds every snapshot's
xmin. So while xmin stands still, the probe first asks which transactions may have drawn an id at all
(``oldest_enqueue``): the floor goes on past all others. Otherwise each claim of lane 0 would walk over ever more rows
that are gone and that no vacuum can take away.

Lane 0 reads from its floor each time, leaving out what is held, so that an emergency whose transaction committed
late is seen by the claim that its notification wakes, and not by a probe later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatcher.job import Batch, Job, mask
from dispatcher.store import array, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dispatcher.store import Connection

LANES = 6
LAST_ID = 2**63 - 1
MISSING_AT_ONCE = 200  # ids probed one by one in a claim
MOST_MARKS = 64  # one is made a claim; the oldest suffices when more wait


@dataclass(slots=True)
class LaneState:
    """What one link's lane has read and holds."""

    frontier: int = 0
    seen: int = 0  # everything up to it was seen by a probe
    floor: int = 0
    held: dict[int, Job] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    marks: deque[tuple[int, int]] = field(default_factory=deque)  # (highest id read, xid of that claim)

    @property
    def begin(self) -> int:
        """Rows up to it are gone or held: who looks for waiting ones from here walks over none that are gone."""
        return min(self.floor, *(number - 1 for number in self.missing)) if self.missing else self.floor

    def read(self, highest: int, xid: int) -> None:
        """Note a claim that returned rows."""
        if highest > self.frontier:
            self.frontier = highest
            self.marks.append((highest, xid))
            if len(self.marks) > MOST_MARKS:
                del self.marks[1]

    def probed(self, upto: int, oldest: int, unheld: Iterable[int]) -> None:
        """Note a probe up to this id from which only transactions of xid ``oldest`` and above could hide rows."""
        while self.marks and self.marks[0][0] <= upto and self.marks[0][1] < oldest:
            self.seen = self.marks.popleft()[0]
        self.floor = max(self.floor, min([self.seen, *(number - 1 for number in unheld)]))


@dataclass(frozen=True, slots=True)
class Window:
    """A range of one lane to claim from: ids above ``after`` up to ``upto``, ``n`` rows at most."""

    link: str
    lane: int
    after: int
    upto: int
    n: int


class Claimer:
    """The lanes of every owned link. Claims run on the connection they are given, one at a time a connection."""

    def __init__(self, epochs: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._epochs = epochs
        self._clock = clock
        self._lanes: dict[tuple[str, int], LaneState] = {}
        self._xmin = 0  # at the last probe
        self.consent_for: frozenset[str] = frozenset()  # categories, as the database says; upkeep reads them
        self._xmin_stands = False  # it was the same at the one before

    def lane(self, link: str, lane: int) -> LaneState:
        """The state of one lane."""
        state = self._lanes.get((link, lane))
        if state is None:
            state = self._lanes[link, lane] = LaneState()
        return state

    def forget(self, link: str) -> None:
        """Drop what is known of a link that is no longer ours; what it holds settles by itself, and is fenced."""
        for lane in range(LANES):
            self._lanes.pop((link, lane), None)

    def batches(self) -> set[int]:
        """Journals whose jobs memory holds."""
        return {job.batch.number for state in self._lanes.values() for job in state.held.values()}

    def release(self, job: Job) -> None:
        """The job's row stays in the queue: it may be claimed again."""
        state = self.lane(job.link, job.lane)
        if state.held.get(job.id) is job:
            del state.held[job.id]
            state.missing.add(job.id)

    def gone(self, job: Job) -> None:
        """The job's row has left ``ready``, or is no longer ours."""
        held = self.lane(job.link, job.lane).held
        if held.get(job.id) is job:
            del held[job.id]

    def claimed_again(self, job: Job) -> Job | None:
        """The same row as it was claimed later, so that this job is of the past."""
        held = self.lane(job.link, job.lane).held.get(job.id)
        return None if held is job else held

    def holds(self, link: str) -> bool:
        """Whether memory holds a job of this link."""
        return any(self.lane(link, lane).held for lane in range(LANES))

    def arrived(self, link: str, lane: int, ids: Iterable[int]) -> None:
        """Rows with these ids came into the lane from elsewhere: promoted."""
        state = self.lane(link, lane)
        state.missing.update(number for number in ids if number <= state.frontier)

    def windows(self, link: str, lane: int, room: int) -> list[Window]:
        """Where to claim ``room`` rows of a lane: what is missing first, then behind the frontier."""
        if room <= 0:
            return []
        state = self.lane(link, lane)
        found = sorted(state.missing)[: min(room, MISSING_AT_ONCE)]
        wanted = [Window(link, lane, number - 1, number, 1) for number in found]
        state.missing.difference_update(found)
        if room > len(found):
            after = state.frontier if lane else state.floor
            wanted.append(Window(link, lane, after, LAST_ID, room - len(found)))
        return wanted

    async def claim(self, connection: Connection, windows: Sequence[Window]) -> list[Job]:
        """Journal and return the jobs of these windows.

        Raises:
            StoreUnavailable: nothing is known to be claimed; should the journal stand, upkeep drops it.

        """
        windows = [window for window in windows if window.link in self._epochs]
        if not windows:
            return []
        epochs = dict(self._epochs)  # as the statement says them; a link may be lost and taken again meanwhile
        urgent = [number for w in windows if w.lane == 0 for number in self.lane(w.link, 0).held]
        try:
            rows = await connection.fetch(
                "claim",
                texts(epochs),
                array(epochs.values()),
                texts([w.link for w in windows]),
                array([w.lane for w in windows]),
                array([w.after for w in windows]),
                array([w.upto for w in windows]),
                array([w.n for w in windows]),
                array(urgent),
                texts(self.consent_for),
            )
        except BaseException:
            for window in windows:
                if window.n == 1 and window.upto == window.after + 1:
                    self.lane(window.link, window.lane).missing.add(window.upto)
            raise
        if not rows:
            return []
        now = self._clock()
        batch = Batch(number=rows[0][0], outstanding=0)
        jobs = []
        for row in rows:
            # fmt: off
            (_, xid, link, lane, number, recipient, sender, body, category, flash, options, attempt, resends, parts,
             done, enqueued_us, life_s, waited_s, suppressed) = row
            # fmt: on
            if self._epochs.get(link) != epochs[link]:
                continue  # not ours any more: a take-over accounts for what this journal names
            state = self.lane(link, lane)
            state.read(number, xid)
            if number in state.held:
                continue
            job = Job(
                id=number,
                link=link,
                lane=lane,
                epoch=epochs[link],
                batch=batch,
                recipient=recipient,
                sender=sender,
                body=body,
                category=category,
                flash=flash,
                options=options,
                attempt=attempt + 1,
                resends=resends,
                parts=parts,
                done=mask(done),
                enqueued_us=enqueued_us,
                expires_at=now + life_s,
                due_at=now - waited_s,
                suppressed=suppressed or "",
            )
            state.held[number] = job
            jobs.append(job)
        batch.outstanding = len(jobs)
        return jobs

    async def probe(self, connection: Connection, *, whole: bool = False) -> bool:
        """Look for rows that became visible behind a frontier; true when some did.

        ``whole`` reads from the lane's beginning: a row that was locked when it was asked for comes back with it.
        """
        lanes = [
            (link, lane, state, state.frontier)  # which a claim of lane 0 may raise before the probe is back
            for (link, lane), state in self._lanes.items()
            if (state.floor < state.frontier or whole) and state.frontier and link in self._epochs
        ]
        if not lanes:
            return False
        held = [set(state.held) for _, _, state, _ in lanes]  # what is settled while the probe runs was not missed
        oldest = 0
        if self._xmin_stands:  # asked before the probe's snapshot is taken: who has ended by now is seen by it
            oldest = (await connection.fetch("oldest_enqueue"))[0][0]
        rows = await connection.fetch(
            "probe",
            texts([link for link, _, _, _ in lanes]),
            array([lane for _, lane, _, _ in lanes]),
            array([0 if whole else state.floor for _, _, state, _ in lanes]),
            array([upto for _, _, _, upto in lanes]),
        )
        found = False
        for n, ids, xmin in rows:
            _, _, state, upto = lanes[n - 1]
            unheld = {int(number) for number in ids[1:-1].split(",") if number} - state.held.keys() - held[n - 1]
            found = found or bool(unheld - state.missing)
            state.missing |= unheld
            state.probed(upto, max(xmin, oldest), unheld)
        xmin = rows[0][2]
        self._xmin_stands, self._xmin = xmin == self._xmin, xmin
        return found
