"""PDU values to octets and back, by the field tables of smpplib.

smpplib is the dictionary: command ids, status names, TLV tags, and for each PDU the order, type and size of
its fields. The tables are walked once, strictly, at import; a table that says something we do not understand
is an error then, not a wrong octet later. Nothing else in the gateway imports smpplib.

Writing is strict: a value that does not fit its field raises and is never cut (SMPP v3.4 section 3.1.1).
Reading is strict for requests, where a missing NUL would give one field's octets to the next, and lenient for
answers, which must be matched to what we sent whatever their body looks like. Every TLV is kept, in order.

Where smpplib's tables differ from SMPP v3.4, and what is done here:

* ``max`` of a C-octet string counts its NUL, ``max`` of an octet string has none to count;
* ``password`` is 9 octets; carriers issue longer ones, so ours may have ``PASSWORD_LIMIT`` octets;
* ``message_payload`` has a ``max`` of 260; section 5.3.2.32 allows 64 KiB, and so do we;
* ``source_addr_subunit`` of submit_sm has 2 octets, section 5.3.2.2 says 1; TLVs pass here as octets, unsized;
* TLVs are listed for each PDU, and carriers send any of them in any PDU: the lists bind nothing we read.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from smpplib import command, command_codes, consts
from smpplib.ptypes import ostr

from gateway.errors import BrokenStream, FieldOutOfRange, FieldTooLong, MalformedBody, UnencodableText, UnknownField
from gateway.pdu import (
    HEADER_OCTETS,
    RESPONSE_BIT,
    AnyPdu,
    CommandId,
    DeliverSm,
    Header,
    Pdu,
    SubmitSmResp,
    Tag,
    Tlv,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.messages import Segment, ShortMessage

PASSWORD_LIMIT: Final = 64  # octets; SMPP v3.4 says 8, carriers issue longer ones
SHORT_MESSAGE_LIMIT: Final = 254  # octets, SMPP v3.4 section 5.2.21; header included
TLV_VALUE_LIMIT: Final = 0xFFFF  # octets; the length of a TLV is 16 bits
UDHI: Final = 0x40  # esm_class: the user data begins with a header
LONGEST_VALIDITY_DAYS: Final = 99  # two digits of whole days in the relative time format

INVALID_COMMAND_LENGTH: Final = 0x02  # ESME_RINVCMDLEN: the mandatory fields do not fit the body
PERMANENT_APPLICATION_ERROR: Final = 0x65  # ESME_RX_P_APPN: a deliver_sm that can never be read
INVALID_TLV_STREAM: Final = 0xC0  # ESME_RINVOPTPARSTREAM

Value = int | str | bytes

_HEADER = struct.Struct(">IIII")
_TLV = struct.Struct(">HH")
_INTEGER_FORMATS = {1: "B", 2: "H", 4: "I"}

_STATUS_NAMES: Final[dict[int, str]] = {
    code: name.removeprefix("SMPP_") for name, code in vars(consts).items() if name.startswith("SMPP_ESME_")
}
_TAGS: Final[dict[str, int]] = dict(consts.OPTIONAL_PARAMS)


def status_name(command_status: int) -> str | None:
    """Name of a command_status as SMPP v3.4 section 5.1.3 spells it, None where smpplib's table has none."""
    return _STATUS_NAMES.get(command_status)


class _Text:
    """A C-octet string: ``limit`` octets and a NUL."""

    __slots__ = ("limit", "name")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit

    def encode(self, value: str) -> bytes:
        """Octets of the value without its NUL."""
        position = -1
        octets = b""
        try:
            octets = value.encode("latin-1")
        except UnicodeEncodeError as error:
            position = error.start
        if b"\0" in octets:
            position = octets.index(b"\0")
        if position >= 0:
            raise UnencodableText(f"{self.name}: Latin-1 without NUL", position)
        if len(octets) > self.limit:
            raise FieldTooLong(self.name, len(octets), self.limit)
        return octets


class _Numbers:
    """A run of integers that stand side by side, read and written at one stroke."""

    __slots__ = ("format", "limits", "names", "struct")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.limits: list[int] = []
        self.format = ""
        self.struct = struct.Struct(">")

    def append(self, name: str, size: int) -> None:
        """Let one more integer of ``size`` octets stand at the end of the run."""
        self.names.append(name)
        self.limits.append((1 << 8 * size) - 1)
        self.format += _INTEGER_FORMATS[size]
        self.struct = struct.Struct(">" + self.format)


