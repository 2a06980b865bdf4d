"""Jobs that may not go yet, not any more, or not at all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Running, app_of, free_port, journey, until, write_file


async def test_a_job_whose_time_ends_before_a_link_is_bound_expires_and_is_never_written(tmp_path, queue_url):
    """Nobody claims it, so the sweep ends it, by the database's clock."""
    port = free_port()
    path = write_file(tmp_path, queue_url, {LINK: {"port": port}})
    async with app_of(queue_url) as app, Running(path) as daemon:
        await until(lambda: _owned(daemon))
        soon = datetime.now(UTC) + timedelta(seconds=0.5)
        short = [await app.enqueue(category=category, expires_at=soon) for category in ("emergency", "marketing")]
        lasting = await app.enqueue()
        async with asyncio.timeout(10):
            while {await app.state(number) for number in short} != {"expired"}:
                daemon.hurry()
                await asyncio.sleep(0.05)
        async with Smsc(port=port) as smsc:
            await app.until_state(lasting, "submitted")

            assert len(smsc.received("submit_sm")) == 1
            assert [await app.reason(number) for number in short] == ["EXPIRED", "EXPIRED"]
            assert [await app.events(number) for number in short] == [["job.expired"], ["job.expired"]]
            assert daemon.counter("tocsin_jobs_total", category="emergency", state="expired") == 1
            await daemon.stop()


async def _owned(daemon: Running) -> bool:
    return bool(daemon.owns)


async def test_a_job_whose_time_ends_in_the_waiting_room_expires_and_is_never_written(tmp_path, queue_url):
    """It was claimed, and the throttle did not let it go in time."""
    async with journey(tmp_path, queue_url, throughput_per_s=2) as world:
        soon = datetime.now(UTC) + timedelta(seconds=3.5)
        ids = [await world.app.enqueue(f"4477009{n:05d}", expires_at=soon) for n in range(12)]
        async with asyncio.timeout(15):
            while set(await world.app.states()) != {"submitted", "expired"}:  # the database sets no event
                await asyncio.sleep(0.1)

        on_wire = {submit.fields["destination_addr"] for submit in world.smsc.received("submit_sm")}
        submitted = {n for n, number in enumerate(ids) if await world.app.state(number) == "submitted"}
        assert on_wire == {f"4477009{n:05d}" for n in submitted}
        assert 0 < len(submitted) < 12
        assert await world.app.value("select count(*) from tocsin.claim") == 0


async def test_a_scheduled_job_waits_for_its_time(tmp_path, queue_url):
    """Deferred until then; not a moment earlier on the wire, and soon after."""
    async with journey(tmp_path, queue_url) as world:
        due_at = datetime.now(UTC) + timedelta(seconds=1.5)
        number = await world.app.enqueue(not_before=due_at, category="emergency")
        assert (await world.app.state(number), await world.app.reason(number)) == ("deferred", "SCHEDULED")
        assert world.smsc.received("submit_sm") == []

        await world.smsc.seen("submit_sm")

        late = datetime.now(UTC) - due_at
        assert timedelta(0) <= late < timedelta(seconds=2)
        await world.app.until_state(number, "submitted")


async def test_a_job_that_was_cancelled_while_it_waited_is_never_written(tmp_path, queue_url):
    """Queued or scheduled; once it is on the wire it is too late, and the answer says so."""
    port = free_port()
    path = write_file(tmp_path, queue_url, {LINK: {"port": port}})
    async with app_of(queue_url) as app, Running(path) as daemon:
        await until(lambda: _owned(daemon))
        queued, other = await app.enqueue(body="cancelled"), await app.enqueue(body="sent")
        scheduled = await app.enqueue(body="scheduled", not_before=datetime.now(UTC) + timedelta(hours=1))

        assert await app.value("select tocsin.cancel($1)", queued) == "cancelled"
        assert await app.value("select tocsin.cancel($1)", scheduled) == "cancelled"
        async with Smsc(port=port) as smsc:
            await app.until_state(other, "submitted")

            assert [submit.fields["short_message"] for submit in smsc.received("submit_sm")] == [b"sent"]
            assert await app.value("select tocsin.cancel($1)", other) == "too_late"
            assert [await app.state(number) for number in (queued, scheduled)] == ["cancelled"] * 2
            assert await app.events(queued) == ["job.cancelled"]
            await daemon.stop()


async def test_a_job_in_the_window_cannot_be_cancelled(tmp_path, queue_url):
    """Whoever is told `cancelled` can rely on it."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: Answer(delay_s=0.5)
        number = await world.app.enqueue()
        await world.smsc.seen("submit_sm")

        assert await world.app.value("select tocsin.cancel($1)", number) == "too_late"
        await world.app.until_state(number, "submitted")
