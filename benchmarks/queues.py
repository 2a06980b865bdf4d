"""The queues of the queue benchmark that need nothing but this project: ours, and a table with a status column.

Each takes the same jobs, works some of them, and can tell afterwards what became of every one. The message id is made
from the job's number, so that an account can see that each job got its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import asyncpg
from prometheus_client import CollectorRegistry

from benchmarks.enqueuer import CATEGORIES, ENQUEUE_MANY
from benchmarks.stage import CONFIGURATION, SENDER
from config.settings import load
from dispatcher.apply import apply
from dispatcher.claim import Claimer
from dispatcher.job import after_submit
from dispatcher.metrics import DispatcherMetrics
from dispatcher.record import ACCEPTED, Record
from dispatcher.settle import Settler
from dispatcher.store import PINNED, PROBING, connect
from gateway import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINK: Final = "sink"  # of stage.CONFIGURATION
LANE: Final = CATEGORIES.index("marketing")

OUR_ACCOUNT: Final = """
select (select count(*) from tocsin.sent) as rows,
       (select count(distinct job_id) from tocsin.sent where message_id = 'm' || job_id) as done,
       (select count(*) from tocsin.ready r
        where not exists (select from tocsin.sent s where s.job_id = r.id)) as waiting,
       (select count(*) from tocsin.ready r where exists (select from tocsin.sent s where s.job_id = r.id))
           + (select count(*) from tocsin.claim) + (select count(*) from tocsin.deferred)
           + (select count(*) from tocsin.uncertain) + (select count(*) from tocsin.closed) as astray
"""

# The sent table of every queue that is not ours: the columns that a receipt and an inquiry need, and ours' two indexes.
SENT_TABLE: Final = """
create table sent (
    submitted_at timestamptz not null default now(), job_id bigint not null, message_id text not null,
    destination text not null, category text not null, receipt_state smallint, receipt_at timestamptz);
create index on sent (job_id);
create index on sent (message_id);
"""
JOB_TABLE: Final = """
create table job (
    id bigint generated always as identity primary key, status text not null default 'queued', recipient text not null,
    body text not null, category text not null, attempt smallint not null default 0,
    enqueued_at timestamptz not null default now(), claimed_at timestamptz, ended_at timestamptz);
create index on job (id) where status = 'queued';
"""
FILL: Final = """
insert into job (recipient, body, category)
select recipient, body, category from jsonb_to_recordset($1::jsonb) as j (recipient text, body text, category text)
"""
CLAIM: Final = """
update job set status = 'sending', attempt = attempt + 1, claimed_at = now()
where id = any (array(select id from job where status = 'queued' order by id limit $1 for update skip locked))
returning id, recipient, body, category
"""
FINISH: Final = """
with ended as (
    update job set status = 'sent', ended_at = now() where id = any ($1::bigint[]) and status = 'sending'
    returning id, recipient, category
)
insert into sent (job_id, message_id, destination, category)
select e.id, m.message_id, e.recipient, e.category
from ended e join unnest($1::bigint[], $2::text[]) m (id, message_id) using (id)
"""
STATUS_ACCOUNT: Final = """
select (select count(*) from sent) as rows,
       (select count(distinct s.job_id) from sent s join job j on j.id = s.job_id
        where j.status = 'sent' and s.message_id = 'm' || s.job_id) as done,
       (select count(*) from job j
        where status = 'queued' and not exists (select from sent where job_id = j.id)) as waiting,
       (select count(*) from job j where status not in ('queued', 'sent')
            or (status = 'queued') = exists (select from sent where job_id = j.id)) as astray
