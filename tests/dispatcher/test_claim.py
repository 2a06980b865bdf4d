"""dispatcher/claim.py: rows are taken once, in order, journalled, however their transactions commit."""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.store import PINNED, connect
from tests.dispatcher.instance import instance
from tests.journey.running import LINK, app_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.journey.running import App


async def test_a_claim_takes_rows_in_order_and_journals_them_before_it_returns(tmp_path, queue_url):
    """Whatever the process does next, the journal says what it may have written."""
    async with instance(tmp_path, queue_url) as one:
        ids = [await one.app.enqueue(body=f"text {n}") for n in range(5)]

        jobs = await one.claim(room=3)

        assert [job.id for job in jobs] == ids[:3]
        (journal,) = await one.app.fetch("select * from tocsin.claim")
        assert journal["ids"] == ids[:3]
        assert (journal["link"], journal["lane"], journal["epoch"]) == (LINK, 3, one.epochs[LINK])
        assert await one.app.value("select count(*) from tocsin.ready") == 5
        assert [job.id for job in await one.claim()] == ids[3:]
        assert await one.claim() == []


async def test_a_claim_brings_what_the_wire_needs(tmp_path, queue_url):
    """The row, its times as instants of our own clock, and whether its recipient said STOP."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.connection.execute("select tocsin.suppress('447700900999', 'OPT_OUT', 'sender', 'Northside')")
        await one.app.enqueue(
            body="€" * 100, flash=True, category="staff", options={"priority_flag": 1}, recipient="+447700900123"
        )
        await one.app.enqueue(category="marketing", recipient="447700900999")

        staff, marketing = await one.claim()

        assert (staff.lane, staff.recipient, staff.sender, staff.body) == (1, "447700900123", "Northside", "€" * 100)
        assert (staff.flash, staff.parts, staff.attempt, staff.done, staff.suppressed) == (True, 2, 1, 0, "")
        assert staff.options is not None
        assert 1790 < staff.expires_at - one.clock() <= 1800
        assert -5 < staff.due_at - one.clock() <= 0
        assert marketing.suppressed == "OPT_OUT"


async def test_a_released_job_is_claimed_again_and_a_settled_one_is_not(tmp_path, queue_url):
    """It lies behind the frontier, so it must be asked for by its id."""
    async with instance(tmp_path, queue_url) as one:
        for _ in range(3):
            await one.app.enqueue()
        first, second, third = await one.claim()

        one.settler.released(second)
        one.accepted(first, ["m1"])
        one.accepted(third, ["m3"])
        await one.flush()

        (again,) = await one.claim()
        assert again.id == second.id
        assert again.attempt == 1


async def test_an_owner_whose_epoch_has_passed_claims_nothing(tmp_path, queue_url):
    """The fence stands in the database: what an owner believes does not count."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as old,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        await old.app.enqueue()
        await new.own()

        assert await old.claim() == []
        assert len(await new.claim()) == 1


async def test_a_row_whose_transaction_committed_late_is_found_by_the_probe(tmp_path, queue_url):
    """Ids are handed out before the commit, so a lower id can become visible after a higher one was read."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as slow:
        transaction = slow.connection.transaction()
        await transaction.start()
        late = await slow.enqueue(category="marketing")
        early = await one.app.enqueue(category="marketing")

        assert [job.id for job in await one.claim()] == [early]
        assert not await one.claimer.probe(one.claiming)
        await transaction.commit()
        assert await one.claimer.probe(one.claiming)
        assert [job.id for job in await one.claim()] == [late]


async def test_a_late_emergency_needs_no_probe(tmp_path, queue_url):
    """Lane 0 reads from where nothing can hide any more: the next claim has it."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as slow:
        transaction = slow.connection.transaction()
        await transaction.start()
        late = await slow.enqueue(category="emergency")
        early = await one.app.enqueue(category="emergency")
        assert [job.id for job in await one.claim([0])] == [early]

        await transaction.commit()

        assert [job.id for job in await one.claim([0])] == [late]


