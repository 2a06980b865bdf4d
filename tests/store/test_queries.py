"""The named queries: each is used, each fits the schema, and the hot ones probe their index at any size of the queue.

The trap that the last ones guard against: a plan made while a table was empty, and known to be, puts that table outside
of a nested loop. It stays in the session, and reads the whole table for each element once there are rows.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dispatcher.store import FOLDER, PINNED, PROBING, QUERIES, array, texts
from tests.store.seed import connect, seeded

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.prepared_stmt import PreparedStatement

PRODUCT = Path(__file__).parents[2] / "dispatcher"
ELEMENTS = 500  # of a batch
EVERY = 2**62
ORDERED = PINNED | {"enable_indexscan": "on"}
SIZES = [0, 1_000, pytest.param(1_000_000, marks=pytest.mark.slow)]

# Every second row is link a's, six lanes, ids from 1 in ready, from 10 million in deferred, from 20 million in sent.
FILL = """
insert into tocsin.ready (link, lane, id, app, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, parts)
select case n % 2 when 0 then 'a' else 'b' end, n / 2 % 6, n, 'app', '447700900123', 'Northside', 'hello', 'marketing', false, now(), now(),
       now() + interval '1 hour' * (n % 7 - 1), 1
from generate_series(1, {rows}) n;
insert into tocsin.deferred (due_at, id, link, lane, app, recipient, sender, body, category, flash, enqueued_at, expires_at, parts, reason)
select now() + interval '1 ms' * (n - {rows} / 2), 10000000 + n, case n % 2 when 0 then 'a' else 'b' end, n / 2 % 6, 'app', '447700900123',
       'Northside', 'hello', 'marketing', false, now(), now() + interval '1 day', 1, 'SCHEDULED'
from generate_series(1, {rows}) n;
insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, enqueued_at, app, message_id)
select now(), 20000000 + n, 1, 1, 1, case n % 2 when 0 then 'a' else 'b' end, '447700900123', 'Northside', 'marketing', 5, now(), 'app', 'm' || n
from generate_series(1, {rows}) n;
insert into tocsin.uncertain (id, link, lane, app, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, attempt, resends,
                              parts, doubt)
