"""The journey: enqueue, claim, submit_sm, settle, receipt, all of it durable, measured from the outside.

``python -m benchmarks.bench_journey`` makes a server of its own and plays the runs one after the other, each on a
new database with a new daemon, sink and clients. README.md says what they are, and how to read the figures.
Exit 0 only when every job that was enqueued is accounted for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks import results as kept
from benchmarks.inside import Inside, scrape, statements
from benchmarks.ledger import Ledger
from benchmarks.measure import calibrate, cpu_s, histogram, percentile, postgres_cpu_s, rss_mb, speed_now
from benchmarks.plan import Plan, arguments_of, at_share, plans
from benchmarks.report import table
from benchmarks.stage import (
    CONFIGURATION,
    TOLD_TO_END,
    Child,
    Failed,
    Server,
    bound,
    end_when_told,
    postmaster_pid,
    run_on,
    see_alive,
    version_of,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from datetime import datetime

COUNTERS: Final = ("tocsin_jobs_total", "tocsin_submit_sm_total", "tocsin_receipts_total")
PRELOAD_S: Final = 1_200.0
STILL_S: Final = 0.5  # without a change, before the tables are asked whether the queue has drained
COUNT_S: Final = 600.0  # for the account of some millions of rows

# What the database knows of a window. Jobs of several parts count when their last part does.
COUNTED: Final = """
with job as (
    select job_id, max(parts) as parts, count(*) as rows, max(submitted_at) as submitted, max(receipt_at) as received,
           count(*) filter (where receipt_state = 40) as delivered
    from tocsin.sent group by job_id
)
select count(*) filter (where rows = parts and submitted >= $1 and submitted < $2) as submitted,
       count(*) filter (where delivered = parts and received >= $1 and received < $2) as delivered
from job
"""
RECEIPT_FLUSHES: Final = """
select count(*), count(distinct xid::text) from tocsin.event_log where at >= $1 and at < $2 and type = 'job.delivered'
"""
STATES: Final = "select state, count(*) from tocsin.job_status group by state"
SENT: Final = """
select count(message_id) as accepted, count(receipt_state) as received,
       count(*) filter (where reason = 'FENCED') as fenced
from tocsin.sent
"""
OPEN_ROWS: Final = """
select (select count(*) from (select from tocsin.ready limit 1) r) + (select count(*) from tocsin.deferred)
       + (select count(*) from tocsin.uncertain) + (select count(*) from tocsin.claim)
"""
READING: Final = """
select clock_timestamp() as clock, pg_current_wal_lsn() - '0/0'::pg_lsn as wal,
       (select last_value from tocsin.batch_id) as batches
"""
READY: Final = "select count(*) from tocsin.ready"  # reads all of it, so it is asked outside of the window
OPEN: Final = ("queued", "deferred", "uncertain", "submitted")


@dataclass(slots=True)
class Reading:
    """Everything that is read at the window's two ends."""

    at: float  # monotonic
    clock: datetime  # of the database
    cells: list[int]
    waiting: int
    wal: int
    batches: int
    cpu: dict[str, float]


