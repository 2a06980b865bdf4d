"""What every subcommand shares: exit codes, options, the connection to the file's database, and what is printed how.

What a user can cause is one line on stderr, never a traceback, and never the content of a row: the text of database
errors is replaced by what a person can do about it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from config.settings import load
from dispatcher import embedded
from dispatcher.errors import DispatcherError, StoreUnavailable
from dispatcher.keywords import refuse_collisions
from dispatcher.store import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from config.settings import Settings
    from dispatcher.store import Connection

DONE, REFUSED, USAGE, UNUSABLE = range(4)
INTERRUPTED = 130  # as shells report SIGINT

FURTHEST_DAYS = 3650
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

EXIT_CODES = {
    DONE: "done; also a duplicate, or deferred",
    REFUSED: "refused, a finding, unknown, too late",
    USAGE: "usage or configuration",
    UNUSABLE: "database, schema or state directory, its lock included",
    INTERRUPTED: "interrupted",
}

EMBEDDED_DATABASE = "tocsin"

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


def load_settings(path: str) -> Settings:
    """Read the file, and tell its warnings."""
    settings = load(path)
    refuse_collisions(settings)
    for warning in settings.warnings:
        click.echo(f"tocsin: warning: {warning}", err=True)
    return settings


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
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


def read_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read a number and a unit: 90s, 15m, 2h, 1d. Gives seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", value, re.ASCII)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= FURTHEST_DAYS * SECONDS["d"]:
        raise click.BadParameter(f"{value!r} is no duration: write 90s, 15m, 2h or 1d, at most {FURTHEST_DAYS}d")
    return seconds


def from_stdin() -> str:
    """Read a text from standard input, without its last line end."""
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        raise Stopped(USAGE, "TEXT: standard input is not UTF-8") from None


def confirm(consequence: str, *, yes: bool, otherwise: str = "nothing was changed") -> None:
    """Ask on a terminal; elsewhere --yes must have been given. `otherwise` is told where the answer is no."""
    if yes:
        return
    if not os.isatty(0):
        raise Stopped(REFUSED, f"{consequence}: repeat with --yes")
    if not click.confirm(f"{consequence}. Go on?", err=True):
        raise Stopped(REFUSED, otherwise)


def check_text(name: str, value: str | None) -> None:
    """Refuse what no database can store, and what an argument that is not UTF-8 becomes."""
    if value is not None and re.search("[\0\ud800-\udfff]", value):
        raise Stopped(USAGE, f"{name}: not UTF-8, or holds a NUL")


def shown(value: object) -> str:
    """Make a value printable: ids and codes are whatever an SMSC wrote, also for a terminal to obey."""
    if value is None:
        return "-"
    text = value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)


def print_json(value: object) -> None:
    """Print one value for a machine; instants as ISO 8601."""
    click.echo(json.dumps(value, default=lambda instant: instant.isoformat()))
