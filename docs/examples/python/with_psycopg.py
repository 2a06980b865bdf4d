"""The front desk with psycopg 3: reminders are enqueued in its own transactions, outcomes read by cursor."""

import os
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

ENQUEUE = """
    select job_id, outcome, reason
    from tocsin.enqueue(%s, %s, idempotency_key => %s, not_before => %s, client_ref => %s)
"""


def book(connection, number, phone, at, body="Your appointment is next week. Reply YES to confirm."):
    """Book an appointment together with its reminder: both are there after the commit, or neither."""
    for attempt in range(3):
        try:
            with connection.transaction():
                connection.execute(
                    "insert into frontdesk.appointment (id, phone, at) values (%s, %s, %s) on conflict do nothing",
                    (number, phone, at),
                )
                reminder = connection.execute(
                    ENQUEUE, (phone, body, f"reminder-{number}", at - timedelta(days=1), f"appointment {number}")
                ).fetchone()
                connection.execute(
                    "update frontdesk.appointment"
                    " set job_id = %(job_id)s, outcome = %(outcome)s, reason = %(reason)s where id = %(id)s",
                    reminder | {"id": number},
                )
            return reminder
        except psycopg.errors.LockNotAvailable:  # 55P03: the same key is in another open transaction; ask again
            if attempt == 2:
                raise


def read_events(connection):
    """Deal with the next events and remember how far, in one transaction. Returns how many there were."""
    with connection.transaction():
        (seq,) = (
            connection.execute("select seq from frontdesk.progress where reader = 'outcomes' for update")
            .fetchone()
            .values()
        )
        events = connection.execute(
            "select seq, type, subject, data from tocsin.event where seq > %s order by seq limit 100", (seq,)
        ).fetchall()
        for event in events:
            if event["type"] == "inbound.received":
                reply = connection.execute(
                    "insert into frontdesk.reply (inbound_id, phone, text, at)"
                    " select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = %s returning *",
                    (int(event["subject"]),),
                ).fetchone()
                print(f"reply: {len(reply['text'])} characters")
            else:
                outcome, reason = event["type"].removeprefix("job."), event["data"].get("reason")
                connection.execute(
                    "update frontdesk.appointment set outcome = %s, reason = %s where job_id = %s",
                    (outcome, reason, int(event["subject"])),
                )
                print(f"event: {outcome} {reason or ''}")
        if events:
            connection.execute("update frontdesk.progress set seq = %s", (events[-1]["seq"],))
    return len(events)


def main():
    # autocommit: each statement commits by itself, unless it stands in `with connection.transaction()`
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row)
    at = datetime.now(UTC) + timedelta(days=7)

    booked = book(connection, 1, "+447700900123", at)
    print("booked:", booked["outcome"])
    again = book(connection, 1, "+447700900123", at)  # as after a crash: was it heard?
    print("booked again:", again["outcome"], again["job_id"] == booked["job_id"])
    abroad = book(connection, 2, "+33612345678", at)
    print("abroad:", abroad["outcome"], abroad["reason"])  # committed too: the row says why nothing was sent

    for name, number, phone, body in (
        ("malformed", 3, "0612345678", "Hello"),
        ("another request", 1, "+447700900123", "Another text with the same key"),
    ):
        try:
            book(connection, number, phone, at, body)
        except psycopg.Error as error:  # nothing of the transaction is left, the appointment neither
            print(f"{name}: {error.sqlstate} {error.diag.column_name}")

    texts = [
        {"recipient": "+447700900124", "body": "The clinic opens at 10:00 today.", "category": "informational"},
        {"recipient": "+447700900125", "body": "", "category": "informational"},
    ]
    rows = connection.execute("select * from tocsin.enqueue_many(%s) order by item", (Jsonb(texts),))
    print("many:", ", ".join(row["outcome"] + (f" ({row['reason']})" if row["reason"] else "") for row in rows))

    print("cancel:", connection.execute("select tocsin.cancel(%s)", (booked["job_id"],)).fetchone()["cancel"])
    try:
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            connection.execute("select tocsin.cancel(%s)", (booked["job_id"],))
    except psycopg.Error as error:
        print("cancel above read committed:", error.sqlstate)

    connection.execute("listen tocsin_event")
    seen = 0
    while seen < 3:  # a service goes on for ever
        seen += read_events(connection)
        for _ in connection.notifies(timeout=1, stop_after=1):
            pass  # the hint saves waiting; reading does not depend on it
    connection.close()


main()
