"""dispatcher/backlog.py: what is not yet in the database is bounded, and the slow part is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from dispatcher import backlog as backlog_module
from dispatcher.backlog import TELL_AFTER_S, Backlog
from gateway import DeliveryState, Receipt
from tests.dispatcher.instance import Given, instance
from tests.journey.running import LINK

if TYPE_CHECKING:
    from tests.dispatcher.instance import Instance


@pytest.fixture(autouse=True)
def low_bounds(monkeypatch):
    monkeypatch.setattr(backlog_module, "MOST_UNWRITTEN", 3)
    monkeypatch.setattr(backlog_module, "MOST_URGENT_UNWRITTEN", 5)


def backlog_of(one: Instance) -> Backlog:
    return Backlog(
        settler=one.settler,
        receipts=one.receipts,
        intake=one.intake,
        inbound=one.inbound,
        metrics=one.metrics,
        clock=one.clock,
    )


async def answered(one: Instance, count: int) -> None:
    """So many outcomes wait to be written."""
    await one.own()
    for _ in range(count):
        await one.app.enqueue(category="emergency")
    for n, job in enumerate(await one.claim()):
        one.accepted(job, [f"m{n}"])


def flood(one: Instance, count: int) -> None:
    """So many receipts wait to be written."""
    receipts = [Given(Receipt(f"r{n}", DeliveryState.DELIVERED)) for n in range(count)]
    one.intake.take(LINK, receipts)  # type: ignore[arg-type]


def held_s(one: Instance, part: str) -> float:
    return one.registry.get_sample_value("tocsin_claims_held_seconds_total", {"part": part}) or 0.0


@pytest.mark.parametrize(("outcomes", "others", "urgent"), [(2, False, False), (3, True, False), (5, True, True)])
async def test_lanes_1_to_5_stop_claiming_before_lane_0_does(tmp_path, queue_url, outcomes, others, urgent):
    """Both have a bound, and an emergency's is the higher one."""
    async with instance(tmp_path, queue_url) as one:
        backlog = backlog_of(one)
        await answered(one, outcomes)

        assert (backlog.holds_others(), backlog.holds_urgent()) == (others, urgent)
        await one.flush()
        assert (backlog.holds_others(), backlog.holds_urgent()) == (False, False)


async def test_a_flood_of_receipts_never_stops_an_emergency(tmp_path, queue_url):
    """A carrier decides how many deliver_sm it sends; it must not decide whether lane 0 is served."""
    async with instance(tmp_path, queue_url) as one:
        backlog = backlog_of(one)
        flood(one, 50)

        assert backlog.holds_others()
        assert not backlog.holds_urgent()


@pytest.mark.parametrize(("outcomes", "receipts", "part"), [(5, 1, "settle"), (1, 5, "receive")])
async def test_the_part_of_which_most_waits_is_the_one_that_is_counted(tmp_path, queue_url, outcomes, receipts, part):
    """Until the look that finds that claims may go on; lane 0's wait is not counted on top."""
    async with instance(tmp_path, queue_url) as one:
        backlog = backlog_of(one)
        await answered(one, outcomes)
        flood(one, receipts)
        backlog.holds_others()
        backlog.holds_urgent()
        one.clock.ahead_s += 3.0
        backlog.holds_others()
        backlog.holds_urgent()
        await one.flush()
        await one.bring_home()
        one.clock.ahead_s += 4.0
        backlog.holds_others()
        backlog.holds_urgent()
        one.clock.ahead_s += 100.0
        backlog.holds_others()

        (other,) = {"settle", "receive"} - {part}
        assert held_s(one, part) == pytest.approx(7.0, abs=1.0)
        assert held_s(one, other) == 0.0


async def test_a_wait_that_lasts_is_told_once_and_so_is_its_end(tmp_path, queue_url):
    """A burst holds claims for milliseconds, and often: that is no news."""
    async with instance(tmp_path, queue_url) as one:
        backlog = backlog_of(one)
        with structlog.testing.capture_logs() as logs:
            flood(one, 3)
            backlog.holds_others()
            await one.bring_home()
            backlog.holds_others()
            assert logs == []

            flood(one, 4)
            for _ in range(3):
                backlog.holds_others()
                one.clock.ahead_s += TELL_AFTER_S
            await one.bring_home()
            backlog.holds_others()

        assert [(entry["event"], entry["lanes"], entry["part"]) for entry in logs] == [
            ("claims_held", "1-5", "receive"),
            ("claims_resumed", "1-5", "receive"),
        ]
        assert logs[0]["unwritten"] == 4
