"""Receipt texts found in other projects' tests."""

import pytest

from gateway.messages import Receipt
from gateway.pdu import DeliverSm
from gateway.receipt import parse
from tests.conformance.vectors import Entry, load


def receipt(text: str) -> Receipt:
    """Read a receipt that has this text and no TLV."""
    octets = text.encode("latin-1")
    found = parse(DeliverSm(0, 1, esm_class=0x04, sm_length=len(octets), short_message=octets))
    assert isinstance(found, Receipt)
    return found


@pytest.mark.parametrize("entry", load("dlr_text"))
def test_a_receipt_text_reads_as_stated(entry: Entry) -> None:
    """Id, state, error and submit date, whatever is missing, out of order or misspelt."""
    found = receipt(entry["text"])

    stated = entry["stated"]
    assert found.message_id == stated["message_id"]
    assert found.state == stated["state"]
    assert found.error == stated["error"]
    assert found.submitted_on == stated["submitted_on"]
    assert entry["reason"]


@pytest.mark.parametrize("entry", [parameter for parameter in load("dlr_text") if parameter.values[0]["expect"]])
def test_the_entry_s_own_expectation_holds_where_we_keep_the_field(entry: Entry) -> None:
    """Ids, states and codes are those that the other project's test asserted, or the reason says why not."""
    expect = entry["expect"]
    found = receipt(entry["text"])

    if "raises" in expect:
        assert entry["reason"].startswith("differs")
    assert found.message_id == expect.get("MessageId", expect.get("Id", found.message_id))
    if "MessageIdAsLong" in expect:
        assert int(found.message_id) == expect["MessageIdAsLong"]
    if expect.get("State") == "SmppConstants.STATE_DELIVERED":
        assert found.state == "delivered"
    assert found.error == expect.get("RawErrorCode", expect.get("Error", found.error))
    if expect.get("ErrorCode", -1) >= 0:
        assert int(found.error) == expect["ErrorCode"]


@pytest.mark.parametrize("entry", load("dlr_text"))
def test_a_receipt_text_under_esm_class_0_is_a_receipt_only_by_opt_in(entry: Entry) -> None:
    """A handset can send any of these texts; only the operator's word makes them receipts."""
    octets = entry["text"].encode("latin-1")
    deliver = DeliverSm(0, 1, sm_length=len(octets), short_message=octets)

    assert not isinstance(parse(deliver), Receipt)
    assert parse(deliver, text_receipts=True) == receipt(entry["text"])
