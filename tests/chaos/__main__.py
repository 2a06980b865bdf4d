"""``python -m tests.chaos --seeds 1-200``: runs seeds, prints a line each and a summary; 1 if a rule did not hold.

Each seed runs in a process and a folder of its own. The folder stays when something was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.run import Verdict, judge_folder, run_seed

ROOT = Path(__file__).parent.parent.parent
COLUMNS = ("seed", "commit", "jobs", "verdict", "duplicates", "uncertain", "halts", "seconds", "cpu_s", "states")
SEED_S = 240.0  # no run takes so long; one that does has failed


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    told = subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def _told(verdict: Verdict) -> None:
    """Print the verdict as one JSON line."""
    print(json.dumps(asdict(verdict) | {"verdict": verdict.word}), flush=True)


async def _child(seed: int, jobs: int, keep: bool) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix=f"tocsin-chaos-{seed}-"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos", "--seeds", str(seed), "--jobs", str(jobs), "--folder", str(folder)),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, errors = await asyncio.wait_for(process.communicate(), SEED_S)
    except TimeoutError:
        process.send_signal(signal.SIGINT)  # it takes down what it brought up
        out, errors = await process.communicate()
        errors += b"\nit did not end in time"
    if process.returncode == 0:
        verdict: dict[str, Any] = json.loads(out.splitlines()[-1])
    else:
        (folder / "error.txt").write_bytes(errors)
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        verdict = {"seed": seed, "jobs": jobs, "verdict": f"run: {' '.join(last)}"}
    if verdict["verdict"] == "ok" and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        verdict["folder"] = str(folder)
    return verdict


async def _all(arguments: argparse.Namespace) -> int:
    places = asyncio.Semaphore(arguments.parallel)
    commit = _commit()
    bad: list[dict[str, Any]] = []

    async def one(seed: int) -> None:
        async with places:
            verdict = await _child(seed, arguments.jobs, arguments.keep)
        row = [str(verdict.get(column, "")) for column in COLUMNS]
        row[1], row[-1] = commit, " ".join(f"{state}={n}" for state, n in verdict.get("states", {}).items())
        print("\t".join(row), flush=True)
        if arguments.verdicts:
            fresh = not arguments.verdicts.exists()
            with arguments.verdicts.open("a", encoding="utf-8") as file:
                file.write("\t".join(COLUMNS) + "\n" if fresh else "")
                file.write("\t".join(row) + "\n")
        if "folder" in verdict:
            print(f"# {verdict['folder']}", file=sys.stderr)
        if verdict["verdict"] != "ok":
            bad.append(verdict)
            print(f"# again: python -m tests.chaos --seeds {seed} --jobs {arguments.jobs}", file=sys.stderr, flush=True)

    seeds = _seeds(arguments.seeds)
    await asyncio.gather(*map(one, seeds))
    print(f"{len(seeds) - len(bad)} of {len(seeds)} schedules ok; not: {[verdict['seed'] for verdict in bad]}")
    return 1 if bad else 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", default="1-10", help="numbers and ranges: 1-20,35")
    parser.add_argument("--jobs", type=int, default=5_000, help="up to 1,000: the short form")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--verdicts", type=Path, help="a file of tab-separated values to append to")
    parser.add_argument("--keep", action="store_true", help="keep the folder of each run")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge a run again by what it left")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge is not None:
        verdict = judge_folder(arguments.judge)
        _told(verdict)
        return 1 if verdict.findings else 0
    if arguments.folder is not None:
        _told(asyncio.run(run_seed(int(arguments.seeds), arguments.jobs, arguments.folder)))
        return 0
    return asyncio.run(_all(arguments))


if __name__ == "__main__":
    sys.exit(main())
