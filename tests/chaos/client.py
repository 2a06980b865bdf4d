"""The app of a run: enqueues and cancels in transactions of its own, and logs what it saw committed.

Where a connection is lost it cannot know whether the commit took place: it asks again with the same keys, and the
answer is logged. Some transactions are rolled back on purpose; nothing of them may ever be seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.schedule import Schedule

CATEGORIES = (
    "emergency", "staff", "auth", "conversational", "transactional", "informational", "marketing",
)  # fmt: skip
WEIGHTS = (4, 10, 16, 10, 40, 10, 10)
PREFIX = "4477009"  # the next digit says which link the recipient's route prefers
TRANSACTION_S = 3.0  # then the connection is given up, and another one asks
AGAIN_S = 0.1
LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
ROLL_BACK = 0.03  # share of the transactions that are rolled back
CANCEL_EVERY = 25  # jobs enqueued, one of the last 200 is cancelled
WORDS = ("clinic", "Monday", "14:30", "[ward 2]", "appointment", "€", "bring", "letter", "room", "please")
FOREIGN = ("приём", "врач", "موعد", "عيادة", "診察", "🚑", "завтра", "14:30")


def bodies(chosen: random.Random, number: int) -> str:
    """One text, of one part or more, in the default alphabet or in UCS-2."""
    foreign = chosen.random() < 0.12
    words = FOREIGN if foreign else WORDS
    length = chosen.choice((10, 40, 40, 60, 60, 60, 120, 90 if foreign else 250, 150 if foreign else 400))
    text = f"{number}"
    while len(text) < length:
        text += " " + chosen.choice(words)
    return text


class Client:
    """Enqueues ``jobs`` over ``span_s``."""

    def __init__(self, url: str, schedule: Schedule, note: Callable[[dict[str, Any]], None]) -> None:
        self._url = url
        self._schedule = schedule
        self._note = note
        self._chosen = random.Random(f"client {schedule.seed}")
        self._connection: asyncpg.Connection | None = None
        self._ids: list[int] = []

    async def run(self) -> None:
        """Enqueue all of it at an even pace, as far as the database lets it."""
        began = time.monotonic()
        done = 0
        for batch in self._batches():
            due = began + done / self._schedule.jobs * self._schedule.span_s
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if self._chosen.random() < ROLL_BACK:
                await self._until_done(self._rolled_back, self._batch_of(10**7 + done, 3))
            await self._until_done(self._committed, batch)
            if done // CANCEL_EVERY != (done + len(batch)) // CANCEL_EVERY:
                await self._until_done(self._cancel, self._chosen.choice(self._ids[-200:]))
            done += len(batch)
        await self.close()

    async def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        number = 0
        while number < self._schedule.jobs:
            size = min(self._chosen.choice((1, 1, 2, 5, 20, 50, 100)), self._schedule.jobs - number)
            yield self._batch_of(number, size)
            number += size

    def _batch_of(self, first: int, size: int) -> list[dict[str, Any]]:
        return [
            {
                "recipient": f"{PREFIX}{number % 10}{number // 10:04d}",
                "body": bodies(self._chosen, number),
                "category": self._chosen.choices(CATEGORIES, WEIGHTS)[0],
                "idempotency_key": f"key-{number}",
            }
            for number in range(first, first + size)
        ]

    async def _until_done(self, work: Callable[[asyncpg.Connection, Any], Any], argument: Any) -> None:
        """Ask again, on a new connection, until an answer is seen."""
        while True:
            try:
                async with asyncio.timeout(TRANSACTION_S):
                    if self._connection is None:
                        self._connection = await asyncpg.connect(
                            self._url, server_settings={"application_name": "chaos client"}
                        )
                    await work(self._connection, argument)
                    return
            except LOST:
                await self.close()
                await asyncio.sleep(AGAIN_S)

    async def _enqueue(self, connection: asyncpg.Connection, batch: list[dict[str, Any]]) -> list[int]:
        if len(batch) > 2:
            rows = await connection.fetch("select * from tocsin.enqueue_many($1) order by item", json.dumps(batch))
        else:
            rows = [
                await connection.fetchrow(
                    "select * from tocsin.enqueue($1, $2, category => $3, idempotency_key => $4)", *job.values()
                )
                for job in batch
            ]
        assert all(row["outcome"] in {"queued", "deferred", "duplicate"} for row in rows), {r["reason"] for r in rows}
        return [row["job_id"] for row in rows]

    async def _committed(self, connection: asyncpg.Connection, batch: list[dict[str, Any]]) -> None:
        async with connection.transaction():
            ids = await self._enqueue(connection, batch)
        at = time.monotonic()
        for job, job_id in zip(batch, ids, strict=True):
            named = {"job_id": job_id, "recipient": job["recipient"], "body": job["body"], "category": job["category"]}
            self._note({"what": "committed", "at": at, **named})
        self._ids += ids

    async def _rolled_back(self, connection: asyncpg.Connection, batch: list[dict[str, Any]]) -> None:
        transaction = connection.transaction()
        await transaction.start()
        ids = await self._enqueue(connection, batch)
        self._note({"what": "rolled back", "at": time.monotonic(), "job_ids": ids})
        await transaction.rollback()

    async def _cancel(self, connection: asyncpg.Connection, job_id: int) -> None:
        answer = await connection.fetchval("select tocsin.cancel($1)", job_id)
        self._note({"what": "cancel", "at": time.monotonic(), "job_id": job_id, "answer": answer})
