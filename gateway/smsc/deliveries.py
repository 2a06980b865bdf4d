"""What an SMSC sends to us: receipts and mobile-originated messages, as the fields of deliver_sm.

A receipt says everything twice, as most SMSCs do: in the text of SMPP v3.4 appendix B, and in the TLVs
receipted_message_id and message_state. It quotes no message text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.address import destination_address, source_address
from gateway.pdu import Pdu, Tag, Tlv
from gateway.segment import segment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DELIVERED: Final = 2  # message_state, SMPP v3.4 section 5.2.28
UNDELIVERABLE: Final = 5
STAT: Final = {
    1: "ENROUTE",
    DELIVERED: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    UNDELIVERABLE: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
}
RECEIPT: Final = 0x04  # esm_class: the message is a receipt
UDHI: Final = 0x40  # esm_class: the user data begins with a header


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One deliver_sm; its sequence_number is the session's to give."""

    fields: Mapping[str, int | str | bytes] = field(repr=False)  # they carry numbers and texts
    tlvs: tuple[Tlv, ...] = field(default=(), repr=False)


def is_wanted(registered_delivery: int, message_state: int) -> bool:
    """Say whether a receipt of this final state was asked for (SMPP v3.4 section 5.2.17, bits 1 and 0)."""
    wanted = registered_delivery & 0x03
    return wanted == 1 or (wanted == 2 and message_state != DELIVERED) or (wanted == 3 and message_state == DELIVERED)


def receipt(
    submit: Pdu, message_id: str, message_state: int, submitted_on: datetime, done_on: datetime, *, error: int = 0
) -> Delivery:
    """Make the receipt of one accepted submit_sm; source and destination change places."""
    stat = STAT[message_state]
    text = (
        f"id:{message_id} sub:001 dlvrd:{int(message_state == DELIVERED):03d}"
        f" submit date:{submitted_on:%y%m%d%H%M} done date:{done_on:%y%m%d%H%M} stat:{stat} err:{error:03d} text:"
    )
    return Delivery(
        {
            "source_addr_ton": submit.number("dest_addr_ton"),
            "source_addr_npi": submit.number("dest_addr_npi"),
            "source_addr": submit.text("destination_addr"),
            "dest_addr_ton": submit.number("source_addr_ton"),
            "dest_addr_npi": submit.number("source_addr_npi"),
            "destination_addr": submit.text("source_addr"),
            "esm_class": RECEIPT,
            "short_message": text.encode("ascii"),
        },
        (
            (Tag.RECEIPTED_MESSAGE_ID, message_id.encode("ascii") + b"\0"),
            (Tag.MESSAGE_STATE, bytes((message_state,))),
        ),
    )


def text_message(source: str, destination: str, text: str, *, reference: int = 0) -> tuple[Delivery, ...]:
    """Make a mobile-originated message: one delivery a segment, joined by ``reference`` where there are several."""
    origin, target = destination_address(source), source_address(destination)
    return tuple(
        Delivery(
            {
                "source_addr_ton": origin.ton,
                "source_addr_npi": origin.npi,
                "source_addr": origin.value,
                "dest_addr_ton": target.ton,
                "dest_addr_npi": target.npi,
                "destination_addr": target.value,
                "esm_class": UDHI if part.udhi else 0,
                "data_coding": part.data_coding,
                "short_message": part.octets,
            }
        )
        for part in segment(text, reference=reference)
    )
