"""The front desk with SQLAlchemy 2: the reminder is enqueued in the session that books the appointment."""

import os
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The app's own tables."""


class Appointment(Base):
    __tablename__ = "appointment"
    __table_args__ = {"schema": "frontdesk"}

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    phone: Mapped[str]
    at: Mapped[datetime]
    job_id: Mapped[int | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]


ENQUEUE = text("""
    select job_id, outcome, reason
    from tocsin.enqueue(:recipient, :body, idempotency_key => :key, not_before => :not_before, client_ref => :ref)
""")
NEXT_EVENTS = text("select seq, type, subject, data from tocsin.event where seq > :seq order by seq limit 100")
STORE_REPLY = text("""
    insert into frontdesk.reply (inbound_id, phone, text, at)
    select inbound_id, source, text, received_at from tocsin.inbox where inbound_id = :id returning text
""")


def book(engine, number, phone, at, body="Your appointment is next week. Reply YES to confirm."):
    """Book an appointment together with its reminder: both are there after the commit, or neither."""
    for attempt in range(3):
        try:
            with Session(engine) as session, session.begin():
                appointment = session.merge(Appointment(id=number, phone=phone, at=at))
                session.flush()
                reminder = session.execute(
                    ENQUEUE,
                    {
                        "recipient": phone,
                        "body": body,
                        "key": f"reminder-{number}",
                        "not_before": at - timedelta(days=1),
                        "ref": f"appointment {number}",
                    },
                ).one()
                appointment.job_id, appointment.outcome, appointment.reason = reminder
            return reminder
        except OperationalError as error:  # 55P03: the same key is in another open transaction; ask again
            if error.orig.sqlstate != "55P03" or attempt == 2:
                raise


def read_events(engine):
    """Deal with the next events and remember how far, in one transaction. Returns how many there were."""
    with Session(engine) as session, session.begin():
        seq = session.scalar(text("select seq from frontdesk.progress where reader = 'outcomes' for update"))
        events = session.execute(NEXT_EVENTS, {"seq": seq}).all()
        for event in events:
            if event.type == "inbound.received":
                reply = session.execute(STORE_REPLY, {"id": int(event.subject)}).one()
                print(f"reply: {len(reply.text)} characters")
            else:
                outcome, reason = event.type.removeprefix("job."), event.data.get("reason")
                appointment = session.scalar(select(Appointment).where(Appointment.job_id == int(event.subject)))
                if appointment is not None:
                    appointment.outcome, appointment.reason = outcome, reason
                print(f"event: {outcome} {reason or ''}")
        if events:
            session.execute(text("update frontdesk.progress set seq = :seq"), {"seq": events[-1].seq})
    return len(events)


def main():
    engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
    at = datetime.now(UTC) + timedelta(days=7)

    booked = book(engine, 1, "+447700900123", at)
    print("booked:", booked.outcome)
    again = book(engine, 1, "+447700900123", at)  # as after a crash: was it heard?
    print("booked again:", again.outcome, again.job_id == booked.job_id)
    abroad = book(engine, 2, "+33612345678", at)
    print("abroad:", abroad.outcome, abroad.reason)  # committed too: the row says why nothing was sent

    for name, number, phone, body in (
        ("malformed", 3, "0612345678", "Hello"),
        ("another request", 1, "+447700900123", "Another text with the same key"),
    ):
        try:
            book(engine, number, phone, at, body)
        except DBAPIError as error:  # nothing of the transaction is left, the appointment neither
            print(f"{name}: {error.orig.sqlstate} {error.orig.diag.column_name}")

    many = text("select * from tocsin.enqueue_many(cast(:jobs as jsonb)) order by item")
    texts = """[
        {"recipient": "+447700900124", "body": "The clinic opens at 10:00 today.", "category": "informational"},
        {"recipient": "+447700900125", "body": "", "category": "informational"}
    ]"""
    with Session(engine) as session, session.begin():
        rows = session.execute(many, {"jobs": texts}).all()
        print("many:", ", ".join(row.outcome + (f" ({row.reason})" if row.reason else "") for row in rows))

    with Session(engine) as session, session.begin():
        print("cancel:", session.scalar(select(func.tocsin.cancel(booked.job_id))))
    try:
        with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session, session.begin():
            session.scalar(select(func.tocsin.cancel(booked.job_id)))
    except DBAPIError as error:
        print("cancel above read committed:", error.orig.sqlstate)

    seen = 0
    while seen < 3:  # a service goes on for ever
        seen += read_events(engine)
        time.sleep(0.2)  # LISTEN is the driver's: see with_psycopg.py
    engine.dispose()


main()
