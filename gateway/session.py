"""One SMPP session as a value: octets and `now` in, events and octets out.

No socket, clock, task or log is in here. Whoever owns the socket feeds `receive`, writes what `take_outgoing`
gives, and calls `tick` at `next_deadline`. After a `Closed` event the owner writes what is still outgoing and
closes the socket.

    binding --bind_resp ok--> bound --unbind, from either side--> unbinding --> closed
       |                        |                                     |            ^
       +--refused, time-out-----+--silence, broken stream, socket end--+------------+

What holds, whatever the peer sends and however the network cuts it:

* any split of the same octets gives the same events;
* each accepted submit ends in exactly one of `Responded(late=False)` or `Unanswered`. An answer that comes
  while the session still lives but after `Unanswered` is told as well, as `Responded(late=True)`;
* requests leave in state bound only (SMPP v3.4 section 2.2), submit_sm on a transmitter or transceiver only;
  answers leave until the session is closed;
* each inquiry (query_sm, cancel_sm) ends in exactly one `Ended`; while it is unanswered it takes a slot of the window;
* enquire_link is answered here, also before bind_resp; deliver_sm and data_sm are never answered until `answer` is
  called, but for three: one that cannot be read (`Undecodable`), one above `delivery_limit` (ESME_RTHROTTLED), and one
  at which an exception came up (ESME_RX_T_APPN); that is told as `Failed`, of any PDU, and costs no other one anything;
* memory is bounded by the longest PDU, the window and `delivery_limit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from gateway import codec
from gateway.errors import BrokenStream, MalformedBody, NotBound, WindowFull
from gateway.inquiry import COMMANDS, Ended, Inquiry, OpenInquiries, body_of
from gateway.pdu import RESPONSE_BIT, AnyPdu, CommandId, DeliverSm, FrameReader, Pdu, SubmitSmResp, Tag, congestion_of
from gateway.status import RX_T_APPN
from gateway.window import Window

BindKind = Literal["transceiver", "transmitter", "receiver"]

INVALID_COMMAND_LENGTH: Final = 0x02  # ESME_RINVCMDLEN
INVALID_COMMAND_ID: Final = 0x03  # ESME_RINVCMDID
DATA_SM: Final = 0x0000_0103
ALERT_NOTIFICATION: Final = 0x0000_0102  # has no response, section 4.12
BIND_FAILED: Final = 0x0D  # ESME_RBINDFAIL
TOO_MANY_DELIVERIES: Final = 0x58  # ESME_RTHROTTLED: the SMSC sends it again later
UNKNOWN_ERROR: Final = 0xFF  # ESME_RUNKNOWNERR

BIND_COMMANDS: Final[dict[BindKind, CommandId]] = {
    "transceiver": CommandId.BIND_TRANSCEIVER,
    "transmitter": CommandId.BIND_TRANSMITTER,
    "receiver": CommandId.BIND_RECEIVER,
}
_EMPTY_MESSAGE_ID = b"\0"  # SMPP v3.4 section 4.6.2: message_id of deliver_sm_resp is a single NUL
_SUBMIT_SM = int(CommandId.SUBMIT_SM)
_DELIVER_SM_RESP = int(CommandId.DELIVER_SM_RESP)
_DATA_SM_RESP = DATA_SM | RESPONSE_BIT


class SessionState(StrEnum):
    """Where a session is in its life."""

    BINDING = "binding"
    BOUND = "bound"
    UNBINDING = "unbinding"
    CLOSED = "closed"


# Python 3.11 takes 0.15 us to find a member of an enum: too long for what is asked for each segment.
_BINDING, _BOUND, _CLOSED = SessionState.BINDING, SessionState.BOUND, SessionState.CLOSED


class CloseReason(StrEnum):
    """Why a session ended."""

    BIND_REFUSED = "bind_refused"
    BIND_TIMEOUT = "bind_timeout"
    PEER_CLOSED = "peer_closed"  # the socket ended
    PEER_UNBOUND = "peer_unbound"  # the SMSC sent unbind, often for maintenance
    UNBOUND = "unbound"  # our unbind was answered
    UNBIND_TIMEOUT = "unbind_timeout"
    SILENT = "silent"  # enquire_link was not answered, nor did anything else come
    BROKEN_STREAM = "broken_stream"  # an impossible command_length
    FENCED = "fenced"  # another process may own the link
    ABORTED = "aborted"  # whoever owns the socket gave up


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What one bind needs to know."""

    kind: BindKind
    system_id: str
    password: str
    system_type: str = ""
    interface_version: int = 0x34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""
    window_size: int = 50
    response_timeout_s: float = 10.0
    bind_timeout_s: float = 10.0
    enquire_link_s: float = 30.0
    # deliver_sm that may be unanswered at once, about 15 MB; most SMSCs allow 1 to 100, some count and repeat nothing
    delivery_limit: int = 10_000

    def __repr__(self) -> str:
        """Leave the credentials out."""
        return f"SessionSettings(kind={self.kind!r})"


