"""A link that cannot send hands what waits to the next one of its route, and no job is ever on two links."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import Smsc
from tests.journey.running import App, Child, Running, app_of, free_port, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

FIRST, SECOND = "carrier-a", "carrier-b"
SOON = {"failover_after_s": 0.6, "failover_after_urgent_s": 0.2}
ROW = "select * from tocsin.job_status($1)"


class World:
    """Two links of one route; the first one's SMSC may be absent."""

    def __init__(self, running: Running, app: App, second: Smsc, path: Path, first_port: int) -> None:
        self.running = running
        self.app = app
        self.second = second
        self.path = path
        self.first_port = first_port

    async def link_of(self, job_id: int) -> str:
        return str((await self.app.fetch(ROW, job_id))[0]["link"])


@asynccontextmanager
async def two_links(
    folder: Path,
    url: str,
    *,
    daemon: Mapping[str, object] | None = None,
    of_second: Mapping[str, object] | None = None,
    categories: Sequence[Mapping[str, object]] = (),
) -> AsyncIterator[World]:
    """Nobody listens where the first link wants to bind."""
    port = free_port()
    async with Smsc() as second, app_of(url) as app:
        links = {
            FIRST: {"port": port, "receipts": "none"},
            SECOND: {"port": second.port, "receipts": "none", **(of_second or {})},
        }
        path = write_file(folder, url, links, daemon=SOON | dict(daemon or {}), categories=categories)
        async with Running(path) as running:
            await running.until_bound(SECOND)
            yield World(running, app, second, path, port)


def destinations(smsc: Smsc) -> list[str]:
    """Recipients in the order in which the SMSC read them."""
    return [submit.fields["destination_addr"] for submit in smsc.received("submit_sm")]


