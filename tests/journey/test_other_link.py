"""What a link refuses without a word against the message goes by another link of its route, and never over both."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import App, Running, app_of, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

FIRST, SECOND = "carrier-a", "carrier-b"
TO = "447700900123"
SYSTEM_ERROR, SENDER, FULL, WITHOUT_A_WORD, BAD_NUMBER = 0x08, 0x0A, 0x14, 0x45, 0x0B


class World:
    """Two links of one route, both bound."""

    def __init__(self, running: Running, app: App, first: Smsc, second: Smsc) -> None:
        self.running = running
        self.app = app
        self.first = first
        self.second = second

    async def link_of(self, job_id: int) -> str:
        return str((await self.app.fetch("select link from tocsin.job_status($1)", job_id))[0]["link"])

    def submits(self) -> tuple[int, int]:
        return len(self.first.received("submit_sm")), len(self.second.received("submit_sm"))


@asynccontextmanager
async def two_carriers(
    folder: Path, url: str, status: int, *, daemon: Mapping[str, object] | None = None, both: bool = False
) -> AsyncIterator[World]:
    """The first carrier answers every submit_sm with this status; the second accepts, unless both refuse."""
    async with Smsc() as first, Smsc() as second, app_of(url) as app:
        first.on_submit = lambda _: Answer(status=status)
        if both:
            second.on_submit = first.on_submit
        links = {
            FIRST: {"port": first.port, "receipts": "none"},
            SECOND: {"port": second.port, "receipts": "none"},
        }
        async with Running(write_file(folder, url, links, daemon=dict(daemon or {}))) as running:
            for link in links:
                await running.until_bound(link)
            yield World(running, app, first, second)


@pytest.mark.parametrize("status", [SYSTEM_ERROR, SENDER, FULL, WITHOUT_A_WORD, 0x104])
async def test_an_emergency_that_its_link_refuses_goes_by_the_next_one_at_once(tmp_path, queue_url, status):
    """It is tried once on each; a minute later would be too late."""
    async with two_carriers(tmp_path, queue_url, status) as world:
        number = await world.app.enqueue(category="emergency")
        await world.app.until_state(number, "submitted")

        assert await world.link_of(number) == SECOND
        assert world.submits() == (1, 1)
        first, second = (*world.first.received("submit_sm"), *world.second.received("submit_sm"))
        assert second.at - first.at < 3.0
        assert await world.app.events(number) == ["job.submitted"]


async def test_a_reminder_that_no_setting_fits_goes_by_the_next_one_too(tmp_path, queue_url):
    """The message is good; the link is not set up for it."""
    async with two_carriers(tmp_path, queue_url, SENDER) as world:
        number = await world.app.enqueue()
        await world.app.until_state(number, "submitted")

        assert await world.link_of(number) == SECOND
        assert [row["attempt"] for row in await world.app.sent(number)] == [2]


async def test_a_passing_trouble_is_tried_three_times_before_the_next_link(tmp_path, queue_url):
    """Of the other lanes: the carrier may be well again in a moment."""
    async with two_carriers(tmp_path, queue_url, SYSTEM_ERROR) as world:
        number = await world.app.enqueue()
        for attempt in (1, 2):
            await world.first.seen("submit_sm", attempt)
            await world.app.until_state(number, "deferred")
            assert await world.app.reason(number) == "RETRY_ESME_RSYSERR"
            await world.app.hurry()
        await world.app.until_state(number, "submitted")

        assert world.submits() == (3, 1)


async def test_what_the_smsc_says_of_the_number_is_final(tmp_path, queue_url):
    """Another carrier knows no other number."""
    async with two_carriers(tmp_path, queue_url, BAD_NUMBER) as world:
        number = await world.app.enqueue(category="emergency")
        await world.app.until_state(number, "failed")

        assert world.submits() == (1, 0)


async def test_a_job_that_every_link_refuses_fails_with_the_reason(tmp_path, queue_url):
    """One try on each where it is a setting."""
    async with two_carriers(tmp_path, queue_url, SENDER, both=True) as world:
        number = await world.app.enqueue(category="emergency")
        await world.app.until_state(number, "failed")

        assert await world.app.reason(number) == "ESME_RINVSRCADR"
        assert world.submits() == (1, 1)


async def test_a_job_with_an_accepted_part_stays_with_its_link(tmp_path, queue_url):
    """A handset joins only what comes over one link."""
    async with two_carriers(tmp_path, queue_url, SYSTEM_ERROR) as world:
        answers = iter([Answer()])
        world.first.on_submit = lambda _: next(answers, Answer(status=SYSTEM_ERROR))
        number = await world.app.enqueue(TO, "x" * 200, category="emergency")
        await world.app.until_state(number, "deferred")

        assert await world.app.reason(number) == "RETRY_ESME_RSYSERR"
        assert world.submits()[1] == 0


async def test_without_another_link_that_sends_the_same_one_tries_again(tmp_path, queue_url):
    """Three seconds of an emergency, thirty of the others; then nothing is lost by waiting."""
    async with two_carriers(tmp_path, queue_url, SYSTEM_ERROR) as world:
        assert await world.app.value("select tocsin.set_paused('link', $1, true, '', 'me')", SECOND) == "changed"

        async def paused() -> bool:
            return world.running.daemon._gateway[SECOND].is_paused

        await until(paused)
        number = await world.app.enqueue(category="emergency")
        await world.app.until_state(number, "deferred")
        assert await world.app.reason(number) == "OTHER_LINK_ESME_RSYSERR"
        await world.app.hurry()
        await world.first.seen("submit_sm", 2)

        assert world.submits() == (2, 0)


async def test_a_failing_link_hands_on_what_waits(tmp_path, queue_url):
    """Half of what it is sent comes back: the rest goes by the next link, and an alert is tried on it all the same."""
    soon = {"failover_after_s": 0.5, "failover_after_urgent_s": 0.2}
    async with two_carriers(tmp_path, queue_url, SYSTEM_ERROR, daemon=soon) as world:
        ids = await world.app.enqueue_many([{"recipient": f"4477008{n:05d}", "body": "x"} for n in range(300)])

        async def failing() -> bool:
            return world.running.daemon._gateway[FIRST].is_failing

        await until(failing)
        await world.app.hurry()
        await world.app.until_states({"submitted": len(ids)})
        alert = await world.app.enqueue(category="emergency")
        await world.app.until_state(alert, "submitted")

        assert world.submits()[0] < len(ids) / 2
        recipients = [submit.fields["destination_addr"] for submit in world.second.received("submit_sm")]
        assert len(recipients) == len(set(recipients)) == len(ids) + 1  # nobody got it twice


async def test_a_full_destination_lets_its_other_messages_wait_and_spends_no_attempt(tmp_path, queue_url):
    """The handset is off: what comes for it meanwhile is not refused one by one."""
    async with two_carriers(tmp_path, queue_url, FULL, both=True) as world:
        first = await world.app.enqueue(TO)
        await world.app.until_state(first, "deferred")
        second, other = await world.app.enqueue(TO), await world.app.enqueue("447700900124")
        await world.app.until_state(second, "deferred")
        await world.app.until_state(other, "deferred")

        assert await world.app.reason(first) == "RETRY_ESME_RMSGQFUL"
        assert await world.app.reason(second) == "DESTINATION_FULL"
        assert await world.app.reason(other) == "RETRY_ESME_RMSGQFUL"
        assert await world.app.value("select attempt from tocsin.deferred where id = $1", second) == 0
        assert world.submits() == (2, 0)


async def test_messages_of_a_refused_sender_wait_for_the_operator(tmp_path, queue_url):
    """Three fail on every link; the thousand behind them do not."""
    async with two_carriers(tmp_path, queue_url, SENDER, both=True) as world:
        for _ in range(3):
            await world.app.until_state(await world.app.enqueue(), "failed")
        number = await world.app.enqueue()
        await world.app.until_state(number, "deferred")

        assert await world.app.reason(number) == "SENDER_REFUSED"
