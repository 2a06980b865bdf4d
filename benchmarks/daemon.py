"""The command ``tocsin`` as the benchmarks start it.

With ``--statements FILE`` before the command it runs with a stopwatch at the daemon's only door to the database, and
writes each statement's calls to the file when it ends: when, how long, how many items (``inside.statements`` reads it).
How late the event loop wakes who waits stands there too, asked a hundred times a second: what comes in meanwhile waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from dispatcher import cli, store

CALLS: dict[str, list[tuple[float, float, int]]] = {}  # by statement: when it began (monotonic), seconds, items
LATE: Final = "event loop, late"  # beside the statements
LOOK_S: Final = 0.01
_fetch = store.Connection.fetch
_looking: list[asyncio.Task[None]] = []


async def _timed(self: store.Connection, name: str, *arguments: Any) -> Any:
    if not _looking:
        _looking.append(asyncio.create_task(_look()))
    begun = time.monotonic()
    rows = await _fetch(self, name, *arguments)
    took = time.monotonic() - begun
    CALLS.setdefault(_kind(name, arguments, rows), []).append((begun, took, _items(name, arguments, rows)))
    return rows


async def _look() -> None:
    """Note how late the loop is, again and again."""
    while True:
        due = time.monotonic() + LOOK_S
        await asyncio.sleep(LOOK_S)
        CALLS.setdefault(LATE, []).append((due, max(0.0, time.monotonic() - due), 1))


def _kind(name: str, arguments: tuple[Any, ...], rows: list[Any]) -> str:
    """Tell apart the two loops that claim, and claims that found something from those that did not."""
    if name != "claim":
        return name
    kind = "claim, lane 0" if arguments[3].strip("{}0,") == "" else "claim"
    return kind if rows else f"{kind}, no row"


def _items(name: str, arguments: tuple[Any, ...], rows: list[Any]) -> int:
    """Count the jobs or receipts of a call: the elements of an array literal, else the rows."""
    position = {"settle": 2, "apply_receipts": 0}.get(name)
    if position is None:
        return len(rows)
    return 0 if arguments[position] == "{}" else str(arguments[position]).count(",") + 1


def main() -> int:
    """Run the command; with ``--statements``, write what the statements took."""
    words = sys.argv[1:]
    if words[:1] != ["--statements"]:
        return cli.invoke(words)
    store.Connection.fetch = _timed  # type: ignore[method-assign]
    code = cli.invoke(words[2:])
    Path(words[1]).write_text(json.dumps(CALLS))
    return code


if __name__ == "__main__":
    sys.exit(main())
