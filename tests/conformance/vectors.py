"""Vectors from the test suites of other SMPP implementations, each with what is expected of us.

Every entry keeps its source (repository, commit, path, line) and what it expected there (``expect``, or the
fields beside it). ``stated`` is what we do with it, ``reason`` says why where that is not its own expectation:
"differs" where we decide otherwise, "outside" where the entry is about something we do not have.
"""

import json
from pathlib import Path
from typing import Any

import pytest

Entry = dict[str, Any]


def load(name: str) -> list[Any]:
    """Parameters for one test an entry, named by the entry's id."""
    entries: list[Entry] = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    assert len({entry["id"] for entry in entries}) == len(entries)
    return [pytest.param(entry, id=entry["id"]) for entry in entries]
