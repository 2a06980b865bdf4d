"""What is kept and for how long: partitions made ahead of time, and dropped once their day is old enough.

Evidence, receipts, replies and events stand in tables of one partition a UTC day. A day that is missing fails every
statement that writes into it, so they are made 14 days ahead and looked at hourly. Old days leave as a whole: a drop
frees the disk at once and leaves nothing for vacuum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable

if TYPE_CHECKING:
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.store import Connection

log = structlog.get_logger()

DAYS_AHEAD = 14
MOST_AT_ONCE = 50  # partitions a turn; a week of seven tables
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE: something has been reading the table for longer than we wait


class Retention:
    """The partitions of one database; any instance may look after them."""

    def __init__(self, retention_days: int, metrics: DispatcherMetrics) -> None:
        self._retention_days = retention_days
        self._metrics = metrics

    async def make(self, connection: Connection) -> None:
        """Make what is missing of the days ahead, and tell how many there are.

        Raises:
            StoreUnavailable: they could not be made.

        """
        try:
            row = await connection.fetchrow("make_partitions", DAYS_AHEAD)
            if row is not None and row["made"]:
                log.info("partitions_made", partitions=row["made"])
        finally:
            if not connection.is_closed:
                await self._tell(connection)

    async def drop(self, connection: Connection) -> None:
        """Drop what is older than it is kept; a table that something else holds is tried again at the next turn.

        Raises:
            StoreUnavailable: the database is away, or refused.

        """
        dropped: list[str] = []
        try:
            while len(dropped) < MOST_AT_ONCE:
                row = await connection.fetchrow("drop_partition", self._retention_days)
                if row is None or row["dropped"] is None:
                    break
                dropped.append(row["dropped"])
        except StoreUnavailable as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                raise
            log.warning("partition_held", problem=str(error))
        if dropped:
            log.info("partitions_dropped", partitions=len(dropped), oldest=dropped[0], newest=dropped[-1])
            await self._tell(connection)

    async def _tell(self, connection: Connection) -> None:
        row = await connection.fetchrow("partition_days")
        if row is not None and row["ahead"] is not None:
            self._metrics.partitions_ahead.set(row["ahead"])
            self._metrics.partitions_kept.set(row["kept"])
