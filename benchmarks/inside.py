"""A look inside while a run is on: what the server's sessions are doing, and the daemon's gauges. For ``--statements``.

The server is asked 50 times a second which statements are active and what they wait for, the daemon's /metrics once
a second. Both cost something: official figures are taken without.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.request import urlopen

import asyncpg

from dispatcher.store import QUERIES

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE_S: Final = 0.02
GAUGES: Final = ("tocsin_settle_pending", "tocsin_window_in_use", "tocsin_queue_jobs")
ACTIVITY: Final = """
select left(query, 200) as query, coalesce(wait_event_type || ' ' || wait_event, 'running') as doing, backend_type
from pg_stat_activity
where pid <> pg_backend_pid()
  and (state = 'active' or backend_type <> 'client backend' and wait_event_type is distinct from 'Activity')
"""
NAMES: Final = {text[:200]: name for name, text in QUERIES.items()}


def scrape(port: int) -> dict[str, float]:
    """Give every sample of the daemon's /metrics that is not 0."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples if float(value)}


def statements(file: Path, begin: float, end: float) -> dict[str, dict[str, float]]:
    """Give what each of the daemon's statements took, of the calls that began between two instants; dearest first."""
    figures = {}
    for name, calls in json.loads(file.read_text()).items():
        inside = [(took, items) for begun, took, items in calls if begin <= begun < end]
        if not inside:
            continue
        took = sorted(seconds for seconds, _ in inside)
        figures[name] = {
            "calls": len(inside),
            "total_s": sum(took),
            "mean_ms": sum(took) / len(took) * 1000,
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[int(len(took) * 0.99)] * 1000,
            "most_ms": took[-1] * 1000,
            "items": sum(items for _, items in inside) / len(inside),
        }
    return dict(sorted(figures.items(), key=lambda item: -item[1]["total_s"]))


class Inside:
    """Samples from its entry to its exit."""

    def __init__(self, url: str, port: int) -> None:
        self._url = url
        self._port = port
        self._samples = 0
        self._doing: Counter[tuple[str, str]] = Counter()
        self._gauges: dict[str, list[float]] = {}

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self._url)
        self._tasks = [asyncio.create_task(self._activity()), asyncio.create_task(self._metrics())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._connection.close()

    async def _activity(self) -> None:
        statement = await self._connection.prepare(ACTIVITY)
        while True:
            for query, doing, kind in await statement.fetch():
                self._doing[_name(query, kind), doing] += 1
            self._samples += 1
            await asyncio.sleep(SAMPLE_S)

    async def _metrics(self) -> None:
        while True:
            for name, value in (await asyncio.to_thread(scrape, self._port)).items():
                if name.startswith(GAUGES):
                    self._gauges.setdefault(name, []).append(value)
            await asyncio.sleep(1.0)

    def figures(self) -> dict[str, Any]:
        """Sessions active at once, by statement and what it waits for (mean of the samples), and the gauges' means."""
        return {
            "sessions": {
                f"{name}: {doing}": count / max(1, self._samples)
                for (name, doing), count in self._doing.most_common(25)
            },
            "gauges": {name: sum(values) / len(values) for name, values in sorted(self._gauges.items())},
        }


def _name(query: str, kind: str) -> str:
    """Tell a statement by the daemon's name for it, or by its beginning."""
    if kind != "client backend":
        return kind
    return NAMES.get(query) or " ".join(query.split())[:40]
