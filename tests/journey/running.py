"""Daemons for tests, the app that enqueues, and a way to the database that can be cut.

A daemon runs in this process (``Running``) or as a child that can be killed (``Child``). ``Journey`` is what most
tests need: a scripted SMSC, a daemon in this process, an app, one link.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import asyncpg

from config.settings import load
from dispatcher.daemon import Daemon
from dispatcher.record import Record
from dispatcher.state_directory import StateDirectory
from tests.fakes.smsc import Smsc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent
LINK = "carrier-a"
TOCSIN = ("-c", "from dispatcher.cli import main; main()")  # after the interpreter
POLL_S = 0.02
CATEGORIES = (
    "emergency", "staff", "reply", "auth", "conversational", "transactional", "informational", "marketing",
)  # fmt: skip


async def until(condition: Callable[[], Awaitable[object]], timeout_s: float = 10.0, poll_s: float = POLL_S) -> Any:
    """Ask again and again until the answer is true, and return it."""
    answer: object = None
    try:
        async with asyncio.timeout(timeout_s):
            while not (answer := await condition()):  # what is asked cannot set an event
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise AssertionError(f"did not come true within {timeout_s} s; the last answer was {answer!r}") from None
    return answer


def free_port() -> int:
    """A port that nobody listens on; below those that the kernel gives to outgoing connections, which would take it."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as found:
            port = secrets.randbelow(12_000) + 20_000
            found.bind(("127.0.0.1", port))
            return port


def write_file(
    folder: Path,
    database_url: str,
    links: Mapping[str, Mapping[str, object]],
    *,
    daemon: Mapping[str, object] | None = None,
    categories: Sequence[Mapping[str, object]] = (),
    routes: Mapping[str, Sequence[str]] | None = None,
    windows: Sequence[Mapping[str, object]] = (),
    policy: Mapping[str, object] | None = None,
    tables: Sequence[tuple[str, Mapping[str, object]]] = (),
    caps: Sequence[Mapping[str, object]] = (),
) -> Path:
    """Write a configuration file; each link has at least its ``port``. ``tables`` are others, by their heads."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        _table("[daemon]", {"state_dir": str(folder / "state"), "drain_timeout_s": 10.0, **(daemon or {})}),
        _table("[database]", {"url": database_url}),
        _table("[http]", {"listen": "127.0.0.1:0"}),
    ]
    for name, its in links.items():
        usual = {"name": name, "host": "127.0.0.1", "system_id": "clinic", "password": "secret"}
        quick = {"rebind_delay_s": 0.05, "throughput_per_s": 1000}
        written.append(_table("[[link]]", usual | quick | its))
    allowed = list(dict.fromkeys([*CATEGORIES, *(str(category["name"]) for category in categories)]))
    written.append(_table("[[sender]]", {"address": "Northside", "categories": allowed}))
    for prefix, names in (routes or {"": list(links)}).items():
        written.append(_table("[[route]]", {"prefix": prefix, "links": names}))
    written += [_table("[[category]]", category) for category in categories]
    written += [_table("[[window]]", window) for window in windows]
    written += [_table("[[cap]]", cap) for cap in caps]
    if policy:
        written.append(_table("[policy]", policy))
    written += [_table(head, entries) for head, entries in tables]
    path = folder / "tocsin.toml"
    path.write_text("\n".join(written), encoding="utf-8")
    return path


def _table(head: str, entries: Mapping[str, object]) -> str:
    """TOML; JSON's texts, numbers, booleans and lists are also TOML's."""
    inner = {key: value for key, value in entries.items() if isinstance(value, dict)}
    lines = [head] + [f"{key} = {json.dumps(value)}" for key, value in entries.items() if key not in inner]
    for key, values in inner.items():
        lines.append(f"{key} = {{ " + ", ".join(f'"{k}" = {json.dumps(v)}' for k, v in values.items()) + " }")
    return "\n".join(lines) + "\n"


async def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and body of one GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


class App:
    """An upstream app with a connection of its own; also looks at tables, as an auditor may."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def enqueue(self, recipient: str = "447700900123", body: str = "Hello", **named: object) -> int:
        """Enqueue one message and return its job id."""
        marks = "".join(f", {name} => ${n}" for n, name in enumerate(named, 3))
        row = await self.connection.fetchrow(
            f"select * from tocsin.enqueue($1, $2{marks})",
            recipient,
            body,
            *(json.dumps(value) if isinstance(value, dict) else value for value in named.values()),
        )
        assert row["outcome"] in {"queued", "deferred"}, row["reason"]
        return int(row["job_id"])

    async def enqueue_many(self, jobs: Sequence[Mapping[str, object]]) -> list[int]:
        """Enqueue a list, a thousand at a time."""
        ids = []
        for start in range(0, len(jobs), 1000):
            rows = await self.connection.fetch(
                "select * from tocsin.enqueue_many($1) order by item", json.dumps(jobs[start : start + 1000])
            )
            assert all(row["outcome"] in {"queued", "deferred"} for row in rows), {row["reason"] for row in rows}
            ids += [row["job_id"] for row in rows]
        return ids

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return await self.connection.fetch(sql, *arguments)

    async def value(self, sql: str, *arguments: object) -> Any:
        return await self.connection.fetchval(sql, *arguments)

    async def state(self, job_id: int) -> str | None:
        """The job's state as its app reads it."""
        state: str | None = await self.value("select state from tocsin.job_status($1)", job_id)
        return state

    async def reason(self, job_id: int) -> str | None:
        reason: str | None = await self.value("select reason from tocsin.job_status($1)", job_id)
        return reason

    async def states(self) -> dict[str, int]:
        """Jobs by state."""
        return dict(await self.fetch("select state, count(*)::int from tocsin.job_status group by 1"))

    async def until_state(self, job_id: int, *states: str, timeout_s: float = 10.0) -> str:
        """Wait until the job is in one of these states."""
        last: str | None = None

        async def reached() -> str | None:
            nonlocal last
            last = await self.state(job_id)
            return last if last in states else None

        try:
            return str(await until(reached, timeout_s))
        except AssertionError:
            raise AssertionError(f"job {job_id} is {last}, not {states}, after {timeout_s} s") from None

    async def until_states(self, wanted: Mapping[str, int], timeout_s: float = 30.0) -> None:
        """Wait until exactly so many jobs are in these states, and none in another."""
        last: dict[str, int] = {}

        async def reached() -> bool:
            nonlocal last
            last = await self.states()
            return last == wanted

        try:
            await until(reached, timeout_s, poll_s=0.1)  # counting reads all of sent
        except AssertionError:
            raise AssertionError(f"{last}, not {wanted}, after {timeout_s} s") from None

    async def hurry(self) -> None:
        """Let every deferred job be due now."""
        await self.connection.execute("update tocsin.deferred set due_at = now()")

    async def sent(self, job_id: int) -> list[asyncpg.Record]:
        return await self.fetch("select * from tocsin.sent where job_id = $1 order by part, submitted_at", job_id)

    async def events(self, job_id: int) -> list[str]:
        """Types of the job's events in order, once they can be read."""
        rows = await self.fetch("select type from tocsin.event_log where subject = $1 order by seq", str(job_id))
        return [row["type"] for row in rows]


