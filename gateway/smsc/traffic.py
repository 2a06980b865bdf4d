"""What the simulator sends by itself: messages at a given time, and floods."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.pdu import CommandId, Pdu
from gateway.smsc.deliveries import DELIVERED, receipt

if TYPE_CHECKING:
    from gateway.smsc.faults import Armed, Fault
    from gateway.smsc.smsc import Smsc

TICK_S: Final = 0.01  # floods that are faster come in bursts of this length
SUBSCRIBER: Final = "447700900000"  # of the fictional range


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A mobile-originated message, once or again and again."""

    source: str = field(repr=False)
    destination: str = field(repr=False)
    text: str = field(repr=False)
    system_id: str = ""  # the account; "": the first one that receives
    after_s: float = 0.0  # since the simulator listens
    every_s: float = 60.0  # from one to the next
    count: int = 1


async def schedule(smsc: Smsc, message: Scheduled) -> None:
    """Send a message when it is due; without an account that receives, wait for one."""
    await asyncio.sleep(message.after_s)
    for place in range(message.count):
        if place:
            await asyncio.sleep(message.every_s)
        await smsc.until(smsc.receivers)
        system_id = message.system_id or smsc.receivers()[0]
        smsc.send(message.source.removeprefix("+"), message.destination, message.text, system_id=system_id)


async def flood(smsc: Smsc, armed: Armed) -> None:
    """Send what floods, as long as its span lasts; no faster than the simulator can hold."""
    assert smsc.plan is not None
    fault, sent = armed.fault, 0
    await asyncio.sleep(fault.after_s)
    while fault.spans(smsc.elapsed_s) and (fault.count is None or armed.struck < fault.count):
        due = int((smsc.elapsed_s - fault.after_s) * fault.per_s) + 1
        while sent < due:
            sent += 1
            if armed.strikes(smsc.elapsed_s, smsc.plan.chance):
                _send(smsc, fault, armed.struck)
        await asyncio.sleep(max(TICK_S, 1 / fault.per_s))


def _send(smsc: Smsc, fault: Fault, number: int) -> None:
    if fault.kind == "enquire_link_flood":
        for connection in smsc.connections:
            connection.enquire()
        return
    accounts = smsc.receivers()
    if not accounts or smsc.held >= smsc.settings.held_limit:
        return
    if fault.kind == "mo_flood":
        smsc.send(SUBSCRIBER, fault.destination, f"Message {number}", system_id=accounts[0])
        return
    now = datetime.now(UTC)
    nobodys = Pdu(
        CommandId.SUBMIT_SM,
        0,
        0,
        {"source_addr": fault.destination, "destination_addr": SUBSCRIBER, "dest_addr_ton": 1},
    )
    made = receipt(nobodys, f"flood-{number:08d}", DELIVERED, now, now, dialect=smsc.settings.receipts)
    smsc.push([made], system_id=accounts[0])
