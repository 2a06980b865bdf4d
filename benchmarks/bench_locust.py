"""The apps of a hospital against a whole Tocsin: database, sink, daemon and locust by one command.

``python -m benchmarks.bench_locust --seconds 20 --users 20`` makes all of it, prints a table, and removes it. The users
and the rows are those of ``locustfile.py``; locust runs in a process of its own. Exit 0 only when no request failed
and every job is delivered, in the database as at the sink. 1: PROBLEM; 2: usage, or locust is not installed;
3: the run could not be played; 130: told to end.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks import results as kept
from benchmarks.bench_journey import OPEN, SENT, STATES, STILL_S
from benchmarks.ledger import Ledger
from benchmarks.measure import calibrate
from benchmarks.plan import UNLIMITED
from benchmarks.stage import (
    CONFIGURATION,
    SENDER,
    TOLD_TO_END,
    Child,
    Failed,
    Server,
    bound,
    children,
    end_when_told,
    version_of,
)

START_S: Final = 30.0  # for locust to import, and to let its users end their calls


def missing() -> str | None:
    """What to install; None when it can be played."""
    if importlib.util.find_spec("locust") is not None:
        return None
    return "locust is not installed: pip install --require-hashes -r requirements-bench.txt"


async def play(arguments: argparse.Namespace, server: Server, database: str) -> dict[str, Any]:
    """Play the run on a database of its own, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="tocsin-locust-", ignore_cleanup_errors=True) as folder:
        async with server.database(database) as url:
            with children() as held:
                return await _play(arguments, url, Path(folder), held)


async def _play(arguments: argparse.Namespace, url: str, folder: Path, held: list[Child]) -> dict[str, Any]:
    ledger = Ledger(folder / "ledger", create=True)
    control = await asyncpg.connect(url)
    try:
        before = calibrate()
        sink = _start(held, "sink", ["-m", "benchmarks.sink", "--ledger", str(folder / "ledger")], folder)
        daemon = await _start_daemon(held, url, folder, (await sink.hear())["port"], ledger)
        figures = await _run_locust(arguments, held, url, folder)
        await _receipts_answered(ledger, arguments.drain)
        daemon.terminate()
        daemon_exit = await daemon.ended()
        sink.say("0 0")
        account = await _account(control, figures, await sink.hear(1), daemon_exit)
        return {
            **figures,
            "postgresql": version_of(control),
            "calibration": {"before": before, "after": calibrate()},
            "account": account,
        }
    finally:
        await control.close()
        ledger.close()


