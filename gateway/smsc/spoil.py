"""PDUs of the simulator as they are spoiled on their way out: octets in, octets out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from gateway import codec
from gateway.pdu import HEADER_OCTETS, CommandId, DeliverSm

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from gateway.smsc.faults import Fault, Kind

NACK_NOBODY: Final = codec.header(CommandId.GENERIC_NACK, 0x03, 0, 0)  # ESME_RINVCMDID
UNKNOWN_COMMAND: Final = 0x0001_0200  # of the vendors' range
SPOILED: Final[Mapping[int, tuple[Kind, ...]]] = {  # by command_id, in the order in which they are asked for
    CommandId.SUBMIT_SM_RESP: (
        "garbage",
        "nack_nobody",
        "unknown_command",
        "bare_answer",
        "open_answer",
        "false_length",
    ),
    CommandId.DELIVER_SM: ("pad_delivery", "cut_delivery"),
}


def spoiled(fault: Fault, frame: bytes, chance: random.Random) -> tuple[bytes, bytes]:
    """Give what comes before a PDU, and what is written in its place."""
    before = b""
    match fault.kind:
        case "garbage":
            before = chance.randbytes(fault.octets)
        case "nack_nobody":
            before = NACK_NOBODY
        case "unknown_command":
            before = codec.header(UNKNOWN_COMMAND, 0, 7, fault.octets) + chance.randbytes(fault.octets)
        case "bare_answer":
            frame = _shortened(frame, HEADER_OCTETS)
        case "open_answer" if frame.endswith(b"\0"):
            frame = _shortened(frame, len(frame) - 1)
        case "false_length":
            frame = struct.pack(">L", fault.octets) + frame[4:]
        case "pad_delivery":
            frame = _padded(frame)
        case "cut_delivery":
            frame = _shortened(frame, len(frame) - fault.octets)
    return before, frame


def _shortened(frame: bytes, octets: int) -> bytes:
    """Leave the first octets, never less than the header; command_length tells of these."""
    octets = max(HEADER_OCTETS, octets)
    return struct.pack(">L", octets) + frame[4:octets]


def _padded(frame: bytes) -> bytes:
    """Put a NUL between short_message and the TLVs, as if it were a C-octet string."""
    pdu = codec.decode(frame)
    assert isinstance(pdu, DeliverSm)
    end = len(frame) - len(codec.encode_tlvs(pdu.tlvs))
    return struct.pack(">L", len(frame) + 1) + frame[4:end] + b"\0" + frame[end:]
