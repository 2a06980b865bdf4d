"""Octets changed a little, so that what reads them is taken by surprise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

TELLING = (0, 1, 5, 0x1B, 0x20, 0x3A, 0x7F, 0x80, 0xD8, 0xFE, 0xFF)  # NUL, lengths, ESC, signs, halves of pairs


def mutated(chance: random.Random, octets: bytes, others: Sequence[bytes] = (), *, changes: int = 4) -> bytes:
    """Change, cut out, put in or copy some octets; mostly a command_length in front is made true again."""
    changed = bytearray(octets)
    for _ in range(chance.randint(1, changes)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(8)
        if kind == 0:
            changed[at : at + 1] = bytes((chance.choice((*TELLING, chance.randrange(256))),))
        elif kind == 1:
            del changed[at : at + chance.randint(1, 8)]
        elif kind == 2:
            changed[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            changed[at:at] = changed[chance.randrange(len(changed) + 1) :][:20]
        elif kind == 5 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 6 and others:
            other = chance.choice(others)
            changed[at:] = other[chance.randrange(len(other) + 1) :]
        elif kind == 7:
            changed[at:at] = bytes((chance.choice(TELLING),)) * chance.choice((1, 2, 70, 153))
    if len(changed) >= 16 and chance.random() < 0.8:
        changed[:4] = len(changed).to_bytes(4)
    return bytes(changed)
