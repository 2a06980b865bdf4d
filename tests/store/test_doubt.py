"""The SQL of doubt: the next link, what is sent again, and late answers raced against promotion and claims."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from dispatcher.store import PINNED
from tests.store.seed import connect, count, named, put, put_sent, seeded

if TYPE_CHECKING:
    import asyncpg

LANE = 3
ROUNDS = 30
ROWS = 10
ALL_BOUND = "update tocsin.link set owner = 'x', state = 'bound'"
THREE_LINKS = (
    "insert into tocsin.link (name, account, position, epoch) values ('c', 'c', 2, 1);"
    "update tocsin.route set links = '{a,b,c}' where prefix = '44';" + ALL_BOUND
)


async def late(
    connection: asyncpg.Connection, job_id: int, part: int = 1, parts: int = 1, *, link: str = "a"
) -> str | None:
    """An acceptance that came late, with message id late<job>.<part>; the job was enqueued when its row says."""
    return await connection.fetchval(
        "select tocsin.settle_orphan($1, $2, $3, 1, $4, '447700900123', 'Northside', 'transactional', 3,"
        " coalesce((select (extract(epoch from j.enqueued_at) * 1000000)::bigint from tocsin.job_status($1) j), 0), $5, 0.5, true)",
        job_id,
        part,
        parts,
        link,
        f"late{job_id}.{part}",
    )


@pytest.mark.parametrize(
    ("after", "unfit", "link"),
    [
        ("a", "", "b"),
        ("b", "", "c"),
        ("c", "", "a"),
        ("elsewhere", "", "a"),
        ("a", "enabled = false", "c"),
        ("a", "paused = true", "c"),
        ("a", "owner = null", "c"),
        ("a", "state = 'waiting'", "c"),
    ],
)
async def test_the_next_link_is_the_one_after_it_in_the_route_that_can_send(shared_url, after, unfit, link):
    """Counted round; one that the route does not name stands before its first. What does not fit is passed over: here b."""
    async with seeded(shared_url) as root:
        await root.execute(THREE_LINKS)
        if unfit:
            await root.execute(f"update tocsin.link set {unfit} where name = 'b'")
        assert (
            await root.fetchval("select tocsin.next_link('447700900123', 'Northside', 'transactional', $1)", after)
            == link
        )


async def test_there_is_no_next_link_where_no_other_one_can_send_or_the_sender_is_not_provisioned(shared_url):
    """Then what is in doubt stays where it is."""
    async with seeded(shared_url) as root:
        assert await root.fetchval("select tocsin.next_link('447700900123', 'Northside', 'transactional', 'a')") is None
        await root.execute(ALL_BOUND)
        assert await root.fetchval("select tocsin.next_link('447700900123', 'Wellness', 'transactional', 'b')") is None
        assert await root.fetchval("select tocsin.next_link('491700000000', 'Northside', 'transactional', 'a')") is None


async def resend(root: asyncpg.Connection) -> list[str | None]:
    """Send again what is in doubt on link a; the links that it goes by."""
    return [row["by_link"] for row in await named(root, "resend", "{a}", 60.0, "{}")]


async def in_doubt(root: asyncpg.Connection, job_id: int, **columns: str) -> None:
    """A job of an emergency in doubt whose session is over."""
    await put(root, "uncertain", job_id, lane=0, session_over="true", **columns)  # type: ignore[arg-type]
    await root.execute("update tocsin.uncertain set category = 'emergency'")


async def test_what_is_sent_again_is_counted_anew_for_the_link_it_goes_to(shared_url):
    """Another alphabet makes other segments."""
    async with seeded(shared_url) as root:
        await root.execute(ALL_BOUND + "; update tocsin.link set alphabet = 'latin1' where name = 'b'")
        await in_doubt(root, 1)
        await root.execute("update tocsin.uncertain set body = repeat('x', 150)")
        assert await resend(root) == ["b"]
        (row,) = await root.fetch("select link, parts, resends, reason, done from tocsin.deferred")
        assert tuple(row) == ("b", 2, 1, "RESEND", None)


async def test_what_would_need_too_many_parts_elsewhere_stays_on_its_link(shared_url):
    """There it has fitted once."""
    async with seeded(shared_url) as root:
        await root.execute(ALL_BOUND + "; update tocsin.link set alphabet = 'latin1' where name = 'b'")
        await root.execute("update tocsin.category set max_parts = 1")
        await in_doubt(root, 1)
        await root.execute("update tocsin.uncertain set body = repeat('x', 150)")
        assert await resend(root) == ["a"]
        assert await root.fetchval("select parts from tocsin.deferred") == 1


async def test_a_message_that_was_accepted_in_part_stays_on_its_link(shared_url):
    """Parts of one message go one way."""
    async with seeded(shared_url) as root:
        await root.execute(ALL_BOUND)
        await put(root, "uncertain", 1, lane=0, parts=2, session_over="true", done="'10'", doubt="'01'")
        await root.execute("update tocsin.uncertain set category = 'emergency'")
        assert await resend(root) == ["a"]


async def test_a_part_whose_answer_was_kept_meanwhile_is_not_sent_again(shared_url):
    """An answer that its fence kept out says that the SMSC has it."""
    async with seeded(shared_url) as root:
        await put(root, "uncertain", 1, lane=0, parts=2, session_over="true")
        await put(root, "uncertain", 2, lane=0, session_over="true")
        await root.execute("update tocsin.uncertain set category = 'emergency'")
        await put_sent(root, 1, part=2, parts=2, reason="'FENCED'")
        await put_sent(root, 2, reason="'FENCED'")
        assert sorted(await resend(root), key=str) == [None, "a"]
        assert await root.fetchval("select array_agg((id, done)::text) from tocsin.deferred") == ["(1,01)"]
        assert await root.fetchval("select state from tocsin.job_status(2)") == "submitted"


async def test_what_waits_to_be_sent_again_cannot_be_cancelled(shared_url):
    """Cancelled says that nobody gets it, and its first write may have been taken."""
    async with seeded(shared_url) as root:
        await put(root, "deferred", 1, resends="1", reason="'RESEND'")
        await put(root, "ready", 2, resends="1")
        assert [await root.fetchval("select tocsin.cancel($1)", job_id) for job_id in (1, 2)] == [
            "too_late",
            "too_late",
        ]
        assert await count(root, "deferred") + await count(root, "ready") == 2


async def test_a_late_answer_leaves_another_job_of_the_same_id_alone(shared_url):
    """After a failover of the database ids are handed out again: the instant of the enqueue tells them apart."""
    async with seeded(shared_url) as root:
        await put(root, "deferred", 1, resends="1", reason="'RESEND'")
        await put(root, "deferred", 2, reason="'RETRY_THROTTLED'")
        assert await late(root, 2) == "fenced", "never in doubt: it waits for another reason"
        await root.execute("delete from tocsin.sent")
        outcome = await root.fetchval(
            "select tocsin.settle_orphan(1, 1, 1, 1, 'a', '447700900123', 'Northside', 'transactional', 3, 1, 'late', 0.5, true)"
        )
        assert outcome == "fenced"
        assert await count(root, "deferred") == 2


async def test_what_is_left_of_a_moved_resend_goes_back_to_the_link_that_has_a_part(shared_url):
    """Its recipient's handset joins parts by reference: they go one way, cut as that link cuts them."""
    async with seeded(shared_url) as root:
        await put(root, "deferred", 1, link="b", parts=2, resends="1", reason="'RESEND'")
        assert await late(root, 1, part=2, parts=3) == "spared"
        (row,) = await root.fetch("select link, parts, done::text as done from tocsin.deferred")
        assert tuple(row) == ("a", 3, "010")


