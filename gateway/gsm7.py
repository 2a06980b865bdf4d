"""GSM 03.38 default alphabet with its extension table (3GPP TS 23.038 section 6.2.1), one septet per octet.

SMPP carries septets unpacked: each stands in an octet of its own, an extension character as ESC and a second
one. National language shift tables are not used: a character outside these two tables is sent as UCS-2.
"""

from __future__ import annotations

import codecs
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

# Octets that mean the same in ASCII and in GSM 03.38: a text of nothing else needs no table (0.3 us against 2).
_SAME_AS_ASCII: Final = bytes(
    septet for septet, character in enumerate(BASIC) if ord(character) == septet and septet != ESCAPE
)
_ENCODING: Final[dict[int, int | bytes]] = {
    ord(character): septet for septet, character in enumerate(BASIC) if septet != ESCAPE
} | {ord(character): bytes((ESCAPE, septet)) for septet, character in EXTENSION.items()}


def encode(text: str) -> bytes | None:
    """Septets of the text, one in each octet; None when a character is in neither table."""
    if text.isascii():
        octets = text.encode("ascii")
        if not octets.translate(None, _SAME_AS_ASCII):
            return octets
    try:
        return codecs.charmap_encode(text, "strict", _ENCODING)[0]
    except UnicodeEncodeError:
        return None


def septets(text: str) -> int | None:
    """Length of the text in septets; None when it cannot be encoded."""
    octets = encode(text)
    return None if octets is None else len(octets)


def decode(octets: bytes) -> str:
    """Text of unpacked septets; never raises.

    After ESC, a septet that the extension table lacks is shown as the basic table has it, as section 6.2.1.1
    asks; a second ESC, or the end, gives a space. An octet above 0x7F is no septet and gives U+FFFD.
    """
    at = 0
    pieces = []
    while (escape := octets.find(ESCAPE, at)) >= 0:
        pieces.append(_decode_basic(octets[at:escape]))
        following = octets[escape + 1 : escape + 2]
        if following and following[0] != ESCAPE:
            pieces.append(EXTENSION.get(following[0]) or _decode_basic(following))
        else:
            pieces.append(" ")
        at = escape + 2
    pieces.append(_decode_basic(octets[at:]))
    return "".join(pieces)


def _decode_basic(octets: bytes) -> str:
    return codecs.charmap_decode(octets, "replace", BASIC)[0]
