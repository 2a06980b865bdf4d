"""What the daemon tells systemd about itself: ready, a line of status, alive, reloading, stopping.

The protocol is sd_notify(3): datagrams of ``NAME=value`` lines to the socket that NOTIFY_SOCKET names. Without that
variable, or when the socket is gone or full, nothing happens: the daemon does not depend on who started it.

Signs of life come from the event loop's own timer. A loop that hangs, or a process that is stopped, sends none, and
systemd kills it: another instance may own its links by the time it would wake up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

STATUS_S = 1.0  # how late a changed status may be told
STATUS_OCTETS = 500  # one line of `systemctl status`


class ServiceManager:
    """The systemd that started this process, or nobody."""

    def __init__(self, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        """Read who wants to hear of this process; ``pid`` is its own."""
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # "@" stands for an abstract socket
        self._watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid)
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""
        if self._address.startswith(("/", "\0")):
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)

    def ready(self, loop: asyncio.AbstractEventLoop, status: Callable[[], str]) -> None:
        """Say that the process is up; from now on tell its status, and a sign of life at half the time asked for.

        Called again when the daemon begins again; until then the earlier status is told.
        """
        if self._socket is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._send("READY=1")
        period_s = min(STATUS_S, self._watchdog_s / 2) if self._watchdog_s else STATUS_S

        def turn() -> None:
            self._tell(status())
            if self._watchdog_s:
                self._send("WATCHDOG=1")
            self._timer = loop.call_later(period_s, turn)

        turn()

    def reloading(self) -> None:
        """Say that the file is being read again; ``reloaded`` must follow, whatever comes of it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Say that reading the file is over."""
        self._send("READY=1")

    def stopping(self, within_s: float) -> None:
        """Say that the process ends, and ask for that long before it is killed."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(within_s * 1e6)}")

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, status: str) -> None:
        line = " ".join(status.split()).encode("utf-8", "replace")[:STATUS_OCTETS].decode("utf-8", "ignore")
        if line != self._told:
            self._told = line
            self._send(f"STATUS={line}")

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # a status that is lost costs less than a loop that waits
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Give the time after which a silent process is killed; None where nobody watches this one."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # meant for the process that started us
    with contextlib.suppress(ValueError):
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        if microseconds > 0:
            return microseconds / 1e6
    return None
