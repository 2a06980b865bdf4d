"""What refusals, consent and hours cost: the same load with and without them.

``python -m benchmarks.bench_policy`` makes a server of its own and plays the journey at full speed, A B A B, each run
on a new database. The load goes to a pool of numbers. In B every tenth number of it is suppressed, marketing and
informational messages ask for a consent that each number has given, and each category that may have one has a window,
which is open. Exit 0 only when every job that was enqueued is accounted for, and exactly those to suppressed numbers
were blocked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from benchmarks import results as kept
from benchmarks.bench_journey import COUNT_S, Run
from benchmarks.enqueuer import SUPPRESSED
from benchmarks.plan import Plan
from benchmarks.report import table
from benchmarks.stage import Child, Server, end_when_told, finished, run_on

if TYPE_CHECKING:
    from pathlib import Path

ASKED_FOR: Final = {"informational": 4, "marketing": 5}  # categories that ask for consent, and their kind of number
ZONE: Final = ZoneInfo("Europe/London")  # of the pool's numbers
# Tables at their size, as their functions would have left them: an event for each, and the state that it gives.
SUPPRESS: Final = """
with numbers as (
    select '447' || kind || lpad((10 * n + $2)::text, 8, '0') as recipient
    from generate_series(0, 5) kind, generate_series(0, $1 / 10 - 1) n
), told as (
    insert into tocsin.suppression_event (recipient, scope, value, action, reason, source)
    select recipient, 'everything', '', 'added', 'INVALID', 'import' from numbers
)
insert into tocsin.suppression (recipient, scope, value, reason, at)
select recipient, 'everything', '', 'INVALID', now() from numbers
"""
CONSENT: Final = """
with numbers as (select '447' || $1 || lpad(n::text, 8, '0') as recipient from generate_series(0, $2 - 1) n), told as (
    insert into tocsin.consent_event (captured_at, recipient, category, action, method)
    select now(), recipient, $3, 'granted', 'import' from numbers
)
insert into tocsin.consent (recipient, category, is_granted, captured_at) select recipient, $3, true, now() from numbers
"""
ANALYZE: Final = "vacuum (analyze) tocsin.suppression, tocsin.consent"


class Ruled(Run):
    """A run to a pool of numbers, with rules or without."""

    def __init__(self, plan: Plan, url: str, folder: Path, held: list[Child], *, numbers: int, is_ruled: bool) -> None:
        super().__init__(plan, url, folder, held)
        self.numbers = numbers
        self.is_ruled = is_ruled
        if is_ruled:
            self.refusals = frozenset({"blocked"})

    def _configuration(self) -> str:
        if not self.is_ruled:
            return ""
        hour = datetime.now(ZONE).hour
        opens, closes = ((hour + shift) % 24 for shift in (-2, 8))
        windowed = '["staff", "conversational", "transactional", "informational", "marketing"]'
        window = f'[[window]]\ncategories = {windowed}\nopens = "{opens:02}:00"\ncloses = "{closes:02}:00"\n'
        return window + "".join(f'[[category]]\nname = "{name}"\nconsent = true\n' for name in ASKED_FOR)

    async def _preload(self) -> None:
        if self.is_ruled:
            await self.control.execute(SUPPRESS, self.numbers, SUPPRESSED, timeout=COUNT_S)
            for category, kind in ASKED_FOR.items():
                await self.control.execute(CONSENT, str(kind), self.numbers, category, timeout=COUNT_S)
            await self.control.execute(ANALYZE, timeout=COUNT_S)
            await self.control.execute("checkpoint", timeout=COUNT_S)

    def _load_options(self) -> dict[str, object]:
        return {"numbers": self.numbers, "suppressed": int(self.is_ruled)}

    async def _account(
        self, clients: list[dict[str, Any]], seen: dict[str, Any], daemon_exit: int, *, drained: bool
    ) -> dict[str, Any]:
        account = await super()._account(clients, seen, daemon_exit, drained=drained)
        wanted = sum(client.get("suppressed", 0) for client in clients)
        blocked = account["states"].get("blocked", 0)
        if blocked != wanted:
            account["problems"].append(f"{wanted} jobs to suppressed numbers, {blocked} blocked")
        rows = {
            name: await self.control.fetchval(f"select count(*) from tocsin.{name}", timeout=COUNT_S)
            for name in ("suppression", "consent")
        }
        return account | {"blocked": blocked, "rows": rows}


def plan_of(arguments: argparse.Namespace, *, is_ruled: bool) -> Plan:
    """Plan a run of either kind."""
    return Plan(
        name="ruled" if is_ruled else "free",
        seconds=arguments.seconds,
        warm_s=arguments.warm,
        emergencies_per_s=0.0,
        drain_s=arguments.drain,
        statements=False,
    )


def compared(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Compare B with A, pair by pair: jobs on the wire in a second, and what the CPU paid for 1,000 of them.

    ``decided`` counts the blocked among B's jobs: each was claimed, judged and settled too.
    """
    told: dict[str, Any] = {}
    for name in ("submitted_per_s", "decided_per_s", "daemon_cpu_s_per_1000", "postgres_cpu_s_per_1000"):
        both = [(_figure(a, name), _figure(b, name)) for a, b in pairs]
        told[name] = {
            "a": statistics.median(a for a, _ in both),
            "b": statistics.median(b for _, b in both),
            "ratio": statistics.median(b / a for a, b in both),
            "ratios": [b / a for a, b in both],
        }
    return told


