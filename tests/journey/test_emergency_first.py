"""An emergency goes before everything that waits: in the database, between claim and link, at the throttle."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.journey.running import journey

if TYPE_CHECKING:
    from tests.fakes.smsc import Smsc

MARKETING = 5_000
SEGMENTS_PER_S = 100
NEXT = 5  # segments before it, as a rule: those that were on their way when it was enqueued
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
