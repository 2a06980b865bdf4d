"""One run: a private Postgres, an SMSC, one or two daemons, ways between them, and the faults of a schedule.

Everything that is judged goes to files in the run's folder, on one clock (monotonic seconds of this host).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, TYPE_CHECKING, Any

import asyncpg

from dispatcher.embedded import start
from dispatcher.migrate import migrate
from dispatcher.unprivileged import account_for, run
from tests.chaos.client import CATEGORIES, LOST, PREFIX, Client
from tests.chaos.proxy import SmppWay, Way
from tests.journey.running import ROOT, Child, free_port, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.chaos.schedule import Fault, Schedule

RESPONSE_TIMEOUT_S = 1.0
UNKNOWN_AFTER_S = 1.5
DOUBT_RESEND_S = 1.0
SETTLE_S = 2.0  # after the last job's time: the chores of the upkeep have had their turn
START_S = 60.0  # a start takes half a second; on a machine that others load, longer
DRAIN_S = 30.0  # drain_timeout_s is 10
OVER_S = 45.0  # no job may be open for longer, once everything is well again
OPEN_STATES = ("queued", "deferred", "uncertain")


class Log:
    """Facts as JSON lines."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="ascii", buffering=1)

    def __call__(self, fact: dict[str, Any]) -> None:
        self._file.write(json.dumps(fact) + "\n")

    def close(self) -> None:
        self._file.close()