select 30000000 + n, 'a', 5, 'app', (447000000000 + n)::text, 'Northside', 'hello', 'marketing', false, now(), now(), now(), 1, 0, 1, '1'
from generate_series(1, {rows} / 10) n;
insert into tocsin.resent (id, link, recipient, sender) select 40000000 + n, 'a', (447100000000 + n)::text, 'Northside'
from generate_series(1, {rows} / 10) n;
insert into tocsin.receipt_wait (received_at, id, link, message_id, forms, state, source, destination, submitted_on)
select now(), n, 'a', 'x' || n, array['x' || n], 40, (447000000000 + n)::text, 'Northside', '' from generate_series(1, {rows} / 10) n;
insert into tocsin.suppression select (447000000000 + n)::text, 'sender', 'Elsewhere', 'OPT_OUT', now() from generate_series(1, {rows}) n;
insert into tocsin.consent select (447000000000 + n)::text, 'marketing', true, now() from generate_series(1, {rows}) n;
insert into tocsin.idempotency select 'app', 'k' || n, '', n, now() - interval '8 days' from generate_series(1, {rows}) n;
insert into tocsin.automatic_reply (inbound_id, kind, sender, peer, job_id)
select -n, 'received', 'Elsewhere', (447000000000 + n)::text, n from generate_series(1, {rows}) n;
insert into tocsin.claim (batch, link, lane, epoch, ids)
select 1000000 + n, 'a', n / 6 % 6, 1, array(select generate_series(n * 100, n * 100 + 99)) from generate_series(1, {rows} / 1000) n;
"""
LARGE = "^(suppression|consent|ready|deferred|sent|claim|idempotency|uncertain|resent|receipt_wait|closed|event_log|automatic_reply)"
ROWS_READ = """
select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint from pg_stat_xact_user_tables
where schemaname = 'tocsin' and relname ~ $1
"""
BY_ID = ["select * from tocsin.job_status($1)", "select * from tocsin.find_ready($1)", "select tocsin.cancel($1)"]


@dataclass
class Hot:
    """A hot statement: the session it runs in, its arguments, and rows that it may read for each element."""

    pins: dict[str, str]
    arguments: list[Any]
    factor: int = 3


ids = list(range(200, 200 + 2 * ELEMENTS, 2))
lanes = [number // 2 % 6 for number in ids]
ones = array([1] * ELEMENTS)
zeros = array([0] * ELEMENTS)
nothing = texts([""] * ELEMENTS)
numbers = array(range(ELEMENTS))
links, epochs = texts(["a", "b"]), array([1, 1])
windows = [texts(["a"] * 6), array(range(6)), array([100] * 6), array([EVERY] * 6)]
message_ids = texts([f"m{number}" for number in ids])
whats = array([number % 4 for number in range(ELEMENTS)])

HOT = {
    "claim": Hot(ORDERED, [links, epochs, *windows, array([ELEMENTS // 6] * 6), array(ids), "{marketing}"]),
    "probe": Hot(ORDERED, [*windows[:3], array([100 + ELEMENTS] * 6)]),
    "promote": Hot(ORDERED, [links, epochs, ELEMENTS]),
    "move_refused": Hot(ORDERED, [ELEMENTS, links, links, epochs]),
    "expire": Hot(ORDERED, ["a", 3, 100, ELEMENTS, array(ids[::2])]),
    "named": Hot(ORDERED, ["a", 3, array(ids)]),
    "journalled": Hot(ORDERED, ["a", 5], factor=40),  # reads the link's whole journal, which has rows / 1000 * 100 ids
    "depth": Hot(ORDERED, ["a", array([100] * 6)], factor=10 * 6 * 2_000 // ELEMENTS),
    "prune_keys": Hot(ORDERED, [], factor=3 * 10_000 // ELEMENTS),
    "settle": Hot(
        PROBING,
        [
            *[links, epochs, array(ids), ones, array(lanes), texts(["x"] * ELEMENTS), array([100_000] * ELEMENTS)],
            *[whats, texts(["failed"] * ELEMENTS), nothing, array([60] * ELEMENTS), ones],
            *[texts(["1"] * ELEMENTS), texts(["1"] * ELEMENTS), ones, ones],
            *[texts(["{2}"] * ELEMENTS), texts(["{y}"] * ELEMENTS), texts(["{100000}"] * ELEMENTS), numbers, True],
        ],
    ),
    "release": Hot(PROBING, [numbers]),
    "apply_receipts": Hot(
        PROBING,
        [
            *[numbers, message_ids, nothing, nothing, "a"],
            *[texts(["a"] * ELEMENTS), array([40] * ELEMENTS), nothing, nothing],
            *[86400.0, 86400.0],
        ],
    ),
    "sent_known": Hot(ORDERED, [array(20_000_000 + number for number in ids), 0]),
    "deferred_known": Hot(ORDERED, ["a", array(10_000_000 + number for number in ids), zeros]),
    "recall_deferred": Hot(ORDERED, ["a", array(10_000_000 + number for number in ids)]),
    "journal_known": Hot(ORDERED, ["a", array(ids), zeros, 1]),
    "uncertain_known": Hot(ORDERED, ["a", array(ids), zeros]),
    "closed_known": Hot(ORDERED, [array(ids), zeros, 0]),
    "queued_known": Hot(ORDERED, [array(ids), zeros]),
    "find_receipts": Hot(PROBING, [numbers, texts(["a"] * ELEMENTS), message_ids, array([0] * ELEMENTS), 86400.0]),
}

# Statements that call a function: the plans are inside, so the rows they read are counted.
ORPHAN = [array([1])] * 3 + [
    texts(["a"]),
    *[texts([""])] * 2,
    texts(["marketing"]),
    array([5]),
    array([0]),
    texts(["x"]),
    array([0.5]),
    array(["t"]),
]
# Half of them are acknowledged; the others have a text of ours.
INBOUND = [
    texts(["a"] * ELEMENTS),
    texts([str(447_000_000_000 + number) for number in ids]),
    texts(["Northside"] * ELEMENTS),
    texts(["Hello?", "Thanks."] * (ELEMENTS // 2)),
    texts(["text"] * ELEMENTS),
    *(nothing, zeros, zeros, texts(["00"] * ELEMENTS), links, epochs, ones),
    *(texts([None] * ELEMENTS), texts([None] * ELEMENTS), nothing, texts([None] * ELEMENTS)),
    "2026-11-30 08:00",
]
CALLS = {
    "store_inbound": Hot(PROBING, INBOUND, factor=5),
    "settle_orphans": Hot(PROBING, [array([30_000_050]), *ORPHAN], factor=1),
    "resolve_by_receipts": Hot(ORDERED, [array(range(1, 21)), 86400.0], factor=1),
}


def test_every_query_is_used():
    """A statement that nobody runs is one that nobody keeps right."""
    source = "".join(path.read_text(encoding="utf-8") for path in PRODUCT.rglob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in source] == []


def test_every_query_says_what_it_is_for():
    """The line below its name: what it does, its parameters and their units."""
    for path in FOLDER.glob("*.sql"):
        headed = re.findall(r"^-- name: (\w+)\n(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert [
            name for name, line in headed if not line.startswith(("-- ", "select", "insert", "update", "delete"))
        ] == []


async def test_every_query_prepares_against_the_migrated_schema(database_url):
    """A misspelt column is found here, not at three in the morning."""
    async with seeded(database_url) as root:
        for name, query in QUERIES.items():
            assert await root.prepare(query) is not None, name


class Session:
    """A session with its statements prepared: what it plans first it keeps."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._prepared: dict[str, PreparedStatement] = {}

    async def prepare(self, name: str) -> None:
        """Make the plan that this session will run from now on, and the same one by SQL, where it can be explained."""
        self._prepared[name] = await self.connection.prepare(QUERIES[name])
        types = ", ".join(parameter.name for parameter in self._prepared[name].get_parameters())
        await self.connection.execute(f"prepare {name}{f'({types})' if types else ''} as {QUERIES[name]}")
        if name in HOT:
            await self.explain(name)
        await self.rows_read(name)

    async def explain(self, name: str) -> str:
        """The plan that this session would run, without running it."""
        arguments = ", ".join(literal(value) for value in HOT[name].arguments)
        rows = await self.connection.fetch(f"explain execute {name}{f'({arguments})' if arguments else ''}")
        return "\n".join(row[0] for row in rows)

    async def rows_read(self, name: str) -> int:
        """Run it, take it back, and return how many rows of large tables it read."""
        transaction = self.connection.transaction()
        await transaction.start()
        before = await self.connection.fetchval(ROWS_READ, LARGE)
        await self._prepared[name].fetch(*(HOT | CALLS)[name].arguments)
        after = await self.connection.fetchval(ROWS_READ, LARGE)
        await transaction.rollback()
        return after - before


