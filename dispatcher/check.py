"""``tocsin check``: whether an instance could do its work with this file, this database and these carriers.

Each step gives what it found. A problem is one that an operator should mend; what makes the rest impossible is told
apart, since it has an exit code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dispatcher import migrate
from dispatcher.errors import DispatcherError, StateDirectoryHeld
from dispatcher.state_directory import StateDirectory
from gateway import probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from config.settings import LinkSettings, Settings
    from dispatcher.store import Connection, Record

OLDEST_SERVER = 150_000  # PostgreSQL 15
CONNECTIONS = 12  # of one instance: ten loops, one to start and stop with, one while somebody looks at its status
FEWEST_DAYS = 3  # for which partitions must be there


class Grade(StrEnum):
    """How good it is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"
    UNUSABLE = "unusable"  # database, schema or state directory: nothing could run


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str  # file, state directory, database, server log, link NAME
    grade: Grade
    text: str  # no password, text or number


def check_file(settings: Settings) -> Iterator[Finding]:
    """Tell what reading the file already found, and which parts of it lead nowhere."""
    subject = str(settings.path)
    yield Finding(subject, Grade.OK, f"{len(settings.links)} links, {len(settings.senders)} senders")
    for warning in settings.warnings:
        yield Finding(subject, Grade.NOTE, warning)
    if not settings.links:
        yield Finding(subject, Grade.PROBLEM, "no [[link]]: nothing can be sent")
    if not settings.senders:
        yield Finding(subject, Grade.PROBLEM, "no [[sender]]: no message would be accepted")
    if not settings.routes:
        yield Finding(subject, Grade.PROBLEM, "no [[route]]: every message would be blocked / NO_ROUTE")
    routed = {name for route in settings.routes for name in route.links}
    for link in settings.links:
        if link.name not in routed:
            yield Finding(subject, Grade.NOTE, f'[[link]] "{link.name}": no route leads to it')
    allowed = {name for sender in settings.senders for name in sender.categories}
    unsendable = [category.name for category in settings.categories if category.name not in allowed]
    if unsendable and settings.senders:
        yield Finding(subject, Grade.NOTE, f"no sender allows {', '.join(unsendable)}")


def check_state_directory(settings: Settings) -> tuple[Finding, bool]:
    """Try the state directory; gives also whether a daemon runs on it now."""
    path = settings.daemon.state_dir
    try:
        StateDirectory.open(path, settings.daemon.instance).close()
        trial = path / "check"
        trial.write_bytes(bytes(4096))  # the local record needs room
        trial.unlink()
    except StateDirectoryHeld:
        return Finding("state directory", Grade.OK, f"{path}: a daemon holds it now"), True
    except OSError as error:
        return Finding("state directory", Grade.UNUSABLE, f"{path}: {error.strerror}"), False
    return Finding("state directory", Grade.OK, f"{path}: writable and free"), False


async def check_database(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Look at server, schema, rights and the server's own log settings.

    Raises:
        StoreUnavailable: the database went away meanwhile.

    """
    facts = await connection.fetchrow("server_facts")
    assert facts is not None
    subject = "database"
    if facts["version"] < OLDEST_SERVER:
        yield Finding(subject, Grade.UNUSABLE, f"PostgreSQL {facts['version_text']}; 15 is the oldest supported")
        return
    yield Finding(subject, Grade.OK, f"PostgreSQL {facts['version_text']}, user {facts['user_name']}")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if facts[name] == "off":
            yield Finding(subject, Grade.PROBLEM, f"{name} is off: a crash of the server loses messages")
    if facts["connections"] < CONNECTIONS:
        yield Finding(
            subject, Grade.PROBLEM, f"{facts['connections']} connections at most; an instance takes {CONNECTIONS}"
        )
    try:
        await migrate.check(connection.raw)
    except DispatcherError as error:
        yield Finding("schema", Grade.UNUSABLE, str(error))
    else:
        yield Finding("schema", Grade.OK, "current")
        async for finding in _check_schema(connection, settings):
            yield finding
    logged = await connection.fetchrow("log_settings")
    assert logged is not None
    leaks = list(log_leaks(logged))
    for leak in leaks:
        yield Finding("server log", Grade.PROBLEM, leak)
    if not leaks:
        yield Finding("server log", Grade.OK, "its settings keep texts and numbers out")


async def _check_schema(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    lacking = [row["name"] for row in await connection.fetch("missing_privileges")]
    if lacking:
        yield Finding(
            "schema", Grade.PROBLEM, f"this user lacks rights on {', '.join(lacking)}: see `tocsin migrate --roles`"
        )
        return
    days = await connection.fetchrow("partition_days")
    ahead = -1 if days is None or days["ahead"] is None else days["ahead"]
    if ahead < FEWEST_DAYS:
        yield Finding(
            "schema", Grade.PROBLEM, f"partitions for {max(ahead, 0)} days ahead; a running daemon makes 14 ahead"
        )
    applied = await connection.fetchrow("applied_hash")
    if applied is None:
        yield Finding("schema", Grade.NOTE, "no file was applied yet: `tocsin run` and `tocsin apply` do it")
    elif applied["file_hash"] != settings.sha256:
        yield Finding("schema", Grade.NOTE, "another file, or an earlier state of this one, is applied")


def log_leaks(logged: Record) -> Iterator[str]:
    """Settings of the server's log that would write message texts or numbers into it, each with its remedy.

    Apps call ``tocsin.enqueue`` with texts in the statement or in its parameters.
    """
    if logged["log_statement"] in {"mod", "all"}:
        yield "log_statement writes statements with texts: set it to none or ddl"
    for name in ("log_min_duration_statement", "log_min_duration_sample", "auto_explain_log_min_duration"):
        if logged[name] is not None and int(logged[name]) >= 0:
            shown = name.replace("explain_log", "explain.log")
            yield f"{shown} writes slow statements with texts: set it to -1"
    if logged["log_transaction_sample_rate"] > 0:
        yield "log_transaction_sample_rate writes statements with texts: set it to 0"
    if logged["log_parameter_max_length_on_error"] != "0":
        yield "log_parameter_max_length_on_error writes parameters with texts: set it to 0"
    if logged["log_min_error_statement"] not in {"log", "fatal", "panic"}:
        yield "log_min_error_statement writes failed statements with texts: set it to panic"
    if logged["log_error_verbosity"] != "terse":
        yield "log_error_verbosity writes details that repeat rows: set it to terse"


async def check_link(link: LinkSettings, host: str) -> Finding:
    """Bind one host of a link once, and unbind."""
    probed = await probe(link, host)
    place = f"{host}:{link.port}"
    if probed.problem is None:
        return Finding(f"link {link.name}", Grade.OK, f"{place}: bound and unbound in {probed.took_s:.2f} s")
    return Finding(f"link {link.name}", Grade.PROBLEM, f"{place}: {probed.problem}")
