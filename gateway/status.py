"""What a command_status means for the segment that it answers (SMPP v3.4 section 5.1.3).

One table; a link may override any entry, because carriers use the same number for different things. A
generic_nack that answers a submit_sm is judged by the same table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gateway.codec import status_name
from gateway.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

OK: Final = 0x00
ALREADY_BOUND: Final = 0x05  # our old session still lives at the SMSC
THROTTLED: Final = 0x58
RX_T_APPN: Final = 0x64  # temporary application error: of a deliver_sm, the SMSC keeps it and sends it again
BIND_REFUSED: Final = frozenset({0x0D, 0x0E, 0x0F, 0x53})  # credentials, system_type or address: waiting will not help

_ACCEPTED, _THROTTLED, _RETRY = Verdict.ACCEPTED, Verdict.THROTTLED, Verdict.RETRY
_AMBIGUOUS, _REJECTED = Verdict.AMBIGUOUS, Verdict.REJECTED
_MISCONFIGURED, _LINK_FAULT = Verdict.MISCONFIGURED, Verdict.LINK_FAULT

# Every number that is not here is AMBIGUOUS: reserved ones, the vendor range 0x400..0x4FF, and those that
# belong to other operations than submit_sm (0x0C, 0x11, 0x13, 0x67, 0x107..0x112).
VERDICTS: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        0x00: _ACCEPTED,
        0x01: _MISCONFIGURED,  # message length: our segmentation or the link's profile is wrong
        0x02: _LINK_FAULT,  # command length: the stream may be out of step
        0x03: _MISCONFIGURED,  # command id: the operation is not offered
        0x04: _LINK_FAULT,  # bind status: the SMSC forgot us; the message itself is good
        0x05: _LINK_FAULT,
        0x06: _MISCONFIGURED,  # priority_flag
        0x07: _MISCONFIGURED,  # registered_delivery
        0x08: _RETRY,  # system error
        0x0A: _MISCONFIGURED,  # the sender is not provisioned
        0x0B: _REJECTED,  # the destination is no valid number
        0x0D: _LINK_FAULT,
        0x0E: _LINK_FAULT,
        0x0F: _LINK_FAULT,
        0x14: _RETRY,  # queue full: the SMSC's, or this recipient's alone
        0x15: _MISCONFIGURED,  # service_type
        0x33: _MISCONFIGURED,  # 0x33, 0x34, 0x40, 0x44: of submit_multi, which is not used
        0x34: _MISCONFIGURED,
        0x40: _MISCONFIGURED,
        0x42: _MISCONFIGURED,  # replace_if_present
        0x43: _MISCONFIGURED,  # esm_class: user data headers may be refused
        0x44: _MISCONFIGURED,
        0x45: _AMBIGUOUS,  # submit failed: for some carriers a blocked number
        0x48: _MISCONFIGURED,  # source TON and NPI
        0x49: _MISCONFIGURED,
        0x50: _MISCONFIGURED,  # destination TON and NPI
        0x51: _MISCONFIGURED,
        0x53: _LINK_FAULT,  # system_type
        0x54: _MISCONFIGURED,
        0x55: _MISCONFIGURED,
        0x58: _THROTTLED,
        0x61: _MISCONFIGURED,  # schedule_delivery_time: a clock or a time zone
        0x62: _MISCONFIGURED,  # validity_period
        0x63: _MISCONFIGURED,  # sm_default_msg_id
        0x64: _RETRY,  # temporary application error
        0x65: _REJECTED,  # permanent application error
        0x66: _REJECTED,  # message refused
        0xC0: _MISCONFIGURED,  # TLVs: stream, not allowed, length, missing (a mandated vendor TLV), value
        0xC1: _MISCONFIGURED,
        0xC2: _MISCONFIGURED,
        0xC3: _MISCONFIGURED,
        0xC4: _MISCONFIGURED,
        0xFE: _AMBIGUOUS,
        0xFF: _AMBIGUOUS,
        0x100: _MISCONFIGURED,  # service type: not authorised, prohibited
        0x101: _MISCONFIGURED,
        0x102: _RETRY,  # service type: not available now
        0x103: _MISCONFIGURED,  # service type: denied
        0x104: _MISCONFIGURED,  # data_coding: another alphabet or flash form may do
        0x105: _MISCONFIGURED,  # source and destination sub-unit
        0x106: _MISCONFIGURED,
    }
)

# SMPP v5.0 numbers that v3.4 carriers send as well
_LATER_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x100: "ESME_RSERTYPUNAUTH",
        0x101: "ESME_RPROHIBITED",
        0x102: "ESME_RSERTYPUNAVAIL",
        0x103: "ESME_RSERTYPDENIED",
        0x104: "ESME_RINVDCS",
        0x105: "ESME_RINVSRCADDRSUBUNIT",
        0x106: "ESME_RINVDSTADDRSUBUNIT",
    }
)
_NO_OVERRIDES: Final[Mapping[int, Verdict]] = MappingProxyType({})


def verdict(
    command_status: int, overrides: Mapping[int, Verdict] = _NO_OVERRIDES, *, repeated: bool = False
) -> Verdict:
    """Judge the answer to a submit_sm.

    ``repeated`` says that the same segment has met a link fault before, so a new session did not help: then a
    wrong command_length (0x02) is our own fault, and any other link fault spends an attempt.
    """
    found = overrides.get(command_status) or VERDICTS.get(command_status, _AMBIGUOUS)
    if repeated and found is _LINK_FAULT:
        return Verdict.MISCONFIGURED if command_status == 0x02 else Verdict.RETRY
    return found


def is_named(command_status: int) -> bool:
    """Say whether the specification has a name for it."""
    return bool(status_name(command_status)) or command_status in _LATER_NAMES


def name(command_status: int) -> str:
    """Name of a command_status, its number in hexadecimal where it has none."""
    return status_name(command_status) or _LATER_NAMES.get(command_status) or f"0x{command_status:08X}"
