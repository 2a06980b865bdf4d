"""What a handset makes of the segments that an SMSC took: whole messages, and whatever is wrong with them.

The demonstration's witness. It imports nothing of the gateway, so that it does not share its mistakes: the alphabet is
written anew after 3GPP TS 23.038 section 6.2.1, concatenation after 3GPP TS 23.040 section 9.2.3.24.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ESCAPE: Final = 0x1B
BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION: Final = dict(zip(b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", "\f^{}\\[~]|€", strict=True))
UDHI: Final = 0x40  # esm_class: the user data begins with a header
HEADER: Final = b"\x05\x00\x03"  # 5 octets: element 0 (concatenation, 8-bit reference) of 3 octets


@dataclass(frozen=True, slots=True)
class Taken:
    """One submit_sm as an SMSC took it."""

    at: float  # monotonic seconds, when its octets were read
    since: float  # it had not arrived before; the reader was busy from then on, at most
    destination: str = field(repr=False)
    data_coding: int
    esm_class: int
    octets: bytes = field(repr=False)  # user data, its header included
    message_id: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a handset shows."""

    destination: str = field(repr=False)
    text: str = field(repr=False)
    flash: bool  # class 0: on the screen at once
    places: tuple[int, ...]  # of its segments, counted from 0 in the order of the wire; part 1 first


def read(segments: Iterable[Taken]) -> tuple[list[Message], list[str]]:
    """Join the segments; what cannot be joined is told by its place, counted from 1."""
    messages: list[Message] = []
    problems: list[str] = []
    open_parts: dict[tuple[str, int, int], dict[int, tuple[int, str, bool]]] = {}
    for place, taken in enumerate(segments):
        try:
            reference, parts, part, body = _unpacked(taken)
            text, flash = _decoded(taken.data_coding, body)
        except ValueError as error:
            problems.append(f"segment {place + 1} cannot be read: {error}")
            continue
        if parts == 1:
            messages.append(Message(taken.destination, text, flash, (place,)))
            continue
        known = open_parts.setdefault((taken.destination, reference, parts), {})
        if part in known:
            problems.append(f"segments {known[part][0] + 1} and {place + 1} are the same part of one message")
            continue
        known[part] = (place, text, flash)
        if len(known) == parts:
            del open_parts[taken.destination, reference, parts]
            places, texts, flashes = zip(*(known[n] for n in range(1, parts + 1)), strict=True)
            messages.append(Message(taken.destination, "".join(texts), all(flashes), places))
    problems += [
        f"parts are missing of the message that segment {min(place for place, _, _ in known.values()) + 1} belongs to"
        for known in open_parts.values()
    ]
    return messages, problems


def _unpacked(taken: Taken) -> tuple[int, int, int, bytes]:
    """Give reference, parts, part and the text's octets."""
    if not taken.esm_class & UDHI:
        return 0, 1, 1, taken.octets
    if taken.octets[:3] != HEADER or len(taken.octets) < 6:
        raise ValueError("its header is not one of concatenation")
    reference, parts, part = taken.octets[3:6]
    if not 1 <= part <= parts:
        raise ValueError(f"it is part {part} of {parts}")
    return reference, parts, part, taken.octets[6:]


def _decoded(data_coding: int, octets: bytes) -> tuple[str, bool]:
    """Give the text, each segment by itself, and whether it is of class 0 (3GPP TS 23.038 section 4)."""
    if data_coding not in {0x00, 0x08, 0x10, 0x18}:
        raise ValueError(f"its data_coding is {data_coding:#04x}")
    flash = bool(data_coding & 0x10)
    if data_coding & 0x08:
        try:
            return octets.decode("utf-16-be"), flash
        except UnicodeDecodeError:
            raise ValueError("a character is cut in two") from None
    return _gsm7(octets), flash


def _gsm7(octets: bytes) -> str:
    text: list[str] = []
    is_escaped = False
    for octet in octets:
        if octet > 0x7F or (is_escaped and octet not in EXTENSION):
            raise ValueError("an octet is no character of the alphabet")
        if is_escaped:
            text.append(EXTENSION[octet])
            is_escaped = False
        elif octet == ESCAPE:
            is_escaped = True
        else:
            text.append(BASIC[octet])
    if is_escaped:
        raise ValueError("an escape pair is cut in two")
    return "".join(text)
