"""The simulator: what it asks of an ESME, what it gives back, and that nothing an ESME writes can break it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import smpplib.smpp

from gateway import codec
from gateway.messages import DeliveryState, Inbound, Receipt
from gateway.pdu import MAX_PDU_OCTETS, RESPONSE_BIT, CommandId, DeliverSm, FrameReader, Pdu, SubmitSmResp, Tag
from gateway.receipt import parse
from gateway.smsc import DELIVERED, UNDELIVERABLE, Delivery, Session, Smsc, SmscSettings, receipt, text_message

BINDS = [CommandId.BIND_RECEIVER, CommandId.BIND_TRANSMITTER, CommandId.BIND_TRANSCEIVER]
WAIT_S = 30.0  # a bound on hanging, not a measure: the suite runs in four workers


def bind(command_id=CommandId.BIND_TRANSCEIVER, sequence_number=1, system_id="clinic", password="secret"):
    fields = {"system_id": system_id, "password": password, "interface_version": 0x34}
    return codec.encode(Pdu(command_id, 0, sequence_number, fields))


def submit(sequence_number=2, destination="447700900001", registered_delivery=1, text=b"hello"):
    fields = {
        "source_addr_ton": 5,
        "source_addr": "Northside",
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "destination_addr": destination,
        "registered_delivery": registered_delivery,
        "short_message": text,
    }
    return codec.encode(Pdu(CommandId.SUBMIT_SM, 0, sequence_number, fields))


def plain(command_id, sequence_number=9, command_status=0, body=b""):
    return codec.header(command_id, command_status, sequence_number, len(body)) + body


def acknowledge(delivery, command_status=0):
    return plain(CommandId.DELIVER_SM_RESP, delivery.sequence_number, command_status, b"\0")


def decoded(octets):
    reader = FrameReader()
    reader.feed(octets)
    return [codec.decode(frame) for frame in reader]


def session(deliver_window=10, authenticate=lambda _id, _password: 0):
    return Session(system_id="simulator", authenticate=authenticate, deliver_window=deliver_window)


def bound(command_id=CommandId.BIND_TRANSCEIVER, **settings):
    made = session(**settings)
    made.receive(bind(command_id))
    made.take_outgoing()
    return made


def some_delivery():
    return Delivery({"source_addr": "447700900001", "destination_addr": "88222", "short_message": b"YES"})


class TestSession:
    """The SMSC's side of one session, without a socket."""

    @pytest.mark.parametrize("command_id", BINDS)
    def test_each_kind_of_bind_is_taken(self, command_id):
        """A transmitter submits, a receiver receives, a transceiver does both."""
        made = session()

        made.receive(bind(command_id, sequence_number=7))

        (answer,) = decoded(made.take_outgoing())
        assert (answer.command_id, answer.command_status) == (command_id | RESPONSE_BIT, 0)
        assert answer.sequence_number == 7
        assert answer.text("system_id") == "simulator"
        assert answer.tlv(Tag.SC_INTERFACE_VERSION) == b"\x34"
        assert made.submits == (command_id != CommandId.BIND_RECEIVER)
        assert (made.room > 0) == (command_id != CommandId.BIND_TRANSMITTER)

    @pytest.mark.parametrize("command_id", BINDS)
    def test_bad_credentials_are_refused_without_a_body_and_end_the_session(self, command_id):
        """SMPP v3.4 section 4.1.2: a refused bind has no body."""
        made = session(authenticate=lambda _id, _password: 0x0E)

        made.receive(bind(command_id))

        assert made.take_outgoing() == struct.pack(">LLLL", 16, command_id | RESPONSE_BIT, 0x0E, 1)
        assert made.is_over
        assert made.kind is None

    def test_a_second_bind_is_refused_and_the_first_one_stays(self):
        """One session is one bind."""
        made = bound()

        made.receive(bind(CommandId.BIND_TRANSMITTER, 2))

        (answer,) = decoded(made.take_outgoing())
        assert answer.command_status == 0x05
        assert made.kind is CommandId.BIND_TRANSCEIVER
        assert not made.is_over

    def test_enquire_link_is_answered_in_any_state(self):
        """It asks whether anybody is there."""
        made = session()

        made.receive(plain(CommandId.ENQUIRE_LINK, 5))

        assert made.take_outgoing() == plain(CommandId.ENQUIRE_LINK_RESP, 5)

    def test_unbind_is_answered_and_ends_the_session(self):
        """What comes behind it is not read."""
        made = bound()

        events = made.receive(plain(CommandId.UNBIND, 5) + submit())

        assert made.take_outgoing() == plain(CommandId.UNBIND_RESP, 5)
        assert made.is_over
        assert events == []

    @pytest.mark.parametrize("made", [session(), bound(CommandId.BIND_RECEIVER)], ids=["unbound", "receiver"])
    def test_submit_sm_needs_a_bind_that_submits(self, made):
        """ESME_RINVBNDSTS."""
        assert made.receive(submit(3)) == []
        assert made.take_outgoing() == plain(CommandId.SUBMIT_SM_RESP, 3, 0x04)

    def test_an_unknown_request_gets_generic_nack_and_the_session_goes_on(self):
        """ESME_RINVCMDID, with the number of the request."""
        made = bound()

        made.receive(plain(0x103, 6, body=b"\0" * 20))

        assert made.take_outgoing() == plain(CommandId.GENERIC_NACK, 6, 0x03)
        assert not made.is_over

    def test_a_malformed_submit_sm_is_answered_as_such(self):
        """The next one may be whole."""
        made = bound()

        made.receive(plain(CommandId.SUBMIT_SM, 6, body=b"no end"))

        assert made.take_outgoing() == plain(CommandId.SUBMIT_SM_RESP, 6, 0x02)
        assert len(made.receive(submit())) == 1

    def test_an_impossible_length_ends_the_session(self):
        """Nothing after it can be trusted."""
        made = bound()

        made.receive(b"\0\0\0\3" + submit())

        assert made.take_outgoing() == plain(CommandId.GENERIC_NACK, 0, 0x02)
        assert made.is_over

    def test_deliveries_stop_at_the_window_and_go_on_with_each_answer(self):
        """An ESME is not flooded."""
        made = bound(deliver_window=2)
        first, second = some_delivery(), some_delivery()
        made.deliver(first)
        made.deliver(second)
        assert made.room == 0

        sent = decoded(made.take_outgoing())
        (event,) = made.receive(acknowledge(sent[0], 0x64))

        assert (event.delivery, event.command_status) == (first, 0x64)
        assert made.room == 1
        assert made.receive(acknowledge(sent[0])) == []  # once
        assert made.end() == [second]

    def test_sequence_numbers_wrap_and_skip_those_in_use(self):
        """SMPP v3.4 section 3.2: 1 to 0x7FFFFFFF."""
        made = bound()
        made.deliver(some_delivery())
        made._sequence = 0x7FFF_FFFE
        made.deliver(some_delivery())
        made.deliver(some_delivery())

        assert [pdu.sequence_number for pdu in decoded(made.take_outgoing())] == [1, 0x7FFF_FFFF, 2]

    @pytest.mark.parametrize("seed", range(4))
    def test_any_octets_are_survived(self, seed):
        """The peer is a stranger; what it gets are whole PDUs."""
        chance = random.Random(seed)
        corpus = [
            *map(bind, BINDS),
            submit(),
            plain(CommandId.ENQUIRE_LINK),
            plain(CommandId.UNBIND),
            plain(CommandId.DELIVER_SM_RESP, 1, body=b"\0"),
            plain(CommandId.GENERIC_NACK, 1, 3),
            plain(CommandId.DELIVER_SM, 1, body=b"\0" * 20),
            plain(CommandId.SUBMIT_SM_RESP, 1),
            plain(0x0B, 1, body=b"a\0b\0"),
            plain(0x03, 1, body=b"abc-1\0\5\0Northside\0"),
            plain(0x08, 1, body=b"\0abc-1\0\5\0Northside\0\1\1" + b"447700900001\0"),
            b"\xff\xff\xff\xff",
        ]
        for _ in range(300):
            made = session(deliver_window=3)
            stream = b"".join(mutated(chance, chance.choice(corpus)) for _ in range(chance.randrange(1, 10)))
            while stream:
                size = chance.randrange(1, 80)
                piece, stream = stream[:size], stream[size:]
                for event in made.receive(piece):
                    if isinstance(getattr(event, "pdu", None), Pdu):
                        made.answer(event.pdu.sequence_number, 0, "abc-1")
                if made.room > 0:
                    made.deliver(some_delivery())
                assert len(made._reader) <= MAX_PDU_OCTETS + size
                decoded(made.take_outgoing())


