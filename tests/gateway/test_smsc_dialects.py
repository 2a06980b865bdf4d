"""Message ids and receipts in the forms of real SMSCs: as another library reads them, and as ours does."""

from __future__ import annotations

import re
import uuid

import pytest

from gateway import codec
from gateway.messages import DeliveryState, Receipt
from gateway.receipt import id_forms, parse
from gateway.smsc import DIALECTS, FORMS, MessageIds, Scenario, Smsc, SmscSettings
from tests.fakes.esme import esme

PATTERNS = {
    "text": r"[0-9a-f]{6}-\d{8}",
    "decimal": r"[1-9]\d{8}",
    "decimal_padded": r"0[1-9]\d{8}",
    "hex": r"[1-9a-f][0-9a-f]{7}",
    "hex_upper": r"[1-9A-F][0-9A-F]{7}",
    "hex_padded": r"00[1-9a-f][0-9a-f]{7}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "longest": r"[0-9a-f]{64}",
    "constant": "1",
    "empty": "",
}
LABELS = "id:{id} sub:001 dlvrd:001 submit date:{date} done date:{date} stat:DELIVRD err:000 text:"
TEXTS = {  # what short_message says, {date} as digits
    "appendix_b": LABELS,
    "text_only": LABELS,
    "tlv_only": "",
    "double_spaces": "id:{id}  sub:001  dlvrd:001  submit date:{date}  done date:{date}  stat:DELIVRD  err:000  text:",
    "capital_text": LABELS.replace("text:", "Text:"),
    "joined_labels": "id:{id} sub:001 dlvrd:001 submitdate:{date} donedate:{date} stat:DELIVRD err:000 text:",
    "short": "id:{id} submit date:{date} done date:{date} stat:DELIVRD err:000",
    "dates_12": LABELS,
    "dates_14": LABELS,
    "payload": LABELS,
    "plain_esm_class": LABELS,
}
DATES = {"dates_12": r"\d{12}", "dates_14": r"20\d{12}"}
HAVE_TLVS = {"appendix_b", "tlv_only", "plain_esm_class"}


