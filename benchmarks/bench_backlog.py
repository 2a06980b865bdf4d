"""Independence from the backlog: what the daemon costs with a few jobs waiting, and with millions.

``python -m benchmarks.bench_backlog`` makes a server of its own and plays each condition beside a neighbour in time
that lacks the condition alone, A B A B, each run on a new database. Both send the same at the same rate: a load of the
mix through a throttled link, filled up with marketing, as much of which always waits as did at first; so a difference
is one of time and cost, not of what was sent. README.md says how to read the figures.
Exit 0 only when every job that was enqueued is accounted for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import flood
from benchmarks import results as kept
from benchmarks.bench_journey import COUNT_S, PRELOAD_S, Run
from benchmarks.enqueuer import TWO_PARTS
from benchmarks.flood import Flood
from benchmarks.plan import Plan
from benchmarks.stage import Child, Server, end_when_told, finished, run_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# What B has and A lacks.
CONDITIONS: Final = {
    "waiting": "--backlog jobs wait, in place of --small",
    "deferred": "--deferred jobs are deferred besides",
    "snapshot": "a transaction that reads, repeatable read, is open: --held seconds before the window, and all of it",
    "writer": "the same with a transaction that has written",
    "bulk": "--bulk jobs were enqueued by two clients just before the window, with all else going on",
    "upkeep": "a checkpoint and a vacuum of the tables that an autovacuum comes to, in the middle of the window",
}
FLOOD: Final = "flood"
OF_LOAD: Final = 0.5  # of the throughput; the rest is marketing out of the backlog
HOLD: Final = {
    "snapshot": "select count(*) from tocsin.link",
    "writer": "select pg_current_xact_id()",
}
VACUUM: Final = (
    "vacuum (analyze) tocsin.ready, tocsin.claim, tocsin.link, tocsin.sent, tocsin.event_log, tocsin.deferred"
)
VACUUMS: Final = """
select coalesce(sum(autovacuum_count), 0)::int as autovacuums,
       coalesce(sum(n_dead_tup) filter (where relname = 'ready'), 0)::int as dead_in_ready
