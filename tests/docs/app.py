"""A database in which an app of the documentation can run: its role, its tables, the tutorial's configuration."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from config.settings import load
from dispatcher.apply import apply
from dispatcher.roles import grant_roles
from dispatcher.store import connect
from tests.docs.run_docs import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = ROOT / "docs" / "examples"


def tool(name: str) -> str:
    """The path of a program or a file that CI must have; elsewhere its absence skips the test."""
    found = shutil.which(name) or (name if Path(name).is_file() else None)
    if found is None:
        message = f"{name} is not installed"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    return found


def url_as(user: str, url: str) -> str:
    """The same database for another user, who needs no password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(user)}@{parts.netloc.rpartition('@')[2]}").geturl()


@asynccontextmanager
async def owned_by(user: str, setup: str, database_url: str) -> AsyncIterator[str]:
    """Have the tutorial's configuration applied and the app's own script run; gives the URL for the app's role."""
    await prepare(database_url)
    root = await asyncpg.connect(database_url)
    try:
        await root.execute((EXAMPLES / setup).read_text(encoding="utf-8"))
        yield url_as(user, database_url)
        await root.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = $1",
            user,
        )
    finally:
        await root.execute(f"reset role; drop owned by {user} cascade; drop role {user}")
        await root.close()


async def prepare(database_url: str) -> None:
    """Grant the roles, and apply the tutorial's file."""
    connection = await connect(database_url)
    try:
        await grant_roles(connection)
        await apply(connection, load(ROOT / "config" / "quickstart.toml", {}))
    finally:
        await connection.close()
