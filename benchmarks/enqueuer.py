"""The clients of the benchmarks: each a process that enqueues as an app does, through ``tocsin.enqueue_many``.

    load         calls of 100 jobs, keeping the queue at a depth, or at an offered rate
    emergencies  single rows of category emergency, Poisson, each in its own transaction
    replies      the same of category reply: confirmations of a STOP, say
    flood        emergencies, so many in one transaction
    backlog      marketing rows before the run, in calls of 5,000; or the lanes 1 to 5 alike
    refill       marketing in calls of 100, so that as many of it wait as did at first
    copies       a large backlog, or deferred jobs: some rows through enqueue_many, the rest as copies (copies.py)

Ends when the ledger says so (backlog: when all rows are in), and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop

from benchmarks import ledger as cell
from benchmarks.copies import TABLES, fill
from benchmarks.ledger import Ledger
from benchmarks.measure import percentile

CALL: Final = 100  # jobs a call of enqueue_many
BACKLOG_CALL: Final = 5_000
FULL_S: Final = 0.002  # between looks at a queue that is deep enough
CATEGORIES: Final = ("emergency", "staff", "conversational", "transactional", "informational", "marketing")  # by lane
SHARES: Final = (1.0, 2.0, 7.0, 60.0, 20.0, 10.0)  # per cent of the load, by lane
TWO_PARTS: Final = 0.10
ANY_NUMBER: Final = 10**8
SUPPRESSED: Final = 7  # the last digit of the numbers that nobody may text, where there are such
TEXTS: Final = 2_000  # made ahead: making a text costs more than enqueueing it
ENQUEUE_MANY: Final = "select item, job_id, outcome, reason from tocsin.enqueue_many($1)"
ENQUEUE: Final = "select job_id, outcome, reason from tocsin.enqueue($1, $2, category => $3)"
WORDS: Final = """
    appointment clinic reminder tomorrow bring your card and list of medicines please call the ward if you cannot
    come results are ready for collection between nine and five at the front desk fasting from midnight flu vaccine
    parking building B level 2 room 14 reply YES to confirm or NO to cancel thank you
