"""What is fuzzed: each kind takes any octets, raises when a promise is broken, and else says what it saw.

A case is its octets and nothing else, so that a file of them is the same case for ever. What was seen (a signature)
tells the fuzzer that a case does something new.
"""

# ruff: noqa: PT017  # what is caught is judged, thousands of times a second

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from gateway import gsm7, lookalike
from gateway.codec import decode, delivery_of_data_sm, encode
from gateway.errors import BrokenStream, MalformedBody, TooManySegments, UnencodableText
from gateway.inquiry import Ended, Inquiry
from gateway.messages import Address, DeliveryState, Inbound, Receipt
from gateway.pdu import MAX_PDU_OCTETS, AnyPdu, DeliverSm, FrameReader, Pdu, Tag
from gateway.reassembly import GAP, Part, join
from gateway.receipt import id_forms, parse
from gateway.segment import NationalTable, count, segment
from gateway.session import Closed, Delivered, Failed, Responded, Session, SessionSettings, SessionState, Unanswered
from tests.fakes.wire import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER, bind_resp, frames
from tests.gateway.test_alphabets import packed_octets, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.messages import Segment

Signature = tuple[object, ...]

ALPHABETS = ("gsm7", "latin1", "ascii")
DATA_SM = 0x103


# ------------------------------------------------------------------ codec


def codec(octets: bytes) -> Signature:
    """A stream of an SMSC: any split gives the same frames; each is a value, MalformedBody, or ends the stream."""
    found, broken = _frames([octets])
    chance = random.Random(octets)
    for pieces in (
        [octets[at : at + 1] for at in range(min(len(octets), 600))] + [octets[600:]],
        _split(chance, octets),
    ):
        assert _frames(pieces) == (found, broken)
    seen: list[object] = []
    for frame in found[:20]:
        try:
            pdu = decode(frame)
        except MalformedBody as error:
            assert not error.header.command_id & 0x8000_0000, "an answer is read as far as it goes"
            assert error.header.command_length == len(frame)
            assert error.status in {0x02, 0x65, 0xC0}
            seen.append((error.header.command_id, error.field, error.problem))
            continue
        assert isinstance(pdu, AnyPdu)
        assert (pdu.command_id, pdu.sequence_number) == (int.from_bytes(frame[4:8]), int.from_bytes(frame[12:16]))
        _check_value(pdu)
        seen.append((pdu.command_id, pdu.command_status & 0xFF, tuple(tag for tag, _ in pdu.tlvs)[:4]))
    return (broken is not None, min(len(found), 5), *seen[:3])


def _frames(pieces: list[bytes]) -> tuple[list[bytes], int | None]:
    """Frames of a stream that comes in these pieces, and the length that broke it."""
    reader = FrameReader()
    found: list[bytes] = []
    for piece in pieces:
        reader.feed(piece)
        try:
            found += reader
        except BrokenStream as error:
            found += _before_the_break(pieces, len(found))
            assert len(reader) == 0
            return found, error.command_length
        assert len(reader) < MAX_PDU_OCTETS
    return found, None


def _before_the_break(pieces: list[bytes], known: int) -> list[bytes]:
    """Frames of the piece that broke the stream: `list +=` of an iterator that raises keeps none of them."""
    reader = FrameReader()
    reader.feed(b"".join(pieces))
    found = []
    try:
        for frame in reader:
            found.append(frame)  # noqa: PERF402  # those before the break count
    except BrokenStream:
        pass
    return found[known:]


def _check_value(pdu: AnyPdu) -> None:
    if isinstance(pdu, DeliverSm):
        for alphabet in ALPHABETS:
            assert isinstance(parse(pdu, alphabet=alphabet, text_receipts=True), Receipt | Inbound | None)
    elif isinstance(pdu, Pdu):
        if pdu.command_id == DATA_SM:
            assert isinstance(delivery_of_data_sm(pdu), DeliverSm | None)
        elif not pdu.command_id & 0x8000_0000:
            again = decode(encode(pdu))
            assert isinstance(again, Pdu)
            assert (again.fields, again.tlvs) == (pdu.fields, pdu.tlvs), "what was read is written and read again"


