"""query_sm and cancel_sm, data_sm and what an SMSC has no business to ask; read and written by smpplib's codec."""

import asyncio

import pytest

from gateway import Address, Inquiry, Receipt, Reply
from tests.fakes.account import account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer
from tests.fakes.tshark import assert_dissected
from tests.fakes.wire import pdu

QUERY_RESP, CANCEL_RESP, NACK = 0x80000003, 0x80000008, 0x80000000
DATA_SM, ALERT = 0x103, 0x102
SENDER, NUMBER = Address("Northside", 5, 0), Address("447700900123")


def query(message_id="m1"):
    return Inquiry("query", message_id, SENDER, NUMBER)


def cancel(message_id="m1"):
    return Inquiry("cancel", message_id, SENDER, NUMBER)


async def came(a, command):
    """The last PDU of this name, as smpplib reads it."""
    (*_, logged) = await a.smsc.seen(command)
    return logged.sequence, logged.fields


class TestAsking:
    @pytest.mark.parametrize(
        ("inquiry", "response", "status"),
        [(query(), QUERY_RESP, 0x0C), (query(), QUERY_RESP, 0x67), (cancel(), CANCEL_RESP, 0x0C)],
    )
    async def test_a_refusal_is_told_with_its_status_and_the_next_is_asked(self, inquiry, response, status):
        """An id that the SMSC does not know, a query that failed: about this message, and about no other."""
        async with account() as a:
            for number in (1, 2):
                asked = a.link.inquire(inquiry)
                (*_, logged) = await a.smsc.seen(f"{inquiry.kind}_sm", number)
                a.smsc.sessions[0].send_raw(pdu(response, logged.sequence, b"", status))
                reply = await asked
                assert (reply.outcome, reply.command_status) == ("answered", status)

            assert a.link.is_bound
            assert not a.link.is_failing
            assert a.seen.results == []

    async def test_a_query_names_the_message_and_its_source(self):
        """And tells the state, the network's error and the date."""
        async with account() as a:
            asked = a.link.inquire(query("0A1b"))
            sequence, fields = await came(a, "query_sm")
            a.smsc.sessions[0].send_raw(pdu(QUERY_RESP, sequence, b"0A1b\0" + b"261126120000000+\0" + b"\x02\x00"))
            reply = await asked

        assert (fields["message_id"], fields["source_addr"]) == ("0A1b", "Northside")
        assert (fields["source_addr_ton"], fields["source_addr_npi"]) == (5, 0)
        assert reply == Reply("answered", 0, "DELIVERED", 0, "261126120000000+")

    @pytest.mark.parametrize("status", [0, 0x11])
    async def test_a_cancel_names_both_addresses(self, tmp_path, status):
        """Its answer is a status."""
        async with account() as a:
            asked = a.link.inquire(cancel())
            sequence, _ = await came(a, "cancel_sm")
            a.smsc.sessions[0].send_raw(pdu(CANCEL_RESP, sequence, b"", status))
            reply = await asked

        (logged,) = a.smsc.received("cancel_sm")
        body = b"\0" + b"m1\0" + b"\x05\x00Northside\0" + b"\x01\x01447700900123\0"  # SMPP v3.4 section 4.9.1
        assert logged.octets[16:] == body
        assert_dissected(tmp_path / "cancel.pcap", [logged.octets], submits=0)
        assert reply == Reply("answered", status)

    @pytest.mark.parametrize(("command", "status"), [(NACK, 0x03), (QUERY_RESP, 0x03)])
    async def test_an_operation_that_is_not_offered_is_not_asked_again_on_that_session(self, command, status):
        """The other operation may be; a new session is asked anew."""
        async with account() as a:
            first = a.link.inquire(query())
            sequence, _ = await came(a, "query_sm")
            a.smsc.sessions[0].send_raw(pdu(command, sequence, b"", status))
            assert (await first).outcome == "unsupported"

            assert (await a.link.inquire(query())).outcome == "unsupported"
            assert len(a.smsc.received("query_sm")) == 1
            again = a.link.inquire(cancel())
            await a.smsc.seen("cancel_sm")
            a.smsc.drop()
            assert (await again).outcome == "session_lost"
            await a.until_bound()
            second = a.link.inquire(query())
            await a.smsc.seen("query_sm", 2)
            assert not second.done()

    async def test_no_answer_and_no_session_are_outcomes(self):
        """Nothing that an SMSC does raises."""
        async with account(response_timeout_s=0.2) as a:
            assert (await a.link.inquire(query())).outcome == "unanswered"
            a.link.pause()
            assert (await a.link.inquire(query())).outcome == "session_lost"

    async def test_it_takes_a_slot_of_the_window_that_is_not_lane_0_s(self):
        """With all others taken it waits, and it keeps a submit_sm waiting as one would."""
        async with account(
            window_size=3, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(withhold=True))
        ) as a:
            first = a.link.inquire(query())
            a.link.submit([submission() for _ in range(5)])
            await a.smsc.seen("submit_sm")
            await asyncio.sleep(0.05)
            assert len(a.smsc.received("submit_sm")) == 1
            second = a.link.inquire(query("m2"))
            await asyncio.sleep(0.05)
            assert len(a.smsc.received("query_sm")) == 1
            sequence, _ = await came(a, "query_sm")
            a.smsc.sessions[0].send_raw(pdu(QUERY_RESP, sequence, b"\0\0\0\0"))
            assert (await first).message_state == "0"
            await a.smsc.seen("query_sm", 2)
            assert len(a.smsc.received("submit_sm")) == 1
            (*_, logged) = a.smsc.received("query_sm")
            a.smsc.sessions[0].send_raw(pdu(QUERY_RESP, logged.sequence, b"\0\0\0\0"))
            await second
            await a.smsc.seen("submit_sm", 2)

    async def test_it_goes_before_what_waits_in_lanes_1_to_5(self):
        """On a link that is full for as long as anybody looks, an operator would else ask in vain."""
        async with account(throughput_per_s=20) as a:
            a.link.submit([submission() for _ in range(20)])
            await a.smsc.seen("submit_sm")
            asked = a.link.inquire(query())
            sequence, _ = await came(a, "query_sm")
            before = len(a.smsc.received("submit_sm"))
            a.smsc.sessions[0].send_raw(pdu(QUERY_RESP, sequence, b"m1\0\0\2\0"))
            assert (await asked).message_state == "DELIVERED"
            await a.smsc.seen("submit_sm", before + 5)  # and they go on
            written = [one.at for one in a.smsc.log if one.command in {"submit_sm", "query_sm"} and not one.sent]

        assert before < 10
        assert all(later - earlier >= 1.0 for earlier, later in zip(written, written[20:], strict=False))

    async def test_it_goes_behind_lane_0(self):
        """An emergency never waits for what an operator asks."""
        async with account(throughput_per_s=20) as a:
            a.link.submit([submission(lane=0) for _ in range(12)])
            asked = a.link.inquire(query())
            await a.smsc.seen("query_sm")
            asked.cancel()

            assert [one.command for one in a.smsc.log if one.command in {"submit_sm", "query_sm"} and not one.sent] == [
                *["submit_sm"] * 12,
                "query_sm",
            ]

    async def test_what_could_not_go_in_time_is_told(self):
        """The SMSC holds the link with ESME_RTHROTTLED: it was not asked, and is not asked later."""
        async with account(
            response_timeout_s=0.3, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(status=0x58))
        ) as a:
            a.link.submit([submission()])
            await a.seen.until(lambda: a.link.held_for_s)
            assert (await a.link.inquire(query())).outcome == "busy"
            await a.smsc.seen("submit_sm", 2)
            assert a.smsc.received("query_sm") == []

    @pytest.mark.parametrize(
        "body", [b"", b"m1", b"m1\0", b"m1\0\xff\0", b"\xff" * 70, b"m1\0" + b"x" * 50 + b"\0\x09\x07\x00"]
    )
    async def test_an_answer_with_any_body_is_read(self, body):
        """Hostile octets give a reply with what is there, and nothing else but digits and signs."""
        async with account() as a:
            asked = a.link.inquire(query())
            sequence, _ = await came(a, "query_sm")
            a.smsc.sessions[0].send_raw(pdu(QUERY_RESP, sequence, body))
            reply = await asked

        assert reply.outcome == "answered"
        assert set(reply.final_date) <= set("0123456789+-R")

    async def test_an_answer_of_another_kind_ends_nothing(self):
        """A submit_sm_resp to its number is nobody's; and a cancel_sm_resp does not say what a query_sm asks."""
        async with account(response_timeout_s=0.3) as a:
            for inquiry, command, other in ((query(), "query_sm", CANCEL_RESP), (cancel(), "cancel_sm", QUERY_RESP)):
                asked = a.link.inquire(inquiry)
                sequence, _ = await came(a, command)
                a.smsc.sessions[0].send_raw(pdu(0x80000004, sequence, b"m1\0"))
                a.smsc.sessions[0].send_raw(pdu(other, sequence, b"m1\0\0\2\0"))
                assert (await asked).outcome == "unanswered"
            assert a.seen.results == []