""".split()  # noqa: SIM905 - a list of 50 lines reads worse
ACCENTED: Final = ("Dr Müller", "Señora", "café", "£5")
WITH_ACCENTS: Final = 0.20  # of the texts; they are GSM-7 too, and not ASCII


def recipient(kind: int, digits: int) -> str:
    """A number of its own kind: 0 to 5 the lane, 7 single confirmations, 8 single emergencies, 9 backlog."""
    return f"447{kind}{digits:08d}"


def texts(generator: random.Random, least: int, most: int, count: int) -> list[str]:
    """Texts of the GSM-7 default alphabet with a length between the two."""
    made = []
    for _ in range(count):
        length = generator.randint(least, most)
        text = f"{generator.choice(ACCENTED)} " if generator.random() < WITH_ACCENTS else ""
        while len(text) < length:
            text += generator.choice(WORDS) + " "
        made.append(text[: length - 1] + ".")
    return made


class Load:
    """Makes calls of ``enqueue_many``."""

    def __init__(self, generator: random.Random, two_parts: float = TWO_PARTS, numbers: int = ANY_NUMBER) -> None:
        self._generator = generator
        self._two_parts = two_parts
        self._numbers = numbers  # of each kind, from 0
        self.suppressed = 0  # jobs to numbers that end in SUPPRESSED
        self._short = [json.dumps(text) for text in texts(generator, 100, 160, TEXTS)]
        self._long = [json.dumps(text) for text in texts(generator, 170, 300, TEXTS)]

    def call(self, jobs: int, kind: int | None = None, *, lanes: bool = False) -> str:
        """The argument for so many jobs: of the mix; all marketing, of one kind; or lanes 1 to 5 alike."""
        generator = self._generator
        if lanes:
            lanes_of = generator.choices(range(1, 6), k=jobs)
        else:
            lanes_of = generator.choices(range(6), SHARES, k=jobs) if kind is None else [5] * jobs
        chance = generator.random  # everything else in here takes longer, and is paid by the machine that is measured
        made = []
        for lane in lanes_of:
            digits = int(chance() * self._numbers)
            self.suppressed += digits % 10 == SUPPRESSED
            number = recipient(lane if kind is None else kind, digits)
            body = (self._long if chance() < self._two_parts else self._short)[int(chance() * TEXTS)]
            made.append(f'{{"recipient":"{number}","body":{body},"category":"{CATEGORIES[lane]}"}}')
        return f"[{','.join(made)}]"


def stopped(ledger: Ledger, parent: int) -> bool:
    """Whether the run is over, or whoever started it is gone."""
    return ledger[cell.STOP] > 0 or os.getppid() != parent


async def load(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Enqueue until stopped."""
    made = Load(random.Random(arguments.seed), arguments.two_parts, arguments.numbers)
    connection = await asyncpg.connect(arguments.url)
    statement = await connection.prepare(ENQUEUE_MANY)
    outcomes: Counter[str] = Counter()
    took: list[float] = []
    mine = cell.CLIENTS + arguments.client
    parent = os.getppid()
    begun = time.monotonic()
    called = 0
    while not stopped(ledger, parent):
        if arguments.rate:
            early = begun + called * CALL / arguments.rate - time.monotonic()
            if early > 0:
                await asyncio.sleep(min(early, 0.2))
                continue
        elif ledger.waiting >= arguments.depth or ledger[cell.OWED] >= arguments.owed:
            await asyncio.sleep(FULL_S)
            continue
        jobs = made.call(min(CALL, arguments.depth))
        before = time.monotonic()
        rows = await statement.fetch(jobs)
        took.append(time.monotonic() - before)
        called += 1
        outcomes.update(row[2] for row in rows)
        ledger[mine] = outcomes["queued"] - (made.suppressed if arguments.suppressed else 0)
    await connection.close()
    suppressed = {"suppressed": made.suppressed} if arguments.suppressed else {}
    return {"outcomes": outcomes, **suppressed, **call_times(took)}


def call_times(took: list[float]) -> dict[str, float | None]:
    """How many calls were made, and what they took."""
    took.sort()
    return {"calls": len(took), "call_p50_s": percentile(took, 0.5), "call_p99_s": percentile(took, 0.99)}