@dataclass(frozen=True, slots=True)
class Bound:
    """The SMSC took the bind. Its system_id is free text of the carrier's: it is read, and kept nowhere."""

    sc_interface_version: int | None  # None: not told, so TLVs may not be understood


@dataclass(frozen=True, slots=True)
class BindRefused:
    """The SMSC refused the bind; `Closed` follows."""

    command_status: int


class Responded(NamedTuple):
    """A submit_sm was answered."""

    token: Any
    command_status: int
    message_id: str  # "" where none was given
    written_at: float
    late: bool  # Unanswered was told before
    congestion: int = -1  # per cent, where the SMSC says so (congestion_state of SMPP v5.0)


class Unanswered(NamedTuple):
    """A submit_sm was not answered in time, or the session ended first."""

    token: Any
    written_at: float
    session_over: bool  # no late answer can come


class Delivered(NamedTuple):
    """A deliver_sm came; `Session.answer` answers it."""

    sequence_number: int
    pdu: DeliverSm


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A deliver_sm or data_sm whose body nobody can read came and was answered with `command_status`."""

    sequence_number: int
    command_status: int
    problem: str  # field and fault, without its value
    octets: bytes  # the whole PDU; it may hold a text


@dataclass(frozen=True, slots=True)
class Unexpected:
    """Something that belongs to nothing we know: counted and logged, never fatal."""

    kind: Literal["nack", "answer", "request", "overload", "delivery_unbound"]
    command_id: int
    sequence_number: int
    command_status: int


class Failed(NamedTuple):
    """A PDU met a fault of ours; a request of ours that it answers ends by its time-out."""

    command_id: int
    sequence_number: int
    error: Any  # an Exception, whose text may quote the PDU: not to be logged


@dataclass(frozen=True, slots=True)
class WornOut:
    """Too many requests were never answered: the session unbinds itself."""

    dead: int


@dataclass(frozen=True, slots=True)
class UnbindReceived:
    """The SMSC asked to end the session and has its answer; `Closed` follows."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more comes: write what is outgoing, close the socket."""

    reason: CloseReason


Event = (
    Bound | BindRefused | Responded | Ended | Unanswered | Delivered
    | Undecodable | Unexpected | Failed | WornOut | UnbindReceived | Closed
)  # fmt: skip


