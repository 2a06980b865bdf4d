"""Limits, malformed bodies, answers in every shape, framing and the time formats."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from smpplib import consts

from gateway import codec
from gateway.codec import (
    PASSWORD_LIMIT,
    decode,
    encode,
    encode_submit_sm,
    encode_tlvs,
    header,
    sar_tlvs,
    status_name,
    validity_absolute,
    validity_relative,
)
from gateway.errors import (
    BrokenStream,
    FieldOutOfRange,
    FieldTooLong,
    LocalError,
    MalformedBody,
    UnencodableText,
    UnknownField,
)
from gateway.messages import Address, Segment, ShortMessage
from gateway.pdu import MAX_PDU_OCTETS, CommandId, DeliverSm, FrameReader, Header, Pdu, SubmitSmResp, Tag

MESSAGE = ShortMessage(Address("12345", 3, 1), Address("491701234567"))
SEGMENT = Segment(1, 1, 0, udhi=False, octets=b"hello")


def framed(command_id, body, status=0, sequence=7):
    """A whole PDU of this body."""
    return header(command_id, status, sequence, len(body)) + body


def body_of(command_id, tlvs=(), **fields):
    """Body of a PDU with these fields."""
    return encode(Pdu(command_id, 0, 1, fields, tlvs))[16:]


class TestLimits:
    @pytest.mark.parametrize(
        ("field", "limit"),
        [
            ("service_type", 5),
            ("source_addr", 20),
            ("destination_addr", 20),
            ("schedule_delivery_time", 16),
            ("validity_period", 16),
        ],
    )
    def test_a_text_field_takes_its_limit_and_not_one_octet_more(self, field, limit):
        """The limits of section 4.4.1, NUL not counted."""
        assert decode(encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {field: "1" * limit}))).text(field) == "1" * limit
        with pytest.raises(FieldTooLong, match=rf"^{field}: {limit + 1} octets, at most {limit}$"):
            encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {field: "1" * (limit + 1)}))

    @pytest.mark.parametrize(("field", "limit"), [("system_id", 15), ("system_type", 12), ("address_range", 40)])
    def test_a_bind_field_takes_its_limit_and_not_one_octet_more(self, field, limit):
        """The limits of section 4.1.1, NUL not counted."""
        encode(Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {field: "x" * limit}))
        with pytest.raises(FieldTooLong):
            encode(Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {field: "x" * (limit + 1)}))

    def test_a_password_may_be_longer_than_the_standard_s_eight_octets(self):
        """Carriers issue such passwords, and one that is cut never binds."""
        long = encode(Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {"password": "p" * PASSWORD_LIMIT}))

        assert decode(long).text("password") == "p" * PASSWORD_LIMIT
        with pytest.raises(FieldTooLong) as caught:
            encode(Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {"password": "p" * (PASSWORD_LIMIT + 1)}))
        assert "ppp" not in str(caught.value)

    def test_short_message_takes_254_octets_and_a_payload_takes_more(self):
        """Sections 5.2.21 and 5.3.2.32."""
        encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"short_message": b"x" * 254}))
        with pytest.raises(FieldTooLong, match="short_message"):
            encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"short_message": b"x" * 255}))
        with pytest.raises(FieldTooLong, match="TLV 0x0424"):
            encode_tlvs([(Tag.MESSAGE_PAYLOAD, b"x" * 65_536)])

    def test_a_number_that_does_not_fit_its_octets_is_named(self):
        """Nothing is taken modulo 256."""
        with pytest.raises(FieldOutOfRange, match=r"^data_coding: 256 is not in 0\.\.255$"):
            encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"data_coding": 256}))
        with pytest.raises(FieldOutOfRange, match="addr_ton: -1"):
            encode(Pdu(CommandId.BIND_RECEIVER, 0, 1, {"addr_ton": -1}))
        with pytest.raises(FieldOutOfRange, match="tag"):
            encode_tlvs([(0x1_0000, b"")])

    @pytest.mark.parametrize("value", ["12\x0034", "12€"])
    def test_a_text_with_a_nul_or_outside_latin_1_is_refused(self, value):
        """A NUL would end the field early, and the rest would be read as the next one."""
        with pytest.raises(UnencodableText, match="character 2 is not in source_addr") as caught:
            encode(Pdu(CommandId.SUBMIT_SM, 0, 1, {"source_addr": value}))
        assert caught.value.__context__ is None

    def test_a_field_that_the_pdu_lacks_is_refused(self):
        """A misspelt name must not vanish."""
        with pytest.raises(UnknownField, match="unbind has no field system_id"):
            encode(Pdu(CommandId.UNBIND, 0, 1, {"system_id": "x"}))


class TestFastSubmitSm:
    def test_it_writes_what_the_table_writes(self):
        """Two ways to the same octets."""
        fields = {
            "source_addr_ton": 3,
            "source_addr_npi": 1,
            "source_addr": "12345",
            "dest_addr_ton": 1,
            "dest_addr_npi": 1,
            "destination_addr": "491701234567",
            "esm_class": 0x40,
            "registered_delivery": 1,
            "validity_period": "000003000000000R",
            "data_coding": 8,
            "short_message": b"\5\0\3\1\2\1\0a",
        }
        tlvs = ((0x1400, b"dlt"), (Tag.DEST_ADDR_SUBUNIT, b"\1"))
        segment = Segment(1, 2, 8, udhi=True, octets=b"\5\0\3\1\2\1\0a")

        written = encode_submit_sm(MESSAGE, segment, validity_period="000003000000000R", tlvs=tlvs)

        assert written == body_of(CommandId.SUBMIT_SM, tlvs, **fields)

    def test_a_payload_goes_into_its_tlv_and_leaves_short_message_empty(self):
        """Section 5.3.2.32: sm_length is 0 then."""
        long = Segment(1, 1, 0, udhi=False, octets=b"x" * 1000)

        read = decode(
            framed(CommandId.SUBMIT_SM, encode_submit_sm(MESSAGE, long, payload=True, tlvs=((0x1400, b"d"),)))
        )

        assert (read.number("sm_length"), read.octets("short_message")) == (0, b"")
        assert read.tlvs == ((Tag.MESSAGE_PAYLOAD, b"x" * 1000), (0x1400, b"d"))

    def test_sar_tlvs_are_reference_total_and_number(self):
        """Sections 5.3.2.22 to 5.3.2.24: two octets, one, one."""
        assert sar_tlvs(0x1_2345, 2, 3) == ((0x020C, b"\x23\x45"), (0x020E, b"\3"), (0x020F, b"\2"))

    @pytest.mark.parametrize(
        ("message", "segment", "validity", "field"),
        [
            (ShortMessage(Address("1" * 21), Address("2")), SEGMENT, "", "source_addr"),
            (ShortMessage(Address("1"), Address("2" * 21)), SEGMENT, "", "destination_addr"),
            (ShortMessage(Address("1"), Address("2"), service_type="ABCDEF"), SEGMENT, "", "service_type"),
            (MESSAGE, SEGMENT, "0" * 17, "validity_period"),
            (MESSAGE, Segment(1, 1, 0, udhi=False, octets=b"x" * 255), "", "short_message"),
            (MESSAGE, Segment(1, 1, 256, udhi=False, octets=b""), "", "data_coding"),
            (ShortMessage(Address("1", 256), Address("2")), SEGMENT, "", "source_addr_ton"),
            (ShortMessage(Address("1"), Address("2", 1, -1)), SEGMENT, "", "dest_addr_npi"),
            (ShortMessage(Address("1"), Address("2"), priority_flag=300), SEGMENT, "", "priority_flag"),
        ],
    )
    def test_a_value_that_does_not_fit_is_refused_by_name(self, message, segment, validity, field):
        """A destination that is cut is another phone."""
        with pytest.raises(LocalError, match=f"^{field}: "):
            encode_submit_sm(message, segment, validity_period=validity)


class TestRequests:
    @pytest.mark.parametrize("command_id", [CommandId.BIND_TRANSCEIVER, CommandId.SUBMIT_SM, CommandId.DELIVER_SM])
    def test_a_body_cut_off_anywhere_in_its_fields_is_malformed(self, command_id):
        """No field ever takes the octets of the next; a deliver_sm can be refused for good."""
        whole = body_of(command_id)
        for length in range(len(whole)):
            with pytest.raises(MalformedBody) as caught:
                decode(framed(command_id, whole[:length]))
            assert caught.value.status == (0x65 if command_id == CommandId.DELIVER_SM else 0x02)
            assert caught.value.header == Header(16 + length, command_id, 0, 7)

    def test_a_field_that_is_longer_than_its_limit_is_malformed(self):
        """A missing NUL gives one field's octets to the next: 21 digits are no address."""
        with pytest.raises(MalformedBody, match="source_addr: is longer than 20 octets"):
            decode(framed(CommandId.DELIVER_SM, b"\0\1\1" + b"1" * 21 + b"\0" * 20))

    def test_a_tlv_that_runs_past_the_end_is_malformed(self):
        """A clipped id could name another message, a clipped payload is another text."""
        with pytest.raises(MalformedBody, match="TLV: runs past the end") as caught:
            decode(framed(CommandId.DELIVER_SM, body_of(CommandId.DELIVER_SM) + b"\x00\x1e\x00\x05123\0"))
        assert caught.value.status == 0xC0

    def test_tlvs_are_kept_in_order_and_twice(self):
        """No list of known tags is asked."""
        tlvs = ((Tag.MESSAGE_STATE, b"\2"), (0x1401, b""), (Tag.MESSAGE_STATE, b"\5"))

        read = decode(framed(CommandId.DELIVER_SM, body_of(CommandId.DELIVER_SM, tlvs)))

        assert read.tlvs == tlvs
        assert read.tlv(Tag.MESSAGE_STATE) == b"\2"
        assert read.tlv(Tag.MESSAGE_PAYLOAD) is None

    @pytest.mark.parametrize("stray", [b"\0", b"\0\0", b"\0\0\0"])
    def test_octets_too_few_for_a_tlv_are_ignored(self, stray):
        """A NUL behind short_message is a known fault of some SMSCs."""
        body = body_of(CommandId.DELIVER_SM, short_message=b"YES")

        assert decode(framed(CommandId.DELIVER_SM, body + stray)) == decode(framed(CommandId.DELIVER_SM, body))

    def test_a_nul_between_short_message_and_tlvs_is_skipped(self):
        """The same fault with a receipt's TLVs behind it."""
        tlvs = ((Tag.RECEIPTED_MESSAGE_ID, b"42\0"), (Tag.MESSAGE_STATE, b"\2"))
        body = body_of(CommandId.DELIVER_SM, short_message=b"x") + b"\0" + encode_tlvs(tlvs)

        assert decode(framed(CommandId.DELIVER_SM, body)).tlvs == tlvs

    def test_a_command_id_that_is_not_ours_keeps_its_body(self):
        """data_sm, alert_notification, vendors: the session decides what to answer."""
        for command_id in (0x103, 0x102, 0x0B, 0x0001_0200, 0x8000_0103):
            assert decode(framed(command_id, b"abc")) == Pdu(command_id, 0, 7, raw=b"abc")
            assert encode(Pdu(command_id, 0, 7, raw=b"abc")) == framed(command_id, b"abc")

    def test_a_body_where_none_belongs_is_kept_and_not_read(self):
        """enquire_link with octets behind it is still an enquire_link."""
        assert decode(framed(CommandId.ENQUIRE_LINK, b"\1\2\3\4\5")).raw == b"\1\2\3\4\5"

    def test_a_repr_tells_neither_text_nor_number(self):
        """Values end up in tracebacks."""
        body = body_of(CommandId.DELIVER_SM, source_addr="491701234567", short_message=b"secret")
        deliver = decode(framed(CommandId.DELIVER_SM, body))
        bind = Pdu(CommandId.BIND_TRANSCEIVER, 0, 1, {"password": "secret"})

        assert isinstance(deliver, DeliverSm)
        assert "4917" not in repr(deliver)
        assert "secret" not in repr(deliver) + repr(bind)


