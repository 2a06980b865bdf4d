"""What ``tocsin demo`` runs: everything real but the SMSC, for a few seconds, and a look at who came first.

An embedded Postgres, thrown away afterwards; a simulated SMSC in this process; the daemon as a process of its own.
Five hundred mixed jobs are enqueued at once onto a link that needs seconds for them. In the middle an emergency is
enqueued, in a transaction of its own. The SMSC's own log then says how many segments were before it: exit code 0
means that all were delivered and that it overtook what waited, 1 that they were not or it did not, 3 that the
database did not start. Nothing printed holds a text or a number of anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dispatcher import demo_stage as stage
from dispatcher.demo_load import EMERGENCY_NUMBER, EMERGENCY_TEXT, KINDS, requests
from dispatcher.demo_stage import DemoFailed
from dispatcher.errors import DispatcherError
from dispatcher.migrate import migrate
from dispatcher.store import array, connect
from dispatcher.unprivileged import EmbeddedError
from gateway import count

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence
    from pathlib import Path

    from dispatcher.store import Connection
    from gateway.smsc import Smsc

DONE, FAILED, UNUSABLE = 0, 1, 3
INTERRUPTED = 130  # as shells report SIGINT

OPEN = ("queued", "deferred", "uncertain", "submitted")  # states that something may still follow
REPLIES = 10

UNTIL_FREE_S = 1.1  # a daemon that is new to a link counts the second before as full
DONE_WITHIN_S = 30.0  # from the enqueue to the last receipt, which takes six
FEWEST_OVERTAKEN = 50  # segments that waited and that the emergency came before
MOST_IN_FRONT = 20  # segments between its commit and its own: what the link writes in a tenth of a second


@dataclass(frozen=True, slots=True)
class Place:
    """Where the emergency stood, counted in segments, in the SMSC's own order."""

    before: int  # that the SMSC had read when the transaction was about to commit
    number: int  # its own, from 1
    total: int

    @property
    def in_front(self) -> int:
        """Segments that came between its commit and itself."""
        return self.number - self.before - 1

    @property
    def overtaken(self) -> int:
        """Segments that had been enqueued before it and came after it."""
        return self.total - self.number

    def problem(self) -> str | None:
        """Say what is wrong with it, if something is."""
        if self.overtaken < FEWEST_OVERTAKEN:
            return f"the emergency overtook {self.overtaken} segments; {FEWEST_OVERTAKEN} would show something"
        if self.in_front > MOST_IN_FRONT:
            return f"{self.in_front} segments went before the emergency after its commit; at most {MOST_IN_FRONT} may"
        return None


def main() -> int:
    """Run the demonstration and return its exit code. It ends by itself, and on SIGINT, SIGTERM and SIGHUP."""
    return asyncio.run(_run_until_signal())


async def _run_until_signal() -> int:
    this = asyncio.current_task()
    assert this is not None
    signals: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not signals:  # the first one stops the demonstration, a second one must not stop the cleaning up
            this.cancel()
        signals.append(number)

    loop = asyncio.get_running_loop()
    for number in stage.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, interrupt, number)
    try:
        return await _run(this)
    except asyncio.CancelledError:
        if not signals:
            raise
        _say("interrupted; nothing is left running")
        return INTERRUPTED


