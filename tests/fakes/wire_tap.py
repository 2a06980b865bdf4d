"""A tap between a daemon and an SMSC: passes octets on, keeps them, and reads them with smpplib's codec."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import smpplib.smpp

from tests.fakes.esme import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBMIT, SUBMIT_RESP, NACK = 0x00000004, 0x80000004, 0x80000000
TICK_S = 0.005


class Written(NamedTuple):
    """One submit_sm."""

    at: float  # monotonic seconds, when it was whole
    connection: int
    fields: Any  # as smpplib reads it
    status: int | None  # of its answer on that connection; None: there was none


@dataclass
class Wire:
    """Passes octets on between a daemon and an SMSC, and keeps them."""

    target: int
    port: int = 0
    connections: list[dict[str, list[tuple[float, bytes]]]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept: dict[str, list[tuple[float, bytes]]] = {"sent": [], "read": []}
        self.connections.append(kept)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = [self._pass(reader, far_writer, kept["sent"]), self._pass(far_reader, writer, kept["read"])]
        tasks = [asyncio.ensure_future(end) for end in ends]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, far_writer):
            with contextlib.suppress(OSError):
                end.close()
        await asyncio.wait(tasks)

    @staticmethod
    async def _pass(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: list[tuple[float, bytes]]
    ) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(65_536):
                kept.append((time.monotonic(), octets))
                writer.write(octets)
                await writer.drain()

    def pdus(self, number: int, direction: str) -> Iterator[tuple[float, int, int, int, bytes]]:
        """When it was whole, command_id, command_status, sequence_number and octets; until the octets are no PDUs."""
        octets = b""
        for at, more in self.connections[number][direction]:
            octets += more
            while len(octets) >= 16:
                length, *numbers = struct.unpack_from(">LLLL", octets)
                if not 16 <= length <= 70_000:
                    return
                if len(octets) < length:
                    break
                yield at, *numbers, octets[:length]
                octets = octets[length:]

    def submits(self) -> list[Written]:
        """submit_sm that were written, those of a session in order."""
        found = []
        for number in range(len(self.connections)):
            statuses: dict[int, int] = {}
            for _, command, status, sequence, _ in self.pdus(number, "read"):
                if command in (SUBMIT_RESP, NACK):
                    statuses.setdefault(sequence, status)  # the first answer counts
            for at, command, _, sequence, octets in self.pdus(number, "sent"):
                if command == SUBMIT:
                    read = smpplib.smpp.parse_pdu(octets, client=NUMBERS, allow_unknown_opt_params=True)
                    found.append(Written(at, number, read, statuses.get(sequence)))
        return found

    def most_unanswered(self) -> int:
        """Of one session, as its SMSC sees it: a request counts from its read to the write of its answer."""
        most = 0
        for number in range(len(self.connections)):
            answered: dict[int, float] = {}
            for at, command, _, sequence, _ in self.pdus(number, "read"):
                if command in (SUBMIT_RESP, NACK):
                    answered.setdefault(sequence, at)
            steps = []
            for at, command, _, sequence, _ in self.pdus(number, "sent"):
                if command == SUBMIT:
                    steps += [(at, 1), (answered.get(sequence, float("inf")), -1)]
            unanswered = 0
            for _, step in sorted(steps):
                unanswered += step
                most = max(most, unanswered)
        return most

    def most_in_a_second(self, ticks: Ticks) -> int:
        """submit_sm in any sliding second, over all connections: as many as were surely written within one.

        What came while this process stood still was read late, and so may have been written earlier.
        """
        reads = sorted(one.at for one in self.submits())
        most = first = 0
        for number, at in enumerate(reads):
            while ticks.earliest(reads[first]) <= at - 1.0:
                first += 1
            most = max(most, number - first + 1)
        return most


class Ticks:
    """Notes when this process's loop turns, to tell since when octets may have waited to be read."""

    def __init__(self) -> None:
        self._at: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            self._at.append(time.monotonic())
            await asyncio.sleep(TICK_S)

    def earliest(self, at: float) -> float:
        """When octets that were read at this instant may have come: the last tick but one."""
        return self._at[max(0, bisect.bisect_right(self._at, at) - 2)]