class TestAnswers:
    @pytest.mark.parametrize(
        ("body", "message_id", "tlvs"),
        [
            (b"", "", ()),
            (b"\0", "", ()),
            (b"0a1B-2\0", "0a1B-2", ()),
            (b"0a1B-2", "0a1B-2", ()),
            (b"1" * 100 + b"\0", "1" * 100, ()),
            (b"1\0\x04\x28\x00\x01\x32", "1", ((0x0428, b"2"),)),
            (b"1\0\x04\x28\x00\x01\x32\x00\x1d\x00\x09ab", "1", ((0x0428, b"2"),)),
            (b"1\0\x04\x28", "1", ()),
        ],
    )
    @pytest.mark.parametrize("status", [0, 0x58, 0x401])
    def test_a_submit_sm_resp_is_read_as_far_as_it_goes(self, body, message_id, tlvs, status):
        """With and without body, NUL and TLVs, for good news and bad: the id must not be lost."""
        read = decode(framed(CommandId.SUBMIT_SM_RESP, body, status))

        assert read == SubmitSmResp(status, 7, message_id, tlvs)
        assert read.command_id == CommandId.SUBMIT_SM_RESP

    @pytest.mark.parametrize(
        ("body", "system_id", "version"),
        [(b"", "", None), (b"\0", "", None), (b"SMSC", "SMSC", None), (b"SMSC\0\x02\x10\x00\x01\x34", "SMSC", b"\x34")],
    )
    def test_a_bind_answer_is_read_as_far_as_it_goes(self, body, system_id, version):
        """An SMSC that refuses sends no body, and older ones no TLV."""
        read = decode(framed(CommandId.BIND_TRANSCEIVER_RESP, body, 0x0E))

        assert read.text("system_id") == system_id
        assert read.tlv(Tag.SC_INTERFACE_VERSION) == version

    def test_a_deliver_sm_resp_is_a_single_nul(self):
        """Section 4.6.2: message_id is unused and set to NULL."""
        assert encode(Pdu(CommandId.DELIVER_SM_RESP, 0, 9)) == framed(CommandId.DELIVER_SM_RESP, b"\0", sequence=9)


