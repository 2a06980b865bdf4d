"""query_sm and cancel_sm at the simulator: asked by smpplib and by octets of the specification, and by our own link."""

from __future__ import annotations

import asyncio
import re

import pytest

from config.settings import LinkSettings
from gateway import Address, DeliveryState, Inquiry, Link, LinkMetrics, Reply
from gateway.smsc import DELIVERED, UNDELIVERABLE, Smsc, SmscSettings
from tests.fakes.esme import esme
from tests.fakes.observer import Recorder, submission
from tests.fakes.smpp34_smsc import Smpp34Smsc
from tests.fakes.tshark import assert_dissected
from tests.fakes.wire import pdu

WAITING = SmscSettings(receipt_delay_s=(60.0, 60.0))
AT_ONCE = SmscSettings()
CANCEL_SM = 0x08
DELETED = 4
TO = b"447700900001"


def asked(one, message_id, **source):
    """Write a query_sm as smpplib does."""
    usual = {"source_addr_ton": 5, "source_addr_npi": 0, "source_addr": "Northside"}
    return one.write("query_sm", message_id=message_id, **(usual | source))


def cancel_body(message_id, source=b"\5\0Northside\0", destination=b"\1\1" + TO + b"\0"):
    """SMPP v3.4 section 4.9.1: service_type, message_id, source, destination."""
    return b"\0" + message_id.encode() + b"\0" + source + destination


async def cancelled(one, body):
    """Give the command_status of a cancel_sm."""
    one._writer.write(pdu(CANCEL_SM, 900, body))
    came = await one.next_of("cancel_sm_resp")
    assert came.sequence_number == 900
    assert len(came.octets) == 16  # section 4.9.2: no body
    return came.command_status


async def accepted(one, **fields):
    """Submit a message, and give its id."""
    one.submit(**fields)
    return (await one.next_of("submit_sm_resp")).message_id


class TestQuery:
    async def test_a_message_is_enroute_until_its_receipt_is_due(self, tmp_path):
        """It has no final date yet; another library reads the answer."""
        async with Smsc(WAITING) as smsc, esme(smsc.port) as one:
            message_id = await accepted(one)
            number = asked(one, message_id)
            came = await one.next_of("query_sm_resp")

        assert (came.sequence_number, came.command_status) == (number, 0)
        assert (came.pdu.message_id.decode(), came.pdu.message_state, came.pdu.error_code) == (message_id, 1, 0)
        assert came.octets[16:] == message_id.encode() + b"\0\0\1\0"
        assert_dissected(tmp_path / "query.pcap", [came.octets], submits=0)

    @pytest.mark.parametrize(("state", "error"), [(DELIVERED, 0), (UNDELIVERABLE, 42)])
    @pytest.mark.parametrize("registered_delivery", [0, 1])
    async def test_then_it_has_its_state_and_date(self, state, error, registered_delivery):
        """Whether a receipt was asked for or not: those who asked for none ask here."""
        settings = SmscSettings(receipt_error="42")
        async with Smsc(settings, outcome=lambda _: state) as smsc, esme(smsc.port) as one:
            asked(one, await accepted(one, registered_delivery=registered_delivery))
            came = await one.next_of("query_sm_resp")

        assert (came.pdu.message_state, came.pdu.error_code) == (state, error)
        assert re.fullmatch(rb"2\d{11}\d00\+", came.pdu.final_date)

    async def test_what_is_not_this_account_s_is_unknown(self):
        """ESME_RINVMSGID; another source of the same account is ESME_RQUERYFAIL."""
        async with Smsc(WAITING) as smsc, esme(smsc.port) as one, esme(smsc.port, system_id="other") as other:
            message_id = await accepted(one)
            statuses = []
            for by, its, source in [
                (one, "nobody", {}),
                (other, message_id, {}),
                (one, message_id, {"source_addr": "Southside"}),
                (one, message_id, {"source_addr_ton": 1}),
            ]:
                asked(by, its, **source)
                statuses.append((await by.next_of("query_sm_resp")).command_status)

        assert statuses == [0x0C, 0x0C, 0x67, 0x67]


class TestCancel:
    @pytest.mark.parametrize(("registered_delivery", "has_receipt"), [(0, False), (1, True), (2, True), (3, False)])
    async def test_a_waiting_message_is_cancelled_once_and_its_receipt_says_so(self, registered_delivery, has_receipt):
        """It does not wait for the delay; the receipt that was due does not come."""
        async with Smsc(WAITING) as smsc, esme(smsc.port) as one:
            message_id = await accepted(one, registered_delivery=registered_delivery)

            assert await cancelled(one, cancel_body(message_id)) == 0
            if has_receipt:
                receipt = await one.next_of("deliver_sm")
                assert f"id:{message_id} " in receipt.text
                assert " stat:DELETED " in receipt.text
                one.acknowledge(receipt)
            assert await cancelled(one, cancel_body(message_id)) == 0x11
            asked(one, message_id)
            assert (await one.next_of("query_sm_resp")).pdu.message_state == DELETED
            assert await one.barrier() == []
            assert smsc.held == 0

    @pytest.mark.parametrize(
        ("settings", "body", "status"),
        [
            (AT_ONCE, cancel_body, 0x11),
            (WAITING, lambda its: cancel_body(its, source=b"\5\0Southside\0"), 0x11),
            (WAITING, lambda its: cancel_body(its, destination=b"\1\1" + b"447700900002\0"), 0x11),
            (WAITING, lambda its: cancel_body(its, destination=b"\0\0\0"), 0),
            (WAITING, lambda _: cancel_body("nobody"), 0x0C),
            (WAITING, lambda _: cancel_body(""), 0x0C),
        ],
        ids=["final", "source", "destination", "no destination", "unknown", "group"],
    )
    async def test_what_can_be_cancelled(self, settings, body, status):
        """ESME_RCANCELFAIL once the state is final, or where the addresses are others'."""
        async with Smsc(settings) as smsc, esme(smsc.port) as one:
            assert await cancelled(one, body(await accepted(one))) == status