class _Octets:
    """Octets without a NUL, counted by the integer that stands directly before them."""

    __slots__ = ("limit", "name")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit


class _Layout:
    """The mandatory fields of one PDU, in the order of the wire."""

    __slots__ = ("command", "malformed_status", "names", "steps", "texts")

    def __init__(self, name: str) -> None:
        self.command = name
        self.names: list[str] = []
        self.texts: list[_Text] = []
        self.steps: list[_Text | _Numbers | _Octets] = []
        self.malformed_status = PERMANENT_APPLICATION_ERROR if name == "deliver_sm" else INVALID_COMMAND_LENGTH
        pdu: Any = command.factory(name, sequence=1)
        for field in pdu.params_order:
            if field in _TAGS:
                break  # the tables list mandatory fields first, then TLVs
            self._append(field, pdu.params[field])

    def _append(self, name: str, param: Any) -> None:
        """Take one row of smpplib's table, or say that it is not understood."""
        if self.steps and isinstance(self.steps[-1], _Octets):
            raise RuntimeError(f"smpplib: {self.command}.{name} follows an octet string")
        if param.type is int and param.size in _INTEGER_FORMATS:
            if not (self.steps and isinstance(self.steps[-1], _Numbers)):
                self.steps.append(_Numbers())
            run = self.steps[-1]
            assert isinstance(run, _Numbers)
            run.append(name, param.size)
        elif param.type is str and param.max > 1:
            text = _Text(name, PASSWORD_LIMIT if name == "password" else param.max - 1)
            self.texts.append(text)
            self.steps.append(text)
        elif param.type is ostr and self.names and param.len_field == self.names[-1]:
            self.steps.append(_Octets(name, param.max))
        else:
            raise RuntimeError(f"smpplib: {self.command}.{name} has a type that is not understood")
        self.names.append(name)

    def packer(self, lengths: tuple[int, ...]) -> struct.Struct:
        """Struct of all fields up to the octet string, for texts of these lengths (NULs not counted)."""
        remaining = iter(lengths)
        return struct.Struct(
            ">"
            + "".join(
                f"{next(remaining) + 1}s" if isinstance(step, _Text) else step.format
                for step in self.steps
                if not isinstance(step, _Octets)
            )
        )

    def encode(self, fields: Mapping[str, Value]) -> bytes:
        """Body of these fields; what is not given is 0, "" or empty."""
        for name in fields:
            if name not in self.names:
                raise UnknownField(self.command, name)
        parts = []
        octets = b""
        last = self.steps[-1] if self.steps else None
        if isinstance(last, _Octets):
            octets = _as_octets(fields.get(last.name, b""))
            if len(octets) > last.limit:
                raise FieldTooLong(last.name, len(octets), last.limit)
            fields = {**fields, self.names[-2]: len(octets)}
        for step in self.steps:
            if isinstance(step, _Text):
                parts.append(step.encode(_as_text(fields.get(step.name, ""))) + b"\0")
            elif isinstance(step, _Numbers):
                numbers = [_as_number(fields.get(name, 0)) for name in step.names]
                for name, number, limit in zip(step.names, numbers, step.limits, strict=True):
                    if not 0 <= number <= limit:
                        raise FieldOutOfRange(name, number, limit)
                parts.append(step.struct.pack(*numbers))
        return b"".join(parts) + octets

    def decode(self, header: Header, frame: bytes) -> tuple[list[Value], int]:
        """Values in the order of ``names``, and where the TLVs begin. Raises MalformedBody."""
        values: list[Value] = []
        at = HEADER_OCTETS
        for step in self.steps:
            if isinstance(step, _Text):
                end = frame.find(0, at)
                if end < 0:
                    raise self._malformed(header, step.name, "has no NUL")
                if end - at > step.limit:
                    raise self._malformed(header, step.name, f"is longer than {step.limit} octets")
                values.append(frame[at:end].decode("latin-1"))
                at = end + 1
            elif isinstance(step, _Numbers):
                if at + step.struct.size > len(frame):
                    raise self._malformed(header, step.names[0], "is cut off")
                values += step.struct.unpack_from(frame, at)
                at += step.struct.size
            else:
                end = at + values[-1]  # type: ignore[operator]  # the length field, an integer
                if end > len(frame):
                    raise self._malformed(header, step.name, "is cut off")
                values.append(frame[at:end])
                at = end
        return values, at

    def pattern(self) -> re.Pattern[bytes]:
        """All fields up to the octet string, each text a group and each run of integers one."""
        return re.compile(
            b"".join(
                b"([^\\0]{0,%d})\\0" % step.limit if isinstance(step, _Text) else b"(.{%d})" % step.struct.size
                for step in self.steps
                if not isinstance(step, _Octets)
            ),
            re.DOTALL,
        )

    def decode_answer(self, frame: bytes) -> tuple[list[Value], int]:
        """Values as far as they are there: an answer may have no body, or text without its NUL."""
        values: list[Value] = []
        at = HEADER_OCTETS
        for _ in self.texts:
            end = frame.find(0, at)
            if end < 0:
                end = len(frame)
            values.append(frame[at:end].decode("latin-1"))
            at = end + 1
        return values, at

    def _malformed(self, header: Header, field: str, problem: str) -> MalformedBody:
        return MalformedBody(header, field, problem, self.malformed_status)


