"""What a handset makes of the segments that an SMSC took: texts. Imports nothing of ours, so that it can judge us.

Alphabet after 3GPP TS 23.038 section 6.2.1, concatenation after 3GPP TS 23.040 section 9.2.3.24.1.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
UDHI = 0x40


class Taken(NamedTuple):
    """One submit_sm as an SMSC took it."""

    destination: str
    data_coding: int
    esm_class: int
    octets: bytes


class Piece(NamedTuple):
    """One segment: to whom, which message, which part of it."""

    destination: str
    reference: int
    part: int
    parts: int


def gsm7(octets: bytes) -> str:
    text, escaped = [], False
    for octet in octets:
        if escaped:
            text.append(EXTENSION[octet])
            escaped = False
        elif octet == 0x1B:
            escaped = True
        else:
            text.append(BASIC[octet])
    assert not escaped, "the segment ends within an escape pair"
    return "".join(text)


def text_of(data_coding: int, octets: bytes) -> str:
    """Every segment must be whole characters by itself."""
    return octets.decode("utf-16-be") if data_coding & 0x0C == 0x08 else gsm7(octets)


def piece_of(taken: Taken) -> Piece:
    if not taken.esm_class & UDHI:
        return Piece(taken.destination, 0, 1, 1)
    assert taken.octets[:3] == b"\x05\x00\x03", "no header for concatenation"
    reference, parts, part = taken.octets[3:6]
    return Piece(taken.destination, reference, part, parts)


def messages(segments: Iterable[Taken]) -> Counter[tuple[str, str]]:
    """(destination, text) of each message, counted. A part that is missing or comes twice is an error."""
    whole: Counter[tuple[str, str]] = Counter()
    open_parts: dict[tuple[str, int, int], dict[int, str]] = {}
    for taken in segments:
        piece = piece_of(taken)
        body = taken.octets[taken.octets[0] + 1 :] if taken.esm_class & UDHI else taken.octets
        text = text_of(taken.data_coding, body)
        assert len(taken.octets) <= (140 if taken.data_coding & 0x0C == 0x08 else 160)
        if piece.parts == 1:
            whole[piece.destination, text] += 1
            continue
        known = open_parts.setdefault((piece.destination, piece.reference, piece.parts), {})
        assert piece.part not in known, "a part came twice"
        known[piece.part] = text
        if len(known) == piece.parts:
            del open_parts[piece.destination, piece.reference, piece.parts]
            whole[piece.destination, "".join(known[part] for part in range(1, piece.parts + 1))] += 1
    assert not open_parts, "parts are missing"
    return whole
