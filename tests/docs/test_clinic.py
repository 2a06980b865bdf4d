"""The clinic of the examples, with a daemon and a simulated SMSC: reminded, confirmed, moved, and no reply lost or doubled."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from gateway.smsc import Smsc
from tests.docs.app import EXAMPLES, owned_by
from tests.journey.running import LINK, Running, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("roles_left_as_found")]

FOLDER = EXAMPLES / "clinic"
PATIENT = "+447700900123"
WAITS = ("deferred", None)  # the second reminder
CANCELLED = ("cancelled", "CANCELLED")
CRASH = """
import os, sys, clinic
taken = clinic.take_reply
def crash(*arguments):
    taken(*arguments)
    os._exit(9)
clinic.take_reply = crash
connection = clinic.connect(os.environ["DATABASE_URL"])
while True:
    clinic.read_events(connection)
"""


def _clinic() -> Any:
    spec = importlib.util.spec_from_file_location("clinic", FOLDER / "clinic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


clinic = _clinic()


class World:
    """The clinic's connection, the simulator that its patients are behind, and what its tables say."""

    def __init__(self, url: str, connection: psycopg.Connection[Any], smsc: Smsc) -> None:
        self.url = url
        self.connection = connection
        self.smsc = smsc

    def appointment(self, number: int = 1) -> str:
        return self.connection.execute("select state from clinic.appointment where id = %s", (number,)).fetchone()[
            "state"
        ]

    def reminders(self) -> list[tuple[str, str | None]]:
        rows = self.connection.execute("select state, reason from clinic.reminder order by job_id")
        return [(row["state"], row["reason"]) for row in rows]

    def texts(self) -> list[str]:
        return [
            row["text"]
            for row in self.connection.execute("select text from clinic.reply order by inbound_id").fetchall()
        ]

    async def follow_until(self, condition: Any) -> None:
        """Read events as the clinic does, until something holds."""

        async def read() -> bool:
            await asyncio.to_thread(clinic.read_events, self.connection)
            return bool(condition())

        await until(read, 30)

    def reply(self, text: str) -> None:
        self.smsc.send(PATIENT.removeprefix("+"), "Northside", text, system_id="clinic")

    async def stored(self, replies: int) -> None:
        """Wait until the daemon has so many replies, which the app has not read yet."""

        async def there() -> bool:
            events = "select count(*) as n from tocsin.event where type = 'inbound.received'"
            return bool(self.connection.execute(events).fetchone()["n"] == replies)

        await until(there, 30)


@asynccontextmanager
async def world(folder: Any, database_url: str) -> AsyncIterator[World]:
    """A clinic, a daemon with one link, and a simulated SMSC that delivers everything."""
    async with owned_by("clinic", "clinic/schema.sql", database_url) as url, Smsc() as smsc:
        path = write_file(folder, database_url, {LINK: {"port": smsc.port}}, routes={"44": [LINK]})
        async with Running(path) as daemon:
            await daemon.until_bound()
            connection = clinic.connect(url)
            try:
                yield World(url, connection, smsc)
            finally:
                connection.close()


def hours(number: int) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


async def test_a_patient_is_reminded_and_confirms(tmp_path, database_url):
    """Booked and enqueued in one transaction, delivered, answered with yes."""
    async with world(tmp_path, database_url) as one:
        at = hours(20)
        clinic.book(one.connection, "form-1", PATIENT, at)
        clinic.book(one.connection, "form-1", PATIENT, at)
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        assert one.appointment() == "booked"
        one.reply("Yes!")
        await one.follow_until(lambda: one.appointment() == "confirmed")
        await one.follow_until(lambda: one.reminders() == [("delivered", None), CANCELLED])

        assert one.smsc.submitted == 1
        assert one.texts() == ["Yes!"]


async def test_other_words_are_no_answer_and_somebody_telephones(tmp_path, database_url):
    """The second reminder still goes; the answer to it counts."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(20))
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        one.reply("What was the time?")
        await one.follow_until(lambda: one.appointment() == "to call")
        assert one.reminders() == [("delivered", None), WAITS]


async def test_an_answer_takes_back_the_second_reminder_while_the_clinic_is_down(tmp_path, database_url):
    """In the transaction that keeps the reply; the clinic reads of it when it is back."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(20))
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        one.reply("c")
        await one.stored(1)
        states = one.connection.execute("select state from tocsin.job_status order by job_id").fetchall()
        assert [row["state"] for row in states] == ["delivered", "cancelled"]
        assert one.appointment() == "booked"
        await one.follow_until(lambda: one.appointment() == "confirmed")