_LAYOUTS: Final = {
    int(command_id): _Layout(command_codes.get_command_name(int(command_id))) for command_id in CommandId
}
_SUBMIT_SM = _LAYOUTS[CommandId.SUBMIT_SM]
_DELIVER_SM = _LAYOUTS[CommandId.DELIVER_SM]


def _check_tables() -> None:
    """Refuse to start where smpplib's tables are not the ones that the fast paths were written for."""
    read_as = list(DeliverSm._fields[2:-1])
    if read_as != _DELIVER_SM.names or read_as != _SUBMIT_SM.names:
        raise RuntimeError("smpplib: the fields of submit_sm or deliver_sm are not those of SMPP v3.4")
    if _LAYOUTS[CommandId.SUBMIT_SM_RESP].names != ["message_id"]:
        raise RuntimeError("smpplib: submit_sm_resp has other fields than message_id")
    for layout in _LAYOUTS.values():
        if layout.command.endswith("_resp") and len(layout.texts) != len(layout.steps):
            raise RuntimeError(f"smpplib: {layout.command} has a field that is not text")
    for tag in Tag:
        if _TAGS.get(tag.name.lower()) != tag:
            raise RuntimeError(f"smpplib: {tag.name} has another tag")


_check_tables()


def header(command_id: int, command_status: int, sequence_number: int, body_octets: int) -> bytes:
    """Sixteen octets to stand before a body of ``body_octets``."""
    return _HEADER.pack(HEADER_OCTETS + body_octets, command_id, command_status, sequence_number)


def encode(pdu: Pdu) -> bytes:
    """Whole PDU of one of our operations.

    Raises FieldTooLong, FieldOutOfRange, UnencodableText or UnknownField. A command_id that is not ours is
    written as ``raw`` says.
    """
    layout = _LAYOUTS.get(pdu.command_id)
    body = pdu.raw if layout is None else layout.encode(pdu.fields)
    if pdu.tlvs:
        body += encode_tlvs(pdu.tlvs)
    return header(pdu.command_id, pdu.command_status, pdu.sequence_number, len(body)) + body


def encode_submit_sm(
    message: ShortMessage,
    segment: Segment,
    *,
    validity_period: str = "",
    tlvs: Iterable[Tlv] = (),
    payload: bool = False,
) -> bytes:
    """Body of the submit_sm that carries one segment; the header goes before it when it is written.

    ``payload`` puts the user data into the message_payload TLV. Raises as ``encode`` does.
    """
    source = message.source
    destination = message.destination
    octets = segment.octets
    in_field = b"" if payload else octets
    if len(in_field) > SHORT_MESSAGE_LIMIT:
        raise FieldTooLong("short_message", len(in_field), SHORT_MESSAGE_LIMIT)
    service_type = _SERVICE_TYPE.encode(message.service_type) if message.service_type else b""
    source_addr = _SOURCE_ADDR.encode(source.value)
    destination_addr = _DESTINATION_ADDR.encode(destination.value)
    validity = _VALIDITY_PERIOD.encode(validity_period) if validity_period else b""
    packer = _submit_sm_packer(len(service_type), len(source_addr), len(destination_addr), len(validity))
    try:
        fixed = packer.pack(
            service_type,
            source.ton,
            source.npi,
            source_addr,
            destination.ton,
            destination.npi,
            destination_addr,
            UDHI if segment.udhi else 0,  # esm_class: the SMSC's default mode, store and forward
            0,  # protocol_id
            message.priority_flag,
            b"",  # schedule_delivery_time: at once
            validity,
            message.registered_delivery,
            0,  # replace_if_present_flag: never
            segment.data_coding,
            0,  # sm_default_msg_id
            len(in_field),
        )
    except struct.error:
        fixed = None
    if fixed is None:
        raise _out_of_range(message, segment)
    body = fixed + in_field
    if payload:
        body += encode_tlvs(((Tag.MESSAGE_PAYLOAD, octets),))
    return body + encode_tlvs(tlvs) if tlvs else body


