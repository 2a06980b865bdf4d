"""The view tocsin.event, read by a cursor: every committed event once, in order, whatever order transactions commit in."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.events import visible
from tests.store.seed import app_session, connect, enqueue, enqueue_many, item, seeded

if TYPE_CHECKING:
    from asyncpg.transaction import Transaction

WRITERS = 24
STEPS = 1500


@dataclass
class Writer:
    """A session in a transaction of its own, and the events that it would bring by committing now."""

    session: asyncpg.Connection
    open: list[Transaction] = field(default_factory=list)  # the transaction, then its savepoints
    told: list[list[str]] = field(default_factory=list)  # events of each of them

    async def begin(self) -> None:
        transaction = self.session.transaction()
        await transaction.start()
        self.open.append(transaction)
        self.told.append([])

    async def tell(self, subject: int, events: int) -> None:
        """One call of ``tell`` an event, or one enqueue_many that blocks them all: the two ways of numbering."""
        if events == 1:
            await self.session.execute("select tocsin.tell('app', 'job.cancelled', $1, null, 'staff', null)", subject)
            self.told[-1].append(str(subject))
        else:
            blocked = [item(recipient="33123456789", category="marketing")] * events
            self.told[-1] += [str(row["job_id"]) for row in await enqueue_many(self.session, *blocked)]

    async def end(self, *, keep: bool) -> list[str]:
        """End the innermost level; returns what became visible."""
        transaction, told = self.open.pop(), self.told.pop()
        if keep:
            await transaction.commit()
        else:
            await transaction.rollback()
            told = []
        if not self.open:
            return told
        self.told[-1] += told
        return []


class Reader:
    """Reads as an app does: where seq is greater than the last one, in order."""

    def __init__(self, session: asyncpg.Connection) -> None:
        self._session = session
        self._after = 0
        self.read: list[tuple[int, str]] = []

    async def more(self) -> None:
        rows = await self._session.fetch(
            "select seq, subject from tocsin.event where seq > $1 order by seq", self._after
        )
        self.read += [(row["seq"], row["subject"]) for row in rows]
        self._after = self.read[-1][0] if self.read else 0


async def test_a_cursor_reads_each_committed_event_once_and_in_order(shared_url):
    """Transactions begin, write and commit in random order, some roll back, some only to a savepoint."""
    chance = random.Random(3)
    async with seeded(shared_url) as root:
        writers = [Writer(await connect(shared_url)) for _ in range(WRITERS)]
        reader = Reader(root)
        committed: list[list[str]] = []
        for step in range(STEPS):
            writer = chance.choice(writers)
            act = chance.random()
            if not writer.open or (act < 0.1 and len(writer.open) < 3):
                await writer.begin()
            elif act < 0.7:
                await writer.tell(1_000_000 + step, chance.choice([1, 1, 1, 3]))
            else:
                committed.append(await writer.end(keep=chance.random() < 0.7))
            if chance.random() < 0.2:
                await reader.more()
        for writer in writers:
            while writer.open:
                committed.append(await writer.end(keep=True))
            await writer.session.close()
        await visible(root)
        await reader.more()

        numbers = [number for number, _ in reader.read]
        assert numbers == sorted(set(numbers))
        assert sorted(subject for _, subject in reader.read) == sorted(
            subject for told in committed for subject in told
        )
        place = {subject: at for at, (_, subject) in enumerate(reader.read)}
        for told in committed:
            assert [place[subject] for subject in told] == sorted(place[subject] for subject in told)
        assert len(reader.read) > STEPS / 4


async def test_an_open_transaction_delays_later_events_and_loses_none(shared_url):
    """A reader that had gone past it would never come back for it."""
    async with seeded(shared_url) as root:
        early, late = Writer(await connect(shared_url)), Writer(await connect(shared_url))
        reader = Reader(root)
        for subject, writer in enumerate((early, late), start=1):
            await writer.begin()
            await writer.tell(subject, 1)
        await late.end(keep=True)
        await reader.more()
        assert reader.read == []
        await early.end(keep=True)
        await visible(root)
        await reader.more()
        assert [subject for _, subject in reader.read] == ["1", "2"]
        for writer in (early, late):
            await writer.session.close()


async def test_more_events_than_a_transaction_has_numbers_are_refused(shared_url):
    """2^20 numbers: the next would be those of the following transaction."""
    async with seeded(shared_url) as root:
        transaction = root.transaction()
        await transaction.start()
        first = await root.fetchval("select tocsin.event_seq(1048575)")
        assert await root.fetchval("select tocsin.event_seq(1)") == first + 1_048_575
        with pytest.raises(asyncpg.PostgresError, match="1,048,576"):
            await root.execute("select tocsin.event_seq(1)")
        await transaction.rollback()


async def test_an_app_reads_the_events_of_its_own_jobs(shared_url):
    """An event names a job; another app's are none of its business."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        blocked = {"recipient": "33123456789", "category": "marketing"}
        await enqueue(root, **blocked)
        row = await enqueue(app, **blocked)
        await visible(app)
        assert [event["subject"] for event in await app.fetch("select subject from tocsin.event")] == [
            str(row["job_id"])
        ]
        await visible(root)
        assert len(await root.fetch("select subject from tocsin.event")) == 2


async def test_every_app_learns_of_a_reply(shared_url):
    """It belongs to no job and so to no app, as the inbox does; whose patient it is, the app knows."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        await root.execute("select tocsin.tell('', 'inbound.received', 7, null, null, null)")
        await root.execute("select tocsin.tell('', 'job.delivered', 8, null, null, null)")
        await visible(app)
        assert [tuple(event) for event in await app.fetch("select type, subject from tocsin.event")] == [
            ("inbound.received", "7")
        ]
