"""``[[window]]`` and ``[hours]``: what they may say, and what is said of what they may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.windows import DAYS, HoursSettings, WindowSettings
from tests.config.test_settings import Folder

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = """
[[window]]
categories = ["marketing", "informational"]
opens = "08:00"
closes = "21:00"
"""


@pytest.fixture
def at(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_none_is_shipped(at):
    """Messages go at any hour until an operator says otherwise."""
    assert at.small().windows == ()


def test_a_window_of_three_keys_holds_for_all_numbers_and_days(at):
    """The defaults."""
    (window,) = at.small(rest=WINDOW).windows

    assert window == WindowSettings(("marketing", "informational"), "08:00", "21:00")
    assert (window.prefix, window.days, window.holidays, window.zone) == ("", DAYS, "", "UTC")


def test_every_key_is_read(at):
    """A plus before the prefix is as in routes."""
    more = 'prefix = "+1"\ndays = ["sat", "mon"]\nholidays = "US-CA"\nzone = "America/Los_Angeles"\n'
    (window,) = at.small(rest=WINDOW + more).windows

    assert (window.prefix, window.days, window.holidays, window.zone) == (
        "1",
        ("sat", "mon"),
        "US-CA",
        "America/Los_Angeles",
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("categories", '["marketting"]', 'there is no category "marketting"; known are'),
        ("categories", '["emergency"]', "emergency can have no window: lane 0 is for emergencies"),
        ("categories", '["reply"]', "reply can have no window: who asked waits for the answer"),
        ("categories", "[]", "must not be empty"),
        ("opens", '"8:00"', "must be a time of day from 00:00 to 23:59"),
        ("opens", '"24:00"', "must be a time of day from 00:00 to 23:59"),
        ("opens", "08:00:00", "must be a text in quotes, not a date or time"),
        ("closes", '"08:00"', "must not be the time at which it opens"),
        ("prefix", '"0044"', "must be the first digits of an E.164 number"),
        ("days", '["monday"]', "item 1 must be mon, tue, wed, thu, fri, sat or sun, not 'monday'"),
        ("days", '["mon", "mon"]', "item 2 stands there twice"),
        ("holidays", '"California"', "must be a country (ISO 3166-1) or country-subdivision"),
        ("holidays", '"ZZ"', "names a country or subdivision whose holidays are not known"),
        ("holidays", '"US-ZZ"', "names a country or subdivision whose holidays are not known"),
        ("zone", '"America/Springfield"', "must be a time zone of the IANA database"),
        ("zone", '"localtime"', "must be a time zone of the IANA database"),
        ("zone", '"../../etc/localtime"', "must be a time zone of the IANA database"),
    ],
)
def test_what_is_wrong_is_told_with_its_table_and_key(at, key, value, problem):
    """At the start, and not when the first message is to go."""
    lines = [line for line in WINDOW.splitlines() if not line.startswith(f"{key} =")]
    told = at.small_problem(rest="\n".join([*lines, f"{key} = {value}"]))

    assert told.startswith(f"tocsin.toml: [[window]] 1: {key}: {problem}")


def test_an_emergency_of_the_user_s_own_has_none_either(at):
    """The lane decides, not the name."""
    category = '[[category]]\nname = "code_blue"\nlane = 0\n'
    told = at.small_problem(rest=category + WINDOW.replace("informational", "code_blue"))

    assert told == "tocsin.toml: [[window]] 1: categories: code_blue can have no window: lane 0 is for emergencies"


def test_two_windows_of_a_category_and_prefix_are_refused(at):
    """Nobody could tell which of them holds."""
    told = at.small_problem(rest=WINDOW + WINDOW)
    assert told == 'tocsin.toml: [[window]] 2: categories: "marketing" has a window for this prefix already'

    assert len(at.small(rest=WINDOW + WINDOW + 'prefix = "44"').windows) == 2
    twice = f'{WINDOW}prefix = "+44"\n{WINDOW}prefix = "44"\n'
    assert "has a window for this prefix already" in at.small_problem(rest=twice)


def test_a_missing_key_is_named(at):
    """There are no usual hours."""
    told = at.small_problem(rest=WINDOW.replace('closes = "21:00"', ""))
    assert told == "tocsin.toml: [[window]] 1: closes: is missing"


HOURS = """
[hours]
zone = "Europe/London"
opens = "08:00"
closes = "18:00"
"""
CLOSED = """
[[auto_reply]]
kind = "closed"
text = "We open at {opens}."
"""


def test_without_hours_it_is_always_open(at):
    assert at.small().hours is None


def test_hours_are_read(at):
    """Their zone must be named; the rest has the defaults of a window."""
    assert at.small(rest=HOURS).hours == HoursSettings("Europe/London", "08:00", "18:00", DAYS, "")
    more = at.small(rest=HOURS + 'days = ["mon"]\nholidays = "GB-ENG"').hours
    assert more == HoursSettings("Europe/London", "08:00", "18:00", ("mon",), "GB-ENG")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("zone", None, "is missing"),
        ("zone", '"Europe/Bristol"', "must be a time zone of the IANA database"),
        ("opens", '"8:00"', "must be a time of day from 00:00 to 23:59"),
        ("opens", None, "is missing"),
        ("closes", '"08:00"', "must not be the time at which it opens"),
        ("days", "[]", "must not be empty"),
        ("holidays", '"ZZ"', "names a country or subdivision whose holidays are not known"),
        ("prefix", '"44"', "unknown key"),
    ],
)
def test_what_is_wrong_with_hours_is_told_with_the_key(at, key, value, problem):
    lines = [line for line in HOURS.splitlines() if not line.startswith(f"{key} =")]
    told = at.small_problem(rest="\n".join(lines + [f"{key} = {value}"] * (value is not None)))

    assert told.startswith(f"tocsin.toml: [hours]: {key}: {problem}")


def test_a_text_for_closed_hours_needs_hours(at):
    """It would never be sent, and nobody would know why."""
    assert at.small_problem(rest=CLOSED) == (
        'tocsin.toml: [[auto_reply]] "closed": kind: closed needs [hours]: without them it is always open'
    )
    assert at.small(rest=HOURS + CLOSED).auto_replies[-1].text == "We open at {opens}."


def test_no_acknowledgement_is_shipped(at):
    """What it promises is the operator's to keep."""
    assert {reply.kind for reply in at.small().auto_replies}.isdisjoint({"received", "closed"})
