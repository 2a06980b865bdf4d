"""The journey: enqueue, claim, submit_sm, settle, receipt, all of it durable, measured from the outside.

``python -m benchmarks.bench_journey`` makes a server of its own and plays the runs one after the other, each on a
new database with a new daemon, sink and clients. README.md says what they are, and how to read the figures.
Exit 0 only when every job that was enqueued is accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks.inside import Inside, scrape
from benchmarks.ledger import Ledger
from benchmarks.measure import calibrate, cpu_s, percentile, postgres_cpu_s, rss_mb
from benchmarks.stage import CONFIGURATION, Child, Failed, Server, children, postmaster_pid

RUNS: Final = ("sustained", "backlog", "three-quarters", "throttled")
UNLIMITED: Final = 100_000  # the most that throughput_per_s takes
SHARE: Final = 0.75  # of the measured maximum, for the run of that name
COUNTERS: Final = ("tocsin_jobs_total", "tocsin_submit_sm_total", "tocsin_receipts_total")
BIND_S: Final = 30.0
PRELOAD_S: Final = 1_200.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    name: str
    seconds: float
    warm_s: float
    clients: int
    depth: int  # jobs of the load enqueued and not on the wire
    owed: int  # receipts that the sink owes, past which nobody enqueues
    offered: float  # jobs a second in place of a depth; 0: keep the depth
    emergencies_per_s: float
    most_emergencies: int  # in any 1.1 s; 0: no limit
    backlog: int
    throughput: int
    window: int
    sessions: int
    answer_ms: float
    deliver_window: int
    drain_s: float
    profile: Path | None
    statements: bool


# What the database knows of a window. Jobs of several parts count when their last part does.
COUNTED: Final = """
with job as (
    select job_id, max(parts) as parts, count(*) as rows, max(submitted_at) as submitted, max(receipt_at) as received,
           count(*) filter (where receipt_state = 40) as delivered
    from tocsin.sent group by job_id
)
select count(*) filter (where rows = parts and submitted >= $1 and submitted < $2) as submitted,
       count(*) filter (where delivered = parts and received >= $1 and received < $2) as delivered,
       coalesce(sum(parts) filter (where rows = parts and submitted >= $1 and submitted < $2), 0)::bigint as segments,
       count(distinct job_id) as jobs, coalesce(sum(rows), 0)::bigint as all_segments
from job
"""
RECEIPT_FLUSHES: Final = """
select count(*), count(distinct xid::text) from tocsin.event_log where at >= $1 and at < $2 and type = 'job.delivered'
"""
STATES: Final = "select state, count(*) from tocsin.job_status group by state"


@dataclass(slots=True)
class Reading:
    """Everything that is read at the window's two ends."""

    at: float
    cells: list[int]
    waiting: int
    ready: int
    clock: datetime
    wal: int
    batches: int
    cpu: dict[str, float]