from pg_stat_user_tables where schemaname = 'tocsin'
"""
# Name and unit of a figure, and whether less of it is worse (else more is).
FIGURES: Final = {
    "submitted_per_s": True,
    "delivered_per_s": True,
    "claim_p50_ms": False,
    "claim_p99_ms": False,
    "claim_urgent_p50_ms": False,
    "claim_urgent_p99_ms": False,
    "settle_p50_ms": False,
    "settle_p99_ms": False,
    "daemon_cpu_s_per_1000": False,
    "postgres_cpu_s_per_1000": False,
    "rss_mb": False,
    "wal_bytes_per_job": False,
    "emergencies_p50_ms": False,
    "emergencies_p99_ms": False,
}
TRUSTED: Final = 1.15  # the change below which neighbours in time do not differ


class Beside(Run):
    """A run with so much waiting, and with one condition, or none."""

    wanted = frozenset({"queued", "deferred"})

    def __init__(
        self,
        plan: Plan,
        url: str,
        folder: Path,
        held: list[Child],
        arguments: argparse.Namespace,
        condition: str | None,
    ) -> None:
        super().__init__(plan, url, folder, held)
        self.arguments = arguments
        self.condition = condition

    async def play(self) -> dict[str, Any]:
        self.holder: asyncpg.Connection | None = None
        try:
            return await super().play()
        finally:
            if self.holder is not None:
                await self.holder.close()

    async def _preload(self) -> None:
        """Fill the tables, as vacuumed as they would be, and open the transaction that stays open."""
        fills = {"ready": self.plan.backlog, "deferred": self.arguments.deferred if self.condition == "deferred" else 0}
        for seed, (table, jobs) in enumerate(fills.items(), 7):
            if jobs:
                self.backlogs.append(self._client(f"backlog-{table}", "copies", seed, jobs=jobs, table=table))
                await self.backlogs[-1].hear(timeout_s=PRELOAD_S)
        await self.control.execute(VACUUM, timeout=COUNT_S)
        await self.control.execute("checkpoint", timeout=COUNT_S)
        if self.condition in HOLD:
            self.holder = await asyncpg.connect(self.url)
            await self.holder.execute("begin isolation level repeatable read")
            await self.holder.execute(HOLD[self.condition])

    def _start_clients(self) -> Child | None:
        self.loads.append(self._client("load-refill", "refill", 50))
        return super()._start_clients()

    async def _before_window(self) -> None:
        if self.condition == "bulk":
            halves = (self.arguments.bulk // 2, self.arguments.bulk - self.arguments.bulk // 2)
            bulks = [self._client(f"bulk-{n}", "backlog", 60 + n, jobs=half) for n, half in enumerate(halves) if half]
            self.backlogs += bulks
            for child in bulks:
                await child.hear(timeout_s=PRELOAD_S)

    async def _half_way(self) -> None:
        if self.condition == "upkeep":
            await self.control.execute("checkpoint", timeout=COUNT_S)
            await self.control.execute(VACUUM, timeout=COUNT_S)

    async def _drain(self) -> float | None:
        self.vacuums = dict(await self.control.fetchrow(VACUUMS))
        return await super()._drain()


def plan_of(arguments: argparse.Namespace, condition: str, *, is_b: bool) -> Plan:
    """Plan a run; A and B of a condition differ in their name, and of all else in a backlog at most."""
    return Plan(
        name=condition if is_b else "small",
        seconds=arguments.seconds,
        warm_s=max(arguments.warm, arguments.held) if condition in HOLD else arguments.warm,
        clients=1,
        offered=arguments.throughput * OF_LOAD / (1 + TWO_PARTS),
        emergencies_per_s=min(40.0, arguments.throughput / 20),
        backlog=arguments.backlog if is_b and condition == "waiting" else arguments.small,
        throughput=arguments.throughput,
        drain_s=arguments.drain,
        timed=True,
    )


def figures_of(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures that are compared, of one run; None where there is none."""

    def statement(name: str, figure: str) -> float | None:
        return result["statements"].get(name, {}).get(figure)

    return {
        "submitted_per_s": result["submitted_per_s"],
        "delivered_per_s": result["delivered_per_s"],
        "claim_p50_ms": statement("claim", "p50_ms"),
        "claim_p99_ms": statement("claim", "p99_ms"),
        "claim_urgent_p50_ms": statement("claim, lane 0", "p50_ms"),
        "claim_urgent_p99_ms": statement("claim, lane 0", "p99_ms"),
        "settle_p50_ms": statement("settle", "p50_ms"),
        "settle_p99_ms": statement("settle", "p99_ms"),
        "daemon_cpu_s_per_1000": result["cpu_s_per_1000"]["daemon"],
        "postgres_cpu_s_per_1000": result["cpu_s_per_1000"].get("postgres"),
        "rss_mb": result["rss_mb"],
        "wal_bytes_per_job": result["wal_bytes_per_job"],
        "emergencies_p50_ms": result["emergencies"]["p50_ms"],
        "emergencies_p99_ms": result["emergencies"]["p99_ms"],
    }


def compared(condition: str, pairs: list[tuple[dict[str, float | None], dict[str, float | None]]]) -> dict[str, Any]:
    """Compare B with A, pair by pair: the middle of each, and the middle of their ratios.

    ``worse`` names the figures that got worse by more than neighbours in time differ anyhow.
    """
    figures = {}
    for name in FIGURES:
        both = [(a, b) for a, b in ((one.get(name), other.get(name)) for one, other in pairs) if a and b is not None]
        if both:
            figures[name] = {
                "a": statistics.median(a for a, _ in both),
                "b": statistics.median(b for _, b in both),
                "ratio": statistics.median(b / a for a, b in both),
                "ratios": [b / a for a, b in both],
            }
    worse = [
        name
        for name, one in figures.items()
        if (one["ratio"] < 1 / TRUSTED if FIGURES[name] else one["ratio"] > TRUSTED)
    ]
    return {"condition": condition, "pairs": len(pairs), "figures": figures, "worse": worse}


