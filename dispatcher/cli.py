"""The command ``tocsin``.

Exit codes: 0 done (also duplicate, deferred); 1 refused, a finding, unknown, too late; 2 usage or
configuration; 3 database, schema or state directory. What a user can cause is one line on stderr, never a
traceback, and never the content of a row: the text of database errors is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import click

from config.reader import ConfigError
from config.settings import load
from dispatcher import daemon, demo, embedded, log, migrate
from dispatcher import enqueue as queue
from dispatcher.apply import apply as apply_settings
from dispatcher.errors import DispatcherError, StoreUnavailable
from dispatcher.roles import grant_roles
from dispatcher.store import connect

try:
    import uvloop
except ImportError:  # no wheel for this platform
    LOOP_FACTORY: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    LOOP_FACTORY = uvloop.new_event_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from config.settings import Settings
    from dispatcher.store import Connection

DONE, REFUSED, USAGE, UNUSABLE = range(4)
INTERRUPTED = 130  # as shells report SIGINT
EMBEDDED_DATABASE = "tocsin"
FURTHEST_DAYS = 3650
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

# SQLSTATE, or its class of two characters: what a person can do about it
REMEDIES = {
    "08": "the connection broke",
    "28": "this user may not log in, or the password is wrong",
    "3D000": "there is no such database",
    "3F000": "the schema tocsin is missing: run `tocsin migrate`",
    "42501": "this user lacks a privilege: see `tocsin migrate --roles`",
    "42703": "the schema is older than this version: run `tocsin migrate`",
    "42883": "the schema is older than this version: run `tocsin migrate`",
    "42P01": "the schema is missing or older than this version: run `tocsin migrate`",
    "53": "the server is out of connections, memory or disk",
    "55P03": "another open transaction holds the same row or key: try again",
    "57": "the server is stopping, starting, or was told to end the statement",
}


class Stopped(Exception):
    """The command ends here, with an exit code and one line."""

    def __init__(self, code: int, problem: str) -> None:
        self.code = code
        self.problem = problem
        super().__init__(problem)


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read a number and a unit: 90s, 15m, 2h, 1d. Gives seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", value, re.ASCII)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= FURTHEST_DAYS * SECONDS["d"]:
        raise click.BadParameter(f"{value!r} is no duration: write 90s, 15m, 2h or 1d, at most {FURTHEST_DAYS}d")
    return seconds


def _instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Read ISO 8601; without an offset it is this machine's local time."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no instant: write 2030-12-31T09:00:00Z") from None


config_option = click.option(
    "--config",
    "path",
    default="tocsin.toml",
    envvar="TOCSIN_CONFIG",
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
job_argument = click.argument("job_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    sys.exit(invoke(arguments))


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        return int(tocsin.main(args=arguments, prog_name="tocsin", standalone_mode=False) or DONE)
    except click.ClickException as error:
        return _say(USAGE, error.format_message())
    except click.Abort:
        return INTERRUPTED
    except ConfigError as error:
        return _say(USAGE, str(error))
    except Stopped as error:
        return _say(error.code, error.problem)
    except Exception as error:
        return _say(REFUSED, f"a fault of ours: {' '.join(log.failure(error).values())} at {log.place(error)}")


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def tocsin() -> None:
    """SMPP gateway and dispatch daemon: emergencies first, nothing lost, nothing silently doubled."""


@tocsin.command()
@config_option
def run(path: str) -> int:
    """Run the daemon until SIGTERM, which drains it."""
    settings = _load(path)
    log.configure()
    with asyncio.Runner(loop_factory=LOOP_FACTORY) as runner:
        return runner.run(daemon.run(settings))


@tocsin.command("migrate")
@config_option
@json_option
@click.option("--roles", "with_roles", is_flag=True, help="Make the roles of the cluster and grant them their rights.")
def migrate_command(path: str, *, as_json: bool, with_roles: bool) -> int:
    """Bring the schema to this version."""
    settings = load(path)

    async def work() -> tuple[list[str], list[str] | None]:
        async with _connected(settings) as connection:
            applied = await migrate.migrate(connection.raw)
            return applied, await grant_roles(connection) if with_roles else None

    applied, made = asyncio.run(work())
    if as_json:
        _print_json({"applied": applied, "granted": made is not None, "roles_made": made or []})
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


@tocsin.command()
@config_option
@json_option
def apply(path: str, *, as_json: bool) -> int:
    """Put links, senders, routes and categories of the file into the database."""
    settings = _load(path)

    async def work() -> bool:
        async with _connected(settings) as connection:
            await migrate.check(connection.raw)
            return await apply_settings(connection, settings)

    changed = asyncio.run(work())
    if as_json:
        _print_json({"changed": changed, "sha256": settings.sha256})
    else:
        click.echo("applied" if changed else "nothing to change")
    return DONE


@tocsin.command()
@config_option
@json_option
@click.argument("recipient", metavar="TO")
@click.argument("text")
@click.option("--category", metavar="C", help="[default: transactional]")
@click.option("--sender", metavar="S", help="[default: the first that allows the category]")
@click.option("--flash", is_flag=True, help="Show it on the display at once.")
@click.option(
    "--key", metavar="K", help="Idempotency key: the same request again is a duplicate, not a second message."
)
@click.option("--not-before", callback=_instant, metavar="T", help="ISO 8601; without offset it is local time.")
@click.option(
    "--expires-in",
    callback=_duration,
    metavar="D",
    help="90s, 15m, 2h, 1d, from when it is due. With --key each call is another request.",
)
def enqueue(
    path: str,
    recipient: str,
    text: str,
    category: str | None,
    sender: str | None,
    key: str | None,
    not_before: datetime | None,
    expires_in: float | None,
    *,
    flash: bool,
    as_json: bool,
) -> int:
    """Enqueue one message. TEXT "-" reads it from standard input, which other users cannot list."""
    settings = load(path)
    body = _from_stdin() if text == "-" else text
    for name, value in (
        ("TO", recipient),
        ("TEXT", body),
        ("--category", category),
        ("--sender", sender),
        ("--key", key),
    ):
        _check_text(name, value)

    async def work() -> queue.Enqueued:
        async with _connected(settings) as connection:
            return await queue.enqueue(
                connection,
                recipient,
                body,
                category=category,
                sender=sender,
                idempotency_key=key,
                not_before=not_before,
                expires_in_s=expires_in,
                flash=flash,
            )

    result = asyncio.run(work())
    if as_json:
        _print_json({"job_id": result.job_id, "outcome": result.outcome, "reason": result.reason})
    elif result.job_id is None:
        raise Stopped(REFUSED, result.reason or result.outcome)
    else:
        click.echo(" ".join(filter(None, (str(result.job_id), result.outcome, result.reason))))
    return DONE if result.is_taken else REFUSED


@tocsin.command()
@config_option
@json_option
@job_argument
def job(path: str, job_id: int, *, as_json: bool) -> int:
    """Show one job with the evidence of its parts."""
    settings = load(path)

    async def work() -> queue.JobView | None:
        async with _connected(settings) as connection:
            return await queue.look(connection, job_id)

    view = asyncio.run(work())
    if view is None:
        raise Stopped(REFUSED, f"job {job_id}: unknown")
    if as_json:
        _print_json(view.state | {"evidence": view.parts})
        return DONE
    for name, value in view.state.items():
        click.echo(f"{name:<13}{_shown(value)}")
    for part in view.parts or []:
        facts = [f"{name} {_shown(value)}" for name, value in part.items() if value is not None]
        click.echo("  " + ", ".join(facts))
    return DONE


@tocsin.command()
@config_option
@json_option
@job_argument
def cancel(path: str, job_id: int, *, as_json: bool) -> int:
    """Cancel a job that is not yet on its way."""
    settings = load(path)

    async def work() -> str:
        async with _connected(settings) as connection:
            return await queue.cancel(connection, job_id)

    outcome = asyncio.run(work())
    if as_json:
        _print_json({"job_id": job_id, "outcome": outcome})
    elif outcome != "cancelled":
        raise Stopped(REFUSED, f"job {job_id}: {outcome}")
    else:
        click.echo(outcome)
    return DONE if outcome == "cancelled" else REFUSED


@tocsin.command("demo")
def demo_command() -> int:
    """Show it all in some seconds: an embedded Postgres, a simulated SMSC, the daemon, an emergency in the middle."""
    return demo.main()


def _load(path: str) -> Settings:
    """Read the file, and tell its warnings."""
    settings = load(path)
    for warning in settings.warnings:
        click.echo(f"tocsin: warning: {warning}", err=True)
    return settings


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Connection]:
    """Give a connection to the file's database; what goes wrong with it ends the command."""
    place = f"{settings.path}: [database] url: {_place(settings)}"
    try:
        with _database(settings) as url:
            try:
                connection = await connect(url)
            except ValueError:  # the driver's own reading of the URL
                raise Stopped(USAGE, f"{place}: no URL of a database") from None
            try:
                yield connection
            finally:
                await connection.close()
    except StoreUnavailable as error:
        raise Stopped(UNUSABLE, f"{place}: {_remedy(error.__context__) or error}") from None
    except DispatcherError as error:
        raise Stopped(UNUSABLE, f"{place}: {error}") from None
    except Stopped:
        raise
    except Exception as error:
        remedy = _remedy(error)
        if remedy is None:
            raise
        raise Stopped(UNUSABLE, f"{place}: {remedy}") from None


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """Give the database's URL; an embedded server runs meanwhile."""
    directory = settings.database.embedded_directory
    if directory is None:
        yield settings.database.url
        return
    with embedded.start(directory) as server:
        yield server.create_database(EMBEDDED_DATABASE)


