"""Our codec and smpplib's read each other's PDUs, over random fields and every TLV that smpplib lists.

smpplib 2.2.4 is an independent witness with defects of its own. The properties keep clear of them; each is
shown below by a test, so that a release which cures one tells us.

* a C-octet string over its limit is cut without an error (test_smpplib_cuts_...)
* ``max`` of message_payload is 260, and the flag TLV alert_on_message_delivery is never written
* a C-octet string in a TLV loses its last octet when that is no NUL
* the length of an integer TLV is not looked at
* a TLV that is known but not listed for the PDU raises KeyError
* a text TLV is written in UTF-8 with its length counted in characters
* interface_version of a bind is always written as 0x34
* a body that is cut off, or a C-octet string without its NUL, is read without complaint
* a field of no octets at the end of the body reads as None
* a vendor command_id raises
"""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smpplib import command, command_codes, consts
from smpplib.exceptions import UnknownCommandError
from smpplib.ptypes import flag, ostr

from gateway.codec import decode, encode, encode_submit_sm, encode_tlvs, header
from gateway.errors import FieldTooLong, MalformedBody
from gateway.messages import Address, Segment, ShortMessage
from gateway.pdu import CommandId, DeliverSm, FrameReader, Pdu, SubmitSmResp, Tag

quick = settings(max_examples=120, deadline=None)

WITH_FIELDS = [
    CommandId.BIND_RECEIVER,
    CommandId.BIND_TRANSMITTER,
    CommandId.BIND_TRANSCEIVER,
    CommandId.SUBMIT_SM,
    CommandId.DELIVER_SM,
    CommandId.BIND_RECEIVER_RESP,
    CommandId.BIND_TRANSMITTER_RESP,
    CommandId.BIND_TRANSCEIVER_RESP,
    CommandId.SUBMIT_SM_RESP,
    CommandId.DELIVER_SM_RESP,
]
WITHOUT_FIELDS = [command_id for command_id in CommandId if command_id not in WITH_FIELDS]


def witness(command_id, **values):
    """Object of smpplib for this operation."""
    return command.factory(
        command_codes.get_command_name(int(command_id)), sequence=1, allow_unknown_opt_params=True, **values
    )


def table(command_id):
    """Rows of smpplib's field table: name, parameter, whether it is a TLV."""
    pdu = witness(command_id)
    return [(name, pdu.params[name], name in consts.OPTIONAL_PARAMS) for name in pdu.params_order]


def latin(limit):
    """C-octet strings, NUL left out."""
    return st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=limit)


def mandatory(command_id):
    """Values for all mandatory fields; interface_version is what smpplib always writes."""
    fields = {}
    for name, param, is_tlv in table(command_id):
        if is_tlv or name == "sm_length":
            continue
        if name == "interface_version":
            fields[name] = st.just(0x34)
        elif param.type is int:
            fields[name] = st.integers(0, (1 << 8 * param.size) - 1)
        elif param.type is str:
            fields[name] = latin(param.max - 1)
        else:
            fields[name] = st.binary(max_size=param.max)
    return st.fixed_dictionaries(fields)


def tlv_value(param):
    """Value as smpplib holds it, for a TLV of this type."""
    if param.type is int:
        return st.integers(0, (1 << 8 * param.size) - 1)
    if param.type is str:
        return st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=param.max - 1)
    size = getattr(param, "size", None)
    return st.binary(min_size=size or getattr(param, "min", 1) or 1, max_size=size or param.max)


def listed_tlvs(command_id):
    """Any choice of the TLVs that smpplib lists for this PDU, the flag left out."""
    return st.fixed_dictionaries(
        {},
        optional={
            name: tlv_value(param) for name, param, is_tlv in table(command_id) if is_tlv and param.type is not flag
        },
    )


def octets_of(command_id, name, value):
    """Value of a TLV on the wire."""
    param = witness(command_id).params[name]
    if param.type is int:
        return value.to_bytes(param.size)
    return value.encode("ascii") + b"\0" if param.type is str else value


def our_fields(pdu):
    """Mandatory fields that we read."""
    if isinstance(pdu, SubmitSmResp):
        return {"message_id": pdu.message_id}
    return pdu._asdict() if isinstance(pdu, DeliverSm) else pdu.fields


operations = st.sampled_from(WITH_FIELDS)
sequences = st.integers(1, 0x7FFF_FFFF)
statuses = st.integers(0, 0xFFFF_FFFF)


@quick
@given(st.data(), operations, statuses, sequences)
def test_smpplib_reads_what_we_write(data, command_id, status, sequence):
    """Every PDU that we encode is accepted by smpplib's parser, which finds the same values."""
    fields = data.draw(mandatory(command_id))
    tlvs = data.draw(listed_tlvs(command_id))
    written = encode(
        Pdu(
            command_id,
            status,
            sequence,
            fields,
            tuple((consts.OPTIONAL_PARAMS[name], octets_of(command_id, name, value)) for name, value in tlvs.items()),
        )
    )

    read = witness(command_id)
    read.parse(written)

    assert (read.command, read.status, read.sequence) == (command_codes.get_command_name(command_id), status, sequence)
    assert read.length == len(written)
    for name, value in (fields | tlvs).items():
        found = getattr(read, name)
        if found is None:
            found = b""  # an empty field at the end of the body
        assert (found.decode("latin-1") if isinstance(value, str) else found) == value, name


