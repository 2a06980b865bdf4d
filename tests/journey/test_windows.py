"""Send windows, from the file to the wire: what goes, until when it lives, what waits, and what expires."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes.smsc import EXPIRED
from tests.journey.running import LINK, journey, until, write_file

if TYPE_CHECKING:
    from tests.journey.running import Journey

NOWHERE = "447700900123"  # Ofcom keeps it for drama: its zone is the window's
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
LONG = "abcdefgh " * 85  # 5 segments
DAYTIME = datetime(2026, 3, 2, tzinfo=UTC)
OFFICE = {"categories": ["transactional"], "opens": "08:00", "closes": "21:00"}


def minute(after: timedelta) -> datetime:
    """The full minute at or before this time from now."""
    return (datetime.now(UTC) + after).replace(second=0, microsecond=0)


def window(opens: datetime, closes: datetime) -> dict[str, object]:
    return {"categories": ["transactional"], "opens": f"{opens:%H:%M}", "closes": f"{closes:%H:%M}"}


def set_wall_clock(world: Journey, shows: datetime) -> None:
    """Let the daemon's wall clock show this instant from now on."""
    ahead_s = shows.timestamp() - time.time()
    world.daemon.daemon._dispatcher._wall_clock = lambda: time.time() + ahead_s


async def event(world: Journey, job_id: int) -> dict[str, object]:
    """The last event of a job, as its app reads it."""

    async def read() -> object:
        return await world.app.fetch(
            "select type, data from tocsin.event where subject = $1 order by seq desc limit 1", str(job_id)
        )

    (row,) = await until(read)
    return {"type": row["type"], **json.loads(row["data"])}


async def test_what_comes_outside_of_its_hours_waits_for_them_and_its_app_hears_until_when(tmp_path, queue_url):
    """Never a silent hold; other categories go."""
    opening = minute(2 * HOUR)
    async with journey(tmp_path, queue_url, windows=[window(opening, opening + HOUR)], receipts="none") as world:
        waiting = await world.app.enqueue(NOWHERE, client_ref="visit 1")
        code = await world.app.enqueue(NOWHERE, category="auth")

        await world.app.until_state(code, "submitted")
        await world.app.until_state(waiting, "deferred")
        assert await world.app.reason(waiting) == "WINDOW_CLOSED"
        row = (await world.app.fetch("select due_at, attempt from tocsin.deferred where id = $1", waiting))[0]
        assert abs(row["due_at"] - opening) < SECOND
        assert row["attempt"] == 0
        told = await event(world, waiting)
        assert abs(datetime.fromisoformat(str(told.pop("until"))) - opening) <= SECOND
        assert told == {
            "type": "job.deferred",
            "reason": "WINDOW_CLOSED",
            "category": "transactional",
            "client_ref": "visit 1",
        }
        assert len(world.smsc.received("submit_sm")) == 1

        set_wall_clock(world, opening)
        await world.app.hurry()
        await world.app.until_state(waiting, "submitted")


async def test_what_would_expire_before_its_hours_begin_expires_at_once(tmp_path, queue_url):
    """So that somebody can call (the reminder for 08:30 after an outage in the night)."""
    opening = minute(2 * HOUR)
    async with journey(tmp_path, queue_url, windows=[window(opening, opening + HOUR)]) as world:
        late = await world.app.enqueue(NOWHERE, expires_at=datetime.now(UTC) + HOUR)

        await world.app.until_state(late, "expired")
        assert await world.app.reason(late) == "EXPIRED_BY_WINDOW"
        told = await event(world, late)
        assert (told["type"], told["reason"]) == ("job.expired", "EXPIRED_BY_WINDOW")
        assert not world.smsc.received("submit_sm")


async def test_within_its_hours_a_message_lives_until_they_end_at_most(tmp_path, queue_url):
    """A handset that is off overnight is not texted when it is switched on at night."""
    closing = minute(3 * HOUR)
    soon = timedelta(minutes=10)
    async with journey(tmp_path, queue_url, windows=[window(minute(-HOUR), closing)], receipts="none") as world:
        await world.app.enqueue(NOWHERE)
        await world.app.enqueue(NOWHERE, expires_at=datetime.now(UTC) + soon)
        await world.app.enqueue(NOWHERE, category="auth")  # 300 s, and no window

        def life(seconds: str) -> timedelta:
            days, hours, minutes, rest = (int(seconds[n : n + 2]) for n in (4, 6, 8, 10))
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=rest)

        submits = await world.smsc.seen("submit_sm", 3)
        lives = sorted(life(submit.fields["validity_period"]) for submit in submits)
        for found, true in zip(lives, (timedelta(seconds=300), soon, closing - datetime.now(UTC)), strict=True):
            assert -2 * SECOND < found - true < 10 * SECOND, lives


async def test_what_a_handset_that_was_off_overnight_did_not_get_is_told_as_expired(tmp_path, queue_url):
    """The SMSC gave up when the window closed, and its receipt says so: not delivered, and not at night."""
    async with journey(tmp_path, queue_url, windows=[OFFICE]) as world:
        set_wall_clock(world, DAYTIME.replace(hour=20))
        reminder = await world.app.enqueue(NOWHERE)
        (submit,) = await world.smsc.seen("submit_sm")
        assert "000000005955000R" <= submit.fields["validity_period"] <= "000000010000000R", "an hour: until 21:00"
        await world.app.until_state(reminder, "submitted")
        world.smsc.deliver_receipt("m00000001", submit, EXPIRED)

        await world.app.until_state(reminder, "undelivered")
        assert await world.app.reason(reminder) == "EXPIRED_SMSC"
        assert (await event(world, reminder))["type"] == "job.undelivered"


