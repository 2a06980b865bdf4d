"""What operators do by hand: pause and resume a link or a category, send what is in doubt again.

Each change is written to ``tocsin.operator_log`` with the person, the database user and the reason, in the
transaction that makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

from config.settings import load
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    USAGE,
    Stopped,
    check_text,
    config_option,
    confirm,
    connected,
    json_option,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from dispatcher.store import Connection

T = TypeVar("T")

LONGEST_REASON = 500  # characters

kind_argument = click.argument("kind", type=click.Choice(["link", "category"]))
name_argument = click.argument("name")
reason_option = click.option("--reason", default="", metavar="WHY", help="Kept in the audit log; no message text.")
yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")


@click.command(epilog='Example: tocsin pause link carrier-a --yes --reason "carrier maintenance until 14:00"')
@config_option
@json_option
@kind_argument
@name_argument
@reason_option
@yes_option
def pause(path: str, kind: str, name: str, reason: str, *, yes: bool, as_json: bool) -> int:
    """Let nothing more of a link or a category go out. Jobs wait and may expire; receipts and replies still come in.

    What stops emergencies is asked for once more, or needs --yes.
    """

    async def work(connection: Connection) -> str:
        row = await connection.fetchrow("lane_of_category", name) if kind == "category" else None
        if kind == "link" or (row is not None and row["lane"] == 0):
            confirm(f"pausing {kind} {name} stops its emergencies too", yes=yes)
        return await _set_paused(connection, kind, name, reason, paused=True)

    return _tell(_run(path, reason, work, name), kind, name, "paused", as_json=as_json)


@click.command(epilog="Example: tocsin resume link carrier-a")
@config_option
@json_option
@kind_argument
@name_argument
@reason_option
def resume(path: str, kind: str, name: str, reason: str, *, as_json: bool) -> int:
    """Let a paused link or category go on. Jobs of a category are all back within half a minute."""

    async def work(connection: Connection) -> str:
        return await _set_paused(connection, kind, name, reason, paused=False)

    return _tell(_run(path, reason, work, name), kind, name, "resumed", as_json=as_json)


@click.command(epilog='Example: tocsin requeue 4711 --yes --reason "carrier says it never arrived"')
@config_option
@json_option
@click.argument("job_ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, 2**63 - 1))
@click.option("--link", metavar="NAME", help="Every job in doubt on this link.")
@reason_option
@yes_option
def requeue(path: str, job_ids: tuple[int, ...], link: str | None, reason: str, *, yes: bool, as_json: bool) -> int:
    """Send jobs that are `uncertain` once more. The SMSC may have taken them: a recipient may get them twice."""
    if bool(job_ids) == (link is not None):
        raise click.UsageError("name either jobs or --link")

    async def work(connection: Connection) -> dict[int, str]:
        if link is None:
            confirm(f"{len(job_ids)} jobs may reach their recipients twice", yes=yes)
            return await _requeue(connection, job_ids, reason)
        row = await connection.fetchrow("count_doubt", link)
        assert row is not None
        if row["jobs"]:
            confirm(f"{row['jobs']} jobs ({row['segments']} segments) may reach their recipients twice", yes=yes)
        return await _requeue_link(connection, link, row["jobs"], reason)

    outcomes = _run(path, reason, work, link)
    if as_json:
        print_json([{"job_id": number, "outcome": outcome} for number, outcome in outcomes.items()])
    elif link is not None:
        click.echo(f"{sum(outcome == 'requeued' for outcome in outcomes.values())} jobs requeued")
    else:
        for number, outcome in outcomes.items():
            click.echo(f"{number} {outcome}")
    return DONE if link is not None or set(outcomes.values()) == {"requeued"} else REFUSED


def _run(path: str, reason: str, work: Callable[[Connection], Coroutine[None, None, T]], name: str | None) -> T:
    """Do it over a connection to the file's database."""
    settings = load(path)
    check_text("NAME", name)
    check_text("--reason", reason)
    if len(reason) > LONGEST_REASON:
        raise Stopped(USAGE, f"--reason: at most {LONGEST_REASON} characters")

    async def connect_and_work() -> T:
        async with connected(settings) as connection:
            return await work(connection)

    return asyncio.run(connect_and_work())


async def _set_paused(connection: Connection, kind: str, name: str, reason: str, *, paused: bool) -> str:
    row = await connection.fetchrow("set_paused", kind, name, paused, reason, person())
    assert row is not None
    return str(row["outcome"])


def _tell(outcome: str, kind: str, name: str, done: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"kind": kind, "name": name, "outcome": outcome})
    elif outcome == "unknown":
        raise Stopped(REFUSED, f'there is no {kind} "{name}"')
    else:
        click.echo(done if outcome == "changed" else f"was {done} already")
    return REFUSED if outcome == "unknown" else DONE


async def _requeue(connection: Connection, job_ids: Iterable[int], reason: str) -> dict[int, str]:
    """Requeue each in a transaction of its own; gives the outcome of each."""
    outcomes: dict[int, str] = {}
    for number in job_ids:
        row = await connection.fetchrow("requeue", number, reason, person())
        assert row is not None
        outcomes[number] = str(row["outcome"])
    return outcomes


async def _requeue_link(connection: Connection, link: str, jobs: int, reason: str) -> dict[int, str]:
    """Requeue all that a link has in doubt, oldest first, with a progress bar on a terminal."""
    outcomes: dict[int, str] = {}
    after = 0
    with Progress(console=Console(stderr=True), transient=True, disable=not os.isatty(2)) as progress:
        task = progress.add_task(f"requeue {link}", total=jobs)
        while rows := await connection.fetch("uncertain_of_link", link, after):
            for row in rows:
                outcomes |= await _requeue(connection, (row["id"],), reason)
                progress.advance(task)
            after = rows[-1]["id"]
    return outcomes


def person() -> str:
    """Who is at the keyboard, as far as this machine knows: behind sudo the one who called it."""
    with contextlib.suppress(OSError, KeyError):  # a user id without a name
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return str(os.getuid())
