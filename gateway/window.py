"""The window: which submit_sm are unanswered on one session, and under which sequence_number.

A slot is taken by `open` and given back by `close`, when the answer comes. A request whose time ran out is
told once by `expire` and keeps its slot, dead, until the session ends or its answer comes after all: the SMSC
may still count it. So a window wears out; `is_worn` says when a new session is the better choice.

The last `reserve` slots are for lane 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.errors import WindowFull

LAST_SEQUENCE = 0x7FFF_FFFF  # SMPP v3.4 section 3.2: sequence_number is 1..0x7FFFFFFF, then 1 again
WORN_OUT_TIMEOUTS = 3  # a request unanswered for so many time-outs makes the window worn


def reserve_of(size: int) -> int:
    """Of `size` slots or tokens, how many only lane 0 may take: a tenth, 1 to 20; none below 2."""
    return 0 if size < 2 else max(1, min(20, size // 10))


class Slot(NamedTuple):
    """One request that is on the wire."""

    token: Any  # the caller's own
    opened_at: float


class Window:
    """At most `size` unanswered requests, oldest first."""

    __slots__ = ("_dead", "_last", "_open", "reserve", "response_timeout_s", "size")

    def __init__(self, size: int, response_timeout_s: float) -> None:
        self.size = size
        self.response_timeout_s = response_timeout_s
        self.reserve = reserve_of(size)
        self._open: dict[int, Slot] = {}  # sequence_number -> slot; insertion order is expiry order
        self._dead: dict[int, Slot] = {}  # those whose time ran out
        self._last = 0

    def resize(self, size: int, response_timeout_s: float) -> None:
        """Take changed settings; requests above a smaller size stay, and no new one goes out until they are fewer."""
        self.size = size
        self.response_timeout_s = response_timeout_s
        self.reserve = reserve_of(size)

    def __len__(self) -> int:
        """Slots taken, dead ones included."""
        return len(self._open) + len(self._dead)

    @property
    def dead(self) -> int:
        """Slots of requests that timed out and were not answered since."""
        return len(self._dead)

    def free(self, *, lane0: bool) -> int:
        """Requests that may still go out now, for lane 0 or for the lanes that leave it its reserve."""
        left = self.size - len(self._open) - len(self._dead)
        return max(0, left if lane0 else left - self.reserve)

    def next_sequence_number(self, taken: int = 0) -> int:
        """Name one request of any kind; numbers still in use here, and `taken`, are skipped."""
        number = self._last
        while True:
            number = number + 1 if number < LAST_SEQUENCE else 1
            if number not in self._open and number not in self._dead and number != taken:
                self._last = number
                return number

    def open(self, now: float, token: object, taken: int = 0) -> int:
        """Take a slot for `token` and return its sequence_number.

        Raises WindowFull when no slot is left, not even for lane 0.
        """
        if len(self._open) + len(self._dead) >= self.size:
            raise WindowFull(self.size)
        number = self._last + 1  # the rest of next_sequence_number is for the one case in millions
        if number > LAST_SEQUENCE or number in self._open or number in self._dead or number == taken:
            number = self.next_sequence_number(taken)
        self._last = number
        self._open[number] = tuple.__new__(Slot, (token, now))
        return number

    def close(self, sequence_number: int) -> tuple[Slot, bool] | None:
        """Give a slot back: what it held, and whether its time had run out before; None for a stranger."""
        slot = self._open.pop(sequence_number, None)
        if slot is not None:
            return slot, False
        slot = self._dead.pop(sequence_number, None)
        return None if slot is None else (slot, True)

    def expire(self, now: float) -> list[Slot]:
        """Requests whose time ran out by `now`, each told once; their slots stay taken."""
        expired = []
        for number, slot in self._open.items():
            if slot.opened_at + self.response_timeout_s > now:
                break
            expired.append(number)
        for number in expired:
            self._dead[number] = self._open.pop(number)
        return [self._dead[number] for number in expired]

    def drain(self) -> list[Slot]:
        """Empty the window because its session ended; requests told by `expire` are not told again."""
        slots = list(self._open.values())
        self._open.clear()
        self._dead.clear()
        return slots

    def is_worn(self, now: float) -> bool:
        """Half the slots are dead, or the oldest request is three time-outs old."""
        if not self._dead:
            return False
        if 2 * len(self._dead) >= self.size:
            return True
        return self._worn_at() <= now

    def next_deadline(self) -> float | None:
        """Instant at which `expire` or `is_worn` will next say something new; None while nothing is open."""
        first = next(iter(self._open.values()), None)
        expires_at = None if first is None else first.opened_at + self.response_timeout_s
        if not self._dead:
            return expires_at
        return self._worn_at() if expires_at is None else min(expires_at, self._worn_at())

    def _worn_at(self) -> float:
        return next(iter(self._dead.values())).opened_at + WORN_OUT_TIMEOUTS * self.response_timeout_s
