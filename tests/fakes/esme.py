"""An ESME that shares no code with ours: smpplib makes its PDUs and reads what comes, on a plain socket."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import smpplib.smpp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAIT_S = 30.0  # a bound on hanging, not a measure
NUMBERS = SimpleNamespace(next_sequence=lambda: 1)  # what smpplib calls a client


class Came(NamedTuple):
    """One PDU that was read."""

    command_id: int
    command_status: int
    sequence_number: int
    octets: bytes

    @property
    def command(self) -> str:
        """Its name, as smpplib has it."""
        return smpplib.command_codes.get_command_name(self.command_id)

    @property
    def pdu(self) -> Any:
        """The whole of it, as smpplib reads it."""
        return smpplib.smpp.parse_pdu(self.octets, client=NUMBERS, allow_unknown_opt_params=True)

    @property
    def message_id(self) -> str:
        """Of a submit_sm_resp."""
        return self.pdu.message_id.decode("ascii")

    @property
    def text(self) -> str:
        """Of a deliver_sm in ASCII."""
        return self.pdu.short_message.decode("ascii")


class Esme:
    """One connection to an SMSC."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sequence = 0

    def write(self, command: str, sequence_number: int | None = None, **fields: Any) -> int:
        """Write a PDU; returns its sequence_number."""
        if sequence_number is None:
            self._sequence += 1
            sequence_number = self._sequence
        pdu = smpplib.smpp.make_pdu(command, client=NUMBERS, sequence=sequence_number, **fields)
        self._writer.write(pdu.generate())
        return sequence_number

    def submit(self, destination: str = "447700900001", text: bytes = b"hello", registered_delivery: int = 1) -> int:
        """Write a submit_sm."""
        return self.write(
            "submit_sm",
            source_addr_ton=5,
            source_addr="Northside",
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=destination,
            short_message=text,
            registered_delivery=registered_delivery,
        )

    async def raw(self, octets: int) -> bytes:
        """Read so many octets; fewer where the stream ends."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self._reader.readexactly(octets)
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def next(self) -> Came | None:
        """Read a PDU; None at the end of the stream."""
        head = await self.raw(16)
        if len(head) < 16:
            return None
        length, *numbers = struct.unpack(">LLLL", head)
        return Came(*numbers, head + await self.raw(length - 16))

    async def next_of(self, command: str) -> Came:
        """Read up to a PDU of this name."""
        while True:
            came = await self.next()
            assert came is not None, f"the stream ended before {command}"
            if came.command == command:
                return came

    async def bind(self, kind: str = "transceiver", system_id: str = "clinic", password: str = "secret") -> Came | None:
        """Bind, and give the answer."""
        self.write(f"bind_{kind}", system_id=system_id, password=password, interface_version=0x34)
        return await self.next()

    async def barrier(self) -> list[Came]:
        """Ask whether anybody is there, and give what came before the answer."""
        number = self.write("enquire_link")
        before = []
        while True:
            came = await self.next()
            assert came is not None
            if came.command == "enquire_link_resp" and came.sequence_number == number:
                return before
            before.append(came)

    def acknowledge(self, came: Came) -> None:
        """Take a deliver_sm."""
        self.write("deliver_sm_resp", came.sequence_number)

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def esme(port: int, **bind: str) -> AsyncIterator[Esme]:
    """Have an ESME that is bound; ``kind=""``: only connected."""
    made = Esme(*await asyncio.open_connection("127.0.0.1", port))
    try:
        if bind.get("kind") != "":
            answer = await made.bind(**bind)
            assert answer is not None
            assert answer.command_status == 0
        yield made
    finally:
        await made.close()
