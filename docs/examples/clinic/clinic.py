"""A small clinic: books appointments, reminds patients a day before and once more, and learns who will come.

    python clinic.py book REQUEST PHONE AT      the same request again books nothing twice
    python clinic.py move APPOINTMENT AT        takes the old reminders back, or corrects them
    python clinic.py follow                     reads outcomes and replies for as long as it runs
    python clinic.py list

PHONE as +447700900123, AT as 2035-01-15T14:30+00:00, the database in DATABASE_URL. Tables: schema.sql. Each function
that changes something is one transaction: what it does in the clinic's tables and what it does in Tocsin's queue
happen together or not at all.
"""

import os
import sys
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

LEAD = timedelta(days=1)  # from the reminder to the appointment
LAST = timedelta(hours=3)  # from the second one, which only those get who did not answer
ATTEMPTS = 3
ANSWERS = dict.fromkeys(["C", "Confirm", "Yes", "Y", "OK"], "confirmed") | dict.fromkeys(["R", "Reschedule"], "to move")
LOST = {"blocked", "failed", "expired", "undelivered", "unknown"}  # ends after which somebody has to telephone


def connect(url):
    """Each statement commits by itself, unless it stands in a transaction; read committed, which `cancel` needs."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def together(connection, work, *arguments):
    """Run a function in one transaction; once more when another transaction held what it needs (55P03)."""
    for left in reversed(range(ATTEMPTS)):
        try:
            with connection.transaction():
                return work(connection, *arguments)
        except psycopg.errors.LockNotAvailable:
            if not left:
                raise
    return None


def book(connection, request, phone, at):
    """Book an appointment with its reminders, and give its row. A request that was heard before changes nothing."""
    return together(connection, _book, request, phone.removeprefix("+"), at)


def _book(connection, request, phone, at):
    connection.execute(
        "insert into clinic.appointment (request, phone, at) values (%s, %s, %s) on conflict (request) do nothing",
        (request, phone, at),
    )
    appointment = connection.execute(
        "select * from clinic.appointment where request = %s for update", (request,)
    ).fetchone()
    reminded = connection.execute(
        "select from clinic.reminder where appointment_id = %s", (appointment["id"],)
    ).fetchone()
    if reminded is None:
        _remind(connection, appointment, "Reminder")
    return appointment


def move(connection, appointment_id, at):
    """Move an appointment: its old reminders are taken back and new ones are enqueued, in one transaction."""
    return together(connection, _move, appointment_id, at)


def _move(connection, appointment_id, at):
    appointment = connection.execute(
        "update clinic.appointment set at = %s, moved = moved + 1, state = 'booked' where id = %s returning *",
        (at, appointment_id),
    ).fetchone()
    if appointment is None:
        raise LookupError(f"there is no appointment {appointment_id}")
    before = appointment | {"moved": appointment["moved"] - 1}
    taken_back = connection.execute(
        "select job_id from tocsin.cancel_group(%s) where outcome = 'cancelled'", (_group(before),)
    ).fetchall()
    first = connection.execute(
        "select min(job_id) as job_id from clinic.reminder where appointment_id = %s and moved = %s",
        (appointment_id, before["moved"]),
    ).fetchone()
    if first in taken_back:
        _remind(connection, appointment, "Reminder")
        return "cancelled"
    # the patient has read the old time, or will, or was never reached; so the new one goes at once
    _remind(connection, appointment, "Your appointment has been moved", at_once=True)
    return "too_late"


def _group(appointment):
    """Name the reminders of one time of an appointment: what is needless once one of them is answered."""
    return f"appointment {appointment['id']}/{appointment['moved']}"


def _remind(connection, appointment, opening, *, at_once=False):
    """Enqueue the reminder, and a second one, which Tocsin takes back once the first is answered."""
    at = appointment["at"]
    _enqueue(connection, appointment, opening, None if at_once else at - LEAD, "first")
    if at - LAST > datetime.now(at.tzinfo):
        _enqueue(connection, appointment, "Please answer", at - LAST, "second")


def _enqueue(connection, appointment, opening, not_before, which):
    """Enqueue one reminder. The key names it, this appointment and this time, so no time is announced twice."""
    at = appointment["at"]
    reminder = connection.execute(
        """
        select job_id, outcome, reason
        from tocsin.enqueue(%(phone)s, %(body)s, category => 'transactional', idempotency_key => %(key)s,
                            not_before => %(not_before)s, expires_at => %(at)s, client_ref => %(ref)s,
                            options => %(options)s)
        """,
        {
            "phone": appointment["phone"],
            "body": f"{opening}: {at:%A %d %B at %H:%M}. Reply C to confirm, R to reschedule.",
            "key": f"{appointment['request']}/{appointment['moved']}/{which}",
            "not_before": not_before,  # an instant that has passed is as good as now
            "at": at,  # a reminder that comes later helps nobody
            "ref": f"appointment {appointment['id']}",
            "options": Jsonb(
                {
                    "cancel_group": _group(appointment),
                    "expect": {"answers": ANSWERS, "subject": f"appointment {appointment['id']}"},
                }
            ),
        },
    ).fetchone()
    connection.execute(
        "insert into clinic.reminder (job_id, appointment_id, moved, state, reason) values (%s, %s, %s, %s, %s)",
        (reminder["job_id"], appointment["id"], appointment["moved"], reminder["outcome"], reminder["reason"]),
    )
    if reminder["outcome"] == "blocked":  # no error: it is booked, and somebody telephones
        connection.execute("update clinic.appointment set state = 'to call' where id = %s", (appointment["id"],))


def read_events(connection):
    """Deal with the next events and remember how far. A crash before the commit undoes both. Returns their number."""
    return together(connection, _read_events)


def _read_events(connection):
    seq = connection.execute("select seq from clinic.reading for update").fetchone()["seq"]  # one reader at a time
    events = connection.execute(
        "select seq, type, subject, data from tocsin.event where seq > %s order by seq limit 100", (seq,)
    ).fetchall()
    for event in events:
        subject, kind = event["subject"], event["type"]
        if kind == "inbound.received":
            take_reply(connection, int(subject))
        elif kind in {"reply.matched", "reply.changed"}:
            take_answer(connection, int(subject), event["data"]["answer"], event["data"]["inbound_id"])
        elif kind.startswith("job."):
            take_outcome(connection, int(subject), kind.removeprefix("job."), event["data"].get("reason"))
    if events:
        connection.execute("update clinic.reading set seq = %s", (events[-1]["seq"],))
    return len(events)


def take_outcome(connection, job_id, state, reason):
    """Note what became of a reminder; where it did not arrive, and is still the last one, somebody telephones."""
    connection.execute("update clinic.reminder set state = %s, reason = %s where job_id = %s", (state, reason, job_id))
    if state in LOST:
        connection.execute(
            """
            update clinic.appointment a set state = 'to call'
            from clinic.reminder r
            where r.job_id = %s and a.id = r.appointment_id and a.state = 'booked'
              and r.job_id = (select max(job_id) from clinic.reminder where appointment_id = a.id)
            """,
            (job_id,),
        )


def take_reply(connection, inbound_id):
    """Keep a patient's reply; where it is no answer, somebody telephones about the next appointment."""
    reply = connection.execute("select * from tocsin.inbox where inbound_id = %s", (inbound_id,)).fetchone()
    appointment = connection.execute(
        "select id from clinic.appointment where phone = %s and at > now() order by at limit 1", (reply["source"],)
    ).fetchone()
    appointment_id = appointment["id"] if appointment is not None else None  # else another app's patient
    connection.execute(
        "insert into clinic.reply (inbound_id, appointment_id, text, at) values (%s, %s, %s, %s)",
        (inbound_id, appointment_id, reply["text"], reply["received_at"]),
    )
    if reply["class"] != "answer":
        # what came before an answer is settled by it, in whatever order both are read
        connection.execute(
            "update clinic.appointment set state = 'to call' where id = %s and coalesce(answered_by, 0) < %s",
            (appointment_id, inbound_id),
        )


