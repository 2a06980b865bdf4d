"""Tocsin beside its peers: the same sink, the same texts of one part, in turns, so that ratios are of neighbours.

``python -m benchmarks.bench_peers`` makes a server of its own and plays each system on a new database. README.md says
what each one commits before it answers, and how to read the figures. Exit 0 only when all messages add up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import bench_journey
from benchmarks import results as kept
from benchmarks.measure import middle
from benchmarks.peers import kannel
from benchmarks.peers.peer import MEMORY
from benchmarks.peers.play import PeerRun
from benchmarks.peers.smpp_gateway import SMPP_GATEWAY, SmppGateway
from benchmarks.plan import Plan
from benchmarks.stage import TOLD_TO_END, Failed, Server, children, end_when_told, run_on

if TYPE_CHECKING:
    from benchmarks.peers.peer import Peer

OURS: Final = "tocsin"
KANNEL: Final = tuple(one for plain in kannel.CONFIGURATIONS for one in (plain, plain.eased()))
SYSTEMS: Final = (OURS, *(one.name for one in KANNEL), SMPP_GATEWAY)
COMMITS: Final = "the message, in Postgres, flushed; a receipt before deliver_sm_resp"
FIGURES: Final = ("delivered_per_s", "forwarded_per_s", "cpu_system", "cpu_postgres", "rss_mb", "speed")
NEVER_PLAYED: Final = {
    "jasmin": "not played: jasmin needs RabbitMQ and Redis as servers of the machine, and none is started here",
}


def peers_of(arguments: argparse.Namespace) -> dict[str, Peer]:
    """Give the peers by their names on the command line."""
    peers: list[Peer] = [*KANNEL, SmppGateway(arguments.smpp_gateway)]
    return {peer.name: peer for peer in peers}


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Give the run that all systems play: ``sustained``, with texts of one part and no single emergencies."""
    return Plan(
        name="sustained",
        seconds=arguments.seconds,
        warm_s=arguments.warm,
        window=arguments.window,
        depth=arguments.depth,
        owed=arguments.owed,
        drain_s=arguments.drain,
        two_parts=0.0,
        emergencies_per_s=0.0,
    )


def turns(systems: list[str]) -> list[list[str]]:
    """Give the order of a round: Tocsin between two peers, so that each of them is its neighbour in time."""
    peers = [name for name in systems if name != OURS]
    if OURS not in systems:
        return [[name] for name in peers]
    return [[peers[at], OURS, *peers[at + 1 : at + 2]] for at in range(0, len(peers), 2)] or [[OURS]]


