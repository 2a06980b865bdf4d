"""dispatcher/retention.py: days are made ahead, and dropped as a whole once nobody keeps them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from config.reader import ConfigError
from config.settings import load
from dispatcher.metrics import DispatcherMetrics, new_registry
from dispatcher.retention import Retention
from dispatcher.store import PINNED, connect
from tests.dispatcher.instance import instance
from tests.journey.running import app_of, journey, until, write_file
from tests.store.seed import partitions_of_today

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dispatcher.store import Connection
    from tests.journey.running import App

KEPT_DAYS = 45
OLD_DAY = """
do $$
declare
    parent text;
    day    date;
begin
    foreach parent in array array['sent', 'sent_text', 'closed', 'receipt_wait', 'inbound', 'inbound_part', 'event_log'] loop
        for day in select (now() at time zone 'UTC')::date - n from unnest(array[{ages}]) n loop
            execute format('create table tocsin.%I partition of tocsin.%I for values from (%L) to (%L)',
                           parent || '_' || to_char(day, 'YYYYMMDD'), parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
        end loop;
    end loop;
end $$
"""


class Keeping:
    """One database, the daemon's connection to it, and what its metrics say."""

    def __init__(self, app: App, connection: Connection) -> None:
        self.app = app
        self.connection = connection
        self.registry = new_registry()
        self.retention = Retention(KEPT_DAYS, DispatcherMetrics(self.registry))

    async def with_days(self, *ages: int) -> None:
        """Make every table's partition of so many days ago."""
        await self.app.connection.execute(OLD_DAY.format(ages=", ".join(map(str, ages))))

    async def ages(self, parent: str) -> list[int]:
        """Days since the table's past partitions, oldest first."""
        rows = await self.app.fetch(
            "select (now() at time zone 'UTC')::date - day as age from tocsin.partition"
            " where parent = $1 and day < (now() at time zone 'UTC')::date order by 1 desc",
            parent,
        )
        return [row["age"] for row in rows]

    def gauge(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


@asynccontextmanager
async def keeping(url: str) -> AsyncIterator[Keeping]:
    connection = await connect(url, PINNED)
    try:
        async with app_of(url) as app:
            await partitions_of_today(app.connection)
            yield Keeping(app, connection)
    finally:
        await connection.close()


async def test_days_older_than_kept_go_and_no_others(database_url):
    """A text's partition is named by the day on which it is dropped, so its day is the clock's own."""
    async with keeping(database_url) as one:
        await one.with_days(400, 46, 45, 2)
        await one.retention.drop(one.connection)

        for parent in ("sent", "closed", "receipt_wait", "inbound", "inbound_part", "event_log"):
            assert await one.ages(parent) == [45, 2, 1]
        assert await one.ages("sent_text") == [1]
        assert one.gauge("tocsin_partitions_kept_days") == 45
        await one.retention.drop(one.connection)
        assert await one.ages("sent") == [45, 2, 1]


async def test_a_table_that_is_being_read_is_left_for_the_next_turn(database_url):
    """Whoever settles waits behind the lock, so it is given up after 0.1 s."""
    async with keeping(database_url) as one, app_of(database_url) as reader:
        await one.with_days(60)
        async with reader.connection.transaction():
            await reader.fetch("select count(*) from tocsin.closed")
            await one.retention.drop(one.connection)
            assert await one.ages("closed") == [60, 1]
        await one.retention.drop(one.connection)
        assert await one.ages("closed") == [1]


async def test_two_instances_do_not_get_in_each_other_s_way(database_url):
    """The second one leaves it to the first."""
    async with keeping(database_url) as one, app_of(database_url) as other:
        await one.with_days(60)
        async with other.connection.transaction():
            assert await other.value("select tocsin.drop_partition(45)") is not None
            await one.retention.drop(one.connection)
        await one.retention.drop(one.connection)
        for parent in ("sent", "sent_text", "closed", "event_log"):
            assert await one.ages(parent) == [1]


async def test_what_is_ahead_is_told_by_the_table_that_has_least(database_url):
    """One table that could not be made stops every settle on that day."""
    async with keeping(database_url) as one:
        await one.retention.make(one.connection)
        assert one.gauge("tocsin_partitions_ahead_days") == 14
        day = await one.app.value("select to_char((now() at time zone 'UTC')::date + 14, 'YYYYMMDD')")
        await one.app.connection.execute(f"drop table tocsin.event_log_{day}")
        await one.retention._tell(one.connection)
        assert one.gauge("tocsin_partitions_ahead_days") == 13


@pytest.mark.parametrize("days", [1, 31, 32, 400, 3650])
async def test_a_text_finds_its_partition_however_long_it_is_kept(tmp_path, queue_url, days):
    """The row of the category makes it, before a settle can need it; past a month the first of a month is enough."""
    kept = [{"name": "lab_result", "lane": 3, "keep_text_days": days}]
    async with instance(tmp_path, queue_url, categories=kept) as one:
        number = await one.sent(["m1"], category="lab_result")

        (row,) = await one.app.fetch(
            "select job_id, extract(epoch from drop_on - now()) / 86400 as days, extract(day from drop_on at time zone 'UTC') as day"
            " from tocsin.sent_text"
        )
        assert row["job_id"] == number
        assert days - 0.01 <= row["days"] <= days + (0.01 if days <= 31 else 32)
        assert days <= 31 or row["day"] == 1
        made = await one.app.value("select count(*) from tocsin.partition where parent = 'sent_text'")
        assert made <= 16 + 31 + 124, "years are partitions of months"


async def test_a_person_who_changes_the_row_makes_the_partition_too(database_url):
    """The database's rows rule."""
    async with keeping(database_url) as one:
        await one.app.connection.execute(
            "insert into tocsin.category values ('lab', 3, '1 day', 'hold', 'applies', 'no', 10, 0, false)"
        )
        await one.app.connection.execute("update tocsin.category set keep_text_days = 300 where name = 'lab'")
        await one.app.connection.execute("insert into tocsin.sent_text values (tocsin.text_drop_on(300), 1, 'x')")


async def test_a_row_of_a_day_that_was_never_made_fails_and_the_start_of_a_daemon_makes_it(tmp_path, queue_url):
    """A daemon that was off for weeks can settle as soon as it claims."""
    async with app_of(queue_url) as app:
        today = await app.value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')")
        for parent in ("sent", "event_log", "closed"):
            await app.connection.execute(f"drop table tocsin.{parent}_{today}")
        with pytest.raises(asyncpg.CheckViolationError):
            await app.connection.execute(
                "insert into tocsin.event_log (at, seq, xid, app, type, subject) values (now(), 1, '1', '', 'x', '')"
            )
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await world.app.until_state(await world.app.enqueue(), "submitted")


@pytest.mark.slow
async def test_days_are_dropped_under_load_and_nothing_is_lost_or_sent_twice(tmp_path, queue_url):
    """By the SMSC's record and the tables."""
    async with journey(tmp_path, queue_url, throughput_per_s=200) as world, keeping(queue_url) as one:
        world.smsc.receipt_delay_s = 0.01
        ids = await world.app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(2_000)])
        await world.smsc.seen("submit_sm", 50)
        await one.with_days(*range(46, 56))
        world.daemon.hurry()

        async def dropped() -> bool:
            world.daemon.hurry()
            return max(await one.ages("sent") + await one.ages("event_log")) <= KEPT_DAYS

        await until(dropped, 60, poll_s=0.5)
        during = len(world.smsc.received("submit_sm"))
        await world.app.until_states({"delivered": len(ids)})

        assert during < len(ids), "while there was load"
        assert len(world.smsc.received("submit_sm")) == len(ids)


def test_what_is_kept_must_outlast_the_longest_wait_for_a_receipt(tmp_path):
    """A receipt finds its message by a row that must still be there."""
    path = write_file(tmp_path, "postgresql://x@127.0.0.1/x", {"a": {"port": 1}}, daemon={"retention_days": 8})
    assert load(path, {}).daemon.retention_days == 8
    path = write_file(
        tmp_path,
        "postgresql://x@127.0.0.1/x",
        {"a": {"port": 1}},
        daemon={"retention_days": 8, "unknown_after_s": 5 * 86_400.0},
    )
    with pytest.raises(ConfigError, match=r"retention_days.*must be 9 or more"):
        load(path, {})
