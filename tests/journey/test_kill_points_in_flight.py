"""kill -9 while a statement is on its way: the database may carry it out long after its daemon is gone.

A lock that the test holds makes the statement wait, once it was prepared by a first use. The daemon is killed, the next one starts and comes to wait
itself, and only then the lock goes: the dead daemon's statement is carried out in the middle of the next one's work.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from dispatcher.migrate import shipped
from dispatcher.store import QUERIES
from tests.journey.handset import piece_of
from tests.journey.killed import World, begin, command, command_dies_at, too_late, world_of
from tests.journey.running import LINK, App, app_of, until, write_file
from tests.journey.test_kill import taken_of
from tests.journey.test_kill_points_of_commands import schemas_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.slow

TO = "447700900123"
WAITS = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and starts_with($1, left(query, 200))
"""
WAITING = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@asynccontextmanager
async def holding(url: str, *locks: str) -> AsyncIterator[App]:
    """A connection with a transaction that holds these locks; it ends with the block, or by ``commit``."""
    async with app_of(url) as holder:
        await holder.connection.execute("begin")
        for lock in locks:
            await holder.connection.execute(lock)
        yield holder


async def waits(world: World, query: str) -> None:
    """Wait until this named query waits for a lock."""
    await until(lambda: world.app.value(WAITS, QUERIES[query]), 15)


async def first_use(world: World) -> None:
    """Have one job promoted, claimed and settled, and then pause the link."""
    number = await world.app.enqueue("447700900124", not_before=datetime(2099, 1, 1, tzinfo=UTC))
    await world.app.hurry()
    await world.start()
    await world.app.until_state(number, "submitted")
    await world.pause(paused=True)
    await world.child.until_logged("pauses_changed")  # until then what is enqueued next would go out at once


async def outlive(world: World, holder: App, query: str) -> None:
    """Kill the daemon while this named query of it waits, and let the lock go once the next daemon waits, too."""
    await waits(world, query)
    await world.kill()
    left = await waiting(world.app)
    await world.start()
    await until(lambda: others_wait(world.app, left), 15)
    await holder.connection.execute("commit")
    await world.child.until_logged("link_taken")


async def waiting(watcher: App) -> set[int]:
    """The server's processes that wait for a lock."""
    return {row["pid"] for row in await watcher.fetch(WAITING)}


async def others_wait(watcher: App, known: set[int]) -> bool:
    return bool(await waiting(watcher) - known)


def wire(world: World) -> list[int]:
    """How often each segment was read by the SMSC."""
    return list(Counter(piece_of(taken_of(submit)) for submit in world.smsc.received("submit_sm")).values())


@pytest.mark.parametrize(
    "lock",
    ["select from tocsin.ready for key share", "lock table tocsin.sent in share mode"],
    ids=["behind-the-fence", "before-the-fence"],
)
async def test_a_settle_that_outlives_its_daemon_settles_once(tmp_path, queue_url, lock):
    """With the fence taken it goes first, and the take-over waits for it; else the fence keeps it out."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        await first_use(world)
        world.smsc.answers_at_once = 3
        ids = await world.app.enqueue_many([{"recipient": TO, "body": "x"}, {"recipient": TO, "body": "x" * 200}])
        async with holding(queue_url, lock) as holder:
            await world.pause(paused=False)
            await outlive(world, holder, "settle")
        await world.until_states(ids, ("submitted", "submitted"))
        await world.end()

        assert wire(world) == [1, 1, 1, 1]
        assert [await world.app.events(number) for number in ids] == [["job.submitted"]] * 2
        assert [len(await world.app.sent(number)) for number in ids] == [1, 2]


async def test_a_claim_that_outlives_its_daemon_keeps_no_job_back(tmp_path, queue_url):
    """Its journal may come to stand, and is forgotten at the take-over; nothing was written."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        await first_use(world)
        await world.pause(paused=False)
        async with holding(queue_url, "select from tocsin.link for update") as holder:
            number = await world.app.enqueue(TO)
            await outlive(world, holder, "claim")
        await world.app.until_state(number, "submitted")
        await world.end()

        assert wire(world) == [1, 1]
        assert await world.app.events(number) == ["job.submitted"]


