"""A STOP at any moment of a busy link, again and again; the SMSC's log says whether anything left after it.

    python -m tests.journey.many_stops --runs 1000

makes a server of its own in a temporary folder, takes about a minute, prints the verdict and ends with 1 if it is bad.
Half of them are replies: nothing of an affected category may stand in the log after the deliver_sm_resp. The others are
committed by an app: nothing may be read later than 250 ms after the commit. Each number has long and short texts
waiting, and a code that its category exempts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.journey.alone import run_alone
from tests.journey.running import Journey, journey, until

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = 50  # numbers whose jobs wait at the same time
RATE = 400
LATE_S = 0.25
TEXTS = {"transactional": "Reminder", "marketing": "Offer", "conversational": "Answer " * 60, "auth": "Code"}
JOBS = ("transactional", "marketing", "conversational", "transactional", "auth", "marketing")
FIRST_NUMBER = 447_700_000_000


@dataclass
class Verdict:
    """What the SMSC's log says."""

    by_reply: int = 0
    by_app: int = 0
    blocked: int = 0  # jobs
    cut: int = 0  # jobs of which some parts were out
    sent: int = 0  # jobs, those of the exempt category among them
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In one line."""
        return (
            f"{self.by_reply} by reply, {self.by_app} by an app; {self.blocked} jobs blocked, {self.cut} cut short, "
            f"{self.sent} sent; wrong: {self.wrong or 'nothing'}"
        )


@dataclass
class _Stopped:
    number: str
    sequence: int = 0  # of the deliver_sm that says STOP
    committed_at: float = 0.0  # monotonic


async def many_stops(folder: Path, queue_url: str, *, runs: int, seed: int) -> Verdict:
    """Stop so many numbers, each at a moment of its own."""
    chosen = random.Random(seed)
    verdict = Verdict()
    lock = asyncio.Lock()
    async with journey(folder, queue_url, receipts="none", throughput_per_s=RATE, window_size=100) as world:
        stopped: list[_Stopped] = []
        for first in range(0, runs, AT_ONCE):
            batch = [_Stopped(str(FIRST_NUMBER + first + n)) for n in range(min(AT_ONCE, runs - first))]
            jobs = [
                {"recipient": one.number, "body": f"{TEXTS[category]} {n}", "category": category}
                for n, category in enumerate(JOBS)
                for one in batch
            ]
            chosen.shuffle(jobs)
            await world.app.enqueue_many(jobs)
            takes_s = len(batch) * (len(JOBS) + 2) / RATE
            await asyncio.gather(
                *(_stop(world, one, chosen.uniform(0, takes_s), lock if n % 2 else None) for n, one in enumerate(batch))
            )
            stopped += batch
        await world.smsc.seen("deliver_sm_resp", sum(bool(one.sequence) for one in stopped))
        await until(lambda: _none_waits(world), 60)
        states = await world.app.fetch(
            "select state, reason, count(*)::int from tocsin.job_status where category <> 'reply' group by 1, 2"
        )
        answered = await world.app.value(
            "select count(*) from tocsin.job_status where category = 'reply' and state = 'submitted'"
        )
        _judge(world, stopped, verdict)
    for state, reason, jobs_of in states:
        if state == "submitted":
            verdict.sent += jobs_of
        elif (state, reason) == ("blocked", "SUPPRESSED_OPT_OUT"):
            verdict.blocked += jobs_of
        elif (state, reason) == ("failed", "PARTIAL"):
            verdict.cut += jobs_of
        else:
            verdict.wrong.append(f"{jobs_of} jobs {state} {reason}")
    if answered != verdict.by_reply:
        verdict.wrong.append(f"{answered} confirmations of {verdict.by_reply}")
    return verdict


async def _stop(world: Journey, one: _Stopped, after_s: float, lock: asyncio.Lock | None) -> None:
    await asyncio.sleep(after_s)
    if lock is None:
        one.sequence = world.smsc.deliver(source_addr=one.number, destination_addr="Northside", short_message=b"STOP")
        return
    async with lock:  # one statement at a time on the app's connection
        await world.app.value("select tocsin.suppress($1, 'OPT_OUT', 'sender', 'Northside')", one.number)
        one.committed_at = time.monotonic()


async def _none_waits(world: Journey) -> bool:
    waiting = "select exists (select from tocsin.ready) or exists (select from tocsin.deferred) or exists (select from tocsin.claim)"
    return not await world.app.value(waiting)


def _judge(world: Journey, stopped: list[_Stopped], verdict: Verdict) -> None:
    """Read the log in its order: what the daemon writes on one session comes in the order of its writes."""
    of_sequence = {one.sequence: one for one in stopped if one.sequence}
    of_number = {one.number: one for one in stopped}
    silent: set[str] = set()
    for pdu in world.smsc.log:
        if pdu.command == "deliver_sm_resp" and not pdu.sent and pdu.sequence in of_sequence:
            silent.add(of_sequence[pdu.sequence].number)
        if pdu.command != "submit_sm" or pdu.sent:
            continue
        text = pdu.fields["short_message"]
        if text.startswith((b"Code", b"You will get")):
            continue
        one = of_number[pdu.fields["destination_addr"]]
        if one.number in silent:
            verdict.wrong.append(f"{text[:8]!r} after the answer to a STOP")
        elif one.committed_at and pdu.at > one.committed_at + LATE_S:
            verdict.wrong.append(f"{text[:8]!r} {pdu.at - one.committed_at:.3f} s after a commit")
    verdict.by_reply = len(silent)
    verdict.by_app = sum(bool(one.committed_at) for one in stopped)
    if verdict.by_reply != len(of_sequence):
        verdict.wrong.append(f"{verdict.by_reply} of {len(of_sequence)} STOPs were answered")


async def _run(folder: Path, url: str, arguments: argparse.Namespace) -> int:
    began_at = time.monotonic()
    verdict = await many_stops(folder, url, runs=arguments.runs, seed=arguments.seed)
    print(f"{arguments.runs} stops in {time.monotonic() - began_at:.0f} s at {RATE} segments/s: {verdict}")
    return 1 if verdict.wrong else 0


def main() -> int:
    """Run on an embedded server."""
    parser = argparse.ArgumentParser(description="Stop many numbers, each at any moment of a busy link.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    return run_alone("stops", lambda folder, url: _run(folder, url, arguments))


if __name__ == "__main__":
    sys.exit(main())
