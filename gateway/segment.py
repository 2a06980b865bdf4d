"""A text, cut into the user data of one or more submit_sm.

The SMSC's default alphabet is used where it has every character, else UCS-2 (UTF-16BE, two code units for a
character outside the BMP). Nothing is replaced, shortened or dropped, and no cut falls inside an escape pair
or a surrogate pair: the segments, decoded and joined, are the text.

==================  ========  ===============  ================
user data           single    8-bit reference  16-bit reference
==================  ========  ===============  ================
GSM-7 septets       160       153              152
octets (Latin-1)    140       134              133
UCS-2 code units    70        67               66
==================  ========  ===============  ================

The header takes 6 octets with an 8-bit reference and 7 with a 16-bit one (3GPP TS 23.040 sections 9.2.3.24.1
and 9.2.3.24.8). With SAR TLVs the SMSC makes the header; room for the longer one is left. With
message_payload the SMSC cuts: one segment carries the whole text.
"""

from __future__ import annotations

from typing import Final, Literal

from gateway import gsm7
from gateway.errors import TooManySegments, UnencodableText
from gateway.messages import Segment

Alphabet = Literal["gsm7", "latin1", "ascii"]  # what the SMSC takes data_coding 0 to be
Concatenation = Literal["udh8", "udh16", "sar", "payload"]
FlashForm = Literal["class0", "group_f", "dest_addr_subunit"]
Coding = Literal["gsm7", "latin1", "ascii", "ucs2"]

MOST_SEGMENTS: Final = 255  # the count is one octet in every form of concatenation

_SINGLE_OCTETS: Final[dict[Coding, int]] = {"gsm7": 160, "ascii": 160, "latin1": 140, "ucs2": 140}
_PART_OCTETS: Final[dict[tuple[Coding, bool], int]] = {  # (coding, room for a 16-bit reference)
    ("gsm7", False): 153,
    ("gsm7", True): 152,
    ("ascii", False): 153,
    ("ascii", True): 152,
    ("latin1", False): 134,
    ("latin1", True): 133,
    ("ucs2", False): 134,
    ("ucs2", True): 132,
}

DEFAULT_ALPHABET: Final = 0x00  # data_coding, SMPP v3.4 section 5.2.19
UCS2: Final = 0x08
CLASS_0_DEFAULT: Final = 0x10  # 3GPP TS 23.038 section 4, general group with message class 0
CLASS_0_UCS2: Final = 0x18
GROUP_F_CLASS_0: Final = 0xF0  # data coding and message class group; has no UCS-2

# ASCII as an SMSC's default alphabet ends in GSM-7 on the air: the characters that both have at one septet
# each. The others, as [ or `, would grow or be lost on the way, so a text with one of them goes as UCS-2.
_NOT_BASIC_ASCII: Final = frozenset(chr(code) for code in range(0x80)) - (frozenset(gsm7.BASIC) - {"\x1b"})
_ASCII_ONLY: Final = bytes(code for code in range(0x80) if chr(code) not in _NOT_BASIC_ASCII)


def segment(
    text: str,
    *,
    reference: int,
    alphabet: Alphabet = "gsm7",
    concatenation: Concatenation = "udh8",
    flash: bool = False,
    flash_form: FlashForm = "class0",
) -> tuple[Segment, ...]:
    """Cut a text into segments; one that fits alone gets no header.

    ``reference`` is taken modulo 256 or 65,536, as the header has room for it. Raises UnencodableText for a
    lone surrogate, TooManySegments past ``MOST_SEGMENTS``.
    """
    coding, octets = _encode(text, alphabet)
    data_coding = _data_coding(coding, flash, flash_form)
    if len(octets) <= _SINGLE_OCTETS[coding]:
        return (Segment(1, 1, data_coding, udhi=False, octets=octets),)
    ends = _cuts(coding, octets, concatenation)
    if concatenation == "payload":
        return (Segment(1, 1, data_coding, udhi=False, octets=octets),)
    parts = len(ends)
    udhi = concatenation != "sar"
    segments = []
    start = 0
    for part, end in enumerate(ends, start=1):
        header = _user_data_header(concatenation, reference, parts, part)
        segments.append(Segment(part, parts, data_coding, udhi, header + octets[start:end], reference & 0xFFFF))
        start = end
    return tuple(segments)


def count(text: str, alphabet: Alphabet = "gsm7", concatenation: Concatenation = "udh8") -> tuple[Coding, int]:
    """Coding and number of segments that ``segment`` would give, and the same errors."""
    coding, octets = _encode(text, alphabet)
    if len(octets) <= _SINGLE_OCTETS[coding]:
        return coding, 1
    ends = _cuts(coding, octets, concatenation)
    return coding, 1 if concatenation == "payload" else len(ends)


def _encode(text: str, alphabet: Alphabet) -> tuple[Coding, bytes]:
    """Choose the coding and encode."""
    if alphabet == "gsm7":
        septets = gsm7.encode(text)
        if septets is not None:
            return "gsm7", septets
    elif alphabet == "ascii":
        if text.isascii():
            octets = text.encode("ascii")
            if not octets.translate(None, _ASCII_ONLY):
                return "ascii", octets
    elif not text or max(text) <= "\xff":
        return "latin1", text.encode("latin-1")
    try:
        return "ucs2", text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        position = error.start
    raise UnencodableText("UCS-2", position)  # raised here, so that no context holds the text


def _data_coding(coding: Coding, flash: bool, flash_form: FlashForm) -> int:
    """data_coding octet; a flash by dest_addr_subunit keeps the plain one, its TLV is the link's to add."""
    if not flash or flash_form == "dest_addr_subunit":
        return UCS2 if coding == "ucs2" else DEFAULT_ALPHABET
    if coding == "ucs2":
        return CLASS_0_UCS2
    return GROUP_F_CLASS_0 if flash_form == "group_f" else CLASS_0_DEFAULT


def _cuts(coding: Coding, octets: bytes, concatenation: Concatenation) -> list[int]:
    """Where each part ends; the last end is the length. Raises TooManySegments."""
    limit = _PART_OCTETS[coding, concatenation in {"udh16", "sar"}]
    length = len(octets)
    ends = []
    end = 0
    while end < length:
        end += limit
        if end >= length:
            end = length
        elif coding == "gsm7":
            if octets[end - 1] == gsm7.ESCAPE:
                end -= 1
        elif coding == "ucs2" and 0xD8 <= octets[end - 2] <= 0xDB:  # a high surrogate: its low one follows
            end -= 2
        ends.append(end)
    if len(ends) > MOST_SEGMENTS:
        raise TooManySegments(len(ends), MOST_SEGMENTS)
    return ends


def _user_data_header(concatenation: Concatenation, reference: int, parts: int, part: int) -> bytes:
    if concatenation == "udh8":
        return bytes((5, 0x00, 3, reference & 0xFF, parts, part))
    if concatenation == "udh16":
        return bytes((6, 0x08, 4, reference >> 8 & 0xFF, reference & 0xFF, parts, part))
    return b""
