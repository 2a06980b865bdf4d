"""Queue libraries beside ours, when they are installed: pgqueuer and procrastinate. They are in no requirements.

Each is used as its manual shows, with a worker function that writes the row of ``sent``. A worker is told to end once
the jobs wanted are done; what it has taken by then it finishes, so it may work somewhat more.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import asyncpg

from benchmarks.queues import SENT_TABLE, Account, Queue, message_id

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTED: Final = {"pgqueuer": "1.6.0", "procrastinate": "3.10.0"}
NEEDS: Final = {"pgqueuer": ("pgqueuer",), "procrastinate": ("procrastinate", "psycopg", "psycopg_pool")}
FALLBACK_S: Final = 1.0  # between looks of a worker that nobody wakes

SENT: Final = "insert into sent (job_id, message_id, destination, category) values ($1, $2, $3, $4)"
PGQUEUER_ACCOUNT: Final = """
select (select count(*) from sent) as rows,
       (select count(distinct s.job_id) from sent s
        where s.message_id = 'm' || s.job_id
          and not exists (select from pgqueuer q where q.id = s.job_id)
          and exists (select from pgqueuer_log l where l.job_id = s.job_id and l.status = 'successful')) as done,
       (select count(*) from pgqueuer q
        where q.status = 'queued' and not exists (select from sent where job_id = q.id)) as waiting,
       (select count(*) from pgqueuer q
        where q.status <> 'queued' or exists (select from sent where job_id = q.id)) as astray
"""
PROCRASTINATE_ACCOUNT: Final = """
select (select count(*) from sent) as rows,
       (select count(distinct s.job_id) from sent s join procrastinate_jobs j on j.id = s.job_id
        where j.status = 'succeeded' and s.message_id = 'm' || s.job_id) as done,
       (select count(*) from procrastinate_jobs j
        where j.status = 'todo' and not exists (select from sent where job_id = j.id)) as waiting,
       (select count(*) from procrastinate_jobs j
        where j.status not in ('todo', 'succeeded')
           or (j.status = 'todo') = exists (select from sent where job_id = j.id)) as astray
"""


def missing(name: str) -> str | None:
    """The line that says how to install this library; None when it is there."""
    try:
        for module in NEEDS[name]:
            importlib.import_module(module)
    except ImportError:
        extra = " 'psycopg[binary,pool]'" if "psycopg" in NEEDS[name] else ""
        return f"{name}: not installed (pip install {name}=={TESTED[name]}{extra})"
    return None


class Peer(Queue):
    """A library's queue: a session that counts, a pool for the worker function, and one row of ``sent`` a job."""

    table_account: ClassVar[str]

    async def open(self) -> None:
        self._app = await asyncpg.connect(self.url)
        await self._app.execute(SENT_TABLE)
        self._pool = await asyncpg.create_pool(self.url, min_size=self.concurrency, max_size=self.concurrency)
        self._wanted = self._done = 0

    async def work(self, jobs: int) -> int:
        self._wanted, self._done = jobs, 0
        await self._run()
        return self._done

    async def sent(self, job_id: int, job: dict[str, str]) -> None:
        """The end of a job, in the worker function."""
        await self._pool.execute(SENT, job_id, message_id(job_id), job["recipient"], job["category"])
        self._done += 1
        if self._done == self._wanted:
            self._end()

    @abstractmethod
    async def _run(self) -> None:
        """Run a worker until it was told to end, and has."""

    @abstractmethod
    def _end(self) -> None:
        """Tell the worker to end."""

    async def account(self) -> Account:
        return Account(**dict(await self._app.fetchrow(self.table_account)))

    async def close(self) -> None:
        await self._pool.close()
        await self._app.close()


class PgQueuer(Peer):
    """pgqueuer: claims in batches, deletes and logs what is done in batches."""

    name = "pgqueuer"
    table_account = PGQUEUER_ACCOUNT

    async def open(self) -> None:
        await super().open()
        library: Any = importlib.import_module("pgqueuer")
        self._session = await asyncpg.connect(self.url)
        self._queue = library.PgQueuer.from_asyncpg_connection(self._session)
        self._queries = self._queue.qm.queries
        await self._queries.install()

        @self._queue.entrypoint("send")  # type: ignore[untyped-decorator]
        async def send(job: Any) -> None:
            await self.sent(job.id, json.loads(job.payload))

    async def enqueue(self, jobs: Sequence[dict[str, str]]) -> int:
        payloads = [json.dumps(job).encode() for job in jobs]
        return len(await self._queries.enqueue(["send"] * len(jobs), payloads, [0] * len(jobs)))

    async def _run(self) -> None:
        # without a limit it takes the whole backlog at once
        await self._queue.qm.run(batch_size=self.batch, max_concurrent_tasks=2 * self.batch)

    def _end(self) -> None:
        self._queue.qm.shutdown.set()

    async def close(self) -> None:
        await self._session.close()
        await super().close()


class Procrastinate(Peer):
    """procrastinate: claims and ends each job by a statement of its own, some jobs at a time."""

    name = "procrastinate"
    table_account = PROCRASTINATE_ACCOUNT

    async def open(self) -> None:
        await super().open()
        library: Any = importlib.import_module("procrastinate")
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        # a pool of the worker's size and two: one session listens
        connector = library.PsycopgConnector(conninfo=self.url, min_size=2, max_size=self.concurrency + 2)
        self._queue = library.App(connector=connector)
        await self._queue.open_async()
        await self._queue.schema_manager.apply_schema_async()

        @self._queue.task(name="send", pass_context=True)  # type: ignore[untyped-decorator]
        async def send(context: Any, **job: str) -> None:
            await self.sent(context.job.id, job)

        self._send = send

    async def enqueue(self, jobs: Sequence[dict[str, str]]) -> int:
        return len(await self._send.batch_defer_async(*jobs))

    async def _run(self) -> None:
        self._worker = asyncio.create_task(
            self._queue.run_worker_async(
                concurrency=self.concurrency,
                fetch_job_polling_interval=FALLBACK_S,
                install_signal_handlers=False,
            )
        )
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker

    def _end(self) -> None:
        self._worker.cancel()  # it takes no more, and finishes what it has

    async def close(self) -> None:
        await self._queue.close_async()
        await super().close()
