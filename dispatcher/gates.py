"""What stands between one message and its recipient now: the database's gates, and hours and caps by the file.

``tocsin.check`` says which window and which cap bind a message; what they come to is decided by the recipient's own
clock, here as by a daemon at the claim. Nothing is sent, and nothing is counted.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dispatcher.caps import Caps
from dispatcher.job import Batch, Job
from dispatcher.policy import LEAST_LIFE_S, CategoryRules, Defer, Send, before_send
from dispatcher.windows import Windows, zones_of_job
from dispatcher.zones import zones_of

if TYPE_CHECKING:
    from config.caps import CapSettings
    from config.settings import Settings
    from config.windows import WindowSettings
    from dispatcher.policy import Decision
    from dispatcher.store import Connection

BY_THE_CLOCK = frozenset({"window", "cap"})  # steps that the database leaves open


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that is looked at, as a row of ``tocsin.check``."""

    step: str
    verdict: str  # passes, waits; refused, blocked, expired: it would not go
    reason: str | None
    detail: dict[str, object]


async def gates(
    connection: Connection,
    settings: Settings,
    recipient: str,
    category: str,
    sender: str | None,
    zone: str | None,
    utc_now: float,
) -> list[Gate]:
    """Give every gate of a message that would be claimed now, in order; ``zone`` is the app's word (options.tz).

    Raises:
        StoreUnavailable: the database is away.

    """
    rows = await connection.fetch("check_recipient", recipient, category, sender)
    found = [
        Gate(row["step"], row["verdict"], row["reason"], json.loads(row["detail"] or "{}"))
        for row in rows
        if row["step"] not in BY_THE_CLOCK
    ]
    if len(found) == len(rows):  # refused before it came to them
        return found
    lives_s = next((one.time_to_live_s for one in settings.categories if one.name == category), math.inf)
    job = _message(recipient.lstrip("+"), category, zone, utc_now + lives_s)
    windows, caps = Windows(settings.windows), Caps(settings.caps)
    hours = windows.hours(job, utc_now, LEAST_LIFE_S)
    by_hours = before_send(job, CategoryRules(), utc_now, hours, utc_now) if hours is not None else None
    by_cap = await caps.look(connection, job, windows, utc_now, utc_now)
    return [
        *found,
        _gate("window", job, windows.window(job), by_hours, utc_now),
        _gate("cap", job, caps.cap(job), by_cap, utc_now),
    ]


def _message(number: str, category: str, zone: str | None, expires_at: float) -> Job:
    """A job as it would be claimed; what no clock asks for is left empty."""
    return Job(
        id=0,
        link="",
        lane=0,
        epoch=0,
        batch=Batch(0, 0),
        recipient=number,
        sender="",
        body="",
        category=category,
        flash=False,
        options=None if zone is None else json.dumps({"tz": zone}),
        attempt=1,
        resends=0,
        parts=1,
        done=0,
        enqueued_us=0,
        expires_at=expires_at,
        due_at=0.0,
    )


def _gate(
    step: str, job: Job, rule: WindowSettings | CapSettings | None, decision: Decision | None, now: float
) -> Gate:
    """Say what the rule comes to, until when that holds where the recipient is, and by what that is known."""
    if rule is None or decision is None:
        return Gate(step, "passes", None, {})
    zones = zones_of_job(job, rule.zone)
    by = "tz" if job.options is not None else "number" if zones_of(job.recipient) else "file"
    detail: dict[str, object] = {"zones": list(zones), "zones_by": by}
    detail |= {key: value for key, value in asdict(rule).items() if key not in {"categories", "zone"} and value}
    match decision:
        case Send(until, day_until):
            return Gate(step, "passes", None, _until(min(until, day_until), zones) | detail)
        case Defer(reason, delay_s):
            return Gate(step, "waits", reason, _until(now + delay_s, zones) | detail)
    return Gate(step, decision.state, decision.reason, detail)


def _until(at: float, zones: tuple[str, ...]) -> dict[str, object]:
    """An instant by the clock of the first zone; none that never comes."""
    return {} if at == math.inf else {"until": datetime.fromtimestamp(at, ZoneInfo(zones[0])).isoformat("T", "seconds")}