def _figure(result: dict[str, Any], name: str) -> float:
    if name == "decided_per_s":
        account = result["account"]
        return float(result["submitted_per_s"]) * account["enqueued"] / (account["enqueued"] - account["blocked"])
    if name.endswith("_cpu_s_per_1000"):
        return float(result["cpu_s_per_1000"].get(name.partition("_")[0]) or 0.0)
    return float(result[name])


async def bench(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Play the rounds; gives the comparison and the runs."""
    end_when_told()
    runs: list[dict[str, Any]] = []
    with Server(arguments.database) as server:
        for number in range(2 * arguments.rounds):
            is_ruled = number % 2 == 1
            name = f"tocsin_bench_{os.getpid()}_{number}"
            async with run_on(server, name, keep_logs=arguments.keep_logs) as (url, folder, held):
                plan = plan_of(arguments, is_ruled=is_ruled)
                run = Ruled(plan, url, folder, held, numbers=arguments.numbers, is_ruled=is_ruled)
                runs.append(await run.play())
            if not arguments.json:
                print(table(runs[-1]), flush=True)
            for problem in runs[-1]["account"]["problems"]:
                print(f"PROBLEM: {runs[-1]['run']}: {problem}", file=sys.stderr)
    return compared(list(zip(runs[::2], runs[1::2], strict=True))), runs


def lines(comparison: dict[str, Any]) -> list[str]:
    """The comparison for people to read."""
    told = [f"{'':<26}{'A: free':>12}{'B: ruled':>12}{'B / A':>8}   each pair"]
    for name, one in comparison.items():
        each = " ".join(f"{ratio:.2f}" for ratio in one["ratios"])
        told.append(f"{name:<26}{one['a']:>12,.3f}{one['b']:>12,.3f}{one['ratio']:>8.2f}   {each}")
    return told


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_policy", description="What refusals, consent and hours cost, measured."
    )
    add = parser.add_argument
    add("--numbers", type=int, default=50_000, help="numbers of each lane; official figures take 850,000")
    add("--rounds", type=kept.at_least_one, default=2, help="of A B")
    add("--seconds", type=float, default=20.0, help="of each window; official figures take 30")
    add("--warm", type=float, default=5.0, help="seconds before the window")
    add("--drain", type=float, default=120.0, help="seconds in which the queue must drain")
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
    comparison, runs = played
    if not arguments.json:
        print("\n".join(lines(comparison)), flush=True)
    kept.keep(arguments, kept.document("policy", words, {"comparison": comparison, "runs": runs}))
    return 1 if any(run["account"]["problems"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
