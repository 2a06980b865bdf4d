"""gateway/receipt_reason.py: what a receipt's code and state come to, and what an app may do about it."""

from __future__ import annotations

from typing import get_args

import pytest

from config.code_tables import ReceiptReason
from gateway.codec import encode_tlvs
from gateway.messages import DeliveryState, Receipt
from gateway.pdu import DeliverSm, Tag
from gateway.receipt import parse
from gateway.receipt_reason import GSM_ERRORS, RETRY, receipt_reason

UNDELIVERED, UNKNOWN = DeliveryState.UNDELIVERED, DeliveryState.UNKNOWN
OTHERS = {"*": "UNDELIVERED_SMSC"}


def said(text: str, *tlvs: tuple[int, bytes], errors: dict[str, str] | None = None) -> Receipt:
    """What a receipt with this text says."""
    octets = text.encode()
    found = parse(
        DeliverSm(0, 1, esm_class=0x04, sm_length=len(octets), short_message=octets, tlvs=tlvs),
        errors=errors or {},
    )
    assert isinstance(found, Receipt)
    return found


def test_the_set_is_the_one_that_settings_may_name():
    """A link's table names no reason that the gateway does not know, and can name each that it does."""
    assert set(RETRY) == set(get_args(ReceiptReason))
    assert set(RETRY.values()) == {"later", "never", "unclear"}
    assert set(GSM_ERRORS.values()) < set(RETRY)


@pytest.mark.parametrize(
    ("codes", "reason", "retry"),
    [
        ("1 2 5", "UNKNOWN_SUBSCRIBER", "never"),
        ("9 12", "ILLEGAL_SUBSCRIBER", "never"),
        ("11 13 15", "BARRED", "never"),
        ("21 22 42", "UNSUPPORTED", "never"),
        ("31 32", "BUSY", "later"),
        ("34", "NETWORK_FAILURE", "later"),
        ("40 49 52", "MEMORY_FULL", "later"),
        ("27 28 60 61", "ABSENT", "later"),
        ("3 99 255 4711 1a2b ABCDEFGH", "UNDELIVERED_SMSC", "unclear"),
        ("0 000 00000000", "UNDELIVERED_SMSC", "unclear"),
    ],
)
@pytest.mark.parametrize("zeros", ["", "0", "000"])
def test_the_shipped_table(codes, reason, retry, zeros):
    """The codes of GSM networks, as most SMSCs quote them, with as many zeros in front as a carrier likes."""
    for code in codes.split():
        written = (zeros + code)[-8:] if len(code) < 8 else code
        assert said(f"id:7 stat:UNDELIV err:{written}").reason == reason, written
    assert RETRY[reason] == retry


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("EXPIRED expired", "EXPIRED_SMSC"),
        ("DELETED", "DELETED_SMSC"),
        ("REJECTD REJECTED", "REJECTED_SMSC"),
        ("UNDELIV UNDELIVERED UNDELIVERABLE FAILED SKIPPED NACK", "UNDELIVERED_SMSC"),
        ("UNKNOWN 0 NEW", "UNKNOWN_SMSC"),
        ("DELIVRD ACCEPTD ENROUTE BUFFERED", ""),
    ],
)
def test_a_word_alone_is_a_reason(words, reason):
    """Where the code says nothing, or there is none; a message that arrived, or still may, has none."""
    for word in words.split():
        for err in ("", " err:000", " err:null"):
            assert said(f"id:7 stat:{word}{err}").reason == reason, (word, err)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (2, ""),
        (3, "EXPIRED_SMSC"),
        (4, "DELETED_SMSC"),
        (5, "UNDELIVERED_SMSC"),
        (6, ""),
        (7, "UNKNOWN_SMSC"),
        (8, "REJECTED_SMSC"),
        (9, "UNDELIVERED_SMSC"),
    ],
)
@pytest.mark.parametrize("octets", [1, 4])
def test_message_state_is_read_as_the_word_is(number, reason, octets):
    """The TLV may have one octet, and four have been seen."""
    assert said("id:7", (Tag.MESSAGE_STATE, number.to_bytes(octets))).reason == reason