class Postgres:
    """A private cluster. Its processes may die at any time and the host does not: nothing is synced, all is written."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder
        self._server = start(folder, durable=False)
        self.url = self._server.create_database("chaos")

    async def prepare(self) -> None:
        """Migrate; a commit hands its log to the kernel before it returns, else a killed server would lose it."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("alter database chaos set synchronous_commit = on")
            await migrate(connection)
        finally:
            await connection.close()
        connection = await asyncpg.connect(self.url)
        try:
            assert await connection.fetchval("show synchronous_commit") == "on"
        finally:
            await connection.close()

    def stop(self, mode: str) -> None:
        """Stop the server as pg_ctl does it."""
        data = self._server.directory / "data"
        run([self._server._binaries / "pg_ctl", "stop", "-D", data, "-m", mode, "-w"], account_for(self.directory))

    def start(self) -> None:
        """Start it again, and recover."""
        earlier, self._server = self._server, start(self.directory, durable=False)
        earlier.stop()  # gives its lock back; the server has a user

    def children(self) -> list[int]:
        """The server's processes but for the first."""
        pid = self._server.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
            return [int(child) for child in file.read().split()]

    def cpu_s(self) -> float:
        """What the present server has used, ended sessions included."""
        total = 0
        for pid in (self._server.pid, *self.children()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
                total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        return total / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Stop the server and remove the cluster."""
        self._server.stop()
        shutil.rmtree(self._server.directory, ignore_errors=True)


class SmscProcess:
    """The carrier of one run. Each start has a log of its own, and message ids of its own."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        self.port = free_port()
        self._folder = folder
        self._schedule = schedule
        self._logs: list[Path] = []
        self._process: asyncio.subprocess.Process | None = None
        self._moods: dict[str, bool] = {}

    async def start(self) -> None:
        earlier = [str(path) for path in self._logs]
        log = self._folder / f"smsc-{len(earlier) + 1}.log"
        log.touch()
        self._logs.append(log)
        with (self._folder / "smsc.err").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.carrier", "--port", str(self.port), "--log", str(log)),
                *("--start", str(len(self._logs)), "--seed", str(self._schedule.seed)),
                *("--noise", str(self._schedule.noise), "--moods", json.dumps(self._moods), "--earlier", *earlier),
                cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        assert self._process.stdout is not None
        assert await self._process.stdout.readline(), "the SMSC did not start"

    def tell(self, **command: bool) -> None:
        self._moods |= {name: value for name, value in command.items() if name != "drop"}
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class World:
    """What the faults work on."""

    def __init__(self, folder: Path, schedule: Schedule, postgres: Postgres, smsc: SmscProcess) -> None:
        self.folder = folder
        self.schedule = schedule
        self.postgres = postgres
        self.smsc = smsc
        self.daemons: list[Child] = []
        self.smpp_ways: dict[tuple[int, int], SmppWay] = {}  # daemon, link
        self.database_ways: list[Way] = []
        self.client_way = Way(postgres.url)
        self.note_fault = Log(folder / "faults.log")
        self.note_client = Log(folder / "client.log")
        self.note_wire = Log(folder / "wire.log")
        self.postgres_cpu_s = 0.0
        self._locks: dict[str, asyncio.Lock] = {}
        self._chosen = random.Random(f"world {schedule.seed}")

    async def owned(self) -> bool:
        """Whether every link has been taken by a daemon."""
        return sum(len(child.events("link_taken")) for child in self.daemons) >= self.schedule.links

    # ------------------------------------------------------------------ the run

    async def run(self) -> None:
        """Enqueue, do harm, heal, and wait until no job is open."""
        client = Client(self.client_way.url, self.schedule, self.note_client)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run())
            for fault in self.schedule.faults:
                tasks.create_task(self._at(began, fault))
        last = time.monotonic()
        await self._heal()
        rest_s = last + self.schedule.time_to_live_s + UNKNOWN_AFTER_S + SETTLE_S - time.monotonic()
        with contextlib.suppress(AssertionError):
            await until(self._nothing_open, max(0.1, rest_s), poll_s=0.25)
        for n in range(self.schedule.daemons):  # a start does every chore at once
            await self._drain(n, 0.0)
        with contextlib.suppress(AssertionError):  # the judge says what is open
            await until(self._nothing_open, OVER_S, poll_s=0.25)
        for daemon in self.daemons:
            daemon.terminate()
            await daemon.wait()

    async def _nothing_open(self) -> bool:
        with contextlib.suppress(*LOST):
            connection = await asyncpg.connect(self.postgres.url)
            try:
                waiting = OPEN_STATES + (("submitted",) if self.schedule.receipts else ())
                return not await connection.fetchval(
                    "select exists (select from tocsin.job_status where state = any ($1))", list(waiting)
                )
            finally:
                await connection.close()
        return False

    async def _at(self, began: float, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
        family = fault.name.partition("_")[0]
        which = "-".join(str(fault.arguments[key]) for key in ("daemon", "link") if key in fault.arguments)
        async with self._locks.setdefault(f"{family} {which}", asyncio.Lock()):
            self.note_fault({"at": time.monotonic(), "what": fault.name, **fault.arguments})
            await getattr(self, f"_{fault.name}")(**fault.arguments)

    async def _heal(self) -> None:
        self.smsc.tell(late=False, silent=False, refuse=False, throttle=False)
        for way in (*self.smpp_ways.values(), *self.database_ways):
            way.stuck = False
            way.delay_s = 0.0

    # ------------------------------------------------------------------ the daemon

    def _halted(self, daemon: int, how: str, at: float, until_at: float) -> None:
        self.note_fault({"what": "halt", "how": how, "daemon": str(daemon), "at": at, "until": until_at})

    async def _killed(self, daemon: int, down_s: float) -> None:
        at = self.daemons[daemon].kill()
        await self.daemons[daemon].wait()
        await asyncio.sleep(down_s)
        self._halted(daemon, "kill", at, time.monotonic())
        await self._start(daemon)

    async def _start(self, daemon: int) -> None:
        await self.daemons[daemon].start()

    async def _daemon_kill(self, daemon: int, down_s: float) -> None:
        await self._killed(daemon, down_s)

    async def _daemon_kill_twice(self, daemon: int, again_s: float) -> None:
        await self._killed(daemon, 0.0)
        await asyncio.sleep(again_s)
        await self._killed(daemon, 0.0)

    async def _daemon_drain(self, daemon: int, down_s: float) -> None:
        await self._drain(daemon, down_s)

    async def _drain(self, daemon: int, down_s: float) -> None:
        await self.daemons[daemon].until_logged(
            "daemon_started", START_S
        )  # before that SIGTERM ends it as it ends any process
        at = time.monotonic()
        self.daemons[daemon].terminate()
        try:
            code = await self.daemons[daemon].wait(DRAIN_S)
            self.note_fault({"what": "drained", "at": time.monotonic(), "daemon": str(daemon), "code": code})
        except TimeoutError:
            self.note_fault({"what": "drained", "at": time.monotonic(), "daemon": str(daemon), "code": None})
            at = self.daemons[daemon].kill()
            await self.daemons[daemon].wait()
        await asyncio.sleep(down_s)
        self._halted(daemon, "drain", at, time.monotonic())
        await self._start(daemon)

    async def _daemon_stop(self, daemon: int, for_s: float) -> None:
        at = time.monotonic()
        self.daemons[daemon].pause()
        await asyncio.sleep(for_s)
        self.daemons[daemon].resume()
        self._halted(daemon, "stop", at, time.monotonic())

    # ------------------------------------------------------------------ Postgres

    async def _postgres_crash(self, down_s: float) -> None:
        await self._restart_postgres("immediate", down_s)

    async def _postgres_restart(self, down_s: float) -> None:
        await self._restart_postgres("fast", down_s)

    async def _restart_postgres(self, mode: str, down_s: float) -> None:
        self.postgres_cpu_s += self.postgres.cpu_s()
        await asyncio.to_thread(self.postgres.stop, mode)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self.postgres.start)

    async def _postgres_terminate(self, count: int, times: int) -> None:
        for _ in range(times):
            async with self._admin() as connection:
                await connection.execute(
                    "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
                    " where application_name in ('tocsin', 'chaos client') and datname = current_database()"
                    f" order by random() limit {count}) p"
                )
            await asyncio.sleep(0.2)

    async def _postgres_freeze(self, for_s: float) -> None:
        frozen = self.postgres.children()
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(for_s)
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def _postgres_lock(self, table: str, for_s: float) -> None:
        async with self._admin() as connection, connection.transaction():
            await connection.execute("set local lock_timeout = '2s'")
            await connection.execute(f"lock table tocsin.{table} in access exclusive mode")
            await asyncio.sleep(for_s)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of our own; a database that is in trouble already is not worth another fault."""
        with contextlib.suppress(*LOST):
            connection = await asyncpg.connect(self.postgres.url, timeout=2.0)
            try:
                yield connection
            finally:
                connection.terminate()

    # ------------------------------------------------------------------ the SMSC

    async def _smsc_kill(self, down_s: float) -> None:
        await self.smsc.kill()
        await asyncio.sleep(down_s)
        await self.smsc.start()

    async def _smsc_drop(self) -> None:
        self.smsc.tell(drop=True)

    async def _smsc_late(self, for_s: float) -> None:
        await self._smsc_mood("late", for_s)

    async def _smsc_silent(self, for_s: float) -> None:
        await self._smsc_mood("silent", for_s)

    async def _smsc_refuse(self, for_s: float) -> None:
        self.smsc.tell(drop=True)
        await self._smsc_mood("refuse", for_s)

    async def _smsc_throttle(self, for_s: float) -> None:
        await self._smsc_mood("throttle", for_s)

    async def _smsc_mood(self, mood: str, for_s: float) -> None:
        self.smsc.tell(**{mood: True})
        await asyncio.sleep(for_s)
        self.smsc.tell(**{mood: False})

    # ------------------------------------------------------------------ the network

    async def _smsc_cut(self, daemon: int, link: int, for_s: float) -> None:
        await self._cut(self.smpp_ways[daemon, link], for_s)

    async def _smsc_delay(self, daemon: int, link: int, delay_s: float, for_s: float) -> None:
        await self._delay(self.smpp_ways[daemon, link], delay_s, for_s)

    async def _smsc_halfopen(self, daemon: int, link: int, for_s: float) -> None:
        await self._stick(self.smpp_ways[daemon, link], for_s)

    async def _database_cut(self, daemon: int, for_s: float) -> None:
        await self._cut(self.database_ways[daemon], for_s)

    async def _database_delay(self, daemon: int, delay_s: float, for_s: float) -> None:
        await self._delay(self.database_ways[daemon], delay_s, for_s)

    async def _database_halfopen(self, daemon: int, for_s: float) -> None:
        await self._stick(self.database_ways[daemon], for_s)

    async def _client_cut(self, times: int) -> None:
        for _ in range(times):
            await self._cut(self.client_way, 0.0)
            await asyncio.sleep(self._chosen.uniform(0.05, 0.4))

    async def _cut(self, way: Way, for_s: float) -> None:
        way.cut()
        await asyncio.sleep(for_s)
        await way.open()

    async def _delay(self, way: Way, delay_s: float, for_s: float) -> None:
        way.delay_s = delay_s
        await asyncio.sleep(for_s)
        way.delay_s = 0.0

    async def _stick(self, way: Way, for_s: float) -> None:
        way.stuck = True
        await asyncio.sleep(for_s)
        way.stuck = False


def _file_of(world: World, daemon: int) -> Path:
    schedule = world.schedule
    links = {
        f"carrier-{link}": {
            "port": way.port,
            "system_id": f"clinic{link}",
            "sessions": schedule.sessions,
            "window_size": schedule.window_size,
            "throughput_per_s": schedule.throughput_per_s,
            "receipts": "all" if schedule.receipts else "none",
            "response_timeout_s": RESPONSE_TIMEOUT_S,
            "bind_timeout_s": 1.0,
            "enquire_link_s": 1.0,
        }
        for (of, link), way in world.smpp_ways.items()
        if of == daemon
    }
    return write_file(
        world.folder / f"daemon-{daemon}",
        world.database_ways[daemon].url,
        links,
        daemon={
            "instance": str(daemon),
            "doubt_resend_s": DOUBT_RESEND_S,
            "unknown_after_s": UNKNOWN_AFTER_S,
            "takeover_s": schedule.takeover_s,
        },
        categories=[{"name": name, "time_to_live_s": schedule.time_to_live_s} for name in CATEGORIES],
        routes={"": list(links)} | {f"{PREFIX}{digit}": list(reversed(links)) for digit in (1, 3, 5, 7, 9)},
    )


@asynccontextmanager
async def world_of(folder: Path, schedule: Schedule) -> AsyncIterator[World]:
    """Bring up everything, each daemon bound or at least started; take it down whatever happened."""
    async with AsyncExitStack() as stack:
        postgres = await asyncio.to_thread(Postgres, folder / "postgres")
        stack.push_async_callback(asyncio.to_thread, postgres.close)
        await postgres.prepare()
        smsc = SmscProcess(folder, schedule)
        await smsc.start()
        stack.push_async_callback(smsc.kill)
        world = World(folder, schedule, postgres, smsc)
        for log in (world.note_fault, world.note_client, world.note_wire):
            stack.callback(log.close)
        for daemon in range(schedule.daemons):
            world.database_ways.append(Way(postgres.url))
            for link in range(schedule.links):
                world.smpp_ways[daemon, link] = SmppWay(str(daemon), f"carrier-{link}", smsc.port, world.note_wire)
        for way in (*world.smpp_ways.values(), *world.database_ways, world.client_way):
            await stack.enter_async_context(way)
            await way.open()
        for daemon in range(schedule.daemons):
            child = Child(_file_of(world, daemon))
            world.daemons.append(await stack.enter_async_context(child))
        for child in world.daemons:
            await child.until_logged("daemon_started", START_S)
        await until(world.owned, START_S)
        yield world
