"""What a link holds back when an SMSC refuses again and again: a destination, a sender, or its lanes 1 to 5.

    refusal                                   what is held                                  first hold, longest
    ESME_RMSGQFUL                             the destination                               5 s, 5 min
    the same of five destinations, half of    the link, as after ESME_RTHROTTLED
    all answers
    ESME_RINVSRCADR three times               the sender                                    1 min, 15 min
    half of 20 answers, in 30 s, are faults   lanes 1 to 5 of the link                      10 s, 5 min

Each hold of the same thing is twice as long as its last, until something is accepted. Lane 0 is never held: an alert is
worth its own try. After a hold of the link one segment goes, and its answer decides. A fault is what another link or
another hour would mend: system errors, refusals that do not say why, wrong settings, no answer. A number that is no
number is none.

Nothing here costs the way of an accepted segment more than a look at an attribute.
"""

from __future__ import annotations

from collections import deque
from typing import Final

MESSAGE_QUEUE_FULL: Final = 0x14  # numbers of SMPP v3.4 section 5.1.3
INVALID_SOURCE: Final = 0x0A

MOST_HELD: Final = 10_000  # keys; the oldest goes
FULL_SPREADS_AT: Final = 5  # destinations
FULL_WITHIN_S: Final = 10.0
FULL_SHARE: Final = 1  # segments accepted for each one, at most: some full handsets are no full SMSC
SENDER_REFUSALS: Final = 3  # in a row; one may be the SMSC's whim
FAULTS: Final = 20
FAULTS_WITHIN_S: Final = 30.0
PROBE_WAIT_S: Final = 10.0  # for the answer to the one segment after a hold


class Holds:
    """Keys that nothing is sent for until an instant."""

    __slots__ = ("_first_s", "_held", "_longest_s")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._held: dict[str, tuple[float, float]] = {}  # key -> until, length of the hold

    def __bool__(self) -> bool:
        """Say whether anything was ever held and not released."""
        return bool(self._held)

    def hold(self, key: str, now: float) -> float:
        """Hold it; gives for how long. A hold that still runs is not made longer."""
        until, length = self._held.pop(key, (0.0, 0.0))
        if until <= now:
            # long after its last hold it is a new trouble
            length = min(self._longest_s, 2 * length) if length and now < until + length else self._first_s
            until = now + length
        self._held[key] = (until, length)
        if len(self._held) > MOST_HELD:
            del self._held[next(iter(self._held))]
        return until - now

    def held_s(self, key: str, now: float) -> float:
        """Seconds for which it is still held; 0.0 when it is not."""
        until, _ = self._held.get(key, (0.0, 0.0))
        return max(0.0, until - now)

    def release(self, key: str) -> None:
        """Forget it: something was accepted."""
        self._held.pop(key, None)


class Breaker:
    """What is held of one link."""

    __slots__ = ("_faults", "_full", "_hold_s", "_is_probing", "_refusals", "_until", "destinations", "senders")

    def __init__(self) -> None:
        self.destinations = Holds(5.0, 300.0)
        self.senders = Holds(60.0, 900.0)
        self._full: deque[tuple[float, str, int]] = deque()  # ESME_RMSGQFUL: instant, destination, accepted until then
        self._refusals: dict[str, int] = {}  # sender -> times in a row
        self._faults: deque[tuple[float, int]] = deque(maxlen=FAULTS)  # instant, segments accepted until then
        self._hold_s = 0.0
        self._until = 0.0  # lanes 1 to 5 are held; 0.0: they are not
        self._is_probing = False

    @property
    def is_wary(self) -> bool:
        """Say whether an accepted segment has anything to tell us."""
        return bool(self._until or self._refusals or self.destinations or self.senders)

    @property
    def is_open(self) -> bool:
        """Say whether lanes 1 to 5 are held, but for one segment now and then."""
        return self._until > 0.0

    @property
    def until(self) -> float:
        """Instant at which one segment of lanes 1 to 5 may go; 0.0 when they are not held."""
        return self._until

    def others(self, now: float) -> int:
        """Segments of lanes 1 to 5 that may go while they are held."""
        return 1 if now >= self._until else 0

    def probing(self, now: float) -> None:
        """Note that the one segment has left: the others wait for its answer."""
        self._is_probing = True
        self._until = now + PROBE_WAIT_S

    def full(self, destination: str, now: float, accepted: int) -> bool:
        """Take ESME_RMSGQFUL; say whether it is the SMSC's own queue rather than this destination's."""
        full = self._full
        full.append((now, destination, accepted))
        while full[0][0] + FULL_WITHIN_S < now:
            full.popleft()
        destinations = {other for _, other, _ in full}
        if len(destinations) >= FULL_SPREADS_AT and accepted - full[0][2] <= FULL_SHARE * len(full):
            full.clear()
            return True
        self.destinations.hold(destination, now)
        return False

    def sender_refused(self, sender: str, now: float) -> float:
        """Take ESME_RINVSRCADR; gives for how long the sender is held, 0.0 when it is not yet."""
        times = self._refusals.pop(sender, 0) + 1
        self._refusals[sender] = times
        if len(self._refusals) > MOST_HELD:
            del self._refusals[next(iter(self._refusals))]
        return self.senders.hold(sender, now) if times >= SENDER_REFUSALS else 0.0

    def fault(self, now: float, accepted: int) -> float:
        """Take a fault, `accepted` segments into the life of the link; gives for how long lanes 1 to 5 are held."""
        if self._until:
            return self._hold(now) if self._is_probing else 0.0  # others were on the wire already, or are of lane 0
        faults = self._faults
        faults.append((now, accepted))
        since, accepted_then = faults[0]
        if len(faults) < FAULTS or since + FAULTS_WITHIN_S < now or accepted - accepted_then > len(faults):
            return 0.0
        faults.clear()
        return self._hold(now)

    def accepted(self, sender: str, destination: str) -> bool:
        """Take an accepted segment; say whether it ended a hold of lanes 1 to 5."""
        self._refusals.pop(sender, None)
        self.senders.release(sender)
        self.destinations.release(destination)
        was_open = self.is_open
        self._until = self._hold_s = 0.0
        self._is_probing = False
        return was_open

    def _hold(self, now: float) -> float:
        self._hold_s = min(300.0, 2 * self._hold_s) if self._hold_s else 10.0
        self._until = now + self._hold_s
        self._is_probing = False
        return self._hold_s
