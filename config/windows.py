"""``[[window]]``: hours of the recipient's own wall clock within which messages of a category go.

None is shipped: without one, messages go at any hour. What the hours mean for one recipient at one instant is
decided in ``dispatcher/windows.py``.
"""

import functools
import re
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import holidays

from config.reader import Matching, Table, read

NO_PLACES = frozenset({"Factory", "localtime"})  # among the system's zones: not set, and where this host stands
UNTIMED = frozenset({"reply"})  # the answer to a STOP or to HELP is asked for by the recipient, and due at once

TimeOfDay = Annotated[str, Matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day from 00:00 to 23:59")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as datetime.weekday counts them


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """``[[window]]``: open from ``opens`` up to, and without, ``closes``."""

    categories: tuple[str, ...]
    opens: TimeOfDay
    closes: TimeOfDay  # before `opens`: on the next day
    prefix: str = ""  # digits of an E.164 number, no plus; "" matches all
    days: tuple[Day, ...] = DAYS  # on which it opens
    holidays: Annotated[
        str, Matching(r"([A-Z]{2}(-[A-Z0-9]{1,4})?)?", "a country (ISO 3166-1) or country-subdivision, such as US-CA")
    ] = ""  # "": none
    zone: str = "UTC"  # where the number does not tell


@functools.cache
def known_zones() -> frozenset[str]:
    """Names of the IANA time zones that this host can read."""
    return frozenset(zoneinfo.available_timezones()) - NO_PLACES


def windows(tables: Iterable[Table], lanes: Mapping[str, int]) -> tuple[WindowSettings, ...]:
    """Read the tables; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: a category, zone or holiday calendar is unknown, or no category may have a window; the hours are
            none; or two windows are for the same category and prefix.

    """
    result = []
    given = set()
    for table in tables:
        window = WindowSettings(**read(table, WindowSettings))
        if re.fullmatch(r"(\+?[1-9]\d{0,14})?", window.prefix, re.ASCII) is None:
            raise table.error("prefix", "must be the first digits of an E.164 number, or empty for all")
        window = replace(window, prefix=window.prefix.removeprefix("+"))
        for category in window.categories:
            check_category(table, category, lanes, "window")
            if (category, window.prefix) in given:
                raise table.error("categories", f'"{category}" has a window for this prefix already')
            given.add((category, window.prefix))
        if window.opens == window.closes:
            raise table.error("closes", "must not be the time at which it opens")
        if window.zone not in known_zones():
            raise table.error("zone", "must be a time zone of the IANA database, such as America/New_York")
        _check_holidays(table, window.holidays)
        result.append(window)
    return tuple(result)


def check_category(table: Table, category: str, lanes: Mapping[str, int], what: str) -> None:
    """See that messages of this category may be kept waiting by a window or a cap.

    Raises:
        ConfigError: it is unknown, an answer that somebody waits for, or of lane 0.

    """
    if category not in lanes:
        raise table.error("categories", f'there is no category "{category}"; known are {", ".join(sorted(lanes))}')
    if category in UNTIMED:
        raise table.error("categories", f"{category} can have no {what}: who asked waits for the answer")
    if lanes[category] == 0:
        raise table.error("categories", f"{category} can have no {what}: lane 0 is for emergencies")


def _check_holidays(table: Table, place: str) -> None:
    if not place:
        return
    country, _, subdivision = place.partition("-")
    try:
        holidays.country_holidays(country, subdiv=subdivision or None)
    except NotImplementedError:
        raise table.error("holidays", "names a country or subdivision whose holidays are not known") from None