class Run:
    """One run, from an empty database to the account of its jobs."""

    wanted = frozenset({"queued"})  # the only outcomes that an enqueue may have
    refusals: frozenset[str] = frozenset()  # states besides delivered that a job may end in

    def __init__(self, plan: Plan, url: str, folder: Path, held: list[Child]) -> None:
        self.plan = plan
        self.url = url
        self.folder = folder
        self.held = held
        self.ledger = Ledger(folder / "ledger", create=True)
        self.loads: list[Child] = []
        self.backlogs: list[Child] = []
        self.starts: list[float] = []  # of the daemon
        self.most_rss = 0.0
        self.speeds: list[float] = []

    async def play(self) -> dict[str, Any]:
        """Play it and give the figures."""
        self.control: asyncpg.Connection = await asyncpg.connect(self.url)
        try:
            return await self._play()
        finally:
            await self.control.close()
            self.ledger.close()

    async def _play(self) -> dict[str, Any]:
        plan = self.plan
        self.postmaster = await postmaster_pid(self.control)
        calibrated = calibrate()
        await self._set_the_stage()
        emergencies = self._start_clients()
        await self._watch(plan.warm_s)
        await self._before_window()
        ready = [await self.control.fetchval(READY, timeout=COUNT_S)]
        begin = await self._read()
        profiler = self._profile()
        async with contextlib.AsyncExitStack() as stack:
            inside = await stack.enter_async_context(Inside(self.url, self._http_port())) if plan.statements else None
            await self._watch(plan.seconds / 2)
            await self._half_way()
            await self._watch(begin.at + plan.seconds - time.monotonic())
            end = await self._read()
        self.ledger[cell.STOP] = 1
        ready.append(await self.control.fetchval(READY, timeout=COUNT_S))
        clients = [await load.hear() for load in self.loads]
        urgent = await emergencies.hear() if emergencies else {"outcomes": {}, "sent": {}}
        drained_s = await self._drain()
        if profiler is not None:
            profiler.wait()
        counters = self._counters()
        self.daemon.terminate()
        daemon_exit = await self.daemon.ended()
        self.sink.say(" ".join(str(instant) for instant in (begin.at, end.at, *self.starts)))
        seen = await self.sink.hear(1, timeout_s=COUNT_S)
        figures = {
            **self._figures(begin, end, seen),
            "postgresql": version_of(self.control),
            "ready_rows": dict(zip(("begin", "end"), ready, strict=True)),
            "calibration": {"before": calibrated, "during": percentile(sorted(self.speeds), 0.5), "after": calibrate()},
            "from_database": await self._from_database(begin, end),
            "emergencies": _latencies(urgent["sent"], seen["emergencies"], begin.at, end.at),
            "clients": [{name: one[name] for name in ("calls", "call_p50_s", "call_p99_s")} for one in clients],
            "drained_s": drained_s,
            "counters": counters,
            "account": await self._account([*clients, urgent], seen, daemon_exit, drained=drained_s is not None),
        }
        if inside is not None:
            figures["inside"] = inside.figures()
        if plan.statements or plan.timed:
            figures["statements"] = statements(self.folder / "statements.json", begin.at, end.at)
        return figures

    async def _before_window(self) -> None:
        """Do what the window begins after. Nothing here; other benchmarks of this journey do what they measure."""

    async def _half_way(self) -> None:
        """Do what the middle of the window holds."""
        if self.plan.kill:
            self.daemon.kill()
            self.ledger[cell.BOUND] = 0
            await self._start_daemon()
        await self.control.execute("checkpoint")

    # ------------------------------------------------------------------ processes

    async def _set_the_stage(self) -> None:
        """Start the sink, enqueue the backlog, and start the daemon."""
        plan = self.plan
        self.sink = self._child(
            "sink",
            [
                *("benchmarks.sink", "--answer-ms", str(plan.answer_ms), "--deliver-window", str(plan.deliver_window)),
                *(("--log", str(self.folder / "sink.txt")) if plan.log else ()),
                *(("--mo-per-s", str(plan.mo_per_s), "--mo-to", plan.sender.lstrip("+")) if plan.mo_per_s else ()),
            ],
        )
        self.file = self.folder / "tocsin.toml"
        self.file.write_text(
            CONFIGURATION.format(
                directory=self.folder,
                url=self.url,
                port=(await self.sink.hear())["port"],
                window=plan.window,
                throughput=plan.throughput,
                sessions=plan.sessions,
                sender=plan.sender,
            )
            + self._configuration()
        )
        apply = self._child("apply", ["benchmarks.daemon", "apply", "--config", str(self.file)])
        if await apply.ended():
            raise Failed(f"the configuration was not applied: {apply.last_words()}")
        await self._preload()
        await self._start_daemon()

    def _configuration(self) -> str:
        """What the file has besides. Nothing here."""
        return ""

    def _load_options(self) -> dict[str, object]:
        """What the load's clients are told besides. Nothing here."""
        return {}

    def _child(self, name: str, arguments: list[str], *, before: tuple[str, ...] = ()) -> Child:
        module, *rest = arguments
        own = [] if module == "benchmarks.daemon" else ["--ledger", str(self.folder / "ledger")]
        child = Child(name, [*before, "-m", module, *rest, *own], self.folder)
        self.held.append(child)
        return child

    def _client(self, name: str, kind: str, seed: int, **options: object) -> Child:
        words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        return self._child(name, ["benchmarks.enqueuer", kind, "--url", self.url, "--seed", str(seed), *words])

    async def _preload(self) -> None:
        """Enqueue the backlog, and let the server write its pages."""
        plan = self.plan
        if not plan.backlog:
            return
        for number in (0, 1):
            jobs = plan.backlog // 2 + (plan.backlog % 2 if number == 0 else 0)
            options = {"client": number, "jobs": jobs, "lanes": int(plan.backlog_of_lanes)}
            self.backlogs.append(self._client(f"backlog-{number}", "backlog", 7 + number, **options))
        for child in self.backlogs:
            await child.hear(timeout_s=PRELOAD_S)
        await self.control.execute("checkpoint")

    async def _start_daemon(self) -> None:
        """Start the daemon, also again after a kill, and wait until it is bound."""
        plan = self.plan
        arguments = ["benchmarks.daemon"]
        if plan.statements or plan.timed:
            arguments += ["--statements", str(self.folder / "statements.json")]
        before = ("-m", "cProfile", "-o", str(plan.profile)) if plan.profile is not None and _py_spy() is None else ()
        self.starts.append(time.monotonic())
        name = f"daemon-{len(self.starts)}"
        self.daemon = self._child(name, [*arguments, "run", "--config", str(self.file)], before=before)
        await bound(self.daemon, self.ledger)
        self.bound_s = time.monotonic() - self.starts[-1]

    def _start_clients(self) -> Child | None:
        plan = self.plan
        for number in range(plan.clients):
            options = {"client": number, "depth": plan.depth, "owed": plan.owed, "rate": plan.offered / plan.clients}
            options["two-parts"] = plan.two_parts
            self.loads.append(self._client(f"load-{number}", "load", number + 1, **options, **self._load_options()))
        if not plan.emergencies_per_s:
            return None
        options = {"rate": plan.emergencies_per_s, "most": plan.most_emergencies}
        return self._client("emergencies", "emergencies", 99, **options)

    def _profile(self) -> subprocess.Popen[bytes] | None:
        plan, py_spy = self.plan, _py_spy()
        if plan.profile is None or py_spy is None:
            return None
        kind = {".json": "speedscope", ".txt": "raw"}.get(plan.profile.suffix, "flamegraph")
        arguments = [py_spy, "record", "--pid", str(self.daemon.pid), "--duration", str(max(1, int(plan.seconds)))]
        with (self.folder / "py-spy.log").open("wb") as log:
            return subprocess.Popen(
                [*arguments, "--rate", "200", "--format", kind, "--output", str(plan.profile)], stdout=log, stderr=log
            )

    async def _watch(self, seconds: float) -> None:
        """Wait, and see that everybody lives."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            see_alive((self.daemon, self.sink, *self.loads))
            self.most_rss = max(self.most_rss, rss_mb(self.daemon.pid))
            self.speeds.append(speed_now())
            await asyncio.sleep(min(left, 1.0))

    async def _drain(self) -> float | None:
        """Wait until nothing waits, no receipt is owed and all is written; None when time ran out."""
        begun = still = time.monotonic()
        before: list[int] = []
        while (now := time.monotonic()) - begun < self.plan.drain_s:
            await asyncio.sleep(0.1)
            see_alive((self.daemon, self.sink))
            cells = list(self.ledger.cells)
            if cells != before:
                before, still = cells, now
            elif (
                now - still > STILL_S
                and not self.ledger[cell.OWED]
                and await self.control.fetchval(OPEN_ROWS) == 0
            ):  # fmt: skip
                return still - begun
        return None

    # ------------------------------------------------------------------ readings

    async def _read(self) -> Reading:
        (row,) = await self.control.fetch(READING)
        cpu = {"daemon": cpu_s(self.daemon.pid), "sink": cpu_s(self.sink.pid)}
        if self.postmaster is not None:
            cpu["postgres"] = postgres_cpu_s(self.postmaster)
        clients = (child for child in self.held if child.name.startswith(("load", "emergencies")))
        cpu["enqueuers"] = sum(cpu_s(child.pid) for child in clients)
        return Reading(
            time.monotonic(),
            row["clock"],
            list(self.ledger.cells),
            self.ledger.waiting,
            int(row["wal"]),
            row["batches"],
            cpu,
        )

    def _figures(self, begin: Reading, end: Reading, seen: dict[str, Any]) -> dict[str, Any]:
        plan, seconds = self.plan, end.at - begin.at
        rose = [after - before for before, after in zip(begin.cells, end.cells, strict=True)]
        delivered = max(1, rose[cell.DELIVERED])
        cpu = {name: end.cpu[name] - begin.cpu[name] for name in begin.cpu}
        reserve = max(1, min(20, plan.window // 10))
        gone = (plan.backlog - begin.cells[cell.BACKLOG], plan.backlog - end.cells[cell.BACKLOG])
        firsts = zip(self.starts, seen["first_after"], strict=True)
        return {
            "run": plan.name,
            "seconds": seconds,
            "throughput_per_s": plan.throughput,
            "backlog": plan.backlog,
            "window": plan.window,
            "answer_ms": plan.answer_ms,
            "deliver_window": plan.deliver_window,
            "window_allows_per_s": (plan.window - reserve) / (plan.answer_ms / 1000),
            "bound_after_s": self.bound_s,
            "first_submit_after_s": [at - start for start, at in firsts if at is not None] if plan.backlog else [],
            "enqueued_per_s": sum(rose[cell.CLIENTS :]) / seconds,
            "submitted_per_s": rose[cell.JOBS] / seconds,
            "delivered_per_s": rose[cell.DELIVERED] / seconds,
            "segments_per_s": rose[cell.SEGMENTS] / seconds,
            "receipts_per_s": rose[cell.RECEIPTS] / seconds,
            "receipts_refused": rose[cell.REFUSED],
            "segments_by_lane": rose[cell.LANES : cell.LANES + 6],
            "cpu_s_per_1000": {name: used * 1000 / delivered for name, used in cpu.items()},
            "cores": {name: used / seconds for name, used in cpu.items()},
            "rss_mb": self.most_rss,
            "jobs_per_claim": rose[cell.JOBS] / max(1, end.batches - begin.batches),
            "wal_bytes_per_job": (end.wal - begin.wal) / delivered,
            "waiting": {"begin": begin.waiting, "end": end.waiting},
            "backlog_rows": dict(zip(("begin", "end"), (0, 0) if plan.backlog_of_lanes else gone, strict=True)),
            "receipts_owed": {"begin": begin.cells[cell.OWED], "end": end.cells[cell.OWED]},
            "sink": {
                "most_in_any_second": seen["most_in_any_second"],
                "least_second": min(seen["each_second"]),
                "each_second": seen["each_second"],
                "longest_gap_s": seen["longest_gap_s"],
            },
        }

    async def _from_database(self, begin: Reading, end: Reading) -> dict[str, Any]:
        """Count the same again, from what the daemon wrote."""
        seconds = (end.clock - begin.clock).total_seconds()
        (row,) = await self.control.fetch(COUNTED, begin.clock, end.clock, timeout=COUNT_S)
        ((events, flushes),) = await self.control.fetch(RECEIPT_FLUSHES, begin.clock, end.clock, timeout=COUNT_S)
        return {
            "submitted_per_s": row["submitted"] / seconds,
            "delivered_per_s": row["delivered"] / seconds,
            "jobs_per_receipt_flush": events / max(1, flushes),
        }

    def _http_port(self) -> int:
        for line in self.daemon.lines:
            if '"daemon_started"' in line:
                return int(json.loads(line)["http_port"])
        raise Failed(f"the daemon did not say where it listens: {self.daemon.last_words()}")

    def _counters(self) -> dict[str, float]:
        """The daemon's own."""
        samples = scrape(self._http_port())
        return {name: value for name, value in samples.items() if name.startswith(COUNTERS)}

    async def _account(
        self, clients: list[dict[str, Any]], seen: dict[str, Any], daemon_exit: int, *, drained: bool
    ) -> dict[str, Any]:
        """Every job that was enqueued is in exactly one state, and the sink saw each accepted segment once."""
        plan = self.plan
        outcomes: dict[str, int] = {}
        for client in [*clients, *[await child.hear() for child in self.backlogs]]:
            for outcome, count in client["outcomes"].items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        states = {row["state"]: row["count"] for row in await self.control.fetch(STATES, timeout=COUNT_S)}
        (sent,) = await self.control.fetch(SENT, timeout=COUNT_S)
        enqueued, found, delivered = sum(outcomes.values()), sum(states.values()), states.get("delivered", 0)
        still_open = sum(states.get(state, 0) for state in OPEN)
        problems = []
        if outcomes.keys() - self.wanted:
            problems.append(f"not every job was queued: {outcomes}")
        if found != enqueued:
            problems.append(f"{enqueued} enqueued, {found} accounted for: {enqueued - found} lost")
        if daemon_exit:
            problems.append(f"the daemon ended with {daemon_exit}")
        if not plan.kill:  # a killed daemon leaves doubt, and its receipts wait for who resolves it
            if sent["accepted"] != seen["segments"]:
                problems.append(f"{seen['segments']} segments at the sink, {sent['accepted']} accepted in the database")
            # stopped in full flow, the last receipts may be committed and their answers lost with the session
            if sent["received"] != seen["receipts"] and (drained or sent["received"] < seen["receipts"]):
                problems.append(f"{seen['receipts']} receipts at the sink, {sent['received']} in the database")
            if sent["fenced"]:
                problems.append(f"{sent['fenced']} answers were fenced")
            if still_open and not plan.backlog:
                problems.append(f"{still_open} jobs are open after {plan.drain_s:.0f} s without load")
            if found - still_open != delivered + sum(states.get(state, 0) for state in self.refusals):
                problems.append(f"{found - still_open - delivered} jobs ended undelivered: {states}")
        return {
            "enqueued": enqueued,
            "delivered": delivered,
            "open": still_open,
            "ended": found - still_open - delivered,
            "lost": enqueued - found,
            "states": states,
            "problems": problems,
        }


