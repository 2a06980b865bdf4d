"""What a deliver_sm says: a delivery receipt, or a mobile-originated message.

Nothing here raises, whatever the octets are: a deliver_sm that cannot be understood is still one to store and
to acknowledge. Receipts are read from their TLVs first (receipted_message_id 0x001E, message_state 0x0427) and
from their text where a TLV is absent: SMPP v3.4 leaves the text to each SMSC, appendix B only shows one form.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from gateway import gsm7
from gateway.handset import CODECS, LOCKING_SHIFT, SINGLE_SHIFT, split_header
from gateway.messages import Address, DeliveryState, Inbound, Receipt
from gateway.pdu import Tag
from gateway.receipt_reason import ENDED_BY_NUMBER, ENDED_BY_WORD, receipt_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.code_tables import ReceiptReason
    from gateway.pdu import DeliverSm
    from gateway.segment import Alphabet

# esm_class, SMPP v3.4 section 5.2.12
MESSAGE_TYPE: Final = 0x3C  # mask; never compare the whole octet
SMSC_RECEIPT: Final = 0x04
INTERMEDIATE_NOTIFICATION: Final = 0x20
UDHI: Final = 0x40

# As numbers, since finding a member of an enum takes Python 3.11 0.15 us
_MESSAGE_ID: Final = int(Tag.RECEIPTED_MESSAGE_ID)
_MESSAGE_STATE: Final = int(Tag.MESSAGE_STATE)
_NETWORK_ERROR_CODE: Final = int(Tag.NETWORK_ERROR_CODE)
_MESSAGE_PAYLOAD: Final = int(Tag.MESSAGE_PAYLOAD)

IdFormat = Literal["auto", "text", "hex", "decimal"]

_STATE_OF_NUMBER: Final = {  # message_state, section 5.2.28; 0 and 9 are of v5.0
    0: DeliveryState.ENROUTE,  # scheduled
    1: DeliveryState.ENROUTE,
    2: DeliveryState.DELIVERED,
    3: DeliveryState.UNDELIVERED,  # expired
    4: DeliveryState.UNDELIVERED,  # deleted
    5: DeliveryState.UNDELIVERED,
    6: DeliveryState.ENROUTE,  # accepted: an operator took it for the subscriber, no handset has it
    7: DeliveryState.UNKNOWN,
    8: DeliveryState.UNDELIVERED,  # rejected
    9: DeliveryState.UNDELIVERED,  # skipped
}
_ENROUTE, _UNKNOWN, _UNDELIVERED = DeliveryState.ENROUTE, DeliveryState.UNKNOWN, DeliveryState.UNDELIVERED
# Any other word is UNKNOWN, "0" among them: some send it for success, and nothing says so.
_STATE_OF_WORD: Final = {
    "DELIVRD": DeliveryState.DELIVERED,
    "DELIVERED": DeliveryState.DELIVERED,
    "EXPIRED": DeliveryState.UNDELIVERED,
    "DELETED": DeliveryState.UNDELIVERED,
    "UNDELIV": DeliveryState.UNDELIVERED,
    "UNDELIVERED": DeliveryState.UNDELIVERED,
    "UNDELIVERABLE": DeliveryState.UNDELIVERED,
    "REJECTD": DeliveryState.UNDELIVERED,
    "REJECTED": DeliveryState.UNDELIVERED,
    "FAILED": DeliveryState.UNDELIVERED,
    "SKIPPED": DeliveryState.UNDELIVERED,
    "NACK": DeliveryState.UNDELIVERED,
    "ACCEPTD": DeliveryState.ENROUTE,
    "ACCEPTED": DeliveryState.ENROUTE,
    "ENROUTE": DeliveryState.ENROUTE,
    "BUFFRED": DeliveryState.ENROUTE,
    "BUFFERD": DeliveryState.ENROUTE,
    "BUFFERED": DeliveryState.ENROUTE,
    "ACKED": DeliveryState.ENROUTE,  # someone acknowledged it; that it reached the handset is not said
}

# The form of appendix B, which most carriers send: one match instead of a search for each label (2 us against 8).
_APPENDIX_B = re.compile(
    rb"id:([0-9A-Za-z-]+) sub:\w+ dlvrd:\w+ submit date:(\d+) done date:\d+ stat:(\w+) err:(\w+)(?: [Tt]ext:|$)"
)
_LABEL = re.compile(r"(?<![^\s;,|])(id|sub|dlvrd|submit *date|done *date|stat|err|text) *:", re.IGNORECASE)
_ERROR = re.compile(r"(?!null\b)[0-9A-Za-z]{1,8}", re.IGNORECASE)
_DATE = re.compile(  # YYMMDDhhmm, with or without seconds
    r"(\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d)(?:\d\d)?", re.ASCII
)
LONGEST_DATE: Final = 15  # characters looked at: one more than a date may have
_LONGEST_HEX_ID: Final = 16  # digits of a 64-bit number; longer ids are names, not numbers
_LONGEST_DECIMAL_ID: Final = 20
_OF_OTHER_NETWORKS: Final = (b"\1", b"\2")  # type of network_error_code: ANSI-136, IS-95
_NO_ERRORS: Final[Mapping[str, ReceiptReason]] = MappingProxyType({})


def parse(
    deliver: DeliverSm,
    *,
    alphabet: Alphabet = "gsm7",
    text_receipts: bool = False,
    errors: Mapping[str, ReceiptReason] = _NO_ERRORS,
) -> Receipt | Inbound | None:
    """Read one deliver_sm; None for USSD traffic, which is acknowledged and left alone.

    A receipt is what esm_class calls one. With a message type of 0 it must carry both TLVs, or ``text_receipts``
    must be set for the link and the text have an id and a stat: otherwise a handset could forge one.
    ``alphabet`` is what the SMSC takes data_coding 0 to be; ``errors`` are its own codes, as receipt_reason takes them.
    """
    message_type = deliver.esm_class & MESSAGE_TYPE
    if message_type == SMSC_RECEIPT or message_type & INTERMEDIATE_NOTIFICATION:
        intermediate = bool(message_type & INTERMEDIATE_NOTIFICATION)
        return _receipt(deliver, _labels(deliver), errors, intermediate=intermediate)
    if message_type == 0:
        if deliver.tlv(_MESSAGE_ID) is not None and deliver.tlv(_MESSAGE_STATE) is not None:
            return _receipt(deliver, _labels(deliver), errors, intermediate=False)
        if text_receipts:
            labels = _labels(deliver)
            if labels.get("id") and labels.get("stat"):
                return _receipt(deliver, labels, errors, intermediate=False)
    if (
        deliver.service_type == "USSD"
        or deliver.tlv(Tag.USSD_SERVICE_OP) is not None
        or deliver.tlv(Tag.ITS_SESSION_INFO) is not None
    ):
        return None
    return _inbound(deliver, alphabet)


def _receipt(
    deliver: DeliverSm, labels: dict[str, str], errors: Mapping[str, ReceiptReason], *, intermediate: bool
) -> Receipt:
    message_state = deliver.tlv(_MESSAGE_STATE)
    network_error_code = deliver.tlv(_NETWORK_ERROR_CODE)
    state = _ENROUTE if intermediate else _state(message_state, labels)
    error = _error(labels.get("err", ""), network_error_code)
    reason = ""
    if state is _UNDELIVERED or state is _UNKNOWN:
        of_gsm = (
            network_error_code is None
            or network_error_code[:1] not in _OF_OTHER_NETWORKS
            or _ERROR.match(labels.get("err", "")) is not None
        )
        ended = _ended(message_state, labels) if state is _UNDELIVERED else None
        reason = receipt_reason(state, ended, error, errors, of_gsm=of_gsm)
    return Receipt(
        message_id=_c_octets(deliver.tlv(_MESSAGE_ID)) or _first_word(labels.get("id", "")),
        state=state,
        error=error,
        submitted_on=_submit_date(_first_word(labels.get("submitdate", ""))[:LONGEST_DATE]),
        source=deliver.source_addr,
        destination=deliver.destination_addr,
        reason=reason,
    )


def _labels(deliver: DeliverSm) -> dict[str, str]:
    """Values by label, lower case and without spaces; labels come in any order and any may be missing.

    ``text`` takes all that follows it, for it quotes the message, which may hold labels of its own; only where
    nothing stands before the next label, the fields go on behind it.
    """
    octets = user_data(deliver)
    if deliver.esm_class & UDHI and octets:
        octets = octets[octets[0] + 1 :]
    usual = _APPENDIX_B.match(octets)
    if usual is not None:
        message_id, submit_date, stat, err = usual.groups()
        return {
            "id": message_id.decode("ascii"),
            "submitdate": submit_date.decode("ascii"),
            "stat": stat.decode("ascii"),
            "err": err.decode("ascii"),
        }
    text = octets.decode("utf-16-be", "replace") if deliver.data_coding == 0x08 else octets.decode("latin-1")
    labels: dict[str, str] = {}
    found = list(_LABEL.finditer(text))
    for index, label in enumerate(found):
        name = label[1].lower().replace(" ", "")
        following = found[index + 1].start() if index + 1 < len(found) else len(text)
        value = text[label.end() : following].strip("\0 \t\r\n;,|")
        if name == "text" and value:
            break
        labels.setdefault(name, value)
    return labels


def user_data(deliver: DeliverSm) -> bytes:
    """short_message, or message_payload where short_message is empty."""
    return deliver.short_message or deliver.tlv(_MESSAGE_PAYLOAD) or b""


def _c_octets(value: bytes | None) -> str:
    """Text of a TLV that should end in a NUL, and may have none, or padding after it."""
    return "" if value is None else value.partition(b"\0")[0].decode("latin-1").strip()


def _first_word(text: str) -> str:
    words = text.split(maxsplit=1)  # none in a text of blanks, of which there are more than ASCII has
    return words[0] if words else ""


def _state(message_state: bytes | None, labels: dict[str, str]) -> DeliveryState:
    """State by the TLV (1 octet, and 4 have been seen), else by the word; UNKNOWN is final and may yet rise."""
    if message_state:
        state = _STATE_OF_NUMBER.get(int.from_bytes(message_state))
        if state is not None:
            return state
    return _STATE_OF_WORD.get(_first_word(labels.get("stat", "")).upper(), _UNKNOWN)


def _ended(message_state: bytes | None, labels: dict[str, str]) -> ReceiptReason | None:
    """What the state says beyond undelivered, by the TLV, else by the word; None where it says no more."""
    by_number = ENDED_BY_NUMBER.get(int.from_bytes(message_state)) if message_state else None
    return by_number or ENDED_BY_WORD.get(_first_word(labels.get("stat", "")).upper())


def _error(err: str, network_error_code: bytes | None) -> str:
    """Carrier's code as written, else the 16 bits of network_error_code (section 5.3.2.31) in decimal."""
    found = _ERROR.match(err)
    if found:
        return found[0]
    if network_error_code is not None and len(network_error_code) == 3:
        return str(int.from_bytes(network_error_code[1:]))
    return ""


