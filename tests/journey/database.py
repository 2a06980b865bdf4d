"""One migrated database for many tests, emptied between them: making one costs as much as a short test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseServer

EMPTY = """
do $$
declare
    place regclass;
begin
    perform set_config('session_replication_role', 'replica', true);     -- the audit log refuses to be emptied otherwise
    perform pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid();
    for place in select oid from pg_class
                 where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p') and not relispartition
                   and relname <> 'migration' loop
        execute 'delete from ' || place;
    end loop;
    for place in select oid from pg_class where relnamespace = 'tocsin'::regnamespace and relkind = 'S' loop
        execute 'alter sequence ' || place || ' restart';
    end loop;
end $$
"""


@pytest.fixture(scope="session")
def shared_database_url(database_server: DatabaseServer, template_database: str) -> Iterator[str]:
    """A migrated database for all tests that ask for ``queue_url``."""
    name = database_server.create(template_database)
    yield database_server.database_url(name)
    database_server.drop(name)


@pytest.fixture
def queue_url(database_server: DatabaseServer, shared_database_url: str) -> str:
    """A migrated database without a row, that nothing else is connected to."""
    database_server.run(_empty(shared_database_url))
    return shared_database_url


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(EMPTY)
    finally:
        await connection.close()
