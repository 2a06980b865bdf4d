"""dispatcher/windows.py: when a message may go, by the recipient's wall clock; when we are open, by ours."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays
from hypothesis import given, settings
from hypothesis import strategies as st

from config.recipients import known_zones
from config.windows import DAYS, HoursSettings, WindowSettings
from dispatcher.windows import LOOKED_AHEAD, Hours, OpeningHours, Windows, hours_at
from tests.dispatcher.test_job import job

OFFICE = WindowSettings(("transactional",), "08:00", "21:00")
NIGHT = WindowSettings(("transactional",), "22:00", "06:00")
NEW_YORK, LOS_ANGELES, LONDON, BERLIN = "America/New_York", "America/Los_Angeles", "Europe/London", "Europe/Berlin"
FICTIONAL = "999700900123"  # of no country: no zone is known


def at(wall: str, zone: str = "UTC", *, fold: int = 0) -> float:
    """The instant of a wall-clock time."""
    return datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def closed_until(window: WindowSettings, now: float, *zones: str) -> float:
    hours = hours_at(window, zones, now)
    assert not hours.is_open
    return hours.until


def open_until(window: WindowSettings, now: float, *zones: str) -> float:
    hours = hours_at(window, zones, now)
    assert hours.is_open
    return hours.until


def test_it_is_open_from_its_opening_up_to_and_without_its_closing():
    """An hour too late is a complaint."""
    assert closed_until(OFFICE, at("2026-03-02 07:59:59"), "UTC") == at("2026-03-02 08:00")
    assert open_until(OFFICE, at("2026-03-02 08:00"), "UTC") == at("2026-03-02 21:00")
    assert open_until(OFFICE, at("2026-03-02 20:59:59"), "UTC") == at("2026-03-02 21:00")
    assert closed_until(OFFICE, at("2026-03-02 21:00"), "UTC") == at("2026-03-03 08:00")


def test_it_is_the_recipient_s_wall_clock():
    """At noon in London people in California sleep."""
    noon = at("2026-07-01 12:00", LONDON)

    assert open_until(OFFICE, noon, LONDON) == at("2026-07-01 21:00", LONDON)
    assert closed_until(OFFICE, noon, LOS_ANGELES) == at("2026-07-01 08:00", LOS_ANGELES)


def test_one_that_closes_before_it_opens_goes_past_midnight():
    """And its day is the one on which it opens."""
    friday_only = replace(NIGHT, days=("fri",))

    assert open_until(NIGHT, at("2026-03-02 23:00"), "UTC") == at("2026-03-03 06:00")
    assert open_until(NIGHT, at("2026-03-03 05:59"), "UTC") == at("2026-03-03 06:00")
    assert closed_until(NIGHT, at("2026-03-03 06:00"), "UTC") == at("2026-03-03 22:00")
    assert open_until(friday_only, at("2026-03-07 05:00"), "UTC") == at("2026-03-07 06:00")  # a Saturday
    assert closed_until(friday_only, at("2026-03-06 05:00"), "UTC") == at("2026-03-06 22:00")
    assert closed_until(friday_only, at("2026-03-07 06:00"), "UTC") == at("2026-03-13 22:00")


def test_of_several_zones_all_must_be_open():
    """Nobody is woken, wherever the phone is."""
    both = (NEW_YORK, LOS_ANGELES)

    assert closed_until(OFFICE, at("2026-07-01 09:00", NEW_YORK), *both) == at("2026-07-01 08:00", LOS_ANGELES)
    assert open_until(OFFICE, at("2026-07-01 09:00", LOS_ANGELES), *both) == at("2026-07-01 21:00", NEW_YORK)
    assert closed_until(OFFICE, at("2026-07-01 21:00", NEW_YORK), *both) == at("2026-07-02 08:00", LOS_ANGELES)


def test_one_that_never_opens_says_so():
    """Zones on opposite sides of the world have no common hour."""
    now = at("2026-07-01 12:00")
    short = replace(OFFICE, closes="10:00")

    assert closed_until(short, now, "Pacific/Auckland", LONDON) == math.inf


def test_a_time_that_does_not_exist_is_the_end_of_the_gap():
    """On 29 March 2026 Berlin goes from 02:00 to 03:00."""
    end_of_gap = at("2026-03-29 03:00", BERLIN)
    opens = WindowSettings(("transactional",), "02:30", "09:00")
    closes = WindowSettings(("transactional",), "01:00", "02:30")
    inside = WindowSettings(("transactional",), "02:10", "02:50")

    assert closed_until(opens, at("2026-03-29 01:59", BERLIN), BERLIN) == end_of_gap
    assert open_until(closes, at("2026-03-29 01:30", BERLIN), BERLIN) == end_of_gap
    assert closed_until(inside, at("2026-03-29 00:30", BERLIN), BERLIN) == at("2026-03-30 02:10", BERLIN)


def test_a_time_that_happens_twice_closes_at_the_first_and_opens_at_the_second():
    """On 25 October 2026 Berlin goes from 03:00 back to 02:00."""
    opens = WindowSettings(("transactional",), "02:30", "09:00")
    closes = WindowSettings(("transactional",), "01:00", "02:30")

    assert closed_until(opens, at("2026-10-25 02:45", BERLIN), BERLIN) == at("2026-10-25 02:30", BERLIN, fold=1)
    assert open_until(closes, at("2026-10-25 01:30", BERLIN), BERLIN) == at("2026-10-25 02:30", BERLIN)
    assert closed_until(closes, at("2026-10-25 02:10", BERLIN, fold=1), BERLIN) == at("2026-10-26 01:00", BERLIN)


def test_on_a_holiday_it_stays_closed():
    """Of the country, or of one of its parts."""
    in_england = replace(OFFICE, holidays="GB-ENG")

    assert closed_until(in_england, at("2026-12-25 10:00", LONDON), LONDON) == at("2026-12-27 08:00", LONDON)
    assert open_until(OFFICE, at("2026-12-25 10:00", LONDON), LONDON) == at("2026-12-25 21:00", LONDON)
    # in Bavaria Epiphany is one, in Berlin it is none
    epiphany = at("2026-01-06 10:00", BERLIN)
    assert closed_until(replace(OFFICE, holidays="DE-BY"), epiphany, BERLIN) == at("2026-01-07 08:00", BERLIN)
    assert open_until(replace(OFFICE, holidays="DE-BE"), epiphany, BERLIN)


def test_one_past_midnight_closes_when_a_holiday_begins_and_does_not_open_on_it():
    """No sending on that day, and none that began on it."""
    night = replace(NIGHT, holidays="DE-BE")  # Labour Day, 1 May 2026, is a Friday

    assert open_until(night, at("2026-04-30 23:00", BERLIN), BERLIN) == at("2026-05-01 00:00", BERLIN)
    assert closed_until(night, at("2026-05-01 01:00", BERLIN), BERLIN) == at("2026-05-02 22:00", BERLIN)


# ---------------------------------------------------------------- of a job


def hours(windows: list[WindowSettings], now: float, least_s: float = 0.0, **of_job: object) -> Hours | None:
    return Windows(windows).hours(job(**{"recipient": FICTIONAL, **of_job}), now, least_s)


def test_a_category_without_a_window_goes_at_any_time():
    """Off until configured."""
    assert hours([], at("2026-03-02 03:00")) is None
    assert hours([OFFICE], at("2026-03-02 03:00"), category="auth") is None


def test_the_longest_prefix_wins():
    """And what no prefix fits has no window."""
    british, manx = replace(OFFICE, prefix="44"), replace(NIGHT, prefix="447624")
    now = at("2026-03-02 23:00", LONDON)

    assert not hours([british, manx], now, recipient="447400123456").is_open
    assert hours([british, manx], now, recipient="447624123456").is_open
    assert hours([british, manx], now, recipient="33612345678") is None


def test_the_app_s_zone_goes_before_the_number_s_and_that_before_the_window_s():
    """A name that is no zone counts for nothing."""
    now = at("2026-07-01 12:00")  # 08:00 in New York, 13:00 in London, 05:00 in Los Angeles
    window = replace(OFFICE, zone=LOS_ANGELES)

    def is_open(recipient: str, zone: object = None) -> bool:
        options = None if zone is None else json.dumps({"tz": zone})
        return hours([window], now, recipient=recipient, options=options).is_open

    assert is_open("12125552345")
    assert not is_open("12125552345", LOS_ANGELES)
    assert is_open("12125552345", "Mars/Olympus")
    assert is_open("12125552345", "../../etc/passwd")
    assert is_open("12125552345", "")
    assert not is_open(FICTIONAL)
    assert is_open(FICTIONAL, LONDON)


def test_a_window_about_to_close_is_closed():
    """A segment with no life left costs money and reaches nobody."""
    now = at("2026-03-02 20:59:59.5")

    assert hours([OFFICE], now) == Hours(is_open=True, since=now, until=at("2026-03-02 21:00"))
    assert hours([OFFICE], now, 1.0)[::2] == (False, at("2026-03-03 08:00"))


def test_what_was_decided_holds_until_it_changes(monkeypatch):
    """A thousand jobs of one claim are one decision; a wall clock that is set back is one more."""
    asked = []
    monkeypatch.setattr("dispatcher.windows.hours_at", lambda *a: asked.append(a) or hours_at(*a))
    windows = Windows([OFFICE])
    one = job(recipient=FICTIONAL)
    nine = at("2026-03-02 09:00")

    for n in range(1000):
        assert windows.hours(one, nine + n).until == at("2026-03-02 21:00")
    assert len(asked) == 1
    assert not windows.hours(one, at("2026-03-02 21:00")).is_open
    assert not windows.hours(one, at("2026-03-02 07:00")).is_open
    assert len(asked) == 3


def test_that_it_never_opens_is_looked_at_again_each_day():
    """Summer time may give two zones a common hour."""
    apart = Windows([WindowSettings(("transactional",), "08:00", "09:00", zone=NEW_YORK)])
    apart._decided[id(apart.settings[0]), (NEW_YORK,)] = Hours(
        is_open=False, since=at("2026-03-02 08:30"), until=math.inf
    )
    one = job(recipient=FICTIONAL)

    assert not apart.hours(one, at("2026-03-02 13:30")).is_open  # 08:30 in New York
    assert apart.hours(one, at("2026-03-03 13:30")).is_open


# ---------------------------------------------------------------- properties

ZONES = st.sampled_from(sorted(known_zones()))
MINUTES = st.integers(0, 24 * 60 - 1)
INSTANTS = st.integers(946_684_800, 2_208_988_800)  # 2000 to 2040
CHANGES = (  # near which all of this goes wrong: of clocks, and of dates
    at("2026-03-29 01:00"),
    at("2026-10-25 01:00"),
    at("2026-03-08 07:00"),
    at("2026-11-01 06:00"),
    at("2011-12-30 10:00"),  # Samoa left out a day
    at("2010-11-07 02:31"),  # St. John's went from 00:01 back to 23:01
    at("2018-02-18 02:00"),  # Brazil went from midnight back to 23:00
    at("2026-04-04 15:00"),  # Lord Howe goes back by half an hour
)
NEAR_CHANGES = st.builds(
    lambda change, off: int(change) + off, st.sampled_from(CHANGES), st.integers(-200_000, 100_000)
)
CHANGING = st.sampled_from(
    [NEW_YORK, LONDON, BERLIN, "Pacific/Apia", "America/St_Johns", "America/Sao_Paulo", "Australia/Lord_Howe"]
)


@st.composite
def windows(draw: st.DrawFn) -> WindowSettings:
    opens, closes = draw(st.lists(MINUTES, min_size=2, max_size=2, unique=True))
    return WindowSettings(
        ("transactional",),
        f"{opens // 60:02}:{opens % 60:02}",
        f"{closes // 60:02}:{closes % 60:02}",
        days=tuple(draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True))) if draw(st.booleans()) else DAYS,
        holidays=draw(st.sampled_from(["", "", "US", "GB-ENG", "DE"])),
    )


def is_within(window: WindowSettings, zone: str, instant: float) -> bool:
    """Whether the wall clock shows a time of the window: said by the clock alone, without a change of it in mind."""
    wall = datetime.fromtimestamp(instant, ZoneInfo(zone))
    opens, closes = time.fromisoformat(window.opens), time.fromisoformat(window.closes)
    now, today = wall.time(), wall.date()

    def opened_on(day: date) -> bool:
        return DAYS[day.weekday()] in window.days and not is_holiday(day)

    def is_holiday(day: date) -> bool:
        if not window.holidays:
            return False
        country, _, part = window.holidays.partition("-")
        return day in holidays.country_holidays(country, subdiv=part or None, years=day.year)

    if is_holiday(today):
        return False
    if opens < closes:
        return opens <= now < closes and opened_on(today)
    return (now >= opens and opened_on(today)) or (now < closes and opened_on(today - timedelta(days=1)))


@settings(max_examples=250, deadline=None)
@given(windows(), st.lists(ZONES | CHANGING, min_size=1, max_size=3), INSTANTS | NEAR_CHANGES, st.data())
def test_no_open_instant_shows_a_time_outside_of_the_window(window, zones, now, data):
    """In any of the zones, at any instant of what was answered; and the next opening is one."""
    hours = hours_at(window, zones, now)
    assert hours.since == now < hours.until

    opening = now
    if not hours.is_open:
        opening = hours.until
        if opening == math.inf:
            return
        assert opening - now <= LOOKED_AHEAD.total_seconds()
        next_hours = hours_at(window, zones, opening)
        assert next_hours.is_open
        between = data.draw(st.integers(now, int(opening) - 1))
        assert hours_at(window, zones, between)[::2] == (False, opening), "nothing between is open"
        hours = next_hours
    for instant in (opening, hours.until - 1, data.draw(st.integers(int(opening), int(hours.until) - 1))):
        assert all(is_within(window, zone, instant) for zone in zones), datetime.fromtimestamp(instant, UTC)
        assert hours_at(window, zones, instant)[::2] == (True, hours.until)


@settings(max_examples=100, deadline=None)
@given(windows(), ZONES, INSTANTS)
def test_away_from_changes_of_the_clock_it_is_open_whenever_the_wall_clock_says_so(window, zone, now):
    """Strict is not never."""
    day = timedelta(days=2)
    there = datetime.fromtimestamp(now, UTC)
    offsets = {(there + n * day / 4).astimezone(ZoneInfo(zone)).utcoffset() for n in range(-4, 5)}
    if len(offsets) > 1:
        return
    after_holiday_past_midnight = window.holidays and window.closes < window.opens
    if not after_holiday_past_midnight:
        assert hours_at(window, [zone], now).is_open == is_within(window, zone, now)


WEEKDAYS = HoursSettings(LONDON, "08:00", "18:00", DAYS[:5], "GB-ENG")


def test_without_opening_hours_it_is_open():
    assert OpeningHours(None).opening(at("2026-03-02 03:00")) is None


def test_opening_hours_tell_the_next_opening_by_their_own_clock():
    """The same text all the while that it is closed, over a weekend and a holiday too; none while it is open."""
    ours = OpeningHours(WEEKDAYS)
    for wall, opening in (
        ("2026-03-02 07:59:59", "2026-03-02 08:00"),
        ("2026-03-02 08:00", None),
        ("2026-03-02 17:59:59", None),
        ("2026-03-02 18:00", "2026-03-03 08:00"),
        ("2026-03-03 02:00", "2026-03-03 08:00"),
        ("2026-04-02 18:00", "2026-04-07 08:00"),  # before Good Friday; the clocks have gone forward since
        ("2026-04-06 23:59", "2026-04-07 08:00"),  # Easter Monday
        ("2026-04-07 08:00", None),
        ("2026-04-06 12:00", "2026-04-07 08:00"),  # the wall clock was put back
    ):
        assert ours.opening(at(wall, LONDON)) == opening, wall


def test_opening_hours_follow_a_change_of_clocks():
    """08:00 in July is an hour earlier than 08:00 in January."""
    ours = OpeningHours(WEEKDAYS)
    assert ours.opening(at("2026-01-05 07:30")) == "2026-01-05 08:00"
    assert ours.opening(at("2026-07-06 07:30")) is None
    gap = OpeningHours(HoursSettings(BERLIN, "02:30", "09:00"))
    assert gap.opening(at("2026-03-29 01:59", BERLIN)) == "2026-03-29 03:00"


def test_an_opening_that_is_far_off_is_not_told():
    """Two holidays in a row, of a desk that is open on Fridays: what is not looked for is not promised."""
    fridays = OpeningHours(replace(WEEKDAYS, days=("fri",)))
    assert fridays.opening(at("2026-12-18 18:00", LONDON)) == ""
    assert fridays.opening(at("2026-12-25 10:00", LONDON)) == "2027-01-08 08:00"