async def test_a_promotion_that_outlives_its_daemon_promotes_once(tmp_path, queue_url):
    """The fence or the row's absence keeps the second one out."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        await first_use(world)
        number = await world.app.enqueue(TO, not_before=datetime(2099, 1, 1, tzinfo=UTC))
        async with holding(queue_url, "lock table tocsin.ready in share mode") as holder:
            await world.app.hurry()
            await outlive(world, holder, "promote")
        await world.pause(paused=False)
        await world.app.until_state(number, "submitted")
        await world.end()

        assert wire(world) == [1, 1]
        assert await world.app.events(number) == ["job.submitted"]


async def test_doubt_whose_resend_outlives_its_daemon_is_sent_again_once(tmp_path, queue_url):
    """Two copies on the wire, by the rule, and not a third."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        number = await world.app.enqueue(TO, category="staff")
        await world.dies_at("written")
        await world.dies_at("journal-forgotten")
        await world.doubt_is("1 hour")
        async with holding(queue_url, "select from tocsin.uncertain for key share") as holder:
            await world.start()
            await outlive(world, holder, "resend")
        await world.app.until_state(number, "submitted")
        await world.end()

        assert wire(world) == [2]
        assert await world.app.events(number) == ["job.uncertain", "job.resent", "job.submitted"]


async def test_a_receipt_whose_commit_outlives_its_daemon_counts_once(tmp_path, queue_url):
    """The SMSC sends it again meanwhile."""
    async with world_of(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.start()
        await world.app.until_state(number, "submitted")
        async with holding(queue_url, "select from tocsin.sent for update") as holder:
            (submit,) = world.smsc.received("submit_sm")
            (answer,) = world.smsc.answers()
            world.smsc.deliver_receipt(answer.fields["message_id"], submit)
            await outlive(world, holder, "apply_receipts")
        await world.smsc.seen("deliver_sm_resp")
        await world.end()

        assert await world.app.state(number) == "delivered"
        assert await world.app.events(number) == ["job.delivered"]
        assert [answer.status for answer in world.smsc.received("deliver_sm_resp")] == [0]


async def test_a_reply_whose_commit_outlives_its_daemon_is_stored_once(tmp_path, queue_url):
    """The SMSC sends it again to the next daemon, which looked for stored ones before that commit."""
    async with world_of(tmp_path, queue_url) as world:
        await world.start()
        await world.until_bound()
        world.smsc.deliver(source_addr=TO, short_message=b"NO")
        await world.smsc.seen("deliver_sm_resp")
        async with holding(queue_url, "lock table tocsin.inbound in share mode") as holder:
            world.smsc.deliver(source_addr=TO, short_message=b"YES")
            await outlive(world, holder, "store_inbound")
        await world.smsc.seen("deliver_sm_resp", 2)
        await world.end()

        stored = [row["text"] for row in await world.app.fetch("select text from tocsin.inbox order by inbound_id")]
        assert stored == ["NO", "YES"]
        assert await world.app.value("select count(*) from tocsin.event_log where type = 'inbound.received'") == 2


async def test_a_cancel_that_outlives_its_app_comes_too_late_for_a_job_on_the_wire(tmp_path, queue_url):
    """It stood in line for the row before the job was claimed, and finds the journal when it gets it."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        number = await world.app.enqueue(TO)
        config = str(tmp_path / "tocsin.toml")
        world.smsc.answers_at_once = 2  # never, while the lock is held
        async with holding(queue_url, "select from tocsin.ready for key share") as holder:
            app = await begin("cancel", str(number), "--config", config)
            await waits(world, "cancel")
            app.kill()
            await app.communicate()
            await world.start()
            await world.smsc.seen("submit_sm")
            await holder.connection.execute("commit")
        world.smsc.answers_at_once = 1
        await world.app.enqueue("447700900124")
        await world.app.until_states({"submitted": 2})
        await world.end()

        assert wire(world) == [1, 1]
        assert await world.app.events(number) == ["job.submitted"]
        assert await command("cancel", str(number), "--config", config) == (1, too_late(number))


@pytest.mark.parametrize("version", [2, 4])
async def test_a_migration_that_outlives_its_command_leaves_nothing_half_done(
    tmp_path, empty_database_url, database_url, version
):
    """The transaction has no commit; the next migrator waits for the lock of the dead one, and does it all."""
    config = str(write_file(tmp_path, empty_database_url, {LINK: {"port": 1}}))
    await command_dies_at(tmp_path, "migration-unnoted", "migrate", "--config", config, nth=version)
    async with (
        holding(empty_database_url, "lock table tocsin.migration in share mode") as holder,
        app_of(empty_database_url) as watcher,
    ):
        killed = await begin("migrate", "--config", config)
        await until(lambda: others_wait(watcher, set()), 15)
        left = await waiting(watcher)
        killed.kill()
        await killed.communicate()
        following = await begin("migrate", "--config", config)
        await until(lambda: others_wait(watcher, left), 15)
        await holder.connection.execute("commit")
        out, _ = await following.communicate()

    assert following.returncode == 0, out
    assert [line for line in out.decode().splitlines() if line.startswith("applied")] == [
        f"applied {migration.name}" for migration in shipped()[version - 1 :]
    ]
    made, whole = await schemas_of(empty_database_url, database_url)
    assert made == whole
