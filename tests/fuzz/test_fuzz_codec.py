"""Any octets give a PDU, MalformedBody or BrokenStream, nothing else; any split of a stream gives the same frames."""

# ruff: noqa: PT017  # what is caught is judged, thousands of times in one test

import random

import pytest

from gateway.codec import decode, encode, encode_submit_sm, header
from gateway.errors import BrokenStream, MalformedBody
from gateway.messages import Address, Inbound, Receipt, Segment, ShortMessage
from gateway.pdu import MAX_PDU_OCTETS, AnyPdu, CommandId, DeliverSm, FrameReader, Pdu, SubmitSmResp, Tag
from gateway.receipt import parse
from tests.fuzz.mutation import mutated

SEED = 20_261_122
MESSAGE = ShortMessage(Address("12345"), Address("491701234567"))
RECEIPT = b"id:42 sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD err:000 text:x"


def pdus() -> list[bytes]:
    """One or more of each operation, whole and good."""
    submit = encode_submit_sm(MESSAGE, Segment(1, 2, 8, udhi=True, octets=b"\5\0\3\1\2\1\0a"), tlvs=((0x1400, b"dlt"),))
    tlvs = ((Tag.RECEIPTED_MESSAGE_ID, b"42\0"), (Tag.MESSAGE_STATE, b"\2"), (Tag.NETWORK_ERROR_CODE, b"\3\0\1"))
    bind = {"system_id": "tocsin", "password": "secret", "interface_version": 0x34}
    fields = {"source_addr": "491701234567", "destination_addr": "12345", "esm_class": 4, "short_message": RECEIPT}
    values = [
        *(Pdu(operation, 0, 1, bind) for operation in (1, 2, 9)),
        *(Pdu(operation | 0x8000_0000, 0, 1, {"system_id": "SMSC"}, ((0x0210, b"\x34"),)) for operation in (1, 2, 9)),
        Pdu(CommandId.DELIVER_SM, 0, 2, fields, tlvs),
        Pdu(CommandId.DELIVER_SM, 0, 3, {"source_addr": "491701234567", "short_message": b"YES"}),
        Pdu(CommandId.DELIVER_SM, 0, 4, {}, ((Tag.MESSAGE_PAYLOAD, b"long " * 50),)),
        Pdu(CommandId.DELIVER_SM_RESP, 0, 4),
        Pdu(CommandId.SUBMIT_SM_RESP, 0, 5, {"message_id": "0A1B2C3D"}),
        Pdu(CommandId.SUBMIT_SM_RESP, 0x58, 6, {"message_id": ""}),
        Pdu(CommandId.ENQUIRE_LINK, 0, 7),
        Pdu(CommandId.ENQUIRE_LINK_RESP, 0, 8),
        Pdu(CommandId.UNBIND, 0, 9),
        Pdu(CommandId.UNBIND_RESP, 0, 10),
        Pdu(CommandId.GENERIC_NACK, 3, 11),
        Pdu(0x103, 0, 12, raw=b"data_sm"),
        Pdu(0x0001_0200, 0, 13, raw=b"vendor"),
    ]
    return [encode(value) for value in values] + [header(CommandId.SUBMIT_SM, 0, 14, len(submit)) + submit]


def with_true_length(frame: bytes) -> bytes:
    """The same octets under a command_length that is theirs."""
    return len(frame).to_bytes(4) + frame[4:]


