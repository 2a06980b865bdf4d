"""Texts, their octets and their cuts, found in other projects' tests."""

from collections.abc import Callable

import pytest

from gateway import gsm7
from gateway.messages import Inbound
from gateway.pdu import DeliverSm
from gateway.receipt import parse
from gateway.segment import Segment, segment
from tests.conformance.vectors import Entry, load


def read(octets: bytes, data_coding: int) -> str:
    """Text of a mobile-originated message with these octets."""
    found = parse(DeliverSm(0, 1, data_coding=data_coding, sm_length=len(octets), short_message=octets))
    assert isinstance(found, Inbound)
    assert found.is_text
    return found.text


def written(text: str, alphabet: str = "gsm7") -> Segment:
    """The one segment of a short text."""
    (only,) = segment(text, reference=1, alphabet=alphabet)  # type: ignore[arg-type]
    return only


def packed(septets: bytes) -> bytes:
    """Seven bits to a septet, low bits first (3GPP TS 23.038 section 6.1.2.1.1)."""
    number = sum(septet << 7 * position for position, septet in enumerate(septets))
    return number.to_bytes((7 * len(septets) + 7) // 8, "little")


def check_encodable(text: str, stated: Entry) -> None:
    assert (gsm7.encode(text) is not None) == stated["encodable"]


def check_septets(text: str, stated: Entry) -> None:
    assert gsm7.septets(text) == stated["septets"]


def check_packed(text: str, stated: Entry) -> None:
    octets = gsm7.encode(text)
    assert octets is not None
    assert packed(octets).hex() == stated["hex"]


def check_gsm7(text: str, stated: Entry) -> None:
    assert written(text) == Segment(1, 1, 0x00, udhi=False, octets=bytes.fromhex(stated["hex"]))
    assert read(bytes.fromhex(stated["hex"]), 0x00) == text


def check_alphabet(text: str, stated: Entry) -> None:
    octets = bytes.fromhex(stated["hex"])
    assert written(text, stated["alphabet"]) == Segment(1, 1, 0x00, udhi=False, octets=octets)
    assert read(octets, stated.get("data_coding", 0x01)) == text


def check_ucs2(text: str, stated: Entry) -> None:
    octets = bytes.fromhex(stated["hex"])
    if gsm7.encode(text) is None:
        assert written(text) == Segment(1, 1, 0x08, udhi=False, octets=octets)
    assert read(bytes.fromhex(stated.get("read", stated["hex"])), 0x08) == text


def check_as_ucs2(text: str, stated: Entry) -> None:
    assert gsm7.encode(text) is None
    assert written(text) == Segment(1, 1, 0x08, udhi=False, octets=bytes.fromhex(stated["hex"]))


def check_little_endian(text: str, stated: Entry) -> None:
    assert written(text).octets == bytes.fromhex(stated["hex"])


def check_read_only(text: str, stated: Entry) -> None:
    assert read(bytes.fromhex(stated["hex"]), stated["data_coding"]) == text
    assert written(text).data_coding == 0x08


ENCODING_CHECKS: dict[str, Callable[[str, Entry], None]] = {
    "encodable": check_encodable,
    "septets": check_septets,
    "packed": check_packed,
    "gsm7": check_gsm7,
    "alphabet": check_alphabet,
    "ucs2": check_ucs2,
    "as_ucs2": check_as_ucs2,
    "little_endian": check_little_endian,
    "read_only": check_read_only,
}


@pytest.mark.parametrize("entry", load("encoding"))
def test_a_text_has_the_stated_octets(entry: Entry) -> None:
    """Each kind of entry has a check of its own; shift tables and packing are outside, and say so."""
    ENCODING_CHECKS[entry["stated"]["check"]](entry["text"], entry["stated"])

    assert entry["reason"]


def user_data(part: Segment) -> bytes:
    """Octets behind the header."""
    return part.octets[part.octets[0] + 1 :] if part.udhi else part.octets


def check_hex(entry: Entry, stated: Entry) -> None:
    parts = segment(
        stated.get("text", entry["text"]), reference=entry["reference"], concatenation=stated["concatenation"]
    )
    assert [part.octets.hex() for part in parts] == stated["segments_hex"]


def check_user_data(entry: Entry, stated: Entry) -> None:
    parts = segment(entry["text"], reference=1)
    assert [user_data(part).hex() for part in parts] == stated["segments_hex"]


def check_texts(entry: Entry, stated: Entry) -> None:
    parts = segment(entry["text"], reference=1)
    assert [gsm7.decode(user_data(part)) for part in parts] == stated["segments_text"]
    assert [text.rstrip("\r") for text in entry["segments_text"]] == stated["segments_text"]


def check_split(entry: Entry, stated: Entry) -> None:
    assert (len(segment(entry["text"], reference=1)) > 1) == stated["split"]
    assert stated["split"] == entry["should_split"] or entry["reason"].startswith("differs")


def check_headers(entry: Entry, stated: Entry) -> None:
    wanted = stated["headers_hex"]
    parts = segment("x" * 153 * len(wanted), reference=entry["reference"])
    assert [part.octets[:6].hex() for part in parts] == wanted
    assert all(whole.startswith(header) for whole, header in zip(entry["segments_hex"], wanted, strict=True))


def check_literals(entry: Entry, stated: Entry) -> None:
    for text, octets in stated["gsm7"].items():
        assert written(text).octets.hex() == octets
    for text, octets in stated["latin1"].items():
        assert written(text, "latin1").octets.hex() == octets
    for text, octets in stated["ucs2"].items():
        assert written(text).octets.hex() == octets


SEGMENTATION_CHECKS: dict[str, Callable[[Entry, Entry], None]] = {
    "hex": check_hex,
    "user_data": check_user_data,
    "texts": check_texts,
    "split": check_split,
    "headers": check_headers,
    "literals": check_literals,
}


@pytest.mark.parametrize("entry", load("segmentation"))
def test_a_text_is_cut_as_stated(entry: Entry) -> None:
    """Cuts and headers are compared octet by octet where the entry has the same limits as we have."""
    SEGMENTATION_CHECKS[entry["stated"]["check"]](entry, entry["stated"])

    assert entry["reason"]