def _start(
    held: list[Child], name: str, words: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Child:
    child = Child(name, words, folder, environment)
    held.append(child)
    return child


async def _start_daemon(held: list[Child], url: str, folder: Path, port: int, ledger: Ledger) -> Child:
    """Apply the configuration, start the daemon and wait until it is bound."""
    file = folder / "tocsin.toml"
    file.write_text(
        CONFIGURATION.format(
            directory=folder,
            url=url,
            port=port,
            window=1_000,
            throughput=UNLIMITED,
            sessions=1,
            sender=SENDER,
        )
    )
    apply = _start(held, "apply", ["-m", "benchmarks.daemon", "apply", "--config", str(file)], folder)
    if await apply.ended():
        raise Failed(f"the configuration was not applied: {apply.last_words()}")
    daemon = _start(held, "daemon", ["-m", "benchmarks.daemon", "run", "--config", str(file)], folder)
    await bound(daemon, ledger)
    return daemon


async def _run_locust(arguments: argparse.Namespace, held: list[Child], url: str, folder: Path) -> dict[str, Any]:
    """Run locust to its end and give its report."""
    words = [
        *("-m", "locust", "-f", "benchmarks/locustfile.py", "--headless", "--only-summary", "--skip-log-setup"),
        *("--users", str(arguments.users), "--spawn-rate", str(arguments.users)),
        *("--run-time", f"{arguments.seconds}s", "--sample", str(arguments.sample), "--drain", str(arguments.drain)),
        *("--report", str(folder / "report.json")),
    ]
    child = _start(held, "locust", words, folder, {"TOCSIN_DATABASE_URL": url})
    await child.ended(arguments.seconds + arguments.drain + 2 * START_S)
    try:
        return dict(json.loads((folder / "report.json").read_text()))
    except FileNotFoundError:
        raise Failed(f"locust left no report: exit {child.process.returncode}; {child.last_words()}") from None


async def _receipts_answered(ledger: Ledger, timeout_s: float) -> None:
    """Wait until the sink has seen its last receipt answered: an app may read of it before."""
    until = time.monotonic() + timeout_s
    while ledger[cell.OWED] and time.monotonic() < until:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(STILL_S)


async def _account(
    control: asyncpg.Connection, figures: dict[str, Any], seen: dict[str, Any], daemon_exit: int
) -> dict[str, Any]:
    """What locust was told, what the database holds and what the sink saw: the same jobs."""
    states = {row["state"]: row["count"] for row in await control.fetch(STATES)}
    (sent,) = await control.fetch(SENT)
    enqueued, found, delivered = sum(figures["outcomes"].values()), sum(states.values()), states.get("delivered", 0)
    failures = sum(row["failures"] for row in figures["rows"])
    problems = list(figures["problems"])
    if not enqueued:
        problems.append("nothing was enqueued")
    if failures:
        problems.append(f"{failures} requests failed: {'; '.join(figures['errors'])}")
    if found != enqueued:
        problems.append(f"{enqueued} enqueued, {found} in the database: {enqueued - found} lost")
    if delivered != found:
        problems.append(f"{found - delivered} jobs are not delivered: {states}")
    if sent["accepted"] != seen["segments"]:
        problems.append(f"{seen['segments']} segments at the sink, {sent['accepted']} accepted in the database")
    if sent["received"] != seen["receipts"]:
        problems.append(f"{seen['receipts']} receipts at the sink, {sent['received']} in the database")
    if daemon_exit:
        problems.append(f"the daemon ended with {daemon_exit}")
    return {
        "enqueued": enqueued,
        "delivered": delivered,
        "open": sum(states.get(state, 0) for state in OPEN),
        "lost": enqueued - found,
        "segments": seen["segments"],
        "states": states,
        "problems": problems,
    }


def table(result: dict[str, Any]) -> str:
    """Lay the rows out, with the account below."""
    account, calibration = result["account"], result["calibration"]
    lines = [f"{'':<40}{'requests':>9}{'failures':>9}{'p50':>8}{'p95':>8}{'p99':>8} ms"]
    lines += [
        f"{row['type'] + ' ' + row['name']:<40}{row['requests']:>9,}{row['failures']:>9,}"
        f"{row['p50_ms']:>8,.0f}{row['p95_ms']:>8,.0f}{row['p99_ms']:>8,.0f}"
        for row in result["rows"]
    ]
    lines += [
        f"JOB rows: one job in {result['sample']}, {result['sampled']:,} of {account['delivered']:,}",
        f"gevent's hub: {result['hub_latest_ms']:.0f} ms late at most",
        "account: " + ", ".join(f"{account[name]:,} {name}" for name in ("enqueued", "delivered", "open", "lost")),
        f"segments at the sink: {account['segments']:,}",
        f"calibration: {calibration['before']:.1f} before, {calibration['after']:.1f} after (M rounds/s)",
        *(f"PROBLEM {problem}" for problem in account["problems"]),
    ]
    return "\n".join(lines)


async def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Play the run. Ctrl-C and SIGTERM end the children, and remove what was made."""
    end_when_told()
    with Server(arguments.database) as server:
        return await play(arguments, server, f"tocsin_bench_{os.getpid()}_locust")


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_locust", description="Upstream apps, by locust.")
    add = parser.add_argument
    add("--seconds", type=int, default=20, help="of load, whole ones (20)")
    add("--users", type=int, default=20, help="users, each a connection (20); PostgreSQL's default allows about 80")
    add("--sample", type=int, default=10, help="one job in so many has its times read (10)")
    add("--drain", type=float, default=60.0, help="seconds in which what is open must be delivered (60)")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    kept.add_options(parser)
    arguments = parser.parse_args(words)
    if min(arguments.seconds, arguments.users, arguments.sample) < 1:
        parser.error("--seconds, --users and --sample take 1 or more")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    if told := missing():
        print(f"bench: {told}", file=sys.stderr)
        return 2
    try:
        result = asyncio.run(bench(arguments))
    except asyncio.CancelledError:
        return TOLD_TO_END
    except Failed as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 3
    kept.keep(arguments, kept.document("locust", words, result, ["locust", "psycopg"]))
    if not arguments.json:
        print(table(result))
    return 1 if result["account"]["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
