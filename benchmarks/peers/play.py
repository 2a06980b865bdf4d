"""One peer, from an empty database to the account of its messages, with the parts that the journey is measured with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks.ledger import Ledger
from benchmarks.measure import calibrate, cpu_s, percentile, postgres_cpu_s, rss_mb, speed_now
from benchmarks.peers.peer import SYSTEM, Stage
from benchmarks.stage import END_S, Child, bound, postmaster_pid, see_alive, version_of

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.peer import Peer
    from benchmarks.plan import Plan

FILL_S: Final = 20.0
FULL: Final = 0.95  # of the depth: the driver fills it up, and the peer takes from it


@dataclass(slots=True)
class Reading:
    """What is read at the window's two ends."""

    at: float  # monotonic
    cells: list[int]
    forwarded: int
    cpu: dict[str, float]


class PeerRun:
    """One run of one peer."""

    def __init__(self, peer: Peer, plan: Plan, url: str, folder: Path, spool: Path, held: list[Child]) -> None:
        self.peer = peer
        self.plan = plan
        self.depth = min(plan.depth, peer.depth)
        self.owed = min(plan.owed, peer.owed)
        self.url = url
        self.folder = folder
        self.spool = spool
        self.held = held
        self.ledger = Ledger(folder / "ledger", create=True)
        self.most_rss = 0.0
        self.speeds: list[float] = []

    async def play(self) -> dict[str, Any]:
        """Play it and give the figures."""
        self.control: asyncpg.Connection = await asyncpg.connect(self.url)
        try:
            self.postmaster = await postmaster_pid(self.control)
            return await self._play()
        finally:
            await self.control.close()
            self.ledger.close()

    async def _play(self) -> dict[str, Any]:
        plan, calibrated = self.plan, calibrate()
        await self._set_the_stage()
        await self._watch(plan.warm_s)
        filled_s = await self._fill()
        begin = await self._read()
        await self._watch(plan.seconds / 2)
        await self.control.execute("checkpoint")
        await self._watch(begin.at + plan.seconds - time.monotonic())
        end = await self._read()
        self.ledger[cell.STOP] = 1
        drive = await self.driver.hear(1, timeout_s=plan.drain_s + END_S)
        left = await self.peer.left(self.control)
        self.own.terminate()
        ended = await self.own.ended()
        self.sink.say(f"{begin.at} {end.at}")
        seen = await self.sink.hear(1)
        return {
            **figures(begin, end),
            "system": self.peer.name,
            "commits": self.peer.commits,
            "postgresql": version_of(self.control),
            "window": plan.window,
            "depth": self.depth,
            "owed": self.owed,
            "filled_s": filled_s,
            "rss_mb": self.most_rss,
            "calibration": {"before": calibrated, "during": percentile(sorted(self.speeds), 0.5), "after": calibrate()},
            "driver_held_back": drive["held_back"],
            "account": {
                **drive,
                "segments": seen["segments"],
                "jobs": seen["jobs"],
                "receipts": seen["receipts"],
                "left": left,
                "problems": problems(drive, seen, left, ended),
            },
        }

    async def _set_the_stage(self) -> None:
        """Start the sink, the peer, and when it is bound the driver."""
        plan = self.plan
        ledger = ["--ledger", str(self.folder / "ledger")]
        timing = ["--answer-ms", str(plan.answer_ms), "--deliver-window", str(plan.deliver_window)]
        self.sink = self._child("sink", ["benchmarks.sink", *ledger, *timing, *self.peer.sink])
        sink_port = (await self.sink.hear())["port"]
        stage = Stage(self.url, self.folder, self.spool, sink_port, plan.window, self.held)
        words = await self.peer.start(stage)
        self.own = next(child for child in self.held if child.name == SYSTEM)
        await bound(self.own, self.ledger, self.held)
        limits = ["--depth", str(self.depth), "--owed", str(self.owed), "--drain", str(plan.drain_s)]
        self.driver = self._child("driver", [*words, *ledger, *limits])
        await self.driver.hear()

    def _child(self, name: str, arguments: list[str]) -> Child:
        child = Child(name, ["-m", *arguments], self.folder)
        self.held.append(child)
        return child

    async def _watch(self, seconds: float) -> None:
        """Wait, and see that everybody lives."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            see_alive(self.held)
            self.most_rss = max(self.most_rss, rss_mb(self.own.pid))
            self.speeds.append(speed_now())
            await asyncio.sleep(min(left, 1.0))

    async def _fill(self) -> float | None:
        """Wait until the queue is deep, since a peer that takes messages faster than it sends them has to do both.

        Gives the seconds that took beyond the warm-up; None when it was not so in time, hence the way in is the limit.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < FILL_S:
            cells = self.ledger.cells
            waiting = cells[cell.CLIENTS] - cells[cell.SUBMITTED]
            if waiting >= FULL * self.depth or cells[cell.OWED] >= FULL * self.owed:
                return time.monotonic() - begun
            await self._watch(0.2)
        return None

    async def _read(self) -> Reading:
        cpu = {child.name: cpu_s(child.pid) for child in self.held}
        if self.postmaster is not None:
            cpu["postgres"] = postgres_cpu_s(self.postmaster)
        forwarded = await self.peer.forwarded(self.control, self.ledger)
        return Reading(time.monotonic(), list(self.ledger.cells), forwarded, cpu)


