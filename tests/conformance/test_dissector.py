"""That the dissector finds what is wrong: a witness that never objects proves nothing."""

from __future__ import annotations

import shutil

import pytest

from gateway import Address, ShortMessage, segment
from gateway.codec import encode_submit_sm, header
from tests.fakes.tshark import assert_dissected

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def submits(count: int) -> list[bytes]:
    """Whole submit_sm of ours."""
    message = ShortMessage(Address("Northside", 5, 0), Address("447700900123"))
    bodies = [encode_submit_sm(message, segment(f"Hello {n}", reference=n)[0]) for n in range(count)]
    return [header(0x04, 0, number, len(body)) + body for number, body in enumerate(bodies, start=1)]


def test_what_we_write_is_found_and_without_fault(tmp_path):
    """Many in a packet, and some across packets."""
    assert_dissected(tmp_path / "good.pcap", [b"".join(submits(100)), b"".join(submits(3))], submits=103)


@pytest.mark.parametrize("spoil", [lambda pdu: pdu[:60] + b"\xff" * 4 + pdu[64:], lambda pdu: pdu[:-3]])
def test_a_pdu_that_is_cut_or_damaged_is_found(tmp_path, spoil):
    """A sm_length beyond the end, a PDU that is shorter than it says."""
    good = submits(3)
    with pytest.raises(AssertionError):
        assert_dissected(tmp_path / "bad.pcap", [good[0] + spoil(good[1]) + good[2]], submits=3)
