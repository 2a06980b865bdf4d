"""Rows that the store's tests start from: links, routes, categories, senders, and jobs put straight into the tables."""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import asyncpg

from dispatcher.store import QUERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIGURATION = """
insert into tocsin.link (name, account, position, epoch) values ('a', 'a', 0, 1), ('b', 'b', 1, 1);
insert into tocsin.route values ('', '{a}'), ('44', '{a,b}'), ('4478', '{b,a}');
insert into tocsin.category (name, lane, time_to_live, on_doubt, stop, flash, max_parts) values
    ('emergency', 0, '1 hour', 'resend', 'applies', 'yes', 10),
    ('staff', 1, '30 minutes', 'resend', 'recorded', 'yes', 10),
    ('transactional', 3, '24 hours', 'hold', 'applies', 'no', 10),
    ('marketing', 5, '72 hours', 'hold', 'applies', 'never', 3);
insert into tocsin.sender values
    ('Northside', 0, '{emergency,transactional}', null),
    ('Clinic', 1, '{emergency,staff,transactional}', null),
    ('Wellness', 2, '{marketing}', '{b}');
"""

EMPTY = "".join(
    f"delete from tocsin.{table};"
    for table in [
        *[
            "link",
            "category",
            "sender",
            "route",
            "suppression",
            "suppression_event",
            "consent",
            "consent_event",
            "ready",
            "expectation",
            "deferred",
            "claim",
            "uncertain",
            "sent",
            "sent_text",
        ],
        *[
            "closed",
            "receipt_wait",
            "inbound",
            "inbound_part",
            "event_log",
            "idempotency",
            "policy",
            "policy_rule",
            "recent_text",
            "repeated_texts",
            "cap_count",
            "automatic_reply",
            "auto_reply",
            "keyword",
        ],
    ]
)

# A run may pass midnight: then the template was made on an earlier day, and lacks what a schema of today has.
TO_TODAY = """
do $$ begin
    if (select (at at time zone 'UTC')::date < (now() at time zone 'UTC')::date from tocsin.migration where version = 1) then
        perform tocsin.make_partitions(14);
        while tocsin.drop_partition(1) is not null loop
        end loop;
    end if;
end $$
"""

CONTENT = "app, recipient, sender, body, category, flash, enqueued_at, expires_at, parts"
CONTENT_OF_ONE = "session_user, '447700900123', 'Northside', 'hello', 'transactional', false, now(), now() + interval '{life}', {parts}"


async def connect(url: str, **settings: str) -> asyncpg.Connection:
    """A plain session; ``settings`` are the server's."""
    return await asyncpg.connect(url, server_settings=settings, statement_cache_size=0)


async def partitions_of_today(connection: asyncpg.Connection) -> None:
    """Give a database that was made on an earlier day the partitions of one that was made today; no other changes."""
    await connection.execute(TO_TODAY)


@contextlib.asynccontextmanager
async def seeded(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser session on a database that holds a configuration and nothing else."""
    connection = await connect(url)
    try:
        await connection.execute(EMPTY + CONFIGURATION)
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def app_session(root: asyncpg.Connection, url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of a new login role that may do what an app may, and nothing else."""
    user = f"test_{secrets.token_hex(6)}"
    await root.execute(
        f"create role {user} login; grant usage on schema tocsin to {user};"
        "grant execute on function tocsin.enqueue, tocsin.enqueue_many, tocsin.cancel, tocsin.job_status,"
        f" tocsin.sees_all, tocsin.state_name, tocsin.receipt_retry, tocsin.receipt_ending to {user}; grant select on tocsin.job_status, tocsin.event to {user}"
    )
    own = await connect(url)
    try:
        await own.execute(f"set session authorization {user}")
        yield own
    finally:
        await own.close()
        await root.execute(f"drop owned by {user}; drop role {user}")


async def enqueue(connection: asyncpg.Connection, **fields: Any) -> asyncpg.Record:
    """Call tocsin.enqueue with these arguments; recipient and body have values unless given."""
    fields = {"recipient": "+447700900123", "body": "hello"} | fields
    arguments = ", ".join(f"{name} => ${n}" for n, name in enumerate(fields, start=1))
    (row,) = await connection.fetch(f"select * from tocsin.enqueue({arguments})", *fields.values())
    return row


async def enqueue_many(connection: asyncpg.Connection, *items: Any) -> list[asyncpg.Record]:
    """Call tocsin.enqueue_many; the rows in the order of the items."""
    rows = await connection.fetch("select * from tocsin.enqueue_many($1) order by item", json.dumps(items))
    assert [row["item"] for row in rows] == list(range(1, len(items) + 1))
    return rows


def item(**fields: Any) -> dict[str, Any]:
    """An item of enqueue_many; recipient and body have values unless given."""
    return {"recipient": "+447700900123", "body": "hello"} | fields


async def put(
    connection: asyncpg.Connection,
    table: str,
    job_id: int,
    *,
    link: str = "a",
    lane: int = 3,
    parts: int = 1,
    life: str = "1 day",
    **columns: str,
) -> None:
    """Insert a job into ready, deferred or uncertain; ``columns`` are further ones, as SQL."""
    if table == "uncertain":
        columns = {"due_at": "now()", "attempt": "1", "resends": "0", "doubt": f"'{'1' * parts}'"} | columns
    else:
        columns = {"due_at": "now()"} | columns
    content = CONTENT_OF_ONE.format(parts=parts, life=life)
    await connection.execute(
        f"insert into tocsin.{table} (link, lane, id, {CONTENT}, {', '.join(columns)})"
        f" select '{link}', {lane}, {job_id}, {content}, {', '.join(columns.values())}"
    )


async def put_sent(
    connection: asyncpg.Connection, job_id: int, *, part: int = 1, parts: int = 1, link: str = "a", **columns: str
) -> None:
    """Insert an accepted submit_sm; its message_id is m<job>.<part> unless given."""
    columns = {"submitted_at": "now()", "message_id": f"'m{job_id}.{part}'"} | columns
    await connection.execute(
        "insert into tocsin.sent (job_id, part, parts, attempt, link, destination, sender, category, lane, enqueued_at, app,"
        f" {', '.join(columns)}) select {job_id}, {part}, {parts}, 1, '{link}', '447700900123', 'Northside', 'transactional', 3,"
        f" now(), session_user, {', '.join(columns.values())}"
    )


async def put_closed(connection: asyncpg.Connection, job_id: int, state: str, reason: str, *, parts: int = 1) -> None:
    """Insert a job that ended before it was accepted."""
    await connection.execute(
        "insert into tocsin.closed (closed_at, job_id, app, recipient, category, lane, link, state, reason, parts, attempt, enqueued_at)"
        f" values (now(), {job_id}, session_user, '447700900123', 'transactional', 3, 'a', $1, $2, {parts}, 1, now())",
        state,
        reason,
    )


async def named(connection: asyncpg.Connection, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Run one of the daemon's queries."""
    return await connection.fetch(QUERIES[query], *arguments)


async def count(connection: asyncpg.Connection, table: str, where: str = "true") -> int:
    """Rows of a table."""
    return int(await connection.fetchval(f"select count(*) from tocsin.{table} where {where}"))
