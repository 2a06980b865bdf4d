"""tocsin.enqueue_many: an array of requests, each with its own outcome."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from tests.store.seed import connect, count, enqueue, enqueue_many, item, seeded

LATER = "2090-01-01T00:00:00Z"


async def test_each_item_has_its_own_outcome(shared_url):
    """One bad item must not hold back the others, and must not be taken for them."""
    async with seeded(shared_url) as root:
        await enqueue(root, idempotency_key="old")
        rows = await enqueue_many(
            root,
            item(),
            item(not_before=LATER),
            item(recipient="33123456789", category="marketing"),
            item(body=""),
            item(idempotency_key="old"),
            item(idempotency_key="old", body="another"),
            item(idempotency_key="new", category="emergency"),
            item(idempotency_key="new", category="emergency"),
            item(idempotency_key="new", category="emergency", body="another"),
        )
        outcomes = [
            "queued",
            "deferred",
            "blocked",
            "invalid",
            "duplicate",
            "conflict",
            "queued",
            "duplicate",
            "conflict",
        ]
        assert [row["outcome"] for row in rows] == outcomes
        assert [row["job_id"] is not None for row in rows] == [
            outcome not in {"invalid", "conflict"} for outcome in outcomes
        ]
        assert rows[7]["job_id"] == rows[6]["job_id"]
        assert [row["reason"] for row in rows if row["outcome"] in {"queued", "deferred", "duplicate"}] == [None] * 5
        assert rows[2]["reason"] == "NO_ROUTE"
        assert rows[3]["reason"] == "body: empty"
        assert rows[5]["reason"].startswith("idempotency_key: ")
        assert [await count(root, table) for table in ("ready", "deferred", "closed", "idempotency")] == [3, 1, 1, 2]


INVALID = [
    ("item", 7),
    ("item", None),
    ("item", "text"),
    ("item", []),
    ("item", item(retries=3)),
    ("item", item(Body="hello")),
    ("recipient", {"body": "hello"}),
    ("recipient", {}),
    ("recipient", item(recipient=None)),
    ("recipient", item(recipient=447700900123)),
    ("recipient", item(recipient=["447700900123"])),
    ("body", {"recipient": "447700900123"}),
    ("body", item(body=None)),
    ("body", item(body=7)),
    ("body", item(body="a\fb")),
    ("body", item(body="\u202eb")),
    ("body", item(body=True)),
    ("body", item(body={"text": "hello"})),
    ("category", item(category=3)),
    ("category", item(category=["staff"])),
    ("category", item(category="")),
    ("sender", item(sender=12345)),
    ("sender", item(sender={"address": "Northside"})),
    ("sender", item(sender="")),
    ("sender", item(sender="nobody")),
    ("idempotency_key", item(idempotency_key=5)),
    ("idempotency_key", item(idempotency_key="")),
    ("client_ref", item(client_ref=5)),
    ("client_ref", item(client_ref=["r"])),
    ("not_before", item(not_before="soon")),
    ("not_before", item(not_before="")),
    ("not_before", item(not_before="2090-02-30T00:00Z")),
    ("not_before", item(not_before="2090-01-01 00:00 Nowhere/City")),
    ("not_before", item(not_before=1790000000)),
    ("not_before", item(not_before="infinity")),
    ("expires_at", item(expires_at={"in": 60})),
    ("expires_at", item(expires_at="2020-01-01T00:00Z")),
    ("expires_at", item(expires_at=LATER, not_before=LATER)),
    ("flash", item(flash="true", category="staff")),
    ("flash", item(flash=1, category="staff")),
    ("flash", item(flash=True)),
    ("options", item(options="tz")),
    ("options", item(options=[])),
    ("options", item(options={"retries": 3})),
    ("options", item(options={"priority_flag": 1.0})),
    ("options", item(options={"priority_flag": None})),
    ("options", item(options={"cancel_group": None})),
    ("body", item(body="x" * 2000)),
    ("body", item(body="x" * 7_000_000)),
]


async def test_an_invalid_item_names_its_field(shared_url):
    """Nothing is turned into a text that was none: 447700900123 may be a number's last 12 digits, 7 no message."""
    async with seeded(shared_url) as root:
        rows = await enqueue_many(root, *[wrong for _, wrong in INVALID])
        told = [(row["outcome"], row["reason"].split(":")[0], row["job_id"]) for row in rows]
        assert told == [("invalid", field, None) for field, _ in INVALID]
        assert await count(root, "ready") + await count(root, "deferred") + await count(root, "closed") == 0


