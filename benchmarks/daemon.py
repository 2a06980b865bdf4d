"""The command ``tocsin`` as the benchmarks start it.

With ``--statements FILE`` before the command it runs with a stopwatch at the daemon's only door to the database, and
writes calls, time and items of each statement to the file when it ends.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from dispatcher import cli, store


class Timing:
    """What one statement has cost."""

    def __init__(self) -> None:
        self.calls = self.items = 0
        self.total_s = self.most_s = 0.0

    def add(self, took_s: float, items: int) -> None:
        self.calls += 1
        self.items += items
        self.total_s += took_s
        self.most_s = max(self.most_s, took_s)

    def figures(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "total_s": self.total_s,
            "mean_ms": self.total_s / self.calls * 1000,
            "most_ms": self.most_s * 1000,
            "items": self.items / self.calls,
        }


TIMINGS: dict[str, Timing] = {}
_fetch = store.Connection.fetch


async def _timed(self: store.Connection, name: str, *arguments: Any) -> Any:
    begun = time.perf_counter()
    rows = await _fetch(self, name, *arguments)
    kind = f"{name}, no row" if name == "claim" and not rows else name
    TIMINGS.setdefault(kind, Timing()).add(time.perf_counter() - begun, _items(name, arguments, rows))
    return rows


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
    by_cost = sorted(TIMINGS.items(), key=lambda item: -item[1].total_s)
    Path(words[1]).write_text(json.dumps({name: one.figures() for name, one in by_cost}))
    return code


if __name__ == "__main__":
    sys.exit(main())
