"""The text of segments, read as a handset reads them: so that what leaves can be held against what was enqueued.

It looks at nothing but the octets: header elements (3GPP TS 23.040 section 9.2.3.24), data_coding (TS 23.038
section 4), and the tables. A part is read by itself, as a handset with little memory does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway import gsm7

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.messages import Segment

SINGLE_SHIFT: Final = 0x24
LOCKING_SHIFT: Final = 0x25
UCS2_BITS: Final = 0x0C  # of data_coding, general group: the alphabet
UCS2: Final = 0x08
CODECS: Final = {"gsm7": "gsm7", "latin1": "latin-1", "ascii": "ascii"}  # of what an SMSC takes data_coding 0 to be


def text_of(segments: Iterable[Segment], alphabet: str = "gsm7") -> str:
    """Read the parts and join them; U+FFFD stands for what cannot be read."""
    return "".join([_text(segment, alphabet) for segment in segments])


def split_header(octets: bytes) -> tuple[dict[int, bytes], bytes | None]:
    """Header elements by identifier, and the octets after the header; None where the header is not whole."""
    if not octets or octets[0] >= len(octets):
        return {}, None
    end = octets[0] + 1
    elements: dict[int, bytes] = {}
    at = 1
    while at + 2 <= end:
        identifier, length = octets[at], octets[at + 1]
        at += 2
        if at + length > end:
            return elements, None
        elements[identifier] = octets[at : at + length]  # the last of several counts, section 9.2.3.24
        at += length
    return elements, octets[end:]


def _text(segment: Segment, alphabet: str) -> str:
    octets = segment.octets
    single = locking = 0
    if segment.udhi:
        elements, body = split_header(octets)
        if body is None:
            return "\ufffd"
        single, locking = elements.get(SINGLE_SHIFT, b"\0")[0], elements.get(LOCKING_SHIFT, b"\0")[0]
        octets = body
    if segment.data_coding & UCS2_BITS == UCS2 and segment.data_coding < 0xF0:
        return octets.decode("utf-16-be", "replace")
    if alphabet != "gsm7":
        return octets.decode(CODECS[alphabet], "replace")
    return gsm7.decode(octets, single, locking)
