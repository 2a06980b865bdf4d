"""The text of a message that a handset cut, from its parts.

Which parts belong together is known to whoever keeps them: link, source, destination, reference, its width and the
count must agree (3GPP TS 23.040 sections 9.2.3.24.1 and 9.2.3.24.8; SMPP v3.4 sections 5.3.2.22 to 24). Here they are
put in order and read: neighbours of one coding as one string of octets, since a handset may cut inside an escape pair
or a surrogate pair. A part that never came is marked, so that nobody takes the rest for the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.handset import split_header
from gateway.receipt import CONCATENATIONS, UDHI, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.segment import Alphabet

GAP: Final = "[…]"


class Part(NamedTuple):
    """One part as it was received."""

    part: int  # 1..parts
    octets: bytes  # user data, header included
    data_coding: int
    esm_class: int

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"Part(part={self.part}, data_coding={self.data_coding})"


class Joined(NamedTuple):
    """The whole, as far as it came."""

    text: str  # "" when a part is no text
    is_text: bool
    missing: tuple[int, ...]

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"Joined(is_text={self.is_text}, missing={self.missing})"


def join(parts: Iterable[Part], of_parts: int, *, alphabet: Alphabet = "gsm7") -> Joined:
    """Put parts of one message in order and read them; of several with the same number the first counts.

    ``alphabet`` is what the SMSC takes data_coding 0 to be. Each gap is ``GAP``, however many parts it is wide.
    """
    found: dict[int, Part] = {}
    for part in parts:
        found.setdefault(part.part, part)
    missing = tuple(number for number in range(1, of_parts + 1) if number not in found)
    texts: list[str] = []
    number = 1
    while number <= of_parts:
        if number in missing:
            if not texts or texts[-1] is not GAP:
                texts.append(GAP)
            number += 1
            continue
        run = [found[number]]
        while (following := found.get(number + len(run))) is not None and _is_alike(run[0], following):
            run.append(following)
        text = _read(run, alphabet)
        if text is None:
            return Joined("", is_text=False, missing=missing)
        texts.append(text)
        number += len(run)
    return Joined("".join(texts), is_text=True, missing=missing)


def _split(part: Part) -> tuple[dict[int, bytes], bytes | None]:
    """Header elements, and the octets after the header; None where the header is not whole."""
    return split_header(part.octets) if part.esm_class & UDHI else ({}, part.octets)


def _is_alike(one: Part, other: Part) -> bool:
    """Say whether two parts are read by the same tables: one coding, and one header but for the counting."""
    return one.data_coding == other.data_coding and _tables(one) == _tables(other)


def _tables(part: Part) -> list[tuple[int, bytes]]:
    elements, _ = _split(part)
    return sorted((identifier, value) for identifier, value in elements.items() if identifier not in CONCATENATIONS)


def _read(run: list[Part], alphabet: Alphabet) -> str | None:
    """Text of neighbours that are read alike; None where it is none."""
    elements, _ = _split(run[0])
    bodies = [body for _, body in map(_split, run) if body is not None]
    if len(bodies) < len(run):
        return None
    return read_text(elements, b"".join(bodies), run[0].data_coding, alphabet)
