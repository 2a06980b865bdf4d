"""Handsets that write to the sender's number: deliver_sm of the sink, by chance (Poisson), each from another number.

One in a hundred says STOP, the others say something ordinary, with a number in it so that no two are the same. They do
not wait for the sink's deliver window, which is of receipts: a text is written when its time has come. One that is
refused comes again after a second, and counts from when it was first written.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STOP_EVERY: Final = 100
STOP: Final = "STOP"
AGAIN_S: Final = 1.0
LOOK_S: Final = 0.01  # between looks for a session, and for what comes again, at most
ORDINARY: Final = (
    "Yes, I will be there at ten. {}",
    "Thank you. Is there parking near building B? {}",
    "Can my daughter come instead of me? Our number is {}",
    "I took the tablets at 8 this morning and feel better, reading {}",
    "Could we make it next week, Tuesday or Thursday after 3? My reference is {}, and please tell Dr Lee as well.",
)


class Session(Protocol):
    """What is needed of a session of the sink."""

    def deliver(self, number: str, body: bytes) -> None:
        """Write a deliver_sm with this body."""


class Handsets:
    """What they have written, and when it was answered. Instants are monotonic seconds."""

    def __init__(self, per_s: float, sender: str, seed: int = 5) -> None:
        """``sender``: the number that they write to, digits alone."""
        self.written: dict[str, float] = {}  # number -> when its text was first written
        self.answered: dict[str, float] = {}  # number -> when deliver_sm_resp with ESME_ROK was read
        self.stops: list[str] = []  # numbers that said STOP
        self.refused = 0  # answers of another status
        self._per_s = per_s
        self._sender = sender.encode()
        self._generator = random.Random(seed)
        self._again: dict[str, float] = {}  # number -> when its text, which was refused, comes again

    def body(self, number: str) -> bytes:
        """Give the body of the deliver_sm that holds a handset's text: the same each time."""
        count = int(number[4:])
        text = (STOP if is_stop(count) else ORDINARY[count % len(ORDINARY)].format(count)).encode("ascii")
        addresses = b"\x01\x01%b\0\x01\x01%b\0" % (number.encode(), self._sender)
        return b"\0%b\0\0\0\0\0\0\0\0\0%c%b" % (addresses, len(text), text)

    async def write(self, sessions: Sequence[Session], is_over: Callable[[], bool]) -> None:
        """Write over the sessions in turn, those that come and go included; when it is over, what was refused alone."""
        at = time.monotonic()
        while True:
            now = time.monotonic()
            if is_over():
                at = math.inf
            if not sessions:
                at = max(at, now)
                await asyncio.sleep(LOOK_S)
                continue
            while at <= now:
                count = len(self.written)
                number = f"4477{count:08d}"
                if is_stop(count):
                    self.stops.append(number)
                self.written[number] = time.monotonic()
                sessions[count % len(sessions)].deliver(number, self.body(number))
                at += self._generator.expovariate(self._per_s)
            for number in [number for number, due in self._again.items() if due <= now]:
                del self._again[number]
                sessions[0].deliver(number, self.body(number))
            await asyncio.sleep(min(at - now, LOOK_S))

    def answer(self, number: str, status: int, now: float) -> None:
        """Note a deliver_sm_resp that was read."""
        if status:
            self.refused += 1
            self._again[number] = now + AGAIN_S
        else:
            self.answered[number] = now

    def lost(self, numbers: Sequence[str]) -> None:
        """Write these anew: their session ended before they were answered."""
        self._again.update(dict.fromkeys(numbers, 0.0))

    def report(self) -> dict[str, Any]:
        """Everything that was noted."""
        return {
            "written": self.written, "answered": self.answered, "stops": self.stops, "refused": self.refused,
        }  # fmt: skip


def is_stop(count: int) -> bool:
    """Whether this one of them says STOP."""
    return count % STOP_EVERY == STOP_EVERY - 1
