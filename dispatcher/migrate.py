"""Applies the migrations: plain SQL files, in the order of their names, each in its own transaction.

An advisory lock lets one migrator work at a time. A file that was applied must not change: its hash is
kept and compared. ``tocsin run`` never migrates; it asks ``missing`` and stops when something is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.errors import MigrationMissing, SchemaChanged

if TYPE_CHECKING:
    import asyncpg

FOLDER = Path(__file__).parent / "migrations"
LOCK_KEY = 0x746F_6373_696E  # "tocsin" in octets: the advisory lock of every migrator


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: ``0001_tables.sql`` has version 1."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """Every migration of this version of the product, in order."""
    return [
        Migration(int(path.name.split("_", 1)[0]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.glob("*.sql"))
    ]


async def migrate(connection: asyncpg.Connection) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    Raises:
        SchemaChanged: a migration that was applied differs from the file of that version.

    """
    await connection.execute("select pg_advisory_lock($1)", LOCK_KEY)
    try:
        await connection.execute(
            "create schema if not exists tocsin;"
            "create table if not exists tocsin.migration (version int primary key, name text not null,"
            " sha256 text not null, at timestamptz not null default now())"
        )
        names = []
        for migration in await _missing(connection):
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into tocsin.migration (version, name, sha256) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
            names.append(migration.name)
        return names
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK_KEY)


async def check(connection: asyncpg.Connection) -> None:
    """See that the schema is the one that this version was written for.

    Raises:
        MigrationMissing: there is no schema, or it is older.
        SchemaChanged: a migration that was applied differs from the file of that version.

    """
    if await connection.fetchval("select to_regclass('tocsin.migration')") is None:
        raise MigrationMissing([migration.name for migration in shipped()])
    missing = await _missing(connection)
    if missing:
        raise MigrationMissing([migration.name for migration in missing])


async def _missing(connection: asyncpg.Connection) -> list[Migration]:
    applied = {
        row["version"]: row for row in await connection.fetch("select version, name, sha256 from tocsin.migration")
    }
    for migration in shipped():
        row = applied.get(migration.version)
        if row is not None and row["sha256"] != migration.sha256:
            raise SchemaChanged(migration.name)
    return [migration for migration in shipped() if migration.version not in applied]