class Session:
    """The ESME side of one session; the bind is outgoing from the start."""

    __slots__ = (
        "_bind_sequence",
        "_data",
        "_deadline",
        "_deliveries",
        "_enquiry",
        "_enquiry_at",
        "_enquiry_waits",
        "_inquiries",
        "_is_over",
        "_last_received_at",
        "_last_request_at",
        "_outgoing",
        "_reader",
        "_unbind_sequence",
        "_undelivered",
        "answered_enquiries",
        "settings",
        "state",
        "window",
    )

    def __init__(self, settings: SessionSettings, now: float) -> None:
        self.settings = settings
        self.state = _BINDING
        self.window = Window(settings.window_size, settings.response_timeout_s)
        self._is_over = False
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []
        self._inquiries = OpenInquiries()
        self._data: dict[int, int] = {}  # of the deliveries below, those that came as data_sm
        self._deliveries: dict[int, int] = {}  # sequence_number -> how many deliver_sm under it are unanswered
        self._undelivered = 0  # sum of the above
        self._last_received_at = now  # of a whole PDU
        self._last_request_at = now  # of ours
        self._enquiry = 0  # sequence_number of the last enquire_link; 0 before the first
        self._enquiry_at = now
        self._enquiry_waits = False  # nothing came since the last enquire_link
        self.answered_enquiries = 0
        self._unbind_sequence: int | None = None
        self._deadline = now + settings.bind_timeout_s  # of bind_resp, later of unbind_resp
        self._bind_sequence: int | None = self.window.next_sequence_number()
        self._outgoing.append(codec.encode(self._bind_pdu(self._bind_sequence)))

    # Calls of the application

    @property
    def can_submit(self) -> bool:
        """Say whether submit_sm may leave, the window aside."""
        return self.state is _BOUND and self.settings.kind != "receiver"

    def free(self, *, lane0: bool) -> int:
        """Submits that may still go now; the window's reserve is for lane 0."""
        if not self.can_submit:
            return 0
        free = self.window.free(lane0=lane0)
        return max(0, free - len(self._inquiries)) if self._inquiries else free

    def inquire(self, inquiry: Inquiry, token: object, now: float) -> None:
        """Put query_sm or cancel_sm out; it ends in one `Ended`.

        Raises NotBound, WindowFull, or LocalError for a field that does not fit; then nothing was put out.
        """
        if not self.can_submit:
            raise NotBound(self.state)
        if not self.free(lane0=False):
            raise WindowFull(self.window.size)
        body = body_of(inquiry)
        number = self.window.next_sequence_number(self._enquiry)
        while number in self._inquiries:
            number = self.window.next_sequence_number(self._enquiry)
        self._inquiries.put(number, inquiry, token, now + self.settings.response_timeout_s)
        self._last_request_at = now
        self._outgoing += (codec.header(COMMANDS[inquiry.kind], 0, number, len(body)), body)

    def submit(self, body: bytes, token: object, now: float) -> int:
        """Put one submit_sm with this body out and return its sequence_number.

        Raises NotBound or WindowFull; then nothing was put out.
        """
        if self.state is not _BOUND or self.settings.kind == "receiver":
            raise NotBound(self.state)
        if self._inquiries and not self.free(lane0=True):
            raise WindowFull(self.window.size)
        number = self.window.open(now, token, self._enquiry)
        self._last_request_at = now
        self._outgoing.append(codec.header(_SUBMIT_SM, 0, number, len(body)))
        self._outgoing.append(body)
        return number

    def withdraw(self, sequence_number: int) -> None:
        """Forget a submit of which not one octet reached the socket; it ends without an event."""
        self.window.close(sequence_number)

    def answer(self, sequence_number: int, command_status: int) -> bool:
        """Put deliver_sm_resp out; False when the session cannot, or nothing of that number waits."""
        waiting = self._deliveries.get(sequence_number, 0)
        if not waiting:
            return False
        self._undelivered -= 1
        if waiting == 1:
            del self._deliveries[sequence_number]
        else:
            self._deliveries[sequence_number] = waiting - 1
        command = _DELIVER_SM_RESP
        if self._data and (came := self._data.pop(sequence_number, 0)):
            command = _DATA_SM_RESP
            if came > 1:
                self._data[sequence_number] = came - 1
        self._send(command, command_status, sequence_number, _EMPTY_MESSAGE_ID)
        return True

    @property
    def is_quiet(self) -> bool:
        """Say that nobody waits for an answer, on either side; requests past their time do not count."""
        return len(self.window) == self.window.dead and not self._undelivered and not self._inquiries

    def unbind(self, now: float) -> list[Event]:
        """End the session in order: what is unanswered may still be answered until unbind_resp comes."""
        events: list[Event] = []
        if self.state is _BOUND:
            self._start_unbind(now)
        elif self.state is _BINDING:
            self._close(CloseReason.ABORTED, events)
        return events

    def abort(self, reason: CloseReason = CloseReason.ABORTED) -> list[Event]:
        """End the session at once."""
        events: list[Event] = []
        self._close(reason, events)
        return events

    def reconfigure(self, settings: SessionSettings) -> None:
        """Take a changed window and changed deadlines; what belongs to the bind stays as it was bound."""
        self.settings = settings
        self.window.resize(settings.window_size, settings.response_timeout_s)

    # Calls of the owner of the socket

    def receive(self, octets: bytes, now: float) -> list[Event]:
        """Take what was read and tell what it means."""
        events: list[Event] = []
        if self._is_over:
            return events
        self._reader.feed(octets)
        try:
            for frame in self._reader:
                self._last_received_at = now
                self._enquiry_waits = False  # whatever came proves that the peer lives
                try:
                    self._read(codec.decode(frame), now, events)
                except MalformedBody as error:
                    self._read_malformed(error, frame, events)
                except Exception as error:  # whatever it is, the frames behind it are good
                    self._read_failed(error, frame, events)
                if self._is_over:
                    break
        except BrokenStream:
            self._send(CommandId.GENERIC_NACK, INVALID_COMMAND_LENGTH, 0)
            self._close(CloseReason.BROKEN_STREAM, events)
        return events

    def receive_eof(self) -> list[Event]:
        """Take the end of the socket."""
        return self.abort(CloseReason.PEER_CLOSED)

    def take_outgoing(self) -> bytes:
        """Give what is to be written, once."""
        octets = b"".join(self._outgoing)
        self._outgoing.clear()
        return octets

    def next_deadline(self) -> float | None:
        """Instant of the next `tick`; None when the session is closed."""
        if self.state is _CLOSED:
            return None
        if self.state is not _BOUND:
            return self._deadline
        window = self.window.next_deadline()
        life = self._life_deadline()
        if self._inquiries:
            life = min(life, self._inquiries.next_deadline())
        return life if window is None or life < window else window

    def tick(self, now: float) -> list[Event]:
        """Do what is due at `now`."""
        events: list[Event] = []
        if self.state is _BOUND:
            self._tick_bound(now, events)
        elif self.state is _BINDING and self._deadline <= now:
            self._close(CloseReason.BIND_TIMEOUT, events)
        elif self.state is SessionState.UNBINDING and self._deadline <= now:
            self._close(CloseReason.UNBIND_TIMEOUT, events)
        return events

    # Time

    def _life_deadline(self) -> float:
        """Next instant at which silence means something.

        Some SMSCs count only what we ask, others are only known to live by what they send: so enquire_link
        goes out when either has been silent for `enquire_link_s`.
        """
        if self._enquiry_waits:
            return self._enquiry_at + self.settings.response_timeout_s
        return min(self._last_received_at, self._last_request_at) + self.settings.enquire_link_s

    def _tick_bound(self, now: float, events: list[Event]) -> None:
        events.extend(Unanswered(slot.token, slot.opened_at, session_over=False) for slot in self.window.expire(now))
        if self._inquiries:
            events.extend(self._inquiries.expire(now))
        if self.window.is_worn(now):
            events.append(WornOut(self.window.dead))
            self._start_unbind(now)
        elif self._life_deadline() <= now:
            if self._enquiry_waits:
                self._close(CloseReason.SILENT, events)
                return
            self._enquiry = self.window.next_sequence_number()
            self._enquiry_at = now
            self._enquiry_waits = True
            self._last_request_at = now
            self._send(CommandId.ENQUIRE_LINK, 0, self._enquiry)

    # What came

    def _read(self, pdu: AnyPdu, now: float, events: list[Event]) -> None:
        if isinstance(pdu, SubmitSmResp):
            self._read_submit_answer(pdu, events)
        elif isinstance(pdu, DeliverSm):
            self._read_delivery(pdu, events)
        elif pdu.command_id & RESPONSE_BIT:
            if not (self._inquiries and pdu.sequence_number in self._inquiries):
                self._read_answer(pdu, now, events)
            else:
                number, status = pdu.sequence_number, pdu.command_status
                ended = self._inquiries.answered(pdu.command_id, status, number, pdu.raw)
                events.append(ended or Unexpected("answer", pdu.command_id, number, status))
        elif pdu.command_id == CommandId.ENQUIRE_LINK:
            self._send(CommandId.ENQUIRE_LINK_RESP, 0, pdu.sequence_number)
        elif pdu.command_id == DATA_SM:
            self._read_data(pdu, events)
        elif pdu.command_id == ALERT_NOTIFICATION:
            events.append(Unexpected("request", pdu.command_id, pdu.sequence_number, pdu.command_status))
        elif pdu.command_id == CommandId.UNBIND:
            self._send(CommandId.UNBIND_RESP, 0, pdu.sequence_number)
            events.append(UnbindReceived())
            self._close(CloseReason.PEER_UNBOUND, events)
        else:
            self._send(CommandId.GENERIC_NACK, INVALID_COMMAND_ID, pdu.sequence_number)
            events.append(Unexpected("request", pdu.command_id, pdu.sequence_number, pdu.command_status))

    def _read_submit_answer(self, pdu: SubmitSmResp, events: list[Event]) -> None:
        congestion = congestion_of(pdu) if pdu.tlvs else -1  # before the slot is closed: past that nothing may fail
        closed = self.window.close(pdu.sequence_number)
        if closed is None:
            events.append(Unexpected("answer", pdu.command_id, pdu.sequence_number, pdu.command_status))
        else:
            slot, late = closed
            told = slot.token, pdu.command_status, pdu.message_id, slot.opened_at, late, congestion
            events.append(tuple.__new__(Responded, told))

    def _read_data(self, pdu: Pdu, events: list[Event]) -> None:
        """Take a data_sm (section 4.7) as the deliver_sm that it stands for: receipts come in it, too."""
        number = pdu.sequence_number
        delivery = codec.delivery_of_data_sm(pdu)
        if self.state is _BINDING:
            events.append(Unexpected("delivery_unbound", DATA_SM, number, pdu.command_status))
        elif delivery is None:
            self._send(_DATA_SM_RESP, INVALID_COMMAND_LENGTH, number, _EMPTY_MESSAGE_ID)
            frame = codec.header(DATA_SM, pdu.command_status, number, len(pdu.raw)) + pdu.raw
            events.append(Undecodable(number, INVALID_COMMAND_LENGTH, "data_sm is cut off", frame))
        elif self._undelivered >= self.settings.delivery_limit:
            self._send(_DATA_SM_RESP, TOO_MANY_DELIVERIES, number, _EMPTY_MESSAGE_ID)
            events.append(Unexpected("overload", DATA_SM, number, TOO_MANY_DELIVERIES))
        else:
            self._data[number] = self._data.get(number, 0) + 1
            self._read_delivery(delivery, events)

    def _read_delivery(self, pdu: DeliverSm, events: list[Event]) -> None:
        number = pdu.sequence_number
        if self.state is _BINDING:
            # No answer is allowed yet: the SMSC sends it again once we are bound.
            events.append(Unexpected("delivery_unbound", CommandId.DELIVER_SM, number, pdu.command_status))
        elif self._undelivered >= self.settings.delivery_limit:
            self._send(_DELIVER_SM_RESP, TOO_MANY_DELIVERIES, number, _EMPTY_MESSAGE_ID)
            events.append(Unexpected("overload", CommandId.DELIVER_SM, number, TOO_MANY_DELIVERIES))
        else:
            self._deliveries[number] = self._deliveries.get(number, 0) + 1
            self._undelivered += 1
            events.append(tuple.__new__(Delivered, (number, pdu)))

    def _read_answer(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Match an answer other than submit_sm_resp; generic_nack answers whatever its number names."""
        number = pdu.sequence_number
        nack = pdu.command_id == CommandId.GENERIC_NACK
        if self.state is _BINDING:
            expected = BIND_COMMANDS[self.settings.kind] | RESPONSE_BIT
            if number == self._bind_sequence and (nack or pdu.command_id == expected):
                self._read_bind_answer(pdu, now, nack, events)
                return
        elif number == self._unbind_sequence and (nack or pdu.command_id == CommandId.UNBIND_RESP):
            self._close(CloseReason.UNBOUND, events)
            return
        if pdu.command_id == CommandId.ENQUIRE_LINK_RESP:
            self.answered_enquiries += number == self._enquiry
            return  # that something came was noted when its frame was read
        if nack and number:
            if number == self._enquiry:
                return
            closed = self.window.close(number)
            if closed is not None:
                slot, late = closed
                # A refusal that says "no error" is a refusal still.
                events.append(Responded(slot.token, pdu.command_status or UNKNOWN_ERROR, "", slot.opened_at, late))
                return
        events.append(Unexpected("nack" if nack else "answer", pdu.command_id, number, pdu.command_status))

    def _read_bind_answer(self, pdu: Pdu, now: float, nack: bool, events: list[Event]) -> None:
        self._bind_sequence = None
        if pdu.command_status or nack:
            events.append(BindRefused(pdu.command_status or BIND_FAILED))
            self._close(CloseReason.BIND_REFUSED, events)
            return
        self.state = _BOUND
        self._last_request_at = now
        version = pdu.tlv(Tag.SC_INTERFACE_VERSION)
        events.append(Bound(version[0] if version else None))

    def _read_malformed(self, error: MalformedBody, frame: bytes, events: list[Event]) -> None:
        header = error.header
        number = header.sequence_number
        if header.command_id == CommandId.DELIVER_SM and self.state is not _BINDING:
            # generic_nack would make many SMSCs end the session and deliver the same again.
            self._send(_DELIVER_SM_RESP, error.status, number, _EMPTY_MESSAGE_ID)
            events.append(Undecodable(number, error.status, f"{error.field} {error.problem}", frame))
        else:
            if header.command_id != CommandId.DELIVER_SM:
                self._send(CommandId.GENERIC_NACK, error.status, number)
            events.append(Unexpected("request", header.command_id, number, header.command_status))

    def _read_failed(self, error: Exception, frame: bytes, events: list[Event]) -> None:
        """Let a PDU that met a fault of ours cost itself alone; a delivery stays with the SMSC."""
        command_id, number = int.from_bytes(frame[4:8]), int.from_bytes(frame[12:16])
        if command_id in {CommandId.DELIVER_SM, DATA_SM} and self.state is not _BINDING and not self._is_over:
            self._send(command_id | RESPONSE_BIT, RX_T_APPN, number, _EMPTY_MESSAGE_ID)
        events.append(Failed(command_id, number, error))

    # What goes out

    def _bind_pdu(self, sequence_number: int) -> Pdu:
        settings = self.settings
        return Pdu(
            BIND_COMMANDS[settings.kind],
            0,
            sequence_number,
            {
                "system_id": settings.system_id,
                "password": settings.password,
                "system_type": settings.system_type,
                "interface_version": settings.interface_version,
                "addr_ton": settings.addr_ton,
                "addr_npi": settings.addr_npi,
                "address_range": settings.address_range,
            },
        )

    def _start_unbind(self, now: float) -> None:
        self.state = SessionState.UNBINDING
        self._deadline = now + self.settings.response_timeout_s
        self._unbind_sequence = self.window.next_sequence_number()
        self._send(CommandId.UNBIND, 0, self._unbind_sequence)

    def _send(self, command_id: int, command_status: int, sequence_number: int, body: bytes = b"") -> None:
        self._outgoing.append(codec.header(command_id, command_status, sequence_number, len(body)) + body)

    def _close(self, reason: CloseReason, events: list[Event]) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.state = _CLOSED
        self._deliveries.clear()
        self._data.clear()
        self._undelivered = 0
        events.extend(self._inquiries.drain())
        events.extend(Unanswered(slot.token, slot.opened_at, session_over=True) for slot in self.window.drain())
        events.append(Closed(reason))