def mutated(chance, octets):
    changed = bytearray(octets)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(changed) + 1)
        if chance.random() < 0.5:
            changed[at : at + chance.randrange(5)] = chance.randbytes(chance.randrange(5))
        elif at < len(changed):
            changed[at] = chance.randrange(256)
    if len(changed) >= 16 and chance.random() < 0.7:
        changed[:4] = len(changed).to_bytes(4)  # keeps the stream whole, so that the body is reached
    return bytes(changed)


class TestDeliveries:
    """Receipts and MO messages."""

    def made(self, message_state=DELIVERED):
        instant = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
        (pdu,) = decoded(submit())
        return receipt(pdu, "abc-00000001", message_state, instant, instant)

    def written(self, delivery):
        return codec.encode(Pdu(CommandId.DELIVER_SM, 0, 1, delivery.fields, delivery.tlvs))

    @pytest.mark.parametrize(
        ("message_state", "state"),
        [(DELIVERED, DeliveryState.DELIVERED), (UNDELIVERABLE, DeliveryState.UNDELIVERED)],
    )
    @pytest.mark.parametrize("tlvs", [True, False])
    def test_a_receipt_says_it_in_its_text_and_in_its_tlvs(self, message_state, state, tlvs):
        """Whichever of the two is read, it says the same."""
        delivery = self.made(message_state)
        if not tlvs:
            delivery = Delivery(delivery.fields)
        (pdu,) = decoded(self.written(delivery))
        assert isinstance(pdu, DeliverSm)

        read = parse(pdu)

        assert isinstance(read, Receipt)
        assert (read.message_id, read.state, read.submitted_on) == ("abc-00000001", state, "2611220930")
        assert (read.source, read.destination) == ("447700900001", "Northside")

    def test_another_library_reads_the_receipt(self):
        """Our own reader would forgive our own mistakes."""
        numbers = SimpleNamespace(next_sequence=lambda: 1)  # what smpplib calls a client
        pdu = smpplib.smpp.parse_pdu(self.written(self.made()), client=numbers, allow_unknown_opt_params=True)

        assert pdu.esm_class == 0x04
        assert pdu.receipted_message_id == b"abc-00000001"
        assert pdu.message_state == DELIVERED
        assert pdu.short_message.startswith(b"id:abc-00000001 sub:001 dlvrd:001 submit date:2611220930 ")

    @pytest.mark.parametrize("text", ["YES", "да" * 60, "ok 👍"])
    def test_an_mo_message_is_cut_and_joined_as_any_other(self, text):
        """What the handset wrote is what the application reads."""
        parts = [parse(decoded(self.written(part))[0]) for part in text_message("447700900001", "88222", text)]

        assert all(isinstance(part, Inbound) for part in parts)
        assert "".join(part.text for part in parts) == text
        assert [part.part for part in parts] == list(range(1, len(parts) + 1))
        assert {part.source.value for part in parts} == {"447700900001"}
        assert {(part.destination.value, part.destination.ton) for part in parts} == {("88222", 3)}

    def test_no_repr_shows_a_number_or_a_text(self):
        """They end in logs and tracebacks."""
        assert "447700900001" not in repr(self.made())


