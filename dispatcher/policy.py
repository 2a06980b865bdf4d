"""Whether a claimed job may go: pure decisions with one reason code each, in the order of the gates.

A job passes here once a claim, before it takes a token or a slot. What decides is in the job and its flags; its
clock is the claim's own (``expires_at`` was set from the database's clock when the job was claimed). Hours alone are
of the daemon's wall clock; ``dispatcher/windows.py`` knows them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.job import Job
    from dispatcher.windows import Hours

# a segment that reaches the SMSC with less life than this is not worth its price
LEAST_LIFE_S = 1.0


@dataclass(frozen=True, slots=True)
class Send:
    """It may go now, and is written before both of these (monotonic): when its window closes, when its day is over."""

    until: float = math.inf
    day_until: float = math.inf  # of one that was counted as sent on that day


@dataclass(frozen=True, slots=True)
class Defer:
    """It may go later: why it waits, and how long until it is looked at again."""

    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """It will never go: the closed state and its one reason."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """What the journey asks of a category, as the database has it."""

    max_parts: int = 255
    stop_applies: bool = True  # a STOP blocks it
    paused: bool = False  # by an operator


Decision = Send | Defer | Stop

SEND = Send()
EXPIRED = Stop("expired", "EXPIRED")
EXPIRED_BY_WINDOW = Stop("expired", "EXPIRED_BY_WINDOW")
CONSENT = frozenset({"CONSENT_MISSING", "CONSENT_REVOKED"})  # of a category that asks for it
# Reasons that bind every category, those that a STOP does not reach too; `tocsin.binds_all` has the same.
BINDS_ALL = frozenset({"WRONG_PERSON", "REASSIGNED", "INVALID", "LANDLINE", "DECEASED", "CARRIER_BLOCK"})
# Those of them by which nothing would arrive: they alone bind the answer to who has just texted, whoever that is.
REACHES_NOBODY = frozenset({"INVALID", "LANDLINE", "CARRIER_BLOCK"})
PAUSED = Defer("PAUSED", 30.0)


def before_send(
    job: Job, rules: CategoryRules, now: float, hours: Hours | None = None, utc_now: float = 0.0
) -> Decision:
    """Decide about one claimed job; ``now`` is monotonic, ``utc_now`` the same instant as ``hours`` has them."""
    if job.expires_at - now < LEAST_LIFE_S:
        return EXPIRED
    if job.suppressed in CONSENT:
        return Stop("blocked", job.suppressed)
    if job.suppressed and (
        rules.stop_applies or job.suppressed in (REACHES_NOBODY if job.category == "reply" else BINDS_ALL)
    ):
        return Stop("blocked", f"SUPPRESSED_{job.suppressed}")
    if rules.paused:
        return PAUSED
    if hours is None:
        return SEND
    wait_s = hours.until - utc_now
    if hours.is_open:
        return Send(now + wait_s)
    if job.expires_at - (now + wait_s) < LEAST_LIFE_S:
        return EXPIRED_BY_WINDOW
    return Defer("WINDOW_CLOSED", wait_s)