def take_answer(connection, job_id, answer, inbound_id):
    """Note what a patient answered to a reminder of the appointment's time; to an older one it is no answer."""
    connection.execute(
        """
        update clinic.appointment a set state = %s, answered_by = %s
        from clinic.reminder r where r.job_id = %s and a.id = r.appointment_id and a.moved = r.moved
        """,
        (answer, inbound_id, job_id),
    )


def follow(connection):
    """Read events for ever; NOTIFY saves waiting, and reading does not depend on it."""
    connection.execute("listen tocsin_event")
    while True:
        while read_events(connection):
            pass
        for _ in connection.notifies(timeout=5, stop_after=1):
            pass


def main(arguments):
    """Obey the command line."""
    with connect(os.environ["DATABASE_URL"]) as connection:
        match arguments:
            case ["book", request, phone, at]:
                try:
                    appointment = book(connection, request, phone, datetime.fromisoformat(at))
                except psycopg.Error as error:
                    if error.sqlstate != "TC400":
                        raise
                    return f"not booked: {error.diag.message_primary}"  # the field's name and what is wrong with it
                print(f"appointment {appointment['id']}")
            case ["move", appointment_id, at]:
                print("old reminder:", move(connection, int(appointment_id), datetime.fromisoformat(at)))
            case ["follow"]:
                follow(connection)
            case ["list"]:
                for row in connection.execute("select id, phone, at, state from clinic.appointment order by at"):
                    print(f"{row['id']:>4}  {row['at']:%Y-%m-%d %H:%M}  ...{row['phone'][-3:]}  {row['state']}")
            case _:
                return __doc__
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