_SERVICE_TYPE, _SOURCE_ADDR, _DESTINATION_ADDR, _, _VALIDITY_PERIOD = _SUBMIT_SM.texts


@lru_cache(maxsize=1024)
def _submit_sm_packer(service_type: int, source_addr: int, destination_addr: int, validity: int) -> struct.Struct:
    """Struct for texts of these lengths: a struct pads each of them with its NUL."""
    return _SUBMIT_SM.packer((service_type, source_addr, destination_addr, 0, validity))


def _out_of_range(message: ShortMessage, segment: Segment) -> FieldOutOfRange:
    """Name the number that does not fit its octet."""
    numbers = {
        "source_addr_ton": message.source.ton,
        "source_addr_npi": message.source.npi,
        "dest_addr_ton": message.destination.ton,
        "dest_addr_npi": message.destination.npi,
        "priority_flag": message.priority_flag,
        "registered_delivery": message.registered_delivery,
        "data_coding": segment.data_coding,
    }
    return next(FieldOutOfRange(name, value, 0xFF) for name, value in numbers.items() if not 0 <= value <= 0xFF)


def encode_tlvs(tlvs: Iterable[Tlv]) -> bytes:
    """TLVs one after the other, in the order given."""
    parts = []
    for tag, value in tlvs:
        if not 0 <= tag <= 0xFFFF:
            raise FieldOutOfRange("tag", tag, 0xFFFF)
        if len(value) > TLV_VALUE_LIMIT:
            raise FieldTooLong(f"TLV 0x{tag:04x}", len(value), TLV_VALUE_LIMIT)
        parts.append(_TLV.pack(tag, len(value)) + value)
    return b"".join(parts)


def sar_tlvs(reference: int, part: int, parts: int) -> tuple[Tlv, ...]:
    """TLVs that join segments without a user data header (SMPP v3.4 sections 5.3.2.22 to 24)."""
    return (
        (Tag.SAR_MSG_REF_NUM, (reference & 0xFFFF).to_bytes(2)),
        (Tag.SAR_TOTAL_SEGMENTS, parts.to_bytes(1)),
        (Tag.SAR_SEGMENT_SEQNUM, part.to_bytes(1)),
    )


def decode(frame: bytes) -> AnyPdu:
    """Value of one frame, as FrameReader cuts them.

    Raises MalformedBody where the header is good and the body is not (requests only), BrokenStream where the
    octets are no frame. A command_id that is not ours gives a Pdu with its body in ``raw``.
    """
    if len(frame) < HEADER_OCTETS:
        raise BrokenStream(len(frame))
    length, command_id, command_status, sequence_number = _HEADER.unpack_from(frame)
    if length != len(frame):
        raise BrokenStream(length)
    if command_id == _SUBMIT_SM_RESP_ID:
        end = frame.find(0, HEADER_OCTETS)
        if end < 0:
            end = length
        message_id = frame[HEADER_OCTETS:end].decode("latin-1")
        tlvs = _decode_tlvs(frame, end + 1, None) if end + 1 < length else ()
        return tuple.__new__(SubmitSmResp, (command_status, sequence_number, message_id, tlvs))
    layout = _LAYOUTS.get(command_id)
    if layout is None or not layout.steps:
        return Pdu(command_id, command_status, sequence_number, raw=frame[HEADER_OCTETS:])
    if command_id & RESPONSE_BIT:
        values, at = layout.decode_answer(frame)
        tlvs = _decode_tlvs(frame, at, None)
        return Pdu(command_id, command_status, sequence_number, dict(zip(layout.names, values, strict=True)), tlvs)
    head = Header(length, command_id, command_status, sequence_number)
    if layout is _DELIVER_SM:
        values, at = _deliver_sm_values(frame) or layout.decode(head, frame)
        tlvs = _decode_tlvs(frame, at, head) if at < length else ()
        return DeliverSm._make((command_status, sequence_number, *values, tlvs))
    values, at = layout.decode(head, frame)
    tlvs = _decode_tlvs(frame, at, head) if at < length else ()
    return Pdu(command_id, command_status, sequence_number, dict(zip(layout.names, values, strict=True)), tlvs)


_SUBMIT_SM_RESP_ID = int(CommandId.SUBMIT_SM_RESP)
_DELIVER_SM_PATTERN = _DELIVER_SM.pattern()


