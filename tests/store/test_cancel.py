"""tocsin.cancel, and the one shape of every writer of ``ready`` that does not own the link: never both sent and ended."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from dispatcher.store import PINNED, array
from tests.events import visible
from tests.store.seed import app_session, connect, count, enqueue, named, put, put_closed, put_sent, seeded

LANE = 3
ROUNDS = 40
ROWS = 12


async def cancel(connection: asyncpg.Connection, job_id: int) -> str:
    return await connection.fetchval("select tocsin.cancel($1)", job_id)


async def claim(connection: asyncpg.Connection, rows: int = 100) -> list[int]:
    """Claim rows of link a as its owner does."""
    found = await named(
        connection, "claim", "{a}", "{1}", "{a}", f"{{{LANE}}}", "{0}", f"{{{2**62}}}", f"{{{rows}}}", "{}", "{}"
    )
    return [row["id"] for row in found]


async def expire(connection: asyncpg.Connection) -> list[int]:
    """End expired rows of link a as its owner does: what a journal names is put back by rolling back."""
    leave: list[int] = []
    while True:
        transaction = connection.transaction()
        await transaction.start()
        (row,) = await named(connection, "expire", "a", LANE, 0, 1000, array(leave))
        ended = [int(number) for number in row["ids"].strip("{}").split(",") if number]
        claimed = [found["id"] for found in await named(connection, "named", "a", LANE, array(ended))]
        if not claimed:
            await transaction.commit()
            return ended
        await transaction.rollback()
        leave += claimed


async def test_a_waiting_job_is_cancelled_once_and_for_all(shared_url):
    """From ready or deferred the row goes, the evidence stays, and asking again gives the same answer."""
    async with seeded(shared_url) as root:
        for table, job_id in (("ready", 1), ("deferred", 2)):
            await put(root, table, job_id, client_ref="'r-1'")
            assert await cancel(root, job_id) == "cancelled"
            assert await cancel(root, job_id) == "cancelled"
            assert await count(root, table) == 0
        rows = await root.fetch("select job_id, state, reason, client_ref from tocsin.closed order by job_id")
        assert [tuple(row) for row in rows] == [
            (1, "cancelled", "CANCELLED", "r-1"),
            (2, "cancelled", "CANCELLED", "r-1"),
        ]
        await visible(root)
        events = await root.fetch("select type, subject from tocsin.event order by seq")
        assert [tuple(row) for row in events] == [("job.cancelled", "1"), ("job.cancelled", "2")]


async def test_cancel_finds_a_job_on_any_link_and_lane(shared_url):
    """The caller knows the id alone; a link that the file no longer names may still hold rows."""
    async with seeded(shared_url) as root:
        await root.execute("update tocsin.link set enabled = false where name = 'b'")
        for lane in range(6):
            await put(root, "ready", 10 + lane, link="b", lane=lane)
            assert await cancel(root, 10 + lane) == "cancelled"


async def test_what_may_be_on_the_wire_is_too_late(shared_url):
    """A journal names it, a part of it was accepted, or it is in doubt: nobody can say that it was not sent."""
    async with seeded(shared_url) as root:
        await put(root, "ready", 1)
        assert await claim(root) == [1]
        await put(root, "ready", 2, parts=2, done="'10'")
        await put(root, "deferred", 3, parts=2, done="'10'")
        await put(root, "uncertain", 4)
        await put_sent(root, 5)
        await put_closed(root, 6, "expired", "EXPIRED")
        assert [await cancel(root, job_id) for job_id in range(1, 7)] == ["too_late"] * 6
        assert [await count(root, table) for table in ("ready", "deferred", "uncertain", "closed")] == [2, 1, 1, 1]
        assert await count(root, "event_log") == 0


async def test_a_group_is_cancelled_as_far_as_it_still_waits(shared_url):
    """What is claimed is too late; another group, and another app's of the same name, are none of it."""
    async with seeded(shared_url) as root:
        for job_id in (1, 2):
            await put(root, "ready", job_id, cancel_group="'visit 7'")
        await put(root, "deferred", 3, cancel_group="'visit 7'")
        await put(root, "deferred", 4, cancel_group="'visit 8'")
        await put(root, "ready", 5)
        async with app_session(root, shared_url) as app:
            name = await app.fetchval("select session_user")
            await root.execute("grant execute on function tocsin.cancel_group to public")
            assert await app.fetch("select * from tocsin.cancel_group('visit 7')") == []
            await root.execute("update tocsin.ready set app = $1 where id < 5", name)
            await root.execute("update tocsin.deferred set app = $1", name)
            assert await claim(root, rows=1) == [1]

            rows = await app.fetch("select * from tocsin.cancel_group('visit 7')")
            assert [tuple(row) for row in rows] == [(1, "too_late"), (2, "cancelled"), (3, "cancelled")]
            rows = await app.fetch("select * from tocsin.cancel_group('visit 7')")
            assert [tuple(row) for row in rows] == [(1, "too_late")]
            assert await app.fetch("select * from tocsin.cancel_group(null)") == []
        assert await root.fetchval("select array_agg(id order by id) from tocsin.ready") == [1, 5]
        assert await root.fetchval("select array_agg(id) from tocsin.deferred") == [4]


