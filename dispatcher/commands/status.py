"""``tocsin status``: the document of the daemon that listens where the file says, or what the database knows."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.live import Live

from config.settings import load
from dispatcher.commands.status_view import view
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    UNUSABLE,
    Stopped,
    config_option,
    connected,
    json_option,
    print_json,
)
from dispatcher.look import look, status_of
from dispatcher.status import from_json
from dispatcher.version import VERSION

if TYPE_CHECKING:
    from config.settings import Settings
    from dispatcher.status import Status

ANSWERS_WITHIN_S: Final = 5.0
EVERY_S: Final = 1.0
EVERY_FROM_DATABASE_S: Final = 5.0  # each look makes a connection
WIDTH: Final = 132  # columns in a pipe
LARGEST: Final = 4_000_000  # octets; a document of a hundred links is far below
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # what to ask where it listens on all


@click.command("status", epilog="Example: tocsin status --config /etc/tocsin/1.toml --watch")
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Look once a second until Ctrl-C, which ends it with 130.")
def status_command(path: str, *, as_json: bool, watch: bool) -> int:
    """Show whether emergencies flow: links, lanes, rates, doubt, the last events.

    Asks the daemon at [http] listen. When it does not answer, shows what the database knows and ends with 1; when
    neither does, ends with 3. With --watch a terminal is redrawn; a pipe gets a block, or with --json a line, a look.
    """
    settings = load(path)
    try:
        return _watch(settings, as_json=as_json) if watch else _once(settings, as_json=as_json)
    except BrokenPipeError:  # the reader of the pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _once(settings: Settings, *, as_json: bool) -> int:
    status, problem, code = _look(settings)
    _note(problem)
    _show(status, as_json=as_json)
    return code


def _watch(settings: Settings, *, as_json: bool) -> int:
    """Look again and again. A database that is away as well is told and tried again: the first look must succeed."""
    status: Status | None
    last, problem, _ = _look(settings)
    status = last
    if as_json or not sys.stdout.isatty():
        told = None
        while True:
            if problem != told:
                _note(problem)
                told = problem
            if status is not None:
                _show(status, as_json=as_json)
                sys.stdout.flush()
            time.sleep(_pause_s(status))
            status, problem = _look_again(settings)
    with Live(view(last, problem), console=Console(), screen=True, auto_refresh=False) as live:
        shown_at = time.monotonic()
        while True:
            time.sleep(_pause_s(status))
            status, problem = _look_again(settings)
            if status is not None:
                last, shown_at = status, time.monotonic()
            else:
                problem = f"{problem}; shown is {time.monotonic() - shown_at:.0f} s old"
            live.update(view(last, problem), refresh=True)


def _pause_s(status: Status | None) -> float:
    return EVERY_S if status is not None and status.source == "daemon" else EVERY_FROM_DATABASE_S


def _look_again(settings: Settings) -> tuple[Status | None, str | None]:
    try:
        status, problem, _ = _look(settings)
    except Stopped as error:
        return None, error.problem
    return status, problem


def _note(problem: str | None) -> None:
    if problem is not None:
        click.echo(f"tocsin: {problem}", err=True)


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        print_json(status.as_json())
    elif sys.stdout.isatty():
        Console().print(view(status, None))
    else:
        console = Console(width=WIDTH, color_system=None)
        with console.capture() as text:  # rich would end the process itself when the pipe breaks
            console.print(view(status, None))
        click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def _look(settings: Settings) -> tuple[Status, str | None, int]:
    """Ask the daemon, else the database: the document, what to say about the daemon, the exit code."""
    answer = _ask(settings)
    if not isinstance(answer, str):
        return answer, None, DONE
    try:
        status = asyncio.run(_read_database(settings))
    except Stopped as error:
        raise Stopped(UNUSABLE, f"{answer}; {error.problem}") from None
    code = DONE if settings.http.port == 0 else REFUSED
    return status, f"{answer}: this is what the database knows", code


def _ask(settings: Settings) -> Status | str:
    """Give the daemon's document, or one line on why there is none."""
    host, port = settings.http.host, settings.http.port
    place = f"{settings.path}: [http] listen: {host}:{port}"
    if port == 0:
        return f"{place}: the system chose the port, so the daemon cannot be asked"
    connection = http.client.HTTPConnection(ANY_ADDRESS.get(host, host), port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/status.json")
        answer = connection.getresponse()
        body = answer.read(LARGEST)
    except TimeoutError:
        return f"{place}: the daemon does not answer in time"
    except OSError as error:
        return f"{place}: the daemon does not answer: {error.strerror or type(error).__name__}"
    except http.client.HTTPException:
        return f"{place}: something else than a daemon of this version answers"
    finally:
        connection.close()
    try:
        return from_json(json.loads(body))
    except ValueError:
        return f"{place}: something else than a daemon of this version answers"


async def _read_database(settings: Settings) -> Status:
    async with connected(settings) as connection:
        return status_of(settings, await look(connection), VERSION)