async def test_a_late_answer_waits_for_a_promotion_in_flight_and_finds_the_row_behind_it(shared_url):
    """Both places are looked at in a new statement each."""
    async with seeded(shared_url) as root:
        owner = await connect(shared_url)
        await put(root, "deferred", 1, resends="1", reason="'RESEND'")
        transaction = owner.transaction()
        await transaction.start()
        assert [row["id"] for row in await named(owner, "promote", "{a}", "{1}", 100)] == [1]
        waiting = asyncio.create_task(late(root, 1))
        await waits_for_a_lock(owner)
        await transaction.commit()
        assert await waiting == "withdrawn"
        assert await count(root, "ready") + await count(root, "deferred") == 0
        await owner.close()


async def test_a_late_answer_waits_for_a_claim_in_flight_and_leaves_the_row_to_it(shared_url):
    """The journal names it: it may be on the wire, and the answer is kept beside it."""
    async with seeded(shared_url) as root:
        owner = await connect(shared_url)
        await put(root, "ready", 1, resends="1")
        transaction = owner.transaction()
        await transaction.start()
        assert await claim(owner) == [1]
        waiting = asyncio.create_task(late(root, 1))
        await waits_for_a_lock(owner)
        await transaction.commit()
        assert await waiting == "fenced"
        assert await count(root, "ready") == 1
        await owner.close()


