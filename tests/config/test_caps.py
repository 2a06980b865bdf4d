"""``[[cap]]``: what it may say, and what is said of what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.caps import CapSettings
from tests.config.test_settings import Folder

if TYPE_CHECKING:
    from pathlib import Path

CAP = """
[[cap]]
categories = ["marketing", "informational"]
per_day = 1
"""


@pytest.fixture
def at(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_none_is_shipped(at):
    """An app sends as much as it likes."""
    assert at.small().caps == ()


def test_every_key_is_read(at):
    """A plus before the prefix is as in routes."""
    (small,) = at.small(rest=CAP).caps
    (full,) = at.small(rest=CAP + 'per_week = 3\nprefix = "+1"\nzone = "America/Denver"\n').caps

    assert small == CapSettings(("marketing", "informational"), 1, None, prefix="", zone="UTC")
    assert full == CapSettings(("marketing", "informational"), 1, 3, prefix="1", zone="America/Denver")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("categories", '["marketting"]', 'there is no category "marketting"; known are'),
        ("categories", '["emergency"]', "emergency can have no cap: lane 0 is for emergencies"),
        ("categories", '["reply"]', "reply can have no cap: who asked waits for the answer"),
        ("per_day", "0", "must be from 1 to 1000"),
        ("per_week", "1001", "must be from 1 to 1000"),
        ("prefix", '"0044"', "must be the first digits of an E.164 number"),
        ("zone", '"America/Springfield"', "must be a time zone of the IANA database"),
    ],
)
def test_what_is_wrong_is_told_with_its_table_and_key(at, key, value, problem):
    """At the start, and not when the first message is to go."""
    lines = [line for line in CAP.splitlines() if not line.startswith(f"{key} =")]
    told = at.small_problem(rest="\n".join([*lines, f"{key} = {value}"]))

    assert told.startswith(f"tocsin.toml: [[cap]] 1: {key}: {problem}")


def test_a_cap_of_nothing_and_two_of_the_same_are_refused(at):
    """Nobody could tell what was meant."""
    assert at.small_problem(rest=CAP.replace("per_day = 1", "")) == (
        "tocsin.toml: [[cap]] 1: per_day: or per_week must be set"
    )
    assert at.small_problem(rest=CAP + CAP) == (
        'tocsin.toml: [[cap]] 2: categories: "marketing" has a cap for this prefix already'
    )
    assert len(at.small(rest=CAP + CAP + 'prefix = "44"').caps) == 2
