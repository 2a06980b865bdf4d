"""dispatcher/stops.py: what is refused in memory until the database says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher.stops import KEPT_S, Stops
from tests.dispatcher.test_job import job

PATIENT = "447700900123"


@pytest.fixture
def stops():
    """Two senders of ours, no links, and a clock that stands."""
    settings: Any = SimpleNamespace(
        senders=[SimpleNamespace(address="Northside"), SimpleNamespace(address="+447700900001")]
    )
    gateway: Any = SimpleNamespace(links={})
    made = Stops(settings, lambda: gateway, lambda: made.now)
    made.now = 0.0
    return made


def reason(stops: Stops, sender: str = "Northside", category: str = "marketing") -> str:
    return stops.reason(job(recipient=PATIENT, sender=sender, category=category))


def test_a_start_takes_back_its_own_stop_and_nothing_else(stops):
    """Not what was said to another sender, nor what an app knows of the number."""
    stops.heed(PATIENT, "Northside", "STOP")
    stops.heed("+" + PATIENT, "+447700900001", "STOP")
    stops.notified(f"{PATIENT}|category|auth|INVALID|added")

    stops.heed(PATIENT, "Northside", "START")

    assert reason(stops) == ""
    assert reason(stops, "+447700900001") == "OPT_OUT"
    assert reason(stops, category="auth") == "INVALID"


def test_a_start_takes_back_a_soft_hold(stops):
    stops.notified(f"{PATIENT}|category|marketing|SOFT_HOLD|added")
    assert reason(stops) == "SOFT_HOLD"

    stops.heed(PATIENT, "Northside", "START")

    assert reason(stops) == ""


def test_what_is_lifted_is_lifted_for_its_reason(stops):
    stops.notified(f"{PATIENT}|everything||INVALID|added")
    stops.notified(f"{PATIENT}|everything||OPT_OUT|lifted")
    assert reason(stops) == "INVALID"

    stops.notified(f"{PATIENT}|everything||INVALID|lifted")

    assert reason(stops) == ""


def test_a_block_is_kept_for_its_time_from_the_last_time_it_was_said(stops):
    """And then let go of, so that memory holds a minute's worth."""
    stops.heed(PATIENT, "Northside", "STOP")
    stops.now = KEPT_S / 2
    stops.heed("447700900124", "Northside", "STOP")
    stops.heed(PATIENT, "Northside", "STOP")
    stops.now = KEPT_S
    assert reason(stops) == "OPT_OUT"
    stops.now = KEPT_S * 3 / 2
    assert reason(stops) == ""

    stops.heed("447700900125", "Northside", "STOP")

    assert [block.number for block in stops._blocks] == ["447700900125"]


@pytest.mark.parametrize("text", ["", "See you on Tuesday", "Stop by the clinic at 5", "HELP"])
def test_other_texts_block_nothing(stops, text):
    stops.heed(PATIENT, "Northside", text)

    assert reason(stops) == ""
