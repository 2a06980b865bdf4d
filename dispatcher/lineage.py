"""Which history of the database a daemon works on: its cluster and its timeline.

A standby that is promoted goes on under a timeline of its own. If it followed asynchronously it lacks what the old
primary committed last, and its sequences hand the same ids out again. So what a daemon holds in memory is true of one
lineage only. Each connection asks for it; where it differs, the daemon begins again, and `failover.py` accounts for
what the local record knows and the new primary may have forgotten. The file ``lineage`` in the state directory names
the lineage on which everything was accounted for, also across a restart.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from dispatcher.errors import StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from dispatcher.store import Connection

FILE = "lineage"


class Lineage(NamedTuple):
    """A cluster and the timeline that it writes."""

    system: str  # pg_control_system's identifier, made by initdb
    timeline: str  # eight hexadecimal digits; a promotion begins a new one


async def lineage_of(connection: Connection) -> Lineage:
    """Ask a server for its lineage.

    Raises:
        StoreUnavailable: it takes no writes: a standby, or a database that was made read-only.

    """
    row = await connection.fetchrow("lineage")
    assert row is not None
    if not row["timeline"]:
        raise StoreUnavailable("a standby answers, which takes no writes")
    if row["read_only"]:
        raise StoreUnavailable("the database is read-only")
    return Lineage(row["system"], row["timeline"])


def accounted(state_directory: Path) -> Lineage | None:
    """Read on which lineage everything was accounted for; None where that is not known."""
    with contextlib.suppress(OSError, ValueError):
        words = (state_directory / FILE).read_text(encoding="ascii").split()
        if len(words) == 2:
            return Lineage(*words)
    return None


def note_accounted(state_directory: Path, lineage: Lineage) -> None:
    """Keep it over a loss of power, whole or not at all.

    Raises:
        OSError: it could not be written; the next start accounts for everything once more.

    """
    unfinished = state_directory / f"{FILE}.new"
    with unfinished.open("w", encoding="ascii") as file:
        file.write(f"{lineage.system} {lineage.timeline}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(state_directory / FILE)
