"""Values at the seam between the gateway and whoever uses it.

Texts and addresses cross this seam; PDU fields do not. Everything here is a plain value: no socket, no
clock, no task. Instants named ``deadline`` are monotonic seconds of the event loop's clock. What is made for each
segment is a named tuple: a frozen dataclass takes three times as long to make. Where most of them come from,
``tuple.__new__`` makes them: a named tuple's own constructor is Python, even where the module is compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

FlashWay = Literal["class0", "group_f", "dest_addr_subunit", "plain"]  # plain: the text arrives, not as flash


class Verdict(StrEnum):
    """What became of one segment, or what an answer's command_status means."""

    ACCEPTED = "accepted"  # the SMSC has it; message_id is its name for it
    THROTTLED = "throttled"  # the link is too fast; the link itself waits and repeats the segment
    RETRY = "retry"  # passing trouble: try again later, an attempt is spent
    AMBIGUOUS = "ambiguous"  # the SMSC did not say why: a few tries, then final
    REJECTED = "rejected"  # this message will never be taken
    OPTED_OUT = "opted_out"  # nor will another of this sender to this number: the person has told the carrier
    MISCONFIGURED = "misconfigured"  # our fault: final for the message, an operator must look
    LINK_FAULT = "link_fault"  # the session is unusable; the link rebinds and repeats the segment
    UNANSWERED = "unanswered"  # written, and no answer came: in doubt
    EXPIRED = "expired"  # its time ran out in the waiting room: nothing was written


class DeliveryState(StrEnum):
    """What a receipt says of a segment. ENROUTE is the only one that is not final."""

    ENROUTE = "enroute"
    UNKNOWN = "unknown"
    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"


class Address(NamedTuple):
    """An SME address: type of number, numbering plan, and at most 20 octets of digits or text."""

    value: str
    ton: int = 1
    npi: int = 1

    def __repr__(self) -> str:
        """Leave the number out."""
        return f"Address(ton={self.ton}, npi={self.npi})"


class Segment(NamedTuple):
    """One submit_sm's worth of a message.

    ``octets`` is the user data with its header (UDH), ready for short_message or message_payload.
    """

    part: int  # 1..parts
    parts: int  # 1..255
    data_coding: int
    udhi: bool  # octets begin with a user data header
    octets: bytes
    reference: int = 0  # concat reference; parts > 1 only

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"Segment(part={self.part}, parts={self.parts}, data_coding={self.data_coding})"


class ShortMessage(NamedTuple):
    """What every segment of one message shares on the wire."""

    source: Address
    destination: Address
    priority_flag: int = 0  # 0..3, SMPP v3.4 section 5.2.14
    service_type: str = ""
    registered_delivery: int = 1  # 0 none, 1 all, 2 failures only
    flash: bool = False  # a link says it in data_coding or in a TLV
    tlvs: tuple[tuple[int, bytes], ...] = ()  # beside the link's own; of the same tag these are written


class Form(NamedTuple):
    """How the segments of one message are written; False: that field was refused, and is left at its default."""

    flash: FlashWay = "plain"
    priority: bool = True
    receipts: bool = True
    validity: bool = True


@dataclass(slots=True, eq=False)
class Submission:
    """One message handed to a link: the segments still to be accepted, in order.

    The link writes them one after the other, as throttle and window permit. Once a segment comes back
    with anything but ``ACCEPTED``, the link writes no further one of this submission.
    """

    lane: int  # 0 first, 1..5 share the rest by weight
    message: ShortMessage
    segments: tuple[Segment, ...]
    deadline: float  # monotonic; nothing is written at or after it, and its validity period ends with it
    context: object = None  # the caller's own; the gateway never looks at it
    next_index: int = 0  # of the segment that is written next
    stopped: bool = False  # a segment was not accepted: write no more
    unanswered: int = 0  # segments written, answer not yet read
    spared: int = 0  # bits of parts that need not be written any more; bit 0 is part 1
    form: Form | None = None  # how it is written, where that is not as the link's settings say
    formed_at: float = 0.0  # monotonic: since when, after a refusal; 0.0 when none was refused
    written_before: float = math.inf  # monotonic; nothing is written at or after it, nor is its validity period cut

    def spare(self, part: int) -> bool:
        """Keep a part that still waits from being written; False once it was taken to be written."""
        waiting = any(segment.part == part for segment in self.segments[self.next_index :])
        if waiting:
            self.spared |= 1 << (part - 1)
        return waiting


class SubmitResult(NamedTuple):
    """What became of one segment of a submission."""

    submission: Submission
    segment: Segment
    verdict: Verdict
    command_status: int  # of the answer; 0 where there was none
    message_id: str  # "" where the SMSC gave none
    written_at: float  # monotonic; 0.0 when never written
    answered_at: float  # monotonic
    session_over: bool = False  # of UNANSWERED: its session has ended, so that no late answer can come


class Receipt(NamedTuple):
    """A delivery receipt, as far as it could be read; nothing but the id is certain to be there."""

    message_id: str  # "" when none was found
    state: DeliveryState
    error: str = ""  # carrier's code, 1..8 characters; "" when none
    submitted_on: str = ""  # YYMMDDhhmm as the SMSC wrote it, its own time zone; "" when none
    source: str = ""  # digits as given; carriers swap or omit the two
    destination: str = ""
    reason: str = ""  # a ReceiptReason of what is undelivered or unknown; "" of all else

    def __repr__(self) -> str:
        """Leave the numbers out."""
        return f"Receipt(state={self.state.value!r}, error={self.error!r})"


@dataclass(frozen=True, slots=True)
class Inbound:
    """A mobile-originated message, or one part of it."""

    source: Address
    destination: Address
    text: str = field(repr=False)  # "" when the user data is not text (ports, binary)
    octets: bytes = field(repr=False)  # user data as received, header included
    data_coding: int
    esm_class: int
    reference: int = 0  # concat reference; parts > 1 only
    reference_bits: int = 0  # 8 or 16; 0 when the message is whole
    part: int = 1
    parts: int = 1
    is_text: bool = True
    payload: bytes = field(default=b"", repr=False)  # message_payload, when both were present
