"""What tests of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journey.database import queue_url, shared_database_url  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def figures(capsys) -> Iterator[list[str]]:
    """Lines that are shown even when the test passes."""
    lines: list[str] = []
    yield lines
    with capsys.disabled():
        for line in lines:
            print(f"\n  {line}", end="")
