"""The daemon and what it needs beforehand: run, migrate, apply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from config.settings import load
from dispatcher import daemon, log, migrate
from dispatcher.apply import apply as apply_settings
from dispatcher.commands.terminal import DONE, config_option, connected, json_option, load_settings, print_json
from dispatcher.roles import grant_roles

try:
    import uvloop
except ImportError:  # no wheel for this platform
    LOOP_FACTORY: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    LOOP_FACTORY = uvloop.new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command(epilog="Example: tocsin run --config /etc/tocsin/1.toml")
@config_option
def run(path: str) -> int:
    """Run the daemon until SIGTERM, which drains it."""
    settings = load_settings(path)
    log.configure()
    with asyncio.Runner(loop_factory=LOOP_FACTORY) as runner:
        return runner.run(daemon.run(settings))


@click.command("migrate", epilog="Example: tocsin migrate --roles")
@config_option
@json_option
@click.option("--roles", "with_roles", is_flag=True, help="Make the roles of the cluster and grant them their rights.")
def migrate_command(path: str, *, as_json: bool, with_roles: bool) -> int:
    """Bring the schema to this version."""
    settings = load(path)

    async def work() -> tuple[list[str], list[str] | None]:
        async with connected(settings) as connection:
            applied = await migrate.migrate(connection.raw)
            return applied, await grant_roles(connection) if with_roles else None

    applied, made = asyncio.run(work())
    if as_json:
        print_json({"applied": applied, "granted": made is not None, "roles_made": made or []})
        return DONE
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the schema is current")
    if made is None:
        click.echo("no roles were made and nothing was granted: that takes --roles")
    else:
        click.echo(f"roles made: {', '.join(made) or 'none was missing'}; rights granted")
    return DONE


@click.command(epilog="Example: tocsin apply --config /etc/tocsin/1.toml")
@config_option
@json_option
def apply(path: str, *, as_json: bool) -> int:
    """Put links, senders, routes and categories of the file into the database."""
    settings = load_settings(path)

    async def work() -> bool:
        async with connected(settings) as connection:
            await migrate.check(connection.raw)
            return await apply_settings(connection, settings)

    changed = asyncio.run(work())
    if as_json:
        print_json({"changed": changed, "sha256": settings.sha256})
    else:
        click.echo("applied" if changed else "nothing to change")
    return DONE
