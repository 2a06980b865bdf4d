"""kill -9 of a daemon in the middle of its work: what is lost, what is doubled, what is in doubt.

The SMSC's own record decides. It answers each submit_sm after 50 ms, so that many are unanswered at any instant.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import Smsc
from tests.journey.handset import Piece, Taken, messages, piece_of
from tests.journey.running import LINK, Child, app_of, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.smsc import Logged
    from tests.journey.running import App

JOBS = 2_000
ANSWER_DELAY_S = 0.05
GRACE_S = 0.1  # an answer that the SMSC wrote this long before the kill must have been read and recorded
SLICE = 64  # segments recorded before one write to the socket: those of the last write may never have left


def taken_of(submit: Logged) -> Taken:
    fields = submit.fields
    return Taken(fields["destination_addr"], fields["data_coding"], fields["esm_class"], fields["short_message"])


@dataclass
class Sent:
    """One submit_sm by the SMSC's record."""

    at: float
    answered_at: float | None


@dataclass
class Killing:
    """A child daemon, its SMSC, and when it was killed."""

    smsc: Smsc
    app: App
    child: Child
    state: Path
    jobs: dict[int, tuple[str, str]] = field(default_factory=dict)  # id -> recipient, text
    kills: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)  # seconds from a restart to its first submit_sm
    submits: int = 0
    first: dict[int, float] = field(default_factory=dict)  # session -> when its first submit_sm was read

    async def enqueue(self, count: int) -> None:
        chosen = random.Random(7)
        jobs = [
            {"recipient": f"4477{n:08d}", "body": f"{n} " + "x" * chosen.choice((20, 60, 120, 250))}
            for n in range(count)
        ]
        ids = await self.app.enqueue_many(jobs)
        self.jobs = {number: (job["recipient"], job["body"]) for number, job in zip(ids, jobs, strict=True)}

    def note(self, pdu: Logged) -> None:
        """Count as the SMSC reads; to look through its record at each PDU would keep it busy."""
        if pdu.command == "submit_sm":
            self.submits += 1
            self.first.setdefault(pdu.session, pdu.at)

    async def kill_after(self, submits: int) -> None:
        """Kill -9 once the SMSC has read so many more."""
        enough = self.submits + submits
        await self.smsc.until(lambda: self.submits >= enough, timeout_s=30)
        self.kills.append(self.child.kill())
        await self.child.wait()

    async def restart(self) -> None:
        """Start again, and note when the first submit_sm comes."""
        known = len(self.first)
        await self.child.start()
        await self.smsc.until(lambda: len(self.first) > known, timeout_s=15)
        self.restarts.append(max(self.first.values()) - self.child.started_at)

    async def until_over(self) -> None:
        """Wait until every job is submitted or in doubt. Doubt is found before the first submit_sm after a restart."""
        doubted: int = await self.app.value("select count(*)::int from tocsin.uncertain")
        wanted = {"submitted": len(self.jobs) - doubted, "uncertain": doubted}
        await self.app.until_states({state: count for state, count in wanted.items() if count})

    def history(self) -> dict[Piece, list[Sent]]:
        """What the SMSC read and when it answered, by segment."""
        answered = {(answer.session, answer.sequence): answer.at for answer in self.smsc.answers()}
        pieces: dict[Piece, list[Sent]] = defaultdict(list)
        for submit in self.smsc.received("submit_sm"):
            pieces[piece_of(taken_of(submit))].append(Sent(submit.at, answered.get((submit.session, submit.sequence))))
        return pieces

    def may_be_doubted(self, sent: Sent) -> bool:
        """Unanswered at a kill, or answered less than the grace before it."""
        return any(
            sent.at - GRACE_S <= kill and (sent.answered_at is None or sent.answered_at > kill - GRACE_S)
            for kill in self.kills
        )

    async def judge(self) -> tuple[int, int]:
        """Hold the outcome against the SMSC's record; returns how many jobs are in doubt, and how many may be."""
        history = self.history()
        doubted = {row["id"] for row in await self.app.fetch("select id from tocsin.uncertain")}
        by_recipient: dict[str, list[Sent]] = defaultdict(list)
        for piece, sents in history.items():
            assert len(sents) == 1, f"{piece} was sent {len(sents)} times"
            by_recipient[piece.destination] += sents
        certain = [self.jobs[number] for number in self.jobs if number not in doubted]
        received = {recipient for recipient, _ in certain}
        taken = (taken_of(submit) for submit in self.smsc.received("submit_sm"))
        whole = messages(one for one in taken if one.destination in received)
        assert whole == dict.fromkeys(certain, 1), "what is not in doubt arrived, once and whole"
        never_read = 0
        for number in doubted:
            sents = by_recipient[self.jobs[number][0]]
            never_read += not sents
            assert not sents or any(self.may_be_doubted(sent) for sent in sents), "its answer must have been read"
        assert never_read <= SLICE * len(self.kills)
        return len(doubted), sum(any(map(self.may_be_doubted, sents)) for sents in by_recipient.values())


