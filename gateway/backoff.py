"""How long a link waits before it binds again."""

from __future__ import annotations

from typing import Final

from gateway.status import ALREADY_BOUND, BIND_REFUSED

LONGEST_DELAY_S: Final = 60.0
REFUSED_DELAY_S: Final = 300.0  # wrong credentials do not mend by themselves, and carriers lock accounts
ALREADY_BOUND_DELAY_S: Final = 30.0  # the SMSC still keeps our old session; its inactivity time is 30 to 120 s
PROVEN_AFTER_S: Final = 30.0  # a session that lived so long, or had a segment accepted, was a good one


class Backoff:
    """Doubles with each failure from `base_s` to 60 s, and takes up to half of it off by chance."""

    __slots__ = ("base_s", "failures")

    def __init__(self, base_s: float) -> None:
        self.base_s = base_s
        self.failures = 0  # since the last good session

    def delay_s(self, chance: float, command_status: int | None = None) -> float:
        """Count a failure and say how long to wait; `chance` is 0..1, `command_status` that of a refused bind."""
        doubled = min(LONGEST_DELAY_S, self.base_s * 2.0 ** min(self.failures, 20))
        self.failures += 1
        delay = doubled * (1.0 - chance / 2)
        if command_status in BIND_REFUSED:
            return max(delay, REFUSED_DELAY_S * (1.0 + chance / 10))
        if command_status == ALREADY_BOUND:
            return max(delay, ALREADY_BOUND_DELAY_S * (1.0 + chance / 10))
        return delay

    def proven(self) -> None:
        """Forget the failures: a session was good."""
        self.failures = 0
