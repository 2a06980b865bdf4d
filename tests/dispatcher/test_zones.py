"""dispatcher/zones.py: what a number's digits tell of its time zone."""

from __future__ import annotations

import pytest

from dispatcher.zones import zones_of


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("12125552345", {"America/New_York"}),
        ("491711234567", {"Europe/Berlin"}),
        ("447400123456", {"Europe/London", "Europe/Guernsey", "Europe/Isle_of_Man", "Europe/Jersey"}),
        ("999700900123", set()),
        ("99999999999999", set()),
    ],
)
def test_a_number_tells_its_zones(number, zones):
    """By its area code, or by its country."""
    assert set(zones_of(number)) == zones


def test_a_mobile_number_is_not_held_to_the_area_whose_digits_it_begins_with():
    """Russian and Australian mobile numbers begin like Moscow's and Sydney's; a Californian one is bound to its area code."""
    assert {"Europe/Moscow", "Asia/Vladivostok"} <= set(zones_of("79123456789"))
    assert {"Australia/Sydney", "Australia/Perth"} <= set(zones_of("61412345678"))
    assert zones_of("14155552671") == ("America/Los_Angeles",)


def test_numbers_of_north_america_are_told_by_their_area_code():
    """Those of its islands too, whose country code is the same."""
    assert zones_of("18085550123") == ("Pacific/Honolulu",)
    assert zones_of("18765550123") == ("America/Jamaica",)