async def test_a_claim_during_a_probe_does_not_hide_a_late_emergency(tmp_path, queue_url):
    """The probe knows nothing of ids that were read after it had been asked: they count with the next one."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as slow:
        await one.app.enqueue(category="emergency")
        await one.claim([0])
        transaction = slow.connection.transaction()
        await transaction.start()
        late = await slow.enqueue(category="emergency")
        early = await one.app.enqueue(category="emergency")

        class Overtaken:
            async def fetch(self, name: str, *arguments: object):
                assert [job.id for job in await one.claim([0])] == [early]
                await transaction.commit()
                return await one.claiming.fetch(name, *arguments)

        await one.claimer.probe(Overtaken())  # type: ignore[arg-type]

        assert [job.id for job in await one.claim([0])] == [late]


async def test_what_is_settled_while_a_probe_runs_was_not_missed(tmp_path, queue_url):
    """A long probe would bring back thousands of ids that are gone, each to be asked for one by one."""
    async with instance(tmp_path, queue_url) as one:
        gone, released = await one.app.enqueue(), await one.app.enqueue()
        jobs = {job.id: job for job in await one.claim()}

        class Meanwhile:
            async def fetch(self, name: str, *arguments: object):
                rows = await one.claiming.fetch(name, *arguments)
                one.claimer.gone(jobs[gone])
                one.claimer.release(jobs[released])
                return rows

        assert not await one.claimer.probe(Meanwhile(), whole=True)  # type: ignore[arg-type]
        (state,) = [state for state in one.claimer._lanes.values() if state.frontier]
        assert state.missing == {released}


async def test_a_row_that_was_locked_when_it_was_asked_for_comes_back(tmp_path, queue_url):
    """A cancel that was rolled back must not hide the job for ever."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as other:
        locked, free = await one.app.enqueue(), await one.app.enqueue()
        transaction = other.connection.transaction()
        await transaction.start()
        assert await other.value("select tocsin.cancel($1)", locked) == "cancelled"

        assert [job.id for job in await one.claim()] == [free]
        await transaction.rollback()
        await one.claimer.probe(one.claiming, whole=True)
        assert [job.id for job in await one.claim()] == [locked]


async def test_a_stranger_who_has_written_does_not_keep_the_floor(tmp_path, queue_url, database_server):
    """Else each claim of lane 0 would walk over all that has gone since that transaction began, wherever it is."""
    elsewhere = await asyncpg.connect(database_server.url)
    try:
        async with instance(tmp_path, queue_url) as one, app_of(queue_url) as stranger:
            for connection in (elsewhere, stranger.connection):
                await connection.execute("begin; select pg_current_xact_id()")
            for category in ("emergency", "marketing"):
                await one.app.enqueue(category=category)
            jobs = await one.claim()

            for _ in range(3):  # xmin is seen, stands still, and is done without
                await one.claimer.probe(one.claiming)

            assert [one.claimer.lane(LINK, job.lane).floor for job in jobs] == [job.id for job in jobs]
    finally:
        await elsewhere.close()


async def begun(app: App) -> Callable[[], Awaitable[object]]:
    """An id drawn in an open transaction; gives what commits it."""
    await app.connection.execute("begin")
    return partial(app.connection.execute, "commit")


async def saved(app: App) -> Callable[[], Awaitable[object]]:
    """The same in a savepoint beside one that was rolled back."""
    await app.connection.execute("begin; savepoint a")
    await app.enqueue(category="emergency")
    await app.connection.execute("rollback to a; savepoint b")
    return partial(app.connection.execute, "release b; commit")


@pytest.mark.parametrize("begin", [begun, saved])
async def test_whoever_may_yet_show_an_older_id_keeps_the_floor(tmp_path, queue_url, begin):
    """However long its transaction is open, and whoever else has one: the claim after its commit has the emergency."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as stranger, app_of(queue_url) as slow:
        await stranger.connection.execute("begin; select pg_current_xact_id()")
        commit = await begin(slow)
        late = await slow.enqueue(category="emergency")
        early = await one.app.enqueue(category="emergency")
        assert [job.id for job in await one.claim([0])] == [early]
        for _ in range(5):
            await one.claimer.probe(one.claiming)

        assert one.claimer.lane(LINK, 0).floor < late
        await commit()

        assert [job.id for job in await one.claim([0])] == [late]
        await one.claimer.probe(one.claiming)
        assert one.claimer.lane(LINK, 0).floor == early


async def test_a_row_that_somebody_has_locked_keeps_the_floor_until_he_lets_go(tmp_path, queue_url):
    """An emergency whose cancel is rolled back is claimed at once, whoever else has a transaction open."""
    async with instance(tmp_path, queue_url) as one, app_of(queue_url) as stranger, app_of(queue_url) as other:
        await stranger.connection.execute("begin; select pg_current_xact_id()")
        locked, free = [await one.app.enqueue(category="emergency") for _ in range(2)]
        await other.connection.execute("begin")
        assert await other.value("select tocsin.cancel($1)", locked) == "cancelled"
        assert [job.id for job in await one.claim([0])] == [free]
        for _ in range(5):
            await one.claimer.probe(one.claiming)
            assert await one.claim([0]) == []  # asks for it, in vain

        await other.connection.execute("rollback")

        assert [job.id for job in await one.claim([0])] == [locked]
        for _ in range(3):
            await one.claimer.probe(one.claiming)
        assert one.claimer.lane(LINK, 0).floor == free


async def test_a_claim_that_failed_loses_no_row(tmp_path, queue_url):
    """Released rows that were asked for by their id are asked for again."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.enqueue()
        (job,) = await one.claim()
        one.settler.released(job)
        await one.flush()
        broken = await connect(queue_url, PINNED)
        await broken.close()

        with pytest.raises(StoreUnavailable):
            await one.claimer.claim(broken, one.claimer.windows(LINK, 3, 10))

        assert [again.id for again in await one.claim()] == [job.id]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("category", ["emergency", "transactional"])
