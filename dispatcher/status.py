"""The status document: what one look at Tocsin tells. ``/status.json``, the status page and ``tocsin status`` show it.

Names and meanings are public. Durations end in ``_s`` and count back from ``at``; rates end in ``_per_s``; null means
that nobody here knows. Nothing in it is a text, a number of a person, or an id that an SMSC gave: events name jobs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATE_AFTER_S: Final = 10.0  # an emergency that waits longer is late: the shipped pace is well under one second
STALE_AFTER_S: Final = 15.0  # what the database said longer ago says nothing about now

Flow = Literal["flowing", "late", "stopped", "unknown"]
Ownership = Literal["this", "another", "nobody"]


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One link. What only its owner knows is null when that is another instance, or nobody."""

    name: str  # as the file has it
    state: str  # binding, bound, waiting, stopped; unbound while nobody owns it
    state_detail: str  # why, in a word or two
    state_for_s: float  # since it is in this state
    owner: Ownership  # this, another or nobody
    owner_instance: str  # "" for nobody
    epoch: int | None  # fencing number, one higher at each take-over
    beat: int | None  # the owner adds one every 2 s
    beat_age_s: float | None  # since another owner's beat was seen to move; null while it was not watched for 15 s
    in_file: bool  # false: the file no longer names it, and jobs still wait on it
    paused: bool  # by an operator
    sessions_bound: int | None  # of any kind
    sessions_configured: int | None  # of any kind
    window_in_use: int | None  # unanswered segments over all sessions
    window_size: int | None  # over all sessions
    segments_per_s: int | None  # written in the last 1.02 s, as the throttle counts
    limit_per_s: int | None  # in force; below the configured one after ESME_RTHROTTLED
    reserved_per_s: int | None  # of the limit in force, what only lane 0 may take
    configured_per_s: int | None  # segments a second that the file allows
    held_for_s: float | None  # nothing is written for so long yet: the SMSC said ESME_RTHROTTLED
    throttled_total: int | None  # answers ESME_RTHROTTLED since the daemon began
    unanswered_total: int | None  # segments written and not answered in time, since the daemon began
    uncertain_segments: int | None  # of them, still in doubt
    receipts_matched_total: int | None  # that named a segment of ours, repetitions left out, since the daemon began
    receipts_unmatched_total: int | None  # that named none
    receipts_per_s: float | None  # matched, over the last seconds; null until two looks lie a second apart


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """One lane over all links: jobs that may go now, those on the wire included until their outcome is written."""

    lane: int  # 0 is for emergencies
    categories: tuple[str, ...]  # that share it
    paused: tuple[str, ...]  # categories of it that are paused
    jobs: int | None  # that wait
    at_least: bool  # a link's lane holds 10,000 or more, and is counted no further
    oldest_s: float | None  # 0 while nothing waits


@dataclass(frozen=True, slots=True)
class EventStatus:
    """Events of one kind among the last ones, newest kind first."""

    type: str  # as in tocsin.event
    category: str  # "" where it has none
    reason: str  # "" where it has none; (withheld) where an SMSC wrote what may be a number
    events: int  # how many of the last 200
    age_s: float  # of the latest
    subject: str  # of the latest: a job id, for inbound.received the message's


@dataclass(frozen=True, slots=True)
class EmergencyStatus:
    """Whether lane 0 flows, and why not."""

    state: Flow  # flowing, late (lane 0's oldest waits more than 10 s), stopped, unknown
    reasons: tuple[str, ...]  # none while they flow


@dataclass(frozen=True, slots=True)
class Status:
    """The whole document."""

    at: str  # ISO 8601, UTC
    source: Literal["daemon", "database"]  # daemon; or database: none was asked, and what only it knows is null
    instance: str  # of the file
    version: str  # of the daemon
    started_at: str | None  # ISO 8601, UTC
    up_for_s: float | None  # since started_at
    ready: bool | None  # as /readyz says
    missing: tuple[str, ...]  # what keeps it from being ready
    emergencies: EmergencyStatus  # the verdict
    database: str  # up, or the problem
    schema: str  # current, or not yet seen
    read_age_s: float | None  # how old is what the database said: owners elsewhere, paused, lanes, doubt, events
    unsettled: int | None  # outcomes that are known and not yet in the database
    receipts_waiting: int | None  # receipts and replies read and not yet in the database
    uncertain_segments: int | None  # written, never answered, still in doubt; over all links
    paused_categories: tuple[str, ...]  # by operators
    links: tuple[LinkStatus, ...]  # in the order of the file
    lanes: tuple[LaneStatus, ...]  # 0 to 5
    events: tuple[EventStatus, ...]  # the last 200 by kind, 20 kinds at most

    def as_json(self) -> dict[str, Any]:
        """Give what ``json`` can write."""
        return asdict(self)


def emergencies(
    *,
    draining: bool,
    database: str,
    read_age_s: float | None,
    links: Sequence[LinkStatus],
    lanes: Sequence[LaneStatus],
) -> EmergencyStatus:
    """Judge whether an emergency that is enqueued now would leave at once."""
    stopped = []
    if draining:
        stopped.append("the daemon drains")
    if database != "up":
        stopped.append("the database does not answer")
    carrying = [link for link in links if link.state == "bound" and not link.paused and _lives(link) is not False]
    if not carrying:
        stopped.append("no link is bound and unpaused")
    urgent = next((lane for lane in lanes if lane.lane == 0), None)
    if urgent is not None and urgent.paused:
        stopped.append(f"paused: {', '.join(urgent.paused)}")
    if stopped:
        return EmergencyStatus("stopped", tuple(stopped))
    if not any(_lives(link) for link in carrying):
        return EmergencyStatus("unknown", (f"whether instance {carrying[0].owner_instance} lives shows in a moment",))
    if urgent is None or urgent.oldest_s is None or read_age_s is None:
        return EmergencyStatus("unknown", ("the queue has not been read yet",))
    if read_age_s > STALE_AFTER_S:
        return EmergencyStatus("unknown", (f"the queue was last read {read_age_s:.0f} s ago",))
    if urgent.oldest_s > LATE_AFTER_S:
        return EmergencyStatus("late", (f"the oldest has waited {urgent.oldest_s:.0f} s",))
    return EmergencyStatus("flowing", ())


def _lives(link: LinkStatus) -> bool | None:
    """Say whether the link's owner lives; None: another instance, which was not looked at long enough."""
    if link.owner == "another":
        return None if link.beat_age_s is None else link.beat_age_s < STALE_AFTER_S
    return link.owner == "this"


T = TypeVar("T")
_INNER: Final[Mapping[str, type]] = {"links": LinkStatus, "lanes": LaneStatus, "events": EventStatus}


def from_json(document: object) -> Status:
    """Read what ``as_json`` gave.

    Raises:
        ValueError: it is no status document of this version.

    """
    given = _named(Status, document)
    for name, kind in _INNER.items():
        if not isinstance(given[name], list):
            raise ValueError(f"{name} is no list")  # noqa: TRY004  # of the document, not of an argument
        given[name] = tuple(kind(**_named(kind, entry)) for entry in given[name])
    given["emergencies"] = EmergencyStatus(**_named(EmergencyStatus, given["emergencies"]))
    return Status(**given)


def _named(kind: type, value: object) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or not names <= value.keys():
        raise ValueError(f"no {kind.__name__}")
    return {
        name: tuple(entry) if isinstance(entry := value[name], list) and name not in _INNER else entry for name in names
    }
