"""The queue alone, without SMPP: ours beside what a team would pick today, on the same server and with the same jobs.

``python -m benchmarks.bench_queue`` makes a server of its own and plays each queue on a new database, in turns.
README.md says what each one's bookkeeping is, and how to read the figures. Exit 0 only when every job is accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import results as kept
from benchmarks.enqueuer import BACKLOG_CALL, recipient, texts
from benchmarks.measure import calibrate, cpu_s, middle, postgres_cpu_s
from benchmarks.queue_peers import PgQueuer, Procrastinate, missing
from benchmarks.queues import OneByOne, Ours, Queue, StatusColumn
from benchmarks.stage import TOLD_TO_END, Failed, Server, end_when_told, postmaster_pid, version_of
from dispatcher.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES: Final[dict[str, type[Queue]]] = {
    "ours": Ours,
    "status": StatusColumn,
    "one-by-one": OneByOne,
    "pgqueuer": PgQueuer,
    "procrastinate": Procrastinate,
}
PEERS: Final = ("pgqueuer", "procrastinate")
WORK_S: Final = 3_600.0  # a worker whose jobs fail would wait for ever
WAL: Final = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
FIGURES: Final = ("jobs_per_s", "client_cpu_s_per_1000", "postgres_cpu_s_per_1000", "wal_bytes_per_job")


def calls(count: int, seed: int) -> Iterator[list[dict[str, str]]]:
    """Make so many jobs of one part, in calls of 5,000; the same ones for the same seed."""
    generator = random.Random(seed)
    bodies = texts(generator, 100, 160, 500)
    for begin in range(0, count, BACKLOG_CALL):
        yield [
            {
                "recipient": recipient(9, generator.randrange(10**8)),
                "body": generator.choice(bodies),
                "category": "marketing",
            }
            for _ in range(min(BACKLOG_CALL, count - begin))
        ]


async def measured(queue: Queue, backlog: int, jobs: int, seed: int, control: asyncpg.Connection) -> dict[str, Any]:
    """Fill the queue, work some of it under the stopwatch, and account for all of it."""
    filled, enqueued = 0.0, 0
    for call in calls(backlog, seed):
        begun = time.perf_counter()
        enqueued += await queue.enqueue(call)
        filled += time.perf_counter() - begun
    await control.execute("vacuum analyze", timeout=600)  # as autovacuum would have by then, and for all alike
    await control.execute("checkpoint")
    postmaster = await postmaster_pid(control)
    calibrated = calibrate()
    wal, client = await control.fetchval(WAL), cpu_s(os.getpid())
    server = postgres_cpu_s(postmaster) if postmaster else None
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(WORK_S):
            worked = await queue.work(min(jobs, backlog))
    except TimeoutError:
        raise Failed(f"{queue.name}: not done after {WORK_S:.0f} s") from None
    seconds = time.perf_counter() - begun
    client = cpu_s(os.getpid()) - client
    server = postgres_cpu_s(postmaster) - server if postmaster and server is not None else None
    wal = await control.fetchval(WAL) - wal
    problems = (await queue.account()).problems(enqueued, worked)
    if enqueued != backlog:
        problems.append(f"{backlog} jobs offered, {enqueued} taken")
    if worked < min(jobs, backlog):
        problems.append(f"{worked} of {min(jobs, backlog)} jobs worked")
    each = max(1, worked)
    return {
        "queue": queue.name,
        "postgresql": version_of(control),
        "backlog": backlog,
        "worked": worked,
        "seconds": seconds,
        "calibration": [calibrated, calibrate()],
        "enqueued_per_s": enqueued / filled,
        "jobs_per_s": worked / seconds,
        "client_cpu_s_per_1000": client / each * 1000,
        "postgres_cpu_s_per_1000": None if server is None else server / each * 1000,
        "wal_bytes_per_job": wal / each,
        "problems": problems,
    }


async def play(
    kind: type[Queue], backlog: int, seed: int, server: Server, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Play one queue on a database of its own, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="tocsin-queue-", ignore_cleanup_errors=True) as folder:
        async with server.database(f"tocsin_bench_{os.getpid()}_queue") as url:
            control = await asyncpg.connect(url)
            queue = kind(url, Path(folder), batch=arguments.batch, concurrency=arguments.concurrency)
            try:
                await queue.open()
                try:
                    return await measured(queue, backlog, arguments.jobs, seed, control)
                finally:
                    await queue.close()
            finally:
                await control.close()


def line(result: dict[str, Any]) -> str:
    """One run for people to read."""
    postgres = result["postgres_cpu_s_per_1000"]
    speeds = " ".join(f"{speed:.1f}" for speed in result.get("calibration", ()))
    return (
        f"{result['queue']:<15}{result['backlog']:>10,}{result['worked']:>9,.0f}{result['jobs_per_s']:>9,.0f}"
        f"{result['client_cpu_s_per_1000']:>9.3f}{'-' if postgres is None else f'{postgres:.3f}':>10}"
        f"{result['wal_bytes_per_job']:>9,.0f}   {speeds}"
    )


def medians(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The middle of the rounds, for each queue at each backlog."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["queue"], result["backlog"]), []).append(result)
    return [
        {"queue": queue, "backlog": backlog, "rounds": len(group)}
        | {name: middle([result[name] for result in group]) for name in ("worked", *FIGURES)}
        for (queue, backlog), group in groups.items()
    ]


async def bench(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Play the rounds, the queues in turns. Ctrl-C and SIGTERM end it, and remove what was made."""
    end_when_told()
    results = []
    with Server(arguments.database) as server:
        for backlog in arguments.backlog:
            for seed in range(arguments.rounds):
                for name in arguments.queues:
                    results.append(await play(QUEUES[name], backlog, seed, server, arguments))
                    if not arguments.json:
                        print(line(results[-1]), flush=True)
                    for problem in results[-1]["problems"]:
                        print(f"PROBLEM: {results[-1]['queue']}: {problem}", file=sys.stderr)
    return results


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_queue", description="The queue alone, measured.")
    add = parser.add_argument
    add("--queues", nargs="+", choices=tuple(QUEUES), default=list(QUEUES), help="default: all")
    add("--backlog", nargs="+", type=kept.at_least_one, default=[1_000, 10_000], help="jobs waiting at first")
    add("--jobs", type=kept.at_least_one, default=1_500, help="of the backlog to work, at most")
    add("--rounds", type=kept.at_least_one, default=2, help="of all queues in turns")
    add("--batch", type=kept.at_least_one, default=100, help="jobs a claim, and a write-back")
    add("--concurrency", type=kept.at_least_one, default=10, help="jobs at a time, where a queue takes them one by one")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    kept.add_options(parser)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code: 1 when a job is not accounted for, 3 when a run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    absent = [told for name in arguments.queues if name in PEERS and (told := missing(name))]
    arguments.queues = [name for name in arguments.queues if name not in PEERS or missing(name) is None]
    for told in absent:
        print(told, file=sys.stderr)
    if not arguments.json:
        print("queue             backlog   worked   jobs/s   client  postgres      WAL   calibration")
        print("                                          CPU-s/1,000 CPU-s/1,000   B/job   M rounds/s", flush=True)
    try:
        results = asyncio.run(bench(arguments))
    except asyncio.CancelledError:
        return TOLD_TO_END
    except (Failed, StoreUnavailable, OSError, asyncpg.PostgresError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 3
    figures = {"missing": absent, "runs": results, "medians": medians(results)}
    peers = [name for name in arguments.queues if name in PEERS]
    kept.keep(arguments, kept.document("queue", words, figures, peers))
    if not arguments.json:
        print("\nmedians of the rounds:")
        for middle in medians(results):
            print(line(middle).rstrip())
    return 1 if any(result["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
