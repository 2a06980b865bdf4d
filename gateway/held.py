"""What keeps a link's segments waiting, and for how long: a stopwatch that is read by part.

    record    the local record could not be written, or its write took that long
    socket    the kernel takes no more octets: the peer does not read, or the path to it is slow
    window    as many segments are unanswered as may be: the SMSC answers slower than we send
    throttle  the rate, or a hold after ESME_RTHROTTLED

One part holds at a time. Where several do, it is the first of these: the throttle alone is no fault.
"""

from __future__ import annotations

from typing import Final, Literal

Part = Literal["record", "socket", "window", "throttle"]
PARTS: Final[tuple[Part, ...]] = ("record", "socket", "window", "throttle")


class HeldBack:
    """Seconds for which segments waited, by the part that held them."""

    __slots__ = ("_part", "_seconds", "_since")

    def __init__(self) -> None:
        self._part: Part | None = None
        self._since = 0.0
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    def by(self, part: Part | None, now: float) -> None:
        """From now on this part holds segments back; None: none waits, or they are being written."""
        if self._part is not None:
            self._seconds[self._part] += max(0.0, now - self._since)  # a counter that falls would look like a restart
        self._part, self._since = part, now

    def add(self, part: Part, seconds: float) -> None:
        """Count a wait that is over."""
        self._seconds[part] += seconds

    def seconds(self, now: float) -> dict[Part, float]:
        """All of it until `now`, what is still being waited for included."""
        seconds = dict(self._seconds)
        if self._part is not None:
            seconds[self._part] += max(0.0, now - self._since)
        return seconds
