"""Which messages an entry of the file is for, by category and recipient: what windows and caps have in common."""

import functools
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Generic, TypeVar

from config.reader import Matching, Table, read

NO_PLACES = frozenset({"Factory", "localtime"})  # among the system's zones: not set, and where this host stands
UNTIMED = frozenset({"reply"})  # the answer to a STOP or to HELP is asked for by the recipient, and due at once

Prefix = Annotated[str, Matching(r"(\+?[1-9]\d{0,14})?", "the first digits of an E.164 number, or empty for all")]


@dataclass(frozen=True, slots=True)
class Wait:
    """What may keep messages of some categories to some recipients waiting, by the recipient's own clock."""

    categories: tuple[str, ...]
    prefix: Prefix = field(default="", kw_only=True)  # digits of an E.164 number, no plus; "" matches all
    zone: str = field(default="UTC", kw_only=True)  # where the number does not tell


AnyWait = TypeVar("AnyWait", bound=Wait)


class ByRecipient(Generic[AnyWait]):
    """Entries of one kind, found by category and by the longest prefix that fits."""

    def __init__(self, entries: Iterable[AnyWait]) -> None:
        self._by_category: dict[str, list[AnyWait]] = {}
        for entry in sorted(entries, key=lambda entry: len(entry.prefix), reverse=True):
            for category in entry.categories:
                self._by_category.setdefault(category, []).append(entry)

    def find(self, category: str, recipient: str) -> AnyWait | None:
        """Give the one for a message; None: there is none."""
        for entry in self._by_category.get(category, ()):
            if recipient.startswith(entry.prefix):
                return entry
        return None


@functools.cache
def known_zones() -> frozenset[str]:
    """Names of the IANA time zones that this host can read."""
    return frozenset(zoneinfo.available_timezones()) - NO_PLACES


def waits(
    tables: Iterable[Table], shape: type[AnyWait], lanes: Mapping[str, int], what: str
) -> Iterator[tuple[Table, AnyWait]]:
    """Read the tables of one kind, each with what it says; ``lanes`` are those of all categories by name.

    Raises:
        ConfigError: a category or zone is unknown; messages of the category may not be kept waiting, since somebody
            waits for them or they are of lane 0; or two entries are for the same category and prefix.

    """
    given = set()
    for table in tables:
        entry = shape(**read(table, shape))
        entry = replace(entry, prefix=entry.prefix.removeprefix("+"))
        for category in entry.categories:
            _check_category(table, category, lanes, what)
            if (category, entry.prefix) in given:
                raise table.error("categories", f'"{category}" has a {what} for this prefix already')
            given.add((category, entry.prefix))
        check_zone(table, entry.zone)
        yield table, entry


def check_zone(table: Table, zone: str) -> None:
    """Refuse what is none of ``known_zones``.

    Raises:
        ConfigError: as it says.

    """
    if zone not in known_zones():
        raise table.error("zone", "must be a time zone of the IANA database, such as America/New_York")


def _check_category(table: Table, category: str, lanes: Mapping[str, int], what: str) -> None:
    if category not in lanes:
        raise table.error("categories", f'there is no category "{category}"; known are {", ".join(sorted(lanes))}')
    if category in UNTIMED:
        raise table.error("categories", f"{category} can have no {what}: who asked waits for the answer")
    if lanes[category] == 0:
        raise table.error("categories", f"{category} can have no {what}: lane 0 is for emergencies")
