"""The daemon: its parts, its connections, and the order in which they start and stop.

    listen, urgent, claim, settle, receive, replies, receipts
              loops.py: what carries work between the database and the links
    beat, control
              holdings.py: the links that are ours
    upkeep    upkeep.py: chores by the clock
    watch     watch.py: the status document; connected only while somebody looks

Each has a connection of its own. When the database goes away, claiming stops, answers already read are kept and
settled later, deliver_sm is answered 0x64, and all of it resumes by itself. SIGTERM drains: claims stop, waiting rooms
go back to the queue, windows empty, outcomes are written, links are given back, and the process ends with 0.

When another lineage of the database answers (a failover to a standby), nothing of what memory holds is known to be
true of it. The daemon then begins again within its process, as after a kill: windows empty into the local record,
deliver_sm are answered 0x64, and another ``Daemon`` starts from the record.
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
from dispatcher.backlog import Backlog
from dispatcher.claim import Claimer
from dispatcher.dispatch import Dispatcher
from dispatcher.doubt import Doubt
from dispatcher.errors import LineageChanged, MigrationMissing, SchemaChanged, StateDirectoryHeld, StoreUnavailable
from dispatcher.failover import Aftermath
from dispatcher.holdings import Holdings
from dispatcher.http import HttpListener, Readiness
from dispatcher.inbound import InboundDesk
from dispatcher.intake import Intake
from dispatcher.lineage import Lineage, accounted, lineage_of, note_accounted
from dispatcher.loops import Loops, Signals
from dispatcher.metrics import DispatcherMetrics, new_registry
from dispatcher.next_link import NextLink
from dispatcher.ownership import BEAT_SHARE, Fence, Owner
from dispatcher.pauses import Pauses
from dispatcher.receipts import ReceiptDesk
from dispatcher.record import Record
from dispatcher.reload import reload
from dispatcher.settle import Settler
from dispatcher.state_directory import StateDirectory
from dispatcher.stops import Stops
from dispatcher.store import PINNED, PROBING, STATEMENT_TIMEOUT_S, Connection, connect, failures, succeed
from dispatcher.systemd import ServiceManager
from dispatcher.unprivileged import EmbeddedError
from dispatcher.upkeep import Upkeep
from dispatcher.watch import Facts, Watch
from gateway import Gateway, GatewayMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from config.settings import Settings

log = structlog.get_logger()

RECONNECT_S = 0.5
UPKEEP_S = 0.2  # between looks which chores are due
GARBAGE_AFTER = 50_000  # objects made and not freed between two looks for cycles; Python's own figure is 700
STOP_GRACE_S = 15.0  # beyond the drain: connections and requests that must still end

SESSIONS = {
    **dict.fromkeys(("settle", "receive", "replies", "receipts"), PROBING),
    "listen": PINNED | {"synchronous_commit": "off"},  # it only notifies
}
# A host that is lost without a word answers nothing: these notice it first, so that a link is not left without a beat,
# a deliver_sm not without its answer, and a new primary not without a daemon.
TIMEOUTS_S = {"beat": 10.0, "control": 10.0, "receive": 10.0, "replies": 10.0, "listen": 10.0}

AS_IT_SHOULD_BE = frozenset({"up", "current", "bound"})  # facts that a status line leaves out

DONE = 0
CONFIGURATION = 2
UNUSABLE = 3  # database, schema or state directory


class Daemon:
    """One instance, from start to stop."""

    def __init__(
        self,
        settings: Settings,
        state: StateDirectory,
        record: Record,
        url: str,
        manager: ServiceManager | None = None,
    ) -> None:
        self._settings = settings
        self._state_directory = state.path
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
        signals = self._signals = Signals()
        self._reload_asked = asyncio.Event()
        self._needs_restart: tuple[str, ...] = ()  # what the file says and only a restart applies
        self._manager = ServiceManager() if manager is None else manager
        self._lineage: Lineage | None = None  # of the database that all in memory is true of
        self._lineage_changed = asyncio.Event()
        self._database = "not yet reached"
        self._schema = "not yet seen"
        self._fence = Fence(settings.daemon.takeover_s)
        self._owner = Owner(
            name=state.owner,
            links=self._links,
            fence=self._fence,
            takeover_s=settings.daemon.takeover_s,
            replay=lambda: record.told(clock()),
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
            wake=signals.kept.set,
            unsettled=unsettled,
        )
        self._intake = Intake(links=self._links, desk=self._receipts, metrics=self._metrics, wake=signals.arrival.set)
        stops = Stops(settings, lambda: self._gateway, clock)
        self._inbound = InboundDesk(
            epochs=epochs,
            record=record,
            metrics=self._metrics,
            clock=clock,
            wake=signals.reply.set,
            links=self._links,
            reassembly_wait_s=settings.daemon.reassembly_wait_s,
            stops=stops,
            settings=settings,
        )
        self._settler = Settler(
            epochs=epochs,
            claimer=self._claimer,
            record=record,
            metrics=self._metrics,
            clock=clock,
            wake=signals.outcome.set,
            unsettled=unsettled,
            accepted=self._receipts.accepted,
        )
        self._dispatcher = Dispatcher(
            links=self._links,
            gateway=lambda: self._gateway,
            settler=self._settler,
            intake=self._intake,
            inbound=self._inbound,
            record=record,
            fence=self._fence,
            clock=clock,
            wake_claimer=signals.wake_claims,
            settings=settings,
            hand_on=lambda: self._upkeep.refused(),  # noqa: PLW0108  # made below
            stops=stops,
        )
        self._gateway = Gateway(self._dispatcher, link_metrics)
        self._pauses = Pauses(lambda: self._gateway, signals.wake_claims)
        self._upkeep = Upkeep(
            settings=settings.daemon,
            epochs=epochs,
            claimer=self._claimer,
            receipts=self._receipts,
            intake=self._intake,
            doubt=Doubt(
                settings=settings.daemon,
                links=self._links,
                epochs=epochs,
                metrics=self._metrics,
                answered_late=self._settler.answered_late,
            ),
            metrics=self._metrics,
            categories=self._dispatcher.categories,
            longest_s=longest_s,
            pauses=self._pauses,
            look_for_stale=self._inbound.look_for_stale,
            links=self._links,
            gateway=lambda: self._gateway,
            next_link=NextLink(
                epochs=epochs,
                gateway=lambda: self._gateway,
                claimer=self._claimer,
                metrics=self._metrics,
                after_s=settings.daemon.failover_after_s,
                after_urgent_s=settings.daemon.failover_after_urgent_s,
                beat_s=BEAT_SHARE * settings.daemon.takeover_s,
                wake_claimer=signals.wake_claims,
                clock=clock,
            ),
            wake_claimer=signals.wake_claims,
            clock=clock,
        )
        self._backlog = Backlog(
            settler=self._settler,
            receipts=self._receipts,
            intake=self._intake,
            inbound=self._inbound,
            metrics=self._metrics,
            clock=clock,
        )
        self._loops = Loops(
            owner=state.owner,
            epochs=epochs,
            claimer=self._claimer,
            dispatcher=self._dispatcher,
            settler=self._settler,
            receipts=self._receipts,
            intake=self._intake,
            inbound=self._inbound,
            backlog=self._backlog,
            pauses=self._pauses,
            gateway=lambda: self._gateway,
            emergency_enqueued=self._upkeep.emergency_enqueued,
            rules_changed=self._upkeep.rules_changed,
            signals=signals,
            clock=clock,
        )
        self._holdings = Holdings(
            owner=self._owner,
            links=self._links,
            gateway=self._gateway,
            claimer=self._claimer,
            settler=self._settler,
            receipts=self._receipts,
            intake=self._intake,
            inbound=self._inbound,
            pauses=self._pauses,
            record=record,
            metrics=self._metrics,
            takeover_s=settings.daemon.takeover_s,
            signals=signals,
            accounted=self._all_accounted,
            clock=clock,
        )
        self._watch = Watch(
            instance=settings.daemon.instance,
            links=self._links,
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

    @property
    def settings(self) -> Settings:
        """The file as it was last applied."""
        return self._settings

    @property
    def is_stopping(self) -> bool:
        """SIGTERM or SIGINT came."""
        return self._signals.stopping.is_set()

    async def run(self) -> int | None:
        """Run until SIGTERM or SIGINT; returns the exit code, or None to begin again with the record opened anew."""
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
            return await self._serve()
        finally:
            await self._http.stop()

    def stop(self) -> None:
        """Begin to drain."""
        if not self._signals.stopping.is_set():
            log.info("drain_started")
            self._manager.stopping(self._settings.daemon.drain_timeout_s + STOP_GRACE_S)
            self._signals.stopping.set()
            self._signals.wake_claims()

    async def _prepare_database(self) -> bool:
        """Wait for the database, see that its schema is ours, and apply the file; false when stopped meanwhile."""
        while not self._signals.stopping.is_set():
            try:
                connection = await connect(self._url)
            except StoreUnavailable as error:
                self._database_lost(error)
                await self._pause(RECONNECT_S)
                continue
            try:
                lineage = await lineage_of(connection)
                with failures():
                    await migrate.check(connection.raw)
                self._schema = "current"
                await apply(connection, self._settings)
                await self._upkeep.read_rules(connection)
                await self._upkeep.retention.make(connection)  # a daemon that was off for weeks has no today
            except StoreUnavailable as error:
                self._database_lost(error)
                await self._pause(RECONNECT_S)
                continue
            finally:
                await connection.close()
            self._lineage = lineage
            if (before := accounted(self._state_directory)) != lineage:
                if before is not None:
                    log.warning(
                        "database_failed_over",
                        timeline=int(lineage.timeline, 16),
                        other_cluster=before.system != lineage.system,
                    )
                self._owner.aftermath = Aftermath(self._record.replay)
            self._database_came()
            return True
        return False

    async def _serve(self) -> int | None:
        gc.unfreeze()  # of a daemon that began again
        gc.collect()
        gc.freeze()  # what start-up made stays; a job makes no cycles, and looking for some took 10 % of the time
        gc.set_threshold(GARBAGE_AFTER)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(name, work), name=name)
                for name, work in (
                    ("beat", self._holdings.beat),
                    ("control", self._holdings.keep),
                    ("upkeep", self._upkeep_loop),
                    ("listen", self._loops.listen),
                    ("urgent", self._loops.claim_urgent),
                    ("claim", self._loops.claim),
                    ("settle", self._loops.settle),
                    ("receive", self._loops.receive),
                    ("replies", self._loops.store_replies),
                    ("receipts", self._loops.apply_receipts),
                )
            ]
            running.append(tasks.create_task(self._watch.run(), name="watch"))
            running.append(tasks.create_task(self._reload(), name="reload"))
            ends = [tasks.create_task(event.wait()) for event in (self._signals.stopping, self._lineage_changed)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._signals.stopping.is_set():
                await self._drop_all(running)
            else:
                await self._drain()
            for task in (*running, *ends):
                task.cancel()
        return DONE if self._signals.stopping.is_set() else None

    async def _drop_all(self, running: Sequence[asyncio.Task[None]]) -> None:
        """Empty the windows into the local record, refuse what was delivered, and write nothing to the database."""
        log.warning("lineage_changed", unsettled=self._settler.pending)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        refusing = asyncio.create_task(self._loops.refuse())
        try:
            await self._gateway.close_all(max(link.response_timeout_s for link in self._links.values()))
        finally:
            refusing.cancel()

    def _all_accounted(self) -> None:
        """All that the record knows is in the database of this lineage."""
        if self._owner.aftermath is not None and self._lineage is not None:
            note_accounted(self._state_directory, self._lineage)

    async def _drain(self) -> None:
        """Empty the windows, write what is known, give the links back."""
        drain_s = self._settings.daemon.drain_timeout_s
        started = self._clock()
        await self._gateway.close_all(drain_s)
        try:
            async with asyncio.timeout(max(1.0, drain_s - (self._clock() - started))):
                while self._backlog.unwritten or not self._settler.is_idle:
                    self._signals.written.clear()
                    self._signals.wake_writers()
                    await self._signals.written.wait()
                connection = await self._connect(PINNED)
                try:
                    await self._holdings.give_all_back(connection)
                finally:
                    await connection.close()
        except (TimeoutError, StoreUnavailable) as error:
            log.error("drain_incomplete", unsettled=self._settler.pending, problem=type(error).__name__)
        else:
            log.info("drain_finished", took_s=round(self._clock() - started, 3))

    # ------------------------------------------------------------------ what runs, and its connections

    async def _connect(self, session: Mapping[str, str], timeout_s: float = STATEMENT_TIMEOUT_S) -> Connection:
        """Open a session of the lineage that memory is true of.

        Raises:
            LineageChanged: another one answers.
            StoreUnavailable: the server cannot be reached, refuses us, or takes no writes.

        """
        connection = await connect(self._url, session, timeout_s)
        try:
            if await lineage_of(connection) != self._lineage:
                raise LineageChanged
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _keep(self, name: str, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Give a loop a connection, and another one when it breaks."""
        backend = None  # the server's process behind the last one
        while True:
            connection = None
            try:
                connection = await self._connect(SESSIONS.get(name, PINNED), TIMEOUTS_S.get(name, STATEMENT_TIMEOUT_S))
                self._database_came()
                try:
                    backend = await succeed(connection, backend)
                    await work(connection)
                finally:
                    await connection.close()
            except LineageChanged as error:
                self._database_lost(error)
                self._lineage_changed.set()
            except StoreUnavailable as error:
                self._database_lost(error)
                if connection is not None:  # each loop tries twice a second
                    log.warning("connection_lost", loop=name, problem=str(error))
            if name in ("receive", "replies"):
                self._intake.refuse()
                self._inbound.refuse()
            await asyncio.sleep(RECONNECT_S)

    async def _upkeep_loop(self, connection: Connection) -> None:
        while True:
            await self._upkeep.run(connection)
            await asyncio.sleep(UPKEEP_S)

    async def _reload(self) -> None:
        """Apply the file again at each SIGHUP; several at once are one."""
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            self._manager.reloading()
            reloaded = await reload(self._settings, self._url)
            if reloaded is not None:
                self._settings, self._needs_restart = reloaded.settings, reloaded.waiting
                self._dispatcher.configure(self._settings)
                self._inbound.configure(self._settings)
                await self._holdings.reload(reloaded, self._url)
                longest_s = max(category.time_to_live_s for category in self._settings.categories)
                self._upkeep.look_back(longest_s)
                self._receipts.look_back(longest_s + self._settings.daemon.unknown_after_s)
            self._manager.reloaded()

    # ------------------------------------------------------------------ small

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._signals.stopping.wait()

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
        return Readiness(self._database == "up" and is_bound and not self._signals.stopping.is_set(), facts)

    def _facts(self) -> Facts:
        return Facts(
            ready=self._readiness().ready,
            draining=self._signals.stopping.is_set(),
            database=self._database,
            schema=self._schema,
            unsettled=self._settler.pending,
            receipts_waiting=self._backlog.deliveries,
        )

    def _status(self) -> str:
        """What `systemctl status` shows: what is missing, and no value of the file."""
        if self._signals.stopping.is_set():
            return f"drains, {self._backlog.unwritten} outcomes to write"
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
        return await _run_again_and_again(settings, state, url)
    except EmbeddedError as error:
        return _refuse(f"[database] url: {error}", UNUSABLE)
    finally:
        if server is not None:
            server.stop()
        state.close()


async def _run_again_and_again(settings: Settings, state: StateDirectory, url: str) -> int:
    """Run a daemon, and after a failover of the database another one, which knows what the local record tells."""
    manager = ServiceManager()
    daemon: Daemon | None = None
    try:
        while daemon is None or not daemon.is_stopping:
            try:
                # a thread: a long record takes seconds to read, and the service manager wants signs of life
                record = await asyncio.to_thread(Record.open, state.path / "record")
            except OSError as error:
                return _refuse(f"[daemon] state_dir: {state.path / 'record'}: {error.strerror}", UNUSABLE)
            try:
                if daemon is not None and daemon.is_stopping:
                    break  # asked while the record was read
                daemon = Daemon(settings if daemon is None else daemon.settings, state, record, url, manager)
                code = await daemon.run()
            finally:
                record.close()
            if code is not None:
                return code
        return DONE
    finally:
        manager.close()


def _refuse(problem: str, code: int) -> int:
    sys.stderr.write(f"tocsin: {problem}\n")
    return code