@lru_cache(maxsize=256)  # receipts come within minutes of one another
def _submit_date(digits: str) -> str:
    """YYMMDDhhmm out of 10, 12 or 14 digits, "" where they are no date.

    Twelve digits are YYMMDDhhmmss or YYYYMMDDhhmm: the year 2020 is past, so "20" and a date begin the latter.
    """
    found = _DATE.fullmatch(digits, 2) if len(digits) >= 12 and digits.startswith("20") else None
    if found is None:
        found = _DATE.fullmatch(digits)
    return found[1] if found else ""


def id_forms(message_id: str, id_format: IdFormat = "auto") -> tuple[str, ...]:
    """Spellings under which the answer to submit_sm may have named this id, the exact one first.

    ``hex`` and ``decimal`` say how the carrier's receipts write a number that its answers write the other way;
    ``auto`` tries both ways, ``text`` none. Zeros in front come and go, and letters change case.
    """
    forms = [message_id]
    if message_id and id_format != "text":
        forms += [message_id.lstrip("0"), message_id.upper(), message_id.lower()]
        if message_id.isascii() and message_id.isalnum():
            if id_format != "decimal" and len(message_id) <= _LONGEST_HEX_ID and _is_hexadecimal(message_id):
                number = int(message_id, 16)
                forms += [str(number), f"{number:010d}"]
            if id_format != "hex" and len(message_id) <= _LONGEST_DECIMAL_ID and message_id.isdigit():
                number = int(message_id)
                forms += [f"{number:010d}", f"{number:X}", f"{number:x}", f"{number:08X}", f"{number:08x}"]
    return tuple(dict.fromkeys(form for form in forms if form)) or ("",)


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def _inbound(deliver: DeliverSm, alphabet: Alphabet) -> Inbound:
    octets = user_data(deliver)
    elements: dict[int, bytes] = {}
    body: bytes | None = octets
    if deliver.esm_class & UDHI:
        elements, body = split_header(octets)
    reference, reference_bits, part, parts = _concatenation(deliver, elements)
    text = None if body is None else read_text(elements, body, deliver.data_coding, alphabet)
    return Inbound(
        source=Address(deliver.source_addr, deliver.source_addr_ton, deliver.source_addr_npi),
        destination=Address(deliver.destination_addr, deliver.dest_addr_ton, deliver.dest_addr_npi),
        text=text or "",
        octets=octets,
        data_coding=deliver.data_coding,
        esm_class=deliver.esm_class,
        reference=reference,
        reference_bits=reference_bits,
        part=part,
        parts=parts,
        is_text=text is not None,
        payload=(deliver.tlv(_MESSAGE_PAYLOAD) or b"") if deliver.short_message else b"",
    )