async def test_the_hours_are_those_of_where_the_number_is_and_not_of_the_server(tmp_path, queue_url, monkeypatch):
    """At half past twelve UTC it is morning in New York, night in Los Angeles, and evening where the server stands."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        async with journey(tmp_path, queue_url, windows=[OFFICE], receipts="none") as world:
            set_wall_clock(world, datetime(2026, 7, 1, 12, 30, tzinfo=UTC))
            new_york, los_angeles = [await world.app.enqueue(to) for to in ("12125552345", "12135552345")]

            await world.app.until_state(new_york, "submitted")
            await world.app.until_state(los_angeles, "deferred")
            waits = await world.app.value("select due_at - now() from tocsin.deferred where id = $1", los_angeles)
            assert abs(waits - 2.5 * HOUR) < 3 * SECOND, "until eight o'clock there"
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_the_hours_are_those_of_where_the_app_says_the_recipient_is(tmp_path, queue_url):
    """On the other side of the world it is night."""
    async with journey(
        tmp_path, queue_url, windows=[window(minute(-HOUR), minute(3 * HOUR))], receipts="none"
    ) as world:
        there = await world.app.enqueue(NOWHERE, options={"tz": "Etc/GMT-12"})
        here = await world.app.enqueue(NOWHERE, options={"tz": "Nowhere/Land"})

        await world.app.until_state(there, "deferred")
        await world.app.until_state(here, "submitted")
        assert await world.app.reason(there) == "WINDOW_CLOSED"


async def test_what_waits_in_the_daemon_when_the_hours_end_waits_for_the_next_ones(tmp_path, queue_url):
    """Its own time is not over."""
    async with journey(tmp_path, queue_url, windows=[OFFICE], receipts="none", throughput_per_s=5) as world:
        set_wall_clock(world, DAYTIME.replace(hour=20, minute=59, second=56))
        closes_at = time.monotonic() + 4
        jobs = await world.app.enqueue_many([{"recipient": NOWHERE, "body": "Hello", "category": "transactional"}] * 60)

        async def all_settled() -> bool:
            states = await world.app.states()
            return sum(states.get(state, 0) for state in ("submitted", "deferred")) == len(jobs)

        await until(all_settled, 20)
        submits = world.smsc.received("submit_sm")
        assert 5 <= len(submits) <= 30
        assert max(submit.at for submit in submits) < closes_at + 0.1
        rows = await world.app.fetch("select reason, attempt, due_at - now() as waits from tocsin.deferred")
        assert {(row["reason"], row["attempt"]) for row in rows} == {("WINDOW_CLOSED", 0)}
        assert all(10.9 * HOUR < row["waits"] < 11 * HOUR for row in rows)
        types = await world.app.fetch("select type, count(*) as n from tocsin.event_log group by 1")
        assert dict(types)["job.deferred"] == len(rows) == len(jobs) - len(submits)


async def test_the_rest_of_a_long_text_waits_likewise_and_no_part_goes_twice(tmp_path, queue_url):
    """The handset joins them in the morning."""
    async with journey(tmp_path, queue_url, windows=[OFFICE], receipts="none", throughput_per_s=1) as world:
        set_wall_clock(world, DAYTIME.replace(hour=20, minute=59, second=56))
        long = await world.app.enqueue(NOWHERE, LONG)

        await world.app.until_state(long, "deferred", timeout_s=20)
        assert await world.app.reason(long) == "WINDOW_CLOSED"
        begun = len(world.smsc.received("submit_sm"))
        assert 1 <= begun < 5

        set_wall_clock(world, DAYTIME.replace(hour=8, day=3))
        await world.app.hurry()
        await world.app.until_state(long, "submitted", timeout_s=20)
        numbers = [submit.fields["short_message"][5] for submit in world.smsc.received("submit_sm")]
        assert numbers == [1, 2, 3, 4, 5]


async def test_changed_hours_hold_for_what_waits_already(tmp_path, queue_url):
    """An operator who closes a window means now."""
    async with journey(tmp_path, queue_url, receipts="none", throughput_per_s=2) as world:
        jobs = await world.app.enqueue_many([{"recipient": NOWHERE, "body": "Hello", "category": "transactional"}] * 40)
        await world.smsc.seen("submit_sm")
        opening = minute(2 * HOUR)
        link = {"port": world.smsc.port, "receipts": "none", "throughput_per_s": 2}
        write_file(tmp_path, queue_url, {LINK: link}, windows=[window(opening, opening + HOUR)])
        world.daemon.daemon._reload_asked.set()

        async def all_settled() -> bool:
            states = await world.app.states()
            return sum(states.get(state, 0) for state in ("submitted", "deferred")) == len(jobs)

        await until(all_settled, 10)
        assert (await world.app.states())["deferred"] > 20
        assert await world.app.value("select count(distinct reason) from tocsin.deferred") == 1
