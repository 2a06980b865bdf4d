"""``[[window]]``: hours of the recipient's own wall clock within which messages of a category go.

None is shipped: without one, messages go at any hour. What the hours mean for one recipient at one instant is
decided in ``dispatcher/windows.py``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import holidays

from config.reader import Matching, Table
from config.recipients import Wait, waits

TimeOfDay = Annotated[str, Matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day from 00:00 to 23:59")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as datetime.weekday counts them


@dataclass(frozen=True, slots=True)
class WindowSettings(Wait):
    """``[[window]]``: open from ``opens`` up to, and without, ``closes``."""

    opens: TimeOfDay
    closes: TimeOfDay  # before `opens`: on the next day
    days: tuple[Day, ...] = DAYS  # on which it opens
    holidays: Annotated[
        str, Matching(r"([A-Z]{2}(-[A-Z0-9]{1,4})?)?", "a country (ISO 3166-1) or country-subdivision, such as US-CA")
    ] = ""  # "": none


def windows(tables: Iterable[Table], lanes: Mapping[str, int]) -> tuple[WindowSettings, ...]:
    """Read the tables; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: as ``waits`` says; or the hours are none, or the holiday calendar is unknown.

    """
    result = []
    for table, window in waits(tables, WindowSettings, lanes, "window"):
        if window.opens == window.closes:
            raise table.error("closes", "must not be the time at which it opens")
        _check_holidays(table, window.holidays)
        result.append(window)
    return tuple(result)


def _check_holidays(table: Table, place: str) -> None:
    if not place:
        return
    country, _, subdivision = place.partition("-")
    try:
        holidays.country_holidays(country, subdiv=subdivision or None)
    except NotImplementedError:
        raise table.error("holidays", "names a country or subdivision whose holidays are not known") from None
