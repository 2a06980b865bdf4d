"""Runs a command of Tocsin and kills this very process, with SIGKILL, at a named point of its work.

    python -m tests.journey.kill_points --at claim-committed --told FILE run --config tocsin.toml

The product knows nothing of it: the functions that a point names are wrapped here. ``before`` dies when the function is
called, ``after`` as soon as it has returned and before the caller's next line. The point's name goes into FILE first, so
that who started it can tell a death at the point from any other. Without ``--at`` nothing dies. ``--drain-at`` names the
point at which the daemon gets its SIGTERM.

Chores of the upkeep come each 0.2 s, so that no point has to be waited for.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from dispatcher.cli import main
from dispatcher.daemon import Daemon
from dispatcher.metrics import DispatcherMetrics
from dispatcher.next_link import NextLink
from dispatcher.ownership import Owner
from dispatcher.record import Record
from dispatcher.store import Connection
from dispatcher.upkeep import Upkeep
from gateway.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

CHORES_S = 0.2
SUBMIT_SM, DELIVER_SM_RESP = 0x00000004, 0x80000005
COMMAND_ID = slice(4, 8)  # of a PDU


class Point(NamedTuple):
    """Where to die: before or after this function, at the first call that counts."""

    where: type
    function: str
    after: bool
    counts: Callable[[tuple[Any, ...], Any], object]  # arguments without self, and what was returned


def before(where: type, function: str, counts: Callable[[tuple[Any, ...]], object] = lambda _: True) -> Point:
    """Die when it is called."""
    return Point(where, function, after=False, counts=lambda arguments, _: counts(arguments))


def after(where: type, function: str, counts: Callable[[tuple[Any, ...]], object] = lambda _: True) -> Point:
    """Die when it has returned."""
    return Point(where, function, after=True, counts=lambda arguments, _: counts(arguments))


def unsent(query: str) -> Point:
    """Die before this named query goes to the database; a chore that has no link yet is not meant."""
    return before(Connection, "fetch", lambda arguments: arguments[0] == query and "{}" not in arguments[1:2])


def answered(query: str) -> Point:
    """Die when the database has answered this named query with a row; outside a transaction it is committed."""
    return Point(Connection, "fetch", after=True, counts=lambda arguments, rows: arguments[0] == query and rows)


def done(query: str) -> Point:
    """The same for a query that returns no rows."""
    return after(Connection, "fetch", lambda arguments: arguments[0] == query)


def migration(part: str, *, after: bool = False) -> Point:
    """Die before or after the driver sends the SQL that holds these words."""
    return Point(asyncpg.Connection, "execute", after=after, counts=lambda arguments, _: part in arguments[0])


def _carries(command_id: int) -> Callable[[tuple[Any, ...]], bool]:
    return lambda arguments: int.from_bytes(arguments[0][COMMAND_ID]) == command_id


POINTS = {
    # a job's way out
    "claim-unsent": unsent("claim"),
    "claim-committed": answered("claim"),
    "written-recorded": after(Record, "written"),
    "written": after(Transport, "_send", _carries(SUBMIT_SM)),
    "answer-unrecorded": before(Record, "answered"),
    "answer-recorded": after(Record, "answered"),
    "settle-unsent": unsent("settle"),
    "settle-committed": answered("settle"),
    # a take-over, and what became of doubt
    "owner-unsent": unsent("own_link"),
    "owner-uncommitted": answered("own_link"),
    "owner-committed": before(Owner, "_account"),
    "journal-kept": unsent("forget_journal"),
    "journal-forgotten": done("forget_journal"),
    "recovery-unrecorded": before(Record, "recovered"),
    "recovery-recorded": after(Record, "recovered"),
    "late-unsent": unsent("settle_orphans"),
    "late-committed": answered("settle_orphans"),
    "resend-unsent": unsent("resend"),
    "resend-committed": answered("resend"),
    # by the clock
    "promotion-unsent": unsent("promote"),
    "promotion-committed": answered("promote"),
    "expiry-unsent": unsent("expire"),
    "expiry-uncommitted": done("named"),
    "expiry-committed": before(DispatcherMetrics, "count_job", lambda arguments: arguments[1] == "expired"),
    "drop-unsent": unsent("drop_partition"),
    "drop-committed": Point(
        Connection, "fetch", after=True, counts=lambda arguments, rows: arguments[0] == "drop_partition" and rows[0][0]
    ),
    # to the next link
    "move-unsent": unsent("move_waiting"),
    "move-uncommitted": done("named"),
    "move-committed": before(NextLink, "_tell", lambda arguments: arguments[1]),
    # the drain
    "drain-begun": after(Daemon, "stop"),
    "release-unsent": unsent("release"),
    "release-committed": done("release"),
    "disown-unsent": unsent("disown"),
    "disown-committed": done("disown"),
    # what the SMSC delivers
    "receipt-unsent": unsent("keep_receipts"),
    "receipt-kept": answered("keep_receipts"),
    "receipt-unapplied": unsent("apply_receipts"),
    "receipt-applied": answered("apply_receipts"),
    "receipt-parked": answered("park_receipts"),
    "receipt-dropped": done("drop_taken"),
    "reply-unsent": unsent("store_inbound"),
    "reply-committed": answered("store_inbound"),
    "reply-acknowledged": after(Record, "acknowledged"),
    "delivery-answered": after(Transport, "_send", _carries(DELIVER_SM_RESP)),
    # commands
    "migration-begun": migration("create schema"),
    "migration-between": migration("operator_log"),
    "migration-inside": migration("operator_log", after=True),
    "migration-unnoted": migration("insert into tocsin.migration"),
    "apply-begun": done("apply_links"),
    "apply-uncommitted": done("apply_note"),
    "cancel-unsent": unsent("cancel"),
    "cancel-committed": answered("cancel"),
}


def die(name: str, told: Path) -> None:
    """SIGKILL to this process."""
    told.write_text(name, encoding="ascii")
    os.kill(os.getpid(), signal.SIGKILL)


def arm(name: str, nth: int, act: Callable[[], None]) -> None:
    """Wrap the function of a point, so that this is done at the n-th call that counts."""
    point = POINTS[name]
    original = getattr(point.where, point.function)
    passed = 0

    def reach(arguments: tuple[Any, ...], result: object) -> None:
        nonlocal passed
        passed += bool(point.counts(arguments, result))
        if passed == nth:
            act()

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def deadly(self: object, *arguments: Any, **named: Any) -> object:
            if not point.after:
                reach(arguments, None)
            result = await original(self, *arguments, **named)
            if point.after:
                reach(arguments, result)
            return result
    else:

        @functools.wraps(original)
        def deadly(self: object, *arguments: Any, **named: Any) -> object:
            if not point.after:
                reach(arguments, None)
            result = original(self, *arguments, **named)
            if point.after:
                reach(arguments, result)
            return result

    setattr(point.where, point.function, deadly)


def hurry() -> None:
    """Let each chore come often."""
    chores = Upkeep._chores
    Upkeep._chores = lambda self: [(name, min(every_s, CHORES_S), chore) for name, every_s, chore in chores(self)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run a command of Tocsin, and die at a named point.")
    parser.add_argument("--at", choices=POINTS, metavar="POINT")
    parser.add_argument("--nth", type=int, default=1, help="die at the n-th time")
    parser.add_argument("--drain-at", choices=POINTS, metavar="POINT", help="begin to drain there, as at a SIGTERM")
    parser.add_argument("--told", type=Path, metavar="FILE", help="gets the point's name")
    chosen, command = parser.parse_known_args()
    hurry()
    if chosen.drain_at:
        arm(chosen.drain_at, 1, functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    if chosen.at:
        arm(chosen.at, chosen.nth, functools.partial(die, chosen.at, chosen.told))
    main(command)