def _latencies(sent: dict[str, list[float]], arrived: dict[str, float], begin: float, end: float) -> dict[str, Any]:
    """From commit to submit_sm, of those committed within the window.

    The commit is taken to be when its answer reaches the client, which is a little late: a client that waits for the
    processor makes these figures smaller. ``from_call`` is the bound from the other side: from before the enqueue.
    """
    inside = {number: times for number, times in sent.items() if begin <= times[1] < end}
    committed = sorted(arrived[number] - times[1] for number, times in inside.items() if number in arrived)
    called = sorted(arrived[number] - times[0] for number, times in inside.items() if number in arrived)
    took = sorted(times[1] - times[0] for times in inside.values())
    return {
        "count": len(committed),
        "never_arrived": sum(number not in arrived for number in sent),
        "p50_ms": _ms(percentile(committed, 0.5)),
        "p90_ms": _ms(percentile(committed, 0.9)),
        "p99_ms": _ms(percentile(committed, 0.99)),
        "most_ms": _ms(percentile(committed, 1.0)),
        "from_call_p50_ms": _ms(percentile(called, 0.5)),
        "from_call_p99_ms": _ms(percentile(called, 0.99)),
        "enqueue_p50_ms": _ms(percentile(took, 0.5)),
        "enqueue_p99_ms": _ms(percentile(took, 0.99)),
        "histogram": histogram([wait * 1000 for wait in committed]),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


async def play(plan: Plan, server: Server, database: str, *, keep_logs: bool) -> dict[str, Any]:
    """Play one run on a database of its own, and leave nothing behind."""
    async with run_on(server, database, keep_logs=keep_logs) as (url, folder, held):
        return await Run(plan, url, folder, held).play()


async def bench(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Play the runs. Ctrl-C and SIGTERM end the children in order, and remove what was made."""
    end_when_told()
    results: list[dict[str, Any]] = []
    with Server(arguments.database) as server:
        for number, planned in enumerate(plans(arguments)):
            plan = planned
            if plan.name == "three-quarters":
                sustained = [result["segments_per_s"] for result in results if result["run"] == "sustained"]
                most = arguments.maximum or max(sustained, default=0.0)
                if not most:
                    raise Failed("three-quarters of what? play sustained before it, or give --maximum")
                plan = at_share(plan, most)
            name = f"tocsin_bench_{os.getpid()}_{number}"
            results.append(await play(plan, server, name, keep_logs=arguments.keep_logs))
            if not arguments.json:
                print(table(results[-1]), flush=True)
    return by_disturbance(arguments, results)


def by_disturbance(arguments: argparse.Namespace, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Order the results by run, as asked for; of its rounds first the one that the machine disturbed least.

    Whoever asks for a run is given the first. How much a machine that others share slowed a round down is what the
    sink took for it, whose code and work are the same whatever the gateway is: no figure of ours is chosen by itself.
    """
    return sorted(results, key=lambda result: (arguments.runs.index(result["run"]), result["cpu_s_per_1000"]["sink"]))


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; gives the exit code: 1 when a job is not accounted for, 3 when a run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    try:
        results = asyncio.run(bench(arguments))
    except asyncio.CancelledError:
        return TOLD_TO_END
    except Failed as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 3
    kept.keep(arguments, kept.document("journey", words, {"runs": results}))
    return 1 if any(result["account"]["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