def _split(chance: random.Random, octets: bytes) -> list[bytes]:
    cuts = sorted(chance.choices(range(len(octets) + 1), k=chance.randint(0, 20)))
    return [octets[start:end] for start, end in pairwise([0, *cuts, len(octets)])]


# ------------------------------------------------------------------ session

KINDS = (("transceiver", BIND_TRANSCEIVER), ("transmitter", BIND_TRANSMITTER), ("receiver", BIND_RECEIVER))
DELIVERIES = 20
INQUIRIES = (
    Inquiry("query", "m1", Address("60777", 3, 0), Address("447700900123", 1, 1)),
    Inquiry("cancel", "m1", Address("60777", 3, 0), Address("447700900123", 1, 1)),
)


def session(octets: bytes) -> Signature:
    """An SMSC that writes what it likes: each request has one outcome, whole PDUs go out, nothing grows.

    Octet 0 chooses the bind, whether it was taken, and whether deliveries are answered, 1 the window; 2 to 5 seed what
    we do meanwhile.
    """
    head, stream = octets[:6].ljust(6, b"\0"), octets[6:]
    kind, bind = KINDS[head[0] % 3]
    chance = random.Random(head)
    now = 0.0
    one = Session(
        SessionSettings(
            kind=kind,  # type: ignore[arg-type]
            system_id="clinic",
            password="secret",
            window_size=1 + head[1] % 8,
            delivery_limit=DELIVERIES,
        ),
        now,
    )
    if head[0] & 0x80 == 0:
        one.receive(bind_resp(1, bind), now)
    events: list[object] = []
    accepted = asked = 0
    answers = not head[0] & 0x40
    while stream:
        if one.free(lane0=True) and chance.random() < 0.4:
            one.submit(b"body", accepted, now)
            accepted += 1
        if one.free(lane0=False) and chance.random() < 0.2:
            one.inquire(INQUIRIES[asked % 2], asked, now)
            asked += 1
        size = chance.choice((1, 4, 16, 60, 400))
        piece, stream = stream[:size], stream[size:]
        events += one.receive(piece, now)
        now += chance.choice((0.0, 0.1, 3.0))
        events += one.tick(now)
        for event in events[-5:]:
            if isinstance(event, Delivered) and answers and chance.random() < 0.5:
                one.answer(event.sequence_number, 0)
        assert len(one._reader) <= MAX_PDU_OCTETS + size
        assert sum(one._data.values()) <= one._undelivered == sum(one._deliveries.values()) <= DELIVERIES
        assert len(one.window) <= one.settings.window_size
        frames(one.take_outgoing())
    if chance.random() < 0.3:
        events += one.unbind(now)
        frames(one.take_outgoing())
    events += one.receive_eof()

    told = [
        event.token
        for event in events
        if isinstance(event, Unanswered) or (isinstance(event, Responded) and not event.late)
    ]
    assert sorted(told) == list(range(accepted)), "each submit_sm has one outcome"
    for event in events:
        if isinstance(event, Failed):
            raise event.error
    assert sorted(event.token for event in events if isinstance(event, Ended)) == list(range(asked))
    assert [type(event) for event in events].count(Closed) == 1
    assert one.state is SessionState.CLOSED
    assert one.next_deadline() is None
    return tuple(
        dict.fromkeys((type(each).__name__, getattr(each, "kind", getattr(each, "reason", ""))) for each in events)
    )


# ------------------------------------------------------------------ segmentation

CONCATENATIONS = ("udh8", "udh16", "sar", "payload")
NATIONAL = get_args(NationalTable)
OTHERS = "ğışŞİçÁÍÓÚãõâêÊ∞ªłЖ한é\u0301👩\u200d🏽🇩🇪\U0010ffff\ud800\udc00"
CHARACTERS = sorted(
    character
    for character in {*gsm7.BASIC, *gsm7.EXTENSION.values(), *lookalike.REPLACED, *OTHERS}
    if not character.isascii()
)
assert len(CHARACTERS) <= 0x80, "an octet for each"


