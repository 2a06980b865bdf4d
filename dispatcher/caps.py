"""How many messages of a category go to one number within a day and a week of its own.

A job is counted after its claim, when it is about to be handed to its link, in one statement a batch; what does not
stay within its cap waits for the next day or week. The counts stand in Postgres, under a lock for each number: two
instances count one after the other, and after a kill -9 a job that is claimed again finds itself counted. What is
counted is written within the same day, or not at all; once it has left memory without a segment on the wire it is
given back. Where that is lost with the process it counts all the same: a cap is never exceeded.

Days begin at midnight, weeks at that of Monday. Where a number can be in several zones, a cap holds in each of them.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from config.recipients import ByRecipient
from dispatcher.policy import LEAST_LIFE_S, Defer, Send, Stop
from dispatcher.store import array, texts
from dispatcher.windows import DAY, instant, zones_of_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from config.caps import CapSettings
    from dispatcher.job import Job
    from dispatcher.policy import Decision
    from dispatcher.store import Connection
    from dispatcher.windows import Windows

GIVE_BACK_S = 1.0  # between looks for what was not sent
REASON = "FREQ_CAP"


class Days(NamedTuple):
    """A day in each of some zones: since when it, and its week, last in one of them; when it is over in one of them."""

    day_since: float
    week_since: float
    until: float


class Caps:
    """The caps of the file, and the jobs in memory that were counted."""

    def __init__(self, settings: Sequence[CapSettings]) -> None:
        self._counted: list[Job] = []  # until it is known whether they were sent
        self._look_at = 0.0
        self._days: dict[tuple[str, ...], Days] = {}
        self.configure(settings)

    def configure(self, settings: Sequence[CapSettings]) -> None:
        """Take the caps of the file; what was counted stays counted."""
        self.settings = tuple(settings)
        self._caps = ByRecipient(settings)

    def cap(self, job: Job) -> CapSettings | None:
        """Give the cap of a job; None: it has none, or its message has begun, and is counted already."""
        return None if job.done else self._caps.find(job.category, job.recipient)

    async def take(
        self, connection: Connection, jobs: Sequence[Job], windows: Windows, now: float, utc_now: float
    ) -> None:
        """Count these, each of which has a cap; ``job.cap`` is what comes of it. ``utc_now`` is now since 1970.

        Raises:
            StoreUnavailable: they may be counted, and must not be sent.

        """
        asked = [(job, cap, zones_of_job(job, cap.zone)) for job in jobs if (cap := self.cap(job)) is not None]
        days = [self._day(zones, utc_now) for _, _, zones in asked]
        rows = await connection.fetch(
            "take_caps",
            array([job.id for job, _, _ in asked]),
            texts([job.recipient for job, _, _ in asked]),
            texts([job.category for job, _, _ in asked]),
            array([job.batch.number for job, _, _ in asked]),
            array([cap.per_day for _, cap, _ in asked]),
            array([cap.per_week for _, cap, _ in asked]),
            array([day.day_since for day in days]),
            array([day.week_since for day in days]),
            utc_now,
        )
        found = {number: (by_day, by_week) for number, by_day, by_week in rows}
        for (job, _, zones), day in zip(asked, days, strict=True):
            job.cap = _decided(job, zones, day, *found[job.id], windows, now, utc_now)
            if isinstance(job.cap, Send):
                self._counted.append(job)

    async def look(
        self, connection: Connection, job: Job, windows: Windows, now: float, utc_now: float
    ) -> Decision | None:
        """Say what would come of counting a job, without counting it; None: it has no cap.

        Raises:
            StoreUnavailable: nothing is known.

        """
        cap = self.cap(job)
        if cap is None:
            return None
        zones = zones_of_job(job, cap.zone)
        day = self._day(zones, utc_now)
        (row,) = await connection.fetch(
            "look_at_cap",
            job.recipient,
            job.category,
            cap.per_day,
            cap.per_week,
            day.day_since,
            day.week_since,
            utc_now,
        )
        return _decided(job, zones, day, row["by_day"], row["by_week"], windows, now, utc_now)

    async def give_back(self, connection: Connection, now: float) -> None:
        """Count those no more that have left memory unsent; looks once a second at most.

        Raises:
            StoreUnavailable: they are given back at a later turn.

        """
        if not self._counted or now < self._look_at:
            return
        self._look_at = now + GIVE_BACK_S
        over = [job for job in self._counted if job.settled is not None]
        unsent = [job for job in over if not (job.done or job.doubt)]
        if unsent:
            await connection.fetch(
                "give_back_caps",
                array([job.id for job in unsent]),
                texts([job.recipient for job in unsent]),
                texts([job.category for job in unsent]),
                array([job.batch.number for job in unsent]),
            )
        if over:
            gone = set(over)
            self._counted = [job for job in self._counted if job not in gone]

    def _day(self, zones: tuple[str, ...], now: float) -> Days:
        found = self._days.get(zones)
        if found is None or not found.day_since <= now < found.until:
            found = self._days[zones] = days_at(zones, now)
        return found


def days_at(zones: Iterable[str], now: float) -> Days:
    """Give the day and the week that it is: of several zones the earliest beginnings, and the earliest end."""
    day_since, week_since, until = [], [], []
    for name in zones:
        zone = ZoneInfo(name)
        day = _date(zone, now)
        day_since.append(_begins(zone, day))
        week_since.append(_begins(zone, day - timedelta(days=day.weekday())))
        until.append(_begins(zone, day + DAY))
    return Days(min(day_since), min(week_since), min(until))


def free_at(zones: Iterable[str], by_day: float | None, by_week: float | None) -> float:
    """Say when the one instant is of an earlier day, and the other of an earlier week, in every zone."""
    instants = []
    for name in zones:
        zone = ZoneInfo(name)
        if by_day is not None:
            instants.append(_begins(zone, _date(zone, by_day) + DAY))
        if by_week is not None:
            day = _date(zone, by_week)
            instants.append(_begins(zone, day + timedelta(days=7 - day.weekday())))
    return max(instants)


def _date(zone: ZoneInfo, now: float) -> date:
    """Give the date; one that ends twice, since the clock goes back past midnight, is over at its first end."""
    day = datetime.fromtimestamp(now, zone).date()
    while _begins(zone, day + DAY) <= now:
        day += DAY
    return day


def _begins(zone: ZoneInfo, day: date) -> float:
    return instant(zone, datetime.combine(day, time()), last=False)


def _decided(
    job: Job,
    zones: tuple[str, ...],
    day: Days,
    by_day: float | None,
    by_week: float | None,
    windows: Windows,
    now: float,
    utc_now: float,
) -> Decision:
    """Say what comes of the uses that must be of an earlier day and week before the job may go; None, None: it may."""
    if by_day is None and by_week is None:
        return Send(day_until=now + (day.until - utc_now))
    wait_s = windows.opening(job, free_at(zones, by_day, by_week), LEAST_LIFE_S) - utc_now
    if job.expires_at - (now + wait_s) < LEAST_LIFE_S:
        return Stop("blocked", REASON)
    return Defer(REASON, wait_s)
