"""kill -9 while a late answer is written, while a job moves to the next link, and while a day is dropped."""

from __future__ import annotations

import pytest

from tests.fakes.smsc import Answer
from tests.journey.killed import world_of
from tests.journey.running import LINK, free_port, until

pytestmark = pytest.mark.slow

AT_ONCE = {"failover_after_s": 0.01, "failover_after_urgent_s": 0.01}
MOVES = {"move-unsent": "first", "move-uncommitted": "first", "move-committed": LINK}
DROPS = {"drop-unsent": 1, "drop-committed": 0}
OLD_DAY = """
create table tocsin.closed_20200101 partition of tocsin.closed for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00')
"""
OLD_DAYS = "select count(*)::int from tocsin.partition where day < '2021-01-01'"
NO_OLD_DAY = f"select ({OLD_DAYS}) = 0"


@pytest.mark.parametrize(("point", "link"), MOVES.items(), ids=MOVES)
async def test_a_job_whose_daemon_dies_while_it_moves_is_on_one_link_and_sent_once(tmp_path, queue_url, point, link):
    """The first link of its route cannot be reached; the row is there or here, never both, never neither."""
    async with world_of(tmp_path, queue_url, first_port=free_port(), daemon=AT_ONCE, receipts="none") as world:
        number = await world.app.enqueue()
        await world.dies_at(point)
        rows = await world.app.fetch("select link from tocsin.ready where id = $1", number)
        assert [row["link"] for row in rows] == [link]

        await world.restart()
        await world.app.until_state(number, "submitted")
        await world.end()
        assert len(world.smsc.received("submit_sm")) == 1
        assert [row["link"] for row in await world.app.sent(number)] == [LINK]


@pytest.mark.parametrize(("point", "left"), DROPS.items(), ids=DROPS)
async def test_a_day_whose_daemon_dies_while_it_is_dropped_is_there_or_gone_and_the_next_one_goes_on(
    tmp_path, queue_url, point, left
):
    """Nothing half dropped is left behind."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        await world.app.connection.execute(OLD_DAY)
        number = await world.app.enqueue()
        await world.dies_at(point)
        assert await world.app.value(OLD_DAYS) == left

        await world.restart()
        await world.app.until_state(number, "submitted", "uncertain")
        await until(lambda: world.app.value(NO_OLD_DAY))  # a drain does not wait for upkeep
        await world.end()
        assert await world.app.value("select to_regclass('tocsin.closed_20200101')") is None
        assert len(world.smsc.received("submit_sm")) == 1


@pytest.mark.parametrize("point", ["late-unsent", "late-committed"])
async def test_a_late_answer_that_was_read_ends_the_doubt_though_its_daemon_dies(tmp_path, queue_url, point):
    """The local record has it; the job's own settle was long ago."""
    async with world_of(tmp_path, queue_url, receipts="none", response_timeout_s=0.5) as world:
        world.smsc.on_submit = lambda _: Answer(delay_s=0.8)
        number = await world.app.enqueue(category="transactional")
        await world.dies_at(point)

        await world.restart()
        await world.app.until_state(number, "submitted")
        await world.end()
        (row,) = await world.app.sent(number)
        assert row["message_id"] == world.smsc.answers()[0].fields["message_id"]
        assert len(world.smsc.received("submit_sm")) == 1
