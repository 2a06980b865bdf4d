"""The tables refuse what no correct statement would write."""

from __future__ import annotations

import asyncpg
import pytest

from dispatcher.migrate import migrate
from tests.store.seed import connect, put, put_closed, put_sent, seeded

REFUSED = (asyncpg.IntegrityConstraintViolationError, asyncpg.CheckViolationError)

ILLEGAL = {
    "link": [
        "insert into tocsin.link (name, account) values ('a', 'a')",
        "insert into tocsin.link (name) values ('c')",
        "insert into tocsin.link (name, account, alphabet) values ('c', 'c', 'ucs2')",
        "insert into tocsin.link (name, account, concatenation) values ('c', 'c', 'udh')",
        "insert into tocsin.link (name, account, receipts) values ('c', 'c', 'some')",
    ],
    "category": [
        "update tocsin.category set lane = 6",
        "update tocsin.category set lane = -1",
        "update tocsin.category set time_to_live = '0'",
        "update tocsin.category set on_doubt = 'drop'",
        "update tocsin.category set stop = 'no'",
        "update tocsin.category set flash = 'maybe'",
        "update tocsin.category set max_parts = 0",
        "update tocsin.category set max_parts = 256",
        "update tocsin.category set keep_text_days = -1",
    ],
    "route": [
        "insert into tocsin.route values ('+44', '{a}')",
        "insert into tocsin.route values ('1234567890123456', '{a}')",
        "insert into tocsin.route values ('44', '{b}')",
        "insert into tocsin.route values ('33', null)",
        "insert into tocsin.route (prefix, links, weights) values ('34', '{a,b}', '{1}')",
        "insert into tocsin.route (prefix, links, weights) values ('34', '{a,b}', '{1,-1}')",
        "insert into tocsin.route (prefix, links, weights) values ('34', '{a,b}', '{0,0}')",
    ],
    "sender": [
        "insert into tocsin.sender values ('Northside', 9, '{}')",
        "insert into tocsin.sender values ('X', 9, null)",
    ],
    "suppression": [
        "insert into tocsin.suppression select '447700900123', 'everything', '', 'OPT_OUT', now() from generate_series(1, 2)",
    ],
    "suppression_event": [
        f"insert into tocsin.suppression_event (recipient, scope, value, action, reason, source) values ({values})"
        for values in (
            "'44', 'everything', '', 'added', 'OPT_OUT', 'app'",
            "'447700900123', 'everything', 'x', 'added', 'OPT_OUT', 'app'",
            "'447700900123', 'sender', '', 'added', 'OPT_OUT', 'app'",
            "'447700900123', 'everything', '', 'gone', 'OPT_OUT', 'app'",
            "'447700900123', 'everything', '', 'added', 'MOOD', 'app'",
            "'447700900123', 'everything', '', 'added', 'OPT_OUT', 'rumour'",
        )
    ],
    "idempotency": ["insert into tocsin.idempotency values ('app', 'k', '', 1, now()), ('app', 'k', '', 2, now())"],
    "sent": [
        "update tocsin.sent set receipt_state = 10",
        "update tocsin.sent set app = null",
        "update tocsin.sent set link = null",
    ],
    "closed": ["update tocsin.closed set state = 'delivered'", "update tocsin.closed set reason = null"],
    "uncertain": [
        "update tocsin.uncertain set doubt = null",
        "insert into tocsin.uncertain select * from tocsin.uncertain",
    ],
    "claim": [
        "insert into tocsin.claim values (1, 'a', 0, 1, '{1}'), (1, 'a', 0, 1, '{2}')",
        "insert into tocsin.claim values (1, 'a', 0, 1, null)",
    ],
}
OF_A_WAITING_JOB = [
    "recipient = '+447700900123'",
    "recipient = '0447700900123'",
    "recipient = '123456'",
    "recipient = '1234567890123456'",
    "recipient = '44770090012x'",
    "recipient = ''",
    "body = ''",
    "body = null",
    "lane = 6",
    "lane = -1",
    "expires_at = null",
    "due_at = null",
    "app = null",
]


async def test_each_illegal_row_is_refused(shared_url):
    """A bug in one statement must not become a row that another one trusts."""
    async with seeded(shared_url) as root:
        await put_sent(root, 1)
        await put_closed(root, 2, "failed", "PARTIAL")
        await put(root, "uncertain", 3)
        for table, statements in ILLEGAL.items():
            for statement in statements:
                with pytest.raises(REFUSED):
                    await root.execute(statement)
                assert await root.fetchval(f"select count(*) from tocsin.{table}") >= 0


async def test_each_illegal_content_is_refused_wherever_a_job_waits(shared_url):
    """Whatever way a row takes, what reaches the wire is a number, a text and a lane."""
    async with seeded(shared_url) as root:
        for table in ("ready", "deferred"):
            await put(root, table, 1)
            for change in [*OF_A_WAITING_JOB, "parts = 0", "parts = 256"] if table == "ready" else OF_A_WAITING_JOB:
                with pytest.raises(REFUSED):
                    await root.execute(f"update tocsin.{table} set {change}")
            with pytest.raises(asyncpg.UniqueViolationError):
                await root.execute(f"insert into tocsin.{table} select * from tocsin.{table}")


async def test_ready_has_no_index_but_its_primary_key_that_a_claim_could_take(shared_url):
    """A second one that tempted the planner made claims 300 times slower; one of rows with a group alone cannot."""
    async with seeded(shared_url) as root:
        indexes = await root.fetch(
            "select indexname from pg_indexes where schemaname = 'tocsin' and tablename = 'ready'"
            " and indexdef not like '%WHERE (cancel_group IS NOT NULL)'"
        )
        assert [row[0] for row in indexes] == ["ready_pkey"]


async def test_ids_are_not_handed_out_ahead(shared_url):
    """With a cache, an idle session would hold low ids back, and a claim would never look below what it has read."""
    async with seeded(shared_url) as root:
        assert await root.fetchval("select seqcache from pg_sequence where seqrelid = 'tocsin.job_id'::regclass") == 1


async def test_the_functions_are_closed_to_the_public(shared_url):
    """A right that everyone has is no right; the security definers must not be called by chance."""
    async with seeded(shared_url) as root:
        open_ones = await root.fetch(
            "select proname from pg_proc p where pronamespace = 'tocsin'::regnamespace and has_function_privilege('public', p.oid, 'execute')"
        )
        assert open_ones == []


async def test_every_definer_s_function_pins_its_search_path(shared_url):
    """Else a caller's own table or operator would run with the owner's rights."""
    async with seeded(shared_url) as root:
        rows = await root.fetch(
            "select proname, proconfig from pg_proc where pronamespace = 'tocsin'::regnamespace and prosecdef order by proname"
        )
        assert {"enqueue", "enqueue_many", "cancel", "job_status"} <= {row["proname"] for row in rows}
        assert all("search_path=pg_catalog, pg_temp" in row["proconfig"] for row in rows)


def test_a_database_in_another_encoding_is_refused(database_server):
    """A text with a character that the server cannot store would be lost at the enqueue."""

    async def attempt() -> None:
        connection = await connect(database_server.database_url(name))
        try:
            with pytest.raises(asyncpg.RaiseError, match="UTF8"):
                await migrate(connection)
        finally:
            await connection.close()

    name = database_server.create("template0 encoding 'LATIN1' locale 'C'")
    try:
        database_server.run(attempt())
    finally:
        database_server.drop(name)
