"""Reasons of receipts: any octets whatever come to one of a closed set, and nothing raises."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.messages import DeliveryState, Receipt
from gateway.pdu import DeliverSm, Tag
from gateway.receipt import parse
from gateway.receipt_reason import ENDED_BY_WORD, GSM_ERRORS, RETRY, receipt_reason

REASONS = st.sampled_from(sorted(RETRY))
CODES = st.text(max_size=12) | st.from_regex(r"0{0,6}[0-9A-Za-z]{0,4}", fullmatch=True)
TABLES = st.dictionaries(st.sampled_from(["*", *GSM_ERRORS, "A1", "99"]), REASONS, max_size=5)
ENDS = st.none() | st.sampled_from(sorted(set(ENDED_BY_WORD.values())))
STATES = st.sampled_from([DeliveryState.UNDELIVERED, DeliveryState.UNKNOWN])


@given(STATES, ENDS, CODES, TABLES, st.booleans())
@example(DeliveryState.UNDELIVERED, None, "*", {"*": "BUSY"}, True)
def test_any_code_gives_one_reason(state, ended, code, errors, of_gsm):
    """And the same with zeros in front, in either case of letters: a carrier's width of the field means nothing."""
    found = receipt_reason(state, ended, code, errors, of_gsm=of_gsm)

    assert found in RETRY
    assert receipt_reason(state, ended, "00" + code, errors, of_gsm=of_gsm) == found
    if code.isascii():
        assert receipt_reason(state, ended, code.swapcase(), errors, of_gsm=of_gsm) == found


@given(
    st.binary(max_size=60) | st.builds(lambda stat, err: f"id:1 stat:{stat} err:{err}".encode(), st.text(), st.text()),
    st.none() | st.binary(max_size=6),
    st.none() | st.binary(max_size=6),
    TABLES,
)
def test_any_receipt_has_a_reason_when_it_is_an_end_without_delivery(octets, message_state, network_error_code, errors):
    """Of delivered and of what is on its way nothing is to be said."""
    tlvs = [
        (tag, value)
        for tag, value in ((Tag.MESSAGE_STATE, message_state), (Tag.NETWORK_ERROR_CODE, network_error_code))
        if value is not None
    ]
    deliver = DeliverSm(0, 1, esm_class=0x04, sm_length=len(octets), short_message=octets, tlvs=tuple(tlvs))
    found = parse(deliver, errors=errors)

    assert isinstance(found, Receipt)
    is_end = found.state in {DeliveryState.UNDELIVERED, DeliveryState.UNKNOWN}
    assert found.reason in (RETRY if is_end else {""})
