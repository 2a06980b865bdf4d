"""``[[cap]]``: how many messages of a category may go to one number within a day and within a week.

None is shipped. Days and weeks are the recipient's own; they are counted in ``dispatcher/caps.py``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from config.reader import Between, Table, read
from config.windows import check_category, known_zones


@dataclass(frozen=True, slots=True)
class CapSettings:
    """``[[cap]]``: of each of its categories by itself; at least one of the two numbers is set."""

    categories: tuple[str, ...]
    per_day: Annotated[int, Between(1, 1000)] | None = None  # None: any number
    per_week: Annotated[int, Between(1, 1000)] | None = None  # from Monday
    prefix: str = ""  # digits of an E.164 number, no plus; "" matches all
    zone: str = "UTC"  # where the number does not tell


def caps(tables: Iterable[Table], lanes: Mapping[str, int]) -> tuple[CapSettings, ...]:
    """Read the tables; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: a category or zone is unknown, or no category may have a cap; nothing is capped; or two caps are
            for the same category and prefix.

    """
    result = []
    given = set()
    for table in tables:
        cap = CapSettings(**read(table, CapSettings))
        if re.fullmatch(r"(\+?[1-9]\d{0,14})?", cap.prefix, re.ASCII) is None:
            raise table.error("prefix", "must be the first digits of an E.164 number, or empty for all")
        cap = replace(cap, prefix=cap.prefix.removeprefix("+"))
        for category in cap.categories:
            check_category(table, category, lanes, "cap")
            if (category, cap.prefix) in given:
                raise table.error("categories", f'"{category}" has a cap for this prefix already')
            given.add((category, cap.prefix))
        if cap.per_day is None and cap.per_week is None:
            raise table.error("per_day", "or per_week must be set")
        if cap.zone not in known_zones():
            raise table.error("zone", "must be a time zone of the IANA database, such as America/New_York")
        result.append(cap)
    return tuple(result)
