"""The runs of the journey benchmark, and its command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.enqueuer import TWO_PARTS
from benchmarks.results import add_options, at_least_one
from benchmarks.stage import SENDER

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFICIAL: Final = ("sustained", "backlog", "three-quarters", "throttled")
SMALLER: Final = (
    "lanes", "window-10", "window-100", "receipts-1", "receipts-10", "receipts-100", "idle", "start", "inside",
)  # fmt: skip
RUNS: Final = OFFICIAL + SMALLER
UNLIMITED: Final = 100_000  # the most that throughput_per_s takes
NO_LIMIT: Final = 2**31
SHARE: Final = 0.75  # of the measured maximum
LANE_WEIGHTS: Final = (16, 8, 4, 2, 1)  # of lanes 1 to 5


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    name: str
    seconds: float = 30.0  # of the window
    warm_s: float = 5.0
    clients: int = 2  # processes that enqueue the load
    depth: int = 4_000  # jobs of the load enqueued and not on the wire, past which nobody enqueues
    owed: int = 10_000  # receipts that the sink owes, past which nobody enqueues
    offered: float = 0.0  # jobs a second in place of depth and owed
    two_parts: float = TWO_PARTS  # share of the load
    emergencies_per_s: float = 40.0  # single ones
    most_emergencies: int = 0  # in any 1.1 s; 0: no limit
    backlog: int = 0  # jobs enqueued before the daemon starts
    backlog_of_lanes: bool = False  # lanes 1 to 5 alike, in place of marketing
    throughput: int = UNLIMITED  # throughput_per_s of the link
    window: int = 1_000
    sessions: int = 1
    answer_ms: float = 5.0
    deliver_window: int = 100
    sender: str = SENDER
    mo_per_s: float = 0.0  # texts from handsets to the sender, which is a number then
    drain_s: float = 120.0
    kill: bool = False  # kill -9 the daemon in the middle, and start it again
    profile: Path | None = None
    statements: bool = False
    log: bool = False  # the sink writes each submit_sm down
    timed: bool = False  # the daemon's SQL alone, without the samples


def plan_of(name: str, base: Plan, *, backlog: int, throughput: int) -> Plan:
    """Give one run its particulars."""
    plan = replace(base, name=name)
    kind, _, number = name.partition("-")
    alone = replace(plan, emergencies_per_s=0.0)
    if name in {"backlog", "three-quarters"}:
        return replace(plan, backlog=backlog, owed=NO_LIMIT)  # the backlog goes on however many receipts are owed
    if name == "throttled":
        reserve = max(1, min(20, throughput // 10))
        return replace(
            plan,
            throughput=throughput,
            depth=min(plan.depth, 5 * throughput),
            emergencies_per_s=min(plan.emergencies_per_s, reserve / 2),
            most_emergencies=reserve,
        )
    if name == "lanes":
        lasting = min(2_000, backlog // 40)  # lane 1 has a fifth of the backlog and takes half of this each second
        return replace(
            alone,
            clients=0,
            backlog=backlog,
            backlog_of_lanes=True,
            throughput=lasting,
            seconds=min(plan.seconds, 10.0),
        )
    if kind == "window":
        return replace(alone, window=int(number), answer_ms=20.0, depth=min(plan.depth, 1_000))
    if kind == "receipts":
        return replace(alone, deliver_window=int(number), owed=1_000 if number == "1" else plan.owed)
    if name == "idle":
        return replace(alone, clients=0)
    if name == "inside":
        return replace(plan, statements=True)
    if name == "start":
        return replace(alone, clients=0, backlog=4_000, throughput=1_000, kill=True, seconds=4.0, warm_s=0.0)
    return plan


def at_share(plan: Plan, maximum: float) -> Plan:
    """Throttle the link to ``SHARE`` of the segments a second that were measured as the most."""
    return replace(plan, throughput=max(1, int(maximum * SHARE)))


def plans(arguments: argparse.Namespace) -> list[Plan]:
    """Give the runs that were asked for, in order, round after round."""
    base = Plan(
        name="",
        seconds=arguments.seconds,
        warm_s=arguments.warm,
        clients=arguments.clients,
        depth=arguments.depth,
        owed=arguments.owed,
        offered=arguments.offered,
        emergencies_per_s=arguments.emergencies_per_s,
        window=arguments.window,
        sessions=arguments.sessions,
        answer_ms=arguments.answer_ms,
        deliver_window=arguments.deliver_window,
        drain_s=arguments.drain,
        profile=arguments.profile,
        statements=arguments.statements,
    )
    once = [plan_of(name, base, backlog=arguments.backlog, throughput=arguments.throughput) for name in arguments.runs]
    return once * arguments.rounds


def arguments_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    base = Plan(name="")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_journey", description="The journey, measured.")
    add = parser.add_argument
    add("--runs", nargs="+", choices=RUNS, metavar="RUN", help=f"of {', '.join(RUNS)}; default: the first four")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    add("--rounds", type=at_least_one, default=1, help="of all runs in turns; the least disturbed one counts")
    add("--seconds", type=float, default=base.seconds, help="of each window; official figures take 60")
    add("--warm", type=float, default=base.warm_s, help="seconds before the window")
    add("--clients", type=int, default=base.clients, help="processes that enqueue")
    add("--depth", type=int, default=base.depth, help="jobs not yet on the wire, past which nobody enqueues")
    add("--owed", type=int, default=base.owed, help="receipts owed by the sink, past which nobody enqueues")
    add("--offered", type=float, default=0.0, help="jobs a second to offer, whatever waits")
    add("--emergencies-per-s", type=float, default=base.emergencies_per_s, help="single ones, Poisson")
    add("--backlog", type=int, default=100_000, help="marketing jobs waiting; official figures take 1,000,000")
    add("--maximum", type=float, default=0.0, help="segments a second that three-quarters is taken of")
    add("--throughput", type=int, help="segments a second of the throttled run (100); without --runs: that run alone")
    add("--window", type=int, default=base.window, help="submit_sm unanswered, a session")
    add("--sessions", type=int, default=base.sessions)
    add("--answer-ms", type=float, default=base.answer_ms, help="from submit_sm to its response")
    add("--deliver-window", type=int, default=base.deliver_window, help="receipts unanswered, a session")
    add("--drain", type=float, default=base.drain_s, help="seconds in which the queue must drain")
    add("--profile", type=Path, metavar="FILE", help="profile the daemon with py-spy: .svg, .json (speedscope), .txt")
    add("--statements", action="store_true", help="time the daemon's SQL, sample sessions and gauges (costs a little)")
    add("--keep-logs", action="store_true", help="leave the processes' logs, and say where")
    add_options(parser)
    arguments = parser.parse_args(words)
    if arguments.runs is None:
        arguments.runs = ["throttled"] if arguments.throughput else list(OFFICIAL)
    arguments.throughput = arguments.throughput or 100
    return arguments
