"""What every test may use: a migrated database of its own, and ``async def`` tests.

The server is the embedded one, in a temporary directory, or the one that TOCSIN_TEST_DATABASE_URL names
(its user must be allowed to create databases and roles). One template database is migrated per run; each
test gets a clone of it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from dispatcher.embedded import start
from dispatcher.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

OWN_SERVER = "TOCSIN_TEST_DATABASE_URL"

for _name in list(os.environ):
    if (_name.startswith("TOCSIN_") and _name != OWN_SERVER) or _name == "CREDENTIALS_DIRECTORY":
        del os.environ[_name]  # a developer's own daemon must not leak into tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a second server be tried without all that no server can change."""
    parser.addoption("--only-database", action="store_true", help="run only tests that use PostgreSQL")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was told to be left out."""
    if not config.getoption("--only-database"):
        return
    users: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (users if "database_server" in getattr(item, "fixturenames", ()) else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = users


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test to its end on a loop of its own, in debug mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments), debug=True)
    return True


class DatabaseServer:
    """A server on which tests make and drop databases; all names of one run begin alike."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._prefix = f"tocsin_test_{os.getpid()}_{secrets.token_hex(4)}"
        self._made = 0
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection = self.run(asyncpg.connect(url))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def database_url(self, name: str) -> str:
        """The same server and user, another database."""
        scheme, rest = self.url.split("://", 1)
        before, mark, query = rest.partition("?")
        return f"{scheme}://{before.partition('/')[0]}/{name}{mark}{query}"

    def create(self, template: str = "template0 encoding 'UTF8'") -> str:
        """Make a database and return its name."""
        self._made += 1
        name = f"{self._prefix}_{self._made}"
        self.run(self._connection.execute(f"create database {name} template {template}"))
        return name

    def drop(self, name: str) -> None:
        self.run(self._connection.execute(f"drop database if exists {name} with (force)"))

    def close(self) -> None:
        self.run(self._connection.close())
        self._loop.close()


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """The PostgreSQL of this run."""
    if url := os.environ.get(OWN_SERVER):
        server = DatabaseServer(url)
        yield server
        server.close()
        return
    directory = Path(tempfile.mkdtemp(prefix="tocsin-test-"))
    try:
        with start(directory, durable=False) as embedded:
            server = DatabaseServer(embedded.dsn())
            yield server
            server.close()
        shutil.rmtree(embedded.directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(database_server: DatabaseServer) -> Iterator[str]:
    """The name of a migrated database that nothing is connected to."""
    name = database_server.create()
    database_server.run(_migrate(database_server.database_url(name)))
    yield name
    database_server.drop(name)


@pytest.fixture
def database_url(database_server: DatabaseServer, template_database: str) -> Iterator[str]:
    """A migrated database that belongs to this test alone."""
    name = database_server.create(template_database)
    yield database_server.database_url(name)
    database_server.drop(name)


@pytest.fixture
def empty_database_url(database_server: DatabaseServer) -> Iterator[str]:
    """A database without our schema."""
    name = database_server.create()
    yield database_server.database_url(name)
    database_server.drop(name)


async def _migrate(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
