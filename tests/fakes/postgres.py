"""PostgreSQL servers of a test's own, which it may stop, kill, fill up and fail over; they listen on a loopback port.

Each method blocks until it is done: call it in a thread where a loop must go on. Nothing is synced to disk, so that
a server survives its own death and not the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from dispatcher.embedded import NOT_DURABLE, SETTINGS, _installed
from dispatcher.migrate import migrate
from dispatcher.unprivileged import account_for, readable, run

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = "tocsin"
LOCAL = {
    "listen_addresses": "127.0.0.1",
    "fsync": NOT_DURABLE["fsync"],
    "unix_socket_directories": "",
    "wal_retrieve_retry_interval": "100ms",
    "max_wal_senders": "4",
}


class Cluster:
    """One server and its data."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._folder = Path(tempfile.mkdtemp(prefix="tocsin-cluster-"))
        self._account = account_for(self._folder)
        if self._account is not None:
            os.chown(self._folder, self._account.uid, self._account.gid)
        self.data = self._folder / "data"
        self.wal = self._folder / "wal"
        self._binaries = readable(_installed(self._folder), self._account, durable=False)

    @classmethod
    def make(cls, port: int, *, wal_mb: int = 0) -> Self:
        """Make an empty cluster; with ``wal_mb`` its WAL has a disk of that size for itself.

        Raises:
            PermissionError: nothing may be mounted here.

        """
        made = cls(port)
        options = []
        if wal_mb:
            made._mount(wal_mb)
            options = [f"--waldir={made.wal / 'pg_wal'}", "--wal-segsize=1"]
        made._run(
            *("initdb", "-D", made.data, "-U", "postgres", "--encoding=UTF8", "--no-locale", "--auth=trust"),
            *("--no-sync", *options),
        )
        return made

    def _mount(self, size_mb: int) -> None:
        self.wal.mkdir()
        done = run(["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0777", "tmpfs", self.wal], None)
        if done.returncode != 0:
            raise PermissionError(done.stderr.strip())

    @classmethod
    def standby_of(cls, primary: Cluster, port: int) -> Self:
        """Copy a running cluster; once started it follows, and nobody waits for it."""
        made = cls(port)
        made._run(
            "pg_basebackup",
            "-D",
            made.data,
            "-h",
            "127.0.0.1",
            "-p",
            str(primary.port),
            "-U",
            "postgres",
            "-R",
            "-c",
            "fast",
            "-N",
        )
        return made

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start it, or start it again."""
        given = SETTINGS | LOCAL | {"port": str(self.port)} | dict(settings or {})
        options = " ".join(f"-c {name}='{value}'" for name, value in given.items())
        self._run(
            "pg_ctl", "start", "-D", self.data, "-l", self._folder / "server.log", "-o", options, "-w", "-t", "60"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop it: smart, fast, or immediate, after which it recovers at its next start."""
        self._run("pg_ctl", "stop", "-D", self.data, "-m", mode, "-w", "-t", "60")

    def promote(self) -> None:
        """Let a standby take writes, under a new timeline."""
        self._run("pg_ctl", "promote", "-D", self.data, "-w", "-t", "60")

    def freeze(self) -> None:
        """Let it answer nothing while its connections stay up, as a host does that is lost without a word."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 all of its processes at once, as the loss of its host would."""
        pids = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # a backend that ended meanwhile
                    os.kill(pid, number)
        deadline = time.monotonic() + 10
        while any(_is_running(pid) for pid in pids):
            assert time.monotonic() < deadline, "the server's processes do not end"
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """The server and its backends, the server first."""
        server = int((self.data / "postmaster.pid").read_text().split()[0])
        return [server, *(pid for pid, parent in _processes() if parent == server)]

    def remove(self) -> None:
        """Stop it in whatever state it is, and delete its data."""
        with contextlib.suppress(OSError, AssertionError):
            if self.is_running:
                self.kill()
        if self.wal.is_mount():
            run(["/usr/bin/umount", self.wal], None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """What the server has written."""
        return (self._folder / "server.log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether its processes are there."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return _is_running(int((self.data / "postmaster.pid").read_text().split()[0]))
        return False

    def url(self, database: str = DATABASE, user: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def migrated(self) -> str:
        """Make the product's database, and give its address."""
        asyncio.run(_migrated(self.url("postgres"), self.url()))
        return self.url()

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = run([self._binaries / program, *arguments], self._account)
        said = self.log()[-2000:] if (self._folder / "server.log").is_file() else ""
        assert done.returncode == 0, f"{program}: {done.stderr}\n{said}"


async def once(url: str, sql: str, *arguments: object) -> Any:
    """Run one statement on a connection of its own; the first value of its first row."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


async def _migrated(server: str, database: str) -> None:
    await once(server, f"create database {DATABASE} template template0 encoding 'UTF8'")
    connection = await asyncpg.connect(database)
    try:
        await migrate(connection)
    finally:
        await connection.close()


def _processes() -> list[tuple[int, int]]:
    """Process and parent of everything that runs."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = place.read_text().rpartition(")")[2].split()
            found.append((int(place.parent.name), int(words[1])))
    return found


def _is_running(pid: int) -> bool:
    """Whether it is there and no zombie: nobody may be left to wait for the server's children."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
