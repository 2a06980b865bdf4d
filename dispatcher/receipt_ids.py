"""How the ids in a carrier's receipts relate to those in its answers, and what a link has shown of it.

    exact    the same
    case     but for capitals
    zeros    but for zeros in front
    hex      the receipt writes in hexadecimal what the answer has in decimal
    decimal  the receipt writes in decimal what the answer has in hexadecimal

The first three convert no number. Where matches of a link were of one conversion only (or of none), the readings of
the other ones are not tried there any more: they could only name another message. That is forgotten when a match says
otherwise, when receipts stop matching, or when those that do not match would by what is not tried; each time twice as
many matches are wanted before it is learnt again. Held in memory, some numbers a link; a new process learns anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Relation = Literal["exact", "case", "zeros", "hex", "decimal"]
Conversion = Literal["exact", "hex", "decimal"]  # exact: of no number
RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)
FORMS: Final = (*RELATIONS, "none")  # none: a receipt that nobody could match
CONVERSION: Final[Mapping[Relation, Conversion]] = {
    "exact": "exact",
    "case": "exact",
    "zeros": "exact",
    "hex": "hex",
    "decimal": "decimal",
}

LEARNT_AFTER: Final = 100  # matches, all of one conversion
MOST_WANTED: Final = 1_000_000  # matches, after which it is learnt again at the latest
FORGOTTEN_AFTER: Final = 20  # receipts that nobody could match, with no match between them; or that contradict


def relation(told: str, answered: str) -> Relation:
    """How the id of a receipt relates to the id of the answer, of which it is one reading."""
    if told == answered:
        return "exact"
    if told.upper() == answered.upper():
        return "case"
    if told.lstrip("0").upper() == answered.lstrip("0").upper():
        return "zeros"
    try:
        return "hex" if int(told, 16) == int(answered) else "decimal"
    except ValueError:
        return "decimal"


def still_tried(told: str, forms: Iterable[str], learnt: Conversion) -> frozenset[str]:
    """Those readings of a receipt's id that what was learnt leaves: of no conversion, or of this one."""
    return frozenset(form for form in forms if CONVERSION[relation(told, form)] in ("exact", learnt))


class _Shown:
    """What one link has shown."""

    __slots__ = ("contradicted", "conversion", "learnt", "matches", "unmatched", "wanted")

    def __init__(self) -> None:
        self.wanted = LEARNT_AFTER
        self.begin_anew()

    def begin_anew(self) -> None:
        self.conversion: Conversion | None = None  # of all matches so far
        self.matches = 0
        self.learnt = False
        self.unmatched = 0  # since the last match
        self.contradicted = 0

    def forget(self) -> bool:
        """Begin anew; says whether anything had been learnt."""
        learnt = self.learnt
        if learnt:
            self.wanted = min(2 * self.wanted, MOST_WANTED)
        self.begin_anew()
        return learnt


class Learnt:
    """What the links have shown."""

    def __init__(self) -> None:
        self._links: dict[str, _Shown] = {}

    def of(self, link: str) -> Conversion | None:
        """The conversion that the link's receipts have; None: not known, all readings are tried."""
        shown = self._links.get(link)
        return shown.conversion if shown is not None and shown.learnt else None

    def keep(self, links: Iterable[str]) -> None:
        """Forget every link but these."""
        wanted = set(links)
        self._links = {link: shown for link, shown in self._links.items() if link in wanted}

    def matched(self, link: str, by: Relation, receipts: int = 1) -> Literal["learnt", "forgotten", ""]:
        """Take matches of the link by one relation; says what follows."""
        shown = self._links.get(link)
        if shown is None:
            shown = self._links[link] = _Shown()
        shown.unmatched = 0
        conversion = CONVERSION[by]
        if shown.conversion not in (None, conversion):
            return "forgotten" if shown.forget() else ""
        shown.conversion = conversion
        if shown.learnt:
            return ""
        shown.matches += receipts
        shown.learnt = shown.matches >= shown.wanted
        return "learnt" if shown.learnt else ""

    def unmatched(self, link: str, *, contradicts: bool = False) -> bool:
        """Take a receipt that nobody could match; `contradicts`: by a reading that is not tried somebody could.

        Says whether what was learnt was forgotten for it.
        """
        shown = self._links.get(link)
        if shown is None or not shown.learnt:
            return False
        shown.unmatched += not contradicts
        shown.contradicted += contradicts
        return max(shown.unmatched, shown.contradicted) >= FORGOTTEN_AFTER and shown.forget()