def _place(settings: Settings) -> str:
    """Name the database without user and password."""
    if settings.database.embedded_directory is not None:
        return str(settings.database.embedded_directory)
    parts = urlsplit(settings.database.url)
    return parts.netloc.rpartition("@")[2] + parts.path


def _remedy(error: BaseException | None) -> str | None:
    """Put a database error into our words: its own may quote a row. None: it is no database error."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        if sqlstate == "P0001":  # raised by a migration, in its own words
            return str(getattr(error, "message", None) or sqlstate)
        return f"{REMEDIES.get(sqlstate) or REMEDIES.get(sqlstate[:2]) or type(error).__name__} (SQLSTATE {sqlstate})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or "cannot be reached"
    return None


def _from_stdin() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        raise Stopped(USAGE, "TEXT: standard input is not UTF-8") from None


def _check_text(name: str, value: str | None) -> None:
    """Refuse what no database can store, and what an argument that is not UTF-8 becomes."""
    if value is not None and re.search("[\0\ud800-\udfff]", value):
        raise Stopped(USAGE, f"{name}: not UTF-8, or holds a NUL")


def _shown(value: object) -> str:
    """Make a value printable: ids and codes are whatever an SMSC wrote, also for a terminal to obey."""
    if value is None:
        return "-"
    text = value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, default=lambda instant: instant.isoformat()))


def _say(code: int, problem: str) -> int:
    click.echo(f"tocsin: {' '.join(problem.split())}", err=True)
    return code


if __name__ == "__main__":
    main()