def literal(value: object) -> str:
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


async def fill(url: str, rows: int) -> None:
    """Fill the tables, two at a time."""
    statements = iter([statement for statement in FILL.format(rows=rows).split(";") if statement.strip()])

    async def work() -> None:
        connection = await connect(url, synchronous_commit="off")
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    await asyncio.gather(work(), work())


@pytest.mark.parametrize("rows", SIZES)
async def test_the_hot_statements_probe_an_index_at_any_size(database_url, rows):
    """With the plan of the day when the tables were empty, and with a new one that knows nothing of what came since."""
    async with seeded(database_url) as root:
        await root.execute(
            "insert into tocsin.category (name, lane, time_to_live, on_doubt, stop, flash, max_parts)"
            " values ('reply', 1, '300 s', 'hold', 'exempt', 'no', 10);"
            "insert into tocsin.auto_reply (kind, body) values ('closed', 'Until {opens}.'), ('received', 'Thanks.');"
            "alter sequence tocsin.job_id restart 60000000"
        )
        for table in ("ready", "deferred", "claim", "idempotency", "uncertain", "automatic_reply"):
            await root.execute(f"alter table tocsin.{table} set (autovacuum_enabled = off)")
        await root.execute("vacuum analyze")
        early = await sessions(database_url)
        await prepare_all(early)
        for query in BY_ID:
            for _ in range(6):
                await root.fetch(query, 1)

        await fill(database_url, rows)

        late = await sessions(database_url)
        await prepare_all(late)
        for name, hot in HOT.items():
            for session in (early[hot.pins["enable_indexscan"]], late[hot.pins["enable_indexscan"]]):
                plan = await session.explain(name)
                assert not re.search(rf"Seq Scan on {LARGE[1:]}", plan), plan
                assert re.search(r"Index Cond|TID Cond", plan), plan
                assert (name, await session.rows_read(name) <= hot.factor * ELEMENTS) == (name, True), plan
        for name, hot in CALLS.items():
            for session in (early[hot.pins["enable_indexscan"]], late[hot.pins["enable_indexscan"]]):
                assert (name, await session.rows_read(name) <= hot.factor * ELEMENTS) == (name, True)
        for (
            query
        ) in BY_ID:  # an app's session is not pinned: the functions pin themselves; a lane's journal is read whole
            for job_id in (600, 10_000_600, 20_000_600, 5):
                transaction = root.transaction()
                await transaction.start()
                before = await root.fetchval(ROWS_READ, LARGE)
                await root.fetch(query, job_id)
                assert (query, job_id, await root.fetchval(ROWS_READ, LARGE) - before < 300) == (query, job_id, True)
                await transaction.rollback()
        for session in (*early.values(), *late.values()):
            await session.connection.close()


async def sessions(url: str) -> dict[str, Session]:
    return {pins["enable_indexscan"]: Session(await connect(url, **pins)) for pins in (ORDERED, PROBING)}


async def prepare_all(of: dict[str, Session]) -> None:
    for name, hot in (HOT | CALLS).items():
        await of[hot.pins["enable_indexscan"]].prepare(name)