@pytest.mark.parametrize("command", ["query_sm", "cancel_sm"])
@pytest.mark.parametrize("body", [b"", b"\0", b"x" * 90, b"\0" * 3, b"\0" * 5 + b"x" * 30, cancel_body("1" * 65)])
async def test_a_malformed_body_is_refused_and_the_session_goes_on(command, body):
    """ESME_RINVCMDLEN, or what it comes to where it can be read after all."""
    number = {"query_sm": 3, "cancel_sm": 8}[command]
    async with Smsc(WAITING) as smsc, esme(smsc.port) as one:
        one._writer.write(pdu(number, 900, body))
        came = await one.next_of(f"{command}_resp")

        assert came.sequence_number == 900
        assert came.command_status == (0x0C if command == "query_sm" and body[:5] == b"\0" * 5 else 0x02)
        assert await one.barrier() == []


@pytest.mark.parametrize("kind", ["receiver", ""])
async def test_who_may_not_submit_may_not_ask(kind):
    """ESME_RINVBNDSTS."""
    async with Smsc(WAITING) as smsc, esme(smsc.port, kind=kind) as one:
        asked(one, "1")
        assert (await one.next_of("query_sm_resp")).command_status == 0x04
        assert await cancelled(one, cancel_body("1")) == 0x04


async def test_only_the_last_messages_are_remembered():
    """So memory is bounded; of messages with the same id the last one counts, however many came before it."""
    async with Smsc(SmscSettings(log_limit=3, receipt_delay_s=(60.0, 60.0))) as smsc, esme(smsc.port) as one:
        ids = [await accepted(one, registered_delivery=0) for _ in range(5)]
        statuses = []
        for message_id in ids:
            asked(one, message_id)
            statuses.append((await one.next_of("query_sm_resp")).command_status)
    same = SmscSettings(log_limit=3, receipt_delay_s=(60.0, 60.0), message_ids="constant")
    async with Smsc(same) as smsc, esme(smsc.port) as one:
        for number in range(5):
            await accepted(one, destination=f"44770090000{number}", registered_delivery=0)
        last = await cancelled(one, cancel_body("1", destination=b"\1\1" + b"447700900004\0"))

        assert len(smsc._accepted._order) == 3
        assert len(smsc._accepted._by_id) == 1
    assert statuses == [0x0C, 0x0C, 0, 0, 0]
    assert last == 0


async def started(port):
    """Our own link, and the task that runs it."""
    seen = Recorder()
    settings = LinkSettings(
        name="carrier-a", hosts=("127.0.0.1",), port=port, system_id="clinic", password="secret", throughput_per_s=1000
    )
    link = Link(settings, seen, metrics=LinkMetrics(), sent_at=())
    task = asyncio.create_task(link.run())
    await seen.until(lambda: link.is_bound)
    return link, seen, task


async def test_our_link_asks_cancels_and_reads_the_receipt():
    """From submit_sm to DELETED."""
    async with Smsc(WAITING) as smsc:
        link, seen, task = await started(smsc.port)
        sent = submission()
        link.submit([sent])
        await seen.until(lambda: seen.results)
        about = (seen.results[0].message_id, sent.message.source, sent.message.destination)

        before = await link.inquire(Inquiry("query", *about))
        done = await link.inquire(Inquiry("cancel", *about))
        again = await link.inquire(Inquiry("cancel", *about))
        after = await link.inquire(Inquiry("query", *about))
        nobody = await link.inquire(Inquiry("query", "nobody", *about[1:]))
        await seen.until(lambda: seen.deliveries)
        task.cancel()
        await asyncio.wait([task])

    assert before == Reply("answered", 0, "ENROUTE")
    assert (done, again) == (Reply("answered", 0), Reply("answered", 0x11))
    assert (after.message_state, len(after.final_date)) == ("DELETED", 16)
    assert nobody == Reply("answered", 0x0C)
    receipt = seen.deliveries[0].receipt_or_inbound
    assert (receipt.message_id, receipt.state) == (about[0], DeliveryState.UNDELIVERED)


async def test_a_server_that_shares_no_line_with_us_reads_what_we_ask():
    """The `smpp34` server keeps no message: ESME_RQUERYFAIL and ESME_RCANCELFAIL, and the session goes on."""
    async with Smpp34Smsc(receipts=False) as smsc:
        link, seen, task = await started(smsc.port)
        replies = [
            await link.inquire(Inquiry(kind, "0000000001", Address("Northside", 5, 0), Address("447700900001", 1, 1)))
            for kind in ("query", "cancel")
        ]
        link.submit([submission()])
        await seen.until(lambda: seen.results)
        task.cancel()
        await asyncio.wait([task])

    assert replies == [Reply("answered", 0x67), Reply("answered", 0x11)]
