"""kill -9 of either instance, again and again, under load; the SMSCs' records say what was lost or doubled.

    python -m tests.journey.many_kills --kills 50 --jobs 100000

makes a server of its own in a temporary folder, takes some minutes, prints the verdict and ends with 1 if it is bad.
Half of the killed come back at once and find their record; for the others the links are taken over first, and now and
then both are dead.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING

from tests.journey.alone import run_alone
from tests.journey.instances import INSTANCES, LINKS, world
from tests.journey.running import Child, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journey.instances import Verdict, World

TAKEOVER_S = 3.0
RATE = 300


async def many_kills(folder: Path, queue_url: str, *, kills: int, jobs: int, seed: int) -> Verdict:
    """Kill so often while so many jobs go out; give the verdict once none waits."""
    chosen = random.Random(seed)
    async with world(folder, queue_url, takeover_s=TAKEOVER_S, rate=RATE) as made:
        children = {name: Child(path) for name, path in made.files.items()}
        async with children["a"], children["b"]:
            for smsc in made.smscs.values():
                await smsc.seen("bind_transceiver", timeout_s=30)
            killed = 0
            while killed < kills:
                await made.enqueue(jobs // kills if killed < kills - 1 else jobs - len(made.jobs))
                await made.until_read(chosen.randint(1, jobs // kills // 2))
                victims = [chosen.choice(INSTANCES)]
                if chosen.random() < 0.1 and killed + 1 < kills:
                    victims = list(INSTANCES)
                    await made.enqueue(jobs // kills)
                for name in victims:
                    children[name].kill()
                    await children[name].wait()
                killed += len(victims)
                if len(victims) == 1 and chosen.random() < 0.5:
                    await _until_taken_over(made, victims[0])
                for name in victims:
                    await children[name].start()
                print(f"{killed} kills, {made.submits} of {len(made.jobs)} segments read", file=sys.stderr)
            await made.until_nothing_waits(60 + jobs / RATE)
            for child in children.values():
                await child.until_logged("database_reached", 30)  # a SIGTERM to one that has not begun just ends it
                child.terminate()
                assert await child.wait(40) == 0, child.output
        return await made.judge()


async def _until_taken_over(made: World, name: str) -> None:
    async def taken_over() -> bool:
        return not await made.app.value("select count(*) from tocsin.link where owner like $1", f"{name}:%")

    await until(taken_over, 30, poll_s=0.1)


async def _run(folder: Path, url: str, arguments: argparse.Namespace) -> int:
    began_at = time.monotonic()
    verdict = await many_kills(folder, url, kills=arguments.kills, jobs=arguments.jobs, seed=arguments.seed)
    print(f"{arguments.kills} kills in {time.monotonic() - began_at:.0f} s, {len(LINKS)} links at {RATE}/s: {verdict}")
    verdict.hold()
    return 0


def main() -> int:
    """Run on an embedded server."""
    parser = argparse.ArgumentParser(description="Kill two instances again and again under load.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    return run_alone("kills", lambda folder, url: _run(folder, url, arguments))


if __name__ == "__main__":
    sys.exit(main())
