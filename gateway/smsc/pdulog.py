"""The log of the wire: one line of JSON for each PDU, read or written, and for each connection's begin and end.

Unless texts are asked for, a number shows its last two digits and a text its length and alphabet. A password never
shows. What the simulator itself writes as the text of a receipt is shown: it quotes no message.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from gateway import codec, gsm7
from gateway.errors import BrokenStream, MalformedBody
from gateway.inquiry import COMMANDS
from gateway.pdu import RESPONSE_BIT, AnyPdu, CommandId, DeliverSm, Pdu, SubmitSmResp, Tag
from gateway.status import name as status_name

if TYPE_CHECKING:
    from collections.abc import Callable

Direction = Literal["in", "out"]  # as the SMSC sees it
HIDDEN: Final = "***"
SHOWN_DIGITS: Final = 2  # of a number
SHORTEST_NUMBER: Final = 7  # digits; what has fewer is a short code
UDHI: Final = 0x40
KIND: Final = 0x3C  # esm_class: what kind of message it is; 0 is an ordinary one
CODECS: Final = {0x01: "ascii", 0x03: "latin-1", 0x08: "utf-16-be"}  # of data_coding; 0 is GSM-7
NAMES: Final = {  # of the operations whose bodies are not looked into here
    command | bit: f"{kind}_sm{resp}"
    for kind, command in COMMANDS.items()
    for bit, resp in ((0, ""), (RESPONSE_BIT, "_resp"))
}
ADDRESSES: Final = frozenset({"source_addr", "destination_addr"})
TEXTS: Final = frozenset({"short_message", "message_payload"})


class PduLog:
    """Writes the lines."""

    def __init__(self, write: Callable[[str], object], *, texts: bool = False) -> None:
        """`write` takes one line with its line feed. `texts` shows whole numbers and texts."""
        self._write = write
        self._texts = texts

    def frame(self, connection: int, direction: Direction, system_id: str, frame: bytes) -> None:
        """Log one PDU."""
        line: dict[str, Any] = {"connection": connection, "direction": direction}
        try:
            pdu = codec.decode(frame)
        except MalformedBody as error:
            head = error.header
            line |= _head(head.command_id, head.command_status, head.sequence_number, system_id)
            line["malformed"] = f"{error.field} {error.problem}"
        except BrokenStream:
            line |= {"event": "octets", "octets": len(frame)}
        else:
            line |= _head(pdu.command_id, pdu.command_status, pdu.sequence_number, system_id)
            line |= self._body(pdu, direction)
        self._put(line)

    def event(self, event: str, **facts: object) -> None:
        """Log what is no PDU."""
        self._put({"event": event, **facts})

    def _put(self, line: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = {"at": at, "monotonic_s": round(time.monotonic(), 6), **line}
        self._write(json.dumps(line) + "\n")

    def _body(self, pdu: AnyPdu, direction: Direction) -> dict[str, Any]:
        if isinstance(pdu, SubmitSmResp):
            fields: dict[str, Any] = {"message_id": pdu.message_id}
        elif isinstance(pdu, DeliverSm):
            fields = pdu._asdict()
            for name in ("command_status", "sequence_number", "tlvs"):
                del fields[name]
        else:
            fields = dict(pdu.fields)
        esm_class = fields.get("esm_class", 0)
        is_ours = direction == "out" and bool(esm_class & KIND)  # a receipt, made here
        shown = {name: self._shown(name, value, fields, is_ours=is_ours) for name, value in fields.items()}
        tlvs = {}
        for tag, value in pdu.tlvs:
            name = Tag(tag).name.lower() if tag in Tag.__members__.values() else f"0x{tag:04x}"
            tlvs[name] = self._shown_tlv(name, value, fields, is_ours=is_ours)
        body: dict[str, Any] = {"fields": shown}
        if tlvs:
            body["tlvs"] = tlvs
        if isinstance(pdu, Pdu) and pdu.raw:
            body["octets"] = len(pdu.raw)
        return body

    def _shown(self, name: str, value: Any, fields: dict[str, Any], *, is_ours: bool) -> Any:
        if name == "password":
            return HIDDEN
        if name in ADDRESSES:
            return value if self._texts else masked(value)
        if name in TEXTS:
            return self._text(value, fields, is_ours=is_ours)
        return value

    def _shown_tlv(self, name: str, value: bytes, fields: dict[str, Any], *, is_ours: bool) -> Any:
        if name in TEXTS:
            return self._text(value, fields, is_ours=is_ours)
        if name == "receipted_message_id":
            return value.rstrip(b"\0").decode("latin-1")
        if name == "message_state":
            return int.from_bytes(value)
        return value.hex() if self._texts or not name.startswith("0x") else {"octets": len(value)}

    def _text(self, octets: bytes, fields: dict[str, Any], *, is_ours: bool) -> Any:
        coding = fields.get("data_coding", 0)
        header = octets[0] + 1 if octets and fields.get("esm_class", 0) & UDHI else 0
        alphabet = "gsm7" if coding == 0 else CODECS.get(coding, f"data_coding 0x{coding:02x}")
        shown: dict[str, Any] = {"octets": len(octets), "header_octets": header, "alphabet": alphabet}
        if self._texts or is_ours:
            shown["text"] = _decoded(octets[header:], coding)
            shown["hex"] = octets.hex()
        return shown


def masked(address: str) -> str:
    """Hide all but the last digits of a number; a short code or the name of a sender stays."""
    digits = sum(character.isdigit() for character in address)
    if digits < SHORTEST_NUMBER:
        return address
    return "*" * (len(address) - SHOWN_DIGITS) + address[-SHOWN_DIGITS:]


def _decoded(octets: bytes, coding: int) -> str | None:
    """Text of these octets; None where the alphabet is not one that we know."""
    if coding == 0:
        return gsm7.decode(octets)
    return octets.decode(CODECS[coding], "replace") if coding in CODECS else None


def _head(command_id: int, command_status: int, sequence_number: int, system_id: str) -> dict[str, Any]:
    known = command_id in CommandId.__members__.values()
    return {
        "system_id": system_id,
        "command": CommandId(command_id).name.lower() if known else NAMES.get(command_id, f"0x{command_id:08x}"),
        "sequence_number": sequence_number,
        "command_status": command_status,
        "status": status_name(command_status),
    }
