"""Postgres fails over to a standby that never got the last moments: nothing accepted is sent again, nothing known is lost.

A primary and an asynchronous standby of the test's own. The standby is cut off, work goes on for a while, all processes
of the primary are killed at once, and the standby is promoted. The SMSC's record, the client's own list of committed
jobs and what the standby knew before it was promoted decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.fakes.postgres import Cluster, once
from tests.fakes.smsc import Smsc
from tests.journey.handset import messages
from tests.journey.running import LINK, App, Child, app_of, free_port, until, write_file
from tests.journey.test_kill import taken_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CUT_S = 0.2  # how much the standby never gets
BATCH = 20
PAUSE_S = 0.04  # between batches: 500 jobs/s
KNOWN = """
select id, (extract(epoch from enqueued_at) * 1000000)::bigint as enqueued_us from (
    select id, enqueued_at from tocsin.ready union all select id, enqueued_at from tocsin.deferred
    union all select id, enqueued_at from tocsin.uncertain union all select job_id, enqueued_at from tocsin.closed
    union all select job_id, enqueued_at from tocsin.sent) known group by 1, 2
"""


@dataclass
class Pair:
    """A primary, its standby, a daemon, an SMSC, and a client that keeps a list of what it committed."""

    primary: Cluster
    standby: Cluster
    smsc: Smsc
    child: Child
    jobs: dict[str, tuple[int, str]] = field(default_factory=dict)  # recipient -> id and text, once committed
    later: dict[str, tuple[int, str]] = field(default_factory=dict)  # the same, on the new primary
    _load: asyncio.Task[None] | None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def batch(self, count: int = BATCH) -> list[dict[str, Any]]:
        chosen = [next(self.numbers) for _ in range(count)]
        return [{"recipient": f"4477{n:08d}", "body": f"{n} " + "x" * (200 if n % 5 == 0 else 20)} for n in chosen]

    async def enqueue(self, app: App, into: dict[str, tuple[int, str]]) -> None:
        jobs = self.batch()
        ids = await app.enqueue_many(jobs)
        for job, number in zip(jobs, ids, strict=True):
            into[job["recipient"]] = number, job["body"]

    async def enqueue_later(self, app: App) -> None:
        """Enqueue some on the new primary."""
        await self.enqueue(app, self.later)

    async def work_until(self, submits: int) -> None:
        """Begin to enqueue, and wait until the SMSC has read so many more."""
        self._load = asyncio.create_task(self._keep_enqueueing())
        enough = len(self.smsc.received("submit_sm")) + submits
        await self.smsc.until(lambda: len(self.smsc.received("submit_sm")) > enough)

    async def _keep_enqueueing(self) -> None:
        """Enqueue until the primary is gone."""
        async with app_of(self.primary.url()) as app:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                while True:
                    await self.enqueue(app, self.jobs)
                    await asyncio.sleep(PAUSE_S)  # the load's own rhythm

    async def cut_off_the_standby(self) -> None:
        """End the standby's stream for good."""
        await once(self.standby.url("postgres"), "alter system set primary_conninfo = ''")
        await once(self.standby.url("postgres"), "select pg_reload_conf()")

        async def is_cut() -> bool:
            return not await once(self.standby.url("postgres"), "select count(*) from pg_stat_wal_receiver")

        await until(is_cut)

    async def lose_the_primary(self) -> None:
        await self.cut_off_the_standby()
        await asyncio.sleep(CUT_S)  # what is committed now is lost
        await asyncio.to_thread(self.primary.kill)

    async def promote(self, *, wait_for_load: bool = True) -> set[tuple[int, int]]:
        """Let the standby take over; returns the jobs that it knows, by id and enqueued_us."""
        connection = await asyncpg.connect(self.standby.url())
        try:
            known = {(row["id"], row["enqueued_us"]) for row in await connection.fetch(KNOWN)}
        finally:
            await connection.close()
        await asyncio.to_thread(self.standby.promote)
        if wait_for_load:
            await self.until_load_is_over()
        return known

    async def until_load_is_over(self) -> None:
        assert self._load is not None
        await self._load


