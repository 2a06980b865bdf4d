"""A small form of all benchmarks, one after the other, each in a process of its own: ``python -m benchmarks``.

It shows that they work on this machine, and roughly where it stands; it takes about six minutes. Its windows are
seconds long: no figure is taken from it, and what ``--save`` keeps begins with "small". Exit 0 only when all that was
played ended with 0; 130: told to end, with everything removed.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import bench_locust, results
from benchmarks.figures import others, wanted, words
from benchmarks.figures.evidence import Evidence, Result
from benchmarks.plan import RUNS
from benchmarks.stage import TOLD_TO_END

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER: Final = Path(__file__).parent
END_S: Final = 120.0  # for a bench that is told to end, and ends its own children first


@dataclass(frozen=True, slots=True)
class Small:
    """One bench in its small form."""

    bench: str
    words: str
    variant: str = ""
    missing: Callable[[], str | None] = lambda: None  # why it cannot be played here
    server: bool = True  # it takes --database

    @property
    def name(self) -> str:
        return f"{self.bench} {self.variant}".rstrip()

    @property
    def file(self) -> Path:
        return FOLDER / f"bench_{self.bench}.py"


OF_EMERGENCY: Final = ("backlog", "three-quarters", "throttled")  # runs of the journey that bench_emergency plays
LASTING: Final = ("lanes", "start")  # what waits in them outlasts every drain
SHORT: Final = "--seconds 4 --warm 2"
SMALL: Final = (
    Small("codec", "--turns 3 --seconds 0.02", server=False),
    Small("queue", "--backlog 1000 --jobs 1000 --rounds 1"),
    Small(
        "journey",
        f"--runs {' '.join(run for run in RUNS if run not in {*OF_EMERGENCY, *LASTING})} {SHORT} --backlog 20000",
    ),
    Small("journey", f"--runs {' '.join(LASTING)} {SHORT} --backlog 20000 --drain 5", "lasting"),
    Small("emergency", f"{SHORT} --backlog 20000 --emergencies 20"),
    Small("backlog", f"--conditions waiting --rounds 1 {SHORT} --backlog 20000 --throughput 1000"),
    Small("backlog", "--flood 1000 --throughput 400 --backlog 4000", "flood"),
    Small("policy", f"{SHORT} --rounds 1 --numbers 2000"),
    Small("inbound", f"{SHORT} --offered 500 --mo-per-s 100"),
    Small("peers", f"--systems tocsin kannel-postgres --rounds 1 {SHORT}"),
    Small("locust", "--seconds 5 --users 10", missing=bench_locust.missing),
)
SECTIONS: Final = (
    others.codec,
    others.queue,
    others.backlog,
    others.flood,
    others.policy,
    others.inbound,
    others.peers,
    others.locust,
)


@dataclass(slots=True)
class Played:
    """What came of one; ``why`` it was not played, else its exit code and, if it got so far, its result."""

    small: Small
    why: str | None = None
    seconds: float = 0.0
    code: int = 0
    result: dict[str, Any] | None = None


def play(small: Small, arguments: argparse.Namespace) -> Played:
    """Play one; its own lines of progress and PROBLEMs come on standard error."""
    if not small.file.exists():
        return Played(small, f"there is no {small.file.name}")
    if told := small.missing():
        return Played(small, told)
    line = [*small.words.split(), "--json"]
    if arguments.save is not None:
        line += ["--save", "-".join(word for word in (results.SMALL, arguments.save, small.variant) if word)]
    if arguments.database and small.server:
        line += ["--database", arguments.database]
    print(f"{small.name}: {results.command(small.bench, line)}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.bench_{small.bench}", *line],
        cwd=results.ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us; the bench is told by its number
    )
    try:
        printed, _ = child.communicate()
    except KeyboardInterrupt:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    result = json.loads(printed) if printed.strip() else None
    return Played(small, None, time.monotonic() - begun, child.returncode, result)


def lines(played: Sequence[Played]) -> list[str]:
    """Say for people what was played, what was not and why, and where the machine stands."""
    told = ["", f"{'bench':<16}{'seconds':>8}   "]
    for one in played:
        if one.why:
            told.append(f"{one.small.name:<16}{'-':>8}   not played: {one.why}")
            continue
        came = f"FAILED, exit {one.code}" if one.code else "ok"
        told.append(f"{one.small.name:<16}{one.seconds:>8.0f}   {came}")
        if one.result:
            told += [f"{'':<27}not played: {word}" for word in Result(one.small.name, one.result).missing]
    evidence = Evidence([Result(one.small.name, one.result) for one in played if one.result])
    for section in SECTIONS:
        rows = list(section(evidence))
        if rows != [wanted.NOT_MEASURED]:
            told += ["", *words.aligned(rows)]
    measured = [found for found in wanted.found(evidence) if found.measured != wanted.NOT_MEASURED]
    if measured:
        told += ["", "what we want to show, from runs that are too short to show it:"]
    for found in measured:
        told.append(f"  {found.row.what}")
        told.append(f"      {found.measured}; must: {wanted.side(found.row.bounds, goal=False)}")
    return told


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = list(dict.fromkeys(small.bench for small in SMALL))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="A small form of all benchmarks.")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--database", metavar="URL", help="a server to use as superuser; default: embedded ones")
    results.add_options(parser)
    arguments = parser.parse_args(given)
    if unknown := [name for name in arguments.benches if name not in names]:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(names)}")
    return arguments


def main(given: list[str] | None = None) -> int:
    """Play them; gives the exit code: 1 when one of them failed."""
    arguments = arguments_of(given)
    before = [(one, signal.signal(one, signal.default_int_handler)) for one in (signal.SIGINT, signal.SIGTERM)]
    try:
        played = [play(one, arguments) for one in SMALL if not arguments.benches or one.bench in arguments.benches]
    except KeyboardInterrupt:
        return TOLD_TO_END
    finally:
        for one, handler in before:
            signal.signal(one, handler)
    if arguments.json:
        keys = ("why", "seconds", "code", "result")
        told = [{"bench": one.small.name, **{key: getattr(one, key) for key in keys}} for one in played]
        print(json.dumps({"benches": told}, indent=1))
    else:
        print("\n".join(lines(played)))
    return 1 if any(one.code for one in played) else 0


if __name__ == "__main__":
    sys.exit(main())
