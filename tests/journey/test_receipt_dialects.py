"""Every receipt text that other projects' tests have, in each way a carrier may send it, from the socket to the job's state."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.vectors import load
from tests.fakes.smsc import Answer
from tests.journey.running import journey

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged, Smsc

RECEIPT = 0x04
DATA_SM = 0x0103
NUMBER_OF = {"enroute": 1, "delivered": 2, "undelivered": 5, "unknown": 7}  # message_state, SMPP v3.4 section 5.2.28
STATE_OF = {"enroute": "submitted"}
FIRST_NUMBER = 447_700_900_000


def as_text(smsc: Smsc, text: bytes, _id: str, _state: int, **addresses: Any) -> None:
    smsc.deliver(esm_class=RECEIPT, short_message=text, **addresses)


def as_payload(smsc: Smsc, text: bytes, _id: str, _state: int, **addresses: Any) -> None:
    smsc.deliver(esm_class=RECEIPT, short_message=b"", message_payload=text, **addresses)


def as_ucs2(smsc: Smsc, text: bytes, _id: str, _state: int, **addresses: Any) -> None:
    octets = text.decode("latin-1").encode("utf-16-be")
    smsc.deliver(esm_class=RECEIPT, data_coding=8, short_message=b"", message_payload=octets, **addresses)


def as_tlvs(smsc: Smsc, _text: bytes, message_id: str, state: int, **addresses: Any) -> None:
    smsc.deliver(
        esm_class=RECEIPT, short_message=b"", receipted_message_id=message_id, message_state=state, **addresses
    )


def as_both(smsc: Smsc, text: bytes, message_id: str, state: int, **addresses: Any) -> None:
    smsc.deliver(
        esm_class=RECEIPT, short_message=text, receipted_message_id=message_id, message_state=state, **addresses
    )


def as_no_receipt_by_its_class(smsc: Smsc, text: bytes, message_id: str, state: int, **addresses: Any) -> None:
    """esm_class 0: it is one by its two TLVs alone."""
    smsc.deliver(esm_class=0, short_message=text, receipted_message_id=message_id, message_state=state, **addresses)


def as_data_sm(smsc: Smsc, text: bytes, _id: str, _state: int, **addresses: Any) -> None:
    source, destination = (addresses[name].encode() for name in ("source_addr", "destination_addr"))
    body = b"\0\x01\x01" + source + b"\0\x01\x01" + destination + b"\0" + bytes((RECEIPT, 0, 0))
    body += struct.pack(">HH", 0x0424, len(text)) + text
    receiver = smsc.receiver()
    receiver.send_raw(struct.pack(">LLLL", 16 + len(body), DATA_SM, 0, receiver.numbers.next_sequence()) + body)


WAYS = (as_text, as_payload, as_ucs2, as_tlvs, as_both, as_no_receipt_by_its_class, as_data_sm)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_each_text_brings_its_job_to_the_state_that_it_says(tmp_path, queue_url, way):
    """Fifty texts, several of them with one and the same id: the numbers tell whose they are."""
    entries = [parameter.values[0] for parameter in load("dlr_text")]
    stated = {str(FIRST_NUMBER + n): entry["stated"] for n, entry in enumerate(entries)}
    text_of = {str(FIRST_NUMBER + n): entry["text"].encode("latin-1") for n, entry in enumerate(entries)}

    def answer(submit: Logged) -> Answer:
        return Answer(message_id=stated[submit.fields["destination_addr"]]["message_id"])

    def script(smsc: Smsc) -> None:
        smsc.on_submit = answer

    async with journey(tmp_path, queue_url, script=script) as world:
        jobs = {number: await world.app.enqueue(number) for number in stated}
        await world.smsc.seen("submit_sm", len(jobs))
        for number, its in stated.items():
            way(
                world.smsc,
                text_of[number],
                its["message_id"],
                NUMBER_OF[its["state"]],
                source_addr=number,
                destination_addr="Northside",
            )
        answered = {b"\x80\x00\x00\x05", b"\x80\x00\x01\x03"}  # deliver_sm_resp, data_sm_resp
        await world.smsc.until(lambda: sum(pdu.octets[4:8] in answered for pdu in world.smsc.log) == len(jobs))
        for number, job in jobs.items():
            wanted = STATE_OF.get(stated[number]["state"], stated[number]["state"])
            assert await world.app.until_state(job, wanted) == wanted
        assert await world.app.value("select count(*) from tocsin.inbound") == 0
        assert await world.app.value("select count(*) from tocsin.receipt_wait where matched_at is null") == 0


async def test_a_receipt_text_that_a_handset_sends_is_a_reply(tmp_path, queue_url):
    """Whoever knows an id could otherwise tell that a message was delivered, or was not."""

    def script(smsc: Smsc) -> None:
        smsc.on_submit = lambda _: Answer(message_id="4")

    async with journey(tmp_path, queue_url, script=script) as world:
        job = await world.app.enqueue("447700900123")
        await world.app.until_state(job, "submitted")
        text = b"id:4 sub:001 dlvrd:001 submit date:1006020051 done date:1006020051 stat:UNDELIV err:000 Text:Hello"
        world.smsc.deliver(source_addr="447700900123", destination_addr="Northside", short_message=text)
        world.smsc.deliver(
            source_addr="447700900123", destination_addr="Northside", short_message=text, receipted_message_id="4"
        )
        await world.smsc.seen("deliver_sm_resp", 2)

        assert [row["text"] for row in await world.app.fetch("select text from tocsin.inbox")] == [text.decode()] * 2
        assert await world.app.state(job) == "submitted"
