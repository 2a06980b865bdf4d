"""PDUs by hand, for tests of the sans-I/O session: what an SMSC sends, and what we sent, without our codec."""

from __future__ import annotations

import struct
from typing import NamedTuple

BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER = 0x01, 0x02, 0x09
SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x04, 0x05, 0x06, 0x15
QUERY_SM, CANCEL_SM, DATA_SM = 0x03, 0x08, 0x103
RESP = 0x80000000
GENERIC_NACK = 0x80000000


class Frame(NamedTuple):
    """A PDU with its body unread."""

    command_id: int
    command_status: int
    sequence_number: int
    body: bytes


def pdu(command_id: int, sequence_number: int, body: bytes = b"", command_status: int = 0) -> bytes:
    """Octets of one PDU."""
    return struct.pack(">LLLL", 16 + len(body), command_id, command_status, sequence_number) + body


def frames(octets: bytes) -> list[Frame]:
    """Cut octets that hold whole PDUs."""
    found = []
    at = 0
    while at < len(octets):
        length, command_id, command_status, sequence_number = struct.unpack_from(">LLLL", octets, at)
        assert 16 <= length <= len(octets) - at
        found.append(Frame(command_id, command_status, sequence_number, octets[at + 16 : at + length]))
        at += length
    return found


def bind_resp(sequence_number: int = 1, kind: int = BIND_TRANSCEIVER, command_status: int = 0) -> bytes:
    """Accept or refuse a bind."""
    return pdu(kind | RESP, sequence_number, b"" if command_status else b"smsc\0", command_status)


def submit_resp(sequence_number: int, message_id: bytes = b"m1", command_status: int = 0) -> bytes:
    """Answer one segment; a refusal has no body."""
    return pdu(SUBMIT_SM | RESP, sequence_number, b"" if command_status else message_id + b"\0", command_status)


def deliver(sequence_number: int, text: bytes = b"YES", esm_class: int = 0) -> bytes:
    """A deliver_sm from a handset."""
    fixed = b"\0\x01\x01" + b"491511\0" + b"\0\x01" + b"12345\0" + bytes((esm_class, 0, 0)) + b"\0\0" + bytes(5)
    return pdu(DELIVER_SM, sequence_number, fixed[:-1] + bytes((len(text),)) + text)


def data_sm(sequence_number: int, text: bytes = b"YES", esm_class: int = 0, tlvs: bytes = b"") -> bytes:
    """A data_sm from a handset; its text is in message_payload."""
    fixed = b"\0\x01\x01" + b"491511\0" + b"\0\x01" + b"12345\0" + bytes((esm_class, 0, 0))
    return pdu(DATA_SM, sequence_number, fixed + tlvs + struct.pack(">HH", 0x0424, len(text)) + text)


def malformed_deliver(sequence_number: int) -> bytes:
    """A deliver_sm whose source address never ends."""
    return pdu(DELIVER_SM, sequence_number, b"\0\x01\x01" + b"4" * 40)