def _deliver_sm_values(frame: bytes) -> tuple[list[Value], int] | None:
    """Read what ``_Layout.decode`` reads, at one stroke; None where it has to say what is wrong."""
    found = _DELIVER_SM_PATTERN.match(frame, HEADER_OCTETS)
    if found is None:
        return None
    service_type, source, source_addr, dest, destination_addr, kinds, scheduled, validity, numbers = found.groups()
    at = found.end()
    end = at + numbers[-1]
    if end > len(frame):
        return None
    values = [
        service_type.decode("latin-1"),
        *source,
        source_addr.decode("latin-1"),
        *dest,
        destination_addr.decode("latin-1"),
        *kinds,
        scheduled.decode("latin-1"),
        validity.decode("latin-1"),
        *numbers,
        frame[at:end],
    ]
    return values, end


def _decode_tlvs(frame: bytes, at: int, request: Header | None) -> tuple[Tlv, ...]:
    """Read TLVs up to the end; fewer than four octets at the end are ignored.

    A TLV that runs past the end spoils a request; of an answer (``request`` is None) what came before is kept.
    One NUL between the fields and the TLVs, as some SMSCs write after short_message, is skipped.
    """
    tlvs, complete = _walk_tlvs(frame, at)
    if not complete and frame[at] == 0:
        shifted, complete = _walk_tlvs(frame, at + 1)
        if complete:
            return shifted
    if not complete and request is not None:
        raise MalformedBody(request, "TLV", "runs past the end", INVALID_TLV_STREAM)
    return tlvs


def _walk_tlvs(frame: bytes, at: int) -> tuple[tuple[Tlv, ...], bool]:
    """Read TLVs, and say whether the last one was whole."""
    tlvs: list[Tlv] = []
    last = len(frame) - _TLV.size
    while at <= last:
        tag, octets = _TLV.unpack_from(frame, at)
        at += _TLV.size
        value = frame[at : at + octets]
        if len(value) < octets:
            return tuple(tlvs), False
        tlvs.append((tag, value))
        at += octets
    return tuple(tlvs), True


def delivery_of_data_sm(pdu: Pdu) -> DeliverSm | None:
    """The deliver_sm that a data_sm (section 4.7.1) stands for, its user data in message_payload; None: malformed."""
    body = pdu.raw
    texts: list[str] = []
    numbers: list[int] = []
    at = 0
    for limit, integers in ((5, 2), (64, 2), (64, 3)):  # service_type, source and destination, and what follows each
        end = body.find(b"\0", at, at + limit + 1)
        if end < 0 or end + 1 + integers > len(body):
            return None
        texts.append(body[at:end].decode("latin-1"))
        numbers += body[end + 1 : end + 1 + integers]
        at = end + 1 + integers
    tlvs, complete = _walk_tlvs(body, at)
    if not complete:
        return None
    return DeliverSm(
        pdu.command_status,
        pdu.sequence_number,
        service_type=texts[0],
        source_addr_ton=numbers[0],
        source_addr_npi=numbers[1],
        source_addr=texts[1],
        dest_addr_ton=numbers[2],
        dest_addr_npi=numbers[3],
        destination_addr=texts[2],
        esm_class=numbers[4],
        registered_delivery=numbers[5],
        data_coding=numbers[6],
        tlvs=tlvs,
    )


def validity_relative(seconds: float) -> str:
    """Time to live in the relative format YYMMDDhhmmss000R (section 7.1.1), whole days in DD.

    Fractions are dropped, so that the SMSC never tries longer than was asked for; at least one second, at
    most ``LONGEST_VALIDITY_DAYS`` days.
    """
    whole = max(1, min(int(seconds), LONGEST_VALIDITY_DAYS * 86_400))
    minutes, ss = divmod(whole, 60)
    hours, mm = divmod(minutes, 60)
    dd, hh = divmod(hours, 24)
    return f"0000{dd:02d}{hh:02d}{mm:02d}{ss:02d}000R"


def validity_absolute(expires: datetime) -> str:
    """Instant of expiry in the absolute format YYMMDDhhmmsstnnp (section 7.1.1), in UTC."""
    if expires.tzinfo is None:
        raise ValueError("an instant needs its time zone")
    utc = expires.astimezone(UTC)
    return f"{utc:%y%m%d%H%M%S}{utc.microsecond // 100_000}00+"


def _as_text(value: Value) -> str:
    assert isinstance(value, str)
    return value


def _as_number(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _as_octets(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value