# User data header elements, 3GPP TS 23.040 section 9.2.3.24
_CONCATENATED_8: Final = 0x00
_PORTS_8: Final = 0x04
_PORTS_16: Final = 0x05
_CONCATENATED_16: Final = 0x08
CONCATENATIONS: Final = frozenset({_CONCATENATED_8, _CONCATENATED_16})


def _concatenation(deliver: DeliverSm, elements: dict[int, bytes]) -> tuple[int, int, int, int]:
    """Reference, its width in bits, part and parts; a count that makes no sense is no concatenation."""
    candidates: list[tuple[int, int, int, int]] = []
    short, long = elements.get(_CONCATENATED_8, b""), elements.get(_CONCATENATED_16, b"")
    if len(short) == 3:
        candidates.append((short[0], 8, short[2], short[1]))
    if len(long) == 4:
        candidates.append((long[0] << 8 | long[1], 16, long[3], long[2]))
    reference, total, sequence = (
        deliver.tlv(tag) for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
    )
    if reference and total and sequence:
        candidates.append((int.from_bytes(reference[:2]), 16, sequence[0], total[0]))
    for candidate in candidates:
        if candidate[3] > 1 and 1 <= candidate[2] <= candidate[3]:
            return candidate
    return 0, 0, 1, 1


def read_text(elements: dict[int, bytes], body: bytes, data_coding: int, alphabet: Alphabet) -> str | None:
    """Text of user data behind a header with these elements; None where it is none, or none that we know."""
    if _PORTS_8 in elements or _PORTS_16 in elements:
        return None
    single, locking = elements.get(SINGLE_SHIFT, b"\0"), elements.get(LOCKING_SHIFT, b"\0")
    if single != b"\0" or locking != b"\0":  # of a table that we lack a wrong letter would be worse than none
        if len(single) != 1 or len(locking) != 1 or _codec(data_coding, alphabet) != "gsm7":
            return None
        if single[0] not in {0, *gsm7.SINGLE_SHIFTS} or locking[0] not in {0, *gsm7.LOCKING_SHIFTS}:
            return None
        return gsm7.decode(body, single[0], locking[0])
    return _text(body, data_coding, alphabet)