class Run:
    """One run, from an empty database to the account of its jobs."""

    def __init__(self, plan: Plan, url: str, folder: Path, held: list[Child]) -> None:
        self.plan = plan
        self.url = url
        self.folder = folder
        self.held = held
        self.ledger = Ledger(folder / "ledger", create=True)
        self.loads: list[Child] = []
        self.backlogs: list[Child] = []
        self.most_rss = 0.0

    async def play(self) -> dict[str, Any]:
        """Play it and give the figures."""
        plan = self.plan
        self.control: asyncpg.Connection = await asyncpg.connect(self.url)
        self.postmaster = await postmaster_pid(self.control)
        calibrated = calibrate()
        self.sink = self._child(
            "sink",
            ["benchmarks.sink", "--answer-ms", str(plan.answer_ms), "--deliver-window", str(plan.deliver_window)],
        )
        port = (await self.sink.hear())["port"]
        await self._apply(port)
        if plan.backlog:
            await self._preload()
        await self._start_daemon()
        for number in range(plan.clients):
            rate = plan.offered / plan.clients if plan.offered else 0.0
            more = ["--client", str(number), "--depth", str(plan.depth), "--owed", str(plan.owed), "--rate", str(rate)]
            self.loads.append(self._child(f"load-{number}", [*self._client("load", number + 1), *more]))
        single = None
        if plan.emergencies_per_s:
            more = ["--rate", str(plan.emergencies_per_s), "--most", str(plan.most_emergencies)]
            single = self._child("emergencies", [*self._client("emergencies", 99), *more])
        await self._watch(plan.warm_s)
        begin = await self._read()
        profiler = self._profile()
        async with contextlib.AsyncExitStack() as stack:
            inside = await stack.enter_async_context(Inside(self.url, self._http_port())) if plan.statements else None
            await self._watch(plan.seconds / 2)
            await self.control.execute("checkpoint")
            await self._watch(begin.at + plan.seconds - time.monotonic())
            end = await self._read()
        self.ledger[cell.STOP] = 1
        clients = [await load.hear() for load in self.loads]
        emergencies = await single.hear() if single else {"outcomes": {}, "sent": {}}
        drained_s = await self._drain()
        if profiler is not None:
            profiler.wait()
        metrics = self._scrape()
        self.daemon.terminate()
        daemon_exit = await self.daemon.ended()
        self.sink.say(f"{begin.at} {end.at}")
        seen = await self.sink.hear(1, timeout_s=120)
        figures = self._figures(begin, end, seen)
        figures["calibration"] = {"before": calibrated, "after": calibrate()}
        figures["from_database"] = await self._from_database(begin, end)
        figures["emergencies"] = _latencies(emergencies["sent"], seen["emergencies"], begin.at, end.at)
        figures["clients"] = [{name: one[name] for name in ("calls", "call_p50_s", "call_p99_s")} for one in clients]
        figures["drained_s"] = drained_s
        figures["metrics"] = metrics
        if plan.statements:
            figures["statements"] = json.loads((self.folder / "statements.json").read_text())
        if inside is not None:
            figures["inside"] = inside.figures()
        figures["account"] = await self._account([*clients, emergencies], seen, daemon_exit)
        await self.control.close()
        self.ledger.close()
        return figures

    # ------------------------------------------------------------------ processes

    def _child(self, name: str, arguments: list[str]) -> Child:
        module, *rest = arguments
        own = ["--ledger", str(self.folder / "ledger")] if module.startswith("benchmarks.") else []
        child = Child(name, ["-m", module, *rest, *own], self.folder)
        self.held.append(child)
        return child

    def _client(self, kind: str, seed: int) -> list[str]:
        return ["benchmarks.enqueuer", kind, "--url", self.url, "--seed", str(seed)]

    async def _apply(self, port: int) -> None:
        """Write the configuration and put its link, sender and route into the database: apps can enqueue then."""
        plan = self.plan
        self.file = self.folder / "tocsin.toml"
        self.file.write_text(
            CONFIGURATION.format(
                directory=self.folder,
                url=self.url,
                port=port,
                window=plan.window,
                throughput=plan.throughput,
                sessions=plan.sessions,
            )
        )
        child = Child("apply", ["-m", "benchmarks.daemon", "apply", "--config", str(self.file)], self.folder)
        self.held.append(child)
        if await child.ended():
            raise Failed(f"the configuration was not applied: {child.last_words()}")

    async def _preload(self) -> None:
        """Enqueue the backlog before the daemon starts."""
        plan = self.plan
        clients = max(1, min(2, plan.clients))
        for number in range(clients):
            jobs = plan.backlog // clients + (plan.backlog % clients if number == 0 else 0)
            more = ["--jobs", str(jobs)]
            self.backlogs.append(self._child(f"backlog-{number}", [*self._client("backlog", 7 + number), *more]))
        for child in self.backlogs:
            await child.hear(timeout_s=PRELOAD_S)
        await self.control.execute("checkpoint")

    async def _start_daemon(self) -> None:
        plan = self.plan
        arguments = ["-m", "benchmarks.daemon"]
        if plan.statements:
            arguments += ["--statements", str(self.folder / "statements.json")]
        if plan.profile is not None and _py_spy() is None:
            arguments = ["-m", "cProfile", "-o", str(plan.profile), *arguments]
        self.daemon = Child("daemon", [*arguments, "run", "--config", str(self.file)], self.folder)
        self.held.append(self.daemon)
        begun = time.monotonic()
        while not self.ledger[cell.BOUND]:
            if self.daemon.process.poll() is not None or time.monotonic() - begun > BIND_S:
                raise Failed(f"the daemon did not bind: exit {self.daemon.process.poll()}; {self.daemon.last_words()}")
            await asyncio.sleep(0.005)
        self.bound_s = time.monotonic() - begun

    def _profile(self) -> subprocess.Popen[bytes] | None:
        plan, py_spy = self.plan, _py_spy()
        if plan.profile is None or py_spy is None:
            return None
        kind = {".json": "speedscope", ".txt": "raw"}.get(plan.profile.suffix, "flamegraph")
        arguments = [py_spy, "record", "--pid", str(self.daemon.pid), "--duration", str(int(plan.seconds)), "--rate", "200"]
        log = (self.folder / "py-spy.log").open("wb")
        return subprocess.Popen([*arguments, "--format", kind, "--output", str(plan.profile)], stdout=log, stderr=log)

    async def _watch(self, seconds: float) -> None:
        """Wait, and see that everybody lives."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for child in (self.daemon, self.sink, *self.loads):
                if child.process.poll() is not None:
                    raise Failed(f"{child.name} ended with {child.process.returncode}: {child.last_words()}")
            self.most_rss = max(self.most_rss, rss_mb(self.daemon.pid))
            await asyncio.sleep(min(left, 0.5))

    async def _drain(self) -> float | None:
        """Wait until nothing waits, no receipt is owed and all is written; None when time ran out."""
        begun = time.monotonic()
        before: tuple[int, ...] = ()
        still = begun
        while (now := time.monotonic()) - begun < self.plan.drain_s:
            await asyncio.sleep(0.1)
            if self.daemon.process.poll() is not None:
                raise Failed(f"the daemon ended with {self.daemon.process.returncode}: {self.daemon.last_words()}")
            cells = tuple(self.ledger.cells)
            if cells != before:
                before, still = cells, now
            elif now - still > 0.5 and not self.ledger[cell.OWED] and await self._open_rows() == 0:
                return still - begun
        return None

    async def _open_rows(self) -> int:
        return int(
            await self.control.fetchval(
                "select (select count(*) from (select from tocsin.ready limit 1) r) + (select count(*) from tocsin.deferred)"
                " + (select count(*) from tocsin.uncertain) + (select count(*) from tocsin.claim)"
            )
        )

    # ------------------------------------------------------------------ readings

    async def _read(self) -> Reading:
        row = await self.control.fetchrow(
            "select clock_timestamp() as clock, pg_current_wal_lsn() - '0/0'::pg_lsn as wal,"
            " (select last_value from tocsin.batch_id) as batches, (select count(*) from tocsin.ready) as ready"
        )
        cpu = {"daemon": cpu_s(self.daemon.pid), "sink": cpu_s(self.sink.pid)}
        cpu["enqueuers"] = sum(cpu_s(child.pid) for child in self.held if child.name.startswith(("load", "emergencies")))
        if self.postmaster is not None:
            cpu["postgres"] = postgres_cpu_s(self.postmaster)
        now = time.monotonic()
        cells = list(self.ledger.cells)
        waiting = self.ledger.waiting
        return Reading(now, cells, waiting, row["ready"], row["clock"], int(row["wal"]), row["batches"], cpu)

    def _figures(self, begin: Reading, end: Reading, seen: dict[str, Any]) -> dict[str, Any]:
        seconds = end.at - begin.at
        rose = [after - before for before, after in zip(begin.cells, end.cells, strict=True)]
        jobs, delivered = rose[cell.JOBS], rose[cell.DELIVERED]
        life = max(1, delivered)
        cpu = {name: end.cpu[name] - begin.cpu[name] for name in begin.cpu}
        by_lane = rose[cell.LANES : cell.LANES + 6]
        return {
            "run": self.plan.name,
            "seconds": seconds,
            "bound_after_s": self.bound_s,
            "enqueued_per_s": sum(rose[cell.CLIENTS :]) / seconds,
            "submitted_per_s": jobs / seconds,
            "delivered_per_s": delivered / seconds,
            "segments_per_s": rose[cell.SEGMENTS] / seconds,
            "receipts_per_s": rose[cell.RECEIPTS] / seconds,
            "receipts_refused": rose[cell.REFUSED],
            "segments_by_lane": by_lane,
            "cpu_s_per_1000": {name: used * 1000 / life for name, used in cpu.items()},
            "cores": {name: used / seconds for name, used in cpu.items()},
            "rss_mb": {"daemon_most": self.most_rss, "daemon_end": rss_mb(self.daemon.pid) if self._lives() else None},
            "jobs_per_claim": jobs / max(1, end.batches - begin.batches),
            "wal_bytes_per_job": (end.wal - begin.wal) / life,
            "waiting": {"begin": begin.waiting, "end": end.waiting},
            "ready_rows": {"begin": begin.ready, "end": end.ready},
            "backlog_rows": {
                "begin": self.plan.backlog - begin.cells[cell.BACKLOG],
                "end": self.plan.backlog - end.cells[cell.BACKLOG],
            },
            "receipts_owed": {"begin": begin.cells[cell.OWED], "end": end.cells[cell.OWED]},
            "sink": {
                "most_in_any_second": seen["most_in_any_second"],
                "least_second": min(seen["each_second"]),
                "each_second": seen["each_second"],
                "longest_gap_s": seen["longest_gap_s"],
            },
        }

    def _lives(self) -> bool:
        return self.daemon.process.poll() is None

    async def _from_database(self, begin: Reading, end: Reading) -> dict[str, Any]:
        """Count the same again, from what the daemon wrote."""
        seconds = (end.clock - begin.clock).total_seconds()
        row = await self.control.fetchrow(COUNTED, begin.clock, end.clock, timeout=300)
        events, flushes = await self.control.fetchrow(RECEIPT_FLUSHES, begin.clock, end.clock, timeout=300)
        return {
            "submitted_per_s": row["submitted"] / seconds,
            "delivered_per_s": row["delivered"] / seconds,
            "segments_per_s": row["segments"] / seconds,
            "jobs_per_receipt_flush": events / max(1, flushes),
            "jobs": row["jobs"],
            "segments": row["all_segments"],
        }

    def _http_port(self) -> int:
        for line in self.daemon.lines:
            if '"daemon_started"' in line:
                return int(json.loads(line)["http_port"])
        raise Failed(f"the daemon did not say where it listens: {self.daemon.last_words()}")

    def _scrape(self) -> dict[str, float]:
        """The daemon's own counters."""
        samples = scrape(self._http_port())
        return {name: value for name, value in samples.items() if name.startswith(COUNTERS)}

    async def _account(self, clients: list[dict[str, Any]], seen: dict[str, Any], daemon_exit: int) -> dict[str, Any]:
        """Every job that was enqueued is in exactly one state, and the sink saw each accepted segment once."""
        for child in self.backlogs:
            clients.append(await child.hear())
        outcomes: dict[str, int] = {}
        for client in clients:
            for outcome, count in client["outcomes"].items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        states = {row["state"]: row["count"] for row in await self.control.fetch(STATES, timeout=600)}
        sent = await self.control.fetchrow(
            "select count(*) as all, count(message_id) as accepted, count(receipt_state) as received,"
            " count(*) filter (where reason = 'FENCED') as fenced from tocsin.sent",
            timeout=300,
        )
        enqueued, found = sum(outcomes.values()), sum(states.values())
        problems = []
        if set(outcomes) - {"queued"}:
            problems.append(f"not every job was queued: {outcomes}")
        if found != enqueued:
            problems.append(f"{enqueued} enqueued, {found} accounted for: {enqueued - found} lost")
        if sent["accepted"] != seen["segments"]:
            problems.append(f"{seen['segments']} segments reached the sink, {sent['accepted']} are in the database")
        if sent["received"] != seen["receipts"]:
            problems.append(f"{seen['receipts']} receipts were answered, {sent['received']} are in the database")
        if daemon_exit:
            problems.append(f"the daemon ended with {daemon_exit}")
        if sent["fenced"]:
            problems.append(f"{sent['fenced']} answers were fenced")
        ended = ("delivered", "undelivered", "unknown", "blocked", "cancelled", "expired", "failed")
        open_jobs = sum(count for state, count in states.items() if state not in ended)
        limited = self.plan.backlog > 0
        if open_jobs and not limited:
            problems.append(f"{open_jobs} jobs are open after {self.plan.drain_s:.0f} s without load")
        if found - open_jobs != states.get("delivered", 0):
            problems.append("not every ended job was delivered")
        return {
            "enqueued": enqueued,
            "delivered": states.get("delivered", 0),
            "open": open_jobs,
            "lost": enqueued - found,
            "states": states,
            "problems": problems,
        }


