"""GSM 03.38 default alphabet with its extension table (3GPP TS 23.038 section 6.2.1), one septet per octet.

SMPP carries septets unpacked: each stands in an octet of its own, an extension character as ESC and a second
one. National language tables (annex A of TS 23.038) take the place of the two: a single shift table that of the
extension table, a locking shift table that of the default alphabet. Which of them a text was written with stands in its
user data header, by the number of the language; 0 is none.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Final

ESCAPE: Final = 0x1B  # the next septet is looked up in the extension table

# Position = septet. ESC stands for itself, and is no character: it is never encoded and decodes with what follows.
BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION: Final = {
    0x0A: "\f",  # page break
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

TURKISH: Final = 1  # numbers of the languages, TS 23.038 section 6.2.1.2.4
SPANISH: Final = 2
PORTUGUESE: Final = 3
SINGLE_SHIFTS: Final = {  # annex A.2
    TURKISH: EXTENSION | {0x47: "Ğ", 0x49: "İ", 0x53: "Ş", 0x63: "ç", 0x67: "ğ", 0x69: "\u0131", 0x73: "ş"},
    SPANISH: EXTENSION
    | {0x09: "ç", 0x41: "Á", 0x49: "Í", 0x4F: "Ó", 0x55: "Ú", 0x61: "á", 0x69: "í", 0x6F: "ó", 0x75: "ú"},
    PORTUGUESE: EXTENSION
    | {0x05: "ê", 0x09: "ç", 0x0B: "Ô", 0x0C: "ô", 0x0E: "Á", 0x0F: "á", 0x12: "Φ", 0x13: "Γ", 0x15: "Ω", 0x16: "Π"}
    | {0x17: "Ψ", 0x18: "Σ", 0x19: "Θ", 0x1F: "Ê", 0x41: "À", 0x49: "Í", 0x4F: "Ó", 0x55: "Ú", 0x5B: "Ã", 0x5C: "Õ"}
    | {0x61: "Â", 0x69: "í", 0x6F: "ó", 0x75: "ú", 0x7B: "ã", 0x7C: "õ", 0x7F: "â"},
}
LOCKING_SHIFTS: Final = {  # annex A.3; Spanish has none
    TURKISH: (
        "@£$¥€éù\u0131òÇ\nĞğ\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bŞşßÉ"
        " !\"#¤%&'()*+,-./0123456789:;<=>?"
        "İABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
        "çabcdefghijklmnopqrstuvwxyzäöñüà"
    ),
    PORTUGUESE: (
        "@£$¥êéúíóç\nÔô\rÁáΔ_ªÇÀ∞^\\€Ó|\x1bÂâÊÉ"
        " !\"#º%&'()*+,-./0123456789:;<=>?"
        "ÍABCDEFGHIJKLMNOPQRSTUVWXYZÃÕÚÜ§"
        "~abcdefghijklmnopqrstuvwxyzãõ`üà"
    ),
}

# Octets that mean the same in ASCII and in GSM 03.38: a text of nothing else needs no table (0.3 us against 2).
_SAME_AS_ASCII: Final = bytes(
    septet for septet, character in enumerate(BASIC) if ord(character) == septet and septet != ESCAPE
)


@lru_cache(maxsize=32)
def _encoding(single: int, locking: int) -> dict[int, int | bytes]:
    """Septets by character; one that the first table has is not escaped."""
    basic, extension = tables(single, locking)
    return {ord(character): bytes((ESCAPE, septet)) for septet, character in extension.items()} | {
        ord(character): septet for septet, character in enumerate(basic) if septet != ESCAPE
    }


def tables(single: int = 0, locking: int = 0) -> tuple[str, dict[int, str]]:
    """Give the table of single septets, by position, and that of septets behind ESC. Raises KeyError."""
    return LOCKING_SHIFTS[locking] if locking else BASIC, SINGLE_SHIFTS[single] if single else EXTENSION


def encode(text: str) -> bytes | None:
    """Septets of the text, one in each octet; None when a character is in neither table."""
    if text.isascii():
        octets = text.encode("ascii")
        if not octets.translate(None, _SAME_AS_ASCII):
            return octets
    return encode_shifted(text, 0, 0)


def encode_shifted(text: str, single: int, locking: int) -> bytes | None:
    """Septets by the tables of these languages; None when a character is in neither."""
    try:
        return codecs.charmap_encode(text, "strict", _encoding(single, locking))[0]
    except UnicodeEncodeError:
        return None


def septets(text: str) -> int | None:
    """Length of the text in septets; None when it cannot be encoded."""
    octets = encode(text)
    return None if octets is None else len(octets)


def decode(octets: bytes, single: int = 0, locking: int = 0) -> str:
    """Text of unpacked septets; never raises for octets.

    After ESC, a septet that the extension table lacks is shown as the basic table has it, as section 6.2.1.1
    asks; a second ESC, or the end, gives a space. An octet above 0x7F is no septet and gives U+FFFD.
    """
    basic, extension = tables(single, locking)
    at = 0
    pieces = []
    while (escape := octets.find(ESCAPE, at)) >= 0:
        pieces.append(codecs.charmap_decode(octets[at:escape], "replace", basic)[0])
        following = octets[escape + 1 : escape + 2]
        if following and following[0] != ESCAPE:
            pieces.append(extension.get(following[0]) or codecs.charmap_decode(following, "replace", basic)[0])
        else:
            pieces.append(" ")
        at = escape + 2
    pieces.append(codecs.charmap_decode(octets[at:], "replace", basic)[0])
    return "".join(pieces)