def segmentation(octets: bytes) -> Signature:
    """A text and settings: a handset that knows the tables reads the text, no part is too long, count says the same.

    Octets 0 and 1 choose settings, 2 and 3 the reference, 4 how often the text stands (often from 0x80 on); of the text,
    an octet from 0x80 on is a character of a list of interesting ones.
    """
    head, body = octets[:5].ljust(5, b"\0"), octets[5:2_000]
    alphabet, concatenation = ALPHABETS[head[0] % 3], CONCATENATIONS[head[0] >> 2 & 3]
    flash, flash_form = bool(head[0] & 0x40), ("class0", "group_f", "dest_addr_subunit")[(head[0] >> 4) % 3]
    national = tuple(table for bit, table in enumerate(NATIONAL) if head[1] >> bit & 1)
    substitute = bool(head[1] & 0x80)
    reference = int.from_bytes(head[2:4])
    text = _characters(body)
    if len(text) < 1_000:
        text *= 1 + head[4] % (64 if head[4] & 0x80 else 4)
    settings = {"alphabet": alphabet, "concatenation": concatenation, "national": national, "substitute": substitute}
    try:
        parts = segment(text, reference=reference, flash=flash, flash_form=flash_form, **settings)  # type: ignore[arg-type]
    except TooManySegments as error:
        assert error.parts > 255
        assert _refused(text, settings, TooManySegments)
        return ("too many", alphabet, concatenation)
    except UnencodableText as error:
        assert type(error) is UnencodableText, "the text would have been damaged"
        assert any("\ud800" <= character <= "\udfff" for character in text)
        assert _refused(text, settings, UnencodableText)
        return ("unencodable", alphabet)

    counted = count(text, **settings)  # type: ignore[arg-type]
    written = lookalike.replaced(text) if counted.replaced else text
    assert len(parts) == counted.segments
    assert not counted.replaced or (substitute and alphabet == "gsm7")
    assert _read(parts, counted.coding) == written
    _check_parts(parts, counted.coding, concatenation, reference)
    wide = counted.coding == "ucs2"
    coding = 8 if wide else 0
    if flash and flash_form != "dest_addr_subunit":
        coding = 0x18 if wide else {"group_f": 0xF0}.get(flash_form, 0x10)
    assert {part.data_coding for part in parts} == {coding}
    return (
        alphabet,
        concatenation,
        counted.coding,
        min(len(parts), 4),
        counted.single,
        counted.locking,
        counted.replaced,
    )


def _characters(octets: bytes) -> str:
    return "".join(chr(octet) if octet < 0x80 else CHARACTERS[(octet - 0x80) % len(CHARACTERS)] for octet in octets)


def _refused(text: str, settings: dict[str, object], error: type[Exception]) -> bool:
    """Whether `count` refuses as `segment` did."""
    try:
        count(text, **settings)  # type: ignore[arg-type]
    except error:
        return True
    return False


def _read(parts: tuple[Segment, ...], coding: str) -> str:
    """Text as a handset with its own tables reads it; strict, so that half a character fails."""
    if coding in ("latin1", "ascii"):
        codec_name = {"latin1": "latin-1", "ascii": "ascii"}[coding]
        return "".join(
            (part.octets[part.octets[0] + 1 :] if part.udhi else part.octets).decode(codec_name) for part in parts
        )
    return read(parts)


def _check_parts(parts: tuple[Segment, ...], coding: str, concatenation: str, reference: int) -> None:
    total = len(parts)
    assert [(part.part, part.parts) for part in parts] == [(number, total) for number in range(1, total + 1)]
    for part in parts:
        if concatenation == "payload":
            assert total == 1
            continue
        on_the_air = len(part.octets) if coding == "latin1" else packed_octets(part)
        assert on_the_air + (7 if concatenation == "sar" and total > 1 else 0) <= 140
        if total == 1 or concatenation == "sar":
            continue
        reach = {"udh8": bytes((0, 3, reference & 0xFF, total, part.part))}.get(
            concatenation, bytes((8, 4)) + reference.to_bytes(2) + bytes((total, part.part))
        )
        assert part.udhi
        assert part.octets[1 : 1 + len(reach)] == reach


# ------------------------------------------------------------------ receipts and replies


