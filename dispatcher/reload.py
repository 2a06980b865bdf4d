"""SIGHUP: what of a changed file can be taken over while the daemon runs, and what has to wait for a restart.

Senders, routes and categories are rows that apps and daemons read: they are applied at once, and so is a link's rate.
Its other settings, the database, the listener and the daemon's own deadlines are held by what runs: they are named, and
stay as they are. Where links were added or removed, senders and routes wait too, since they name links.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import structlog

from config.reader import ConfigError
from config.settings import load
from dispatcher.apply import apply
from dispatcher.errors import StoreUnavailable
from dispatcher.store import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.settings import LinkSettings, Settings

log = structlog.get_logger()

LIVE = ("throughput_per_s",)  # of a link: taken over by the session that is bound


async def reload(running: Settings, url: str) -> tuple[Settings, list[str]] | None:
    """Read the file again and apply it; gives what ``applicable`` gives, or None where nothing was changed."""
    try:
        file = load(running.path)
        taken, waiting = applicable(running, file)
        connection = await connect(url)
        try:
            changed = await apply(connection, taken)
        finally:
            await connection.close()
    except (ConfigError, StoreUnavailable) as error:
        log.error("reload_refused", problem=str(error))
        return None
    log.info("reload_applied", changed=changed)
    if waiting:
        log.warning("reload_needs_restart", settings=waiting)
    return taken, waiting


def applicable(running: Settings, file: Settings) -> tuple[Settings, list[str]]:
    """Give the settings to run on with, and the keys of the file that need a restart (never a value)."""
    waiting = [
        *_changed("[daemon]", running.daemon, file.daemon),
        *_changed("[database]", running.database, file.database),
        *_changed("[http]", running.http, file.http),
        *_links(running, file),
    ]
    taken = replace(running, categories=file.categories, links=tuple(_with_live(running, file)))
    if {link.name for link in running.links} == {link.name for link in file.links}:
        taken = replace(taken, senders=file.senders, routes=file.routes)
    else:
        waiting += [
            table
            for table, before, after in (
                ("[[sender]]", running.senders, file.senders),
                ("[[route]]", running.routes, file.routes),
            )
            if before != after
        ]
    if not waiting:
        taken = replace(taken, sha256=file.sha256)  # the rows come from exactly this file
    return taken, waiting


def _with_live(running: Settings, file: Settings) -> Iterator[LinkSettings]:
    """Give the links that run, with what of the file needs no new bind."""
    after = {link.name: link for link in file.links}
    for link in running.links:
        same = after.get(link.name, link)
        yield replace(link, **{name: getattr(same, name) for name in LIVE})


def _links(running: Settings, file: Settings) -> Iterator[str]:
    before = {link.name: link for link in _with_live(running, file)}
    after = {link.name: link for link in file.links}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f'[[link]] "{name}" removed'
        elif name not in before:
            yield f'[[link]] "{name}" added'
        else:
            yield from _changed(f'[[link]] "{name}"', before[name], after[name])
    if before.keys() == after.keys() and list(before) != list(after):
        yield "[[link]] order"


def _changed(table: str, before: Any, after: Any) -> Iterator[str]:
    for item in fields(before):
        if getattr(before, item.name) != getattr(after, item.name):
            yield f"{table} {item.name}"