@asynccontextmanager
async def pair(folder: Path, *, hosts: int = 2) -> AsyncIterator[Pair]:
    """Bring up all of it, the daemon bound."""
    asyncio.get_running_loop().set_debug(False)
    primary = await asyncio.to_thread(Cluster.make, free_port())
    standby = None
    try:
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(primary.migrated)
        standby = await asyncio.to_thread(Cluster.standby_of, primary, free_port())
        await asyncio.to_thread(standby.start)
        places = [f"127.0.0.1:{cluster.port}" for cluster in (primary, standby)[:hosts]]
        url = f"postgresql://postgres@{','.join(places)}/tocsin" + "?target_session_attrs=primary" * (hosts > 1)
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.02
            smsc.answer_delay_s = 0.02
            path = write_file(folder, url, {LINK: {"port": smsc.port, "window_size": 50}})
            async with Child(path) as child:
                await smsc.seen("bind_transceiver", timeout_s=20)
                yield Pair(primary, standby, smsc, child)
    finally:
        for cluster in (standby, primary):
            if cluster is not None:
                await asyncio.to_thread(cluster.remove)


async def judge(world: Pair, app: App, known: set[tuple[int, int]]) -> dict[str, int]:
    """Hold the new primary's tables against the SMSC's record and the client's list; returns jobs by state."""
    rows = await app.fetch("select job_id, state from tocsin.job_status")
    states = {row["job_id"]: row["state"] for row in rows}
    whole = messages(taken_of(submit) for submit in world.smsc.received("submit_sm"))  # no part twice, none missing
    assert set(whole.values()) == {1}, [job for job, times in whole.items() if times > 1]
    arrived = Counter(recipient for recipient, _ in whole.elements())
    sent = await app.fetch("select destination, job_id from tocsin.sent")
    recipients = {row["job_id"]: row["destination"] for row in sent}  # an id may have stood for another job before
    places = {row["id"]: row["enqueued_us"] for row in await app.fetch(KNOWN)}
    for number, enqueued_us in known:
        assert places.get(number) == enqueued_us, "what the standby knew is there"
        assert states[number] in {"submitted", "delivered", "uncertain"}
        assert states[number] == "uncertain" or arrived[recipients[number]] == 1
    for recipient, (number, body) in world.later.items():
        assert whole[recipient, body] == 1
        assert states[number] in {"submitted", "delivered"}
    for row in sent:
        recipient = row["destination"]
        if recipient in world.jobs:
            assert row["job_id"] == world.jobs[recipient][0], "a message id was given to the job that has the id now"
    return dict(Counter(states.values()))


async def until_over(app: App) -> None:
    async def over() -> bool:
        return not (await app.states()).keys() & {"queued", "deferred"}

    await until(over, 30)


@pytest.mark.slow
async def test_after_a_failover_no_accepted_segment_goes_again_and_nothing_that_the_standby_knew_is_lost(
    tmp_path, figures
):
    """The windows empty into the local record, which tells the new primary what it never heard of."""
    async with pair(tmp_path) as world:
        await world.work_until(500)
        await world.lose_the_primary()
        known = await world.promote()
        await world.child.until_logged("lineage_changed")
        async with app_of(world.standby.url()) as app:
            for _ in range(10):
                await world.enqueue_later(app)  # they get ids that jobs of the lost stretch had
            restored = await world.child.until_logged("claims_restored")
            await until_over(app)
            states = await judge(world, app, known)

        assert "uncertain" not in states, "every answer was read before the daemon began again"
        assert {number for number, _ in world.later.values()} & {number for number, _ in world.jobs.values()}
        lost = [(line["jobs"], line["accepted"]) for line in world.child.events("jobs_lost_by_failover")]
        figures.append(f"{states}; claims restored: {restored['jobs']}; jobs lost, accepted ones: {lost}")


