"""SIGHUP: what of a changed file can be taken over while the daemon runs, and what has to wait for a restart.

Senders, routes, categories and links are rows that apps and daemons read: they are applied at once. A link's rate,
window, deadlines and whatever is looked up for each segment hold from the next segment on, in the sessions that are
bound. What a bind or the cutting of texts depends on closes that one link in order and binds it anew. A link that is
added is taken as any free link; one that is removed is closed and given back, and its waiting jobs stay under its
name. No other link is touched. The daemon's own deadlines, the database and the listener are held by what runs: they
are named, and stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import structlog

from config.reader import ConfigError
from config.settings import LinkSettings, Settings, load
from dispatcher.apply import apply
from dispatcher.errors import StoreUnavailable
from dispatcher.keywords import refuse_collisions
from dispatcher.store import connect

if TYPE_CHECKING:
    from collections.abc import Iterator


log = structlog.get_logger()

LIVE = frozenset(  # of a link: looked up at each use, or told to the sessions that are bound
    {
        "throughput_per_s", "window_size", "response_timeout_s", "enquire_link_s", "bind_timeout_s", "rebind_delay_s",
        "receipts", "message_id_format", "text_receipts", "validity", "service_type", "priority_flag", "tlv",
        "status_overrides", "receipt_errors", "source_ton", "source_npi", "dest_ton", "dest_npi",
        "plaintext_acknowledged", "flash_fallback",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What the running daemon goes on with."""

    settings: Settings  # the file's, but for what waits
    added: tuple[LinkSettings, ...]
    changed: tuple[LinkSettings, ...]  # live
    bound_anew: tuple[LinkSettings, ...]
    removed: tuple[str, ...]
    waiting: tuple[str, ...]  # keys of the file that need a restart; never a value


async def reload(running: Settings, url: str) -> Reloaded | None:
    """Read the file again and apply its rows; None where nothing was changed."""
    try:
        reloaded = compared(running, load(running.path))
        refuse_collisions(reloaded.settings)
        connection = await connect(url)
        try:
            rows_changed = await apply(connection, reloaded.settings)
        finally:
            await connection.close()
    except (ConfigError, StoreUnavailable) as error:
        log.error("reload_refused", problem=str(error))
        return None
    log.info(
        "reload_applied",
        changed=rows_changed,
        added=[link.name for link in reloaded.added],
        live=[link.name for link in reloaded.changed],
        bound_anew=[link.name for link in reloaded.bound_anew],
        removed=list(reloaded.removed),
    )
    if reloaded.waiting:
        log.warning("reload_needs_restart", settings=list(reloaded.waiting))
    return reloaded


def compared(running: Settings, file: Settings) -> Reloaded:
    """What follows from the file for a daemon that runs on these settings."""
    before = {link.name: link for link in running.links}
    changes = {link.name: set(_changed(before[link.name], link)) for link in file.links if link.name in before}
    return Reloaded(
        settings=replace(file, daemon=running.daemon, database=running.database, http=running.http),
        added=tuple(link for link in file.links if link.name not in before),
        changed=tuple(link for link in file.links if changes.get(link.name) and changes[link.name] <= LIVE),
        bound_anew=tuple(link for link in file.links if changes.get(link.name, set()) - LIVE),
        removed=tuple(name for name in before if name not in changes),
        waiting=tuple(
            f"{table} {key}"
            for table, one, other in (
                ("[daemon]", running.daemon, file.daemon),
                ("[database]", running.database, file.database),
                ("[http]", running.http, file.http),
            )
            for key in _changed(one, other)
        ),
    )


def _changed(before: Any, after: Any) -> Iterator[str]:
    for item in fields(before):
        if getattr(before, item.name) != getattr(after, item.name):
            yield item.name