@quick
@given(st.data(), operations, statuses, sequences)
def test_we_read_what_smpplib_writes(data, command_id, status, sequence):
    """Every PDU that smpplib generates is read by us with the same values and its TLVs in order."""
    fields = data.draw(mandatory(command_id))
    tlvs = data.draw(listed_tlvs(command_id))
    if fields.get("short_message"):
        tlvs.pop("message_payload", None)  # smpplib refuses both
    pdu = witness(command_id, status=status, **fields, **tlvs)
    pdu.sequence = sequence

    read = decode(pdu.generate())

    assert (read.command_id, read.command_status, read.sequence_number) == (command_id, status, sequence)
    for name, value in fields.items():
        assert our_fields(read)[name] == value, name
    in_order = [name for name, _, is_tlv in table(command_id) if is_tlv and name in tlvs]
    assert read.tlvs == tuple(
        (consts.OPTIONAL_PARAMS[name], octets_of(command_id, name, tlvs[name])) for name in in_order
    )


@pytest.mark.parametrize("command_id", WITHOUT_FIELDS)
def test_operations_without_fields_are_equal_octet_by_octet(command_id):
    """unbind, enquire_link, their answers and generic_nack are a header and nothing else."""
    pdu = witness(command_id, status=8)
    pdu.sequence = 1

    written = encode(Pdu(command_id, 8, 1))

    assert written == pdu.generate()
    assert decode(written) == Pdu(command_id, 8, 1)


addresses = st.builds(Address, latin(20), st.integers(0, 255), st.integers(0, 255))
messages = st.builds(ShortMessage, addresses, addresses, st.integers(0, 3), latin(5), st.integers(0, 255))
segments = st.builds(Segment, st.just(1), st.just(1), st.integers(0, 255), st.booleans(), st.binary(max_size=254))


@quick
@given(messages, segments, st.sampled_from(["", "000003000000000R", "261122013000000+"]), sequences)
def test_the_fast_submit_sm_is_smpplib_s_octet_by_octet(message, segment, validity, sequence):
    """The packed struct and smpplib's generator write the same octets."""
    body = encode_submit_sm(message, segment, validity_period=validity)
    pdu = witness(
        CommandId.SUBMIT_SM,
        service_type=message.service_type,
        source_addr_ton=message.source.ton,
        source_addr_npi=message.source.npi,
        source_addr=message.source.value,
        dest_addr_ton=message.destination.ton,
        dest_addr_npi=message.destination.npi,
        destination_addr=message.destination.value,
        esm_class=0x40 if segment.udhi else 0,
        priority_flag=message.priority_flag,
        registered_delivery=message.registered_delivery,
        data_coding=segment.data_coding,
        validity_period=validity,
        short_message=segment.octets,
    )
    pdu.sequence = sequence

    assert header(CommandId.SUBMIT_SM, 0, sequence, len(body)) + body == pdu.generate()


@quick
@given(st.data(), operations)
def test_what_we_write_we_read(data, command_id):
    """Encode and decode are inverse, any TLV whatever included, twice the same tag included."""
    fields = data.draw(mandatory(command_id))
    tlvs = tuple(data.draw(st.lists(st.tuples(st.integers(1, 0xFFFF), st.binary(max_size=40)), max_size=6)))

    read = decode(encode(Pdu(command_id, 0, 7, fields, tlvs)))

    assert {name: our_fields(read)[name] for name in fields} == fields
    assert read.tlvs == tlvs


@quick
@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_any_split_gives_the_same_frames(bodies, data):
    """What TCP does to the octets does not show."""
    frames = [header(CommandId.SUBMIT_SM_RESP, 0, number, len(body)) + body for number, body in enumerate(bodies)]
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found += list(reader)

    assert found == frames


def parsed(command_id, body):
    """What smpplib makes of a body."""
    pdu = witness(command_id)
    pdu.parse(header(command_id, 0, 1, len(body)) + body)
    return pdu


SUBMIT_SM = {"source_addr_ton": 1, "short_message": b"x", "destination_addr": "1"}


def test_smpplib_cuts_a_field_that_is_too_long_and_we_refuse():
    """A cut destination is another phone."""
    pdu = witness(CommandId.SUBMIT_SM, **{**SUBMIT_SM, "destination_addr": "1" * 21})

    assert decode(pdu.generate()).fields["destination_addr"] == "1" * 20
    with pytest.raises(FieldTooLong):
        encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"destination_addr": "1" * 21}))


def test_smpplib_lists_message_payload_with_260_octets_and_cuts_nothing():
    """The limit in its table is not the standard's; a payload of 1,000 octets passes both ways."""
    assert witness(CommandId.SUBMIT_SM).params["message_payload"].max == 260
    written = encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {}, ((Tag.MESSAGE_PAYLOAD, b"x" * 1000),)))

    pdu = witness(CommandId.SUBMIT_SM)
    pdu.parse(written)
    assert pdu.message_payload == b"x" * 1000


