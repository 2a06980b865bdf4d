"""Which user a server runs as that refuses to be root, what that user can reach, and how to run programs as him.

No user is made, and no folder of anybody's is opened to others: where the chosen user cannot enter a place
or read a program, another place is taken or a copy is made. Everything is made with a mode of its own,
whatever the umask. A caller who is not root is simply himself: his ``Account`` is None.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.errors import DispatcherError

if TYPE_CHECKING:
    from collections.abc import Sequence

SOCKET_PATH_OCTETS = 103  # of sun_path: 103 on BSD and macOS, 107 on Linux
STATE = Path("/var/lib/tocsin-embedded")  # root's only


class EmbeddedError(DispatcherError):
    """The embedded server cannot be used. One line that says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that programs run as, when that is not the caller."""

    name: str
    uid: int
    gid: int


def account_for(directory: Path) -> Account | None:
    """Choose who runs a server in this directory: None for the caller, unless he is root."""
    if os.geteuid() != 0:
        return None
    candidates: list[int | str] = [_nearest(directory.absolute()).stat().st_uid, "postgres", "nobody"]
    for candidate in candidates:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwuid(candidate) if isinstance(candidate, int) else pwd.getpwnam(candidate)
            if entry.pw_uid != 0:
                return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(f"{directory}: root cannot run the server, and there is no user postgres or nobody to run it")


def run(command: Sequence[str | Path], account: Account | None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as that user, in English, without the caller's PostgreSQL variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return subprocess.run(  # noqa: S603 (no shell; the callers' programs and arguments)
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # a Ctrl-C is for the caller: pg_ctl must end what it began
        env=environment | {"LC_ALL": "C"},
        umask=0o077,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else (),
    )


def home(directory: Path, account: Account | None, *, marker: str) -> Path:
    """Make the directory, for its user alone, with the folders above it that are missing.

    Raises:
        EmbeddedError: it holds things and no file called ``marker``, or it belongs to somebody else.

    """
    directory = directory.resolve()
    for path in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o700 if path == directory else 0o755)
            if account is not None:
                os.chown(path, account.uid, account.gid)
    found = directory.stat()
    if account is None and found.st_uid != os.geteuid():
        raise EmbeddedError(f"{directory}: belongs to {_user_name(found.st_uid)}; remove it, or name another directory")
    names = {entry.name for entry in directory.iterdir()}
    if names and marker not in names:
        raise EmbeddedError(f"{directory}: is neither empty nor the home of an embedded server")
    if account is not None and found.st_uid != account.uid:
        os.chown(directory, account.uid, account.gid)
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
    return directory


def enterable(directory: Path, account: Account | None, *, durable: bool) -> Path:
    """Give a place that the user can enter: the directory, else one of root's that a link in its place leads to."""
    directory = directory.resolve()
    if account is None or _test("-x", _nearest(directory.parent), account):
        return directory
    elsewhere = own_folder(durable=durable) / digest(directory)
    if durable:
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()  # refuses to take away anything but an empty directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.symlink_to(elsewhere)
    return elsewhere


def readable(binaries: Path, account: Account | None, *, durable: bool) -> Path:
    """Give binaries that the user can run: the wheel's, else a copy with its libraries beside it."""
    if account is None:
        return binaries
    if _test("-r", binaries.parent / "share", account) and _test("-x", binaries / "postgres", account):
        return binaries
    package = binaries.parent.parent
    made_at = (binaries / "postgres").stat().st_mtime_ns
    copy = own_folder(durable=durable) / f"server-{digest(Path(f'{binaries}-{made_at}'))}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(dir=copy.parent, prefix="server-"))
        unused = shutil.ignore_patterns("*.a", "*.py", "__pycache__", "include")
        for source in (binaries.parent, *package.glob(".dylibs"), *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(source, fresh / source.relative_to(package.parent), symlinks=True, ignore=unused)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o055 if mode & stat.S_IXUSR else 0o044))
        with contextlib.suppress(OSError):  # another process was faster: its copy is as good
            fresh.rename(copy)
        shutil.rmtree(fresh, ignore_errors=True)
    return copy / binaries.relative_to(package.parent)


def own_folder(*, durable: bool) -> Path:
    """Give a folder that nobody but the caller can have filled: root's may be entered by all, another's by nobody."""
    is_root = os.geteuid() == 0
    if durable and is_root:
        folder = STATE
    else:
        temporary = Path(tempfile.gettempdir())
        if len(os.fsencode(temporary)) > SOCKET_PATH_OCTETS - 60:
            temporary = Path("/tmp")  # noqa: S108 (a socket's path has to fit; checked below)
        folder = temporary / f"tocsin-embedded-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o755 if is_root else 0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedError(f"{folder}: is not a directory that only {_user_name(os.geteuid())} can write to")
    return folder


def digest(path: Path) -> str:
    """Give a short name that stands for the path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _nearest(path: Path) -> Path:
    """Go up to what is there."""
    while not path.exists():
        path = path.parent
    return path


def _test(flag: str, path: Path, account: Account) -> bool:
    return run(["/usr/bin/test", flag, path], account).returncode == 0


def _user_name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
