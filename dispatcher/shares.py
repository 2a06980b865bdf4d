"""How links are spread over the instances that live: who takes a free one, and who gives one away.

    take      at once when no live instance that could carry the link holds fewer, or when below links / instances;
              everybody else leaves it alone for a grace, and then takes it: a link that is carried goes before a
              fair share
    give      one link, when another instance has beaten steadily and holds at least two fewer; by the one that holds
              most, and only while no link is free

Each transfer makes the counts more even and none makes them less so: it ends with counts that differ by one at most,
and nothing swings. An instance counts for the links that its file names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Beat(NamedTuple):
    """An instance's row."""

    owner: str
    beat: int
    links: Collection[str]


@dataclass(slots=True)
class _Seen:
    beat: int
    since: float  # when this beat was first seen
    first: float  # when the instance was first seen alive
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Rival:
    """Another instance that lives, as far as can be told."""

    owner: str
    links: Collection[str]
    is_steady: bool  # its beat has moved, and has not stood still for long since it was first seen


class Census:
    """Which other instances live, by their beats and our clock. A row that is new to us may be a dead one's."""

    def __init__(self, me: str, silence_s: float) -> None:
        self._me = me
        self._silence_s = silence_s
        self._seen: dict[str, _Seen] = {}

    def look(self, beats: Iterable[Beat], now: float) -> list[Rival]:
        """Compare with what was seen before."""
        rivals = []
        known, self._seen = self._seen, {}
        for owner, beat, links in beats:
            if owner == self._me:
                continue
            seen = known.get(owner) or _Seen(beat, now, now)
            self._seen[owner] = seen
            if seen.beat != beat:
                if now - seen.since >= self._silence_s:
                    seen.first = now
                seen.beat, seen.since, seen.moved = beat, now, True
            if now - seen.since < self._silence_s:
                rivals.append(Rival(owner, links, seen.moved and now - seen.first >= self._silence_s))
        return rivals


class Shares:
    """Who holds what, at one look."""

    def __init__(self, me: str, owners: Mapping[str, str], rivals: Collection[Rival]) -> None:
        """Take in the enabled links in the file's order, each with its owner or "", and the others that live."""
        self._me = me
        self._owners = dict(owners)
        self._rivals = rivals
        self._held = Counter(self._owners.values())
        self._floor = len(owners) // (len(rivals) + 1)

    def may_take(self, link: str) -> bool:
        """Whether a free link is ours to take at once."""
        mine = self._held[self._me]
        return mine < self._floor or all(
            mine <= self._held[rival.owner] for rival in self._rivals if link in rival.links
        )

    def taken(self, link: str) -> None:
        """Count a link as ours."""
        self._held[self._owners[link]] -= 1
        self._held[self._me] += 1
        self._owners[link] = self._me

    def surplus(self) -> str | None:
        """The link that we should give away now, the file's last one first."""
        mine = self._held[self._me]
        if mine <= self._floor or "" in self._owners.values():
            return None
        living = {self._me} | {rival.owner for rival in self._rivals}
        for rival in sorted(self._rivals, key=lambda one: (self._held[one.owner], one.owner)):
            if not rival.is_steady or mine - self._held[rival.owner] < 2:
                continue
            fitting = [link for link in self._owners if link in rival.links]
            givers = {self._owners[link] for link in fitting} & living
            if givers and max(givers, key=lambda one: (self._held[one], one)) == self._me:
                return [link for link in fitting if self._owners[link] == self._me][-1]
        return None
