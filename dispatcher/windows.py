"""When messages of a category may go to a recipient, and when we are open: pure decisions by a wall clock.

``now`` is given, in seconds since 1970 (UTC). Where a number can be in several zones, a window is open only while it
is open in every one of them. Around a change to or from daylight saving time:

* a time of day that does not exist is the first instant after the gap, for opening and for closing;
* one that happens twice closes at its first occurrence and opens at its second, so that no instant is open whose
  time of day lies outside of the window;
* a holiday lasts from the first occurrence of its midnight to the last one of the next day's. A window does not open
  on a holiday, and one that is open closes when a holiday begins.
"""

from __future__ import annotations

import functools
import json
import math
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from config.recipients import ByRecipient, known_zones
from config.windows import DAYS
from dispatcher.zones import zones_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from holidays import HolidayBase

    from config.windows import HoursSettings, WindowSettings
    from dispatcher.job import Job

LOOKED_AHEAD = timedelta(days=14)  # an opening later than this is none
DAY = timedelta(days=1)
DECISION_HOLDS_S = 86_400.0  # also one that it never opens: a change of clocks may give several zones a common hour

Interval = tuple[float, float]  # from, and up to, seconds since 1970


class Hours(NamedTuple):
    """What holds from ``since`` until, and without, ``until``: seconds since 1970; inf: it never opens."""

    is_open: bool
    since: float
    until: float

    def hold(self, now: float) -> bool:
        """Whether they still say what is so at this instant."""
        return self.since <= now < min(self.until, self.since + DECISION_HOLDS_S)


class Windows:
    """The windows of the file, and what was last decided of each with each set of zones."""

    def __init__(self, settings: Sequence[WindowSettings]) -> None:
        self.settings = tuple(settings)
        self._windows = ByRecipient(settings)
        self._decided: dict[tuple[int, tuple[str, ...]], Hours] = {}  # by the window's id, far cheaper than its hash

    def window(self, job: Job) -> WindowSettings | None:
        """Give the window of a job; None: it has none."""
        return self._windows.find(job.category, job.recipient)

    def hours(self, job: Job, now: float, least_s: float = 0.0) -> Hours | None:
        """Say whether the job may go now, and until when that holds; None: it has no window.

        A window that closes within ``least_s`` is closed already.
        """
        window = self.window(job)
        if window is None:
            return None
        zones = zones_of_job(job, window.zone)
        found = self._at(window, zones, now)
        if found.is_open and found.until - now < least_s:
            return self._at(window, zones, found.until)
        return found

    def opening(self, job: Job, at: float, least_s: float) -> float:
        """Give the first instant from this one on at which the job may go, and for ``least_s``; inf: it never may."""
        window = self.window(job)
        if window is None:
            return at
        zones = zones_of_job(job, window.zone)
        found = hours_at(window, zones, at)
        if found.is_open and found.until - at < least_s:
            found = hours_at(window, zones, found.until)
        return at if found.is_open else found.until

    def _at(self, window: WindowSettings, zones: tuple[str, ...], now: float) -> Hours:
        found = self._decided.get((id(window), zones))
        if found is None or not found.hold(now):
            found = self._decided[id(window), zones] = hours_at(window, zones, now)
        return found


class OpeningHours:
    """``[hours]`` of the file, and what was last decided of them."""

    def __init__(self, settings: HoursSettings | None) -> None:
        self._settings = settings
        self._decided: Hours | None = None

    def opening(self, now: float) -> str | None:
        """When it opens next, as its own wall clock will show; "": not within 14 days. None: it is open.

        The same text all the while that it is closed, so that it names the closed period.
        """
        if self._settings is None:
            return None
        found = self._decided
        if found is None or not found.hold(now):
            found = self._decided = hours_at(self._settings, (self._settings.zone,), now)
        if found.is_open:
            return None
        if math.isinf(found.until):
            return ""
        return f"{datetime.fromtimestamp(found.until, ZoneInfo(self._settings.zone)):%Y-%m-%d %H:%M}"


def hours_at(window: WindowSettings | HoursSettings, zones: Iterable[str], now: float) -> Hours:
    """Say whether the window is open in every one of the zones, and until when that holds.

    One that does not open within 14 days never opens.
    """
    ahead = now + LOOKED_AHEAD.total_seconds()
    opened: list[Interval] | None = None
    for zone in zones:
        intervals = _opened(window, ZoneInfo(zone), now)
        opened = intervals if opened is None else _in_both(opened, intervals)
    for since, until in opened or ():
        if since <= now < until:
            return Hours(is_open=True, since=now, until=until)
        if now < since <= ahead:
            return Hours(is_open=False, since=now, until=since)
    return Hours(is_open=False, since=now, until=math.inf)


def zones_of_job(job: Job, otherwise: str) -> tuple[str, ...]:
    """Zones that the recipient can be in: the app's word, else what the number tells, else this one."""
    if job.options is not None and '"tz"' in job.options:
        named = json.loads(job.options).get("tz")
        if named in known_zones():
            return (named,)
    return zones_of(job.recipient) or (otherwise,)


def _opened(window: WindowSettings | HoursSettings, zone: ZoneInfo, now: float) -> list[Interval]:
    """Give the open intervals from a day before now to past the last one that is asked for, in order."""
    opens, closes = time.fromisoformat(window.opens), time.fromisoformat(window.closes)
    closes_next_day = closes < opens
    today = datetime.fromtimestamp(now, zone).date()
    days = [today + n * DAY for n in range(-2, LOOKED_AHEAD.days + 3)]
    closed = _holidays(window.holidays, days)
    result: list[Interval] = []
    for day in days:
        if DAYS[day.weekday()] not in window.days or day in closed:
            continue
        since = instant(zone, datetime.combine(day, opens), last=True)
        until = instant(zone, datetime.combine(day + DAY if closes_next_day else day, closes), last=False)
        if day + DAY in closed:
            until = min(until, instant(zone, datetime.combine(day + DAY, time()), last=False))
        if day - DAY in closed:
            since = max(since, instant(zone, datetime.combine(day, time()), last=True))
        if since >= until:
            continue
        if result and since <= result[-1][1]:  # both at the end of one gap
            result[-1] = result[-1][0], max(until, result[-1][1])
        else:
            result.append((since, until))
    return result


def _in_both(some: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """Give what two lists of intervals, each in order, have in common."""
    result = []
    n = m = 0
    while n < len(some) and m < len(others):
        since, until = max(some[n][0], others[m][0]), min(some[n][1], others[m][1])
        if since < until:
            result.append((since, until))
        if some[n][1] <= others[m][1]:
            n += 1
        else:
            m += 1
    return result


def instant(zone: ZoneInfo, wall: datetime, *, last: bool) -> float:
    """Give the instant of a wall-clock time: where it does not exist the end of the gap, of two the first or last."""
    earlier, later = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    first_s, last_s = earlier.timestamp(), later.timestamp()
    if first_s <= last_s:  # it exists, once or twice
        return last_s if last else first_s
    before, after = int(last_s), int(first_s)  # the gap ends between: PEP 495 has them the other way round there
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return float(after)


def _holidays(place: str, days: Sequence[date]) -> frozenset[date]:
    """Give those of the days that are public holidays."""
    if not place:
        return frozenset()
    calendar = _calendar(place)
    return frozenset(day for day in days if day in calendar)


@functools.cache
def _calendar(place: str) -> HolidayBase:
    import holidays

    country, _, subdivision = place.partition("-")
    return holidays.country_holidays(country, subdiv=subdivision or None)
