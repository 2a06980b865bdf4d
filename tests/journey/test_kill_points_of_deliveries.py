"""kill -9 at exactly named points between a deliver_sm and its answer.

An SMSC sends a deliver_sm again, octet for octet, whose deliver_sm_resp it never read. What was stored before must be
recognised, what was not must be stored, and an honest second message of the same words must survive.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from tests.dispatcher.instance import tables
from tests.journey.killed import world_of
from tests.journey.running import until

pytestmark = pytest.mark.slow

TO = "447700900123"
NONE_TAKEN = "select not exists (select from tocsin.receipt_taken)"
BODIES = {"one-part": "x", "two-parts": "x" * 200}


class Told(NamedTuple):
    """Of a receipt whose daemon died: what must hold while nobody runs, and how often the SMSC sends it."""

    state: str
    events: list[str]
    sends: int


RECEIPTS = {
    "receipt-unsent": Told("submitted", [], sends=2),
    "receipt-kept": Told("submitted", [], sends=2),
    "delivery-answered": Told("submitted", [], sends=1),
    "receipt-unapplied": Told("submitted", [], sends=1),
    "receipt-applied": Told("delivered", ["job.delivered"], sends=1),
    "receipt-dropped": Told("delivered", ["job.delivered"], sends=1),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(("point", "told"), RECEIPTS.items(), ids=RECEIPTS)
async def test_a_receipt_counts_once_wherever_its_daemon_died(tmp_path, queue_url, point, told, body):
    """Of a job of several parts the last receipt is the one that dies."""
    async with world_of(tmp_path, queue_url) as world:
        smsc, app = world.smsc, world.app
        number = await app.enqueue(TO, body)
        parts = 1 if body == BODIES["one-part"] else 2
        await world.start_to_die_at(point, "--nth", str(parts))
        submits = await smsc.seen("submit_sm", parts)
        await app.until_state(number, "submitted")
        names = [answer.fields["message_id"] for answer in smsc.answers()]
        for n, (name, submit) in enumerate(zip(names, submits, strict=True)):
            await smsc.seen("deliver_sm_resp", n)
            await until(lambda: app.value(NONE_TAKEN))  # the one before is dealt with to its end
            smsc.deliver_receipt(name, submit)
        await world.died_at(point)
        reached = (await app.state(number), await app.events(number))
        if point != "delivery-answered" or reached != ("delivered", ["job.delivered"]):  # applied in the same instant
            assert reached == (told.state, told.events)
        sends = 1 if len(smsc.received("deliver_sm_resp")) == parts else 2
        assert sends == told.sends or point == "receipt-unapplied"  # kept, and perhaps not answered yet
        killed = await tables(app, "sent", "receipt_wait", "event_log")

        await world.restart()
        await world.until_bound()
        await smsc.seen("deliver_sm_resp", parts)
        await app.until_state(number, "delivered")
        if told.state == "delivered":
            assert await tables(app, *killed) == killed
        recovered = await tables(app, *killed)
        for name, submit in zip(names, submits, strict=True):
            smsc.deliver_receipt(name, submit)
        answers = await smsc.seen("deliver_sm_resp", 2 * parts)

        await world.end()
        assert await tables(app, *killed) == recovered, "a receipt that comes again changes nothing"
        assert {answer.status for answer in answers} == {0}
        assert await app.events(number) == ["job.delivered"]
        delivered = [pdu.octets for pdu in smsc.log if pdu.command == "deliver_sm"]
        assert delivered[parts - 1 : parts - 1 + sends] == [delivered[parts - 1]] * sends
        assert len(delivered) == 2 * parts + sends - 1
        assert len(smsc.received("submit_sm")) == parts


async def test_a_receipt_that_nobody_can_match_is_kept_once_though_its_daemon_died(tmp_path, queue_url):
    """It stands in two tables, as it came and parked."""
    async with world_of(tmp_path, queue_url) as world:
        await world.start_to_die_at("receipt-parked")
        await world.until_bound()
        world.smsc.deliver_receipt("nobody")
        await world.died_at("receipt-parked")
        assert await world.app.value("select count(*) from tocsin.receipt_wait") == 1
        assert await world.app.value("select count(*) from tocsin.receipt_taken") == 1

        await world.restart()
        (answer,) = await world.smsc.seen("deliver_sm_resp")

        async def applied() -> bool:
            return bool(await world.app.value("select count(*) = 0 from tocsin.receipt_taken"))

        await until(applied)
        await world.end()

        assert answer.status == 0
        assert await world.app.value("select count(*) from tocsin.receipt_wait") == 1


class Stored(NamedTuple):
    """Of a reply whose daemon died: rows of the inbox while nobody runs, and in the end; how often the SMSC sends it."""

    killed: int
    ended: int
    sends: int


REPLIES = {
    "reply-unsent": Stored(0, 1, sends=2),
    "reply-committed": Stored(1, 1, sends=2),
    # By the local record its answer was about to be written. If it was, the next one is an honest second YES: rather two
    # rows than a reply that is lost.
    "reply-acknowledged": Stored(1, 2, sends=2),
    "delivery-answered": Stored(1, 1, sends=1),
}


@pytest.mark.parametrize(("point", "stored"), REPLIES.items(), ids=REPLIES)
async def test_a_reply_is_stored_once_wherever_its_daemon_died(tmp_path, queue_url, point, stored):
    """And once more when the patient sends the same words again."""
    async with world_of(tmp_path, queue_url) as world:
        smsc, app = world.smsc, world.app

        async def inbox() -> int:
            return int(await app.value("select count(*) from tocsin.inbox where source = $1 and text = 'YES'", TO))

        await world.start_to_die_at(point)
        await world.until_bound()
        smsc.deliver(source_addr=TO, short_message=b"YES")
        await world.died_at(point)
        assert await inbox() == stored.killed

        await world.restart()
        await smsc.seen("deliver_sm_resp")
        assert await inbox() == stored.ended
        await world.until_bound()
        smsc.deliver(source_addr=TO, short_message=b"YES")
        answers = await smsc.seen("deliver_sm_resp", 2)
        await world.end()

        assert await inbox() == stored.ended + 1
        assert [answer.status for answer in answers] == [0, 0]
        delivered = Counter(pdu.octets[16:] for pdu in smsc.log if pdu.command == "deliver_sm")
        assert list(delivered.values()) == [stored.sends + 1]
        events = await app.fetch("select type, subject from tocsin.event_log where type like 'inbound.%'")
        assert len({event["subject"] for event in events}) == len(events) == stored.ended + 1


THANKS = ("[[auto_reply]]", {"kind": "received", "text": "Thanks. We answer within 2 hours."})
PARTS = [bytes((5, 0, 3, 7, 2, number)) + text for number, text in ((1, b"Can I come "), (2, b"at ten?"))]


@pytest.mark.parametrize(
    ("point", "parts"),
    [*((point, [b"Can I come at ten?"]) for point in REPLIES), ("reply-unsent", PARTS), ("reply-committed", PARTS)],
)
async def test_a_text_is_acknowledged_once_wherever_its_daemon_died(tmp_path, queue_url, point, parts):
    """Text, event and answer are there together or not at all; what the SMSC sends again has its answer already."""
    async with world_of(tmp_path, queue_url, tables=[THANKS], receipts="none") as world:
        smsc, app = world.smsc, world.app
        await world.start_to_die_at(point)
        await world.until_bound()
        header = {"esm_class": 0x40} if len(parts) > 1 else {}
        for text in parts:
            smsc.deliver(source_addr=TO, destination_addr="Northside", short_message=text, **header)
        await world.died_at(point)
        counts = "select (select count(*) from tocsin.inbox), (select count(*) from tocsin.automatic_reply)"
        (killed,) = await app.fetch(counts)
        assert killed[0] == killed[1]
        assert len(smsc.received("submit_sm")) == 0

        await world.restart()
        await smsc.seen("submit_sm")
        await smsc.seen("deliver_sm_resp", len(parts))
        await world.end()

        (ended,) = await app.fetch(counts)
        assert ended[1] == 1
        assert ended[0] == (2 if point == "reply-acknowledged" else 1)
        assert len(smsc.received("submit_sm")) == 1