async def emergencies(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Enqueue single emergencies, Poisson; no more than ``most`` begin in any 1.1 s."""
    return await singles(arguments, ledger, "emergency", 8)


async def replies(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Enqueue single confirmations in the same way."""
    return await singles(arguments, ledger, "reply", 7)


async def as_it_is(_connection: asyncpg.Connection) -> None:
    """Reset nothing."""


async def singles(arguments: argparse.Namespace, ledger: Ledger, category: str, kind: int) -> dict[str, Any]:
    """Enqueue one at a time, each in its own transaction."""
    generator = random.Random(arguments.seed)
    # a session is left as it was: the pool's own reset costs the server as much as an enqueue
    pool = await asyncpg.create_pool(arguments.url, min_size=8, max_size=8, reset=as_it_is)
    body = texts(generator, 100, 160, 50)
    outcomes: Counter[str] = Counter()
    sent: dict[str, tuple[float, float]] = {}  # recipient -> call made, commit known
    lately: deque[float] = deque()
    tasks: set[asyncio.Task[None]] = set()
    parent = os.getppid()

    async def one(number: str) -> None:
        async with pool.acquire() as connection:
            called = time.monotonic()
            (row,) = await connection.fetch(ENQUEUE, number, generator.choice(body), category)
            sent[number] = (called, time.monotonic())
            outcomes[row[1]] += 1

    at = time.monotonic()
    count = 0
    while not stopped(ledger, parent):
        at += generator.expovariate(arguments.rate)
        while (early := at - time.monotonic()) > 0 and not stopped(ledger, parent):  # noqa: ASYNC110
            await asyncio.sleep(min(early, 0.2))
        while lately and at - lately[0] > 1.1:
            lately.popleft()
        if arguments.most and len(lately) >= arguments.most:
            continue
        lately.append(at)
        count += 1
        task = asyncio.create_task(one(f"447{kind}{count:08d}"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    await pool.close()
    return {"outcomes": outcomes, "sent": sent}


async def backlog(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Enqueue the backlog."""
    made = Load(random.Random(arguments.seed))
    connection = await asyncpg.connect(arguments.url)
    statement = await connection.prepare(ENQUEUE_MANY)
    outcomes: Counter[str] = Counter()
    left = arguments.jobs
    parent = os.getppid()
    while left and not stopped(ledger, parent):
        jobs = min(left, BACKLOG_CALL)
        call = made.call(jobs, lanes=True) if arguments.lanes else made.call(jobs, 9)
        outcomes.update(row[2] for row in await statement.fetch(call))
        left -= jobs
        if arguments.lanes:
            ledger[cell.CLIENTS + arguments.client] = outcomes["queued"]  # the sink cannot tell it from the load
    await connection.close()
    return {"outcomes": outcomes}


async def flood(arguments: argparse.Namespace, _ledger: Ledger) -> dict[str, Any]:
    """Enqueue emergencies of one part each, and commit them together."""
    generator = random.Random(arguments.seed)
    body = texts(generator, 100, 160, 50)
    connection = await asyncpg.connect(arguments.url)
    outcomes: Counter[str] = Counter()
    async with connection.transaction():
        for first in range(0, arguments.jobs, BACKLOG_CALL):
            jobs = [
                {"recipient": f"4478{n:08d}", "body": generator.choice(body), "category": "emergency"}
                for n in range(first, min(first + BACKLOG_CALL, arguments.jobs))
            ]
            outcomes.update(row[2] for row in await connection.fetch(ENQUEUE_MANY, json.dumps(jobs)))
    committed = time.monotonic()
    await connection.close()
    return {"outcomes": outcomes, "committed": committed}


async def refill(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Keep so many marketing jobs off the wire as were enqueued before, until stopped."""
    made = Load(random.Random(arguments.seed))
    connection = await asyncpg.connect(arguments.url)
    statement = await connection.prepare(ENQUEUE_MANY)
    outcomes: Counter[str] = Counter()
    took: list[float] = []
    parent = os.getppid()
    while not stopped(ledger, parent):
        if outcomes["queued"] > ledger[cell.BACKLOG] - CALL:
            await asyncio.sleep(FULL_S)
            continue
        before = time.monotonic()
        rows = await statement.fetch(made.call(CALL, 9))
        took.append(time.monotonic() - before)
        outcomes.update(row[2] for row in rows)
    await connection.close()
    return {"outcomes": outcomes, **call_times(took)}


async def copies(arguments: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Fill a table with what enqueue_many would have left in it."""
    connection = await asyncpg.connect(arguments.url)
    made = Load(random.Random(arguments.seed))
    parent = os.getppid()
    outcomes = await fill(connection, made, arguments.jobs, arguments.table, lambda: stopped(ledger, parent))
    await connection.close()
    return {"outcomes": outcomes}


WORK: Final = {
    "load": load, "emergencies": emergencies, "replies": replies, "flood": flood, "backlog": backlog,
    "refill": refill, "copies": copies,
}  # fmt: skip


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser(description="a client that enqueues")
    parser.add_argument("kind", choices=tuple(WORK))
    parser.add_argument("--url", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--client", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--depth", type=int, default=4_000)
    parser.add_argument("--owed", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=0)
    parser.add_argument("--table", choices=TABLES, default="ready")
    parser.add_argument("--two-parts", type=float, default=TWO_PARTS)
    parser.add_argument("--numbers", type=int, default=ANY_NUMBER)
    parser.add_argument("--suppressed", type=int, default=0)
    arguments = parser.parse_args()
    json.dump(uvloop.run(WORK[arguments.kind](arguments, Ledger(arguments.ledger))), sys.stdout)


if __name__ == "__main__":
    main()