async def test_null_counts_as_not_given(shared_url):
    """Clients write what they do not have as null."""
    async with seeded(shared_url) as root:
        names = ["category", "sender", "idempotency_key", "not_before", "expires_at", "flash", "client_ref", "options"]
        (row,) = await enqueue_many(root, item(**dict.fromkeys(names)))
        assert row["outcome"] == "queued"
        same = ["category", "sender", "flash", "client_ref", "options", "lane"]
        await enqueue_many(root, item())
        first, second = await root.fetch(f"select {', '.join(same)} from tocsin.ready order by id")
        assert first == second


async def test_it_raises_only_for_what_is_no_array_of_at_most_10_000(shared_url):
    """An app that sends a bad item still learns the ids of the good ones."""
    async with seeded(shared_url) as root:
        for wrong in ("{}", "7", "null", '"[]"', None, json.dumps([7] * 10_001)):
            with pytest.raises(asyncpg.PostgresError) as raised:
                await root.fetch("select * from tocsin.enqueue_many($1)", wrong)
            assert (raised.value.sqlstate, raised.value.column_name) == ("TC400", "jobs")
        assert await enqueue_many(root) == []


async def test_ids_follow_the_order_of_the_items(shared_url):
    """Within a lane ids are the order of sending; 10,000 items are one call, whatever it mixes."""
    async with seeded(shared_url) as root:
        kinds = [
            item(),
            item(category="staff"),
            item(recipient="447800900123"),
            item(idempotency_key="%"),
            item(body=""),
            item(not_before=LATER),
        ]
        items = [
            kinds[n % 6] | {"client_ref": str(n)} | ({"idempotency_key": f"k{n}"} if n % 6 == 3 else {})
            for n in range(10_000)
        ]
        rows = await enqueue_many(root, *items)
        ids = [row["job_id"] for row in rows if row["job_id"] is not None]
        assert len(ids) == 10_000 - sum(n % 6 == 4 for n in range(10_000))
        assert ids == sorted(set(ids))
        queued = await root.fetch(
            "select id, client_ref from tocsin.ready union all select id, client_ref from tocsin.deferred"
        )
        assert {(row["id"], row["client_ref"]) for row in queued} == {
            (row["job_id"], str(row["item"] - 1)) for row in rows if row["job_id"]
        }


async def test_two_batches_with_the_same_keys_in_opposite_order_do_not_deadlock(shared_url):
    """Keys are taken in one order; the second batch waits for the first and finds its jobs."""
    async with seeded(shared_url) as root:
        other = await connect(shared_url)
        keyed = [item(idempotency_key=f"k{n:03}", body=f"message {n}") for n in range(200)]
        transaction = root.transaction()
        await transaction.start()
        first = await enqueue_many(root, *keyed)
        await other.execute("set statement_timeout = '10s'")
        second, _ = await asyncio.gather(enqueue_many(other, *reversed(keyed)), transaction.commit())
        assert {row["outcome"] for row in first} == {"queued"}
        assert [(row["outcome"], row["job_id"]) for row in second] == [
            ("duplicate", row["job_id"]) for row in reversed(first)
        ]
        await other.close()


async def test_a_batch_reads_each_table_of_the_configuration_a_fixed_number_of_times(shared_url):
    """What the configuration says is looked up once for each combination within the batch, not for each item."""
    async with seeded(shared_url) as root:
        read = (
            "select coalesce(sum(seq_scan + idx_scan), 0)::int from pg_stat_xact_user_tables where relname = any ($1)"
        )
        tables = ["link", "category", "sender", "route"]
        scans = [await root.fetchval(read, tables)]
        for size in (1, 500):
            transaction = root.transaction()
            await transaction.start()
            await enqueue_many(root, *[item(client_ref=str(n), body=f"message {n}") for n in range(size)])
            scans.append(await root.fetchval(read, tables))
            await transaction.rollback()
        assert scans[2] - scans[1] == scans[1] - scans[0] < 20


async def test_known_keys_are_probed_not_searched(shared_url):
    """A week of keys is millions of rows: a retried batch must not read them all, whatever the statistics say."""
    async with seeded(shared_url) as root:
        await root.execute("vacuum analyze tocsin.idempotency")
        keyed = [item(idempotency_key=f"k{n}") for n in range(100)]
        first = await enqueue_many(root, *keyed)
        await root.execute(
            "insert into tocsin.idempotency select session_user, 'other' || n, '', n, now() from generate_series(1, 20000) n"
        )
        read = "select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'idempotency'"
        transaction = root.transaction()
        await transaction.start()
        before = await root.fetchval(read)
        again = await enqueue_many(root, *keyed)
        after = await root.fetchval(read)
        await transaction.commit()
        assert [row["job_id"] for row in again] == [row["job_id"] for row in first]
        assert after - before <= 2 * len(keyed)
