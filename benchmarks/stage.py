"""What a run plays on: the database server, and the processes of one run, each ended by its own number."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import asyncpg
import psutil

from benchmarks import ledger as cell
from dispatcher import embedded
from dispatcher.errors import StoreUnavailable
from dispatcher.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping

    from benchmarks.ledger import Ledger

Played = TypeVar("Played")
ROOT: Final = Path(__file__).parent.parent
READY_S: Final = 30.0
BIND_S: Final = 30.0
END_S: Final = 60.0  # a daemon drains for 30 s at most
TOLD_TO_END: Final = 130  # the exit code after Ctrl-C or SIGTERM

SENDER: Final = "Northside"
CONFIGURATION: Final = """\
[daemon]
instance = "1"
state_dir = "{directory}/state"
[database]
url = "{url}"
[http]
listen = "127.0.0.1:0"
[[link]]
name = "sink"
host = "127.0.0.1"
port = {port}
system_id = "bench"
password = "bench"
window_size = {window}
throughput_per_s = {throughput}
sessions = {sessions}
[[sender]]
address = "{sender}"
categories = ["emergency", "staff", "conversational", "transactional", "informational", "marketing", "reply"]
[[route]]
prefix = ""
links = ["sink"]
"""


class Failed(Exception):
    """The run cannot go on; one line says why."""


def finished(bench: Coroutine[Any, Any, Played]) -> tuple[Played | None, int]:
    """Run a bench to its end; gives what it found, or None and the exit code: told to end, or not to be played."""
    try:
        return asyncio.run(bench), 0
    except asyncio.CancelledError:
        return None, TOLD_TO_END
    except (Failed, StoreUnavailable, OSError, asyncpg.PostgresError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return None, 3


class Server:
    """A PostgreSQL: our own in a directory that goes with it, or somebody's, where one database is made and dropped."""

    def __init__(self, url: str | None) -> None:
        self._directory: Path | None = None
        self._embedded: embedded.EmbeddedServer | None = None
        self.url = url or ""

    def __enter__(self) -> Self:
        if not self.url:
            self._directory = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
            try:
                self._embedded = embedded.start(self._directory)
            except BaseException:
                shutil.rmtree(self._directory, ignore_errors=True)
                raise
            self.url = self._embedded.dsn()
        return self

    def __exit__(self, *_: object) -> None:
        if self._embedded is not None and self._directory is not None:
            try:
                self._embedded.stop()
                shutil.rmtree(self._embedded.directory)
            finally:
                shutil.rmtree(self._directory, ignore_errors=True)

    def database_url(self, name: str) -> str:
        """Give the address of another database of the server."""
        scheme, rest = self.url.split("://", 1)
        before, mark, query = rest.partition("?")
        return f"{scheme}://{before.partition('/')[0]}/{name}{mark}{query}"

    @contextlib.asynccontextmanager
    async def database(self, name: str) -> AsyncIterator[str]:
        """Give the address of a migrated database that goes with the block."""
        try:
            yield await self.create(name)
        finally:
            await self.drop(name)

    async def create(self, name: str) -> str:
        """Make a migrated database, and give its address."""
        await self._run(f"create database {name} template template0 encoding 'UTF8'")
        url = self.database_url(name)
        connection = await asyncpg.connect(url)
        try:
            await migrate(connection)
        finally:
            await connection.close()
        return url

    async def drop(self, name: str) -> None:
        """Drop it, whoever is connected."""
        await self._run(f"drop database if exists {name} with (force)")

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def postmaster_pid(connection: asyncpg.Connection) -> int | None:
    """The process number of the server; None when it runs elsewhere."""
    backend = await connection.fetchval("select pg_backend_pid()")
    try:
        process = psutil.Process(backend).parent()
        return process.pid if process is not None and "postgres" in process.name() else None
    except psutil.Error:
        return None


def version_of(connection: asyncpg.Connection) -> str:
    """Give the server's version: major and minor."""
    version = connection.get_server_version()
    return f"{version.major}.{version.minor}"


class Child:
    """A process of the run. ``say`` and ``hear`` are lines of its standard input and output."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        program: str = sys.executable,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._out = folder / f"{name}.out"
        with self.log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [program, *arguments],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the bench, which ends its children in order
            )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed, whole lines only."""
        return self._out.read_text(encoding="utf-8").splitlines(keepends=True)

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    async def hear(self, number: int = 0, timeout_s: float = READY_S) -> dict[str, Any]:
        """Give a line that it prints, by its number, once it is there.

        Raises:
            Failed: it ended without, or took too long.

        """
        until = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            lines = self.lines
            if len(lines) > number and (lines[number].endswith("\n") or ended):
                return dict(json.loads(lines[number]))
            if ended or time.monotonic() > until:
                raise Failed(f"{self.name} said nothing: exit {self.process.poll()}; {self.last_words()}")
            await asyncio.sleep(0.02)

    async def ended(self, timeout_s: float = END_S) -> int:
        """Wait for its end; kill it when it takes too long."""
        until = time.monotonic() + timeout_s
        while self.process.poll() is None:
            if time.monotonic() > until:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.name} did not end in {timeout_s:.0f} s and was killed; {self.last_words()}")
            await asyncio.sleep(0.02)
        return int(self.process.returncode)

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def last_words(self) -> str:
        """Its last lines."""
        return " | ".join(line.strip() for line in [*self.lines[-3:], *self.log.read_text().splitlines()[-3:]])


def see_alive(watched: Iterable[Child]) -> None:
    """Raise Failed when one of them has ended."""
    for child in watched:
        if child.process.poll() is not None:
            raise Failed(f"{child.name} ended with {child.process.returncode}: {child.last_words()}")


async def bound(client: Child, ledger: Ledger, others: Iterable[Child] = ()) -> None:
    """Wait until the sink has taken the bind of the daemon, or of a peer.

    Raises:
        Failed: it took too long, or it or one of the others ended.

    """
    watched, until = (client, *others), time.monotonic() + BIND_S
    while not ledger[cell.BOUND]:
        see_alive(watched)
        if time.monotonic() > until:
            raise Failed(f"{client.name} did not bind: {client.last_words()}")
        await asyncio.sleep(0.005)


def end_when_told() -> None:
    """Let Ctrl-C and SIGTERM cancel this task, so that what was made is removed."""
    task = asyncio.current_task()
    assert task is not None
    for told in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(told, task.cancel)


@contextlib.asynccontextmanager
async def run_on(server: Server, database: str, *, keep_logs: bool) -> AsyncIterator[tuple[str, Path, list[Child]]]:
    """Give a run a database, a folder and its children, none of which outlives it; its logs do, if wanted."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-run-"))
    try:
        async with server.database(database) as url:
            with children() as held:
                yield url, folder, held
    finally:
        if keep_logs:
            print(f"logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def children() -> Iterator[list[Child]]:
    """Hold the children of one run; those that are left at its end are killed."""
    held: list[Child] = []
    try:
        yield held
    finally:
        for child in reversed(held):
            child.kill()
