"""Which links this instance may write to, and until when.

One instance owns a link: its row holds the owner, an epoch and a beat that the owner raises every 2 s.

    free ──take-over──► owned ──2 s beat──► owned            the epoch rises at each take-over and fences older owners
    owned by another: watched; taken over once the same (epoch, beat) was seen for 10 s on OUR clock
    owned by us, before this process: the state directory's lock says that our predecessor is dead; taken at once
    free for us and others: shares.py says who takes it at once, and who leaves it to them for a grace
    owned ──7 s without a beat that the database took──► may not write ──► beat taken again, or lost

A link is given back only once it is closed and each of its jobs is settled or released: its journal is empty.

No time is compared between hosts. The 7 s are counted on CLOCK_BOOTTIME from the moment the beat was *sent*, and
asked directly before each socket write, with no await between (``Fence.holds``). A candidate waits 10 s, so 3 s lie
between the last octet of the old owner and the first of the new one.

A take-over finds the journals of dead epochs. Jobs that they name and that are still in ``ready`` may have been
written. After a restart in place the local record says which segments were, and which were answered; answered ones
are settled from it, unwritten ones go out, the others are uncertain. Without it all of them are uncertain. Their
sessions are over. The journals stand until one take-over has accounted for all of them: it is their writer, not the
last owner, whose record counts (``accounted_by``). A take-over that broke off leaves another one's journals behind.
After a failover of the database journals may be missing too: then `failover.py` writes them again from the record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dispatcher.failover import end_doubt
from dispatcher.job import KEEP, RELEASED, Batch, Job, What, after_submit, mask
from dispatcher.shares import Beat, Census, Shares
from dispatcher.store import array, texts
from gateway import REFUSES_A_FORM, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from config.settings import LinkSettings
    from dispatcher.failover import Aftermath
    from dispatcher.record import Replay
    from dispatcher.settle import Settler
    from dispatcher.store import Connection, Record

log = structlog.get_logger()

# Shares of the take-over time (10 s): a beat every 2 s, and no write later than 7 s after the last beat was sent.
BEAT_SHARE = 0.2
WRITE_SHARE = 0.7
GRACE_S = 2.0  # others look for free links once a second: two looks of theirs before one takes more than its share


def boottime() -> float:
    """Seconds since boot, counting suspended time: a host that slept must not believe it still owns a link."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Until when each link may be written to."""

    def __init__(self, takeover_s: float, clock: Callable[[], float] = boottime) -> None:
        self._write_for_s = takeover_s * WRITE_SHARE
        self._clock = clock
        self._until: dict[str, float] = {}

    def holds(self, link: str) -> bool:
        """Whether a write to the link's socket is still ours to make."""
        return self._clock() < self._until.get(link, 0.0)

    def extend(self, link: str, sent_at: float) -> None:
        """A beat that was sent at this instant was taken."""
        self._until[link] = max(self._until.get(link, 0.0), sent_at + self._write_for_s)

    def lower(self, link: str) -> None:
        """Write nothing more."""
        self._until.pop(link, None)

    def now(self) -> float:
        """The fence's own clock."""
        return self._clock()