def receipts(octets: bytes) -> Signature:
    """A deliver_sm: a receipt says delivered only where it says so; an id is text; nothing raises.

    Octet 0 is esm_class, 1 data_coding, 2 which TLVs stand there and how long they are; the rest is text, up to the
    octet 0xFE, and TLV values behind it.
    """
    head, rest = octets[:3].ljust(3, b"\0"), octets[3:]
    text, _, values = rest.partition(b"\xfe")
    tlvs = []
    for bit, tag in enumerate(
        (Tag.RECEIPTED_MESSAGE_ID, Tag.MESSAGE_STATE, Tag.NETWORK_ERROR_CODE, Tag.MESSAGE_PAYLOAD)
    ):
        if head[2] >> bit & 1:
            size = (9, 1, 3, 60)[bit]
            tlvs.append((int(tag), values[:size]))
            values = values[size:]
    deliver = DeliverSm(0, 1, esm_class=head[0], data_coding=head[1], short_message=text[:254], tlvs=tuple(tlvs))
    found = parse(deliver, alphabet=ALPHABETS[head[2] % 3], text_receipts=bool(head[2] & 0x80))
    if isinstance(found, Receipt):
        assert not found.message_id or not found.message_id.isspace()
        assert len(found.error) <= 8
        assert found.submitted_on == "" or (len(found.submitted_on) == 10 and found.submitted_on.isdigit())
        if found.state is DeliveryState.DELIVERED:
            state = deliver.tlv(Tag.MESSAGE_STATE) or b""
            said = (deliver.short_message or deliver.tlv(Tag.MESSAGE_PAYLOAD) or b"").replace(b"\0", b"").upper()
            assert int.from_bytes(state) == 2 or b"DELIV" in said
            assert not head[0] & 0x20, "an intermediate notification is not final"
        for id_format in ("auto", "text", "hex", "decimal"):
            forms = id_forms(found.message_id, id_format)  # type: ignore[arg-type]
            assert forms[0] == found.message_id
            assert len(set(forms)) == len(forms)
        return (
            "receipt",
            found.state,
            bool(found.message_id),
            len(found.error),
            bool(found.submitted_on),
            head[0] & 0x7C,
        )
    if isinstance(found, Inbound):
        found.text.encode("utf-8")  # a database can store it
        assert found.octets == (text[:254] or deliver.tlv(Tag.MESSAGE_PAYLOAD) or b"")
        assert 1 <= found.part <= found.parts
        assert found.is_text or not found.text
        return ("inbound", found.is_text, found.parts > 1, found.reference_bits, head[1])
    assert found is None
    return ("left alone",)


def replies(octets: bytes) -> Signature:
    """Parts of a long reply: joined in order whatever the order they came in, with each gap marked and nothing raised.

    Octet 0 is data_coding, 1 esm_class, 2 the alphabet and the count; then a length and so many octets for each part.
    """
    head, rest = octets[:3].ljust(3, b"\0"), octets[3:]
    total = 1 + head[2] % 12
    parts = []
    for number in range(1, total + 1):
        size, rest = (rest[0], rest[1:]) if rest else (0, b"")
        if size % 5 != 4:  # else it never came
            parts.append(Part(number, rest[: size % 160], head[0], head[1]))
        rest = rest[size % 160 :]
    alphabet = ALPHABETS[head[2] // 16 % 3]
    whole = join(parts, total, alphabet=alphabet)  # type: ignore[arg-type]
    shuffled = list(parts)
    random.Random(octets).shuffle(shuffled)

    assert join(shuffled, total, alphabet=alphabet) == whole  # type: ignore[arg-type]
    assert whole.missing == tuple(sorted(set(range(1, total + 1)) - {part.part for part in parts}))
    assert whole.is_text or not whole.text
    assert not (whole.is_text and whole.missing) or GAP in whole.text
    whole.text.encode("utf-8")
    return (whole.is_text, min(len(whole.missing), 3), total, head[0] & 0xFC, head[1] & 0x40)


TARGETS: dict[str, Callable[[bytes], Signature]] = {
    "codec": codec,
    "session": session,
    "segmentation": segmentation,
    "receipts": receipts,
    "replies": replies,
}