class TestFrames:
    def test_octets_that_are_no_frame_are_a_broken_stream(self):
        """A frame shorter than its header, or with another length than it claims."""
        for octets in (b"", b"\0" * 15, framed(CommandId.UNBIND, b"")[:-1] + b"\0\0", framed(0x15, b"ab")[:-1]):
            with pytest.raises(BrokenStream):
                decode(octets)

    @pytest.mark.parametrize("length", [0, 15, MAX_PDU_OCTETS + 1, 0xFFFF_FFFF])
    def test_an_impossible_length_breaks_the_stream_after_the_frames_before_it(self, length):
        """Four octets of it are enough, and nothing is read any more."""
        good = framed(CommandId.ENQUIRE_LINK, b"")
        reader = FrameReader()
        reader.feed(good + length.to_bytes(4))
        frames = iter(reader)

        assert next(frames) == good
        for _ in range(2):
            with pytest.raises(BrokenStream, match=f"command_length {length} is impossible"):
                next(frames)
            reader.feed(good)
            frames = iter(reader)
        assert len(reader) == 0

    def test_a_frame_that_was_given_is_not_given_again(self):
        """A reader left in the middle goes on where it was."""
        stream = [framed(CommandId.ENQUIRE_LINK, b"", sequence=number) for number in (1, 2, 3)]
        reader = FrameReader()
        reader.feed(b"".join(stream))

        assert next(iter(reader)) == stream[0]
        assert list(reader) == stream[1:]
        assert list(reader) == []

    def test_the_longest_believed_pdu_is_read(self):
        """A message_payload of 64 KiB fits."""
        reader = FrameReader()
        frame = framed(CommandId.DELIVER_SM, body_of(CommandId.DELIVER_SM, ((Tag.MESSAGE_PAYLOAD, b"x" * 65_535),)))
        reader.feed(frame)

        assert list(reader) == [frame]
        assert decode(frame).tlv(Tag.MESSAGE_PAYLOAD) == b"x" * 65_535