def test_a_general_message_state_leaves_it_to_the_word():
    """Some SMSCs say 5 for each kind of failure and name it in the text."""
    assert said("id:7 stat:EXPIRED err:000", (Tag.MESSAGE_STATE, b"\5")).reason == "EXPIRED_SMSC"
    assert said("id:7 stat:EXPIRED err:000", (Tag.MESSAGE_STATE, b"\2")).reason == ""


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("UNDELIV", "ABSENT"),
        ("REJECTD", "ABSENT"),
        ("UNKNOWN", "ABSENT"),
        ("EXPIRED", "EXPIRED_SMSC"),
        ("DELETED", "DELETED_SMSC"),
        ("DELIVRD", ""),
    ],
)
def test_a_code_goes_before_a_word_but_for_an_end_by_time_or_deletion(word, reason):
    """What was deleted while the handset was off is not to be sent later; what expired has expired, however often."""
    found = said(f"id:7 stat:{word} err:061")

    assert (found.reason, found.error) == (reason, "061")


@pytest.mark.parametrize(
    ("kind", "reason"), [(3, "UNKNOWN_SUBSCRIBER"), (1, "UNDELIVERED_SMSC"), (2, "UNDELIVERED_SMSC")]
)
def test_a_network_error_code_of_another_network_is_not_read_as_gsm(kind, reason):
    """Section 5.3.2.31: 1 ANSI-136, 2 IS-95, 3 GSM. An err of the text is the carrier's own word, whatever the TLV is."""
    code = (Tag.NETWORK_ERROR_CODE, bytes([kind, 0, 1]))

    assert said("id:7 stat:UNDELIV", code).reason == reason
    assert said("id:7 stat:UNDELIV", code, errors={"1": "BUSY"}).reason == "BUSY"
    assert said("id:7 stat:UNDELIV err:061", code).reason == "ABSENT"


@pytest.mark.parametrize(
    ("errors", "receipt", "reason"),
    [
        ({"61": "OPTED_OUT"}, "UNDELIV err:061", "OPTED_OUT"),
        ({"61": "OPTED_OUT"}, "UNDELIV err:060", "ABSENT"),
        ({"A1F": "BARRED"}, "UNDELIV err:0a1f", "BARRED"),
        ({"61": "OPTED_OUT"}, "REJECTD err:061", "OPTED_OUT"),
        ({"61": "OPTED_OUT"}, "EXPIRED err:061", "EXPIRED_SMSC"),
        (OTHERS, "UNDELIV err:061", "UNDELIVERED_SMSC"),
        (OTHERS | {"61": "BUSY"}, "UNDELIV err:061", "BUSY"),
        (OTHERS | {"61": "BUSY"}, "UNDELIV err:001", "UNDELIVERED_SMSC"),
        (OTHERS, "REJECTD err:061", "REJECTED_SMSC"),
        (OTHERS, "UNKNOWN err:061", "UNKNOWN_SMSC"),
        ({"*": "NETWORK_FAILURE"}, "UNDELIV err:061", "NETWORK_FAILURE"),
        ({"*": "NETWORK_FAILURE"}, "UNDELIV err:000", "UNDELIVERED_SMSC"),
    ],
)
def test_a_link_has_its_own_table(errors, receipt, reason):
    """It goes before the shipped one, which * replaces altogether; 0 says nothing in any table."""
    assert said(f"id:7 stat:{receipt}", errors=errors).reason == reason


def test_a_notification_on_the_way_has_no_reason():
    """An intermediate notification is no end, whatever its text says."""
    text = b"id:7 stat:UNDELIV err:001"
    found = parse(DeliverSm(0, 1, esm_class=0x20, sm_length=len(text), short_message=text))

    assert isinstance(found, Receipt)
    assert (found.state, found.reason) == (DeliveryState.ENROUTE, "")


def test_tlvs_of_the_receipt_survive_the_codec():
    """The octets above are those of a PDU."""
    assert encode_tlvs([(Tag.MESSAGE_STATE, b"\3")]) == b"\x04\x27\x00\x01\x03"
    assert receipt_reason(UNDELIVERED, None, "") == "UNDELIVERED_SMSC"
    assert receipt_reason(UNKNOWN, None, "") == "UNKNOWN_SMSC"
