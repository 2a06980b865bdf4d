"""The only place that runs SQL for the daemon: named queries, pinned sessions, one kind of failure.

Queries stand in ``sql/*.sql`` behind ``-- name: ...`` lines and are prepared once a connection. Lists travel as
array literals in one text parameter (``array``, ``texts``): asyncpg's own list encoding checks each element twice
and was the largest avoidable cost of the daemon.

Every failure of the database is a ``StoreUnavailable``: callers keep what they hold and try again.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from dispatcher.errors import NoAnswer, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from contextlib import asynccontextmanager

FOLDER = Path(__file__).parent / "sql"
STATEMENT_TIMEOUT_S = 30.0  # a hot statement takes milliseconds; past this the database counts as away
CONNECT_TIMEOUT_S = 5.0

# Plans made on an empty queue must still be right on a full one, and a plan lives until the next analyze: with a table
# that vacuum saw empty the planner reads all of it for each element (settle: 46 s in place of 20 ms). So a session
# offers the planner nothing but nested loops (a test EXPLAINs every hot statement at three sizes).
# PINNED is for ordered reads of one table; PROBING for one probe of an index an element: without plain index scans
# a table can be reached by a condition alone, never read from end to end.
PINNED = {
    "application_name": "tocsin",
    "timezone": "UTC",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}

PROBING = PINNED | {"enable_indexscan": "off", "enable_indexonlyscan": "off"}
UNPINNED = {"application_name": "tocsin", "timezone": "UTC"}

Record = asyncpg.Record


def load_queries(folder: Path = FOLDER) -> dict[str, str]:
    """Every named query: the text between its ``-- name:`` line and the next one."""
    queries: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        pieces = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
            if name in queries:
                raise ValueError(f"{path.name}: query {name} stands twice")
            queries[name] = text.strip()
    return queries


QUERIES = load_queries()
EMPTY = '""'  # an empty text as an element of an array literal


def array(values: Iterable[object]) -> str:
    """An array literal of numbers; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """An array literal of texts, whatever they hold; None is NULL.

    What Postgres cannot store (U+0000, lone surrogates) becomes U+FFFD.
    """
    return "{" + ",".join(["NULL" if value is None else quoted(value) for value in values]) + "}"


def storable(value: str) -> str:
    """The text as Postgres can keep it: U+0000 and lone surrogates become U+FFFD."""
    if value.isascii():
        return value.replace("\x00", "\ufffd") if "\x00" in value else value
    return value.replace("\x00", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def quoted(value: str) -> str:
    """A text as an element of an array literal."""
    value = storable(value)
    if '"' in value or "\\" in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


class Connection:
    """One session of the database, its statements prepared as they are first used."""

    def __init__(self, raw: asyncpg.Connection) -> None:
        self.raw = raw
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement] = {}

    @property
    def is_closed(self) -> bool:
        """The session is over, by our doing or the server's."""
        return self.raw.is_closed()

    async def fetch(self, name: str, *arguments: object) -> list[Record]:
        """Run a named query and return its rows.

        Raises:
            StoreUnavailable: the database is away, or refused.

        """
        try:
            with failures():
                statement = self._prepared.get(name)
                if statement is None:
                    statement = self._prepared[name] = await self.raw.prepare(QUERIES[name])
                return await statement.fetch(*arguments)
        except NoAnswer:
            self.raw.terminate()
            raise

    async def fetchrow(self, name: str, *arguments: object) -> Record | None:
        """The first row of a named query, or None."""
        rows = await self.fetch(name, *arguments)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the statements inside one transaction; an exception rolls it back.

        Raises:
            StoreUnavailable: begin or commit failed; after a failed commit nobody knows whether it took place.

        """
        with failures():
            transaction = self.raw.transaction()
            await transaction.start()
        try:
            yield
        except BaseException:
            if not self.raw.is_closed():
                with failures():
                    await transaction.rollback()
            raise
        with failures():
            await transaction.commit()

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        """Call ``heard`` with the payload of each notification of the channel."""

        def callback(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            heard(str(payload))

        with failures():
            await self.raw.add_listener(channel, callback)

    async def execute(self, sql: str, *arguments: object) -> str:
        """Run SQL that has no name: for migrations and tests, never for the journey of a job."""
        with failures():
            return await self.raw.execute(sql, *arguments)

    async def close(self) -> None:
        """Close the session; one that is broken is dropped, and one whose server does not answer."""
        try:
            async with asyncio.timeout(
                CONNECT_TIMEOUT_S
            ):  # the driver's own does not hold while it cancels a statement
                await self.raw.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            self.raw.terminate()


async def connect(
    url: str, session: Mapping[str, str] = UNPINNED, timeout_s: float = STATEMENT_TIMEOUT_S
) -> Connection:
    """Open a session with these settings: PINNED or PROBING for the queue's statements.

    A statement that is not answered within the time-out counts as a database that is away.

    Raises:
        StoreUnavailable: the server cannot be reached or refuses us.

    """
    # asyncpg's statement cache stays on: without it a prepared statement has no name and is planned each time
    places = _places(url)
    for n, place in enumerate(places, 1):
        try:
            with failures():
                raw = await asyncpg.connect(
                    place,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=timeout_s,
                    server_settings=dict(session),
                )
            break
        except StoreUnavailable:
            if n == len(places):
                raise
    _REACHED[url] = place
    return Connection(raw)


async def succeed(connection: Connection, former: Record | None) -> Record:
    """End the server's process of a broken session before the next one works; returns the process of this one.

    A process that waits for a lock does not notice that its client is gone: it would commit what was given up, after
    the successor looked whether it had.

    Raises:
        StoreUnavailable: the former one does not end within 5 s.

    """
    if former is not None:
        gone = await connection.fetchrow("end_backend", *former)
        if gone is not None and not gone["gone"]:
            raise StoreUnavailable("the session of a broken connection does not end")
    backend = await connection.fetchrow("backend")
    assert backend is not None
    return backend


_REACHED: dict[str, str] = {}  # URL of several hosts -> the place that was reached last


def _places(url: str) -> list[str]:
    """A URL for each host that this one names, the one that was reached last first.

    The driver's time-out is for all hosts together: it never comes to a second one where the first says nothing.
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    places = [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]
    return sorted(places, key=lambda place: place != _REACHED.get(url)) if len(places) > 1 else [url]


class failures:  # noqa: N801
    """Turns what a database can do to us into ``StoreUnavailable``; row content in ``detail`` stays out of it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, asyncpg.PostgresError):
            raise StoreUnavailable(f"{type(error).__name__} (SQLSTATE {error.sqlstate})", error.sqlstate) from None
        if isinstance(error, TimeoutError):
            raise NoAnswer("no answer in time") from None
        if isinstance(error, asyncpg.InterfaceError | OSError | asyncpg.InternalClientError):
            raise StoreUnavailable(f"{type(error).__name__}: {_safe(error)}") from None


def _safe(error: Any) -> str:
    return error.strerror or "" if isinstance(error, OSError) else str(error).split("\n", 1)[0][:200]
