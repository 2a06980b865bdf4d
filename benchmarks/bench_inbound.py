"""How long a text from a handset takes to be kept: deliver_sm at the SMSC -> its event committed -> deliver_sm_resp.

``python -m benchmarks.bench_inbound`` makes a server of its own and plays one run of the journey, in which messages of
one part are offered at a rate, while handsets write to the sender's number, each from another number, Poisson.
README.md says how to read the figures. Exit 0 only when every job and every text is accounted for.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks import results as kept
from benchmarks.bench_journey import COUNT_S, Reading, Run
from benchmarks.measure import cpu_s, histogram, percentile
from benchmarks.plan import Plan
from benchmarks.report import table
from benchmarks.stage import Child, Server, end_when_told, finished, run_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NAME: Final = "inbound"
ADDRESS: Final = "+441632960100"  # handsets cannot answer a name
STAGES: Final = {
    "committed": "deliver_sm -> committed, at the latest",
    "not_committed": "deliver_sm -> committed, at the earliest",
    "answered": "deliver_sm -> deliver_sm_resp",
    "in_event": "deliver_sm -> shown by tocsin.event",
}


class Replies(Run):
    """A run in which handsets write, and an app reads."""

    async def play(self) -> dict[str, Any]:
        """Play it; the load average is of the machine, others included."""
        before = os.getloadavg()[0]
        return await super().play() | {"load_average": {"begin": before, "end": os.getloadavg()[0]}}

    def _start_clients(self) -> Child | None:
        self.reader = Child("reader", ["-m", "benchmarks.reader", "--url", self.url], self.folder)
        self.held.append(self.reader)
        return super()._start_clients()

    async def _read(self) -> Reading:
        reading = await super()._read()
        reading.cpu["reader"] = cpu_s(self.reader.pid)
        return reading

    async def _drain(self) -> float | None:
        drained = await super()._drain()
        self.reader.say("end")
        self.found = await self.reader.hear(timeout_s=COUNT_S)
        return drained

    def _figures(self, begin: Reading, end: Reading, seen: dict[str, Any]) -> dict[str, Any]:
        figures = super()._figures(begin, end, seen)
        handsets = seen["handsets"]
        replies = figures_of(handsets, self.found, begin.at, end.at)
        replies["confirmations"] = len(seen["emergencies"].keys() & set(handsets["stops"]))
        return figures | {"mo_per_s": self.plan.mo_per_s, "offered_per_s": self.plan.offered, NAME: replies}

    async def _account(
        self, clients: list[dict[str, Any]], seen: dict[str, Any], daemon_exit: int, *, drained: bool
    ) -> dict[str, Any]:
        """Besides: each text is kept once, with one event, and answered; each STOP has one confirmation."""
        confirmed = len(self.found["stored"].keys() & set(seen["handsets"]["stops"]))
        own = {"outcomes": {"queued": confirmed}}
        account = await super()._account([*clients, own], seen, daemon_exit, drained=drained)
        account["problems"] += problems_of(seen["handsets"], self.found)
        return account


def problems_of(handsets: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What does not add up: texts that the sink wrote and saw answered, beside rows and events that were read."""
    written = handsets["written"].keys()
    told = {
        "never answered": len(written - handsets["answered"].keys()),
        "never stored": len(written - found["stored"].keys()),
        "stored more than once": sum(len(rows) > 1 for rows in found["stored"].values()),
        "stored and never written": len(found["stored"].keys() - written),
        "without an event": len(found["stored"].keys() - found["seen"].keys()),
        "with more than one event": sum(len(events) > 1 for events in found["seen"].values()),
    }
    problems = [f"{count} texts of handsets {what}" for what, count in told.items() if count]
    return problems if written else ["no handset wrote"]


def figures_of(handsets: Mapping[str, Any], found: Mapping[str, Any], begin: float, end: float) -> dict[str, Any]:
    """Give the times of the texts that were first written within the window, in ms.

    ``committed`` ends when the reader has the row, ``not_committed`` when it last began a read that did not find it:
    the commit lies between. ``in_event`` ends when ``tocsin.event`` has shown it.
    """
    inside = {number: at for number, at in handsets["written"].items() if begin <= at < end}
    stored = {number: rows[0] for number, rows in found["stored"].items()}
    ends = {
        "committed": {number: there for number, (_, there) in stored.items()},
        "not_committed": {number: max(absent, inside.get(number, absent)) for number, (absent, _) in stored.items()},
        "answered": handsets["answered"],
        "in_event": {number: events[0][1] for number, events in found["seen"].items()},
    }
    waits = {
        name: sorted(after[number] - at for number, at in inside.items() if number in after)
        for name, after in ends.items()
    }
    return {
        "count": len(inside),
        "per_s": len(inside) / (end - begin),
        "answered_per_s": sum(begin <= at < end for at in handsets["answered"].values()) / (end - begin),
        "stops": sum(number in inside for number in handsets["stops"]),
        "refused": handsets["refused"],
        **{name: _percentiles(values) for name, values in waits.items()},
        "histogram": histogram([wait * 1000 for wait in waits["committed"]]),
        "read": _percentiles(sorted(found["took"])),
        "from_read_to_read": _percentiles(sorted(found["between"])),
    }


