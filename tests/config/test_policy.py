"""``[policy]``: what it may say, and what is said of what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.policy import PolicySettings
from tests.config.test_settings import Folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def at(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_it_is_off_until_configured(at):
    """A text may be sent as often as an app likes."""
    assert at.small().policy == PolicySettings(0.0, 1)


def test_every_key_is_read(at):
    """Seconds may have a fraction."""
    policy = at.small(rest="[policy]\nduplicate_text_within_s = 3600\nduplicate_texts = 3\n").policy

    assert policy == PolicySettings(3600.0, 3)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("duplicate_text_within_s = -1", "duplicate_text_within_s: must be from 0 to 2592000"),
        ("duplicate_text_within_s = 2592001", "duplicate_text_within_s: must be from 0 to 2592000"),
        ("duplicate_texts = 0", "duplicate_texts: must be from 1 to 100"),
        ("duplicate_text = 1", "duplicate_text: unknown key; the nearest known key is duplicate_texts"),
    ],
)
def test_what_is_wrong_is_named(at, line, problem):
    """At the start."""
    assert at.small_problem(rest=f"[policy]\n{line}\n") == f"tocsin.toml: [policy]: {problem}"
