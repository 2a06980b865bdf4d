"""The state directory: one daemon at a time, and a name that a restarted daemon is known by.

Whoever holds the lock knows that every earlier holder is dead, for the kernel frees a dead process's locks. A
daemon that holds it and finds its own `owner` in a link's row therefore takes the link at once; any other
waits until the row stands still.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from typing import TYPE_CHECKING

from dispatcher.errors import StateDirectoryHeld

if TYPE_CHECKING:
    from pathlib import Path

ID_OCTETS = 16

_STORED = re.compile(r"(?:.*:)?([0-9a-f]{32})\n", re.DOTALL)


class StateDirectory:
    """A directory on this host's disk that this process has for itself until `close`, or its death."""

    def __init__(self, path: Path, owner: str, lock: int) -> None:
        self.path = path
        self.owner = owner  # instance name and random id
        self._lock = lock

    @classmethod
    def open(cls, path: Path, instance: str) -> StateDirectory:
        """Make the directory where it is missing, lock it, and read its owner's name or make one.

        Raises:
            StateDirectoryHeld: another process has it.
            OSError: it cannot be made, locked or read.

        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, f"{instance}:{_stored_id(path) or _made_id(path, instance)}", lock)
        except BlockingIOError:
            os.close(lock)
            raise StateDirectoryHeld(str(path)) from None
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let the next process in. The file `lock` stays: removing it would let two processes lock two files."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def _stored_id(path: Path) -> str | None:
    """Read the id; None where there is none, or where the file is damaged: a new id only costs one wait."""
    with contextlib.suppress(FileNotFoundError):
        stored = _STORED.fullmatch((path / "owner").read_bytes().decode("utf-8", "replace"))
        return stored[1] if stored else None
    return None


def _made_id(path: Path, instance: str) -> str:
    """Make an id and keep it over a loss of power, whole or not at all."""
    made = secrets.token_hex(ID_OCTETS)
    unfinished = path / "owner.new"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(f"{instance}:{made}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path / "owner")
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return made
