"""tocsin.make_partitions: one UTC day each, ahead of time, the same from every time zone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.store.seed import partitions_of_today, put_closed, put_sent, seeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARENTS = ["sent", "sent_text", "closed", "receipt_wait", "inbound", "inbound_part", "event_log"]
CHILDREN = """
select p.relname as parent, c.relname as child, pg_get_expr(c.relpartbound, c.oid) as bounds
from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
where p.relnamespace = 'tocsin'::regnamespace and p.relkind = 'p' order by 1, 2
"""
# What a database has whose schema was made yesterday.
YESTERDAY = """
do $$
declare
    today constant date := (now() at time zone 'UTC')::date;
    parent text;
begin
    foreach parent in array $1 loop
        execute format('drop table tocsin.%I', parent || to_char(today + 14, '_YYYYMMDD'));
        execute format('create table tocsin.%I partition of tocsin.%I for values from (%L) to (%L)', parent || to_char(today - 2, '_YYYYMMDD'),
                       parent, today - 2 || ' 00:00:00+00', today - 1 || ' 00:00:00+00');
    end loop;
    update tocsin.migration set at = at - interval '1 day';
end $$
"""


@asynccontextmanager
async def of_today(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with the partitions of today, in a transaction: its clock stands, also at midnight."""
    async with seeded(url) as root:
        await partitions_of_today(root)
        async with root.transaction():
            yield root


async def test_a_fresh_schema_has_yesterday_to_14_days_ahead_and_no_default(database_url):
    """A daemon that is down for two weeks finds its days; a day that is missing is an error that is seen."""
    async with seeded(database_url) as root:  # its day is that of the template, which may have been yesterday
        await root.execute("set timezone = 'UTC'")
        days = await root.fetch(
            "select to_char(d, 'YYYYMMDD') as day, format('FOR VALUES FROM (%L) TO (%L)', d, d + interval '1 day') as bounds"
            " from (select date_trunc('day', at) as made from tocsin.migration where version = 1) m,"
            " generate_series(m.made - interval '1 day', m.made + interval '14 days', '1 day') d"
        )
        assert len(days) == 16
        expected = [(parent, f"{parent}_{day['day']}", day["bounds"]) for parent in sorted(PARENTS) for day in days]
        assert [tuple(row) for row in await root.fetch(CHILDREN)] == expected


async def test_making_them_again_makes_only_what_is_missing(database_url):
    """The daemon calls it every hour."""
    async with of_today(database_url) as root:
        assert await root.fetchval("select tocsin.make_partitions(14)") == 0
        assert await root.fetchval("select tocsin.make_partitions(16)") == 2 * len(PARENTS)
        assert await root.fetchval("select tocsin.make_partitions(16)") == 0
        await root.execute(
            "drop table tocsin.closed_" + await root.fetchval("select to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        )
        assert await root.fetchval("select tocsin.make_partitions(16)") == 1


async def test_a_run_that_passes_midnight_compares_what_is_of_one_day(database_url):
    """What was made yesterday gets the partitions of today; of what was made today nothing is touched."""
    async with of_today(database_url) as root:
        await root.execute("set local timezone = 'UTC'")
        today = await root.fetch(CHILDREN)
        await root.execute(YESTERDAY.replace("$1", f"array{PARENTS}"))
        assert await root.fetch(CHILDREN) != today
        await partitions_of_today(root)
        assert await root.fetch(CHILDREN) == today

        await root.execute("update tocsin.migration set at = now()")
        await root.execute(f"drop table tocsin.{await root.fetchval('select child from tocsin.partition limit 1')}")
        await partitions_of_today(root)
        assert len(await root.fetch(CHILDREN)) == len(today) - 1


async def test_the_session_s_time_zone_and_date_style_move_no_bound(database_url):
    """Half a world away, in another notation, the day is still the UTC day."""
    async with of_today(database_url) as root:
        for ahead, (zone, style) in enumerate(
            [("Pacific/Kiritimati", "SQL, DMY"), ("Pacific/Pago_Pago", "German")], start=15
        ):
            await root.execute(f"set timezone = '{zone}'; set datestyle = '{style}'")
            assert await root.fetchval(f"select tocsin.make_partitions({ahead})") == len(PARENTS)
        await root.execute("set timezone = 'UTC'; reset datestyle")
        rows = await root.fetch(CHILDREN)
        assert len(rows) == 18 * len(PARENTS)
        for row in rows:
            day = row["child"].rsplit("_", 1)[1]
            assert row["bounds"].startswith(f"FOR VALUES FROM ('{day[:4]}-{day[4:6]}-{day[6:]} 00:00:00+00') TO (")


async def test_a_row_of_a_missing_day_is_an_error(database_url):
    """A default partition would swallow it, and the day's partition could then not be made."""
    async with seeded(database_url) as root:
        with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
            await put_sent(root, 1, submitted_at="now() + interval '20 days'")
        await put_sent(root, 1, submitted_at="now() - interval '1 hour'")
        await put_closed(root, 2, "expired", "EXPIRED")


async def test_partitions_have_their_parents_indexes_and_room_for_an_update_in_place(database_url):
    """A receipt changes no indexed column: with room on the page it leaves the indexes alone."""
    async with seeded(database_url) as root:
        rows = await root.fetch(
            "select p.relname as parent, count(distinct x.indexrelid) as indexes, min(c.reloptions::text) as options"
            " from pg_inherits i join pg_class c on c.oid = i.inhrelid and c.relkind = 'r' join pg_class p on p.oid = i.inhparent"
            " left join pg_index x on x.indrelid = c.oid where p.relnamespace = 'tocsin'::regnamespace group by p.oid, p.relname"
        )
        of = {row["parent"]: (row["indexes"] / 16, row["options"]) for row in rows}
        assert of["sent"] == (2, "{fillfactor=45}")
        assert of["receipt_wait"] == (2, "{fillfactor=85}")
        assert of["closed"] == (1, None)