class TestMessageIds:
    """Ids of one run."""

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("start", [0, 1, 2**64 - 1, 0xFEDCBA9876543210])
    def test_each_form_looks_as_described(self, form, start):
        """And no id of 64 characters or less is cut by SMPP."""
        made = MessageIds(form, start=start)
        ids = [made.next() for _ in range(50)]

        assert all(re.fullmatch(PATTERNS[form], answer_id) for answer_id, _ in ids)
        assert all(answer_id == receipt_id for answer_id, receipt_id in ids)
        if form not in {"constant", "empty"}:
            assert len(set(ids)) == 50

    @pytest.mark.parametrize(("answer", "receipt"), [("hex", "decimal"), ("hex_upper", "decimal_padded")])
    def test_hexadecimal_and_decimal_name_the_same_number(self, answer, receipt):
        """As at carriers whose two parts were written by two people."""
        for first, second in ((answer, receipt), (receipt, answer)):
            answer_id, receipt_id = MessageIds(first, second, start=12345).next()
            base = {"h": 16, "d": 10}

            assert int(answer_id, base[first[0]]) == int(receipt_id, base[second[0]])
            assert answer_id in id_forms(receipt_id)  # our own matching copes

    def test_a_uuid_is_one(self):
        """Version 4, as everybody expects."""
        assert uuid.UUID(MessageIds("uuid").next()[0]).version == 4

    def test_runs_differ_by_their_start(self):
        """A restart must not give the ids of yesterday."""
        assert MessageIds(start=1).next() != MessageIds(start=2).next()

    @pytest.mark.parametrize("form", FORMS)
    async def test_another_library_reads_each_form(self, form):
        """In the answer, and in the receipt's TLV and text."""
        async with Smsc(SmscSettings(message_ids=form)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            answer, receipt = await peer.next(), await peer.next()

            assert re.fullmatch(PATTERNS[form], answer.message_id)
            assert receipt.text.startswith(f"id:{answer.message_id} ")
            assert receipt.pdu.receipted_message_id.decode() == answer.message_id


class TestDialects:
    """Receipts."""

    @pytest.mark.parametrize("dialect", DIALECTS)
    async def test_each_dialect_as_another_library_reads_it(self, dialect):
        """Text, TLVs and esm_class are those of the dialect, and no others."""
        async with Smsc(SmscSettings(receipts=dialect)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            answer, receipt = (await peer.next()).message_id, (await peer.next()).pdu
        form = re.escape(TEXTS[dialect]).replace(r"\{id\}", answer).replace(r"\{date\}", DATES.get(dialect, r"\d{10}"))
        text, empty = receipt.short_message or b"", receipt.message_payload or b""
        if dialect == "payload":
            text, empty = empty, text

        assert re.fullmatch(form, text.decode("ascii"))
        assert empty == b""
        assert receipt.esm_class == (0 if dialect == "plain_esm_class" else 4)
        has_tlvs = (receipt.receipted_message_id is not None, receipt.message_state is not None)
        assert has_tlvs == (dialect in HAVE_TLVS, dialect in HAVE_TLVS)
        if dialect in HAVE_TLVS:
            assert (receipt.receipted_message_id, receipt.message_state) == (answer.encode(), 2)

    @pytest.mark.parametrize("dialect", DIALECTS)
    async def test_our_own_gateway_reads_each_dialect(self, dialect):
        """Whatever the form, it is a receipt of that message."""
        async with Smsc(SmscSettings(receipts=dialect)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            answer, receipt = await peer.next(), await peer.next()
        read = parse(codec.decode(receipt.octets))

        assert isinstance(read, Receipt)
        assert (read.message_id, read.state) == (answer.message_id, DeliveryState.DELIVERED)

    @pytest.mark.parametrize(("intermediate", "esm_class"), [("receipt", 0x04), ("notification", 0x20)])
    async def test_enroute_comes_first(self, intermediate, esm_class):
        """Then the final one, of the same message."""
        settings = SmscSettings(intermediate=intermediate, receipt_delay_s=(0.02, 0.02))
        async with Smsc(settings) as smsc, esme(smsc.port) as peer:
            peer.submit()
            answer, first, last = [await peer.next() for _ in range(3)]
            peer.acknowledge(first)
            peer.acknowledge(last)
            await smsc.until(lambda: smsc.held == 0)

        assert (first.pdu.esm_class, last.pdu.esm_class) == (esm_class, 0x04)
        assert ("stat:ENROUTE" in first.text, "stat:DELIVRD" in last.text) == (True, True)
        assert first.pdu.receipted_message_id == last.pdu.receipted_message_id == answer.message_id.encode()

    async def test_copies_are_the_same_receipt(self):
        """An ESME must count the message once."""
        async with Smsc(SmscSettings(receipt_copies=3)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            await peer.next()
            receipts = [await peer.next() for _ in range(3)]
            for receipt in receipts:
                peer.acknowledge(receipt)
            await smsc.until(lambda: smsc.held == 0)

        assert len({receipt.text for receipt in receipts}) == 1
        assert len({receipt.sequence_number for receipt in receipts}) == 3
        assert smsc.delivered == 3

    @pytest.mark.parametrize("latency_s", [0.0, 0.02])
    async def test_a_receipt_may_come_before_its_answer(self, latency_s):
        """The ESME does not know the id yet."""
        settings = SmscSettings(receipt_first=True, latency_s=latency_s)
        async with Smsc(settings) as smsc, esme(smsc.port) as peer:
            peer.submit()
            receipt, answer = await peer.next(), await peer.next()

        assert (receipt.command, answer.command) == ("deliver_sm", "submit_sm_resp")
        assert receipt.pdu.receipted_message_id.decode() == answer.message_id

    @pytest.mark.parametrize(("destination", "err"), [("447700900901", "A1F"), ("447700900900", "000")])
    async def test_failures_carry_the_code(self, destination, err):
        """Letters allowed; a success has 000."""
        scenario = Scenario(SmscSettings(receipt_error="A1F"))
        async with scenario.smsc() as smsc, esme(smsc.port) as peer:
            peer.submit(destination)
            await peer.next()

            assert f" err:{err} " in (await peer.next()).text


@pytest.mark.parametrize("text", ["x" * 161, "€" * 100, "да, согласна " * 12, "👍" * 40])
async def test_a_long_message_comes_in_parts_with_one_header(text):
    """Each part begins with a user data header of the same reference, and the parts are the text."""
    async with Smsc() as smsc, esme(smsc.port) as peer:
        smsc.send("447700900123", "88222", text, system_id="clinic")
        first = (await peer.next()).pdu
        parts = [first] + [(await peer.next()).pdu for _ in range(first.short_message[4] - 1)]

    assert all(part.esm_class == 0x40 for part in parts)
    headers = [bytes(part.short_message[:6]) for part in parts]
    assert headers == [bytes((5, 0, 3, headers[0][3], len(parts), place)) for place in range(1, len(parts) + 1)]
    joined = b"".join(part.short_message[6:] for part in parts)
    if first.data_coding == 8:
        assert joined.decode("utf-16-be") == text
    else:
        assert joined.replace(b"\x1b\x65", "€".encode()).decode() == text
