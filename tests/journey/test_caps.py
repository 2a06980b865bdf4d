"""Caps for each number, from the file to the wire: what goes, what waits for the next day, and what ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Child, app_of, journey, until, write_file
from tests.journey.test_verdicts import scripted
from tests.journey.test_windows import NOWHERE, event, set_wall_clock

if TYPE_CHECKING:
    from tests.journey.running import Journey

OTHER = "447700900124"
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
ONE_A_DAY = {"categories": ["marketing"], "per_day": 1}
LONG_LIFE = datetime(2090, 1, 1, tzinfo=UTC)


async def promote(world: Journey, recipient: str = NOWHERE, **named: object) -> int:
    return await world.app.enqueue(recipient, **{"category": "marketing", "expires_at": LONG_LIFE, **named})


async def waits(world: Journey, job: int) -> timedelta:
    """For how long from now the job is deferred."""
    await world.app.until_state(job, "deferred")
    return await world.app.value("select due_at - now() from tocsin.deferred where id = $1", job)


async def test_over_its_cap_a_message_waits_for_the_recipient_s_next_day_and_its_app_hears_until_when(
    tmp_path, queue_url
):
    """Other numbers and categories go."""
    async with journey(tmp_path, queue_url, caps=[ONE_A_DAY], receipts="none") as world:
        set_wall_clock(world, NOON)
        first = await promote(world)
        await world.app.until_state(first, "submitted")
        second = await promote(world, client_ref="offer 2")
        free = [await promote(world, OTHER), await world.app.enqueue(NOWHERE), await world.app.enqueue(NOWHERE)]

        assert abs(await waits(world, second) - DAY / 2) < 3 * SECOND
        for job in free:
            await world.app.until_state(job, "submitted")
        assert await world.app.value("select attempt from tocsin.deferred where id = $1", second) == 0
        told = await event(world, second)
        until_at = datetime.fromisoformat(str(told.pop("until")))
        assert abs(until_at - datetime.now(UTC) - DAY / 2) < 3 * SECOND
        assert told == {
            "type": "job.deferred",
            "reason": "FREQ_CAP",
            "category": "marketing",
            "client_ref": "offer 2",
        }

        set_wall_clock(world, NOON + DAY / 2)
        await world.app.hurry()
        await world.app.until_state(second, "submitted")
        third = await promote(world)
        assert abs(await waits(world, third) - DAY) < 3 * SECOND


async def test_the_week_s_cap_holds_until_monday_and_the_hours_come_after_it(tmp_path, queue_url):
    """It waits once, for the first instant at which it may go."""
    cap = {"categories": ["marketing"], "per_week": 2}
    office = {"categories": ["marketing"], "opens": "09:00", "closes": "21:00"}
    async with journey(tmp_path, queue_url, caps=[cap], windows=[office], receipts="none") as world:
        set_wall_clock(world, NOON)
        jobs = [await promote(world) for _ in range(3)]

        await world.app.until_states({"submitted": 2, "deferred": 1})
        assert abs(await waits(world, jobs[2]) - timedelta(days=4, hours=21)) < 3 * SECOND
        assert await world.app.reason(jobs[2]) == "FREQ_CAP"


async def test_what_would_expire_before_its_next_day_ends_at_once(tmp_path, queue_url):
    """There is still time to call."""
    async with journey(tmp_path, queue_url, caps=[ONE_A_DAY], receipts="none") as world:
        set_wall_clock(world, NOON)
        await world.app.until_state(await promote(world), "submitted")
        late = await promote(world, expires_at=datetime.now(UTC) + DAY / 3)

        await world.app.until_state(late, "blocked")
        assert await world.app.reason(late) == "FREQ_CAP"
        told = await event(world, late)
        assert (told["type"], told["reason"]) == ("job.blocked", "FREQ_CAP")
        assert len(world.smsc.received("submit_sm")) == 1


async def test_what_is_not_sent_after_all_is_given_back(tmp_path, queue_url):
    """A refusal reaches nobody; and what waited for an attempt counts once."""
    async with journey(tmp_path, queue_url, caps=[ONE_A_DAY], receipts="none") as world:
        world.smsc.on_submit = scripted({NOWHERE: [Answer(status=0x0B)]})
        set_wall_clock(world, NOON)
        refused = await promote(world)
        await world.app.until_state(refused, "failed")

        async def given_back() -> bool:
            return await world.app.value("select cardinality(uses) from tocsin.cap_count") == 0

        await until(given_back)
        await world.app.until_state(await promote(world), "submitted")
        assert await waits(world, await promote(world))


async def test_nothing_that_was_counted_for_a_day_is_written_after_it(tmp_path, queue_url):
    """What waits in the daemon at midnight is counted again for the new day, and goes within its cap."""
    cap = {"categories": ["transactional"], "per_day": 20}
    async with journey(tmp_path, queue_url, caps=[cap], receipts="none", throughput_per_s=5) as world:
        midnight = datetime(2026, 3, 5, tzinfo=UTC)
        set_wall_clock(world, midnight - 3 * SECOND)
        over_at = time.monotonic() + 3
        item = {"recipient": NOWHERE, "body": "Hello", "category": "transactional", "expires_at": "2090-01-01T00:00Z"}
        await world.app.enqueue_many([item] * 60)

        async def rest_waits() -> bool:
            states = await world.app.states()
            return states.get("submitted", 0) + states.get("deferred", 0) == 60

        await until(rest_waits, 30)
        written = [submit.at for submit in world.smsc.received("submit_sm")]
        before, after = sum(at < over_at for at in written), sum(at > over_at + 0.1 for at in written)
        assert 5 <= before <= 20
        assert after == 20
        assert (await world.app.states())["deferred"] == 60 - len(written)


async def test_a_validity_period_does_not_end_with_the_day(tmp_path, queue_url):
    """A cap says when it is sent, not how long it may take."""
    async with journey(tmp_path, queue_url, caps=[ONE_A_DAY], receipts="none") as world:
        set_wall_clock(world, NOON)
        await promote(world, expires_at=datetime.now(UTC) + 2 * DAY)
        (submit,) = await world.smsc.seen("submit_sm")
        assert submit.fields["validity_period"] > "000001230000000R"


async def test_without_caps_nothing_is_asked_of_the_database(tmp_path, queue_url):
    """Off costs nothing."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        dispatcher = world.daemon.daemon._dispatcher
        asked = []
        dispatcher.caps.take = lambda *a: asked.append(a)
        await world.app.until_state(await promote(world), "submitted")
        assert not asked
        assert await world.app.value("select count(*) from tocsin.cap_count") == 0


