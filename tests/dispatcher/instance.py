"""One instance's parts around a test database, without links: what is claimed is answered by the test itself."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from config.settings import load
from dispatcher.apply import apply
from dispatcher.claim import Claimer
from dispatcher.errors import StoreUnavailable
from dispatcher.inbound import InboundDesk
from dispatcher.intake import Intake
from dispatcher.job import after_submit
from dispatcher.metrics import DispatcherMetrics
from dispatcher.receipts import ReceiptDesk
from dispatcher.record import Record
from dispatcher.settle import Settler
from dispatcher.stops import Stops
from dispatcher.store import PINNED, PROBING, connect
from gateway import Segment, Submission, SubmitResult, Verdict
from tests.journey.running import LINK, App, app_of, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from config.settings import Settings
    from dispatcher.job import Job
    from dispatcher.store import Connection
    from dispatcher.store import Record as Row
    from gateway import Inbound, Receipt

HORIZON_S = 3 * 86_400.0
REASSEMBLY_WAIT_S = 600.0
WAIT_S = 3600.0


class Clock:
    """Monotonic seconds that a test may push on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


class Given:
    """A deliver_sm as the desks see it: what it says, and how it was answered."""

    def __init__(self, said: Receipt | Inbound, *, session_lives: bool = True) -> None:
        self.receipt_or_inbound = said
        self.answers: list[int] = []
        self._session_lives = session_lives

    def answer(self, command_status: int) -> bool:
        self.answers.append(command_status)
        return self._session_lives


