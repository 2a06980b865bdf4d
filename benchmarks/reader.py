"""An app that reads what handsets wrote: rows of ``tocsin.inbound``, and events of ``tocsin.event``, both by cursor.

It asks for both in one statement, again and again with a pause of 5 ms. What a read finds was committed by its end,
and, since the one before did not find it, not yet when that one began: between these two lies the commit. A row and its
event are committed together; ``tocsin.event`` shows it once no older transaction is open, so an app sees it later.

``python -m benchmarks.reader --url URL`` reads until its standard input has a line or ends, once more, and prints one
line of JSON. Instants are monotonic seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any, Final

import asyncpg
import uvloop

PAUSE_S: Final = 0.005
# Planned once, and by the indexes: the tables are empty when the statement is prepared, and have a partition a day.
SESSION: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
# $1 the last inbound_id, $2 the last seq. One process writes both, so each only grows in the order of the commits.
READ: Final = """
select false as is_event, inbound_id as place, inbound_id, source from tocsin.inbound where inbound_id > $1
union all
select true, seq, subject::bigint, null from tocsin.event where seq > $2 and type = 'inbound.received'
"""


class Reader:
    """What was read, by the handset's number: when it was not there yet, and when it was there."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.stored: dict[str, list[tuple[float, float]]] = {}  # number -> a pair for each row
        self.seen: dict[str, list[tuple[float, float]]] = {}  # number -> a pair for each event
        self.took: list[float] = []  # of each read
        self.between: list[float] = []  # from the begin of a read to the end of the next: the doubt of an instant
        self._connection = connection
        self._inbound_id = self._seq = 0
        self._numbers: dict[int, str] = {}  # of rows whose event was not seen
        self._before = time.monotonic()

    async def open(self) -> None:
        """Prepare the statement."""
        self._statement = await self._connection.prepare(READ)

    async def read(self) -> None:
        """Read what came since."""
        begun = time.monotonic()
        rows = await self._statement.fetch(self._inbound_id, self._seq)
        now = time.monotonic()
        for is_event, place, inbound_id, source in rows:
            if is_event:
                self._seq = max(self._seq, place)
            else:
                self._inbound_id = max(self._inbound_id, place)
                self._numbers[inbound_id] = source.lstrip("+")
                self.stored.setdefault(self._numbers[inbound_id], []).append((self._before, now))
        for is_event, _, inbound_id, _ in rows:
            if is_event:
                self.seen.setdefault(self._numbers.pop(inbound_id), []).append((self._before, now))
        self.took.append(now - begun)
        self.between.append(now - self._before)
        self._before = begun

    def report(self) -> dict[str, Any]:
        """Everything that was read."""
        return {"stored": self.stored, "seen": self.seen, "took": self.took, "between": self.between}


async def follow(url: str) -> dict[str, Any]:
    """Read until standard input says so, and once more."""
    connection = await asyncpg.connect(url, server_settings=SESSION)
    reader = Reader(connection)
    await reader.open()
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    while not told.done():
        await reader.read()
        await asyncio.sleep(PAUSE_S)
    await reader.read()
    await connection.close()
    return reader.report()


def main() -> None:
    """Run one reader."""
    parser = argparse.ArgumentParser(description="an app that reads what handsets wrote")
    parser.add_argument("--url", required=True)
    print(json.dumps(uvloop.run(follow(parser.parse_args().url))), flush=True)


if __name__ == "__main__":
    main()
