"""A TCP way between a daemon and what it talks to, that can be cut, slowed down, or stuck.

    cut        every connection ends, new ones are refused
    delay_s    octets leave so much later than they came
    stuck      half-open: connections are accepted and octets read, and nothing is forwarded until it is over

``SmppWay`` forwards whole PDUs and notes each: what the daemon wrote at the instant it was read here, and what the
SMSC sent at the instant it was handed to the daemon's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from typing import TYPE_CHECKING, Any

from tests.journey.running import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PDU = 1 << 16
SUBMIT_SM_RESP = 0x8000_0004


class Way(Relay):
    """A relay whose octets can be held up."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.delay_s = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._opened = 0

    @property
    def stuck(self) -> bool:
        """Whether nothing is forwarded."""
        return not self._flows.is_set()

    @stuck.setter
    def stuck(self, value: bool) -> None:
        if value:
            self._flows.clear()
        else:
            self._flows.set()

    async def __aexit__(self, *_: object) -> None:
        self.stuck = False
        await super().__aexit__()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self._opened += 1
        number = self._opened
        self._note(number, "open")
        await asyncio.gather(
            self._hold_up(number, "up", reader, there_writer), self._hold_up(number, "down", there, writer)
        )

    async def _hold_up(
        self, number: int, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read at once, forward later: a delay costs no throughput."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        forwarding = asyncio.create_task(self._forward(number, direction, held, writer))
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while octets := await self._read(reader):
                    if direction == "up":
                        self._note(number, direction, octets)
                    held.put_nowait((time.monotonic() + self.delay_s, octets))
        finally:
            if direction == "up":
                self._note(number, "end")
            held.put_nowait((0.0, b""))
            await forwarding

    async def _forward(
        self, number: int, direction: str, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due, octets = await held.get()
                if (wait_s := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                await self._flows.wait()
                if not octets:
                    break
                if direction == "down" and not writer.is_closing():
                    self._note(number, direction, octets)
                writer.write(octets)
                await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(65536)

    def _note(self, number: int, what: str, octets: bytes = b"") -> None:
        """Nothing of the database's octets is kept."""


class SmppWay(Way):
    """The way between one daemon and one link's SMSC. ``note`` is given each fact as a dictionary."""

    def __init__(self, daemon: str, link: str, smsc_port: int, note: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(f"tcp://127.0.0.1:{smsc_port}")
        self.daemon = daemon
        self.link = link
        self._tell = note

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(4)
        (length,) = struct.unpack(">L", head)
        assert 16 <= length <= LONGEST_PDU, "no PDU"
        return head + await reader.readexactly(length - 4)

    def _note(self, number: int, what: str, octets: bytes = b"") -> None:
        fact = {"at": time.monotonic(), "daemon": self.daemon, "link": self.link, "connection": number, "what": what}
        if octets:
            _, fact["command"], fact["status"], fact["sequence"] = struct.unpack(">LLLL", octets[:16])
            if what == "up" or fact["command"] == SUBMIT_SM_RESP:
                fact["octets"] = octets.hex()
        self._tell(fact)
