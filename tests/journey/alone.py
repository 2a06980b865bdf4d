"""A server, a migrated database and a folder for a long run that is started by hand; all of it goes with the run."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from dispatcher.embedded import start
from dispatcher.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run_alone(name: str, work: Callable[[Path, str], Awaitable[int]]) -> int:
    """Give the work a folder for daemons and the database's URL; returns its exit code."""
    folder = Path(tempfile.mkdtemp(prefix=f"tocsin-{name}-"))
    try:
        with start(folder / "postgres", durable=False) as server:
            code = asyncio.run(_migrated(server.create_database(name), folder / "daemons", work))
        shutil.rmtree(server.directory, ignore_errors=True)
        return code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _migrated(url: str, folder: Path, work: Callable[[Path, str], Awaitable[int]]) -> int:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    return await work(folder, url)
