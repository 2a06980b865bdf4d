"""Looks on while the demonstration runs, cheaply: new lines of the SMSCs' logs, new events, the daemon's metrics.

It reads events by cursor as every app does, and never the state of all jobs. What it gives is for the eye;
`demo_evidence` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from dispatcher.demo_load import CATEGORIES, LANE_OF
from dispatcher.demo_stage import DemoFailed
from gateway import count

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dispatcher.demo_load import Request
    from dispatcher.demo_stage import Carrier
    from dispatcher.store import Connection
    from gateway.smsc import Smsc, Submitted

TURN_S: Final = 0.005
LANES: Final = range(6)
FINAL: Final = ("delivered", "undelivered", "unknown", "failed", "expired", "blocked", "cancelled")


@dataclass(frozen=True, slots=True)
class LinkNow:
    """One link at this moment."""

    name: str
    is_bound: bool
    sessions: int
    window_in_use: int
    window: int
    last_second: int  # segments that its SMSC read
    limit_per_s: int
    sent: int


@dataclass(frozen=True, slots=True)
class LaneNow:
    """One lane at this moment, in segments."""

    number: int
    categories: str
    waiting: int
    sent: int


@dataclass(frozen=True, slots=True)
class Now:
    """All that a person sees of a moment."""

    seconds: float  # since the load was enqueued
    links: tuple[LinkNow, ...]
    lanes: tuple[LaneNow, ...]
    jobs: int
    states: Mapping[str, int]  # final ones, as the events told
    replies_sent: int
    replies: int  # in the inbox

    @property
    def sent(self) -> int:
        """Segments that the SMSCs read."""
        return sum(lane.sent for lane in self.lanes)

    @property
    def segments(self) -> int:
        """All of them."""
        return sum(lane.sent + lane.waiting for lane in self.lanes)


class Watch:
    """What is seen of jobs that were noted."""

    def __init__(self, app: Connection, smscs: Mapping[Carrier, Smsc], http_port: int) -> None:
        """Watch these SMSCs, and the daemon that listens on this port."""
        self._app = app
        self._smscs = smscs
        self._http_port = http_port
        self._began = time.monotonic()
        self._lane_of: dict[str, int] = {}  # recipient -> lane
        self._segments: Counter[int] = Counter()  # by lane
        self._sent: Counter[int] = Counter()
        self._jobs = 0
        self._seen = dict.fromkeys(smscs, 0)  # entries of the log
        self._recent: dict[Carrier, deque[float]] = {carrier: deque() for carrier in smscs}
        self._upto = 0  # seq of the last event read
        self._state_of: dict[str, str] = {}  # job -> its end, once an event told it
        self._replies = 0
        self._metrics: dict[str, float] = {}
        self.replies_sent = 0

    def note(self, requests: Iterable[Request]) -> None:
        """Take in what was enqueued."""
        for request in requests:
            lane = LANE_OF[request.category]
            self._lane_of[request.recipient] = lane
            self._segments[lane] += count(request.body)[1]
            self._jobs += 1

    def begin(self) -> None:
        """Count the seconds from here."""
        self._began = time.monotonic()

    @property
    def all_ended(self) -> bool:
        """Say whether the events told of an end of each job."""
        return len(self._state_of) >= self._jobs

    def new_entries(self) -> list[tuple[Carrier, Submitted]]:
        """Give what the SMSCs read since the last time."""
        found: list[tuple[Carrier, Submitted]] = []
        for carrier, smsc in self._smscs.items():
            fresh = smsc.submitted - self._seen[carrier]
            self._seen[carrier] = smsc.submitted
            entries = list(islice(reversed(smsc.log), fresh))[::-1]
            self._recent[carrier].extend(entry.at for entry in entries)
            for entry in entries:
                lane = self._lane_of.get(entry.pdu.text("destination_addr"))
                if lane is not None:
                    self._sent[lane] += 1
            found += [(carrier, entry) for entry in entries]
        return found

    async def look(self) -> None:
        """Read the new events and the metrics."""
        for row in await self._app.fetch("demo_events", self._upto):
            self._upto = row["seq"]
            about, _, what = row["type"].partition(".")
            if about == "job" and what in FINAL:
                self._state_of[row["subject"]] = what
            elif row["type"] == "inbound.received":
                self._replies += 1
        with contextlib.suppress(OSError):  # of a daemon that ended: its code tells
            self._metrics = await metrics(self._http_port)

    def now(self) -> Now:
        """Put it together."""
        return Now(
            seconds=time.monotonic() - self._began,
            links=tuple(self._link(carrier) for carrier in self._smscs),
            lanes=tuple(
                LaneNow(
                    lane,
                    ", ".join(category for category in CATEGORIES if LANE_OF[category] == lane),
                    self._segments[lane] - self._sent[lane],
                    self._sent[lane],
                )
                for lane in LANES
            ),
            jobs=self._jobs,
            states=Counter(sorted(self._state_of.values())),
            replies_sent=self.replies_sent,
            replies=self._replies,
        )

    def _link(self, carrier: Carrier) -> LinkNow:
        recent = self._recent[carrier]
        while recent and recent[0] <= time.monotonic() - 1.0:
            recent.popleft()

        def gauge(name: str) -> int:
            return int(self._metrics.get(f'tocsin_{name}{{link="{carrier.name}"}}', 0))

        return LinkNow(
            name=carrier.name,
            is_bound=bool(gauge("link_bound")),
            sessions=gauge("link_sessions"),
            window_in_use=gauge("window_in_use"),
            window=carrier.window,
            last_second=len(recent),
            limit_per_s=gauge("throughput_limit"),
            sent=self._seen[carrier],
        )


def http_port(log: Path) -> int:
    """Read in the daemon's log where it listens."""
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if (event := json.loads(line))["event"] == "daemon_started":
                return int(event["http_port"])
    raise DemoFailed("the daemon does not say where it listens")


async def metrics(port: int) -> dict[str, float]:
    """Read the daemon's metrics: samples by name and labels, as Prometheus spells them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    lines = answer.partition(b"\r\n\r\n")[2].decode().splitlines()
    return {
        name: float(value) for line in lines if line[:1] != "#" for name, _, value in (line.rpartition(" "),) if name
    }


class Turns:
    """Notes when the event loop turned, to tell how late something may have been read.

    While this process waits for its processor, segments pile up in the sockets and are read together.
    """

    def __init__(self) -> None:
        self.turned_at: list[float] = []  # monotonic seconds

    async def watch(self) -> None:
        """Note the turns, until cancelled."""
        while True:
            self.turned_at.append(time.monotonic())
            await asyncio.sleep(TURN_S)

    def since(self, at: float) -> float:
        """Give an instant at which what was read at `at` had not come yet: one turn found nothing after it."""
        last = bisect_left(self.turned_at, at)
        return self.turned_at[last - 2] if last >= 2 else at
