"""An emergency goes before everything that waits: in the database, between claim and link, at the throttle."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from gateway import Link
    from tests.fakes.smsc import Smsc

MARKETING = 5_000
SEGMENTS_PER_S = 100
NEXT = 5  # segments before it, as a rule: those that were on their way when it was enqueued
FLOOD = 400
ROOM = 20  # of a lane, a fiftieth of what the throttle lets go at once
KINDS = {b"x": "e", b"bulk": "m", b"You will get no more": "r"}
SOON_S = 0.25  # always; a burst of what the throttle has just let go may stand before it, never a second's worth


async def test_an_emergency_is_among_the_next_few_segments_on_a_slow_link(tmp_path, queue_url):
    """5,000 marketing messages wait at 100 a second; the emergency does not wait for them, nor for the next claim."""
    asyncio.get_running_loop().set_debug(False)
    async with journey(tmp_path, queue_url, throughput_per_s=SEGMENTS_PER_S, receipts="none") as world:
        await world.app.enqueue_many(
            [{"recipient": f"4477009{n:05d}", "body": "x", "category": "marketing"} for n in range(MARKETING)]
        )
        positions: list[int] = []
        waits_s: list[float] = []
        for n in range(5):
            await world.smsc.seen("submit_sm", 100 + 20 * n)
            recipient = f"44770000000{n}"
            await world.app.enqueue(recipient, "Cardiac arrest, ward 4", category="emergency")
            enqueued_at = time.monotonic()
            already = len(world.smsc.received("submit_sm"))
            await world.smsc.until(partial(_on_wire, world.smsc, recipient))
            order = [submit.fields["destination_addr"] for submit in world.smsc.received("submit_sm")]
            positions.append(order.index(recipient) + 1 - already)
            waits_s.append(world.smsc.received("submit_sm")[order.index(recipient)].at - enqueued_at)

        assert sorted(positions)[len(positions) // 2] <= NEXT
        assert max(waits_s) <= SOON_S
        print(
            f"\nemergencies were number {positions} on the wire after their enqueue had returned, within {max(waits_s) * 1000:.0f} ms"
        )
        await world.app.connection.execute("delete from tocsin.ready where lane = 5")


def _on_wire(smsc: Smsc, recipient: str) -> bool:
    return any(pdu.command == "submit_sm" and pdu.fields["destination_addr"] == recipient for pdu in smsc.log[-50:])


async def test_nothing_but_a_reply_leaves_between_the_emergencies_of_a_flood(tmp_path, queue_url, monkeypatch):
    """A fast link empties its room before the next claim is back; what is bulk must wait for that claim all the same."""
    monkeypatch.setattr("gateway.rooms.LARGEST_ROOM", ROOM)
    monkeypatch.setattr(
        "dispatcher.loops.MORE_URGENT_S", 30.0
    )  # no claim takes so long, whatever else the machine does
    flood = [{"recipient": f"44770090{n:04d}", "body": "x", "category": "emergency"} for n in range(FLOOD)]
    async with journey(tmp_path, queue_url, throughput_per_s=1000, window_size=1000, receipts="none") as world:
        link = world.daemon.daemon._gateway.links[LINK]
        link._throttle._held_until = math.inf  # the flood finds bulk in its room, and then all of the rate
        await world.app.enqueue("447700900999", "You will get no more", category="reply")
        await world.app.enqueue_many([job | {"category": "marketing", "body": "bulk"} for job in flood])
        await until(partial(_is_full, link, 5))
        await world.app.enqueue_many(flood)
        await until(partial(_is_full, link, 0))
        link._throttle._held_until = 0.0
        link._pump()
        await world.smsc.until(lambda: len(world.smsc.received("submit_sm")) == 2 * FLOOD + 1, 60.0)

    order = "".join(KINDS[submit.fields["short_message"]] for submit in world.smsc.received("submit_sm"))
    during = order[order.index("e") : order.rindex("e")]
    assert during.count("m") == 0
    assert during.count("r") == 1
    assert order.count("e") == FLOOD


async def _is_full(link: Link, lane: int) -> bool:
    return link.room(lane) == 0
