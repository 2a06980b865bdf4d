"""How long an emergency waits behind a million marketing jobs: commit -> submit_sm, at the sink's clock.

``python -m benchmarks.bench_emergency`` makes a server of its own, measures the most that the journey sustains there,
and plays three conditions, each on a new database with ``--backlog`` marketing jobs before the daemon starts.
Emergencies are single rows, each enqueued in a transaction of its own, Poisson. Exit 0 only when every job is accounted
for, every emergency arrived, and the throttled link held its limit in every sliding second.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any, Final

from benchmarks import results as kept
from benchmarks.bench_journey import play
from benchmarks.plan import NO_LIMIT, Plan, at_share, plan_of
from benchmarks.report import table
from benchmarks.stage import Server, end_when_told, finished

# The conditions, and the run of the journey that each one is.
CONDITIONS: Final = {"three-quarters": "three-quarters", "saturated": "backlog", "throttled": "throttled"}
MORE: Final = 1.15  # the window, in times of what so many emergencies take: they come by chance, and some are capped
DRAIN_S: Final = 5.0  # after the load; the backlog outlasts it, an emergency does not
FIGURES: Final = ("p50_ms", "p90_ms", "p99_ms", "most_ms")


def plans_of(arguments: argparse.Namespace, maximum: float) -> list[Plan]:
    """Plan the conditions, given the segments a second that the journey sustains."""
    base = Plan(name="", warm_s=arguments.warm, drain_s=DRAIN_S, emergencies_per_s=arguments.emergencies_per_s)
    made = []
    for condition in arguments.conditions:
        plan = plan_of(CONDITIONS[condition], base, backlog=arguments.backlog, throughput=arguments.throughput)
        if condition == "three-quarters":
            plan = at_share(plan, maximum)
        seconds = max(arguments.seconds, arguments.emergencies / plan.emergencies_per_s * MORE)
        made.append(replace(plan, name=condition, backlog=arguments.backlog, owed=NO_LIMIT, seconds=seconds))
    return made


def judge(result: dict[str, Any]) -> None:
    """Add to the account's problems what an emergency must not meet."""
    problems, limit, most = result["account"]["problems"], result["throughput_per_s"], result["sink"]
    if result["emergencies"]["never_arrived"]:
        problems.append(f"{result['emergencies']['never_arrived']} emergencies never arrived")
    if not result["emergencies"]["count"]:
        problems.append("no emergency was committed inside the window")
    if result["run"] == "throttled" and most["most_in_any_second"] > limit:
        problems.append(f"{most['most_in_any_second']} segments in one second, on a link of {limit}")


def lines(runs: list[dict[str, Any]]) -> list[str]:
    """Compare the conditions, for people to read."""
    told = [f"\n{'emergencies, ms':<18}{'count':>8}{'p50':>9}{'p90':>9}{'p99':>9}{'most':>9}   any second, limit"]
    for run in runs:
        urgent = run["emergencies"]
        times = "".join(f"{'-' if urgent[name] is None else f'{urgent[name]:.1f}':>9}" for name in FIGURES)
        limits = f"{run['sink']['most_in_any_second']:,}, {run['throughput_per_s']:,}"
        told.append(f"{run['run']:<18}{urgent['count']:>8,}{times}   {limits}")
    return told


async def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Play the maximum, then the conditions. Ctrl-C and SIGTERM end the children, and remove what was made."""
    end_when_told()
    runs: list[dict[str, Any]] = []
    with Server(arguments.database) as server:

        async def one(plan: Plan) -> dict[str, Any]:
            name = f"tocsin_bench_{os.getpid()}_{len(runs)}_{plan.name.replace('-', '_')}"
            result = await play(plan, server, name, keep_logs=arguments.keep_logs)
            if not arguments.json:
                print(table(result), flush=True)
            return result

        maximum, measured = arguments.maximum, None
        if not maximum and "three-quarters" in arguments.conditions:
            measured = await one(
                plan_of("sustained", Plan("", arguments.seconds, arguments.warm), backlog=0, throughput=0)
            )
            maximum = measured["segments_per_s"]
        for plan in plans_of(arguments, maximum):
            runs.append(await one(plan))
            judge(runs[-1])
    for run in runs if measured is None else (measured, *runs):
        for problem in run["account"]["problems"]:
            print(f"PROBLEM: {run['run']}: {problem}", file=sys.stderr)
    return {"backlog": arguments.backlog, "maximum_per_s": maximum, "maximum": measured, "runs": runs}


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_emergency", description="How long emergencies wait."
    )
    add = parser.add_argument
    add("--conditions", nargs="+", choices=tuple(CONDITIONS), default=list(CONDITIONS), help="default: all")
    add("--backlog", type=int, default=100_000, help="marketing jobs waiting; official figures take 1,000,000")
    add("--emergencies", type=int, default=1_000, help="to expect in each window, which lasts for as long as they take")
    add(
        "--emergencies-per-s",
        type=float,
        default=40.0,
        help="Poisson; on the throttled link half of what its reserve is",
    )
    add("--seconds", type=float, default=30.0, help="of the window of the maximum, and of each other at least")
    add("--warm", type=float, default=5.0, help="seconds before each window")
    add("--maximum", type=float, default=0.0, help="segments a second in place of a measured maximum")
    add("--throughput", type=int, default=100, help="segments a second of the throttled link")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    add("--keep-logs", action="store_true", help="leave the processes' logs, and say where")
    kept.add_options(parser)
    arguments = parser.parse_args(words)
    if min(arguments.backlog, arguments.emergencies, arguments.throughput) < 1 or arguments.emergencies_per_s <= 0:
        parser.error("--backlog, --emergencies, --throughput and --emergencies-per-s take more than 0")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code: 1 when something does not hold, 3 when a run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    figures, code = finished(bench(arguments))
    if figures is None:
        return code
    if not arguments.json:
        print("\n".join(lines(figures["runs"])))
    kept.keep(arguments, kept.document("emergency", words, figures))
    played = [figures["maximum"], *figures["runs"]]
    return 1 if any(run["account"]["problems"] for run in played if run is not None) else 0


if __name__ == "__main__":
    sys.exit(main())