async def waits_for_a_lock(connection: asyncpg.Connection) -> None:
    """Return once another session waits for a row."""
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    while not await connection.fetchval(query):
        pass


async def claim(connection: asyncpg.Connection, rows: int = 100) -> list[int]:
    """Claim rows of link a as its owner does."""
    found = await named(
        connection, "claim", "{a}", "{1}", "{a}", f"{{{LANE}}}", "{0}", f"{{{2**62}}}", f"{{{rows}}}", "{}", "{}"
    )
    return [row["id"] for row in found]


async def test_raced_against_promotion_and_claims_no_part_is_both_taken_back_and_sent_again(shared_url):
    """Each late acceptance either takes the job back, or is kept beside a job that a claim has; no answer is dropped."""
    async with seeded(shared_url) as root:
        chance = random.Random(3)
        owners = [await connect(shared_url, **PINNED) for _ in range(2)]
        answerers = [await connect(shared_url, **PINNED) for _ in range(2)]
        claimed: set[int] = set()
        outcomes: dict[int, str | None] = {}

        async def promotes(session: asyncpg.Connection) -> None:
            for _ in range(3):
                await named(session, "promote", "{a}", "{1}", chance.randint(1, ROWS))

        async def claims(session: asyncpg.Connection) -> None:
            for _ in range(5):
                claimed.update(await claim(session, chance.randint(1, 4)))

        async def answers(session: asyncpg.Connection, ids: list[int]) -> None:
            for job_id in ids:
                outcomes[job_id] = await late(session, job_id)

        for turn in range(ROUNDS):
            ids = list(range(turn * ROWS + 1, (turn + 1) * ROWS + 1))
            for job_id in ids:
                await put(root, "deferred", job_id, resends="1", reason="'RESEND'")
            mixed = chance.sample(ids, len(ids))
            await asyncio.gather(
                promotes(owners[0]), claims(owners[1]), *(answers(s, mixed[n::2]) for n, s in enumerate(answerers))
            )
        for session in (*owners, *answerers):
            await session.close()

        withdrawn = {job_id for job_id, outcome in outcomes.items() if outcome == "withdrawn"}
        kept = {job_id for job_id, outcome in outcomes.items() if outcome == "fenced"}
        everyone = set(range(1, ROUNDS * ROWS + 1))
        assert len(withdrawn) > ROUNDS
        assert withdrawn | kept == everyone
        assert withdrawn & claimed == set()
        left = {
            row[0] for row in await root.fetch("select id from tocsin.ready union all select id from tocsin.deferred")
        }
        assert left == kept
        assert kept <= claimed, "only what a claim had was left to it"
        assert await root.fetchval("select array_agg(job_id order by job_id) from tocsin.sent") == sorted(everyone)