def figures(begin: Reading, end: Reading) -> dict[str, Any]:
    """Give what rose between the two readings: a second, and CPU seconds per 1,000 delivered."""
    seconds = end.at - begin.at
    rose = [after - before for before, after in zip(begin.cells, end.cells, strict=True)]
    cpu = {name: end.cpu[name] - begin.cpu[name] for name in begin.cpu}
    delivered = max(1, rose[cell.DELIVERED])
    return {
        "seconds": seconds,
        "accepted_per_s": rose[cell.CLIENTS] / seconds,
        "submitted_per_s": rose[cell.JOBS] / seconds,
        "delivered_per_s": rose[cell.DELIVERED] / seconds,
        "forwarded_per_s": (end.forwarded - begin.forwarded) / seconds,
        "receipts_refused": rose[cell.REFUSED],
        "cpu_s_per_1000": {name: used * 1000 / delivered for name, used in cpu.items()},
        "cores": {name: used / seconds for name, used in cpu.items()},
        "driver_could_per_s": rose[cell.CLIENTS] / cpu["driver"] if cpu["driver"] else None,
        "waiting": {
            "begin": begin.cells[cell.CLIENTS] - begin.cells[cell.SUBMITTED],
            "end": end.cells[cell.CLIENTS] - end.cells[cell.SUBMITTED],
        },
        "receipts_owed": {"begin": begin.cells[cell.OWED], "end": end.cells[cell.OWED]},
    }


def problems(drive: dict[str, Any], seen: dict[str, Any], left: int, ended: int) -> list[str]:
    """Tell what does not add up: accepted, segments and receipts at the sink, receipts forwarded."""
    accepted, segments, receipts, forwarded = (
        drive["accepted"], seen["segments"], seen["receipts"], drive["forwarded"],
    )  # fmt: skip
    told = []
    if not accepted:
        told.append("no message was accepted")
    if segments != accepted:
        told.append(f"{accepted} messages accepted, {segments} segments at the sink")
    if seen["receipts_owed"] or receipts != segments:
        told.append(f"{segments} segments at the sink, {receipts} receipts answered")
    if forwarded != receipts:
        told.append(f"{receipts} receipts answered, {forwarded} forwarded")
    for name, what in (
        ("refused", "messages were refused"),
        ("doubled", "receipts were forwarded again"),
        ("strange", "receipts came that are none of ours"),
        ("undelivered", "receipts did not say delivered"),
        ("unanswered", "messages were never answered"),
    ):
        if drive[name]:
            told.append(f"{drive[name]} {what}")
    if left:
        told.append(f"{left} rows of receipts are left in the database")
    if ended:
        told.append(f"it ended with {ended}")
    return told