async def play(
    server: Server, number: int, arguments: argparse.Namespace, condition: str, *, is_b: bool
) -> dict[str, Any]:
    """Play one run on a database of its own, and leave nothing behind."""
    name = f"tocsin_bench_{os.getpid()}_{number}"
    async with run_on(server, name, keep_logs=arguments.keep_logs) as (url, folder, held):
        if condition == FLOOD:
            plan = flood.plan_of(arguments.flood, arguments.throughput, arguments.backlog, arguments.warm)
            return await Flood(plan, url, folder, held, emergencies=arguments.flood).play()
        plan = plan_of(arguments, condition, is_b=is_b)
        run = Beside(plan, url, folder, held, arguments, condition if is_b else None)
        return await run.play() | run.vacuums


async def bench(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Play the conditions, or the flood; gives the comparisons and the runs."""
    end_when_told()
    comparisons: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    with Server(arguments.database) as server:
        if arguments.flood:
            runs.append(await play(server, 0, arguments, FLOOD, is_b=True))
            tell(arguments, flood.lines(runs[0]["flood"]), runs[0])
            return comparisons, runs
        for condition in arguments.conditions:
            pairs = []
            for _ in range(arguments.rounds):
                pair = []
                for is_b in (False, True):
                    runs.append(await play(server, len(runs), arguments, condition, is_b=is_b))
                    pair.append(figures_of(runs[-1]))
                    tell(arguments, (), runs[-1])
                pairs.append((pair[0], pair[1]))
            comparisons.append(compared(condition, pairs))
            tell(arguments, lines(comparisons[-1]))
    return comparisons, runs


def tell(arguments: argparse.Namespace, words: Iterable[str], run: dict[str, Any] | None = None) -> None:
    """Print figures for people unless JSON is wanted, and what is wrong with a run in any case."""
    if not arguments.json:
        for line in words:
            print(line, flush=True)
    for problem in run["account"]["problems"] if run is not None else ():
        print(f"PROBLEM: {run['run']}: {problem}", file=sys.stderr)


def lines(comparison: dict[str, Any]) -> Iterator[str]:
    """One comparison for people to read."""
    yield f"\n{comparison['condition']}: {CONDITIONS[comparison['condition']]}"
    yield f"  {'':<26}{'A':>12}{'B':>12}{'B / A':>8}   each pair"
    for name, one in comparison["figures"].items():
        each = " ".join(f"{ratio:.2f}" for ratio in one["ratios"])
        mark = "  WORSE" if name in comparison["worse"] else ""
        yield f"  {name:<26}{one['a']:>12,.3f}{one['b']:>12,.3f}{one['ratio']:>8.2f}   {each}{mark}"


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    told = "; ".join(f"{name}: {text}" for name, text in CONDITIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_backlog", description="Independence from the backlog, measured.", epilog=told
    )
    add = parser.add_argument
    add("--flood", type=int, default=0, metavar="N", help="play a flood of so many emergencies, and nothing else")
    add("--conditions", nargs="+", choices=tuple(CONDITIONS), default=list(CONDITIONS), help="default: all")
    add("--small", type=int, default=1_000, help="jobs that wait in A, and in B unless the condition is waiting")
    add("--backlog", type=int, default=200_000, help="official figures take 5,000,000")
    add("--deferred", type=int, default=200_000, help="official figures take 1,000,000")
    add("--bulk", type=int, default=100_000, help="official figures take 1,000,000")
    add(
        "--held",
        type=float,
        default=10.0,
        help="seconds that a transaction is open when the window begins; A waits too",
    )
    add(
        "--throughput",
        type=int,
        default=2_000,
        help="segments a second, less than the machine sustains: A must reach it",
    )
    add("--rounds", type=kept.at_least_one, default=2, help="of A B")
    add("--seconds", type=float, default=20.0, help="of each window; official figures take 60")
    add("--warm", type=float, default=5.0, help="seconds before the window, at least")
    add("--drain", type=float, default=5.0, help="seconds after the load in which the rest may go out")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    add("--keep-logs", action="store_true", help="leave the processes' logs, and say where")
    kept.add_options(parser)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code: 1 when a job is not accounted for, 3 when a run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    played, code = finished(bench(arguments))
    if played is None:
        return code
    comparisons, runs = played
    kept.keep(arguments, kept.document("backlog", words, {"comparisons": comparisons, "runs": runs}))
    return 1 if any(run["account"]["problems"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
