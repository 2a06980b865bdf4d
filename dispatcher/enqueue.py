"""The client's side of the queue: enqueue a message, look at a job, cancel it.

Apps that speak SQL call ``tocsin.enqueue`` and its sisters themselves, inside their own transactions; this is
the same for Python and for the command line. Nothing is judged here: the functions in the database decide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dispatcher.store import Connection

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
    return JobView(dict(state), None if parts is None else [dict(part) for part in parts])


async def cancel(connection: Connection, job_id: int) -> str:
    """Cancel a job: cancelled, too_late or unknown.

    Raises:
        StoreUnavailable: the database is away, or the job's row is locked.

    """
    (row,) = await connection.fetch("cancel", job_id)
    return str(row["outcome"])
