"""What the database says to somebody who looks: owners, paused, lanes, doubt, the last events.

Each read is bounded: 10,000 rows of a lane and link are counted, 200 events are read, the rest are small tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from dispatcher.status import EmergencyStatus, EventStatus, LaneStatus, LinkStatus, Status
from dispatcher.store import array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.settings import Settings
    from dispatcher.store import Connection, Record

COUNTED: Final = 10_000  # rows of a lane and link that the query ``depth`` counts at most
EVENTS_READ: Final = 200
EVENTS_SHOWN: Final = 20
LANES: Final = range(6)
FROM_ID_1: Final = array(0 for _ in LANES)  # whose link it is knows better; whoever looks may be another
# The reason of a receipt's event is what an SMSC wrote: nothing long, and nothing that may be a person's number.
WITHHELD: Final = re.compile(r"\d{6}|.{41}|[^ -~]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SeenLink:
    """A link's row."""

    name: str
    owner: str  # "" for nobody
    epoch: int
    beat: int
    enabled: bool
    paused: bool
    state: str
    state_for_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One look."""

    links: tuple[SeenLink, ...]
    lanes: tuple[LaneStatus, ...]
    uncertain: dict[str, int]  # link -> segments in doubt
    events: tuple[EventStatus, ...]


async def look(connection: Connection) -> Seen:
    """Read it all.

    Raises:
        StoreUnavailable: the database is away, or took too long.

    """
    links = tuple(SeenLink(*row) for row in await connection.fetch("status_links"))
    categories = await connection.fetch("status_categories")
    depths = [row for link in links for row in await connection.fetch("depth", link.name, FROM_ID_1)]
    uncertain = {row["link"]: row["segments"] for row in await connection.fetch("uncertain_count")}
    events = await connection.fetch("status_events", EVENTS_READ)
    return Seen(links, tuple(_lane(lane, categories, depths) for lane in LANES), uncertain, grouped(events))


def _lane(lane: int, categories: Iterable[Record], depths: Iterable[Record]) -> LaneStatus:
    own = [row for row in categories if row["lane"] == lane]
    depth = [row for row in depths if row["lane"] == lane]
    return LaneStatus(
        lane=lane,
        categories=tuple(row["name"] for row in own),
        paused=tuple(row["name"] for row in own if row["paused"]),
        jobs=sum(row["jobs"] for row in depth),
        at_least=any(row["jobs"] >= COUNTED for row in depth),
        oldest_s=round(max((row["oldest_s"] for row in depth), default=0.0), 3),
    )


def grouped(rows: Iterable[Record]) -> tuple[EventStatus, ...]:
    """Put events of one type, category and reason into one entry; rows come newest first."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        reason = row["reason"] or ""
        if WITHHELD.search(reason):
            reason = "(withheld)"
        groups.setdefault((row["type"], row["category"] or "", reason), []).append(row)
    return tuple(
        EventStatus(kind, category, reason, len(of), round(of[0]["age_s"], 1), of[0]["subject"])
        for (kind, category, reason), of in list(groups.items())[:EVENTS_SHOWN]
    )


def link_of(
    name: str, row: SeenLink | None, *, own: str, beat_age_s: float | None, uncertain: Mapping[str, int] | None
) -> LinkStatus:
    """Tell of a link what its row says; ``own`` is the full name of the instance that asks, "" for none."""
    owner = "" if row is None else row.owner
    return LinkStatus(
        name=name,
        state="unknown" if row is None else row.state,
        state_detail="" if row is None or row.enabled else "the file no longer names it",
        state_for_s=0.0 if row is None else round(row.state_for_s, 1),
        owner="nobody" if not owner else "this" if owner == own else "another",
        owner_instance=owner.rpartition(":")[0],
        epoch=None if row is None else row.epoch,
        beat=None if row is None else row.beat,
        beat_age_s=beat_age_s,
        in_file=row is None or row.enabled,
        paused=row is not None and row.paused,
        sessions_bound=None,
        sessions_configured=None,
        window_in_use=None,
        window_size=None,
        segments_per_s=None,
        limit_per_s=None,
        reserved_per_s=None,
        configured_per_s=None,
        held_for_s=None,
        throttled_total=None,
        unanswered_total=None,
        uncertain_segments=None if uncertain is None else uncertain.get(name, 0),
        receipts_matched_total=None,
        receipts_unmatched_total=None,
        receipts_per_s=None,
    )


def status_of(settings: Settings, seen: Seen, product_version: str) -> Status:
    """Give the document without a daemon: what only it knows is null."""
    own = settings.daemon.instance
    links = tuple(
        replace(link, owner="this" if link.owner_instance == own else link.owner)
        for row in seen.links
        for link in [link_of(row.name, row, own="", beat_age_s=None, uncertain=seen.uncertain)]
    )
    return Status(
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        source="database",
        instance=own,
        version=product_version,
        started_at=None,
        up_for_s=None,
        ready=None,
        missing=(),
        emergencies=_without_daemon(links, seen.lanes),
        database="up",
        schema="current",
        read_age_s=0.0,
        unsettled=None,
        receipts_waiting=None,
        uncertain_segments=sum(seen.uncertain.values()),
        paused_categories=tuple(name for lane in seen.lanes for name in lane.paused),
        links=links,
        lanes=seen.lanes,
        events=seen.events,
    )


def _without_daemon(links: Iterable[LinkStatus], lanes: Iterable[LaneStatus]) -> EmergencyStatus:
    """Judge by the database alone: it can say that emergencies are stopped, never that they flow."""
    stopped = [] if any(link.owner_instance for link in links) else ["no instance owns a link"]
    stopped += [f"paused: {', '.join(lane.paused)}" for lane in lanes if lane.lane == 0 and lane.paused]
    return (
        EmergencyStatus("stopped", tuple(stopped)) if stopped else EmergencyStatus("unknown", ("no daemon was asked",))
    )
