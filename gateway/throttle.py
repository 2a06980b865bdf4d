"""The throttle of one link: how many segments may leave in any sliding second.

A sliding log. A segment may go if the r-th last one is at least 1.02 s old, so no window of one second ever
holds more than r of them, wherever it begins: a token bucket or a counter per clock second would let up to
twice the rate through around an edge. Lanes 1 to 5 fill r - k, lane 0 all of r.

The log alone would let a whole second's worth go at once after an idle time, and then, for as long as something waits,
every second again. So what may go is paced besides: it comes free in 50 steps a second, and what was not used is saved
up to a tenth of a second's worth and one, for lane 0 k more. The pace is a little slower than the log: what a
burst left of unevenness wears off within 40 s.

When the SMSC says ESME_RTHROTTLED the link holds for 1 s (then 2, 4, .. while it keeps saying so), the rate
is halved, and it climbs back by a twentieth of the configured rate a second, never above it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from gateway.window import reserve_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SPAN_S = 1.02  # one second, and what clocks, timers and the network's jitter may take off it
STEPS_PER_S = 50  # often enough that nobody notices, seldom enough that segments are still written by the slice
STEPS = 1.025 * STEPS_PER_S  # in which the pace lets a limit go
SAVED_PARTS = 10  # of the limit; so much is made good after the process stood still
FIRST_HOLD_S = 1.0
LONGEST_HOLD_S = 32.0
FORGIVEN_AFTER_S = 10.0  # without a further refusal after a hold, the next one holds for 1 s again
CLIMB_EVERY_S = 1.0
NEARLY_CONGESTED = 90  # congestion_state in per cent, SMPP v5.0 section 4.8.4.18
CONGESTED = 100
CLIMB_PARTS = 20  # of the configured rate; back at full rate 10 s after a single halving


class Pace:
    """Spreads segments evenly: at most `limit` in 1.025 s, and `saved` at once."""

    __slots__ = ("_used_to",)

    def __init__(self) -> None:
        self._used_to = -2 * STEPS  # in steps; what lies between it and now is unused, long enough for any rate

    def free(self, now: float, limit: int, saved: int) -> int:
        """Segments that may go at `now`."""
        return int(min(saved, (_step(now) - self._used_to) * limit / STEPS + 0.01))  # 0.01: what floats lose

    def ready_at(self, limit: int) -> float:
        """Begin of the step in which one segment may go."""
        return math.ceil(self._used_to + STEPS / limit - 1e-6) / STEPS_PER_S

    def take(self, now: float, segments: int, limit: int, saved: int) -> None:
        """Note that so many segments leave at `now`."""
        self._used_to = max(self._used_to, _step(now) - saved * STEPS / limit) + segments * STEPS / limit


def _step(now: float) -> int:
    return int(now * STEPS_PER_S + 1e-6)


class Throttle:
    """At most `rate` segments in any sliding second; less while the SMSC complains."""

    __slots__ = (
        "_assumed",
        "_heard_at",
        "_held_until",
        "_hold_s",
        "_log",
        "_lowered_at",
        "_lowered_to",
        "_others",
        "_recent",
        "_urgent",
        "rate",
    )

    def __init__(self, rate: int) -> None:
        self.rate = rate  # segments a second, as configured; >= 1
        self._log: deque[tuple[float, int]] = deque()  # (instant, segments), oldest first, none older than the span
        self._recent = 0  # segments in the log
        self._urgent = Pace()  # of lane 0
        self._others = Pace()
        self._assumed = (float("-inf"), 0)  # instant, segments in the log that a predecessor may have written
        self._held_until = 0.0
        self._hold_s = 0.0  # length of the last hold; 0.0 when there is none to remember
        self._heard_at = float("-inf")  # of congestion that was acted upon
        self._lowered_at: float | None = None  # end of the hold from which the rate climbs
        self._lowered_to = rate

    def effective_rate(self, now: float) -> int:
        """Segments a second allowed now."""
        if self._lowered_at is None:
            return self.rate
        climbed = self._lowered_to + self._climb() * int(max(0.0, now - self._lowered_at) / CLIMB_EVERY_S)
        if climbed >= self.rate:
            self._lowered_at = None
            return self.rate
        return climbed

    def written(self, now: float) -> int:
        """Segments that left within the span before `now`; what is only assumed of a predecessor is left out."""
        self._forget(now)
        assumed_at, assumed = self._assumed
        return self._recent - (assumed if assumed_at + SPAN_S > now else 0)

    def held_for_s(self, now: float) -> float:
        """Seconds for which nothing may go, because the SMSC complained; 0.0 while something may."""
        return max(0.0, self._held_until - now)

    def allowance(self, now: float, *, lane0: bool) -> int:
        """Segments that may go at `now`, of lane 0 or of the lanes that leave it its reserve."""
        if now < self._held_until:
            return 0
        self._forget(now)
        pace, limit, saved = self._paced(self.effective_rate(now), lane0=lane0)
        if self._recent >= limit:
            return 0
        return max(0, min(limit - self._recent, pace.free(now, limit, saved)))

    def ready_at(self, now: float, *, lane0: bool) -> float:
        """Earliest instant at which one segment may go; not after `now` when it may go at once."""
        if self.allowance(now, lane0=lane0) > 0:
            return now
        if now < self._held_until:
            return self._held_until
        pace, limit, _ = self._paced(self.effective_rate(now), lane0=lane0)
        surplus = self._recent - limit  # the segment that follows waits until more than these are forgotten
        ready_at = now
        for sent_at, segments in self._log:
            if surplus < 0:
                break
            ready_at = sent_at + SPAN_S
            surplus -= segments
        ready_at = max(ready_at, pace.ready_at(limit))
        if self._lowered_at is not None:  # the rate may have climbed before the log has shrunk
            steps = int(max(0.0, now - self._lowered_at) / CLIMB_EVERY_S) + 1
            ready_at = min(ready_at, self._lowered_at + steps * CLIMB_EVERY_S)
        return ready_at

    def take(self, now: float, segments: int = 1) -> None:
        """Note that so many segments leave at `now`."""
        if segments:
            self._log.append((now, segments))
            self._recent += segments
            rate = self.effective_rate(now)
            for lane0 in (True, False):
                pace, limit, saved = self._paced(rate, lane0=lane0)
                pace.take(now, segments, limit, saved)

    def throttled(self, now: float, written_at: float) -> bool:
        """Take ESME_RTHROTTLED for a segment written at `written_at`; say whether it changed anything.

        A whole window may be refused at once. Only an answer to a segment that was written after the last
        hold began says that the SMSC is still unhappy with us.
        """
        if self._hold_s and written_at < self._held_until:
            return False
        lowered = max(1, self.effective_rate(now) // 2)
        repeated = self._hold_s and now < self._held_until + FORGIVEN_AFTER_S
        self._hold_s = min(LONGEST_HOLD_S, 2 * self._hold_s) if repeated else FIRST_HOLD_S
        self._held_until = now + self._hold_s
        self._lowered_to = lowered
        self._lowered_at = self._held_until
        return True

    def congested(self, now: float, per_cent: int) -> bool:
        """Take the SMSC's congestion_state; say whether it changed anything, which it does once a second at most.

        At 100 the rate is halved, as after ESME_RTHROTTLED but without a hold; from 90 on it falls by a tenth of
        the configured rate. It climbs back as ever. Below 90 the SMSC asks for nothing.
        """
        if per_cent < NEARLY_CONGESTED or now < self._heard_at + CLIMB_EVERY_S:
            return False
        self._heard_at = now
        rate = self.effective_rate(now)
        lowered = max(1, rate // 2 if per_cent >= CONGESTED else rate - 2 * self._climb())
        self._lowered_to, self._lowered_at = lowered, max(now, self._held_until)
        return True

    def sent_at(self, now: float) -> list[float]:
        """Instants of the segments that left within the span before `now`, as `restore` takes them."""
        self._forget(now)
        return [instant for instant, segments in self._log for _ in range(segments)]

    def set_rate(self, rate: int) -> None:
        """Take a changed setting; what was sent stays counted."""
        self.rate = rate
        self._lowered_to = min(self._lowered_to, rate)
        if self._lowered_at is None:
            self._lowered_to = rate

    def assume_busy(self, now: float) -> None:
        """Begin as a new owner: as if the last second had been full but for lane 0's reserve."""
        self._log.clear()
        self._recent = self.rate - reserve_of(self.rate)
        self._log.append((now, self._recent))
        self._assumed = (now, self._recent)

    def restore(self, sent_at: Iterable[float], now: float) -> None:
        """Begin as the owner that wrote segments at these instants (of the same clock)."""
        self._log = deque((instant, 1) for instant in sorted(sent_at) if now - SPAN_S < instant <= now)
        self._recent = len(self._log)
        self._assumed = (float("-inf"), 0)

    def _paced(self, rate: int, *, lane0: bool) -> tuple[Pace, int, int]:
        """Pace and limit of lane 0, or of the others, at this rate, and what of the limit is saved up at most."""
        reserve = reserve_of(rate)
        saved = 1 + max(1, rate // SAVED_PARTS)
        return (self._urgent, rate, saved + reserve) if lane0 else (self._others, rate - reserve, saved)

    def _climb(self) -> int:
        return max(1, self.rate // CLIMB_PARTS)

    def _forget(self, now: float) -> None:
        log = self._log
        while log and log[0][0] + SPAN_S <= now:
            self._recent -= log.popleft()[1]
