"""Looks for octets that break a promise: mutations of what did something new, for so many cases or so many seconds."""

from __future__ import annotations

import random
import signal
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz import corpus
from tests.fuzz.mutation import mutated

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tests.fuzz.targets import Signature

MOST_KEPT_IN_MEMORY = 4_000  # cases that did something new
CASE_S = 10.0  # of processor time: a case that takes longer is a finding
SHORTEN_S = 5.0


class TooSlow(Exception):
    """A case that did not come to its end."""


@dataclass
class Found:
    """What came of a hunt."""

    kind: str
    seed: int
    cases: int = 0
    signatures: int = 0
    findings: dict[str, Path] = field(default_factory=dict)  # what broke and where -> the file


def hunt(
    kind: str,
    target: Callable[[bytes], Signature],
    *,
    seed: int,
    seconds: float = float("inf"),
    cases: float = float("inf"),
    folder: Path = corpus.FOLDER,
) -> Found:
    """Try the corpus, then mutations of it; each new way to break is shortened and written once."""
    chance = random.Random(seed)
    found = Found(kind, seed)
    seen: set[Signature] = set()
    pool: list[bytes] = []
    todo = corpus.seeds(kind, folder)[::-1]
    ends_at = time.monotonic() + seconds
    while found.cases < cases and time.monotonic() < ends_at:
        if todo:
            case = todo.pop()
        elif not pool or chance.random() < 0.02:
            case = chance.randbytes(chance.randrange(200))
        else:
            recent = chance.random() < 0.3
            base = pool[-chance.randint(1, min(50, len(pool)))] if recent else chance.choice(pool)
            case = mutated(chance, base, pool, changes=chance.choice((1, 2, 8)))
        found.cases += 1
        broke, signature = attempt(target, case)
        if broke:
            if broke not in found.findings:
                short = shortened(target, case, broke)
                found.findings[broke] = corpus.keep(kind, short, broke, folder)
        elif signature not in seen:
            seen.add(signature)
            pool.append(case)
            if len(pool) > MOST_KEPT_IN_MEMORY:
                del pool[chance.randrange(len(pool))]
    found.signatures = len(seen)
    return found


def attempt(target: Callable[[bytes], Signature], case: bytes) -> tuple[str, Signature]:
    """What broke and where, "" for nothing; and what was seen."""
    signal.setitimer(signal.ITIMER_VIRTUAL, CASE_S)
    try:
        return "", target(case)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(place.filename).name}, {place.name}: {place.line}", ()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def shortened(target: Callable[[bytes], Signature], case: bytes, broke: str) -> bytes:
    """The case with as much cut out as it can lose and still break in the same way."""
    ends_at = time.monotonic() + SHORTEN_S
    size = len(case) // 2
    while size and time.monotonic() < ends_at:
        for at in range(0, len(case), size):
            less = case[:at] + case[at + size :]
            if attempt(target, less)[0] == broke:
                case = less
                break
        else:
            size //= 2
    return case


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow


signal.signal(signal.SIGVTALRM, _too_slow)