async def test_who_does_not_answer_is_asked_once_more(tmp_path, database_url):
    """Three hours before; the answer to that one counts as well, and there is no third."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(4))
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as root:
            await root.execute("update tocsin.deferred set due_at = now()")
        await one.follow_until(lambda: one.reminders() == [("delivered", None)] * 2)
        assert b"Please answer" in one.smsc.log[-1].pdu.octets("short_message")
        one.reply("r")
        await one.follow_until(lambda: one.appointment() == "to move")

        assert one.smsc.submitted == 2


async def test_who_is_reminded_late_gets_one_reminder(tmp_path, database_url):
    """The hour of the second one has passed."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(2))
        await one.follow_until(lambda: one.reminders() == [("delivered", None)])


async def test_a_moved_appointment_is_announced_at_its_new_time_alone(tmp_path, database_url):
    """The old reminder was not yet due: it is taken back in the transaction that enqueues the new one."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(100))
        assert clinic.move(one.connection, 1, hours(20)) == "cancelled"
        await one.follow_until(lambda: one.reminders() == [CANCELLED, CANCELLED, ("delivered", None), WAITS])

        assert one.smsc.submitted == 1


async def test_where_the_old_time_was_announced_the_new_one_goes_at_once(tmp_path, database_url):
    """Too late to cancel: the patient is told that it has moved, though the new time is far away."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(20))
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        one.reply("yes")
        await one.follow_until(lambda: one.appointment() == "confirmed")

        assert clinic.move(one.connection, 1, hours(100)) == "too_late"
        assert one.appointment() == "booked", "the yes was said to another time"
        announced = [("delivered", None), CANCELLED, ("delivered", None), WAITS]
        await one.follow_until(lambda: one.reminders() == announced)
        assert b"has been moved" in one.smsc.log[-1].pdu.octets("short_message")


async def test_what_fails_leaves_neither_an_appointment_nor_a_reminder(tmp_path, database_url):
    """One transaction: a number that is none is refused with the field's name, and nothing of it stays."""
    async with world(tmp_path, database_url) as one:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(FOLDER / "clinic.py"), "book", "form-1", "0612345678", "2035-01-15T14:30+00:00"],
            env=os.environ | {"DATABASE_URL": one.url},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip

        assert (done.returncode, done.stderr) == (1, "not booked: recipient: not an E.164 number\n")
        assert one.connection.execute("select from clinic.appointment").fetchone() is None


async def test_who_cannot_be_reached_is_to_be_called(tmp_path, database_url):
    """Blocked is an outcome: the appointment stands, and somebody telephones."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", "+33612345678", hours(20))

        assert one.appointment() == "to call"
        await one.follow_until(lambda: one.reminders() == [("blocked", "NO_ROUTE")] * 2)
        assert one.appointment() == "to call"


async def test_a_crash_between_reading_and_commit_neither_loses_nor_doubles_a_reply(tmp_path, database_url):
    """The cursor is kept in the transaction that deals with the events, so both are undone together."""
    async with world(tmp_path, database_url) as one:
        clinic.book(one.connection, "form-1", PATIENT, hours(20))
        await one.follow_until(lambda: one.reminders() == [("delivered", None), WAITS])
        one.reply("What was the time?")
        one.reply("Yes")
        await one.stored(2)
        crashed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CRASH, env=os.environ | {"DATABASE_URL": one.url, "PYTHONPATH": str(FOLDER)}
        )
        assert await asyncio.wait_for(crashed.wait(), 30) == 9
        assert one.texts() == []
        assert one.appointment() == "booked"

        await one.follow_until(lambda: one.appointment() == "confirmed")
        assert one.texts() == ["What was the time?", "Yes"]
        clinic.read_events(one.connection)
        assert one.texts() == ["What was the time?", "Yes"]


async def test_the_clinic_may_do_nothing_else_in_tocsin(tmp_path, database_url):
    """Its role is a member of tocsin_app: no table, nobody else's jobs."""
    async with world(tmp_path, database_url) as one:
        for table in ("ready", "sent", "inbound", "suppression", "event_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                one.connection.execute(f"select from tocsin.{table}")


async def test_its_commands_are_those_of_its_page(tmp_path, database_url):
    """Book, list, move."""
    async with world(tmp_path, database_url) as one:

        def run(*arguments: str) -> str:
            return subprocess.run(
                [sys.executable, "-W", "error", str(FOLDER / "clinic.py"), *arguments],
                env=os.environ | {"DATABASE_URL": one.url},
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip

        assert run("book", "form-1", PATIENT, "2035-01-15T14:30+00:00") == "appointment 1\n"
        assert run("move", "1", "2035-01-16T10:00+00:00") == "old reminder: cancelled\n"
        assert run("list") == "   1  2035-01-16 10:00  ...123  booked\n"
