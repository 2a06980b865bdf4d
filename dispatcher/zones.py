"""Which time zones a phone number can be in, as far as its digits tell.

What knows them is loaded by the first number that is asked about: a daemon without windows and caps saves its memory.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from config.recipients import known_zones

if TYPE_CHECKING:
    from collections.abc import Iterable

NORTH_AMERICA = "1"
COUNTRY_DIGITS = 3  # of the longest country code
CLOCKS_SINCE = datetime(2010, 1, 1, tzinfo=UTC)
WEEK = timedelta(weeks=1)
NUMBERS_KEPT = 65_536  # whose zones are remembered: 10 MB


def zones_of(number: str) -> tuple[str, ...]:
    """Zones that an E.164 number (digits) can be in; empty where that cannot be told.

    Most are told by their first digits, 20 times cheaper than by taking the number apart: where the whole country has
    one clock, and in North America, whose area codes are mobile and fixed lines alike. Elsewhere a mobile number can
    begin with the digits of an area that it is not bound to.
    """
    zones = _zones_of_country(number[:COUNTRY_DIGITS])
    return _zones_of_number(number) if zones is None else zones


@functools.cache
def _zones_of_country(lead: str) -> tuple[str, ...] | None:
    """Zones of all numbers that begin with these, the most digits of a country's code; None: they differ."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, tzdata

    code = next((lead[:n] for n in range(1, len(lead) + 1) if int(lead[:n]) in COUNTRY_CODE_TO_REGION_CODE), "")
    zones = _known(tzdata.TIMEZONE_DATA.get(code, ()))
    return zones if code != NORTH_AMERICA and _one_clock(zones) else None


@functools.lru_cache(NUMBERS_KEPT)
def _zones_of_number(number: str) -> tuple[str, ...]:
    from phonenumbers import NumberParseException, parse, timezone, tzdata

    if number.startswith(NORTH_AMERICA):
        leads = (number[:n] for n in range(tzdata.TIMEZONE_LONGEST_PREFIX, 0, -1))
        return _known(next(tzdata.TIMEZONE_DATA[lead] for lead in leads if lead in tzdata.TIMEZONE_DATA))
    try:
        return _known(timezone.time_zones_for_number(parse(f"+{number}")))
    except NumberParseException:
        return ()


def _known(zones: Iterable[str]) -> tuple[str, ...]:
    return tuple(zone for zone in zones if zone in known_zones())


@functools.cache
def _one_clock(zones: tuple[str, ...]) -> bool:
    """Whether the zones have the same time of day in each week of 30 years, those to come included."""
    if len(zones) <= 1:
        return True
    clocks = [ZoneInfo(zone) for zone in zones]
    weeks = (CLOCKS_SINCE + n * WEEK for n in range(30 * 52))
    return all(len({week.astimezone(clock).utcoffset() for clock in clocks}) == 1 for week in weeks)