def test_smpplib_never_writes_the_flag_and_reads_past_an_empty_one():
    """alert_on_message_delivery has no value; we carry it as a TLV of no octets."""
    pdu = witness(CommandId.SUBMIT_SM, **SUBMIT_SM, alert_on_message_delivery=True)
    tag = consts.OPTIONAL_PARAMS["alert_on_message_delivery"]

    assert decode(pdu.generate()).tlvs == ()
    written = encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {}, ((tag, b""), (Tag.SAR_TOTAL_SEGMENTS, b"\2"))))
    assert decode(written).tlvs == ((tag, b""), (Tag.SAR_TOTAL_SEGMENTS, b"\2"))
    pdu.parse(written)
    assert pdu.sar_total_segments == 2


def test_smpplib_loses_the_last_octet_of_an_id_without_its_nul():
    """Ours keeps the value of a TLV as it is."""
    body = encode(Pdu(CommandId.DELIVER_SM, 0, 1, {}, ((Tag.RECEIPTED_MESSAGE_ID, b"1234"),)))[16:]

    assert parsed(CommandId.DELIVER_SM, body).receipted_message_id == b"123"
    assert decode(header(CommandId.DELIVER_SM, 0, 1, len(body)) + body).tlv(Tag.RECEIPTED_MESSAGE_ID) == b"1234"


def test_smpplib_ignores_the_length_of_an_integer_tlv():
    """message_state of four octets puts its reader out of step; ours goes by the length."""
    tlvs = ((Tag.MESSAGE_STATE, b"\0\0\0\2"), (Tag.RECEIPTED_MESSAGE_ID, b"1\0"))
    body = encode(Pdu(CommandId.DELIVER_SM, 0, 1, {}, tlvs))[16:]

    read = parsed(CommandId.DELIVER_SM, body + b"\0")

    assert (read.message_state, read.receipted_message_id) == (0, None)
    assert decode(header(CommandId.DELIVER_SM, 0, 1, len(body)) + body).tlvs == tlvs


@pytest.mark.parametrize("name", ["network_error_code", "delivery_failure_reason", "additional_status_info_text"])
def test_smpplib_raises_on_a_known_tlv_that_is_not_listed(name):
    """Carriers put these into submit_sm_resp; the id in front of them must not be lost."""
    tag = consts.OPTIONAL_PARAMS[name]
    body = b"42\0" + encode_tlvs([(tag, b"\3\0\1")])

    with pytest.raises(KeyError):
        parsed(CommandId.SUBMIT_SM_RESP, body)
    read = decode(header(CommandId.SUBMIT_SM_RESP, 0, 1, len(body)) + body)
    assert read == SubmitSmResp(0, 1, "42", ((tag, b"\3\0\1"),))


def test_smpplib_counts_characters_where_it_writes_utf_8():
    """A text TLV outside ASCII gets a length that is too short; ours are octets from the start."""
    pdu = witness(CommandId.DELIVER_SM, **SUBMIT_SM, receipted_message_id="é")

    generated = pdu.generate()

    assert generated.endswith(struct.pack(">HH", Tag.RECEIPTED_MESSAGE_ID, 2) + "é\0".encode())
    assert decode(generated).tlvs == ((Tag.RECEIPTED_MESSAGE_ID, "é".encode()),)


def test_smpplib_always_binds_as_version_3_4():
    """Ours writes the version that it is given."""
    assert witness(CommandId.BIND_TRANSCEIVER, interface_version=0x33).interface_version == 0x34
    written = encode(Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {"interface_version": 0x33}))
    assert decode(written).fields["interface_version"] == 0x33


def test_smpplib_reads_a_body_that_is_cut_off():
    """Shifted fields could send a text to the wrong phone; ours names the field that is missing."""
    whole = encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"source_addr": "12345", "destination_addr": "49170"}))[16:]

    assert parsed(CommandId.SUBMIT_SM, whole[:14]).destination_addr == b"49"
    with pytest.raises(MalformedBody, match="destination_addr"):
        decode(header(CommandId.SUBMIT_SM, 0, 1, 14) + whole[:14])


def test_smpplib_reads_an_empty_last_field_as_none():
    """Ours reads no octets as no octets."""
    written = encode(Pdu(CommandId.DELIVER_SM, 0, 1))

    assert parsed(CommandId.DELIVER_SM, written[16:]).short_message is None
    assert decode(written).short_message == b""


def test_smpplib_raises_on_a_vendor_command_id():
    """Ours is a value with its body unread, for the session to answer."""
    frame = header(0x0001_0200, 0, 1, 3) + b"abc"

    with pytest.raises(UnknownCommandError):
        witness(CommandId.SUBMIT_SM).parse(frame)
    assert decode(frame) == Pdu(0x0001_0200, 0, 1, raw=b"abc")


def test_smpplib_s_octet_string_type_is_the_one_we_know():
    """The table's row for short_message is what the codec was built on."""
    param = witness(CommandId.SUBMIT_SM).params["short_message"]

    assert (param.type, param.max, param.len_field) == (ostr, 254, "sm_length")
