"""What the simulator remembers of the messages that it accepted, and says to query_sm and cancel_sm.

SMPP v3.4 sections 4.8 and 4.9. A message is ENROUTE until its receipt's time has come, whether it asked for a receipt
or not; until then it can be cancelled. Addresses have to be those of the submit_sm, their ton and npi as well; a
destination may be left out. Groups (no message_id) cannot be cancelled.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.codec import validity_absolute
from gateway.inquiry import COMMANDS
from gateway.smsc.deliveries import DELETED, DELIVERED, ENROUTE

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from gateway.pdu import Pdu
    from gateway.smsc.smsc import Submitted

OK: Final = 0x00
INVALID_MESSAGE_ID: Final = 0x0C  # ESME_RINVMSGID
CANCEL_FAILED: Final = 0x11  # ESME_RCANCELFAIL
QUERY_FAILED: Final = 0x67  # ESME_RQUERYFAIL
QUERY_SM: Final = COMMANDS["query"]
CANCEL_SM: Final = COMMANDS["cancel"]
LONGEST_TEXTS: Final = {"service_type": 5, "message_id": 64, "source_addr": 20, "destination_addr": 20}  # octets
NO_ADDRESS: Final = (0, 0, "")

Sender = tuple[int, int, str]  # ton, npi, address


class Inquired(NamedTuple):
    """A query_sm or cancel_sm came; `Session.answer_inquiry` answers it."""

    command_id: int
    sequence_number: int
    message_id: str
    source: Sender
    destination: Sender = NO_ADDRESS

    def __repr__(self) -> str:
        """Leave the numbers out."""
        return f"Inquired(command_id={self.command_id}, message_id={self.message_id!r})"


class Message:
    """One accepted message."""

    __slots__ = ("_final_at", "_state", "final_on", "receipt_timer", "submitted", "submitted_on")

    def __init__(self, submitted: Submitted, state: int, submitted_on: datetime, now: float, after_s: float) -> None:
        """`state` is what it comes to so many seconds after `now` (monotonic)."""
        self.submitted = submitted
        self.submitted_on = submitted_on
        self.final_on = submitted_on + timedelta(seconds=after_s)
        self.receipt_timer: asyncio.TimerHandle | None = None  # its final receipt is due, and held
        self._state = state
        self._final_at = now + after_s

    def state(self, now: float) -> int:
        """Tell its message_state."""
        return self._state if now >= self._final_at else ENROUTE

    def delete(self, now: float, today: datetime) -> None:
        """Note that it was cancelled."""
        self._state, self._final_at, self.final_on = DELETED, now, today

    def is_from(self, source: Sender) -> bool:
        """Say whether this is the source of its submit_sm."""
        return source == _sender(self.submitted.pdu, "source_addr", "source_addr_ton", "source_addr_npi")

    def goes_to(self, destination: Sender) -> bool:
        """Say whether this is the destination of its submit_sm, or none at all."""
        pdu = self.submitted.pdu
        return not destination[2] or destination == _sender(pdu, "destination_addr", "dest_addr_ton", "dest_addr_npi")


class Messages:
    """The messages that were accepted last; of those with the same id the last one."""

    __slots__ = ("_by_id", "_limit", "_order")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order: deque[Message] = deque()  # oldest first
        self._by_id: dict[str, Message] = {}

    def remember(self, message: Message) -> None:
        """Take a message in, and forget the oldest where there are too many."""
        self._order.append(message)
        self._by_id[message.submitted.message_id] = message
        if len(self._order) > self._limit:
            message_id = self._order[0].submitted.message_id
            if self._by_id[message_id] is self._order.popleft():
                del self._by_id[message_id]

    def judge(self, asked: Inquired, system_id: str, now: float) -> tuple[int, Message | None]:
        """Give the command_status of the answer, and the message that it is about."""
        message = self._by_id.get(asked.message_id) if asked.message_id else None
        if message is None or message.submitted.system_id != system_id:
            return INVALID_MESSAGE_ID, None
        if asked.command_id == QUERY_SM:
            return (OK if message.is_from(asked.source) else QUERY_FAILED), message
        may = message.is_from(asked.source) and message.goes_to(asked.destination) and message.state(now) == ENROUTE
        return (OK if may else CANCEL_FAILED), message


def state_body(message: Message, now: float, error: str) -> bytes:
    """Body of the query_sm_resp: message_id, final_date, message_state, error_code (section 4.8.2)."""
    state = message.state(now)
    final_date = "" if state == ENROUTE else validity_absolute(message.final_on)
    error_code = int(error) & 0xFF if error.isdecimal() and state not in {ENROUTE, DELIVERED} else 0
    return message.submitted.message_id.encode("ascii") + b"\0" + final_date.encode() + bytes((0, state, error_code))


def read(pdu: Pdu) -> Inquired | None:
    """Read the body of a query_sm or cancel_sm; None where it is malformed."""
    body, at = pdu.raw, 0
    texts: dict[str, str] = {}
    senders: list[Sender] = []
    for name in LONGEST_TEXTS:
        if name in {"service_type", "destination_addr"} and pdu.command_id == QUERY_SM:
            continue
        is_address = name.endswith("_addr")
        start = at + 2 * is_address
        end = body.find(b"\0", start, start + LONGEST_TEXTS[name] + 1)
        if end < 0:
            return None
        texts[name] = body[start:end].decode("latin-1")
        if is_address:
            senders.append((body[at], body[at + 1], texts[name]))
        at = end + 1
    return Inquired(pdu.command_id, pdu.sequence_number, texts["message_id"], *senders)


def _sender(pdu: Pdu, address: str, ton: str, npi: str) -> Sender:
    return pdu.number(ton), pdu.number(npi), pdu.text(address)