async def _run(this: asyncio.Task[object]) -> int:
    """Start everything, watch, judge, stop everything."""
    began = time.monotonic()
    folder = stage.folder()
    log = folder / "daemon.log"
    keep = True
    try:
        await _demonstrate(folder, log, began)
        keep = False
        _say(f"all of it was delivered, and the emergency did not wait ({time.monotonic() - began:.0f} s in all)")
        return DONE
    except asyncio.CancelledError:
        keep = False
        raise
    except (DispatcherError, OSError) as error:
        if this.cancelling():  # Ctrl-C reaches every process of the terminal: this is what it broke
            keep = False
            raise asyncio.CancelledError from None
        _say(f"FAILED: {error}")
        return UNUSABLE if isinstance(error, EmbeddedError) else FAILED
    finally:
        if keep and log.is_file():
            _say(f"the daemon's log: {log}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _demonstrate(folder: Path, log: Path, began: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        _say("tocsin demo: everything is real but the SMSC")
        url = await stack.enter_async_context(stage.postgres(folder / "postgres"))
        app = await connect(url)
        stack.push_async_callback(app.close)
        await migrate(app.raw)
        _tell("Postgres", f"embedded, thrown away afterwards; ready after {time.monotonic() - began:.1f} s")

        smsc = await stack.enter_async_context(stage.simulator())
        _tell(
            "SMSC", f"simulated, 127.0.0.1:{smsc.port}; answers after {stage.LATENCY_S * 1000:.0f} ms, sends receipts"
        )

        file = folder / "tocsin.toml"
        file.write_text(stage.configuration(url, smsc.port), encoding="utf-8")
        daemon = await stack.enter_async_context(stage.daemon(file, log))
        await stage.bound(smsc, daemon)
        _tell("daemon", f"process {daemon.pid}, bound; at most {stage.SEGMENTS_PER_S} segments a second")

        await asyncio.sleep(UNTIL_FREE_S)
        demo = Demo(app, smsc, daemon)
        await demo.enqueue()
        with contextlib.suppress(TimeoutError):  # the report says what is missing
            async with asyncio.timeout(DONE_WITHIN_S):
                await demo.watch()
        await demo.report()
        await stage.drained(daemon)


class Demo:
    """The load, from its enqueue to the report."""

    def __init__(self, app: Connection, smsc: Smsc, daemon: Process) -> None:
        self._app = app
        self._smsc = smsc
        self._daemon = daemon
        self._using_app = asyncio.Lock()  # one connection carries one statement at a time
        self._job_of: dict[str, int] = {}  # recipient -> job: each has a number of its own
        self._category_of: dict[int, str] = {}
        self._enqueued_at: dict[int, float] = {}  # monotonic seconds, just before the commit
        self._state_of: dict[int, str] = {}
        self._segments = 0  # of the load, the emergency not counted
        self._replies = 0

    async def enqueue(self) -> None:
        """Enqueue the load, all of it in one transaction."""
        load = requests()
        self._segments = sum(count(request.body)[1] for request in load)
        async with self._app.transaction():
            rows = await self._app.fetch("demo_enqueue_many", json.dumps([asdict(request) for request in load]))
            enqueued_at = time.monotonic()
        for request, row in zip(load, rows, strict=True):
            if row["outcome"] != "queued":
                raise DemoFailed(f"{request.category} was not taken: {row['outcome']}, {row['reason']}")
            self._note(request.recipient, row["job_id"], request.category, enqueued_at)
        _tell("load", f"{len(load)} jobs, {self._segments} segments, enqueued in one transaction:")
        _say("            " + ", ".join(f"{kind.jobs} {kind.name}" for kind in KINDS))

    async def watch(self) -> None:
        """Print a line a second until every job is closed; the emergency comes in the middle."""
        started = time.monotonic()
        alarm = asyncio.create_task(self._raise_alarm(), name="alarm")
        try:
            for second in range(1, sys.maxsize):
                await asyncio.sleep(max(0.0, started + second - time.monotonic()))
                if alarm.done():
                    alarm.result()
                if self._daemon.returncode is not None:
                    raise DemoFailed(f"the daemon ended with code {self._daemon.returncode}")
                replies = await self._look()
                _say(f"  {second:3d} s  {self._smsc.submitted:4d} segments at the SMSC;  {self.counted()}")
                if alarm.done() and replies >= REPLIES and not self._count(*OPEN):
                    return
        finally:
            alarm.cancel()
            with contextlib.suppress(asyncio.CancelledError, DispatcherError):
                await alarm

    def counted(self) -> str:
        """Jobs by state."""
        states = Counter(self._state_of.values())
        names = ["queued", "submitted", "delivered"]
        names += sorted(states.keys() - set(names))
        return ", ".join(f"{states[name]:3d} {name}" for name in names)

    async def report(self) -> None:
        """Print what became of the jobs, and where the emergency stood.

        Raises:
            DemoFailed: not all were delivered, a reply is missing, or the emergency waited.

        """
        await self._look()
        reached_at, segments = self._arrivals()
        _say(f"\n  {'':14}  jobs  segments  delivered  from enqueue to the SMSC's clock: p50     p99")
        for category in ("emergency", "staff", "transactional", "informational", "marketing"):
            jobs = [job for job, its in self._category_of.items() if its == category]
            waits = sorted(reached_at[job] - self._enqueued_at[job] for job in jobs if job in reached_at)
            delivered = sum(self._state_of.get(job) == "delivered" for job in jobs)
            _say(
                f"  {category:14}{len(jobs):6d}{sum(segments[job] for job in jobs):10d}{delivered:11d}"
                f"{percentile(waits, 50):35.3f} s {percentile(waits, 99):6.3f} s"
            )
        _say(f"  {self._replies} replies of patients are in the inbox\n")
        place = self._place()
        emergency = self._job_of[EMERGENCY_NUMBER]
        waited_ms = 1000 * (reached_at[emergency] - self._enqueued_at[emergency])
        _say(f"  segments already on the wire when the emergency was enqueued: {place.before}")
        _say(
            f"  it was segment number {place.number} of {place.total}; {place.in_front} segments overtook it,"
            f" and it overtook {place.overtaken}"
        )
        _say(f"  from its commit to the SMSC: {waited_ms:.1f} ms\n")
        undelivered = len(self._job_of) - self._count("delivered")
        if undelivered:
            raise DemoFailed(f"{undelivered} of {len(self._job_of)} jobs were not delivered: {self.counted()}")
        if self._replies < REPLIES:
            raise DemoFailed(f"{self._replies} of {REPLIES} replies reached the inbox")
        problem = place.problem()
        if problem is not None:
            raise DemoFailed(problem)

    # What happens meanwhile

    async def _raise_alarm(self) -> None:
        """Enqueue the emergency once half of the load is on the wire, then let some patients answer."""
        await self._smsc.until(lambda: self._smsc.submitted >= self._segments // 2)
        async with self._using_app, self._app.transaction():
            (row,) = await self._app.fetch("demo_enqueue", EMERGENCY_NUMBER, EMERGENCY_TEXT, "emergency")
            enqueued_at = time.monotonic()
        self._note(EMERGENCY_NUMBER, row["job_id"], "emergency", enqueued_at)
        _say("         an emergency was committed")
        asked = [
            entry.pdu
            for entry in self._smsc.log
            if self._category(entry.pdu.text("destination_addr")) == "transactional"
        ]
        for pdu in asked[:REPLIES]:
            self._smsc.send(pdu.text("destination_addr"), stage.SHORT_CODE, "YES", system_id=stage.ACCOUNT)

    async def _look(self) -> int:
        """Read the states; returns how many replies are in the inbox."""
        async with self._using_app:
            for row in await self._app.fetch("demo_jobs", array(self._category_of)):
                self._state_of[row["job_id"]] = row["state"]
            (row,) = await self._app.fetch("demo_replies")
        self._replies = int(row["replies"])
        return self._replies

    def _note(self, recipient: str, job: int, category: str, enqueued_at: float) -> None:
        self._job_of[recipient] = job
        self._category_of[job] = category
        self._enqueued_at[job] = enqueued_at
        self._state_of[job] = "queued"

    def _category(self, recipient: str) -> str:
        return self._category_of[self._job_of[recipient]]

    def _count(self, *states: str) -> int:
        return sum(state in states for state in self._state_of.values())

    # What the SMSC saw

    def _arrivals(self) -> tuple[dict[int, float], Counter[int]]:
        """When the last segment of each job was read, and how many segments it had."""
        reached_at: dict[int, float] = {}
        segments: Counter[int] = Counter()
        for entry in self._smsc.log:
            job = self._job_of[entry.pdu.text("destination_addr")]
            reached_at[job] = entry.at
            segments[job] += 1
        return reached_at, segments

    def _place(self) -> Place:
        """Find the emergency."""
        if EMERGENCY_NUMBER not in self._job_of:
            raise DemoFailed("the emergency was never enqueued: half of the load did not reach the SMSC")
        enqueued_at = self._enqueued_at[self._job_of[EMERGENCY_NUMBER]]
        for number, entry in enumerate(self._smsc.log, start=1):
            if entry.pdu.text("destination_addr") == EMERGENCY_NUMBER:
                before = sum(other.at < enqueued_at for other in self._smsc.log)
                return Place(before, number, len(self._smsc.log))
        raise DemoFailed("the emergency did not reach the SMSC")


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Give the smallest value that so many per cent do not exceed; nan of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _tell(what: str, fact: str) -> None:
    _say(f"  {what:9} {fact}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