def test_ten_thousand_bad_pdus_raise_only_what_is_documented() -> None:
    """A frame of any octets is a value or one of two errors, and what is a deliver_sm can be parsed."""
    generator = random.Random(SEED)
    good = pdus()
    commands = [*CommandId, 0x103, 0x0001_0200]
    outcomes: dict[str, int] = {"pdu": 0, "malformed": 0, "broken": 0}
    for number in range(10_000):
        if number % 4 == 0:
            body = generator.randbytes(generator.randint(0, 120))
            frame = header(generator.choice(commands), generator.randrange(2**32), 1, len(body)) + body
        else:
            frame = mutated(generator, generator.choice(good))
        try:
            pdu = decode(frame)
        except MalformedBody as error:
            outcomes["malformed"] += 1
            assert error.header.command_length == len(frame)
            assert not error.header.command_id & 0x8000_0000, "an answer is read as far as it goes"
            assert error.status in {0x02, 0x65, 0xC0}
        except BrokenStream as error:
            outcomes["broken"] += 1
            assert len(frame) < 16 or error.command_length != len(frame)
        else:
            outcomes["pdu"] += 1
            assert isinstance(pdu, AnyPdu)
            assert pdu.sequence_number == int.from_bytes(frame[12:16])
            if isinstance(pdu, DeliverSm):
                assert isinstance(parse(pdu, text_receipts=True), Receipt | Inbound | None)

    assert sum(outcomes.values()) == 10_000
    assert min(outcomes.values()) > 100


def test_a_good_pdu_cut_to_any_length_raises_only_what_is_documented() -> None:
    """Truncation at each octet, with a length that is true: a request is malformed, an answer still read."""
    for frame in pdus():
        for length in range(16, len(frame)):
            cut = with_true_length(frame[:length])
            try:
                pdu = decode(cut)
            except MalformedBody as error:
                assert error.header.command_length == length
            else:
                assert pdu.command_id == int.from_bytes(frame[4:8])


def read_in_pieces(pieces: list[bytes]) -> list[bytes]:
    """Frames of a stream that comes in these reads; asserts the bound on memory after each."""
    reader = FrameReader()
    frames: list[bytes] = []
    longest = max(map(len, pdus()))
    for piece in pieces:
        reader.feed(piece)
        assert len(reader) <= longest + len(piece)
        frames += reader
        assert len(reader) < longest
    return frames


def test_every_single_cut_of_a_stream_of_twenty_gives_the_same_frames() -> None:
    """The stream read in two pieces, for each place to cut it."""
    frames = pdus()
    stream = b"".join(frames)

    assert len(frames) == 20
    for cut in range(len(stream) + 1):
        assert read_in_pieces([stream[:cut], stream[cut:]]) == frames


def test_octet_by_octet_gives_the_same_frames() -> None:
    """The slowest sender there is."""
    frames = pdus()

    assert read_in_pieces([bytes([octet]) for octet in b"".join(frames)]) == frames


def test_a_thousand_random_splits_give_the_same_frames() -> None:
    """Pieces of any size, empty ones among them."""
    generator = random.Random(SEED)
    frames = pdus()
    stream = b"".join(frames)
    for _ in range(1_000):
        cuts = sorted(generator.choices(range(len(stream) + 1), k=generator.randint(0, 40)))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert read_in_pieces(pieces) == frames


def test_random_octets_break_the_stream_or_wait_within_bounds() -> None:
    """A peer that speaks something else cannot make us hold more than one PDU and one read."""
    generator = random.Random(SEED)
    broken = 0
    for _ in range(300):
        reader = FrameReader()
        try:
            for _ in range(30):
                reader.feed(generator.randbytes(4096))
                for frame in reader:
                    assert 16 <= len(frame) <= MAX_PDU_OCTETS
                assert len(reader) <= MAX_PDU_OCTETS
        except BrokenStream:
            broken += 1
            assert len(reader) == 0

    assert broken == 300


@pytest.mark.parametrize("length", [16, 17, 70_000])
def test_the_buffer_holds_at_most_the_largest_pdu_and_one_read(length: int) -> None:
    """A frame that never comes to its end waits, and no more."""
    reader = FrameReader()
    stream = header(CommandId.SUBMIT_SM_RESP, 0, 1, length - 16) + b"x" * (length - 16)
    for start in range(0, length, 1024):
        reader.feed(stream[start : start + 1024])
        for frame in reader:
            assert isinstance(decode(frame), SubmitSmResp)
        assert len(reader) <= length

    assert len(reader) == 0
