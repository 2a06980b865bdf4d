"""Waiting until the view `event` shows what was committed.

It shows an event once every transaction that began before it is over, anywhere in the cluster; tests that run beside
each other on one server delay each other's events, and never lose them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


async def visible(connection: asyncpg.Connection, timeout_s: float = 30.0) -> None:
    """Return once everything committed until now is shown."""
    last = await connection.fetchval("select pg_current_xact_id()::text::bigint")
    async with asyncio.timeout(timeout_s):
        while await connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint") <= last:
            await asyncio.sleep(0.01)