@asynccontextmanager
async def app_of(database_url: str) -> AsyncIterator[App]:
    connection = await asyncpg.connect(database_url)
    try:
        yield App(connection)
    finally:
        await connection.close()


class Running:
    """A daemon in this process. It ends as SIGTERM would end it."""

    def __init__(self, path: Path) -> None:
        settings = load(path, {})
        self._state = StateDirectory.open(settings.daemon.state_dir, settings.daemon.instance)
        self._record = Record.open(self._state.path / "record")
        self.daemon = Daemon(settings, self._state, self._record, settings.database.url)
        self._task: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.daemon.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await self.stop()

    @property
    def port(self) -> int:
        """Where /metrics, /healthz and /readyz are."""
        return self.daemon._http.port

    @property
    def owns(self) -> set[str]:
        """Links that this instance owns."""
        return set(self.daemon._owner.epochs)

    def is_bound(self, link: str = LINK) -> bool:
        return link in self.daemon._gateway and self.daemon._gateway[link].is_bound

    async def until_bound(self, link: str = LINK) -> None:
        async def bound() -> bool:
            assert self._task is not None
            assert not self._task.done(), f"the daemon ended with {self._task.result()}"
            return self.is_bound(link)

        await until(bound)

    def forget_last_second(self, link: str = LINK) -> None:
        """Let segments go at once: a new owner takes the second before its first one to have been full."""
        self.daemon._gateway[link]._throttle.restore((), time.monotonic())

    async def stop(self) -> int:
        """Drain, and return the exit code."""
        task, self._task = self._task, None
        assert task is not None
        self.daemon.stop()
        try:
            return await asyncio.wait_for(task, 30)
        finally:
            self._record.close()
            self._state.close()

    def hurry(self) -> None:
        """Let every chore of the upkeep be due now."""
        self.daemon._upkeep._due.clear()

    def counter(self, name: str, **labels: str) -> float:
        """A metric's value; 0.0 where nothing was counted."""
        return self.daemon.registry.get_sample_value(name, labels) or 0.0