def data_sm(sequence, payload, esm_class=0, tlvs=b""):
    head = b"\0\x01\x01447700900123\0\x00\x0160777\0" + bytes((esm_class, 0, 0))
    return pdu(DATA_SM, sequence, head + tlvs + b"\x04\x24" + len(payload).to_bytes(2) + payload)


class TestWhatAnSmscSends:
    async def test_a_text_in_data_sm_is_told_and_answered_as_one(self):
        """message_payload holds it."""
        async with account() as a:
            a.smsc.sessions[0].send_raw(data_sm(77, b"YES"))
            await a.seen.until(lambda: a.seen.deliveries)
            (delivery,) = a.seen.deliveries
            assert (delivery.receipt_or_inbound.text, delivery.receipt_or_inbound.source.value) == (
                "YES",
                "447700900123",
            )
            assert not any(logged.octets[4:8] == b"\x80\x00\x01\x03" for logged in a.smsc.log)
            delivery.answer(0)
            await a.smsc.until(lambda: any(logged.octets[4:8] == b"\x80\x00\x01\x03" for logged in a.smsc.log))

        (answer,) = [logged for logged in a.smsc.log if logged.octets[4:8] == b"\x80\x00\x01\x03"]
        assert (answer.sequence, answer.status, answer.octets[16:]) == (77, 0, b"\0")

    async def test_a_receipt_in_data_sm_is_a_receipt(self):
        """By its TLVs."""
        tlvs = b"\x00\x1e\x00\x03m1\0" + b"\x04\x27\x00\x01\x02"
        async with account() as a:
            a.smsc.sessions[0].send_raw(data_sm(78, b"", 4, tlvs))
            await a.seen.until(lambda: a.seen.deliveries)

        assert isinstance(a.seen.deliveries[0].receipt_or_inbound, Receipt)
        assert a.seen.deliveries[0].receipt_or_inbound.message_id == "m1"

    @pytest.mark.parametrize("body", [b"", b"\0\x01", b"\0" * 5 + b"x" * 90, b"\0\x01\x01" + b"4" * 80 + b"\0"])
    async def test_a_malformed_data_sm_is_refused_and_the_session_lives(self, body):
        """With its own response; its octets are kept, as those of a deliver_sm are."""
        async with account() as a:
            a.smsc.sessions[0].send_raw(pdu(DATA_SM, 79, body))
            await a.smsc.until(lambda: any(logged.octets[4:8] == b"\x80\x00\x01\x03" for logged in a.smsc.log))
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.deliveries == []
        assert [(octets[16:], status) for octets, status in a.seen.unread] == [(body, 0x02)]

    @pytest.mark.parametrize(
        ("command", "answer"), [(ALERT, None), (0x0B, 0x03), (0x07, 0x03), (0x08, 0x03), (0x03, 0x03)]
    )
    async def test_what_an_esme_is_never_asked_is_nacked_and_what_has_no_answer_gets_none(self, command, answer):
        """alert_notification; outbind, replace_sm, cancel_sm, query_sm."""
        async with account() as a:
            a.smsc.sessions[0].send_raw(pdu(command, 80, b"\0" * 20))
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        nacks = [logged.status for logged in a.smsc.received("generic_nack")]
        assert nacks == ([] if answer is None else [answer])
