"""Two instances, two links, an SMSC for each: what tests of several instances look at, by the SMSCs' own records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tests.fakes.smsc import Smsc
from tests.journey.running import app_of, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.journey.running import App

LINKS = ("carrier-a", "carrier-b")
INSTANCES = ("a", "b")
TICK_S = 0.005


class World:
    """An SMSC for each link, a file for each instance that names both links, an app, and a look at the tables."""

    def __init__(self, smscs: dict[str, Smsc], enqueuing: App, app: App, files: dict[str, Path], rate: int) -> None:
        self.smscs = smscs
        self._enqueuing = enqueuing
        self.app = app
        self.files = files
        self.rate = rate
        self.jobs: dict[str, int] = {}  # recipient -> job id
        self.stalls: list[tuple[float, float]] = []  # from, to: an SMSC in this process read nothing meanwhile

    async def enqueue(self, count: int, **named: object) -> list[int]:
        """Jobs of one segment with recipients of their own, in turn for each link."""
        start = len(self.jobs)
        recipients = [f"44770{n % 2}{n:06d}" for n in range(start, start + count)]
        ids = await self._enqueuing.enqueue_many(
            [{"recipient": recipient, "body": f"Number {recipient[-6:]}", **named} for recipient in recipients]
        )
        self.jobs.update(zip(recipients, ids, strict=True))
        return ids

    @property
    def submits(self) -> int:
        """Segments that the SMSCs have read."""
        return sum(smsc.submits for smsc in self.smscs.values())

    async def until_read(self, more: int, timeout_s: float = 60.0) -> None:
        """Wait until the SMSCs have read so many segments more."""
        enough = self.submits + more

        async def read() -> bool:
            return self.submits >= enough

        await until(read, timeout_s, poll_s=0.01)

    async def until_nothing_waits(self, timeout_s: float = 60.0) -> None:
        """Wait until every job is accepted, ended or in doubt."""

        async def none_waits() -> bool:
            waiting: int = await self.app.value(
                "select (select count(*) from tocsin.ready) + (select count(*) from tocsin.deferred)"
            )
            return waiting == 0

        await until(none_waits, timeout_s, poll_s=0.2)

    async def watch_stalls(self) -> None:
        """Note when this process, and so an SMSC in it, did not get to read what had come."""
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(TICK_S)
            woken_at = time.monotonic()
            if woken_at - slept_at > 2 * TICK_S:
                # what came in one stall may be read in the next one, which is then the same
                since = self.stalls.pop()[0] if self.stalls and self.stalls[-1][1] >= slept_at else slept_at
                self.stalls.append((since, woken_at + TICK_S))

    def _fastest_s(self, smsc: Smsc) -> float:
        """The shortest time in which one segment more than the rate came; what was read late may have come earlier."""
        at = [submit.at for submit in smsc.received("submit_sm")]
        fastest_s = float("inf")
        for first, last in zip(at, at[self.rate :], strict=False):
            n = bisect(self.stalls, (first, float("inf"))) - 1
            came_at = self.stalls[n][0] if n >= 0 and self.stalls[n][1] >= first else first
            fastest_s = min(fastest_s, last - came_at)
        return fastest_s

    async def judge(self) -> Verdict:
        """Hold the tables against what the SMSCs read."""
        read = Counter(
            submit.fields["destination_addr"] for smsc in self.smscs.values() for submit in smsc.received("submit_sm")
        )
        in_doubt = {row["id"] for row in await self.app.fetch("select id from tocsin.uncertain")}
        submitted = {row["job_id"] for row in await self.app.fetch("select distinct job_id from tocsin.sent")}
        return Verdict(
            jobs=len(self.jobs),
            lost=sum(
                number not in in_doubt and not (number in submitted and read[recipient])
                for recipient, number in self.jobs.items()
            ),
            doubled=sum(count > 1 for count in read.values()),
            in_doubt=len(in_doubt),
            in_doubt_unread=sum(number in in_doubt and not read[who] for who, number in self.jobs.items()),
            journals=await self.app.value("select count(*)::int from tocsin.claim"),
            most_bound=max(smsc.most_bound() for smsc in self.smscs.values()),
            binds=sum(len(smsc.received("bind_transceiver")) for smsc in self.smscs.values()),
            fastest_s=min(self._fastest_s(smsc) for smsc in self.smscs.values()),
            most_in_a_second=max(smsc.most_within(1.0) for smsc in self.smscs.values()),
            worst_stall_s=max((to - since for since, to in self.stalls), default=0.0),
        )


@dataclass(frozen=True)
class Verdict:
    """What became of all jobs, and how the accounts were used."""

    jobs: int
    lost: int  # neither in doubt, nor accepted and read by an SMSC
    doubled: int  # segments that an SMSC read more than once; nothing here is sent again
    in_doubt: int
    in_doubt_unread: int  # in doubt, and never read by an SMSC
    journals: int
    most_bound: int  # sessions of one account at the same time
    binds: int
    fastest_s: float  # the shortest time in which one segment more than the rate came to an account
    most_in_a_second: int  # segments on one account; what came while the reader stalled counts where it was read
    worst_stall_s: float  # of the reader

    def __str__(self) -> str:
        return ", ".join(f"{name} {round(value, 3)}" for name, value in asdict(self).items())

    def hold(self) -> None:
        """Nothing lost, nothing doubled, one session and no more than the rate on each account."""
        assert (self.lost, self.doubled, self.journals) == (0, 0, 0), self
        assert self.most_bound == 1, self
        assert self.fastest_s >= 1.0, self


@asynccontextmanager
async def world(
    folder: Path, queue_url: str, *, takeover_s: float, rate: int, answer_delay_s: float = 0.02, **link: object
) -> AsyncIterator[World]:
    """Bring up the SMSCs and write the files; the test starts the instances."""
    asyncio.get_running_loop().set_debug(False)
    async with AsyncExitStack() as stack:
        smscs = {name: await stack.enter_async_context(Smsc()) for name in LINKS}
        for smsc in smscs.values():
            smsc.answer_delay_s = answer_delay_s
        links = {
            name: {"port": smsc.port, "throughput_per_s": rate, "receipts": "none", **link}
            for name, smsc in smscs.items()
        }
        routes = {f"44770{n}": [name] for n, name in enumerate(LINKS)}
        files = {
            name: write_file(
                folder / name, queue_url, links, daemon={"instance": name, "takeover_s": takeover_s}, routes=routes
            )
            for name in INSTANCES
        }
        enqueuing, app = [await stack.enter_async_context(app_of(queue_url)) for _ in range(2)]
        made = World(smscs, enqueuing, app, files, rate)
        watching = asyncio.create_task(made.watch_stalls())
        try:
            yield made
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