def of_journey(result: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Name the figures of the journey as those of the peers. What an app sees of a receipt is the row's commit."""
    account, database, cpu = result["account"], result["from_database"], result["cpu_s_per_1000"]
    same = (
        "seconds", "submitted_per_s", "delivered_per_s", "receipts_refused", "cores", "waiting", "receipts_owed",
        "rss_mb", "calibration", "postgresql",
    )  # fmt: skip
    return {
        "system": OURS,
        "commits": COMMITS,
        "window": plan.window,
        "depth": plan.depth,
        "owed": plan.owed,
        **{name: result[name] for name in same},
        "accepted_per_s": result["enqueued_per_s"],
        "forwarded_per_s": database["delivered_per_s"],
        "cpu_s_per_1000": cpu | {"system": cpu["daemon"]},
        "account": {
            "accepted": account["enqueued"],
            "forwarded": account["delivered"],
            "problems": account["problems"],
        },
    }


async def play(peer: Peer | None, plan: Plan, server: Server, spool_in: Path | None) -> dict[str, Any]:
    """Play one peer, or Tocsin, on a database of its own, and leave nothing behind."""
    async with run_on(server, f"tocsin_bench_{os.getpid()}_peer", keep_logs=False) as (url, folder, held):
        if peer is None:
            return of_journey(await bench_journey.Run(plan, url, folder, held).play(), plan)
        with (
            tempfile.TemporaryDirectory(prefix="tocsin-spool-", dir=MEMORY if peer.in_memory else spool_in) as spool,
            children() as own,  # which end before their spool goes
        ):
            return await PeerRun(peer, plan, url, folder, Path(spool), own).play()


async def bench(arguments: argparse.Namespace, peers: dict[str, Peer]) -> tuple[list[dict[str, Any]], list[str]]:
    """Play the rounds; gives the runs, and those that failed. Ctrl-C and SIGTERM end it, and remove what was made."""
    end_when_told()
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    plan = plan_of(arguments)
    groups = [group for _ in range(arguments.rounds) for group in turns(arguments.systems)]
    with Server(arguments.database) as server:
        for number, group in enumerate(groups):
            for name in group:
                try:
                    result = await play(peers.get(name), plan, server, arguments.spool)
                except Failed as problem:  # the others are played all the same
                    print(f"bench: {name}: {problem}", file=sys.stderr)
                    failed.append(name)
                    continue
                results.append({"neighbours": number, **result})
                if not arguments.json:
                    print(line(row_of(result)), flush=True)
                for problem in result["account"]["problems"]:
                    print(f"PROBLEM: {name}: {problem}", file=sys.stderr)
    return results, failed


def row_of(result: dict[str, Any]) -> dict[str, Any]:
    """Give the figures that are compared."""
    cpu = result["cpu_s_per_1000"]
    return {
        "system": result["system"],
        "delivered_per_s": result["delivered_per_s"],
        "forwarded_per_s": result["forwarded_per_s"],
        "cpu_system": cpu["system"],
        "cpu_postgres": cpu.get("postgres"),
        "rss_mb": result["rss_mb"],
        "speed": result["calibration"]["during"],
    }


def medians(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the middle of the runs of each system, and how many times its rate Tocsin's is beside it."""
    ours = {result["neighbours"]: result["delivered_per_s"] for result in results if result["system"] == OURS}
    runs: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        runs.setdefault(result["system"], []).append(result)
    middles = []
    for system, group in runs.items():
        rows = [row_of(result) for result in group]
        times = [
            ours[result["neighbours"]] / result["delivered_per_s"]
            for result in group
            if result["neighbours"] in ours and result["delivered_per_s"] and system != OURS
        ]
        middles.append(
            {"system": system, "runs": len(rows)}
            | {name: middle([row[name] for row in rows]) for name in FIGURES}
            | {"ours_is": middle(times), "ours_is_each": times}
        )
    return middles


def line(row: dict[str, Any]) -> str:
    """One system for people to read."""
    postgres, speed, ours_is = row["cpu_postgres"], row["speed"], row.get("ours_is")
    return (
        f"{row['system']:<22}{row['delivered_per_s']:>12,.0f}{row['forwarded_per_s']:>11,.0f}{row['cpu_system']:>10.3f}"
        f"{'-' if postgres is None else f'{postgres:.3f}':>10}{row['rss_mb']:>8,.0f}"
        f"{'-' if speed is None else f'{speed:.1f}':>13}{'' if ours_is is None else f'{ours_is:>10.1f} x'}"
    )


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    base = Plan(name="")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_peers", description="Tocsin beside its peers.")
    add = parser.add_argument
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="default: all")
    add("--rounds", type=kept.at_least_one, default=1, help="of all systems in turns; official figures take 3")
    add("--seconds", type=float, default=10.0, help="of each window; official figures take 30")
    add("--warm", type=float, default=3.0, help="seconds before the window")
    add("--window", type=int, default=base.window, help="submit_sm unanswered, for all alike")
    add("--depth", type=int, default=base.depth, help="messages not yet on the wire, past which nobody sends")
    add("--owed", type=int, default=base.owed, help="receipts owed by the sink, past which nobody sends")
    add("--drain", type=float, default=base.drain_s, help="seconds in which all must be sent and every receipt back")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    add(
        "--spool",
        type=Path,
        metavar="FOLDER",
        help="of a spool that is not eased; default: beside the embedded server's data",
    )
    add("--smpp-gateway", metavar="PYTHON", help="a Python that has smpp-gateway, which is played with it")
    kept.add_options(parser)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code: 1 when messages do not add up, 3 when a run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    peers = peers_of(arguments)
    absent = {name: told for name in arguments.systems if name in peers and (told := peers[name].missing())}
    arguments.systems = [name for name in arguments.systems if name not in absent]
    for told in dict.fromkeys([*absent.values(), *NEVER_PLAYED.values()]):
        print(told, file=sys.stderr)
    if not arguments.json:
        print("system                delivered/s  receipts     CPU-s per 1,000      MB  calibration    Tocsin is")
        print("                                  to app/s    system  postgres          M rounds/s", flush=True)
    try:
        results, failed = asyncio.run(bench(arguments, peers))
    except asyncio.CancelledError:
        return TOLD_TO_END
    except (Failed, OSError, asyncpg.PostgresError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 3
    found = medians(results)
    if not arguments.json:
        print("\nmiddles of the runs, and how many times a peer's rate Tocsin delivers beside it:")
        for row in found:
            print(line(row))
    figures = {"missing": absent | NEVER_PLAYED, "failed": failed, "runs": results, "medians": found}
    figures["peers"] = {name: peers[name].version() for name in arguments.systems if name in peers}
    kept.keep(arguments, kept.document("peers", words, figures))
    if failed:
        return 3
    return 1 if any(result["account"]["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