def _latencies(
    sent: dict[str, list[float]], arrived: dict[str, float], begin: float, end: float
) -> dict[str, float | int | None]:
    """From commit to submit_sm, of those committed within the window: from the commit's answer, and from the call."""
    inside = {number: times for number, times in sent.items() if begin <= times[1] < end}
    committed = sorted(arrived[number] - times[1] for number, times in inside.items() if number in arrived)
    called = sorted(arrived[number] - times[0] for number, times in inside.items() if number in arrived)
    took = sorted(times[1] - times[0] for times in inside.values())
    return {
        "count": len(committed),
        "never_arrived": sum(number not in arrived for number in sent),
        "p50_ms": _ms(percentile(committed, 0.5)),
        "p99_ms": _ms(percentile(committed, 0.99)),
        "most_ms": _ms(committed[-1] if committed else None),
        "from_call_p50_ms": _ms(percentile(called, 0.5)),
        "from_call_p99_ms": _ms(percentile(called, 0.99)),
        "enqueue_p50_ms": _ms(percentile(took, 0.5)),
        "enqueue_p99_ms": _ms(percentile(took, 0.99)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def plans(arguments: argparse.Namespace) -> list[Plan]:
    """The runs that were asked for, in order."""
    made = []
    for name in arguments.runs:
        plan = Plan(
            name=name,
            seconds=arguments.seconds,
            warm_s=arguments.warm,
            clients=arguments.clients,
            depth=arguments.depth,
            owed=arguments.owed,
            offered=arguments.offered,
            emergencies_per_s=arguments.emergencies_per_s,
            most_emergencies=0,
            backlog=0,
            throughput=UNLIMITED,
            window=arguments.window,
            sessions=arguments.sessions,
            answer_ms=arguments.answer_ms,
            deliver_window=arguments.deliver_window,
            drain_s=arguments.drain,
            profile=arguments.profile,
            statements=arguments.statements,
        )
        if name in {"backlog", "three-quarters"}:
            plan = replace(plan, backlog=arguments.backlog)
        elif name == "throttled":
            reserve = max(1, min(20, arguments.throughput // 10))
            plan = replace(
                plan,
                throughput=arguments.throughput,
                depth=min(plan.depth, 5 * arguments.throughput),
                emergencies_per_s=min(plan.emergencies_per_s, reserve / 2),
                most_emergencies=reserve,
            )
        made.append(plan)
    return made


async def bench(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Play the runs."""
    results: list[dict[str, Any]] = []
    with Server(arguments.database) as server:
        for number, planned in enumerate(plans(arguments)):
            plan = planned
            if plan.name == "three-quarters":
                most = arguments.maximum or next((r["segments_per_s"] for r in results if r["run"] == "sustained"), 0.0)
                if not most:
                    raise Failed("three-quarters needs a maximum: play sustained before it, or say --maximum")
                plan = replace(plan, throughput=max(1, int(most * SHARE)))
            database = f"tocsin_bench_{os.getpid()}_{number}"
            folder = Path(tempfile.mkdtemp(prefix="tocsin-run-"))
            try:
                with children() as held:
                    url = await server.create(database)
                    result = await Run(plan, url, folder, held).play()
            finally:
                await server.drop(database)
                if arguments.keep_logs:
                    print(f"logs: {folder}", file=sys.stderr)
                else:
                    shutil.rmtree(folder, ignore_errors=True)
            result["throughput_per_s"] = plan.throughput
            results.append(result)
            if not arguments.json:
                print(table(result), flush=True)
    return results


def table(result: dict[str, Any]) -> str:
    """One run for people."""
    cpu, database, urgent, sink = (result[name] for name in ("cpu_s_per_1000", "from_database", "emergencies", "sink"))
    account, cores = result["account"], result["cores"]
    rows = [
        ("jobs/s enqueued", f"{result['enqueued_per_s']:,.0f}"),
        ("jobs/s submitted", f"{result['submitted_per_s']:,.0f} at the sink, {database['submitted_per_s']:,.0f} in the database"),
        ("jobs/s delivered", f"{result['delivered_per_s']:,.0f} at the sink, {database['delivered_per_s']:,.0f} in the database"),
        ("segments/s", f"{result['segments_per_s']:,.0f}; any second {sink['most_in_any_second']:,} at most, limit {result['throughput_per_s']:,}"),
        ("slowest second, longest gap", f"{sink['least_second']:,} segments, {sink['longest_gap_s'] * 1000:,.0f} ms"),
        ("CPU-s per 1,000 jobs", ", ".join(f"{name} {used:.4f}" for name, used in cpu.items())),
        ("  daemon + postgres", f"{cpu['daemon'] + cpu.get('postgres', 0.0):.4f}"),
        ("cores", ", ".join(f"{name} {used:.2f}" for name, used in cores.items())),
        ("RSS of the daemon", f"{result['rss_mb']['daemon_most']:.0f} MB"),
        ("jobs a claim, a receipt flush", f"{result['jobs_per_claim']:.0f}, {database['jobs_per_receipt_flush']:.0f}"),
        ("WAL bytes a job", f"{result['wal_bytes_per_job']:,.0f}"),
        ("waiting, not on the wire", f"{result['waiting']['begin']:,} -> {result['waiting']['end']:,}"),
        ("rows in ready", f"{result['ready_rows']['begin']:,} -> {result['ready_rows']['end']:,}"),
        ("backlog", f"{result['backlog_rows']['begin']:,} -> {result['backlog_rows']['end']:,}"),
        ("receipts owed by the sink", f"{result['receipts_owed']['begin']:,} -> {result['receipts_owed']['end']:,}"),
        ("emergencies, commit to submit_sm", _urgent(urgent, "p50_ms", "p99_ms", "most_ms") + f" ms (p50, p99, most of {urgent['count']:,})"),
        ("  from the call", _urgent(urgent, "from_call_p50_ms", "from_call_p99_ms") + " ms"),
        ("calibration", f"{result['calibration']['before']:.1f} before, {result['calibration']['after']:.1f} after (M rounds/s)"),
        ("drained after", "not in time" if result["drained_s"] is None else f"{result['drained_s']:.1f} s"),
        ("account", f"{account['enqueued']:,} enqueued = {account['delivered']:,} delivered + {account['open']:,} open, lost {account['lost']:,}"),
        *(("PROBLEM", problem) for problem in account["problems"]),
    ]
    if "statements" in result:
        rows += [
            (
                f"  {name}",
                f"{one['calls']:,} calls, {one['mean_ms']:.1f} ms mean, {one['most_ms']:.0f} ms most, {one['items']:.0f} items a call",
            )
            for name, one in result["statements"].items()
        ]
    if "inside" in result:
        rows += [(f"  {name}", f"{mean:,.0f} mean") for name, mean in result["inside"]["gauges"].items()]
        rows += [(f"  {name}", f"{mean:.3f} sessions") for name, mean in result["inside"]["sessions"].items()]
    head = f"\n{result['run']} ({result['seconds']:.0f} s)"
    return "\n".join([head, *(f"  {name:<48}{value}" for name, value in rows)])


def _urgent(urgent: dict[str, Any], *names: str) -> str:
    return " / ".join("-" if urgent[name] is None else f"{urgent[name]:.1f}" for name in names)


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_journey", description="the journey, measured")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="default: all, in this order")
    parser.add_argument("--database", metavar="URL", help="a server that may be used as superuser; default: an embedded one")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each window; the official figures take 60")
    parser.add_argument("--warm", type=float, default=5.0, help="seconds before the window")
    parser.add_argument("--clients", type=int, default=2, help="processes that enqueue")
    parser.add_argument("--depth", type=int, default=4_000, help="jobs kept enqueued and not on the wire")
    parser.add_argument("--owed", type=int, default=10_000, help="receipts owed by the sink past which nobody enqueues")
    parser.add_argument("--offered", type=float, default=0.0, help="jobs a second to offer in place of a depth")
    parser.add_argument("--emergencies-per-s", type=float, default=40.0, help="single ones, Poisson")
    parser.add_argument("--backlog", type=int, default=100_000, help="marketing jobs waiting; the official figures take 1,000,000")
    parser.add_argument("--maximum", type=float, default=0.0, help="segments a second that three-quarters is taken of")
    parser.add_argument("--throughput", type=int, help="segments a second of the throttled run (default 100); alone: that run only")
    parser.add_argument("--window", type=int, default=1_000, help="of submit_sm, a session")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--answer-ms", type=float, default=5.0, help="from submit_sm to its response")
    parser.add_argument("--deliver-window", type=int, default=100, help="receipts unanswered, a session")
    parser.add_argument("--drain", type=float, default=120.0, help="seconds for the queue to drain")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="profile the daemon (.svg, .json speedscope, .txt raw)")
    parser.add_argument("--statements", action="store_true", help="time the daemon's SQL statements by name")
    parser.add_argument("--keep-logs", action="store_true", help="leave the processes' logs, and say where")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(words)
    if arguments.throughput is not None and arguments.runs == list(RUNS):
        arguments.runs = ["throttled"]
    arguments.throughput = arguments.throughput or 100
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; 1 when a job is not accounted for, 3 when a run could not be played."""
    arguments = arguments_of(words)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores shared with sink, load and database",
    }
    if not arguments.json:
        print(", ".join(about.values()))
    try:
        results = asyncio.run(bench(arguments))
    except Failed as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 3
    if arguments.json:
        print(json.dumps(about | {"runs": results}, indent=1))
    return 1 if any(result["account"]["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
