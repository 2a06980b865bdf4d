"""The client side of Kannel: a box, as its own smsbox and sqlbox are, that speaks to bearerbox without HTTP between.

It is the cheapest way in that Kannel has: smsbox, which takes messages by HTTP and calls a URL for each receipt, costs
more than bearerbox itself. A packet is a length and a message: a number for its type, then its fields in order,
integers of 32 bits and strings with their length before them; all ones are an integer not set, and no string.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import uuid
from typing import TYPE_CHECKING, Final

from benchmarks.peers.driver import Driver, parser_of, run

if TYPE_CHECKING:
    import argparse

ADMIN, SMS, ACK = 1, 2, 3  # types
IDENTIFY: Final = 3  # the command of the first message of a box
MT_PUSH, REPORT = 2, 3  # kinds of sms: ours to send, and a receipt for one
ACCEPTED: Final = (0, 3)  # answers: taken, and taken while no SMSC is there
DELIVERED: Final = 1  # of dlr_mask
MASK: Final = 3  # receipts that are wanted: delivered, and not
NULL: Final = 0xFFFF_FFFF
NONE: Final = struct.pack(">I", NULL)
NUMBER: Final = struct.Struct(">I")


def string(octets: bytes) -> bytes:
    """Write a string."""
    return NUMBER.pack(len(octets)) + octets


def packet(kind: int, *fields: bytes) -> bytes:
    """Write a message."""
    body = NUMBER.pack(kind) + b"".join(fields)
    return NUMBER.pack(len(body)) + body


def sms(sender: bytes, receiver: bytes, text: bytes, message: bytes, reference: bytes) -> bytes:
    """Write a text of one part that wants a receipt, which comes back with ``reference``."""
    return packet(
        SMS,
        *(string(sender), string(receiver), string(b""), string(text)),  # no user data header
        NONE * 6,  # time, smsc_id, smsc_number, foreign_id, service, account
        string(message),
        *(
            NUMBER.pack(MT_PUSH),
            NONE * 2,
            NUMBER.pack(0),
            NONE * 3,
        ),  # mclass, mwi; coding; compress, validity, deferred
        *(NUMBER.pack(MASK), string(reference)),
        NONE * 11,  # pid, alt_dcs, rpi, charset, boxc_id, binfo, msg_left, priority, resend_try and _time, meta_data
    )


def ack(message: bytes) -> bytes:
    """Write the answer to a message."""
    return packet(ACK, NUMBER.pack(0), NUMBER.pack(int(time.time())), string(message))


def read_string(octets: bytes, at: int) -> tuple[bytes, int]:
    """Give a string, and where the next field begins."""
    (length,) = NUMBER.unpack_from(octets, at)
    end = at + 4 + (0 if length == NULL else length)
    return octets[at + 4 : end], end


def read_sms(octets: bytes, at: int) -> tuple[int, bytes, int, bytes]:
    """Give kind, id, dlr_mask and reference of a message that begins (with its type) at ``at``."""
    at += 4
    for _ in range(4):  # sender, receiver, udhdata, msgdata
        _, at = read_string(octets, at)
    at += 4  # time
    for _ in range(5):  # smsc_id, smsc_number, foreign_id, service, account
        _, at = read_string(octets, at)
    message, at = read_string(octets, at)
    (kind,) = NUMBER.unpack_from(octets, at)
    (mask,) = NUMBER.unpack_from(octets, at + 28)  # after mclass, mwi, coding, compress, validity, deferred
    reference, _ = read_string(octets, at + 32)
    return kind, message, mask, reference


class Box(asyncio.Protocol):
    """One connection to bearerbox."""

    def __init__(self, driver: Driver, window: int) -> None:
        self.driver = driver
        self.window = window  # messages unanswered
        self.unanswered = 0
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(packet(ADMIN, NUMBER.pack(IDENTIFY), NONE))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.window = 0

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data
        at, size = 0, len(buffer)
        answers = []
        while size - at >= 4:
            (length,) = NUMBER.unpack_from(buffer, at)
            if size - at - 4 < length:
                break
            (kind,) = NUMBER.unpack_from(buffer, at + 4)
            if kind == ACK:
                (nack,) = NUMBER.unpack_from(buffer, at + 8)
                self.unanswered -= 1
                self.driver.answered(accepted=nack in ACCEPTED)
            elif kind == SMS:
                answers.append(self._received(buffer, at + 4))
            at += 4 + length
        self.rest = buffer[at:]
        self.send(answers)

    def _received(self, buffer: bytes, at: int) -> bytes:
        kind, message, mask, reference = read_sms(buffer, at)
        is_ours = kind == REPORT and reference.isdigit()
        self.driver.receipt(int(reference) if is_ours else -1, delivered=mask == DELIVERED)
        return ack(message)

    def send(self, before: list[bytes]) -> None:
        """Write answers, and as many messages as there is room for."""
        driver = self.driver
        for _ in range(min(self.window - self.unanswered, driver.room())):
            number, receiver, text = driver.message()
            before.append(
                sms(
                    b"Northside",
                    receiver.encode(),
                    text.encode(),
                    str(uuid.UUID(int=number + 1)).encode(),
                    b"%d" % number,
                )
            )
            self.unanswered += 1
        if before:
            self.transport.write(b"".join(before))


async def send(driver: Driver, arguments: argparse.Namespace) -> None:
    """Send until stopped."""
    loop = asyncio.get_running_loop()
    _, box = await loop.create_connection(lambda: Box(driver, arguments.window), "127.0.0.1", arguments.port)
    print(json.dumps({"window": arguments.window}), flush=True)

    async def look() -> None:
        box.send([])

    await driver.sent_and_received(look, arguments.drain)


def main() -> None:
    """Run one."""
    parser = parser_of("box")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--window", type=int, required=True, help="messages unanswered")
    run(send, parser.parse_args())


if __name__ == "__main__":
    main()
