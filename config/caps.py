"""``[[cap]]``: how many messages of a category may go to one number within a day and within a week.

None is shipped. Days and weeks are the recipient's own; they are counted in ``dispatcher/caps.py``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from config.reader import Between, Table
from config.recipients import Wait, waits


@dataclass(frozen=True, slots=True)
class CapSettings(Wait):
    """``[[cap]]``: of each of its categories by itself; at least one of the two numbers is set."""

    per_day: Annotated[int, Between(1, 1000)] | None = None  # None: any number
    per_week: Annotated[int, Between(1, 1000)] | None = None  # from Monday


def caps(tables: Iterable[Table], lanes: Mapping[str, int]) -> tuple[CapSettings, ...]:
    """Read the tables; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: as ``waits`` says; or nothing is capped.

    """
    result = []
    for table, cap in waits(tables, CapSettings, lanes, "cap"):
        if cap.per_day is None and cap.per_week is None:
            raise table.error("per_day", "or per_week must be set")
        result.append(cap)
    return tuple(result)
