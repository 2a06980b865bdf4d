"""query_sm and cancel_sm: asking an SMSC about a message that it has accepted (SMPP v3.4 sections 4.8 and 4.9).

A request takes a slot of the window and one of the rate's segments, beside the submit_sm and outside of lane 0's
reserve: carriers count requests, whatever they ask. Any answer is told as it is; no answer, and the end of the session,
are outcomes as well. An SMSC that does not offer the operation answers generic_nack or ESME_RINVCMDID: then it is not
asked again on that session.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from gateway.errors import FieldTooLong, UnencodableText
from gateway.messages import Address
from gateway.pdu import RESPONSE_BIT, CommandId

Kind = Literal["query", "cancel"]
Outcome = Literal["answered", "unanswered", "session_lost", "unsupported", "busy"]

COMMANDS: Final[dict[Kind, int]] = {"query": 0x0000_0003, "cancel": 0x0000_0008}
GENERIC_NACK: Final = int(CommandId.GENERIC_NACK)
INVALID_COMMAND_ID: Final = 0x03
STATES: Final = {  # message_state, section 5.2.28
    1: "ENROUTE",
    2: "DELIVERED",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIVERABLE",
    6: "ACCEPTED",
    7: "UNKNOWN",
    8: "REJECTED",
}
LONGEST_ID: Final = 64  # octets, section 5.2.23
LONGEST_ADDRESS: Final = 20


class Inquiry(NamedTuple):
    """What is asked, about one segment. Its addresses are those of its submit_sm."""

    kind: Kind
    message_id: str
    source: Address
    destination: Address
    service_type: str = ""

    def __repr__(self) -> str:
        """Leave the numbers out."""
        return f"Inquiry(kind={self.kind!r})"


class Reply(NamedTuple):
    """What came of it."""

    outcome: Outcome
    command_status: int = 0  # of an answer
    message_state: str = ""  # of a query: a word of the specification, or the number
    error_code: int = 0  # of a query: the network's, where it says one
    final_date: str = ""  # of a query: as the SMSC wrote it


class Ended(NamedTuple):
    """One inquiry, and what came of it."""

    token: Any
    reply: Reply


class OpenInquiries:
    """The inquiries that are unanswered on one session; each leaves in one `Ended`."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, tuple[Inquiry, Any, float]] = {}  # sequence_number -> what, token, deadline

    def __len__(self) -> int:
        """How many are unanswered; they count against the window."""
        return len(self._open)

    def __contains__(self, sequence_number: int) -> bool:
        """Say whether one has this number."""
        return sequence_number in self._open

    def put(self, sequence_number: int, inquiry: Inquiry, token: object, deadline: float) -> None:
        """Note one that goes out."""
        self._open[sequence_number] = (inquiry, token, deadline)

    def answered(self, command_id: int, command_status: int, sequence_number: int, body: bytes) -> Ended | None:
        """Take an answer to this number; None where it answers something else: then the inquiry goes on."""
        inquiry, token, _ = self._open[sequence_number]
        if command_id not in (COMMANDS[inquiry.kind] | RESPONSE_BIT, GENERIC_NACK):
            return None
        del self._open[sequence_number]
        return Ended(token, reply_of(inquiry, command_id, command_status, body))

    def next_deadline(self) -> float:
        """Instant at which the next one was not answered in time; one has to be open."""
        return min(deadline for _, _, deadline in self._open.values())

    def expire(self, now: float) -> list[Ended]:
        """Those that were not answered by `now`."""
        over = [number for number, (_, _, deadline) in self._open.items() if deadline <= now]
        return [Ended(self._open.pop(number)[1], Reply("unanswered")) for number in over]

    def drain(self) -> list[Ended]:
        """All of them, since the session ended."""
        ended = [Ended(token, Reply("session_lost")) for _, token, _ in self._open.values()]
        self._open.clear()
        return ended


def body_of(inquiry: Inquiry) -> bytes:
    """Give the body of the request. Raises LocalError for a field that does not fit."""
    source, destination = inquiry.source, inquiry.destination
    message_id = _text("message_id", inquiry.message_id, LONGEST_ID)
    source_addr = bytes((source.ton, source.npi)) + _text("source_addr", source.value, LONGEST_ADDRESS)
    if inquiry.kind == "query":
        return message_id + source_addr
    destination_addr = _text("destination_addr", destination.value, LONGEST_ADDRESS)
    return (
        _text("service_type", inquiry.service_type, 5)
        + message_id
        + source_addr
        + bytes((destination.ton, destination.npi))
        + destination_addr
    )


def reply_of(inquiry: Inquiry, command_id: int, command_status: int, body: bytes) -> Reply:
    """Read an answer, whatever its body looks like: fields that are missing are empty."""
    if command_status == INVALID_COMMAND_ID or (command_id == GENERIC_NACK and not command_status):
        return Reply("unsupported", command_status)
    if inquiry.kind == "cancel" or command_status:
        return Reply("answered", command_status)
    _, _, rest = body.partition(b"\0")
    final_date, _, rest = rest.partition(b"\0")
    state, error = (*rest[:2], 0, 0)[:2]
    shown = "".join(character for character in final_date[:16].decode("latin-1") if character in "0123456789+-R")
    return Reply("answered", command_status, STATES.get(state, str(state)), error, shown)


def _text(name: str, value: str, limit: int) -> bytes:
    """A C-octet string."""
    if not value.isascii() or "\0" in value:
        raise UnencodableText(f"{name}: ASCII without NUL", 0)
    if len(value) > limit:
        raise FieldTooLong(name, len(value), limit)
    return value.encode("ascii") + b"\0"
