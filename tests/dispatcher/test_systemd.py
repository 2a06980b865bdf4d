"""What systemd hears of the daemon, on a real socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dispatcher.systemd import STATUS_OCTETS, ServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHDOG_USEC = 40_000


class Listener:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.name = address.replace("\0", "@")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """What has come in since the last look."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return found

    async def next(self) -> str:
        return (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 65536), 10)).decode()

    async def until(self, wanted: str) -> list[str]:
        """Everything up to the first of this text."""
        heard = [await self.next()]
        while heard[-1] != wanted:
            heard.append(await self.next())
        return heard


@contextmanager
def listening(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def managed(listener: Listener, **environ: str) -> Iterator[ServiceManager]:
    manager = ServiceManager({"NOTIFY_SOCKET": listener.name, **environ})
    try:
        yield manager
    finally:
        manager.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_life_is_told_in_order(tmp_path, kind):
    """Ready with a status, reloading until it is over, stopping with the time it takes."""
    address = str(tmp_path / "notify") if kind == "path" else f"\0tocsin-test-{secrets.token_hex(8)}"
    with listening(address) as systemd, managed(systemd) as manager:
        manager.ready(asyncio.get_running_loop(), lambda: "not ready; database not\nyet reached")
        manager.reloading()
        manager.reloaded()
        manager.stopping(45.5)

        ready, status, reloading, reloaded, stopping = systemd.heard()
        assert (ready, status) == ("READY=1", "STATUS=not ready; database not yet reached")
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert 0 <= time.monotonic_ns() // 1000 - int(reloading.rpartition("=")[2]) < 60_000_000
        assert (reloaded, stopping) == ("READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=45500000")


async def test_signs_of_life_come_while_the_loop_turns(tmp_path):
    """Each turn of the timer is one."""
    with listening(str(tmp_path / "notify")) as systemd:
        with managed(systemd, WATCHDOG_USEC=str(WATCHDOG_USEC), WATCHDOG_PID=str(os.getpid())) as manager:
            manager.ready(asyncio.get_running_loop(), lambda: "ready")
            heard = [await systemd.next() for _ in range(5)]

    assert heard == ["READY=1", "STATUS=ready", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


async def test_a_loop_that_hangs_sends_no_sign_of_life(tmp_path):
    """That is what the watchdog is for: no thread may speak for the loop."""
    with listening(str(tmp_path / "notify")) as systemd:
        with managed(systemd, WATCHDOG_USEC=str(WATCHDOG_USEC)) as manager:
            manager.ready(asyncio.get_running_loop(), lambda: "ready")
            await systemd.until("WATCHDOG=1")
            systemd.heard()
            time.sleep(5 * WATCHDOG_USEC / 1e6)  # the hang

            assert systemd.heard() == []
            assert await systemd.next() == "WATCHDOG=1"


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}],
)
async def test_a_process_that_nobody_watches_sends_no_sign_of_life(tmp_path, environ):
    """A child inherits the variables of its parent."""
    with listening(str(tmp_path / "notify")) as systemd, managed(systemd, **environ) as manager:
        said = iter(["one", "two"])
        manager.ready(asyncio.get_running_loop(), lambda: next(said, "two"))

        assert await systemd.until("STATUS=two") == ["READY=1", "STATUS=one", "STATUS=two"]


async def test_a_status_is_told_when_it_changes_and_is_one_short_line(tmp_path):
    """A datagram that is too long would be lost whole."""
    with listening(str(tmp_path / "notify")) as systemd:
        with managed(systemd, WATCHDOG_USEC=str(WATCHDOG_USEC)) as manager:
            said = iter(["one", "one", "ü" * 1000])
            manager.ready(asyncio.get_running_loop(), lambda: next(said, "end"))
            heard = await systemd.until("STATUS=end")

    told = [each for each in heard if each.startswith("STATUS=")]
    assert told == ["STATUS=one", f"STATUS={'ü' * (STATUS_OCTETS // 2)}", "STATUS=end"]


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/notify", "@nobody-listens-here", "/" + "x" * 200])
async def test_without_a_listener_nothing_happens(name):
    """The daemon runs the same by hand, and when systemd's socket goes away."""
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(WATCHDOG_USEC)})
    manager.ready(asyncio.get_running_loop(), lambda: "ready")
    manager.reloading()
    manager.reloaded()
    manager.stopping(1)
    manager.close()
    manager.stopping(1)


async def test_a_listener_that_does_not_read_holds_nobody_up(tmp_path):
    """Its queue of datagrams is short; the rest is lost."""
    with listening(str(tmp_path / "notify")) as systemd, managed(systemd) as manager:
        for _ in range(5_000):
            manager.reloaded()

        assert 0 < len(systemd.heard()) < 5_000
