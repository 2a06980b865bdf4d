"""dispatcher/gates.py and ``tocsin check --recipient``: what would become of a message now, hours and caps included."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.dispatcher.command import FILE
from tests.dispatcher.test_windows import LOS_ANGELES, NEW_YORK, at

PATIENT = "+12125550123"  # of New York, and of nowhere else
LONDONER = "+447700900123"
NOWHERE = "+999700900123"  # of no country
RULES = """
[[category]]
name = "transactional"
time_to_live_s = 86400.0

[[window]]
categories = ["transactional"]
opens = "08:00"
closes = "21:00"
zone = "Europe/Berlin"

[[cap]]
categories = ["transactional"]
per_day = 2
per_week = 3
"""
NOON = at("2026-03-04 12:00", NEW_YORK)  # a Wednesday
NIGHT = at("2026-03-04 23:00", NEW_YORK)


@pytest.fixture
def ask(write, shared_url, monkeypatch):
    """Ask about a number at an instant; gives the exit code and, by step, what was said."""
    command = write(shared_url, FILE.replace('prefix = "44"', 'prefix = ""') + RULES)
    assert command("apply") == 0
    for table in ("cap_count", "suppression", "suppression_event"):
        command.sql(f"delete from tocsin.{table}")

    def call(number: str, now: float, *arguments: str) -> tuple[int, dict[str, dict]]:
        monkeypatch.setattr("dispatcher.commands.check.time", SimpleNamespace(time=lambda: now))
        code = command("check", "--json", "--recipient", number, *arguments)
        return code, {gate["step"]: gate for gate in json.loads(command.out)}

    call.command = command
    return call


def counted(command, number: str, *instants: float) -> None:
    command.sql(
        "insert into tocsin.cap_count select $1, 'transactional', array_agg(row(n, to_timestamp(at), 1)::tocsin.cap_use),"
        " '{}', '{}', now() from unnest($2::float8[]) with ordinality u (at, n) returning 1",
        number.removeprefix("+"),
        list(instants),
    )


def test_by_day_it_passes_and_says_until_when_where_the_recipient_is(ask):
    """And by what the zone is known."""
    code, found = ask(PATIENT, NOON)
    assert code == 0
    assert list(found) == ["route", "suppression", "consent", "pause", "window", "cap"]
    assert {gate["verdict"] for gate in found.values()} == {"passes"}
    detail = found["window"]["detail"]
    assert (detail["until"], detail["zones"], detail["zones_by"]) == (
        "2026-03-04T21:00:00-05:00",
        [NEW_YORK],
        "number",
    )
    assert found["cap"]["detail"]["until"] == "2026-03-05T00:00:00-05:00"


def test_at_night_it_waits_until_the_window_opens(ask):
    """0: a message that waits is not refused."""
    code, found = ask(PATIENT, NIGHT)
    assert code == 0
    assert (found["window"]["verdict"], found["window"]["reason"]) == ("waits", "WINDOW_CLOSED")
    assert found["window"]["detail"]["until"] == "2026-03-05T08:00:00-05:00"


@pytest.mark.parametrize(
    ("number", "arguments", "zone", "by", "is_open"),
    [
        (PATIENT, ("--tz", LOS_ANGELES), LOS_ANGELES, "tz", True),  # 20:00 there
        (PATIENT, (), NEW_YORK, "number", False),
        (NOWHERE, (), "Europe/Berlin", "file", False),  # 05:00 there
    ],
)
def test_the_zone_is_the_app_s_word_else_the_number_s_else_the_file_s(ask, number, arguments, zone, by, is_open):
    _, found = ask(number, NIGHT, *arguments)
    assert (found["window"]["verdict"] == "passes") is is_open
    assert (found["window"]["detail"]["zones"], found["window"]["detail"]["zones_by"]) == ([zone], by)


def test_a_window_that_opens_after_its_time_to_live_is_its_end(ask):
    """As at a claim: the message would expire before."""
    ask.command.path.write_text(ask.command.path.read_text().replace("86400.0", "3600.0"))
    code, found = ask(PATIENT, NIGHT)
    assert code == 1
    assert (found["window"]["verdict"], found["window"]["reason"]) == ("expired", "EXPIRED_BY_WINDOW")


def test_a_cap_counts_the_recipient_s_own_day_and_week(ask):
    """What went yesterday by their clock is of no weight today; asking counts nothing."""
    counted(ask.command, PATIENT, at("2026-03-03 23:00", NEW_YORK), NOON - 3600)
    for _ in range(3):
        assert ask(PATIENT, NOON)[1]["cap"]["verdict"] == "passes"
    ask.command.sql("delete from tocsin.cap_count")
    counted(ask.command, PATIENT, NOON - 7200, NOON - 3600)
    code, found = ask(PATIENT, NOON)
    assert code == 0
    assert (found["cap"]["verdict"], found["cap"]["reason"]) == ("waits", "FREQ_CAP")
    assert found["cap"]["detail"]["until"] == "2026-03-05T08:00:00-05:00"  # the next day, and when its window opens
    ask.command.sql("delete from tocsin.cap_count")
    counted(ask.command, PATIENT, *[at(f"2026-03-0{day} 12:00", NEW_YORK) for day in (2, 2, 3)])
    code, found = ask(PATIENT, NOON)  # until Monday it would not live
    assert (code, found["cap"]["verdict"], found["cap"]["reason"]) == (1, "blocked", "FREQ_CAP")


def test_what_the_database_refuses_is_1_and_hours_are_told_all_the_same(ask):
    """One look tells all that stands in the way."""
    ask.command.sql("select tocsin.suppress($1, 'OPT_OUT')", LONDONER)
    code, found = ask(LONDONER, NIGHT)
    assert code == 1
    assert found["suppression"]["reason"] == "SUPPRESSED_OPT_OUT"
    assert found["window"]["verdict"] == "waits"
    code, found = ask("12", NOON)
    assert (code, list(found)) == (1, ["recipient"])


def test_a_category_without_hours_or_cap_passes(ask):
    """An emergency has none."""
    code, found = ask(PATIENT, NIGHT, "--category", "emergency")
    assert code == 0
    assert found["window"] == {"step": "window", "verdict": "passes", "reason": None, "detail": {}}


def test_for_people_it_is_a_line_a_gate(ask, monkeypatch):
    ask(PATIENT, NIGHT)
    assert ask.command("check", "--recipient", PATIENT) == 0
    lines = ask.command.out.splitlines()
    assert lines[0] == "route       passes   link carrier-a, sender Northside"
    assert lines[4].startswith(
        "window      waits    WINDOW_CLOSED, until 2026-03-05T08:00:00-05:00, zones America/New_York, zones_by number,"
    )
    assert PATIENT[1:] not in ask.command.out


def test_without_the_database_nothing_is_said(offline):
    """Hours alone would be half an answer."""
    assert offline("check", "--recipient", LONDONER) == 3
    assert offline.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipient", PATIENT, "--bind"), "exclude each other"),
        (("--recipient", PATIENT, "--tz", "Nowhere"), "--tz"),
        (("--category", "staff"), "needs --recipient"),
        (("--sender", "Northside"), "needs --send-to or --recipient"),
    ],
)
def test_options_that_do_not_belong_together_are_usage_errors(offline, arguments, words):
    assert offline("check", *arguments) == 2
    assert words in offline.err