class TestTimes:
    @pytest.mark.parametrize(
        ("seconds", "written"),
        [
            (72 * 3600, "000003000000000R"),
            (90, "000000000130000R"),
            (59.9, "000000000059000R"),
            (86_399, "000000235959000R"),
            (0, "000000000001000R"),
            (-5, "000000000001000R"),
            (99 * 86_400 + 1, "000099000000000R"),
        ],
    )
    def test_a_relative_time_has_whole_days_and_at_most_23_hours(self, seconds, written):
        """72 hours are 3 days: an hh of 72 is no hour."""
        assert validity_relative(seconds) == written

    def test_an_absolute_time_is_written_in_utc(self):
        """Tenths of a second, no quarter hours, ahead of UTC by nothing."""
        berlin = datetime(2026, 11, 22, 13, 0, 5, 370_000, tzinfo=timezone(timedelta(hours=1)))

        assert validity_absolute(berlin) == "261122120005300+"
        assert validity_absolute(datetime(2026, 1, 2, tzinfo=UTC)) == "260102000000000+"

    def test_an_instant_without_a_zone_is_refused(self):
        """A wrong zone expires an emergency before it leaves."""
        with pytest.raises(ValueError, match="time zone"):
            validity_absolute(datetime(2026, 1, 2))  # noqa: DTZ001


class TestTables:
    def test_each_status_of_the_dictionary_has_its_name(self):
        """Names come from the table, none is made up."""
        assert status_name(consts.SMPP_ESME_RTHROTTLED) == "ESME_RTHROTTLED"
        assert status_name(0x401) is None
        assert all(status_name(number) for number in consts.DESCRIPTIONS)

    def test_each_operation_and_tag_has_the_dictionary_s_number(self):
        """Our constants and smpplib's tables cannot drift apart."""
        from smpplib.command_codes import get_command_code  # noqa: PLC0415

        assert all(get_command_code(operation.name.lower()) == operation for operation in CommandId)
        assert all(consts.OPTIONAL_PARAMS[tag.name.lower()] == tag for tag in Tag)

    @pytest.mark.parametrize(
        "row",
        [
            {"type": int, "size": 3},
            {"type": str, "max": 1},
            {"type": object},
        ],
    )
    def test_a_row_that_is_not_understood_stops_the_import(self, row):
        """A table that changes must be looked at, not guessed at."""
        from types import SimpleNamespace  # noqa: PLC0415

        layout = codec._Layout("submit_sm_resp")
        with pytest.raises(RuntimeError, match=r"smpplib: submit_sm_resp\.new"):
            layout._append("new", SimpleNamespace(**row))
