"""The front desk with asyncpg: reminders are enqueued in its own transactions, outcomes and replies read by cursor."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta

import asyncpg

ENQUEUE = """
    select job_id, outcome, reason
    from tocsin.enqueue($1, $2, idempotency_key => $3, not_before => $4, client_ref => $5)
"""


async def book(connection, number, phone, at, body="Your appointment is next week. Reply YES to confirm."):
    """Book an appointment together with its reminder: both are there after the commit, or neither."""
    for attempt in range(3):
        try:
            async with connection.transaction():
                await connection.execute(
                    "insert into frontdesk.appointment (id, phone, at) values ($1, $2, $3) on conflict do nothing",
                    number,
                    phone,
                    at,
                )
                reminder = await connection.fetchrow(
                    ENQUEUE, phone, body, f"reminder-{number}", at - timedelta(days=1), f"appointment {number}"
                )
                await connection.execute(
                    "update frontdesk.appointment set job_id = $2, outcome = $3, reason = $4 where id = $1",
                    number,
                    *reminder,
                )
            return reminder
        except asyncpg.LockNotAvailableError:  # 55P03: the same key is in another open transaction; ask again
            if attempt == 2:
                raise


async def read_events(connection):
    """Deal with the next events and remember how far, in one transaction. Returns how many there were."""
    async with connection.transaction():
        seq = await connection.fetchval("select seq from frontdesk.progress where reader = 'outcomes' for update")
        events = await connection.fetch(
            "select seq, type, subject, data from tocsin.event where seq > $1 order by seq limit 100", seq
        )
        for event in events:
            if event["type"] == "inbound.received":
                reply = await connection.fetchrow(
                    "insert into frontdesk.reply (inbound_id, phone, text, at)"
                    " select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = $1 returning *",
                    int(event["subject"]),
                )
                print(f"reply: {len(reply['text'])} characters")
            else:
                outcome, reason = event["type"].removeprefix("job."), json.loads(event["data"]).get("reason")
                await connection.execute(
                    "update frontdesk.appointment set outcome = $2, reason = $3 where job_id = $1",
                    int(event["subject"]),
                    outcome,
                    reason,
                )
                print(f"event: {outcome} {reason or ''}")
        if events:
            await connection.execute("update frontdesk.progress set seq = $1", events[-1]["seq"])
    return len(events)


async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    at = datetime.now(UTC) + timedelta(days=7)

    booked = await book(connection, 1, "+447700900123", at)
    print("booked:", booked["outcome"])
    again = await book(connection, 1, "+447700900123", at)  # as after a crash: was it heard?
    print("booked again:", again["outcome"], again["job_id"] == booked["job_id"])
    abroad = await book(connection, 2, "+33612345678", at)
    print("abroad:", abroad["outcome"], abroad["reason"])  # committed too: the row says why nothing was sent

    for name, number, phone, body in (
        ("malformed", 3, "0612345678", "Hello"),
        ("another request", 1, "+447700900123", "Another text with the same key"),
    ):
        try:
            await book(connection, number, phone, at, body)
        except asyncpg.PostgresError as error:  # nothing of the transaction is left, the appointment neither
            print(f"{name}: {error.sqlstate} {error.column_name}")

    texts = [
        {"recipient": "+447700900124", "body": "The clinic opens at 10:00 today.", "category": "informational"},
        {"recipient": "+447700900125", "body": "", "category": "informational"},
    ]
    rows = await connection.fetch("select * from tocsin.enqueue_many($1) order by item", json.dumps(texts))
    print("many:", ", ".join(row["outcome"] + (f" ({row['reason']})" if row["reason"] else "") for row in rows))

    print("cancel:", await connection.fetchval("select tocsin.cancel($1)", booked["job_id"]))
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select tocsin.cancel($1)", booked["job_id"])
    except asyncpg.PostgresError as error:
        print("cancel above read committed:", error.sqlstate)

    hint = asyncio.Event()
    await connection.add_listener("tocsin_event", lambda *_: hint.set())
    seen = 0
    while seen < 3:  # a service goes on for ever
        seen += await read_events(connection)
        try:
            await asyncio.wait_for(hint.wait(), 1)  # the hint saves waiting; reading does not depend on it
        except TimeoutError:
            pass
        hint.clear()
    await connection.close()


asyncio.run(main())