async def test_a_released_job_can_be_cancelled_again(shared_url):
    """Once no journal names it, nothing of it was written."""
    async with seeded(shared_url) as root:
        await put(root, "ready", 1)
        await claim(root)
        await root.execute("delete from tocsin.claim")
        assert await cancel(root, 1) == "cancelled"


async def test_another_app_s_job_is_unknown(shared_url):
    """An id is a number anybody can guess."""
    async with (
        seeded(shared_url) as root,
        app_session(root, shared_url) as app,
        app_session(root, shared_url) as other,
    ):
        await put(root, "deferred", 900)
        await put_sent(root, 901)
        await put_closed(root, 902, "cancelled", "CANCELLED")
        mine = (await enqueue(app))["job_id"]
        assert [await cancel(app, job_id) for job_id in (900, 901, 902, 903)] == ["unknown"] * 4
        assert await cancel(other, mine) == "unknown"
        assert await cancel(app, mine) == "cancelled"
        assert await cancel(root, (await enqueue(app))["job_id"]) == "cancelled"


async def test_above_read_committed_cancel_refuses(shared_url):
    """With one snapshot for the whole transaction it could not see a claim that was first."""
    async with seeded(shared_url) as root:
        await put(root, "ready", 1)
        for level in ("repeatable_read", "serializable"):
            transaction = root.transaction(isolation=level)
            await transaction.start()
            with pytest.raises(asyncpg.PostgresError) as raised:
                await cancel(root, 1)
            assert raised.value.sqlstate == "TC425"
            await transaction.rollback()
        assert await count(root, "ready") == 1


async def test_a_cancel_that_waits_for_a_claim_finds_it_in_the_journal(shared_url):
    """The row is locked until the claim commits, and then its journal is there to be seen."""
    async with seeded(shared_url) as root:
        owner = await connect(shared_url)
        await put(root, "ready", 1)
        transaction = owner.transaction()
        await transaction.start()
        assert await claim(owner) == [1]
        waiting = asyncio.create_task(cancel(root, 1))
        await waits_for_a_lock(owner)
        await transaction.commit()
        assert await waiting == "too_late"
        assert await count(root, "ready") == 1
        await owner.close()


async def test_a_claim_passes_over_a_row_that_is_being_cancelled(shared_url):
    """It is not waited for; if the cancel is rolled back, a later claim takes it."""
    async with seeded(shared_url) as root:
        owner = await connect(shared_url)
        await put(root, "ready", 1)
        await put(root, "ready", 2)
        transaction = root.transaction()
        await transaction.start()
        assert await cancel(root, 1) == "cancelled"
        assert await claim(owner) == [2]
        await transaction.rollback()
        assert await claim(owner, 1) == [1]
        await owner.close()


