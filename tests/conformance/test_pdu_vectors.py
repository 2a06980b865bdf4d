"""PDUs found in other projects' tests, read frame by frame."""

import pytest
from smpplib import consts

from gateway.codec import decode
from gateway.errors import BrokenStream, MalformedBody
from gateway.pdu import AnyPdu, CommandId, DeliverSm, FrameReader, SubmitSmResp
from tests.conformance.vectors import Entry, load


def read(octets: bytes) -> tuple[list[bytes], int | None, int]:
    """Frames of a stream, the length that broke it, and how many octets wait for more."""
    reader = FrameReader()
    reader.feed(octets)
    frames = []
    broken = None
    try:
        for frame in reader:
            frames.append(frame)  # noqa: PERF402  # the frames before the break count
    except BrokenStream as error:
        broken = error.command_length
    return frames, broken, len(reader)


def fields_of(pdu: AnyPdu) -> dict[str, object]:
    """Mandatory fields by name."""
    if isinstance(pdu, SubmitSmResp):
        return {"message_id": pdu.message_id}
    if isinstance(pdu, DeliverSm):
        return {
            name: value
            for name, value in pdu._asdict().items()
            if name not in {"command_status", "sequence_number", "tlvs"}
        }
    return dict(pdu.fields)


def described(frame: bytes) -> dict[str, object]:
    """What was read, in the words of the vector files; empty values are left out."""
    try:
        pdu = decode(frame)
    except MalformedBody as error:
        return {
            "malformed": error.field,
            "status": error.status,
            "command_id": error.header.command_id,
            "sequence_number": error.header.sequence_number,
        }
    found: dict[str, object] = {
        "command_id": pdu.command_id,
        "command_status": pdu.command_status,
        "sequence_number": pdu.sequence_number,
    }
    fields = {
        name: {"hex": value.hex()} if isinstance(value, bytes) else value
        for name, value in fields_of(pdu).items()
        if value not in ("", 0, b"")
    }
    if fields:
        found["fields"] = fields
    if pdu.tlvs:
        found["tlvs"] = [[tag, value.hex()] for tag, value in pdu.tlvs]
    raw = getattr(pdu, "raw", b"")
    if raw:
        found["raw"] = raw.hex()
    return found


@pytest.mark.parametrize("entry", load("pdu_hex"))
def test_every_frame_of_a_stream_reads_as_stated(entry: Entry) -> None:
    """Fields, TLVs in their order, refusals, and octets left waiting are all stated."""
    frames, broken, waiting = read(bytes.fromhex(entry["hex"]))

    stated = entry["stated"]
    assert [described(frame) for frame in frames] == stated["frames"]
    assert broken == stated.get("broken")
    assert waiting == stated.get("waiting", 0)
    assert entry["reason"]


# What the entries' own expectations call our fields; those that are not here are about their own classes.
OWN_NAMES = {
    "ServiceType": "service_type",
    "SourceAddress": "source_addr_ton",
    "SourceAddrTon": "source_addr_ton",
    "SourceAddrNpi": "source_addr_npi",
    "SourceAddr": "source_addr",
    "DestAddress": "dest_addr_ton",
    "DestAddrTon": "dest_addr_ton",
    "DestAddrNpi": "dest_addr_npi",
    "DestinationAddress": "destination_addr",
    "EsmClass": "esm_class",
    "ProtocolId": "protocol_id",
    "Priority": "priority_flag",
    "PriorityFlag": "priority_flag",
    "ScheduleDeliveryTime": "schedule_delivery_time",
    "ValidityPeriod": "validity_period",
    "RegisteredDelivery": "registered_delivery",
    "ReplaceIfPresent": "replace_if_present_flag",
    "DataCoding": "data_coding",
    "DefaultMsgId": "sm_default_msg_id",
    "SmDefaultMsgId": "sm_default_msg_id",
    "ShortMessage": "sm_length",
    "ShortMessageLength": "sm_length",
    "MessageId": "message_id",
    "SystemId": "system_id",
    "Password": "password",
    "SystemType": "system_type",
    "InterfaceVersion": "interface_version",
    "AddressRange": "addr_ton",
}


def with_expectations() -> list[object]:
    """Entries that expected something of a PDU that we speak and that is whole, and where we do not differ."""
    return [
        parameter
        for parameter in load("pdu_hex")
        if parameter.values[0]["expect"]
        and parameter.values[0]["stated"]["frames"]
        and not parameter.values[0]["reason"].startswith(("differs", "outside"))
    ]


@pytest.mark.parametrize("entry", with_expectations())
def test_the_entry_s_own_expectation_holds(entry: Entry) -> None:
    """What the other project's test asserted of this PDU is true of our reading of it."""
    expect = {
        "DestinationAddress" if name == "DestAddress" and isinstance(value, str) else name: value
        for name, value in entry["expect"].items()
    }
    frame = read(bytes.fromhex(entry["hex"]))[0][-1]
    pdu = decode(frame)
    fields = fields_of(pdu)

    assert pdu.sequence_number == expect.get("SequenceNumber", pdu.sequence_number) % 2**32
    if isinstance(expect.get("CommandLength"), int):
        assert len(frame) == expect["CommandLength"]
    if "CommandStatus" in expect:
        status = expect["CommandStatus"]
        by_name = {"SmppConstants.STATUS_INVMSGLEN": consts.SMPP_ESME_RINVMSGLEN}
        assert pdu.command_status == by_name.get(status, status)
    if "CommandId" in expect:
        named = expect["CommandId"]
        assert pdu.command_id == (
            named if isinstance(named, int) else CommandId[named.removeprefix("SmppConstants.CMD_ID_")]
        )
    for theirs, ours in OWN_NAMES.items():
        if theirs in expect and ours in fields:
            absent = "" if isinstance(fields[ours], str) else 0
            assert (absent if expect[theirs] in {None, "null"} else expect[theirs]) == fields[ours], theirs
    count = expect.get("OptionalParameters", expect.get("OptionalParameterCount"))
    if count is not None:
        assert len(pdu.tlvs) == (0 if count == "null" else count)