async def test_what_waits_for_a_link_that_is_down_goes_by_the_next_one_in_order_and_once(tmp_path, queue_url):
    """The route names both; the first is preferred and is not there."""
    async with two_links(tmp_path, queue_url) as world:
        jobs = [{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(100)]
        ids = await world.app.enqueue_many(jobs)
        await world.app.until_states({"submitted": len(ids)})

        assert destinations(world.second) == [job["recipient"] for job in jobs]
        assert {await world.link_of(number) for number in ids[:3]} == {SECOND}
        assert world.running.counter("tocsin_failed_over_jobs_total", link=FIRST) == len(ids)


async def test_an_emergency_goes_at_once_over_the_next_link_when_its_own_is_down_already(tmp_path, queue_url):
    """It does not wait for the other lanes' longer limit."""
    async with two_links(tmp_path, queue_url, daemon={"failover_after_s": 600.0}) as world:
        waiting = await world.app.enqueue()
        emergency = await world.app.enqueue(category="emergency")
        await world.app.until_state(emergency, "submitted")

        assert await world.link_of(emergency) == SECOND
        assert await world.app.state(waiting) == "queued"
        assert await world.link_of(waiting) == FIRST


async def test_when_the_link_is_back_new_messages_take_it_again(tmp_path, queue_url):
    """The order of preference is the route's."""
    async with two_links(tmp_path, queue_url) as world:
        moved = await world.app.enqueue()
        await world.app.until_state(moved, "submitted")
        async with Smsc(port=world.first_port) as first:
            await world.running.until_bound(FIRST)
            number = await world.app.enqueue()
            await world.app.until_state(number, "submitted")
            assert await world.link_of(number) == FIRST
            assert len(first.received("submit_sm")) == 1


async def test_what_waits_for_a_paused_link_goes_by_the_next_one(tmp_path, queue_url):
    """Paused for maintenance: its sessions stay, its messages need not wait."""
    async with two_links(tmp_path, queue_url) as world, Smsc(port=world.first_port):
        await world.running.until_bound(FIRST)
        assert await world.app.value("select tocsin.set_paused('link', $1, true, '', 'me')", FIRST) == "changed"

        async def paused() -> bool:
            return world.running.daemon._gateway[FIRST].is_paused

        await until(paused)
        number = await world.app.enqueue()
        await world.app.until_state(number, "submitted")
        assert await world.link_of(number) == SECOND


async def test_what_waits_for_a_link_that_left_the_file_goes_by_the_next_one(tmp_path, queue_url):
    """Rows name it still; the file's route decides where they go."""
    async with Smsc() as second, app_of(queue_url) as app:
        links = {FIRST: {"port": free_port(), "receipts": "none"}, SECOND: {"port": second.port, "receipts": "none"}}
        path = write_file(tmp_path, queue_url, links, daemon=SOON | {"failover_after_s": 600.0})
        async with Running(path) as running:
            await running.until_bound(SECOND)
            waiting = await app.enqueue()
        write_file(tmp_path, queue_url, {SECOND: links[SECOND]}, daemon=SOON)
        async with Running(path):
            await app.until_state(waiting, "submitted")
        assert len(second.received("submit_sm")) == 1


async def test_a_job_with_an_accepted_part_stays_with_its_link(tmp_path, queue_url):
    """A handset joins only what comes over one link."""
    async with two_links(tmp_path, queue_url) as world:
        whole = await world.app.enqueue(body="x" * 300)
        part = await world.app.enqueue(body="x" * 300, recipient="447700900124")
        # as if its first part had been accepted before the link went down
        assert await world.app.value("update tocsin.ready set done = B'10' where id = $1 returning id", part) == part
        await world.app.until_state(whole, "submitted")

        assert (await world.app.state(part), await world.link_of(part)) == ("queued", FIRST)


async def test_a_text_is_counted_anew_for_the_next_link_and_stays_where_it_would_be_too_long(tmp_path, queue_url):
    """Latin-1 takes 140 octets where GSM-7 takes 160 characters."""
    categories = [{"name": "staff", "lane": 1, "max_parts": 1, "on_doubt": "resend"}]
    async with two_links(tmp_path, queue_url, of_second={"default_alphabet": "latin1"}, categories=categories) as world:
        moved = await world.app.enqueue(body="x" * 150)
        stays = await world.app.enqueue(body="x" * 150, category="staff")
        await world.app.until_state(moved, "submitted")

        assert (await world.app.fetch(ROW, moved))[0]["parts"] == 2
        assert len(world.second.received("submit_sm")) == 2
        assert (await world.app.state(stays), await world.link_of(stays)) == ("queued", FIRST)


async def test_deferred_jobs_of_a_link_without_an_owner_go_by_the_next_one_when_they_are_due(tmp_path, queue_url):
    """Nobody else promotes them."""
    async with app_of(queue_url) as app, Smsc() as second:
        links = {FIRST: {"port": free_port(), "receipts": "none"}, SECOND: {"port": second.port, "receipts": "none"}}
        path = write_file(tmp_path, queue_url, links, daemon=SOON)
        async with Running(path) as running:
            await running.until_bound(SECOND)
            number = await app.enqueue(not_before=await app.value("select now() + interval '1 hour'"))
        write_file(tmp_path, queue_url, {SECOND: links[SECOND]}, daemon=SOON)
        async with Running(path) as running:
            await running.until_bound(SECOND)
            await app.hurry()
            await app.until_state(number, "submitted")


@pytest.mark.slow
async def test_unjournalled_emergencies_of_a_dead_owner_go_by_the_next_link_before_its_take_over(tmp_path, queue_url):
    """What its journal names may be on its wire, and stays for whoever takes the link over."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as first, Smsc() as second, app_of(queue_url) as app:
        links = {FIRST: {"port": first.port}, SECOND: {"port": second.port, "receipts": "none"}}
        path = write_file(tmp_path, queue_url, links, daemon={"takeover_s": 2.0, "failover_after_urgent_s": 0.2})
        async with Child(path) as other:
            await second.seen("bind_transceiver", timeout_s=15)
            await app.connection.execute(
                "update tocsin.link set owner = 'gone:1', state = 'bound' where name = $1", FIRST
            )
            await other.until_logged("link_ownership_lost")
            journalled = await app.enqueue(category="emergency")
            await app.connection.execute(
                "insert into tocsin.claim select 0, link, lane, 0, array[id] from tocsin.ready where id = $1",
                journalled,
            )
            free = await app.enqueue(category="emergency", recipient="447700900124")
            await app.until_state(free, "submitted", timeout_s=15)
            assert await app.state(journalled) in {"queued", "uncertain"}
            assert destinations(second).count("447700900124") == 1
            assert "447700900123" not in destinations(second)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_claim_cancel_expiry_and_the_move_raced_against_each_other_leave_one_outcome_a_job(
    tmp_path, queue_url, seed
):
    """Property 8: by both SMSCs' records; the first link comes and goes the whole time."""
    asyncio.get_running_loop().set_debug(False)
    chosen = random.Random(seed)
    async with (
        two_links(tmp_path, queue_url, daemon={"failover_after_s": 0.01, "failover_after_urgent_s": 0.01}) as world,
        app_of(queue_url) as other,
    ):
        jobs = [{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(1_500)]
        cancelled: set[str] = set()
        received: list[str] = []
        ids: list[int] = []

        async def enqueue() -> None:
            for start in range(0, len(jobs), 100):
                ids.extend(await world.app.enqueue_many(jobs[start : start + 100]))
                for n in chosen.sample(range(len(ids)), 10):
                    if await other.value("select tocsin.cancel($1)", ids[n]) == "cancelled":
                        cancelled.add(jobs[n]["recipient"])
                await other.connection.execute(
                    "update tocsin.ready set expires_at = now() where id = any($1)", chosen.sample(ids, 3)
                )
                world.running.hurry()

        working = asyncio.create_task(enqueue())
        while not working.done():
            async with Smsc(port=world.first_port) as first:
                await world.running.until_bound(FIRST)
                await asyncio.sleep(chosen.random() * 0.3)  # the trouble's own rhythm
                await world.running.daemon._gateway[FIRST].stop(2.0)  # so that nothing is in doubt
                received += destinations(first)
                del world.running.daemon._gateway._links[FIRST]
                world.running.daemon._gateway.open(world.running.daemon._links[FIRST])
        await working

        async def over() -> bool:
            world.running.hurry()
            return not (await world.app.states()).keys() & {"queued", "deferred"}

        await until(over, 30)
        received += destinations(world.second)
        states = {
            row["job_id"]: row["state"] for row in await world.app.fetch("select job_id, state from tocsin.job_status")
        }
        assert states.keys() == set(ids)
        assert set(Counter(received).values()) == {1}, "never on two links"
        sent = {jobs[n]["recipient"] for n, number in enumerate(ids) if states[number] == "submitted"}
        assert sent == set(received)
        assert not cancelled & set(received)
        assert await world.app.value("select count(*) from tocsin.claim") == 0
