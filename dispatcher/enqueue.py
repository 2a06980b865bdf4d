"""The client's side of the queue: enqueue a message, look at a job, cancel it.

Apps that speak SQL call ``tocsin.enqueue`` and its sisters themselves, inside their own transactions; this is
the same for Python and for the command line. Nothing is judged here: the functions in the database decide.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher.store import array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dispatcher.store import Connection

LOOK_S = 0.2  # between looks for an answer
TAKEN = frozenset({"queued", "deferred", "duplicate"})


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a request."""

    job_id: int | None  # None: no row was made
    outcome: str  # queued, deferred, duplicate, blocked, invalid, conflict
    reason: str | None  # of blocked a code; of invalid and conflict the field's name and what is wrong with it

    @property
    def is_taken(self) -> bool:
        """The message is in the queue, now or since an earlier request."""
        return self.outcome in TAKEN


@dataclass(frozen=True, slots=True)
class JobView:
    """One job: its state, and a row for each submit_sm that the SMSC took. No text; numbers show two digits."""

    state: dict[str, object]  # as the view tocsin.job_status
    parts: list[dict[str, object]] | None  # None: this user may not read the evidence
    history: list[dict[str, object]]  # as tocsin.job_evidence, oldest first


async def enqueue(
    connection: Connection,
    recipient: str,
    body: str,
    *,
    category: str | None = None,
    sender: str | None = None,
    idempotency_key: str | None = None,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    expires_in_s: float | None = None,
    flash: bool = False,
    client_ref: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Enqueued:
    """Put one message into the queue. Where ``expires_at`` is not given, ``expires_in_s`` counts from when it is due.

    Raises:
        StoreUnavailable: the database is away, or another open transaction is using the same key.

    """
    (row,) = await connection.fetch(
        "enqueue",
        recipient,
        body,
        category,
        sender,
        idempotency_key,
        not_before,
        expires_at,
        expires_in_s,
        flash,
        client_ref,
        None if options is None else json.dumps(options),
    )
    return Enqueued(row["job_id"], row["outcome"], row["reason"])


async def look(connection: Connection, job_id: int) -> JobView | None:
    """Give a job that this user may see, or None.

    Raises:
        StoreUnavailable: the database is away.

    """
    state = await connection.fetchrow("job", job_id)
    if state is None:
        return None
    (evidence,) = await connection.fetch("may_read_evidence")
    parts = await connection.fetch("job_parts", job_id) if evidence["allowed"] else None
    history = [
        dict(row) | {"detail": json.loads(row["detail"])} for row in await connection.fetch("job_evidence", job_id)
    ]
    return JobView(dict(state), None if parts is None else [dict(part) for part in parts], history)


async def cancel(connection: Connection, job_id: int) -> str:
    """Cancel a job: cancelled, too_late or unknown.

    Raises:
        StoreUnavailable: the database is away, or the job's row is locked.

    """
    (row,) = await connection.fetch("cancel", job_id)
    return str(row["outcome"])


@dataclass(frozen=True, slots=True)
class Asked:
    """What an SMSC said about one part of a job."""

    part: int
    link: str
    outcome: str  # answered, unanswered, session_lost, unsupported, busy; not asked: no daemon took it
    command_status: int
    message_state: str  # of a query
    error_code: int
    final_date: str


async def ask(connection: Connection, job_id: int, kind: str, *, why: str, who: str, wait_s: float) -> list[Asked]:
    """Have the SMSC asked about each accepted part of a job without a final receipt: cancel or query; none: empty.

    Waits for the daemon that owns the link, and for the SMSC, for so long at most; what no daemon has taken by then
    is taken back. A user who may not read the evidence, as apps may not, asks nothing.

    Raises:
        StoreUnavailable: nothing is known; it may have been asked.

    """
    (evidence,) = await connection.fetch("may_read_evidence")
    if not evidence["allowed"]:
        return []
    ids = [row["id"] for row in await connection.fetch("ask_about", job_id, kind, why, who)]
    if not ids:
        return []
    ends_at = time.monotonic() + wait_s
    while True:
        is_late = time.monotonic() >= ends_at
        if is_late:
            await connection.fetch("withdraw_inquiries", array(ids))
        rows = await connection.fetch("inquiries", array(ids))
        if is_late or all(row["is_over"] for row in rows):
            break
        await asyncio.sleep(LOOK_S)
    return [
        Asked(
            row["part"],
            row["link"],
            row["outcome"],
            row["command_status"],
            row["message_state"],
            row["error_code"],
            row["final_date"],
        )
        for row in rows
    ]
