"""What an SMSC sends to us: receipts and mobile-originated messages, as the fields of deliver_sm.

A receipt says everything twice, as most SMSCs do: in the text of SMPP v3.4 appendix B, and in the TLVs
receipted_message_id and message_state. The other dialects leave one of them out or write the text in ways that
carriers do. No receipt quotes the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway.address import destination_address, source_address
from gateway.pdu import Pdu, Tag, Tlv
from gateway.segment import segment

if TYPE_CHECKING:
    from datetime import datetime

ENROUTE: Final = 1  # message_state, SMPP v3.4 section 5.2.28
DELIVERED: Final = 2
EXPIRED: Final = 3
DELETED: Final = 4
UNDELIVERABLE: Final = 5
UNKNOWN: Final = 7
REJECTED: Final = 8
STAT: Final = {
    ENROUTE: "ENROUTE",
    DELIVERED: "DELIVRD",
    EXPIRED: "EXPIRED",
    DELETED: "DELETED",
    UNDELIVERABLE: "UNDELIV",
    6: "ACCEPTD",
    UNKNOWN: "UNKNOWN",
    REJECTED: "REJECTD",
}
RECEIPT: Final = 0x04  # esm_class: the message is a receipt
INTERMEDIATE: Final = 0x20  # esm_class: the message is an intermediate notification
UDHI: Final = 0x40  # esm_class: the user data begins with a header

Dialect = Literal[
    "appendix_b",
    "text_only",
    "tlv_only",
    "double_spaces",
    "capital_text",
    "joined_labels",
    "short",
    "dates_12",
    "dates_14",
    "payload",
    "plain_esm_class",
]


class DialectForm(NamedTuple):
    """How one dialect writes a receipt."""

    meaning: str  # for the manual
    text: str = "id:{id} sub:001 dlvrd:{dlvrd} submit date:{submitted} done date:{done} stat:{stat} err:{err} text:"
    date: str = "%y%m%d%H%M"
    has_tlvs: bool = False
    in_payload: bool = False
    esm_class: int = RECEIPT


_USUAL: Final = DialectForm("").text
_SPACED: Final = (
    "id:{id}  sub:001  dlvrd:{dlvrd}  submit date:{submitted}  done date:{done}  stat:{stat}  err:{err}  text:"
)

DIALECTS: Final[dict[Dialect, DialectForm]] = {
    "appendix_b": DialectForm("the text of SMPP v3.4 appendix B and both TLVs", has_tlvs=True),
    "text_only": DialectForm("the text, no TLV"),
    "tlv_only": DialectForm("receipted_message_id and message_state, an empty short_message", "", has_tlvs=True),
    "double_spaces": DialectForm("two spaces between the fields", _SPACED),
    "capital_text": DialectForm("the last label is `Text:`", _USUAL.replace("text:", "Text:")),
    "joined_labels": DialectForm("`submitdate:` and `donedate:`, without the space", _USUAL.replace(" date", "date")),
    "short": DialectForm(
        "without sub, dlvrd and text", "id:{id} submit date:{submitted} done date:{done} stat:{stat} err:{err}"
    ),
    "dates_12": DialectForm("dates with seconds: 12 digits", date="%y%m%d%H%M%S"),
    "dates_14": DialectForm("dates with century and seconds: 14 digits", date="%Y%m%d%H%M%S"),
    "payload": DialectForm("the text in message_payload, sm_length 0", in_payload=True),
    "plain_esm_class": DialectForm("esm_class 0x00 as an MO message has; both TLVs", has_tlvs=True, esm_class=0),
}


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
    submit: Pdu,
    message_id: str,
    message_state: int,
    submitted_on: datetime,
    done_on: datetime,
    *,
    error: int | str = 0,
    dialect: Dialect = "appendix_b",
    esm_class: int | None = None,
) -> Delivery:
    """Make the receipt of one accepted submit_sm; source and destination change places.

    `error` is the carrier's own code: a number, or the characters as they stand. `esm_class` None is the dialect's.
    """
    form = DIALECTS[dialect]
    text = form.text.format(
        id=message_id,
        dlvrd=f"{int(message_state == DELIVERED):03d}",
        submitted=submitted_on.strftime(form.date),
        done=done_on.strftime(form.date),
        stat=STAT[message_state],
        err=f"{error:03d}" if isinstance(error, int) else error,
    ).encode("ascii")
    tlvs: tuple[Tlv, ...] = ()
    if form.has_tlvs:
        tlvs = (
            (Tag.RECEIPTED_MESSAGE_ID, message_id.encode("ascii") + b"\0"),
            (Tag.MESSAGE_STATE, bytes((message_state,))),
        )
    if form.in_payload:
        tlvs += ((Tag.MESSAGE_PAYLOAD, text),)
    return Delivery(
        {
            "source_addr_ton": submit.number("dest_addr_ton"),
            "source_addr_npi": submit.number("dest_addr_npi"),
            "source_addr": submit.text("destination_addr"),
            "dest_addr_ton": submit.number("source_addr_ton"),
            "dest_addr_npi": submit.number("source_addr_npi"),
            "destination_addr": submit.text("source_addr"),
            "esm_class": form.esm_class if esm_class is None else esm_class,
            "short_message": b"" if form.in_payload else text,
        },
        tlvs,
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