@dataclass(frozen=True, slots=True)
class Sighting:
    """An owner's sign of life as it was first seen, on our clock."""

    epoch: int
    beat: int
    since: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A link that became ours."""

    epoch: int
    recorded: bool  # the local record tells what was written to it last
    orderly: bool  # its last owner gave it back, everything answered and settled; or it never had one


class Owner:
    """Takes, keeps and gives back links. ``epochs`` is what this instance owns; others read it and never change it."""

    def __init__(
        self,
        *,
        name: str,
        links: Mapping[str, LinkSettings],
        fence: Fence,
        takeover_s: float,
        replay: Callable[[], Replay],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.epochs: dict[str, int] = {}
        self.aftermath: Aftermath | None = None  # set when the database failed over since all was accounted for
        self._links = links
        self._fence = fence
        self._takeover_s = takeover_s
        self._replay = replay
        self._clock = clock
        self._seen: dict[str, Sighting] = {}
        self._open_since: dict[str, float] = {}  # links that anybody may take
        self._census = Census(name, takeover_s)
        self._shares = Shares(name, {}, ())
        self._has_left = False

    async def beat(self, connection: Connection, states: Mapping[str, str], *, drains: bool = False) -> list[str]:
        """Tell that we live, and what we would carry; returns the links that are no longer ours.

        Raises:
            StoreUnavailable: nothing is extended; the fence falls by itself.

        """
        if self._has_left:
            return []
        sent_at = self._fence.now()
        owned = dict(self.epochs)  # one may be given back meanwhile
        rows = await connection.fetch(
            "beat",
            texts(owned),
            array(owned.values()),
            self.name,
            texts([states.get(link, "unbound") for link in owned]),
            texts([] if drains else list(self._links)),
        )
        kept = {row["name"] for row in rows}
        lost = []
        for link in owned.keys() & self.epochs.keys():
            if link in kept:
                self._fence.extend(link, sent_at)
                continue
            lost.append(link)
            self._fence.lower(link)
            del self.epochs[link]
            log.error("link_ownership_lost", link=link)
        return lost

    async def candidates(self, connection: Connection) -> list[str]:
        """Links of our file that we should take over now."""
        rows = await connection.fetch("links")
        beats = [Beat(row["owner"], row["beat"], row["links"]) for row in await connection.fetch("instances")]
        now = self._clock()
        self._shares = Shares(self.name, {row["name"]: row["owner"] for row in rows}, self._census.look(beats, now))
        wanted = []
        for row in rows:
            link = row["name"]
            if link not in self._links or link in self.epochs:
                continue
            if row["owner"] != self.name:
                if row["owner"] and not self._is_silent(row, now):
                    self._open_since.pop(link, None)
                    continue
                since = self._open_since.setdefault(link, now)
                if not self._shares.may_take(link) and now - since < GRACE_S:
                    continue
                self._shares.taken(link)
            wanted.append(link)
        return wanted

    def _is_silent(self, row: Record, now: float) -> bool:
        """Whether the link's owner has not been heard of for the take-over time."""
        link = row["name"]
        seen = self._seen.get(link)
        if seen is None or (seen.epoch, seen.beat) != (row["epoch"], row["beat"]):
            self._seen[link] = Sighting(row["epoch"], row["beat"], now)
            return False
        return now - seen.since >= self._takeover_s

    def surplus(self) -> str | None:
        """A link that we should give away, as the last look for candidates saw it."""
        link = self._shares.surplus()
        return link if link in self.epochs else None

    async def take(self, connection: Connection, link: str, settler: Settler) -> Taken | None:
        """Take a link over and account for what its earlier owners may have written; None when another was faster.

        Raises:
            StoreUnavailable: the link is not ours yet, or will be accounted for at the next try.

        """
        aftermath = self.aftermath if self.aftermath is not None and self.aftermath.concerns(link) else None
        if aftermath is not None:
            await aftermath.look(connection)
        sent_at = self._fence.now()
        async with connection.transaction():
            row = await connection.fetchrow("lock_link", link)
            seen = self._seen.get(link)
            if row is None or (
                row["owner"] not in ("", self.name)
                and (seen is None or (seen.epoch, seen.beat) != (row["epoch"], row["beat"]))
            ):
                return None
            replay = self._replay()
            # both: nobody else has owned it since, so that what we settled under the fence is settled
            recorded = row["owner"] == row["accounted_by"] == self.name and replay.intact
            owned = await connection.fetchrow("own_link", link, self.name)
            assert owned is not None
            epoch = owned["epoch"]
            if aftermath is not None:
                restored = await aftermath.restore(connection, link, epoch - 1)
                if restored:
                    log.warning("claims_restored", link=link, jobs=restored)
            elif recorded:
                await end_doubt(connection, link, replay)  # before the chores of a link that is ours send it again
            named = await connection.fetch("journalled", link, epoch)
        self.epochs[link] = epoch
        if named:
            log.info("link_accounting", link=link, epoch=epoch, recorded=recorded, journalled=len(named))
        try:
            doubtful = await self._account(
                link,
                named,
                settler,
                replay if recorded or aftermath is not None else None,
                recorded=recorded,
                settled=aftermath is not None,
            )
            await connection.fetch("forget_journal", link, epoch)
        except BaseException:
            self.epochs.pop(link, None)  # taken again at the next try: its journals still stand
            raise
        if link not in self.epochs:
            return None  # lost meanwhile
        if aftermath is not None:
            aftermath.accounted(link)
        self._seen.pop(link, None)
        self._open_since.pop(link, None)
        self._fence.extend(link, sent_at)
        log.info("link_taken", link=link, epoch=epoch, recorded=recorded, journalled=len(named), uncertain=doubtful)
        return Taken(epoch, recorded, orderly=not row["owner"])

    async def _account(
        self, link: str, named: list[Record], settler: Settler, replay: Replay | None, *, recorded: bool, settled: bool
    ) -> int:
        """Settle what a dead owner's journals name; returns how many jobs are uncertain."""
        batch = Batch(number=0, outstanding=len(named) + 1)  # its journals are dropped as a whole, afterwards
        settling = {}
        for row in named:
            job = self._recovered(link, row, batch, replay, recorded=recorded, settled=settled)
            outcome = after_submit(job)
            if outcome is RELEASED and job.answers:
                outcome = KEEP  # a part was accepted, the others were never written
            if outcome is not RELEASED:
                settling[job] = outcome
        for job, outcome in settling.items():
            settler.put(job, outcome)
        await settler.settled(settling)
        return sum(outcome.what is What.UNCERTAIN for outcome in settling.values())

    def _recovered(
        self, link: str, row: Record, batch: Batch, replay: Replay | None, *, recorded: bool, settled: bool
    ) -> Job:
        """The job as the record knows it.

        Unless the link's last owner was us and the record is whole (``recorded``), each part not done that it does not
        know to be accepted is in doubt. With ``settled`` what it says of settled attempts counts as well: the database
        may have lost them. But a refusal for now, once settled, is forgotten: the row may know it, and it may go.
        """
        now = self._clock()
        job = Job(
            id=row["id"],
            link=link,
            lane=row["lane"],
            epoch=self.epochs[link],
            batch=batch,
            recipient="",  # what the wire needs is not read: nothing of this goes out
            sender="",
            body="",
            category=row["category"],
            flash=False,
            options=None,
            attempt=row["attempt"] + 1,
            resends=0,
            parts=row["parts"],
            done=mask(row["done"]),
            enqueued_us=row["enqueued_us"],
            expires_at=now,
            due_at=now,
        )
        if not recorded:
            job.doubt = job.lost = job.all_parts & ~job.done
        if replay is None:
            return job
        latest = replay.parts(job.id, job.enqueued_us)
        overrides = {status: Verdict(word) for status, word in self._links[link].status_overrides.items()}
        for part, answer in replay.parts(job.id, job.enqueued_us, settled=settled).items():
            if part > job.parts or job.done >> (part - 1) & 1:
                continue
            if answer is None:
                job.note(part, Verdict.UNANSWERED, 0, "", 0.0, session_over=True)
                continue
            meaning = verdict(answer.command_status, overrides)
            if part not in latest and meaning in (Verdict.RETRY, Verdict.AMBIGUOUS):
                continue
            if meaning is Verdict.MISCONFIGURED and answer.command_status in REFUSES_A_FORM:
                continue  # the link was about to repeat it in another form; what no form helps is refused once more
            if meaning not in (Verdict.THROTTLED, Verdict.LINK_FAULT):  # these two are repeated: as good as unwritten
                job.note(part, meaning, answer.command_status, answer.message_id, now)
        return job

    async def give_back(self, connection: Connection, link: str, is_empty: Callable[[str], bool]) -> bool:
        """Give a closed link back, so the next owner need not wait; false when a job of it came to light or it is lost.

        ``is_empty`` says that memory holds no job of the link. It is asked under the lock, after every claim that was
        on its way: what such a claim brings later is dropped, since its epoch has passed.

        Raises:
            StoreUnavailable: it is not ours any more, or is the next candidate.

        """
        async with connection.transaction():
            await connection.fetch("lock_link", link)
            if not is_empty(link) or link not in self.epochs:  # lost while we waited for the lock
                return False
            self._fence.lower(link)
            await connection.fetch(
                "disown", link, self.epochs.pop(link), self.name
            )  # should it fail: it is taken again
        return True

    async def leave(self, connection: Connection) -> None:
        """An orderly end: the others share the links without us."""
        self._has_left = True
        await connection.fetch("leave", self.name)