def _text(octets: bytes, data_coding: int, alphabet: Alphabet) -> str | None:
    """Text of these octets; None where the coding is binary or not one that we know."""
    codec = _codec(data_coding, alphabet)
    if codec is None:
        return None
    if codec == "gsm7":
        return gsm7.decode(octets)
    return octets.decode(codec, "replace").removeprefix("\ufeff")  # handsets send byte order marks


_CODEC_OF_DATA_CODING: Final = {  # SMPP v3.4 section 5.2.19
    0x01: "ascii",
    0x03: "latin-1",
    0x06: "iso8859-5",
    0x07: "iso8859-8",
    0x08: "utf-16-be",
}


def _codec(data_coding: int, alphabet: Alphabet) -> str | None:
    """Name of the codec: section 5.2.19 up to 0x0F, then the groups of 3GPP TS 23.038 section 4."""
    if data_coding == 0x00:
        return CODECS[alphabet]
    if data_coding < 0x10:
        return _CODEC_OF_DATA_CODING.get(data_coding)
    if data_coding < 0x40:
        if data_coding & 0x20:  # compressed
            return None
        return {0x00: "gsm7", 0x08: "utf-16-be"}.get(data_coding & 0x0C)
    if data_coding < 0xC0:
        return None
    if data_coding < 0xE0:  # message waiting, default alphabet
        return "gsm7"
    if data_coding < 0xF0:  # message waiting, UCS-2
        return "utf-16-be"
    return None if data_coding & 0x04 else "gsm7"