async def test_a_job_that_a_retry_moves_meanwhile_is_found(shared_url):
    """A retry flows backwards, from ready to deferred: behind a cancel that has looked there already."""
    async with seeded(shared_url) as root:
        owner = await connect(shared_url)
        await put(root, "ready", 1)
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute("delete from tocsin.ready")
        await put(owner, "deferred", 1, attempt="1", reason="'RETRY_THROTTLED'")
        waiting = asyncio.create_task(cancel(root, 1))
        await waits_for_a_lock(owner)
        await transaction.commit()
        assert await waiting == "cancelled"
        assert await count(root, "ready") + await count(root, "deferred") == 0
        await owner.close()


async def waits_for_a_lock(connection: asyncpg.Connection) -> None:
    """Return once another session waits for a row."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    while not await connection.fetchval(query):
        pass


async def raced(root: asyncpg.Connection, url: str, ender, **columns: str) -> tuple[set[int], set[int]]:
    """Let two claiming sessions and two ending ones race for the same rows, round after round: who got which."""
    chance = random.Random(7)
    claimers = [await connect(url, **PINNED) for _ in range(2)]
    enders = [await connect(url, **PINNED) for _ in range(2)]
    claimed: list[int] = []
    ended: list[int] = []

    async def claims(session: asyncpg.Connection, rows: int) -> None:
        for _ in range(3):
            claimed.extend(await claim(session, rows))

    async def ends(session: asyncpg.Connection, ids: list[int]) -> None:
        ended.extend(await ender(session, ids))

    for turn in range(ROUNDS):
        ids = range(turn * ROWS + 1, (turn + 1) * ROWS + 1)
        await root.execute("delete from tocsin.ready; delete from tocsin.claim")
        for job_id in ids:
            await put(root, "ready", job_id, **columns)
        work = [claims(session, chance.randint(1, 4)) for session in claimers]
        work += [ends(session, chance.sample(ids, len(ids))) for session in enders]
        chance.shuffle(work)
        await asyncio.gather(*work)
        waiting = {row[0] for row in await root.fetch("select id from tocsin.ready")}
        in_journals = {row[0] for row in await root.fetch("select unnest(ids) from tocsin.claim")}
        assert in_journals <= waiting
        assert in_journals == set(claimed) & set(ids)
    for session in (*claimers, *enders):
        await session.close()
    return set(claimed), set(ended)


async def test_raced_against_claims_no_job_is_both_claimed_and_cancelled(shared_url):
    """Told as cancelled and sent all the same would be a lie to the app, and a message that somebody recalled."""

    async def ender(session: asyncpg.Connection, ids: list[int]) -> list[int]:
        return [job_id for job_id in ids if await cancel(session, job_id) == "cancelled"]

    async with seeded(shared_url) as root:
        claimed, ended = await raced(root, shared_url, ender)
        closed = {row[0] for row in await root.fetch("select job_id from tocsin.closed")}
        assert len(claimed) > ROUNDS
        assert len(ended) > ROUNDS
        assert claimed & ended == set()
        assert closed == ended
        assert claimed | ended == set(range(1, ROUNDS * ROWS + 1))


async def test_raced_against_claims_no_job_is_both_claimed_and_expired(shared_url):
    """The sweep ends only what nobody took; what was taken is judged by its owner."""

    async def ender(session: asyncpg.Connection, _ids: list[int]) -> list[int]:
        return await expire(session)

    async with seeded(shared_url) as root:
        claimed, ended = await raced(root, shared_url, ender, life="-1 second")
        closed = {row[0] for row in await root.fetch("select job_id from tocsin.closed where state = 'expired'")}
        assert len(claimed) > ROUNDS
        assert len(ended) > ROUNDS
        assert claimed & ended == set()
        assert closed == ended