@pytest.mark.parametrize("stranger", [False, True])
async def test_in_whatever_order_transactions_commit_every_row_is_claimed_once(
    tmp_path, queue_url, seed, category, stranger
):
    """Property 4: claims and probes between the commits, and no look at the whole lane; whoever holds xmin besides."""
    chosen = random.Random(seed)
    async with instance(tmp_path, queue_url) as one, contextlib.AsyncExitStack() as stack:
        if stranger:
            other = await stack.enter_async_context(app_of(queue_url))
            await other.connection.execute("begin; select pg_current_xact_id()")
        apps = [await stack.enter_async_context(app_of(queue_url)) for _ in range(6)]
        idle = list(apps)
        running = {}
        committed: set[int] = set()
        claimed: list[int] = []
        for step in range(120):
            action = chosen.random()
            if action < 0.4 and idle and step < 100:
                app = idle.pop(chosen.randrange(len(idle)))
                transaction = app.connection.transaction()
                await transaction.start()
                running[app] = (
                    transaction,
                    [await app.enqueue(category=category) for _ in range(chosen.randint(1, 3))],
                )
            elif action < 0.7 and running:
                app = chosen.choice(list(running))
                transaction, ids = running.pop(app)
                idle.append(app)
                if chosen.random() < 0.15:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed.update(ids)
            elif action < 0.9:
                jobs = await one.claim(room=chosen.randint(1, 4))
                claimed += [job.id for job in jobs]
                for job in jobs:
                    if chosen.random() < 0.7:
                        one.accepted(job, [f"m{job.id}"])
                await one.flush()
            else:
                await one.claimer.probe(one.claiming)
        for transaction, ids in running.values():
            await transaction.commit()
            committed.update(ids)
        while await one.claimer.probe(one.claiming) | len(jobs := await one.claim()):
            claimed += [job.id for job in jobs]

        assert sorted(claimed) == sorted(committed)


@pytest.mark.parametrize("seed", range(3))
async def test_cancel_and_expiry_raced_against_claims_never_end_a_job_that_was_claimed(tmp_path, queue_url, seed):
    """Property 8: a job is either claimed, or cancelled, or expired; and none is in between."""
    chosen = random.Random(seed)
    async with instance(tmp_path, queue_url) as one, contextlib.AsyncExitStack() as stack:
        ids = await one.app.enqueue_many([{"recipient": "447700900123", "body": "x"} for _ in range(300)])
        await one.app.connection.execute(
            "update tocsin.ready set expires_at = now() - interval '1 second' where id % 3 = 0"
        )
        apps = [await stack.enter_async_context(app_of(queue_url)) for _ in range(3)]
        claimed: list[int] = []
        cancelled: dict[int, str] = {}
        expired: list[int] = []

        async def claim() -> None:
            while jobs := await one.claim(room=chosen.randint(1, 20)):
                claimed.extend(job.id for job in jobs)

        async def cancel(app, mine) -> None:
            for number in mine:
                cancelled[number] = await app.value("select tocsin.cancel($1)", number)

        async def expire() -> None:
            connection = await connect(queue_url, PINNED)
            try:
                for _ in range(20):
                    with contextlib.suppress(_Undo):
                        async with connection.transaction():
                            row = await connection.fetchrow("expire", LINK, 3, 0, 50, "{}")
                            assert row is not None
                            ended = [int(number) for number in row["ids"][1:-1].split(",") if number]
                            if ended and await connection.fetch("named", LINK, 3, row["ids"]):
                                raise _Undo
                        expired.extend(ended)
            finally:
                await connection.close()

        mixed = chosen.sample(ids, len(ids))
        await asyncio.gather(claim(), expire(), *(cancel(app, mixed[n::3]) for n, app in enumerate(apps)))
        await claim()
        await one.claimer.probe(one.claiming, whole=True)
        await claim()

        ended = {number for number, outcome in cancelled.items() if outcome == "cancelled"}
        assert not set(claimed) & ended
        assert not set(claimed) & set(expired)
        assert not ended & set(expired)
        assert sorted([*claimed, *ended, *expired]) == ids
        assert set(cancelled.values()) <= {"cancelled", "too_late"}
        rows = await one.app.fetch("select job_id, state from tocsin.closed")
        assert {row["job_id"]: row["state"] for row in rows} == dict.fromkeys(ended, "cancelled") | dict.fromkeys(
            expired, "expired"
        )


class _Undo(Exception):
    """A journal named a row that was about to be ended."""


async def test_what_a_claim_brings_after_its_link_was_lost_goes_nowhere(tmp_path, queue_url):
    """Its journal stands, and whoever takes the link accounts for it; even if that is the same process."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.enqueue()

        class Late:
            async def fetch(self, name: str, *arguments: object):
                rows = await one.claiming.fetch(name, *arguments)
                one.epochs.clear()
                one.claimer.forget(LINK)
                await one.own()
                return rows

        windows = one.claimer.windows(LINK, 3, 10)
        assert await one.claimer.claim(Late(), windows) == []  # type: ignore[arg-type]
        assert not one.claimer.holds(LINK)