@asynccontextmanager
async def killing(folder: Path, queue_url: str) -> AsyncIterator[Killing]:
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.answer_delay_s = ANSWER_DELAY_S
        link = {"port": smsc.port, "window_size": 50, "throughput_per_s": 800, "receipts": "none"}
        path = write_file(folder, queue_url, {LINK: link})
        async with Child(path) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            world = Killing(smsc, app, child, folder / "state")
            smsc.on_log = world.note
            yield world


@pytest.mark.slow
async def test_after_kill_9_nothing_is_lost_or_doubled_and_only_the_unanswered_is_in_doubt(
    tmp_path, queue_url, figures
):
    """The local record knows what was answered and what was never written; the rest is said to be uncertain."""
    async with killing(tmp_path, queue_url) as world:
        await world.enqueue(JOBS)
        await world.kill_after(600)
        await world.restart()
        await world.until_over()
        uncertain, unanswered = await world.judge()

        assert uncertain > 0
        assert world.restarts[0] < 10  # takeover_s: it waits for nobody
        figures.append(
            f"first submit_sm {world.restarts[0]:.2f} s after the restart; {uncertain} jobs uncertain,"
            f" {unanswered} unanswered by the SMSC's record"
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_several_kills_in_a_row_lose_and_double_nothing(tmp_path, queue_url, figures, seed):
    """A daemon that is killed while it recovers finds the same truth again."""
    chosen = random.Random(seed)
    async with killing(tmp_path, queue_url) as world:
        await world.enqueue(1_200)
        for _ in range(3):
            await world.kill_after(chosen.randint(1, 300))
            if chosen.random() < 0.5:  # again, before it is bound
                await world.child.start()
                await world.child.until_logged("daemon_started")
                world.kills.append(world.child.kill())
                await world.child.wait()
            await world.restart()
        await world.until_over()
        uncertain, unanswered = await world.judge()

        figures.append(
            f"{len(world.kills)} kills: first submit_sm after {', '.join(f'{s:.2f}' for s in world.restarts)} s;"
            f" {uncertain} jobs uncertain, {unanswered} unanswered"
        )


@pytest.mark.slow
async def test_without_its_local_record_a_killed_daemon_doubts_what_was_journalled_and_no_more(
    tmp_path, queue_url, figures
):
    """The loss of the host: nobody knows what was written, but the journal knows what may have been."""
    async with killing(tmp_path, queue_url) as world:
        await world.enqueue(1_500)
        await world.kill_after(400)
        shutil.rmtree(world.state / "record")
        journalled = {
            row["id"]
            for row in await world.app.fetch(
                "select r.id from tocsin.claim c, unnest(c.ids) i (id) join tocsin.ready r on r.id = i.id"
            )
        }
        await world.restart()
        await world.until_over()
        doubted = {row["id"] for row in await world.app.fetch("select id from tocsin.uncertain")}

        assert doubted == journalled
        assert all(len(sents) == 1 for sents in world.history().values()), "nothing is sent twice under hold"
        certain = {world.jobs[number] for number in world.jobs if number not in doubted}
        received = {recipient for recipient, _ in certain}
        taken = (taken_of(submit) for submit in world.smsc.received("submit_sm"))
        assert messages(one for one in taken if one.destination in received) == dict.fromkeys(certain, 1)
        figures.append(
            f"{len(doubted)} of {len(world.jobs)} jobs uncertain after the loss of the record, all journalled"
        )
