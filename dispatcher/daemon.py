"""The daemon: its parts, its connections, and the order in which they start and stop.

    listen    hears `tocsin_ready` (an emergency was enqueued) and `tocsin_control` (an operator paused something)
    urgent    claims lane 0, woken by the notification or its own clock
    claim     claims lanes 1 to 5
    settle    outcomes; one flush in flight
    receive   receipts, then MO messages; one flush in flight
    control   ownership: beats, candidates, take-overs
    upkeep    chores by the clock
    watch     the status document; connected only while somebody looks

Each has a connection of its own: an emergency never queues behind a flush, and the SMSC, which lets 1 to 100
deliver_sm be unanswered, never waits for a settle. When the database goes away,
claiming stops, answers already read are kept and settled later, deliver_sm is answered 0x64, and all of it resumes by
itself. SIGTERM drains: claims stop, waiting rooms go back to the queue, windows empty, outcomes are written, links are
given back, and the process ends with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from typing import TYPE_CHECKING

import structlog

from dispatcher import embedded, migrate
from dispatcher.apply import apply
from dispatcher.claim import LANES, Claimer
from dispatcher.dispatch import Dispatcher
from dispatcher.errors import MigrationMissing, SchemaChanged, StateDirectoryHeld, StoreUnavailable
from dispatcher.http import HttpListener, Readiness
from dispatcher.inbound import InboundDesk
from dispatcher.metrics import DispatcherMetrics, new_registry
from dispatcher.ownership import BEAT_SHARE, Fence, Owner, Taken
from dispatcher.pauses import Pauses
from dispatcher.receipts import ReceiptDesk
from dispatcher.record import Record
from dispatcher.reload import reload
from dispatcher.settle import Settler
from dispatcher.state_directory import StateDirectory
from dispatcher.store import PINNED, PROBING, Connection, connect, failures
from dispatcher.systemd import ServiceManager
from dispatcher.unprivileged import EmbeddedError
from dispatcher.upkeep import Upkeep
from dispatcher.watch import Facts, Watch
from gateway import Gateway, GatewayMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from config.settings import Settings
    from dispatcher.job import Job
    from dispatcher.record import Replay

log = structlog.get_logger()

BUSY_S = 0.02  # between claims of lanes 1 to 5 while there is work
IDLE_S = 0.2
URGENT_BUSY_S = 0.05  # between claims of lane 0; a notification comes before
URGENT_IDLE_S = 0.25
PROBE_S = 0.2  # how late a row may be seen whose transaction committed behind the frontier
PROBE_WHOLE_S = 10.0
CANDIDATES_S = 1.0
RECONNECT_S = 0.5
LISTEN_CHECK_S = 5.0
EVENTS_S = 0.1  # readers of tocsin.event are told at most this often
SETTLE_PAUSE_S = 0.01  # after a small flush: a flush costs as much as 15 of its jobs
GATHER_S = 0.008  # receipts gather this long at most, and no longer than more of them come within each step
GATHER_STEP_S = 0.002
SMALLEST_USUAL = 8  # fewer are worth waiting for company
SMALL_FLUSH = 200
SLICE = 16  # jobs dispatched before the loop turns
MOST_UNSETTLED = 4_000  # outcomes and receipts not yet written; past it lanes 1 to 5 claim nothing
GARBAGE_AFTER = 50_000  # objects made and not freed between two looks for cycles; Python's own figure is 700
STOP_GRACE_S = 15.0  # beyond the drain: connections and requests that must still end
SENT_BEFORE_S = 2.0  # of the local record: what a restarted link's throttle must count

SESSIONS = {"settle": PROBING, "receive": PROBING, "listen": PINNED | {"synchronous_commit": "off"}}  # it only notifies

AS_IT_SHOULD_BE = frozenset({"up", "current", "bound"})  # facts that a status line leaves out

DONE = 0
CONFIGURATION = 2
UNUSABLE = 3  # database, schema or state directory


class Daemon:
    """One instance, from start to stop."""

    def __init__(self, settings: Settings, state: StateDirectory, record: Record, url: str) -> None:
        self._settings = settings
        self._links = {link.name: link for link in settings.links}
        self._url = url
        self._record = record
        clock = time.monotonic
        self._clock = clock
        self.registry = new_registry()
        self._metrics = DispatcherMetrics(self.registry)
        self._metrics.prepare(self._links, [category.name for category in settings.categories])
        link_metrics = GatewayMetrics()
        self.registry.register(link_metrics)
        self._work = asyncio.Event()  # an outcome waits to be written
        self._wake_claim = asyncio.Event()
        self._wake_urgent = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._needs_restart: list[str] = []  # what the file says and only a restart applies
        self._manager = ServiceManager()
        self._arrived = asyncio.Event()  # a receipt or a reply waits to be written
        self._written = asyncio.Event()  # something was written
        self._database = "not yet reached"
        self._schema = "not yet seen"
        self._events_written = False  # since readers were last told
        self._usual_flush = 0  # receipts that waited before the last flushes
        self._is_recovered = False  # what earlier processes of this instance left is accounted for
        self._fence = Fence(settings.daemon.takeover_s)
        self._owner = Owner(
            name=state.owner,
            links=self._links,
            fence=self._fence,
            takeover_s=settings.daemon.takeover_s,
            replay=self._replay,
            clock=clock,
        )
        epochs = self._owner.epochs
        self._claimer = Claimer(epochs, clock)
        longest_s = max(category.time_to_live_s for category in settings.categories)
        unsettled: set[tuple[str, str]] = set()  # link and message id of accepted answers not yet committed
        self._receipts = ReceiptDesk(
            links=self._links,
            horizon_s=longest_s + settings.daemon.unknown_after_s,
            wait_s=settings.daemon.receipt_wait_s,
            metrics=self._metrics,
            clock=clock,
            wake=self._arrived.set,
            unsettled=unsettled,
        )
        self._inbound = InboundDesk(record=record, metrics=self._metrics, clock=clock, wake=self._arrived.set)
        self._settler = Settler(
            epochs=epochs,
            claimer=self._claimer,
            record=record,
            metrics=self._metrics,
            clock=clock,
            wake=self._work.set,
            unsettled=unsettled,
            accepted=self._receipts.accepted,
        )
        self._dispatcher = Dispatcher(
            links=self._links,
            gateway=lambda: self._gateway,
            settler=self._settler,
            receipts=self._receipts,
            inbound=self._inbound,
            record=record,
            fence=self._fence,
            clock=clock,
            wake_claimer=self._wake_all,
        )
        self._gateway = Gateway(self._dispatcher, link_metrics)
        self._pauses = Pauses(lambda: self._gateway, self._wake_all)
        self._upkeep = Upkeep(
            settings=settings.daemon,
            epochs=epochs,
            claimer=self._claimer,
            receipts=self._receipts,
            metrics=self._metrics,
            categories=self._dispatcher.categories,
            longest_s=longest_s,
            pauses=self._pauses,
            wake_claimer=self._wake_all,
            clock=clock,
        )
        self._watch = Watch(
            settings=settings,
            url=url,
            owner=self._owner,
            gateway=lambda: self._gateway,
            metrics=self._metrics,
            facts=self._facts,
            clock=clock,
        )
        self._http = HttpListener(settings.http, self.registry, self._readiness, self._watch.look)
        self._metrics.settle_pending.set_function(lambda: self._settler.pending)

    # ------------------------------------------------------------------ start and stop

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        try:
            await self._http.start()
        except OSError as error:
            return _refuse(
                f"[http] listen: {self._settings.http.host}:{self._settings.http.port}: {error.strerror}", CONFIGURATION
            )
        log.info(
            "daemon_started",
            instance=self._settings.daemon.instance,
            http_port=self._http.port,
            links=sorted(self._links),
        )
        self._manager.ready(loop, self._status)
        try:
            if not await self._prepare_database():
                return DONE  # stopped before the database came
        except (MigrationMissing, SchemaChanged) as error:
            return _refuse(f"[database] {error}", UNUSABLE)
        else:
            await self._serve()
            return DONE
        finally:
            await self._http.stop()
            self._manager.close()

    def stop(self) -> None:
        """Begin to drain."""
        if not self._stopping.is_set():
            log.info("drain_started")
            self._manager.stopping(self._settings.daemon.drain_timeout_s + STOP_GRACE_S)
            self._stopping.set()
            self._wake_all()

    async def _prepare_database(self) -> bool:
        """Wait for the database, see that its schema is ours, and apply the file; false when stopped meanwhile."""
        while not self._stopping.is_set():
            try:
                connection = await connect(self._url)
            except StoreUnavailable as error:
                self._database_lost(error)
                await self._pause(RECONNECT_S)
                continue
            try:
                with failures():
                    await migrate.check(connection.raw)
                self._schema = "current"
                await apply(connection, self._settings)
                await self._upkeep.read_rules(connection)
            except StoreUnavailable as error:
                self._database_lost(error)
                await self._pause(RECONNECT_S)
                continue
            finally:
                await connection.close()
            self._database_came()
            return True
        return False

    async def _serve(self) -> None:
        gc.collect()
        gc.freeze()  # what start-up made stays; a job makes no cycles, and looking for some took 10 % of the time
        gc.set_threshold(GARBAGE_AFTER)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(name, work), name=name)
                for name, work in (
                    ("control", self._control),
                    ("upkeep", self._upkeep_loop),
                    ("listen", self._listen),
                    ("urgent", self._claim_urgent),
                    ("claim", self._claim),
                    ("settle", self._settle),
                    ("receive", self._receive),
                )
            ]
            running.append(tasks.create_task(self._watch.run(), name="watch"))
            running.append(tasks.create_task(self._reload(), name="reload"))
            await self._stopping.wait()
            await self._drain()
            for task in running:
                task.cancel()

    async def _drain(self) -> None:
        """Empty the windows, write what is known, give the links back."""
        drain_s = self._settings.daemon.drain_timeout_s
        started = self._clock()
        await self._gateway.close_all(drain_s)
        try:
            async with asyncio.timeout(max(1.0, drain_s - (self._clock() - started))):
                while self._unwritten() or not self._settler.is_idle:
                    self._written.clear()
                    self._work.set()
                    self._arrived.set()
                    await self._written.wait()
                connection = await connect(self._url, PINNED)
                try:
                    await self._owner.give_back(connection)
                finally:
                    await connection.close()
        except (TimeoutError, StoreUnavailable) as error:
            log.error("drain_incomplete", unsettled=self._settler.pending, problem=type(error).__name__)
        else:
            log.info("drain_finished", took_s=round(self._clock() - started, 3))

    def _unwritten(self) -> int:
        return self._settler.pending + self._receipts.pending + self._inbound.pending

    # ------------------------------------------------------------------ the loops, each with its connection

    async def _keep(self, name: str, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Give a loop a connection, and another one when it breaks."""
        while True:
            try:
                connection = await connect(self._url, SESSIONS.get(name, PINNED))
                try:
                    await work(connection)
                finally:
                    await connection.close()
            except StoreUnavailable as error:
                self._database_lost(error)
                log.warning("connection_lost", loop=name, problem=str(error))
            if name == "receive":
                self._receipts.refuse()
                self._inbound.refuse()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self, connection: Connection) -> None:
        heard_at = said_at = self._clock()

        def heard(_payload: str) -> None:
            nonlocal heard_at
            heard_at = self._clock()

        await connection.listen("tocsin_ready", lambda _link: self._wake_urgent.set())
        await connection.listen("tocsin_control", lambda _: self._upkeep.rules_changed())
        await connection.listen("tocsin_alive", heard)
        await connection.fetch("notify_alive", self._owner.name)
        while True:
            await asyncio.sleep(EVENTS_S)
            if self._events_written:
                self._events_written = False
                await connection.fetch("notify_events")
            now = self._clock()
            if now - said_at >= LISTEN_CHECK_S:
                if heard_at < said_at:
                    raise StoreUnavailable("nothing is heard on the listening connection")
                said_at = now
                await connection.fetch("notify_alive", self._owner.name)

    async def _claim_urgent(self, connection: Connection) -> None:
        while True:
            jobs = []
            if not self._stopping.is_set():
                windows = [w for link, room in self._rooms(0) for w in self._claimer.windows(link, 0, room)]
                jobs = await self._claimer.claim(connection, windows)
                await self._dispatch(jobs)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(URGENT_BUSY_S if jobs else URGENT_IDLE_S):
                    await self._wake_urgent.wait()
            self._wake_urgent.clear()

    async def _claim(self, connection: Connection) -> None:
        probe_at = whole_at = self._clock()
        while True:
            jobs: list[Job] = []
            if not self._stopping.is_set() and self._unwritten() < MOST_UNSETTLED:
                windows = [
                    window
                    for lane in range(1, LANES)
                    for link, room in self._rooms(lane)
                    for window in self._claimer.windows(link, lane, room)
                ]
                jobs = await self._claimer.claim(connection, windows)
                await self._dispatch(jobs)
            now = self._clock()
            if now >= probe_at:
                probe_at = now + PROBE_S
                whole = now >= whole_at
                whole_at = now + PROBE_WHOLE_S if whole else whole_at
                if await self._claimer.probe(connection, whole=whole):
                    continue
            if jobs:
                await asyncio.sleep(BUSY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._wake_claim.wait()
            self._wake_claim.clear()

    def _rooms(self, lane: int) -> list[tuple[str, int]]:
        if lane in self._pauses.lanes:
            return []
        return [(name, link.room(lane)) for name, link in self._gateway.links.items() if name in self._owner.epochs]

    async def _dispatch(self, jobs: list[Job]) -> None:
        for start in range(0, len(jobs), SLICE):
            self._dispatcher.dispatch(jobs[start : start + SLICE])
            if start + SLICE < len(jobs):
                await asyncio.sleep(0)  # a block of 500 would hold the loop for 10 ms

    async def _settle(self, connection: Connection) -> None:
        self._database_came()
        self._work.set()  # what a broken connection left
        while True:
            await self._work.wait()
            self._work.clear()
            settled = await self._settler.flush(connection)
            self._events_written |= settled > 0
            if self._settler.pending:
                self._work.set()
            self._written.set()
            if settled < SMALL_FLUSH:
                await asyncio.sleep(SETTLE_PAUSE_S)

    async def _receive(self, connection: Connection) -> None:
        self._arrived.set()  # what a broken connection left
        while True:
            await self._arrived.wait()
            await self._gather()
            self._arrived.clear()
            written = await self._receipts.flush(connection) + await self._inbound.flush(connection)
            self._events_written |= written > 0
            if self._receipts.pending or self._inbound.pending:
                self._arrived.set()
            self._written.set()

    async def _gather(self) -> None:
        """Wait while receipts keep coming, some milliseconds at most: a flush of few costs as much as one of many.

        An SMSC leaves only so many unanswered. Without this its window falls in two halves, each waiting for the
        other's flush; and once as many wait as usual, that is its window, and no more will come.
        """
        seen = 0
        until = self._clock() + GATHER_S
        while seen < (waiting := self._receipts.pending + self._inbound.pending) and self._clock() < until:
            if waiting >= max(self._usual_flush, SMALLEST_USUAL):
                break
            seen = waiting
            await asyncio.sleep(GATHER_STEP_S)
        self._usual_flush = max(waiting, int(self._usual_flush * 0.95))

    async def _control(self, connection: Connection) -> None:
        self._database_came()
        beat_at = candidates_at = 0.0
        while True:
            now = self._clock()
            if now >= beat_at:
                beat_at = now + BEAT_SHARE * self._settings.daemon.takeover_s
                states = {name: link.state for name, link in self._gateway.links.items()}
                for lost in await self._owner.beat(connection, states):
                    self._claimer.forget(lost)
                    await self._gateway.close(lost, 0.0)
            if now >= candidates_at and not self._stopping.is_set():
                candidates_at = now + CANDIDATES_S
                await self._take_links(connection)
            await asyncio.sleep(0.1)

    async def _take_links(self, connection: Connection) -> None:
        """Take over what is free; open it once everything that we owned before is accounted for."""
        taken: dict[str, Taken] = {}
        for name in await self._owner.candidates(connection):
            link = await self._owner.take(connection, name, self._settler)
            if link is not None:
                taken[name] = link
        now = self._clock()
        if not self._is_recovered:
            try:
                self._record.recovered(now)
                self._is_recovered = True
            except OSError as error:
                log.error("record_failed", error=error.strerror)  # tried again; a kill until then leaves more doubt
        if not taken:
            return
        await self._receipts.restore(connection, taken)
        await self._inbound.restore(connection, taken)
        for name, link in taken.items():
            sent_at = self._record.replay.sent_at(name, now - SENT_BEFORE_S) if link.recorded else None
            if name not in self._gateway:
                self._pauses.apply(self._gateway.open(self._links[name], sent_at=sent_at))

    def _replay(self) -> Replay:
        """What the local record knows: at first what earlier processes wrote, later what this one did, too."""
        return self._record.reread(self._clock()) if self._is_recovered else self._record.replay

    async def _upkeep_loop(self, connection: Connection) -> None:
        while True:
            await self._upkeep.run(connection)
            await asyncio.sleep(0.1)

    async def _reload(self) -> None:
        """Apply the file again at each SIGHUP; several at once are one."""
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            self._manager.reloading()
            taken = await reload(self._settings, self._url)
            if taken is not None:
                self._settings, self._needs_restart = taken
                for link in self._settings.links:
                    self._links[link.name] = link
                    if link.name in self._gateway:
                        self._gateway[link.name].set_throughput(link.throughput_per_s)
                longest_s = max(category.time_to_live_s for category in self._settings.categories)
                self._upkeep.look_back(longest_s)
                self._receipts.look_back(longest_s + self._settings.daemon.unknown_after_s)
            self._manager.reloaded()

    # ------------------------------------------------------------------ small

    def _wake_all(self) -> None:
        self._wake_claim.set()
        self._wake_urgent.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _database_came(self) -> None:
        if self._database != "up":
            log.info("database_reached")
        self._database = "up"
        self._metrics.database_up.set(1)

    def _database_lost(self, error: StoreUnavailable) -> None:
        if self._database != str(error):
            log.warning("database_unavailable", problem=str(error))
        self._database = str(error)
        self._metrics.database_up.set(0)

    def _readiness(self) -> Readiness:
        links = self._gateway.links
        facts = {"database": self._database, "schema": self._schema}
        for name in self._links:
            facts[f"link {name}"] = str(links[name].state) if name in links else "not owned"
        is_bound = any(link.is_bound for link in links.values())
        return Readiness(self._database == "up" and is_bound and not self._stopping.is_set(), facts)

    def _facts(self) -> Facts:
        return Facts(
            ready=self._readiness().ready,
            draining=self._stopping.is_set(),
            database=self._database,
            schema=self._schema,
            unsettled=self._settler.pending,
            receipts_waiting=self._receipts.pending + self._inbound.pending,
        )

    def _status(self) -> str:
        """What `systemctl status` shows: what is missing, and no value of the file."""
        if self._stopping.is_set():
            return f"drains, {self._unwritten()} outcomes to write"
        readiness = self._readiness()
        missing = [f"{name} {fact}" for name, fact in readiness.facts.items() if fact not in AS_IT_SHOULD_BE]
        parts = ["ready" if readiness.ready else "not ready", *missing]
        if self._needs_restart:
            parts.append(f"restart to apply {', '.join(self._needs_restart)}")
        return "; ".join(parts)


async def run(settings: Settings) -> int:
    """Run one daemon with these settings; returns the exit code. One line on stderr says why it refuses."""
    try:
        state = StateDirectory.open(settings.daemon.state_dir, settings.daemon.instance)
    except StateDirectoryHeld as error:
        return _refuse(f"[daemon] state_dir: {error}", UNUSABLE)
    except OSError as error:
        return _refuse(f"[daemon] state_dir: {settings.daemon.state_dir}: {error.strerror}", UNUSABLE)
    server = None
    try:
        directory = settings.database.embedded_directory
        url = settings.database.url
        if directory is not None:
            server = embedded.start(directory)
            url = server.create_database("tocsin")
        try:
            record = Record.open(state.path / "record")
        except OSError as error:
            return _refuse(f"[daemon] state_dir: {state.path / 'record'}: {error.strerror}", UNUSABLE)
        try:
            return await Daemon(settings, state, record, url).run()
        finally:
            record.close()
    except EmbeddedError as error:
        return _refuse(f"[database] url: {error}", UNUSABLE)
    finally:
        if server is not None:
            server.stop()
        state.close()


def _refuse(problem: str, code: int) -> int:
    sys.stderr.write(f"tocsin: {problem}\n")
    return code
