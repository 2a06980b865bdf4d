"""A text, cut into the user data of one or more submit_sm.

The SMSC's default alphabet is used where it has every character, else UCS-2 (UTF-16BE, two code units for a
character outside the BMP). Nothing is shortened or dropped, and no cut falls inside an escape pair or a surrogate pair,
nor inside a grapheme where that costs no segment: the segments, decoded and joined, are the text. That is looked at
before the first octet leaves. Where a link and a category say so, characters of typesetting are replaced
(``lookalike.py``) when the text fits GSM-7 then; nothing else ever is.

A link may name national language tables. A text that GSM-7 lacks a character for is written with those that give
the fewest segments; each of its segments has a header that names them (TS 23.040 section 9.2.3.24.15 and 16).

==================  ========  ===============  ================
user data           single    8-bit reference  16-bit reference
==================  ========  ===============  ================
GSM-7 septets       160       153              152
octets (Latin-1)    140       134              133
UCS-2 code units    70        67               66
==================  ========  ===============  ================

The header takes 6 octets with an 8-bit reference and 7 with a 16-bit one (3GPP TS 23.040 sections 9.2.3.24.1
and 9.2.3.24.8), 3 more for each national table. With SAR TLVs the SMSC makes the header; room for the longer one
is left. With message_payload the SMSC cuts: one segment carries the whole text.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import regex

from gateway import gsm7, lookalike
from gateway.errors import TextDamaged, TooManySegments, UnencodableText
from gateway.handset import text_of
from gateway.messages import Segment

if TYPE_CHECKING:
    from gateway.messages import FlashWay

Alphabet = Literal["gsm7", "latin1", "ascii"]  # what the SMSC takes data_coding 0 to be
Concatenation = Literal["udh8", "udh16", "sar", "payload"]
FlashForm = Literal["class0", "group_f", "dest_addr_subunit"]
Coding = Literal["gsm7", "latin1", "ascii", "ucs2"]
NationalTable = Literal[
    "turkish-single", "turkish-locking", "spanish-single", "portuguese-single", "portuguese-locking"
]

LANGUAGES: Final = {"turkish": gsm7.TURKISH, "spanish": gsm7.SPANISH, "portuguese": gsm7.PORTUGUESE}

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

_GRAPHEME: Final = regex.compile(r"\X")

# ASCII as an SMSC's default alphabet ends in GSM-7 on the air: the characters that both have at one septet
# each. The others, as [ or `, would grow or be lost on the way, so a text with one of them goes as UCS-2.
_NOT_BASIC_ASCII: Final = frozenset(chr(code) for code in range(0x80)) - (frozenset(gsm7.BASIC) - {"\x1b"})
_ASCII_ONLY: Final = bytes(code for code in range(0x80) if chr(code) not in _NOT_BASIC_ASCII)


class _Encoded(NamedTuple):
    """A text in one coding, not yet cut."""

    coding: Coding
    octets: bytes
    text: str  # as it is written
    single: int = 0  # languages of the national tables; 0: none
    locking: int = 0

    @property
    def elements(self) -> bytes:
        """Elements of the header that name the national tables."""
        single = bytes((0x24, 1, self.single)) if self.single else b""
        return single + bytes((0x25, 1, self.locking)) if self.locking else single

    def limit(self, counting: int) -> int:
        """Octets of user data beside a header with these elements and `counting` octets more."""
        if self.coding == "gsm7" and (self.single or self.locking):
            header = 1 + len(self.elements) + counting
            return 160 - (8 * header + 6) // 7  # septets begin at a whole one, TS 23.040 section 9.2.3.24
        if not counting:
            return _SINGLE_OCTETS[self.coding]
        return _PART_OCTETS[self.coding, counting == _COUNTING_OCTETS["udh16"]]


class Counted(NamedTuple):
    """How a text would be written."""

    coding: Coding
    segments: int
    single: int  # languages of the national tables; 0: none
    locking: int
    replaced: bool  # characters of typesetting


_COUNTING_OCTETS: Final[dict[Concatenation, int]] = {"udh8": 5, "udh16": 6, "sar": 6, "payload": 5}


def segment(
    text: str,
    *,
    reference: int,
    alphabet: Alphabet = "gsm7",
    concatenation: Concatenation = "udh8",
    flash: bool = False,
    flash_form: FlashForm = "class0",
    national: tuple[NationalTable, ...] = (),
    substitute: bool = False,
) -> tuple[Segment, ...]:
    """Cut a text into segments; one that fits alone gets no header but that of national tables.

    ``reference`` is taken modulo 256 or 65,536, as the header has room for it. ``substitute`` allows characters of
    typesetting to be replaced. Raises UnencodableText for a lone surrogate, TooManySegments past ``MOST_SEGMENTS``,
    TextDamaged when what was made is not the text.
    """
    way: FlashWay = flash_form if flash else "plain"
    septets = gsm7.encode(text) if alphabet == "gsm7" else None
    if septets is not None and len(septets) <= _SINGLE_OCTETS["gsm7"]:  # most texts
        whole = (tuple.__new__(Segment, (1, 1, data_coding(way, is_ucs2=False), False, septets, 0)),)
        if septets != text.encode("ascii", "replace") and text_of(whole, alphabet) != text:
            raise TextDamaged
        return whole
    encoded = _encode(text, septets, alphabet, concatenation, national, substitute=substitute)
    coded = data_coding(way, is_ucs2=encoded.coding == "ucs2")
    segments = _segments(encoded, reference, concatenation, coded)
    if len(segments) > 1 or encoded.octets != text.encode("ascii", "replace") or encoded.single or encoded.locking:
        read = text_of(segments, alphabet)
        if read != encoded.text or (read != text and not (substitute and read == lookalike.replaced(text))):
            raise TextDamaged
    return segments


def _segments(encoded: _Encoded, reference: int, concatenation: Concatenation, data_coding: int) -> tuple[Segment, ...]:
    octets, elements = encoded.octets, encoded.elements
    if len(octets) <= encoded.limit(0):
        header = bytes((len(elements),)) + elements if elements else b""
        return (Segment(1, 1, data_coding, udhi=bool(header), octets=header + octets),)
    ends = _cuts(encoded, concatenation)
    if concatenation == "payload":
        return (Segment(1, 1, data_coding, udhi=False, octets=octets),)
    parts = len(ends)
    udhi = concatenation != "sar"
    segments = []
    start = 0
    for part, end in enumerate(ends, start=1):
        header = _user_data_header(concatenation, reference, parts, part, elements)
        segments.append(Segment(part, parts, data_coding, udhi, header + octets[start:end], reference & 0xFFFF))
        start = end
    return tuple(segments)


def count(
    text: str,
    alphabet: Alphabet = "gsm7",
    concatenation: Concatenation = "udh8",
    national: tuple[NationalTable, ...] = (),
    *,
    substitute: bool = False,
) -> Counted:
    """Say how ``segment`` would write a text, with the same errors."""
    septets = gsm7.encode(text) if alphabet == "gsm7" else None
    encoded = _encode(text, septets, alphabet, concatenation, national, substitute=substitute)
    return Counted(
        encoded.coding,
        _parts(encoded, concatenation),
        encoded.single,
        encoded.locking,
        replaced=encoded.text != text,
    )


def _parts(encoded: _Encoded, concatenation: Concatenation) -> int:
    if len(encoded.octets) <= encoded.limit(0):
        return 1
    ends = _least_cuts(encoded, concatenation)
    return 1 if concatenation == "payload" else len(ends)


def _encode(
    text: str,
    septets: bytes | None,
    alphabet: Alphabet,
    concatenation: Concatenation,
    national: tuple[NationalTable, ...],
    *,
    substitute: bool,
) -> _Encoded:
    """Choose the coding and encode; `septets` are those of GSM-7, if that has each character."""
    if septets is not None:
        return _Encoded("gsm7", septets, text)
    if alphabet == "gsm7":
        if concatenation in ("sar", "payload"):
            national = ()  # they have no header in each segment
        if national or substitute:
            return _encode_otherwise(text, concatenation, national, substitute=substitute)
    elif alphabet == "ascii":
        if text.isascii():
            octets = text.encode("ascii")
            if not octets.translate(None, _ASCII_ONLY):
                return _Encoded("ascii", octets, text)
    elif not text or max(text) <= "\xff":
        return _Encoded("latin1", text.encode("latin-1"), text)
    return _encode_ucs2(text)


def _encode_ucs2(text: str) -> _Encoded:
    try:
        return _Encoded("ucs2", text.encode("utf-16-be"), text)
    except UnicodeEncodeError as error:
        position = error.start
    raise UnencodableText("UCS-2", position)  # raised here, so that no context holds the text


def _encode_otherwise(
    text: str, concatenation: Concatenation, national: tuple[NationalTable, ...], *, substitute: bool
) -> _Encoded:
    """Write a text that GSM-7 lacks a character for in the way that takes the fewest segments.

    Of equal ones the first of these: characters of typesetting replaced, the text itself with national tables, both,
    UCS-2.
    """
    unlimited: list[_Encoded] = []
    plain = lookalike.replaced(text) if substitute else text
    if plain != text and (septets := gsm7.encode(plain)) is not None:
        unlimited.append(_Encoded("gsm7", septets, plain))
    for written in dict.fromkeys((text, plain)):
        found = [
            _Encoded("gsm7", septets, written, single, locking)
            for single, locking in _shifts(national)
            if (septets := gsm7.encode_shifted(written, single, locking)) is not None
        ]
        unlimited += sorted(found, key=lambda one: len(one.elements) + len(one.octets))
    unlimited.append(_encode_ucs2(text))
    return min(unlimited, key=lambda one: _least_parts(one, concatenation))


def _shifts(national: tuple[NationalTable, ...]) -> list[tuple[int, int]]:
    """Give each pair of languages that the tables allow, single and locking; 0 is none, and one of them is some."""
    single, locking = [0], [0]
    for table in national:
        language, _, kind = table.partition("-")
        (single if kind == "single" else locking).append(LANGUAGES[language])
    return [pair for pair in product(single, locking) if any(pair)]


def _least_parts(encoded: _Encoded, concatenation: Concatenation) -> int:
    """Count the segments; what is too long for any number of them comes last."""
    try:
        return _parts(encoded, concatenation)
    except TooManySegments as error:
        return error.parts


def data_coding(way: FlashWay, *, is_ucs2: bool) -> int:
    """data_coding octet, with flash said in this way; by dest_addr_subunit it is the plain one, beside a TLV."""
    if way in ("plain", "dest_addr_subunit"):
        return UCS2 if is_ucs2 else DEFAULT_ALPHABET
    if is_ucs2:
        return CLASS_0_UCS2
    return GROUP_F_CLASS_0 if way == "group_f" else CLASS_0_DEFAULT


def _cuts(encoded: _Encoded, concatenation: Concatenation) -> list[int]:
    """Where each part ends; the last end is the length. Raises TooManySegments."""
    ends = _least_cuts(encoded, concatenation)
    if encoded.coding == "ucs2" and concatenation != "payload":
        return _at_graphemes(encoded.text, encoded.limit(_COUNTING_OCTETS[concatenation]), ends)
    return ends


def _least_cuts(encoded: _Encoded, concatenation: Concatenation) -> list[int]:
    """Cut into the fewest parts, with no look at graphemes: enough to count them. Raises TooManySegments."""
    octets = encoded.octets
    limit = encoded.limit(_COUNTING_OCTETS[concatenation])
    length = len(octets)
    ends = []
    end = 0
    while end < length:
        end += limit
        if end >= length:
            end = length
        elif encoded.coding == "gsm7":
            if octets[end - 1] == gsm7.ESCAPE:
                end -= 1
        elif encoded.coding == "ucs2" and 0xD8 <= octets[end - 2] <= 0xDB:  # a high surrogate: its low one follows
            end -= 2
        ends.append(end)
    if len(ends) > MOST_SEGMENTS:
        raise TooManySegments(len(ends), MOST_SEGMENTS)
    return ends


def _at_graphemes(text: str, limit: int, ends: list[int]) -> list[int]:
    """Move cuts of UCS-2 back to where a grapheme ends, if that takes no more parts; else leave them all."""
    moved: list[int] = []
    start = end = 0
    for found in _GRAPHEME.finditer(text):
        following = end + 2 * len(found[0]) + 2 * sum(character > "\uffff" for character in found[0])
        if following - start > limit:
            if end == start:
                return ends  # a grapheme that is longer than a part
            moved.append(end)
            start = end
            if following - start > limit or len(moved) >= len(ends):
                return ends
        end = following
    moved.append(end)
    return moved if len(moved) <= len(ends) else ends


def _user_data_header(concatenation: Concatenation, reference: int, parts: int, part: int, elements: bytes) -> bytes:
    if concatenation == "udh8":
        return bytes((5 + len(elements), 0x00, 3, reference & 0xFF, parts, part)) + elements
    if concatenation == "udh16":
        return bytes((6 + len(elements), 0x08, 4, reference >> 8 & 0xFF, reference & 0xFF, parts, part)) + elements
    return b""