def _percentiles(ordered: Sequence[float]) -> dict[str, Any]:
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "most_ms": 1.0}
    values = {name: percentile(ordered, share) for name, share in shares.items()}
    return {name: None if value is None else value * 1000 for name, value in values.items()}


def lines(result: Mapping[str, Any]) -> Iterable[str]:
    """For people to read."""
    replies, load = result[NAME], result["load_average"]
    offered = f"{result['mo_per_s']:,.0f} and {result['offered_per_s']:,.0f} offered"
    yield f"\nMO {replies['per_s']:,.0f}/s, MT {result['submitted_per_s']:,.0f}/s ({offered})"
    yield f"  {'ms':<44}{'p50':>9}{'p90':>9}{'p99':>9}{'most':>9}"
    rows = {**STAGES, "read": "a read of the reader", "from_read_to_read": "  from its begin to the end of the next"}
    for name, words in rows.items():
        values = replies[name].values()
        yield f"  {words:<44}" + "".join(f"{'-' if value is None else f'{value:.1f}':>9}" for value in values)
    yield (
        f"  {replies['count']:,} texts, {replies['stops']:,} of them STOP; {replies['refused']:,} refused, "
        f"{replies['confirmations']:,} confirmations in all; load average {load['begin']:.1f} -> {load['end']:.1f}"
    )


async def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Play the run. Ctrl-C and SIGTERM end the children, and remove what was made."""
    end_when_told()
    name = f"tocsin_bench_{os.getpid()}_{NAME}"
    with Server(arguments.database) as server:
        async with run_on(server, name, keep_logs=arguments.keep_logs) as (url, folder, held):
            return await Replies(plan_of(arguments), url, folder, held).play()


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Plan the run."""
    return Plan(
        name=NAME,
        seconds=arguments.seconds,
        warm_s=arguments.warm,
        offered=arguments.offered,
        two_parts=0.0,
        emergencies_per_s=0.0,
        sessions=arguments.sessions,
        deliver_window=arguments.deliver_window,
        drain_s=arguments.drain,
        statements=arguments.statements,
        sender=ADDRESS,
        mo_per_s=arguments.mo_per_s,
    )


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    base = Plan(name=NAME)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_inbound", description="How long a text from a handset takes to be kept."
    )
    add = parser.add_argument
    add("--mo-per-s", type=float, default=500.0, help="texts from handsets, Poisson")
    add("--offered", type=float, default=5_000.0, help="jobs a second to offer, of one part, whatever waits")
    add("--seconds", type=float, default=base.seconds, help="of the window; official figures take 60")
    add("--warm", type=float, default=base.warm_s, help="seconds before the window")
    add("--sessions", type=int, default=base.sessions)
    add("--deliver-window", type=int, default=base.deliver_window, help="receipts unanswered, a session")
    add("--drain", type=float, default=base.drain_s, help="seconds in which the queue must drain")
    add("--database", metavar="URL", help="a server to use as superuser; default: an embedded one of its own")
    add("--statements", action="store_true", help="time the daemon's SQL, sample sessions and gauges (costs a little)")
    add("--keep-logs", action="store_true", help="leave the processes' logs, and say where")
    kept.add_options(parser)
    arguments = parser.parse_args(words)
    if min(arguments.mo_per_s, arguments.offered) <= 0:
        parser.error("--mo-per-s and --offered take more than 0")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Run it; gives the exit code: 1 when something is not accounted for, 3 when the run could not be played."""
    words = sys.argv[1:] if words is None else words
    arguments = arguments_of(words)
    result, code = finished(bench(arguments))
    if result is None:
        return code
    if not arguments.json:
        print("\n".join([table(result), *lines(result)]), flush=True)
    for problem in result["account"]["problems"]:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    kept.keep(arguments, kept.document(NAME, words, {"runs": [result]}))
    return 1 if result["account"]["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