async def test_a_kill_in_the_middle_neither_exceeds_the_cap_nor_counts_twice(tmp_path, queue_url):
    """As many as the cap says have gone, or are in doubt; the others wait."""
    noon = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"  # no midnight while this runs; the sign is that of POSIX
    cap = {"categories": ["transactional"], "per_day": 12, "zone": noon}
    link = {"receipts": "none", "throughput_per_s": 5}
    async with Smsc() as smsc, app_of(queue_url) as app:
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port, **link}}, caps=[cap])
        async with Child(path) as daemon:
            await daemon.until_logged("link_state_changed")
            await app.enqueue_many(
                [{"recipient": NOWHERE, "body": f"{n}", "expires_at": "2090-01-01T00:00Z"} for n in range(40)]
            )
            await smsc.seen("submit_sm", 4)
            daemon.kill()
            await daemon.wait()
            assert len(smsc.received("submit_sm")) < 12
            await daemon.start()

            async def all_decided() -> bool:
                states = await app.states()
                return sum(states.get(state, 0) for state in ("submitted", "uncertain", "deferred")) == 40

            await until(all_decided, 30)
            assert (await app.states())["deferred"] == 40 - 12
            assert len({submit.fields["short_message"] for submit in smsc.received("submit_sm")}) == 12
            assert await app.value("select array_agg(distinct reason) from tocsin.deferred") == ["FREQ_CAP"]
