"""The SMSC's side of one SMPP session, as a value: octets in, what they ask for and octets out.

No socket, clock or task is in here. Any octets are survived: a body that cannot be read is answered with its
status and the session goes on; a length that is impossible ends it (`is_over`), once what is outgoing is written.

    open --bind--> bound --unbind--> over
      |              |                ^
      +--refused-----+--broken stream-+

Binds, enquire_link and unbind are answered here. submit_sm, query_sm and cancel_sm are given to the owner, who answers
them when he likes.
The owner may look at each frame first (`admit`), which is how a simulator stays silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway import codec
from gateway.errors import BrokenStream, MalformedBody
from gateway.pdu import RESPONSE_BIT, CommandId, FrameReader, Pdu, Tag
from gateway.smsc.deliveries import Delivery
from gateway.smsc.inquiries import CANCEL_SM, QUERY_SM, Inquired, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.pdu import AnyPdu

OK: Final = 0x00
INVALID_COMMAND_LENGTH: Final = 0x02
INVALID_COMMAND_ID: Final = 0x03
INVALID_BIND_STATUS: Final = 0x04
ALREADY_BOUND: Final = 0x05
LAST_SEQUENCE: Final = 0x7FFF_FFFF
ALL_BITS: Final = 0xFFFF_FFFF
INTERFACE_VERSION: Final = 0x34

BINDS: Final = frozenset({CommandId.BIND_RECEIVER, CommandId.BIND_TRANSMITTER, CommandId.BIND_TRANSCEIVER})
ANSWERED_AS_THEMSELVES: Final = BINDS | {CommandId.SUBMIT_SM}  # requests whose bodies may be malformed


class Asked(NamedTuple):
    """A submit_sm came; `Session.answer` answers it."""

    pdu: Pdu


class Acknowledged(NamedTuple):
    """The ESME answered a deliver_sm."""

    delivery: Delivery
    command_status: int


Event = Asked | Inquired | Acknowledged


class Session:
    """One connection, from accept to close."""

    __slots__ = (
        "_admit",
        "_authenticate",
        "_deliveries",
        "_last_sequence",
        "_outgoing",
        "_reader",
        "_sequence",
        "_system_id",
        "deliver_window",
        "is_over",
        "is_unbinding",
        "kind",
        "system_id",
    )

    def __init__(
        self,
        *,
        system_id: str,
        authenticate: Callable[[str, str], int],
        deliver_window: int,
        first_sequence_number: int = 1,
        admit: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Make a session that waits for a bind.

        `system_id` is the SMSC's own. `authenticate` gives the command_status for a system_id and password.
        A `first_sequence_number` above 0x7FFFFFFF makes it count all 32 bits, 0 included.
        `admit` sees each frame before it is acted on, and says whether it is.
        """
        self.kind: CommandId | None = None  # None: not bound
        self.system_id = ""  # of the ESME, once bound
        self.deliver_window = deliver_window  # deliver_sm that may be unanswered at once
        self.is_over = False
        self.is_unbinding = False  # our unbind is unanswered: nothing else is said any more
        self._system_id = system_id
        self._authenticate = authenticate
        self._admit = admit
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []
        self._deliveries: dict[int, Delivery] = {}  # sequence_number -> unanswered, oldest first
        self._last_sequence = LAST_SEQUENCE if first_sequence_number <= LAST_SEQUENCE else ALL_BITS
        self._sequence = (first_sequence_number - 1) & ALL_BITS  # of our last request

    @property
    def submits(self) -> bool:
        """Say whether submit_sm may come."""
        return self.kind in {CommandId.BIND_TRANSMITTER, CommandId.BIND_TRANSCEIVER}

    @property
    def receives(self) -> bool:
        """Say whether deliver_sm may go."""
        return self.kind in {CommandId.BIND_RECEIVER, CommandId.BIND_TRANSCEIVER}

    @property
    def room(self) -> int:
        """Deliveries that may go now."""
        if self.is_over or self.is_unbinding or not self.receives:
            return 0
        return self.deliver_window - len(self._deliveries)

    def receive(self, octets: bytes) -> list[Event]:
        """Take what was read and tell what it asks for."""
        events: list[Event] = []
        if self.is_over:
            return events
        self._reader.feed(octets)
        try:
            for frame in self._reader:
                if self._admit is None or self._admit(frame):
                    try:
                        pdu = codec.decode(frame)
                    except MalformedBody as error:
                        self._refuse(error.header.command_id, error.header.sequence_number, error.status)
                    else:
                        self._read(pdu, events)
                if self.is_over:
                    break
        except BrokenStream:
            self._send(CommandId.GENERIC_NACK, INVALID_COMMAND_LENGTH, 0)
            self.is_over = True
        return events

    def answer(self, sequence_number: int, command_status: int, message_id: str = "") -> None:
        """Put submit_sm_resp out; a refusal has no body (SMPP v3.4 section 4.4.2)."""
        body = b"" if command_status else message_id.encode("ascii") + b"\0"
        self._send(CommandId.SUBMIT_SM_RESP, command_status, sequence_number, body)

    def answer_inquiry(self, asked: Inquired, command_status: int, body: bytes = b"") -> None:
        """Put query_sm_resp or cancel_sm_resp out."""
        self._send(asked.command_id | RESPONSE_BIT, command_status, asked.sequence_number, body)

    def repeat(self) -> None:
        """Put the PDU out once more that was put out last."""
        self._outgoing.append(self._outgoing[-1])

    def nack(self, sequence_number: int, command_status: int) -> None:
        """Put generic_nack out, in the place of an answer."""
        self._send(CommandId.GENERIC_NACK, command_status, sequence_number)

    def enquire(self) -> None:
        """Put enquire_link out; whether it is answered is not looked at."""
        self._count()
        self._send(CommandId.ENQUIRE_LINK, OK, self._sequence)

    def unbind(self) -> None:
        """Put unbind out; its answer ends the session."""
        self._count()
        self._send(CommandId.UNBIND, OK, self._sequence)
        self.is_unbinding = True

    def deliver(self, delivery: Delivery) -> None:
        """Put deliver_sm out. The caller has seen that there is `room`."""
        self._count()
        self._deliveries[self._sequence] = delivery
        self._outgoing.append(
            codec.encode(Pdu(CommandId.DELIVER_SM, OK, self._sequence, delivery.fields, delivery.tlvs))
        )

    def end(self) -> list[Delivery]:
        """End the session and give the deliveries back that were not answered, oldest first."""
        self.is_over = True
        unanswered = list(self._deliveries.values())
        self._deliveries.clear()
        return unanswered

    def take_outgoing(self) -> bytes:
        """Give what is to be written, once."""
        return b"".join(self.take_frames())

    def take_frames(self) -> list[bytes]:
        """Give what is to be written, once, a PDU each."""
        frames, self._outgoing = self._outgoing, []
        return frames

    # What came

    def _read(self, pdu: AnyPdu, events: list[Event]) -> None:
        number = pdu.sequence_number
        if pdu.command_id == CommandId.SUBMIT_SM and isinstance(pdu, Pdu):
            if self.is_unbinding:
                return
            if self.submits:
                events.append(Asked(pdu))
            else:
                self._send(CommandId.SUBMIT_SM_RESP, INVALID_BIND_STATUS, number)
        elif pdu.command_id in {QUERY_SM, CANCEL_SM} and isinstance(pdu, Pdu):
            self._read_inquiry(pdu, events)
        elif pdu.command_id in {CommandId.DELIVER_SM_RESP, CommandId.GENERIC_NACK}:
            delivery = self._deliveries.pop(number, None)
            if delivery is not None:
                events.append(Acknowledged(delivery, pdu.command_status))
        elif pdu.command_id in BINDS and isinstance(pdu, Pdu):
            self._read_bind(pdu)
        elif pdu.command_id == CommandId.ENQUIRE_LINK:
            self._send(CommandId.ENQUIRE_LINK_RESP, OK, number)
        elif pdu.command_id == CommandId.UNBIND:
            self._send(CommandId.UNBIND_RESP, OK, number)
            self.is_over = True
        elif pdu.command_id == CommandId.UNBIND_RESP and self.is_unbinding:
            self.is_over = True
        elif not pdu.command_id & RESPONSE_BIT:
            self._send(CommandId.GENERIC_NACK, INVALID_COMMAND_ID, number)

    def _read_inquiry(self, pdu: Pdu, events: list[Event]) -> None:
        asked = read(pdu)
        if self.is_unbinding:
            return
        if not self.submits:
            self._send(pdu.command_id | RESPONSE_BIT, INVALID_BIND_STATUS, pdu.sequence_number)
        elif asked is None:
            self._send(pdu.command_id | RESPONSE_BIT, INVALID_COMMAND_LENGTH, pdu.sequence_number)
        else:
            events.append(asked)

    def _read_bind(self, pdu: Pdu) -> None:
        if self.kind is not None:
            self._refuse(pdu.command_id, pdu.sequence_number, ALREADY_BOUND)
            return
        command_status = self._authenticate(pdu.text("system_id"), pdu.text("password"))
        if command_status:
            self._refuse(pdu.command_id, pdu.sequence_number, command_status)
            self.is_over = True
            return
        self.kind = CommandId(pdu.command_id)
        self.system_id = pdu.text("system_id")
        self._outgoing.append(
            codec.encode(
                Pdu(
                    pdu.command_id | RESPONSE_BIT,
                    OK,
                    pdu.sequence_number,
                    {"system_id": self._system_id},
                    ((Tag.SC_INTERFACE_VERSION, bytes((INTERFACE_VERSION,))),),
                )
            )
        )

    def _refuse(self, command_id: int, sequence_number: int, command_status: int) -> None:
        """Answer a request with a status and no body; one that we would never act on gets generic_nack."""
        is_ours = command_id in ANSWERED_AS_THEMSELVES
        answer = command_id | RESPONSE_BIT if is_ours else CommandId.GENERIC_NACK
        self._send(answer, command_status, sequence_number)

    def _count(self) -> None:
        """Go to the next sequence_number of ours that is not in use."""
        while True:
            wraps = self._sequence == self._last_sequence == LAST_SEQUENCE
            self._sequence = 1 if wraps else (self._sequence + 1) & ALL_BITS
            if self._sequence not in self._deliveries:
                break

    def _send(self, command_id: int, command_status: int, sequence_number: int, body: bytes = b"") -> None:
        self._outgoing.append(codec.header(command_id, command_status, sequence_number, len(body)) + body)
