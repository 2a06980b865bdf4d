"""kill -9 at exactly named points of commands that write to the database; each is then simply run again."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from dispatcher.migrate import shipped
from tests.journey.killed import command, command_dies_at, too_late, world_of
from tests.journey.running import LINK, write_file
from tests.store.seed import partitions_of_today

pytestmark = pytest.mark.slow

SCHEMA = """
select 'column' as kind, table_name || '.' || column_name || ' ' || data_type || ' ' || coalesce(column_default, '') as what
from information_schema.columns where table_schema = 'tocsin'
union all select 'routine', pg_get_functiondef(oid) from pg_proc where pronamespace = 'tocsin'::regnamespace
union all select 'index', indexdef from pg_indexes where schemaname = 'tocsin'
union all select 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
          where connamespace = 'tocsin'::regnamespace
union all select 'view', viewname || definition from pg_views where schemaname = 'tocsin'
union all select 'trigger', tgrelid::regclass || ' ' || pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
order by 1, 2
"""
LATER = datetime(2099, 1, 1, tzinfo=UTC)
OPERATORS = 4  # the version of the migration in which the points lie
MIGRATIONS = {  # migrations that stand after the kill
    ("migration-begun", 1): 0,
    ("migration-unnoted", 1): 0,
    ("migration-unnoted", 3): 2,
    ("migration-between", 1): OPERATORS - 1,
    ("migration-inside", 1): OPERATORS - 1,
    ("migration-unnoted", OPERATORS): OPERATORS - 1,
}


async def schemas_of(*urls: str) -> list[list[tuple[str, str]]]:
    """Of each database, all as of one day."""
    while True:
        day = datetime.now(UTC).date()
        schemas = [await _schema_of(url) for url in urls]
        if datetime.now(UTC).date() == day:
            return schemas


async def _schema_of(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        await partitions_of_today(connection)
        return [tuple(row) for row in await connection.fetch(SCHEMA)]
    finally:
        await connection.close()


async def versions_of(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select to_regclass('tocsin.migration')") is None:
            return []
        return [
            row["version"] for row in await connection.fetch("select version from tocsin.migration order by version")
        ]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("point", "nth", "stand"),
    [(point, nth, stand) for (point, nth), stand in MIGRATIONS.items()],
    ids=[f"{point}-{nth}" for point, nth in MIGRATIONS],
)
async def test_a_killed_migration_is_whole_or_not_there_and_is_finished_by_the_next(
    tmp_path, empty_database_url, database_url, point, nth, stand
):
    """Each file is a transaction of its own; in the end the schema is the one that was made in one go."""
    config = str(write_file(tmp_path, empty_database_url, {LINK: {"port": 1}}))
    await command_dies_at(tmp_path, point, "migrate", "--config", config, nth=nth)
    assert await versions_of(empty_database_url) == list(range(1, stand + 1))

    code, out = await command("migrate", "--config", config)

    assert code == 0, out
    assert [line for line in out.splitlines() if line.startswith("applied")] == [
        f"applied {migration.name}" for migration in shipped()[stand:]
    ]
    made, whole = await schemas_of(empty_database_url, database_url)
    assert made == whole
    assert "the schema is current" in (await command("migrate", "--config", config))[1]


@pytest.mark.parametrize("point", ["apply-begun", "apply-uncommitted"])
async def test_a_killed_apply_changed_nothing_and_the_next_one_changes_all(tmp_path, queue_url, point):
    """A file is applied as a whole."""
    async with world_of(tmp_path, queue_url) as world:
        config = str(write_file(tmp_path, queue_url, {LINK: {"port": 1, "receipts": "none"}, "carrier-b": {"port": 2}}))

        async def applied() -> list[object]:
            return [
                *await world.app.fetch("select name, enabled, receipts, position from tocsin.link order by name"),
                *await world.app.fetch("select * from tocsin.route order by prefix"),
                *await world.app.fetch("select file_hash from tocsin.applied order by at"),
            ]

        before = await applied()
        await command_dies_at(tmp_path, point, "apply", "--config", config)
        assert await applied() == before

        assert await command("apply", "--config", config) == (0, "applied\n")
        after = await applied()
        assert [row["name"] for row in after[:2]] == [LINK, "carrier-b"]
        assert len(after) == len(before) + 2, "one link more, and one note of the file"
        assert await command("apply", "--config", config) == (0, "nothing to change\n")
        assert await applied() == after


@pytest.mark.parametrize("place", ["queued", "deferred"])
@pytest.mark.parametrize("point", ["cancel-unsent", "cancel-committed"])
async def test_a_job_whose_cancel_was_killed_is_cancelled_or_goes_out(tmp_path, queue_url, point, place):
    """Never both, and the app that asks again is told which."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        app = world.app
        number = await app.enqueue(**({"not_before": LATER} if place == "deferred" else {}))
        config = str(tmp_path / "tocsin.toml")
        await command_dies_at(tmp_path, point, "cancel", str(number), "--config", config)
        cancelled = point == "cancel-committed"
        assert await app.state(number) == ("cancelled" if cancelled else place)

        await app.hurry()
        other = await app.enqueue("447700900124")
        await world.restart()
        await app.until_state(other, "submitted")
        if not cancelled:
            await app.until_state(number, "submitted")
        await world.end()

        assert await app.events(number) == (["job.cancelled"] if cancelled else ["job.submitted"])
        assert len(world.smsc.received("submit_sm")) == (1 if cancelled else 2)
        code, out = await command("cancel", str(number), "--config", config)
        assert (code, out) == ((0, "cancelled\n") if cancelled else (1, too_late(number)))