class Client:
    """A peer that writes and reads PDUs on a socket."""

    def __init__(self, reader, writer):
        self.writer = writer
        self._reader = reader
        self._frames = FrameReader()
        self._read = []

    async def next(self):
        async with asyncio.timeout(WAIT_S):
            while not self._read:
                octets = await self._reader.read(65_536)
                if not octets:
                    return None
                self._frames.feed(octets)
                self._read += map(codec.decode, self._frames)
        return self._read.pop(0)

    async def ask(self, octets):
        self.writer.write(octets)
        return await self.next()


@contextlib.asynccontextmanager
async def connected(smsc, *, bind_as=CommandId.BIND_TRANSCEIVER, system_id="clinic"):
    client = Client(*await asyncio.open_connection("127.0.0.1", smsc.port))
    try:
        if bind_as is not None:
            assert (await client.ask(bind(bind_as, system_id=system_id))).command_status == 0
        yield client
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


async def until(smsc, condition):
    async with asyncio.timeout(WAIT_S):
        await smsc.until(condition)


class TestSmsc:
    """The whole simulator, on a socket."""

    async def test_a_message_is_answered_with_an_id_and_its_receipt_carries_that_id(self):
        """That is all that joins the two."""
        async with Smsc() as smsc, connected(smsc) as client:
            before = time.monotonic()
            answer = await client.ask(submit(5))
            delivered = await client.next()
            client.writer.write(acknowledge(delivered))
            await until(smsc, lambda: smsc.delivered == 1)

            assert isinstance(answer, SubmitSmResp)
            assert (answer.sequence_number, answer.command_status) == (5, 0)
            assert parse(delivered).message_id == answer.message_id
            (submitted,) = smsc.log
            assert submitted.message_id == answer.message_id
            assert before <= submitted.at <= time.monotonic()
            assert "447700900001" not in repr(submitted)
            assert smsc.held == 0

    async def test_the_log_keeps_the_order_of_the_wire(self):
        """Whoever asks who came first asks here."""
        async with Smsc(SmscSettings(latency_s=0.01)) as smsc, connected(smsc) as client:
            client.writer.write(
                b"".join(submit(number, f"4477009000{number}", registered_delivery=0) for number in range(10, 40))
            )
            answers = [await client.next() for _ in range(30)]

            assert [entry.pdu.text("destination_addr") for entry in smsc.log] == [
                f"4477009000{number}" for number in range(10, 40)
            ]
            assert [answer.message_id for answer in answers] == [entry.message_id for entry in smsc.log]
            instants = [entry.at for entry in smsc.log]
            assert instants == sorted(instants)

    async def test_an_answer_takes_the_latency(self):
        """A window that is too small for the latency shows only where there is one."""
        async with Smsc(SmscSettings(latency_s=0.05)) as smsc, connected(smsc) as client:
            await client.ask(submit(registered_delivery=0))

            assert time.monotonic() - smsc.log[0].at >= 0.045

    async def test_a_receipt_takes_its_delay(self):
        """It comes after the answer, within the range."""
        async with Smsc(SmscSettings(receipt_delay_s=(0.05, 0.06))) as smsc, connected(smsc) as client:
            await client.ask(submit())
            answered_at = time.monotonic()
            await client.next()

            assert time.monotonic() - answered_at >= 0.04

    @pytest.mark.parametrize(
        ("registered_delivery", "outcome", "comes"),
        [
            (0, DELIVERED, False),
            (1, DELIVERED, True),
            (1, UNDELIVERABLE, True),
            (2, DELIVERED, False),
            (2, UNDELIVERABLE, True),
            (0x11, DELIVERED, True),
        ],
    )
    async def test_registered_delivery_is_honoured(self, registered_delivery, outcome, comes):
        """0 none, 1 all, 2 failures only; the other bits ask for something else."""
        async with Smsc(outcome=lambda _: outcome) as smsc, connected(smsc) as client:
            await client.ask(submit(registered_delivery=registered_delivery))
            if comes:
                client.writer.write(acknowledge(await client.next()))
            await until(smsc, lambda: smsc.held == 0)

            assert smsc.delivered == comes

    async def test_bad_credentials_are_refused(self):
        """The id and the password each have a status of their own."""
        accounts = {"clinic": "secret"}
        async with Smsc(SmscSettings(accounts=accounts)) as smsc:
            for system_id, password, command_status in (
                ("clinic", "secret", 0),
                ("clinic", "", 0x0E),
                ("clinic", "secret2", 0x0E),
                ("else", "secret", 0x0F),
            ):
                async with connected(smsc, bind_as=None) as client:
                    answer = await client.ask(bind(system_id=system_id, password=password))
                    assert answer.command_status == command_status
                    if command_status:
                        assert await client.next() is None  # closed

    async def test_the_deliver_window_holds_receipts_back(self):
        """No more than so many are unanswered, and none is lost."""
        async with Smsc(SmscSettings(deliver_window=3)) as smsc, connected(smsc) as client:
            client.writer.write(b"".join(map(submit, range(2, 12))))
            unanswered = []
            answers = 0
            while answers < 10 or len(unanswered) < 3:
                came = await client.next()
                if isinstance(came, DeliverSm):
                    unanswered.append(came)
                else:
                    answers += 1
            client.writer.write(plain(CommandId.ENQUIRE_LINK))
            assert (await client.next()).command_id == CommandId.ENQUIRE_LINK_RESP  # no fourth one before it

            seen = 0
            while seen < 10:
                client.writer.write(acknowledge(unanswered.pop(0) if unanswered else await client.next()))
                seen += 1
            await until(smsc, lambda: smsc.delivered == 10)

    async def test_receipts_wait_for_a_session_that_receives(self):
        """A transmitter alone gets none; the receiver of the same account gets all of them, another account none."""
        async with Smsc() as smsc, connected(smsc, bind_as=CommandId.BIND_TRANSMITTER) as transmitter:
            answer = await transmitter.ask(submit())
            async with connected(smsc, system_id="else") as other:
                async with connected(smsc, bind_as=CommandId.BIND_RECEIVER) as receiver:
                    delivered = await receiver.next()
                    assert parse(delivered).message_id == answer.message_id
                other.writer.write(plain(CommandId.ENQUIRE_LINK))
                assert (await other.next()).command_id == CommandId.ENQUIRE_LINK_RESP

    async def test_what_a_lost_session_did_not_acknowledge_comes_again(self):
        """It may not have been stored."""
        async with Smsc() as smsc:
            async with connected(smsc) as client:
                answer = await client.ask(submit())
                assert isinstance(await client.next(), DeliverSm)
            async with connected(smsc) as client:
                assert parse(await client.next()).message_id == answer.message_id

    @pytest.mark.parametrize(("command_status", "again"), [(0x64, True), (0x58, True), (0x65, False)])
    async def test_a_refused_delivery_comes_again_unless_it_can_never_be_taken(self, command_status, again):
        """0x64 is a database that is away, 0x65 a message that nobody can read."""
        async with Smsc(SmscSettings(redelivery_s=0.01)) as smsc, connected(smsc) as client:
            smsc.send("447700900001", "88222", "YES", system_id="clinic")
            first = await client.next()
            client.writer.write(acknowledge(first, command_status))
            if again:
                second = await client.next()
                assert second._replace(sequence_number=0) == first._replace(sequence_number=0)
                client.writer.write(acknowledge(second))
            await until(smsc, lambda: smsc.held == 0)

            assert (smsc.delivered, smsc.dropped) == (int(again), int(not again))

    async def test_what_it_holds_is_bounded(self):
        """ESME_RMSGQFUL, as an SMSC with a full queue says."""
        async with Smsc(SmscSettings(held_limit=2)) as smsc:
            async with connected(smsc, bind_as=CommandId.BIND_TRANSMITTER) as client:
                answers = [await client.ask(submit(number)) for number in range(2, 6)]

            assert [answer.command_status for answer in answers] == [0, 0, 0x14, 0x14]
            assert [entry.command_status for entry in smsc.log] == [0, 0, 0x14, 0x14]

    async def test_a_message_to_nobody_is_refused(self):
        """ESME_RINVDSTADR."""
        async with Smsc() as smsc, connected(smsc) as client:
            assert (await client.ask(submit(destination=""))).command_status == 0x0B

    async def test_noise_ends_its_own_connection_only(self):
        """One stranger does not take the others along."""
        chance = random.Random(1)
        async with Smsc() as smsc, connected(smsc) as client:
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", smsc.port)
                writer.write(b"\xff" + chance.randbytes(200))
                async with asyncio.timeout(WAIT_S):
                    with contextlib.suppress(ConnectionError):
                        while await reader.read(1000):
                            pass
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

            assert (await client.ask(submit(registered_delivery=0))).command_status == 0
            assert smsc.bound == 1

    async def test_a_peer_that_does_not_read_is_not_read_from(self):
        """Its answers would fill our memory."""
        async with Smsc() as smsc, connected(smsc) as client:
            (connection,) = smsc._connections
            client.writer.transport.pause_reading()
            octets = plain(CommandId.ENQUIRE_LINK) * 4_000
            async with asyncio.timeout(WAIT_S):
                while not connection._is_blocked:
                    client.writer.write(octets)
                    await asyncio.sleep(0.002)
            assert not connection._transport.is_reading()

            client.writer.transport.resume_reading()
            for _ in range(10):
                assert (await client.next()).command_id == CommandId.ENQUIRE_LINK_RESP
            async with asyncio.timeout(WAIT_S):
                while connection._is_blocked:
                    await client.next()
            assert connection._transport.is_reading()

    async def test_who_is_accepted_in_the_last_moment_is_ended_too(self):
        """The loop may have accepted a connection before the stop and tell of it after: nobody would end it."""

        class Late:
            is_aborted = False

            def abort(self):
                self.is_aborted = True

        late = Late()
        async with Smsc() as smsc:
            await smsc.stop()
            smsc.opened(late)

        assert late.is_aborted

    async def test_no_message_id_comes_twice_after_a_restart(self):
        """A receipt of yesterday must not find a message of today."""
        ids = set()
        for _ in range(3):
            async with Smsc() as smsc, connected(smsc) as client:
                ids.add((await client.ask(submit(registered_delivery=0))).message_id)

        assert len(ids) == 3