@pytest.mark.slow
async def test_a_daemon_killed_with_the_primary_finds_the_other_lineage_when_it_starts(tmp_path, figures):
    """A file names the lineage on which all was accounted for; what was unanswered at the kill is in doubt."""
    async with pair(tmp_path) as world:
        await world.work_until(500)
        await world.cut_off_the_standby()
        await asyncio.sleep(CUT_S)  # what is committed now is lost
        world.child.kill()
        await asyncio.to_thread(world.primary.kill)
        await world.child.wait()
        known = await world.promote()
        async with app_of(world.standby.url()) as app:
            for _ in range(10):
                await world.enqueue_later(app)
            await world.child.start()
            failed_over = await world.child.until_logged("database_failed_over")
            restored = await world.child.until_logged("claims_restored")
            await until_over(app)
            states = await judge(world, app, known)

        assert failed_over["timeline"] == 2
        assert not failed_over["other_cluster"]
        figures.append(f"{states}; claims restored: {restored['jobs']}")


@pytest.mark.slow
async def test_a_standby_that_takes_over_the_primary_s_address_is_known_by_its_timeline(tmp_path):
    """The URL names one place, and another server answers there; until it takes writes the database is away."""
    async with pair(tmp_path, hosts=1) as world:
        await world.work_until(200)
        await world.lose_the_primary()
        await asyncio.to_thread(world.standby.stop)
        world.standby.port = world.primary.port
        await asyncio.to_thread(world.standby.start)

        async def seen_as_standby() -> bool:
            return any("standby" in line["problem"] for line in world.child.events("database_unavailable"))

        await until(seen_as_standby)
        known = await world.promote()
        await world.child.until_logged("lineage_changed")
        async with app_of(world.standby.url()) as app:
            await world.enqueue_later(app)
            await until_over(app)
            states = await judge(world, app, known)

        assert "uncertain" not in states


@pytest.mark.slow
async def test_a_primary_that_is_lost_without_a_word_is_left_for_its_standby(tmp_path, figures):
    """Connections stay up and nothing is answered: the beat's own time-out ends that."""
    async with pair(tmp_path) as world:
        await world.work_until(300)
        await world.cut_off_the_standby()
        await asyncio.sleep(CUT_S)  # what is committed now is lost
        world.primary.freeze()
        lost_at = time.monotonic()
        known = await world.promote(wait_for_load=False)
        await world.child.until_logged("lineage_changed", timeout_s=30)
        noticed_s = time.monotonic() - lost_at
        await world.child.until_logged("claims_restored", timeout_s=30)
        async with app_of(world.standby.url()) as app:
            await world.enqueue_later(app)
            await until_over(app)
            states = await judge(world, app, known)
        again_s = time.monotonic() - lost_at

        assert "uncertain" not in states
        figures.append(f"noticed after {noticed_s:.1f} s, all sent after {again_s:.1f} s; {states}")
        await asyncio.to_thread(world.primary.kill)
        await world.until_load_is_over()


@pytest.mark.slow
async def test_a_second_failover_is_accounted_for_like_the_first(tmp_path):
    """A daemon that began again can begin again."""
    async with pair(tmp_path) as world:
        await world.work_until(200)
        await world.lose_the_primary()
        known = await world.promote()
        await world.child.until_logged("claims_restored")
        async with app_of(world.standby.url()) as app:
            await world.enqueue_later(app)
            await until_over(app)
            await judge(world, app, known)
        third = await asyncio.to_thread(Cluster.standby_of, world.standby, world.primary.port)
        try:
            await asyncio.to_thread(third.start)
            world.primary.remove()
            world.primary, world.standby = world.standby, third
            await world.work_until(200)
            await world.lose_the_primary()
            known = await world.promote()

            async def began_again_twice() -> bool:
                return len(world.child.events("lineage_changed")) == 2

            await until(began_again_twice)
            async with app_of(world.standby.url()) as app:
                await world.enqueue_later(app)
                await until_over(app)
                await judge(world, app, known)
        finally:
            await asyncio.to_thread(third.remove)
