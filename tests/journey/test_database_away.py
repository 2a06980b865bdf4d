"""The database away, in every form: nothing is claimed, answers are kept, deliver_sm are refused, and all resumes by itself.

On a cluster of this module's own, under load, with receipts and replies. The SMSC sends again what was refused with
0x64. Its own record and the tables decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from dispatcher import store
from tests.fakes.postgres import Cluster, once
from tests.fakes.smsc import Smsc
from tests.journey.database import EMPTY
from tests.journey.handset import messages
from tests.journey.running import LINK, Running, app_of, free_port, http_get, until, write_file
from tests.journey.test_kill import taken_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

JOBS = 600
REPLIES = 5
AWAY_S = 2.0
RESUMES_S = 10.0  # generous: the machine may be busy
REFUSED = 0x64
USERS = 20  # max_connections of the cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster.make(free_port())
    try:
        made.start({"max_connections": str(USERS), "superuser_reserved_connections": "2"})
        made.migrated()
        yield made
    finally:
        made.remove()


class World:
    """A daemon under load, whose database the test takes away."""

    def __init__(self, cluster: Cluster, smsc: Smsc, daemon: Running) -> None:
        self.cluster = cluster
        self.smsc = smsc
        self.daemon = daemon

    @property
    def submits(self) -> int:
        return len(self.smsc.received("submit_sm"))

    @property
    def refused(self) -> int:
        """deliver_sm that were answered 0x64."""
        return sum(pdu.status == REFUSED for pdu in self.smsc.received("deliver_sm_resp"))

    async def ready(self) -> bool:
        return (await http_get(self.daemon.port, "/readyz"))[0] == 200

    async def until_away(self) -> None:
        """Metric and readiness tell it."""

        async def away() -> bool:
            return not self.daemon.counter("tocsin_database_up") and not await self.ready()

        await until(away, RESUMES_S)

    async def was_ended_by_deadlock(self) -> bool:
        return "deadlock detected" in await asyncio.to_thread(self.cluster.log)

    async def until_back(self) -> None:
        async def back() -> bool:
            return bool(self.daemon.counter("tocsin_database_up")) and await self.ready()

        await until(back, RESUMES_S)

    async def stay_away(self) -> None:
        """While it is away: replies come and are refused, or find no session any more; and nothing more goes out."""
        await self.until_away()
        refused = self.refused
        for n in range(REPLIES if any(session.receives for session in self.smsc.sessions) else 0):
            self.smsc.deliver(short_message=f"reply {n}".encode())
        await self.smsc.until(lambda: self.refused >= refused + REPLIES or not self.smsc.sessions)
        submits = -1
        while submits != self.submits:  # what was claimed before goes out
            submits = self.submits
            await asyncio.sleep(AWAY_S / 2)
        await asyncio.sleep(AWAY_S)
        assert self.submits == submits, "nothing is claimed"
        assert self.daemon.daemon._backlog.unwritten < 5_000

    async def judge(self, replies: int = REPLIES) -> None:
        """All of it arrived, once."""
        await self.until_back()
        async with app_of(self.cluster.url()) as app:
            await app.until_states({"delivered": JOBS})
            await until(lambda: app.value(f"select count(*) >= {replies} from tocsin.inbound"))
            assert await app.value("select count(*) from tocsin.inbound") == replies
            assert await self.daemon.stop() == 0
            assert await app.value("select count(*) from tocsin.claim") == 0
        whole = messages(taken_of(submit) for submit in self.smsc.received("submit_sm"))
        assert len(whole) == JOBS
        assert set(whole.values()) == {1}


@asynccontextmanager
async def world(folder: Path, cluster: Cluster, **daemon: object) -> AsyncIterator[World]:
    """All of it at work: a part of the jobs is sent."""
    asyncio.get_running_loop().set_debug(False)
    await once(cluster.url(), EMPTY)
    async with Smsc() as smsc:
        smsc.receipt_delay_s = 0.02
        smsc.answer_delay_s = 0.02
        smsc.repeat_after_s = 0.2
        link = {"port": smsc.port, "window_size": 50, "throughput_per_s": 300}
        path = write_file(folder, cluster.url(), {LINK: link}, daemon=daemon)
        async with Running(path) as running:
            await running.until_bound()
            running.forget_last_second()
            async with app_of(cluster.url()) as app:
                await app.enqueue_many(
                    [{"recipient": f"4477{n:08d}", "body": "x" * (200 if n % 5 == 0 else 20)} for n in range(JOBS)]
                )
            at_work = World(cluster, smsc, running)
            await smsc.until(lambda: at_work.submits > 100)
            yield at_work


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_stopped_server_is_waited_for(tmp_path, cluster, mode):
    """In order, and without a word: then it recovers first."""
    async with world(tmp_path, cluster) as at_work:
        await asyncio.to_thread(cluster.stop, mode)
        await at_work.stay_away()
        await asyncio.to_thread(cluster.start)
        await at_work.judge()


@pytest.mark.slow
async def test_a_restarted_server_is_found_again(tmp_path, cluster):
    """A minor update."""
    async with world(tmp_path, cluster) as at_work:
        await asyncio.to_thread(cluster.stop)
        await asyncio.to_thread(cluster.start)
        await at_work.judge(replies=0)


@pytest.mark.slow
async def test_a_killed_server_is_found_again(tmp_path, cluster):
    """All of its processes at once."""
    async with world(tmp_path, cluster) as at_work:
        await asyncio.to_thread(cluster.kill)
        await at_work.stay_away()
        await asyncio.to_thread(cluster.start)
        await at_work.judge()


@pytest.mark.slow
async def test_a_backend_that_crashes_takes_all_connections_down_and_they_come_back(tmp_path, cluster):
    """The server ends every session and recovers by itself."""
    async with world(tmp_path, cluster) as at_work:
        victim = await once(cluster.url(), "select pid from pg_stat_activity where application_name = 'tocsin' limit 1")
        os.kill(victim, signal.SIGKILL)

        async def is_noticed() -> bool:
            return at_work.daemon.counter("tocsin_database_up") == 0

        await until(is_noticed)
        await at_work.judge(replies=0)


@pytest.mark.slow
async def test_a_server_without_a_free_connection_is_waited_for(tmp_path, cluster):
    """Others took them all while ours were ended."""
    async with world(tmp_path, cluster) as at_work:
        connections: list[asyncpg.Connection] = []
        try:
            killer = await asyncpg.connect(cluster.url())
            connections.append(killer)
            while True:
                await killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin'"
                )
                try:
                    connections.append(await asyncpg.connect(cluster.url()))
                except asyncpg.TooManyConnectionsError:
                    break
            await at_work.stay_away()
        finally:
            for connection in connections:
                await connection.close()
        await at_work.judge()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("take", "give"),
    [
        ("alter database tocsin allow_connections off", "alter database tocsin allow_connections on"),
        ("alter system set default_transaction_read_only = on", "alter system reset default_transaction_read_only"),
    ],
)
async def test_a_database_that_refuses_sessions_or_writes_is_waited_for(tmp_path, cluster, take, give):
    """An operator closed it, or made it read-only: a daemon that can read is of no use."""
    async with world(tmp_path, cluster) as at_work:
        await once(cluster.url("postgres"), take)
        await once(cluster.url("postgres"), "select pg_reload_conf()")
        await once(
            cluster.url("postgres"),
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'tocsin'",
        )
        try:
            await at_work.stay_away()
        finally:
            await once(cluster.url("postgres"), give)
            await once(cluster.url("postgres"), "select pg_reload_conf()")
        await at_work.judge()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["link", "ready", "sent", "inbound"])
async def test_a_table_that_somebody_locks_longer_than_we_wait_is_waited_for(tmp_path, cluster, table):
    """lock_timeout ends our statements after 5 s; what they would have written is kept, or refused."""
    async with world(tmp_path, cluster) as at_work:
        connection = await asyncpg.connect(cluster.url())
        try:
            async with connection.transaction():
                await connection.execute(f"lock table tocsin.{table} in access exclusive mode")
                for n in range(REPLIES):
                    at_work.smsc.deliver(short_message=f"reply {n}".encode())
                await asyncio.sleep(6)  # longer than lock_timeout
        finally:
            await connection.close()
        await at_work.judge()


@pytest.mark.slow
@pytest.mark.parametrize("for_s", [3, 16])
async def test_a_server_that_stands_still_is_waited_for(tmp_path, cluster, for_s):
    """Connections stay up and nothing is answered; in the end replies are refused, or their session ends unanswered."""
    async with world(tmp_path, cluster) as at_work:
        cluster.freeze()
        try:
            for n in range(REPLIES):
                at_work.smsc.deliver(short_message=f"reply {n}".encode())
            await asyncio.sleep(for_s)
            assert for_s < 10 or at_work.refused >= REPLIES or not at_work.smsc.sessions
        finally:
            cluster.thaw()
        await at_work.judge()


@pytest.mark.slow
async def test_a_statement_that_takes_longer_than_it_may_is_repeated(tmp_path, cluster, monkeypatch):
    """statement_timeout: the server ends it, nothing of it stands."""
    for session in (store.PINNED, store.PROBING):
        monkeypatch.setitem(session, "statement_timeout", "300ms")
    async with world(tmp_path, cluster) as at_work:
        connection = await asyncpg.connect(cluster.url())
        try:
            async with connection.transaction():
                await connection.execute("lock table tocsin.sent in access exclusive mode")
                await asyncio.sleep(2)
        finally:
            await connection.close()
        assert "canceling statement due to statement timeout" in cluster.log()
        await at_work.judge(replies=0)


@pytest.mark.slow
async def test_a_deadlock_that_ends_our_statement_costs_nothing(tmp_path, cluster):
    """SQLSTATE 40P01: the settle takes rows of ready and a journal, the other side a journal and then the rows."""
    async with world(tmp_path, cluster) as at_work:
        other = await asyncpg.connect(cluster.url(), server_settings={"deadlock_timeout": "60s"})  # so ours is ended
        try:
            async with asyncio.timeout(RESUMES_S):
                while not await at_work.was_ended_by_deadlock():
                    async with other.transaction():
                        await other.execute("select from tocsin.claim for update")
                        await asyncio.sleep(0.1)  # our settle holds its rows of ready, and waits for its journal
                        await other.execute("select from tocsin.ready for update")
        finally:
            await other.close()
        await at_work.judge(replies=0)


@pytest.mark.slow
async def test_a_full_disk_under_the_wal_is_waited_for(tmp_path):
    """The server ends all sessions, and itself if it cannot recover, until there is room."""
    try:
        small = await asyncio.to_thread(Cluster.make, free_port(), wal_mb=24)
    except PermissionError as error:
        pytest.skip(f"no disk can be mounted: {error}")
    try:
        limits = {"max_wal_size": "8MB", "min_wal_size": "2MB", "wal_recycle": "off"}
        await asyncio.to_thread(small.start, limits)
        await asyncio.to_thread(small.migrated)
        async with world(tmp_path, small) as at_work:
            with (small.wal / "rubbish").open("wb") as rubbish, contextlib.suppress(OSError):
                while True:
                    rubbish.write(bytes(65_536))
                    rubbish.flush()
            # the next segment has no room: what is written then fails
            with contextlib.suppress(asyncpg.PostgresError, OSError):
                await once(small.url(), "select pg_switch_wal()")
            await until(lambda: asyncio.to_thread(lambda: "No space left on device" in small.log()), RESUMES_S)
            await at_work.stay_away()
            (small.wal / "rubbish").unlink()
            if not small.is_running:
                await asyncio.to_thread(small.start, limits)
            await at_work.judge()
    finally:
        await asyncio.to_thread(small.remove)
