"""PDU values, and the cutting of a stream of octets into frames (SMPP v3.4 sections 3.2 and 4).

A frame is one whole PDU: a 16-octet header of four big-endian 32-bit numbers, and a body. What a body means
is ``gateway.codec``'s to say; nothing here looks into one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import BrokenStream

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_OCTETS = 16
MAX_PDU_OCTETS = 70_000  # a message_payload of 64 KiB with everything around it; a longer length is a broken stream
RESPONSE_BIT = 0x8000_0000  # set in the command_id of every answer
_LENGTH = struct.Struct(">I")  # command_length, the first number of the header
_CONGESTION_STATE = 0x0428  # a TLV of SMPP v5.0; smpplib's tables, which Tag is held to, end with v3.4


class CommandId(IntEnum):
    """The operations we speak; any other command_id stays an int."""

    BIND_RECEIVER = 0x0000_0001
    BIND_TRANSMITTER = 0x0000_0002
    SUBMIT_SM = 0x0000_0004
    DELIVER_SM = 0x0000_0005
    UNBIND = 0x0000_0006
    BIND_TRANSCEIVER = 0x0000_0009
    ENQUIRE_LINK = 0x0000_0015
    GENERIC_NACK = 0x8000_0000
    BIND_RECEIVER_RESP = 0x8000_0001
    BIND_TRANSMITTER_RESP = 0x8000_0002
    SUBMIT_SM_RESP = 0x8000_0004
    DELIVER_SM_RESP = 0x8000_0005
    UNBIND_RESP = 0x8000_0006
    BIND_TRANSCEIVER_RESP = 0x8000_0009
    ENQUIRE_LINK_RESP = 0x8000_0015


class Tag(IntEnum):
    """The TLVs whose meaning we know; all others are carried along unread."""

    DEST_ADDR_SUBUNIT = 0x0005
    RECEIPTED_MESSAGE_ID = 0x001E
    SAR_MSG_REF_NUM = 0x020C
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    SC_INTERFACE_VERSION = 0x0210
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    MESSAGE_STATE = 0x0427
    USSD_SERVICE_OP = 0x0501
    ITS_SESSION_INFO = 0x1383


Tlv = tuple[int, bytes]  # tag, value; the length is the value's own


class Header(NamedTuple):
    """The first 16 octets of every PDU."""

    command_length: int
    command_id: int
    command_status: int
    sequence_number: int


class SubmitSmResp(NamedTuple):
    """An answer to one segment; ``message_id`` is "" where the SMSC gave none."""

    command_status: int
    sequence_number: int
    message_id: str
    tlvs: tuple[Tlv, ...] = ()

    @property
    def command_id(self) -> int:
        """Say which operation this is, as every PDU value does."""
        return CommandId.SUBMIT_SM_RESP


class DeliverSm(NamedTuple):
    """A receipt or a mobile-originated message, field by field as section 4.6.1 lists them.

    Text fields are read as Latin-1, which loses no octet and refuses none.
    """

    command_status: int
    sequence_number: int
    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    replace_if_present_flag: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    sm_length: int = 0
    short_message: bytes = b""
    tlvs: tuple[Tlv, ...] = ()

    @property
    def command_id(self) -> int:
        """Say which operation this is, as every PDU value does."""
        return CommandId.DELIVER_SM

    def tlv(self, tag: int) -> bytes | None:
        """Value of the first TLV with this tag, None where there is none."""
        return first_tlv(self.tlvs, tag)

    def __repr__(self) -> str:
        # addresses and text stay out of logs and tracebacks
        return f"DeliverSm(sequence_number={self.sequence_number}, esm_class=0x{self.esm_class:02x})"


@dataclass(frozen=True, slots=True)
class Pdu:
    """Any other PDU. ``fields`` is empty where the body is empty or the command_id is not ours.

    Neither fields nor TLVs are in its repr: they carry passwords, numbers and texts.
    """

    command_id: int
    command_status: int
    sequence_number: int
    fields: Mapping[str, int | str | bytes] = field(default_factory=dict, repr=False)
    tlvs: tuple[Tlv, ...] = field(default=(), repr=False)
    raw: bytes = field(default=b"", repr=False)  # the body, where no field table describes it

    def text(self, name: str) -> str:
        """Value of a C-octet string field, "" where the PDU did not carry it."""
        value = self.fields.get(name, "")
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """Value of an integer field, 0 where the PDU did not carry it."""
        value = self.fields.get(name, 0)
        assert isinstance(value, int)
        return value

    def octets(self, name: str) -> bytes:
        """Value of an octet string field, empty where the PDU did not carry it."""
        value = self.fields.get(name, b"")
        assert isinstance(value, bytes)
        return value

    def tlv(self, tag: int) -> bytes | None:
        """Value of the first TLV with this tag, None where there is none."""
        return first_tlv(self.tlvs, tag)


AnyPdu = Pdu | SubmitSmResp | DeliverSm


def first_tlv(tlvs: tuple[Tlv, ...], tag: int) -> bytes | None:
    """Value of the first TLV with this tag, None where there is none."""
    for found, value in tlvs:
        if found == tag:
            return value
    return None


class FrameReader:
    """Cuts a stream into frames: feed it what was read, then iterate.

    Holds at most one incomplete frame and what was fed last, so its memory is bounded by ``max_length`` plus
    one read. Any split of the same octets gives the same frames.
    """

    __slots__ = ("_broken", "_buffer", "_given", "max_length")

    def __init__(self, max_length: int = MAX_PDU_OCTETS) -> None:
        self.max_length = max_length  # octets of the longest frame that is believed
        self._buffer = bytearray()
        self._given = 0  # octets at its beginning that were given as frames
        self._broken: int | None = None  # the impossible command_length, once one was read

    def feed(self, octets: bytes) -> None:
        """Take what was read; after a broken length nothing is taken any more."""
        if self._broken is None:
            self._forget_given()
            self._buffer += octets

    def __iter__(self) -> Iterator[bytes]:
        """Give each complete frame once, in order.

        Raises BrokenStream, now and ever after, when a command_length is below 16 or above ``max_length``;
        the frames before it have been given by then.
        """
        buffer = self._buffer
        while len(buffer) - self._given >= _LENGTH.size:
            start = self._given
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not HEADER_OCTETS <= length <= self.max_length:
                self._broken = length
                break
            if len(buffer) - start < length:
                break
            self._given = start + length  # noted first: whoever takes no further one leaves the rest for later
            yield bytes(buffer[start : start + length])
        self._forget_given()
        if self._broken is not None:
            buffer.clear()
            raise BrokenStream(self._broken)

    def _forget_given(self) -> None:
        del self._buffer[: self._given]
        self._given = 0

    def __len__(self) -> int:
        """Octets held that are not yet a frame."""
        return len(self._buffer) - self._given


def congestion_of(pdu: SubmitSmResp) -> int:
    """Give congestion_state in per cent, -1 where there is none: one octet, 0 to 100 (SMPP v5.0 section 4.8.4.18)."""
    value = next((value for tag, value in pdu.tlvs if tag == _CONGESTION_STATE), b"")
    return value[0] if len(value) == 1 and value[0] <= 100 else -1