class Unseen:
    """A connection on which statements take effect, and whose answers are lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, name: str, *arguments: object) -> None:
        await self._connection.fetch(name, *arguments)
        raise StoreUnavailable("the answer was lost")

    async def fetchrow(self, name: str, *arguments: object) -> Row | None:
        return await self._connection.fetchrow(name, *arguments)


class Instance:
    """Claims, settles, matches receipts and stores MO messages under the name and epochs it is given."""

    def __init__(
        self, name: str, settings: Settings, connections: tuple[Connection, Connection], app: App, record: Record
    ) -> None:
        self.name = name
        self.settings = settings
        self.claiming, self.flushing = connections
        self.app = app
        self.record = record
        self.clock = Clock()
        self.epochs: dict[str, int] = {}
        self.registry = CollectorRegistry()
        self.metrics = DispatcherMetrics(self.registry)
        self.links = links = {link.name: link for link in settings.links}
        self.claimer = Claimer(self.epochs, self.clock)
        unsettled: set[tuple[str, str]] = set()
        self.receipts = ReceiptDesk(
            links=links,
            horizon_s=HORIZON_S,
            wait_s=WAIT_S,
            metrics=self.metrics,
            clock=self.clock,
            wake=lambda: None,
            unsettled=unsettled,
        )
        self.intake = Intake(links=links, desk=self.receipts, metrics=self.metrics, wake=lambda: None)
        no_links: Any = SimpleNamespace(links={})
        self.stops = Stops(settings, lambda: no_links, self.clock)
        self.inbound = InboundDesk(
            epochs=self.epochs,
            record=record,
            metrics=self.metrics,
            clock=self.clock,
            wake=lambda: None,
            links=links,
            reassembly_wait_s=REASSEMBLY_WAIT_S,
            stops=self.stops,
            settings=settings,
        )
        self.settler = Settler(
            epochs=self.epochs,
            claimer=self.claimer,
            record=record,
            metrics=self.metrics,
            clock=self.clock,
            wake=lambda: None,
            unsettled=unsettled,
            accepted=self.receipts.accepted,
        )

    async def own(self, link: str = LINK) -> int:
        """Take the link over, whoever has it."""
        row = await self.claiming.fetchrow("own_link", link, self.name)
        assert row is not None
        self.epochs[link] = int(row["epoch"])
        await self.claiming.fetch("forget_journal", link, self.epochs[link])  # that is all it has to account for
        return self.epochs[link]

    async def claim(self, lanes: Iterable[int] = range(6), room: int = 100, link: str = LINK) -> list[Job]:
        windows = [window for lane in lanes for window in self.claimer.windows(link, lane, room)]
        return await self.claimer.claim(self.claiming, windows)

    def submit(self, job: Job) -> Submission:
        """What the link would hold of the job: the parts not yet accepted."""
        segments = tuple(
            Segment(part, job.parts, 0, job.parts > 1, b"")
            for part in range(1, job.parts + 1)
            if not job.done >> (part - 1) & 1
        )
        job.submission = Submission(job.lane, None, segments, job.expires_at, context=job)  # type: ignore[arg-type]
        return job.submission

    def answered(
        self, job: Job, answers: Sequence[tuple[int, Verdict, int, str]], *, session_over: bool = False
    ) -> None:
        """Give the settler what the SMSC said to some parts: (part, verdict, command_status, message_id)."""
        submission = job.submission or self.submit(job)
        for part, verdict, command_status, message_id in answers:
            submission.stopped |= verdict is not Verdict.ACCEPTED
            job.note(part, verdict, command_status, message_id, self.clock(), session_over=session_over)
        self.settler.put(job, after_submit(job))

    def accepted(self, job: Job, message_ids: Sequence[str]) -> None:
        """Every part of the job was accepted."""
        self.answered(job, [(part, Verdict.ACCEPTED, 0, name) for part, name in enumerate(message_ids, 1)])

    def late(self, job: Job, part: int, verdict: Verdict, message_id: str) -> None:
        """A second answer to a part."""
        segment = Segment(part, job.parts, 0, job.parts > 1, b"")
        submission = self.submit(job)
        status = 0 if verdict is Verdict.ACCEPTED else 8
        self.settler.put_late(
            job, SubmitResult(submission, segment, verdict, status, message_id, self.clock(), self.clock())
        )

    async def flush(self) -> None:
        """Write back everything that waits."""
        while self.settler.pending:
            await self.settler.flush(self.flushing)
        await self.settler.flush(self.flushing)

    async def sent(self, message_ids: Sequence[str], **named: object) -> int:
        """A job with these parts that the SMSC took; returns its id."""
        body = "x" * (100 if len(message_ids) == 1 else 153 * len(message_ids))
        number = await self.app.enqueue(body=body, **named)  # type: ignore[arg-type]
        (job,) = [job for job in await self.claim() if job.id == number]
        self.accepted(job, message_ids)
        await self.flush()
        return number

    async def receive(self, *said: Receipt, link: str = LINK) -> list[Given]:
        """Let receipts come, be kept and be applied."""
        given = [Given(one) for one in said]
        self.intake.take(link, given)  # type: ignore[arg-type]
        await self.bring_home()
        return given

    async def bring_home(self) -> None:
        """Keep and apply every receipt that can be."""
        while self.intake.pending:
            await self.intake.keep(self.flushing)
        while self.receipts.pending:
            await self.receipts.flush(self.flushing)

    async def deliver(self, *said: Inbound, link: str = LINK, session_lives: bool = True) -> list[Given]:
        """Let MO messages come and be stored."""
        given = [Given(one, session_lives=session_lives) for one in said]
        self.inbound.take(link, given)  # type: ignore[arg-type]
        while self.inbound.pending:
            await self.inbound.flush(self.flushing)
        return given

    def counter(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def instance(
    folder: Path,
    database_url: str,
    *,
    name: str = "1:a",
    links: Mapping[str, Mapping[str, Any]] | None = None,
    owns: bool = True,
    categories: Sequence[Mapping[str, object]] = (),
    routes: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[Instance]:
    """An instance that owns every link of its file, which is applied."""
    wanted = links or {LINK: {}}
    path = write_file(
        folder / name.replace(":", "_"),
        database_url,
        {key: {"port": 1, **its} for key, its in wanted.items()},
        categories=categories,
        routes=routes,
    )
    settings = load(path, {})
    record = Record.open(folder / name.replace(":", "_") / "record")
    claiming, flushing = await connect(database_url, PINNED), await connect(database_url, PROBING)
    try:
        async with app_of(database_url) as app:
            await apply(claiming, settings)
            made = Instance(name, settings, (claiming, flushing), app, record)
            if owns:
                for link in wanted:
                    await made.own(link)
            yield made
    finally:
        record.close()
        await claiming.close()
        await flushing.close()


async def tables(app: App, *names: str) -> dict[str, list[str]]:
    """The rows of these tables, to compare."""
    return {
        name: sorted(json.dumps(dict(row), default=str) for row in await app.fetch(f"select * from tocsin.{name}"))
        for name in names
    }
