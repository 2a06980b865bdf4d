"""An emergency goes before everything that waits: in the database, between claim and link, at the throttle."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tests.journey.running import journey

if TYPE_CHECKING:
    from tests.fakes.smsc import Smsc

MARKETING = 5_000
SEGMENTS_PER_S = 100
NEXT = 5  # segments that may still go before it: those that were on their way when it was enqueued
SOON = 20  # on a machine that is busy with other things: a fifth of a second


async def test_an_emergency_is_among_the_next_few_segments_on_a_slow_link(tmp_path, queue_url):
    """5,000 marketing messages wait at 100 a second; the emergency does not wait for them, nor for the next claim."""
    asyncio.get_running_loop().set_debug(False)
    async with journey(tmp_path, queue_url, throughput_per_s=SEGMENTS_PER_S, receipts="none") as world:
        await world.app.enqueue_many(
            [{"recipient": f"4477009{n:05d}", "body": "x", "category": "marketing"} for n in range(MARKETING)]
        )
        positions = []
        for n in range(3):
            await world.smsc.seen("submit_sm", 100 + 20 * n)
            recipient = f"44770000000{n}"
            await world.app.enqueue(recipient, "Cardiac arrest, ward 4", category="emergency")
            already = len(world.smsc.received("submit_sm"))
            await world.smsc.until(partial(_on_wire, world.smsc, recipient))
            order = [submit.fields["destination_addr"] for submit in world.smsc.received("submit_sm")]
            positions.append(order.index(recipient) + 1 - already)

        assert sorted(positions)[1] <= NEXT
        assert max(positions) <= SOON
        print(f"\nemergencies were number {positions} on the wire after their enqueue had returned")
        await world.app.connection.execute("delete from tocsin.ready where lane = 5")


def _on_wire(smsc: Smsc, recipient: str) -> bool:
    return any(pdu.command == "submit_sm" and pdu.fields["destination_addr"] == recipient for pdu in smsc.log[-50:])