class Journey:
    """A scripted SMSC, a daemon in this process with one link to it, and an app."""

    def __init__(self, smsc: Smsc, app: App, daemon: Running, path: Path) -> None:
        self.smsc = smsc
        self.app = app
        self.daemon = daemon
        self.path = path


@asynccontextmanager
async def journey(
    folder: Path,
    database_url: str,
    *,
    daemon: Mapping[str, object] | None = None,
    categories: Sequence[Mapping[str, object]] = (),
    windows: Sequence[Mapping[str, object]] = (),
    tables: Sequence[tuple[str, Mapping[str, object]]] = (),
    caps: Sequence[Mapping[str, object]] = (),
    script: Callable[[Smsc], None] = lambda _: None,
    **link: object,
) -> AsyncIterator[Journey]:
    """Bring up all of it, the link bound; take it down in order."""
    async with Smsc() as smsc:
        script(smsc)
        path = write_file(
            folder,
            database_url,
            {LINK: {"port": smsc.port, **link}},
            daemon=daemon,
            categories=categories,
            windows=windows,
            tables=tables,
            caps=caps,
        )
        async with Running(path) as running:
            await running.until_bound()
            async with app_of(database_url) as app:
                yield Journey(smsc, app, running, path)


class Child:
    """A daemon in a process of its own; its log goes to a file. ``command`` is what takes the arguments of ``tocsin``."""

    def __init__(self, path: Path, command: Sequence[str] = TOCSIN, **environment: str) -> None:
        self._path = path
        self.command = command
        self._environment = os.environ | environment
        self._log = path.parent / "daemon.log"
        self._process: asyncio.subprocess.Process | None = None
        self._begins_at = 0
        self.started_at = 0.0  # monotonic, before the fork

    async def start(self) -> None:
        self._begins_at = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as out:
            self.started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.command,
                "run",
                "--config",
                str(self._path),
                cwd=ROOT,
                env=self._environment,
                stdout=out,
                stderr=out,
            )

    @property
    def output(self) -> str:
        """All that every process of this file has written."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines with this event that the current process wrote."""
        with self._log.open("rb") as file:
            file.seek(self._begins_at)
            lines = [json.loads(line) for line in file.read().decode().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    async def until_logged(self, name: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait for the first line with this event."""

        async def logged() -> dict[str, Any] | None:
            assert self._process is not None
            found = self.events(name)
            assert found or self._process.returncode is None, self.output
            return found[0] if found else None

        line: dict[str, Any] = await until(logged, timeout_s)
        return line

    async def port(self) -> int:
        return int((await self.until_logged("daemon_started"))["http_port"])

    def kill(self) -> float:
        """Kill -9; returns when, in monotonic seconds."""
        assert self._process is not None
        at = time.monotonic()
        self._process.kill()
        return at

    def pause(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP: read the file again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """SIGTERM: drain."""
        assert self._process is not None
        self._process.terminate()

    async def wait(self, timeout_s: float = 20.0) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), timeout_s)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Relay:
    """A TCP way to the database that can be cut and opened again."""

    def __init__(self, database_url: str) -> None:
        self._target = database_url
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The same user and database by this way."""
        target = urlsplit(self._target)
        return f"postgresql://{target.username}@127.0.0.1:{self.port}{target.path}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            try:
                there_reader, there_writer = await self._connect()
            except OSError:  # nobody is there: that ends this connection, too
                return
            self._writers.add(there_writer)
            try:
                await self._carry(reader, writer, there_reader, there_writer)
            finally:
                self._writers.discard(there_writer)
                there_writer.close()
        finally:
            self._writers.discard(writer)
            writer.close()
            self._tasks.discard(task)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there_reader: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
    ) -> None:
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = urlsplit(self._target)
        query = parse_qs(target.query)
        if "host" in query:
            return await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}")
        return await asyncio.open_connection(target.hostname, target.port or 5432)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
    writer.close()