"""


def message_id(job_id: int) -> str:
    """What an SMSC would have given the job."""
    return f"m{job_id}"


@dataclass(frozen=True, slots=True)
class Account:
    """Where the jobs are: rows of ``sent``, jobs with a right one, jobs untouched, and jobs that are neither."""

    rows: int
    done: int
    waiting: int
    astray: int

    def problems(self, enqueued: int, worked: int) -> list[str]:
        """What does not add up; nothing when each job has exactly one row of the end, or waits."""
        found = []
        if self.rows != self.done:
            found.append(f"{self.rows} rows in sent for {self.done} jobs with their own message id")
        if self.done != worked:
            found.append(f"{worked} jobs worked, {self.done} jobs in sent")
        if self.done + self.waiting != enqueued:
            found.append(f"{enqueued} enqueued, {self.done} sent and {self.waiting} waiting")
        if self.astray:
            found.append(f"{self.astray} jobs neither sent nor waiting, or both")
        return found


class Queue(ABC):
    """A queue on an empty database. ``batch``: jobs a claim; ``concurrency``: jobs at a time, if one by one."""

    name: ClassVar[str]

    def __init__(self, url: str, folder: Path, *, batch: int, concurrency: int) -> None:
        self.url = url
        self.folder = folder
        self.batch = batch
        self.concurrency = concurrency

    @abstractmethod
    async def open(self) -> None:
        """Make tables and sessions."""

    @abstractmethod
    async def enqueue(self, jobs: Sequence[dict[str, str]]) -> int:
        """Put jobs in; gives how many it took."""

    @abstractmethod
    async def work(self, jobs: int) -> int:
        """Work so many, each to its row of the end; gives how many it did."""

    @abstractmethod
    async def account(self) -> Account:
        """Ask the tables."""

    @abstractmethod
    async def close(self) -> None:
        """Close the sessions."""


class Ours(Queue):
    """The product's claim, record and settle, in turns on one task; no link, each job is accepted at once."""

    name = "tocsin"

    async def open(self) -> None:
        path = self.folder / "tocsin.toml"
        path.write_text(
            CONFIGURATION.format(
                directory=self.folder,
                url=self.url,
                port=1,
                window=1_000,
                throughput=100_000,
                sessions=1,
                sender=SENDER,
            )
        )
        self._app = await asyncpg.connect(self.url)
        self._claiming = await connect(self.url, PINNED)
        self._flushing = await connect(self.url, PROBING)
        await apply(self._claiming, load(path, {}))
        owned = await self._claiming.fetchrow("own_link", LINK, "1:bench")
        assert owned is not None
        epochs = {LINK: int(owned["epoch"])}
        await self._claiming.fetch("forget_journal", LINK, epochs[LINK])
        self._record = Record.open(self.folder / "record")
        self._claimer = Claimer(epochs, time.monotonic)
        self._settler = Settler(
            epochs=epochs,
            claimer=self._claimer,
            record=self._record,
            metrics=DispatcherMetrics(CollectorRegistry()),
            clock=time.monotonic,
            wake=lambda: None,
            unsettled=set(),
            accepted=lambda _link, _message_id: None,
        )

    async def enqueue(self, jobs: Sequence[dict[str, str]]) -> int:
        rows = await self._app.fetch(ENQUEUE_MANY, json.dumps(list(jobs)))
        return sum(row["outcome"] == "queued" for row in rows)

    async def work(self, jobs: int) -> int:
        done = 0
        while done < jobs:
            windows = self._claimer.windows(LINK, LANE, min(self.batch, jobs - done))
            claimed = await self._claimer.claim(self._claiming, windows)
            if not claimed:
                break
            now = time.monotonic()
            self._record.written(LINK, now, [(job.id, job.enqueued_us, 1) for job in claimed])
            self._record.answered(
                LINK, now, [(job.id, job.enqueued_us, 1, ACCEPTED, message_id(job.id)) for job in claimed]
            )
            for job in claimed:
                job.note(1, Verdict.ACCEPTED, ACCEPTED, message_id(job.id), now)
                self._settler.put(job, after_submit(job))
            while self._settler.pending:
                await self._settler.flush(self._flushing)
            done += len(claimed)
        return done

    async def account(self) -> Account:
        return Account(**dict(await self._app.fetchrow(OUR_ACCOUNT)))

    async def close(self) -> None:
        self._record.close()
        await self._claiming.close()
        await self._flushing.close()
        await self._app.close()


class StatusColumn(Queue):
    """``for update skip locked`` on a status column, in batches: claim, commit; sent and its row, commit."""

    name = "status column"

    async def open(self) -> None:
        self._app = await asyncpg.connect(self.url)
        await self._app.execute(SENT_TABLE + JOB_TABLE)

    async def enqueue(self, jobs: Sequence[dict[str, str]]) -> int:
        return int((await self._app.execute(FILL, json.dumps(list(jobs)))).rpartition(" ")[2])

    async def work(self, jobs: int) -> int:
        return await self._work(self._app, jobs, self.batch)

    async def _work(self, connection: asyncpg.Connection, jobs: int, batch: int) -> int:
        claim, finish = await connection.prepare(CLAIM), await connection.prepare(FINISH)
        done = 0
        while done < jobs:
            claimed = [row["id"] for row in await claim.fetch(min(batch, jobs - done))]
            if not claimed:
                break
            await finish.fetch(claimed, [message_id(number) for number in claimed])
            done += len(claimed)
        return done

    async def account(self) -> Account:
        return Account(**dict(await self._app.fetchrow(STATUS_ACCOUNT)))

    async def close(self) -> None:
        await self._app.close()


class OneByOne(StatusColumn):
    """The same with one job a claim, on as many sessions as jobs go at a time."""

    name = "one by one"

    async def open(self) -> None:
        await super().open()
        self._workers = [await asyncpg.connect(self.url) for _ in range(self.concurrency)]

    async def work(self, jobs: int) -> int:
        least, more = divmod(jobs, self.concurrency)
        shares = [least + (n < more) for n in range(self.concurrency)]
        tasks = [self._work(one, share, 1) for one, share in zip(self._workers, shares, strict=True)]
        return sum(await asyncio.gather(*tasks))

    async def close(self) -> None:
        for one in self._workers:
            await one.close()
        await super().close()
