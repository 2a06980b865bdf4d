"""``[[window]]``: hours of the recipient's own wall clock within which messages of a category go; ``[hours]``: ours.

None is shipped: without one, messages go at any hour, and it is always open. What hours mean at one instant is
decided in ``dispatcher/windows.py``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from config.reader import Matching, Table, read
from config.recipients import Wait, check_zone, waits

TimeOfDay = Annotated[str, Matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day from 00:00 to 23:59")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as datetime.weekday counts them
HolidaysOf = Annotated[
    str, Matching(r"([A-Z]{2}(-[A-Z0-9]{1,4})?)?", "a country (ISO 3166-1) or country-subdivision, such as US-CA")
]


@dataclass(frozen=True, slots=True)
class WindowSettings(Wait):
    """``[[window]]``: open from ``opens`` up to, and without, ``closes``."""

    opens: TimeOfDay
    closes: TimeOfDay  # before `opens`: on the next day
    days: tuple[Day, ...] = DAYS  # on which it opens
    holidays: HolidaysOf = ""  # "": none


@dataclass(frozen=True, slots=True)
class HoursSettings:
    """``[hours]``: when somebody answers what handsets write, from ``opens`` up to, and without, ``closes``."""

    zone: str  # must be set: by UTC a clinic would close an hour late half of the year, and nobody would see why
    opens: TimeOfDay
    closes: TimeOfDay  # before `opens`: on the next day
    days: tuple[Day, ...] = DAYS  # on which it opens
    holidays: HolidaysOf = ""  # "": none


def windows(tables: Iterable[Table], lanes: Mapping[str, int]) -> tuple[WindowSettings, ...]:
    """Read the tables; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: as ``waits`` says; or the hours are none, or the holiday calendar is unknown.

    """
    result = []
    for table, window in waits(tables, WindowSettings, lanes, "window"):
        _check(table, window)
        result.append(window)
    return tuple(result)


def hours(table: Table) -> HoursSettings:
    """Read the table.

    Raises:
        ConfigError: the zone is unknown, the hours are none, or the holiday calendar is unknown.

    """
    result = HoursSettings(**read(table, HoursSettings))
    check_zone(table, result.zone)
    _check(table, result)
    return result


def _check(table: Table, its: WindowSettings | HoursSettings) -> None:
    if its.opens == its.closes:
        raise table.error("closes", "must not be the time at which it opens")
    if not its.holidays:
        return
    import holidays

    country, _, subdivision = its.holidays.partition("-")
    try:
        holidays.country_holidays(country, subdiv=subdivision or None)
    except NotImplementedError:
        raise table.error("holidays", "names a country or subdivision whose holidays are not known") from None
