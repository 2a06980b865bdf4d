"""What tests of this folder share: they must leave a server of the user's own as they found it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import asyncpg
import pytest
import structlog

from dispatcher.store import QUERIES
from tests.dispatcher.command import command, offline, shared_url, write  # noqa: F401
from tests.journey.database import queue_url, shared_database_url  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import DatabaseServer


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Undo what a command does to the logs of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="package")
def roles_left_as_found(database_server: DatabaseServer) -> Iterator[None]:
    """Drop the roles that were missing before, unless another database grants them something by now."""

    async def missing() -> list[str]:
        connection = await asyncpg.connect(database_server.url)
        try:
            return [row["name"] for row in await connection.fetch(QUERIES["missing_roles"])]
        finally:
            await connection.close()

    async def drop(names: list[str]) -> None:
        connection = await asyncpg.connect(database_server.url)
        try:
            for name in names:
                with contextlib.suppress(asyncpg.DependentObjectsStillExistError):
                    await connection.execute(f"drop role if exists {name}")
        finally:
            await connection.close()

    names = database_server.run(missing())
    yield
    database_server.run(drop(names))
