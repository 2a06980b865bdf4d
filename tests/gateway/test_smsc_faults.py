"""What the simulator does wrong on purpose: the plan that decides, and each fault as a peer meets it on the socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import struct

import pytest
import smpp34
import smpplib.client
import smpplib.exceptions

from gateway.smsc import KINDS, OUTCOMES, SHIPPED, Fault, NumberRule, PduLog, Plan, Scenario, SmscSettings
from tests.fakes.esme import WAIT_S, Esme, esme


def plan(*faults, seed=1):
    return Plan(faults, chance=random.Random(seed))


def scenario(*faults, numbers=SHIPPED, seed=1, **settings):
    return Scenario(SmscSettings(**settings), seed=seed, faults=faults, numbers=numbers).smsc()


def struck(made, kind, occasions, now_s=0.0):
    return [made.strike(kind, now_s) is not None for _ in range(occasions)]


class TestPlan:
    """Who asks when, and what the answer is."""

    def test_nothing_is_wrong_without_faults(self):
        """Every kind may be asked for."""
        made = plan()

        assert not any(made.strike(kind, 0.0) for kind in KINDS)

    def test_skip_every_and_count_choose_the_occasions(self):
        """Two are let pass, then every third one, twice."""
        made = plan(Fault("throttle", skip=2, every=3, count=2))

        assert [place for place, one in enumerate(struck(made, "throttle", 20), start=1) if one] == [5, 8]

    @pytest.mark.parametrize(("now_s", "happens"), [(0.0, False), (1.0, True), (2.9, True), (3.0, False)])
    def test_it_happens_in_its_span_only(self, now_s, happens):
        """From after_s, for for_s."""
        made = plan(Fault("throttle", after_s=1.0, for_s=2.0))

        assert (made.strike("throttle", now_s) is not None) == happens

    def test_occasions_outside_the_span_do_not_count(self):
        """`skip` counts from the span's begin."""
        made = plan(Fault("throttle", after_s=1.0, skip=1))
        struck(made, "throttle", 5, now_s=0.0)

        assert struck(made, "throttle", 2, now_s=1.0) == [False, True]

    def test_a_share_is_a_share(self):
        """About three in ten, and not the first three."""
        hits = struck(plan(Fault("throttle", share=0.3)), "throttle", 1000)

        assert 200 < sum(hits) < 400

    def test_the_same_seed_gives_the_same_again(self):
        """A run that found something can be repeated; another seed is another run."""
        runs = [struck(plan(Fault("throttle", share=0.5), seed=seed), "throttle", 100) for seed in (7, 7, 8)]

        assert runs[0] == runs[1] != runs[2]

    def test_a_rate_limit_refills_evenly(self):
        """Ten a second: a burst of ten passes, then one in each tenth of a second."""
        made = plan(Fault("rate_limit", per_s=10))

        assert struck(made, "rate_limit", 12) == [False] * 10 + [True] * 2
        assert struck(made, "rate_limit", 2, now_s=0.1) == [False, True]
        assert struck(made, "rate_limit", 12, now_s=60.0) == [False] * 10 + [True] * 2

    @pytest.mark.parametrize(
        ("pattern", "destination", "fits"),
        [
            ("447700900001", "447700900001", True),
            ("447700900001", "+447700900001", True),
            ("447700900001", "4477009000011", False),
            ("*01", "447700900001", True),
            ("*01", "447700900010", False),
            ("44770090000?", "447700900007", True),
            ("44770090000?", "44770090000", False),
        ],
    )
    def test_patterns_of_numbers(self, pattern, destination, fits):
        """`*` is any characters, `?` one."""
        made = Plan(numbers=[NumberRule(pattern, "throttled")], chance=random.Random(1))

        assert (made.treatment(destination, 0.0).command_status == 0x58) == fits

    def test_the_first_pattern_counts(self):
        """So that one number can be taken out of a range."""
        numbers = [NumberRule("447700900001", "queue_full"), NumberRule("4477*", "throttled")]
        made = Plan(numbers=numbers, chance=random.Random(1))

        assert made.treatment("447700900001", 0.0).command_status == 0x14


STATES = {
    "delivered": b"stat:DELIVRD",
    "undeliverable": b"stat:UNDELIV",
    "expired": b"stat:EXPIRED",
    "deleted": b"stat:DELETED",
    "rejected": b"stat:REJECTD",
    "unknown": b"stat:UNKNOWN",
}
REFUSALS = {"throttled": 0x58, "queue_full": 0x14, "invalid_destination": 0x0B, "system_error": 0x08}
SILENT = {"no_receipt", "unanswered", "answer_lost"}


class TestNumbers:
    """Each shipped test number."""

    def test_every_behaviour_has_a_number_and_a_test(self):
        """They are in the fictional range, one after the other."""
        assert [number.pattern for number in SHIPPED] == [str(447700900900 + place) for place in range(len(OUTCOMES))]
        assert STATES.keys() | REFUSALS.keys() | SILENT == OUTCOMES.keys()

    @pytest.mark.parametrize("behaviour", STATES)
    async def test_an_accepted_message_has_this_receipt(self, behaviour):
        """The receipt carries the id of the answer."""
        async with scenario() as smsc, esme(smsc.port) as peer:
            peer.submit(number_of(behaviour))
            answer = await peer.next_of("submit_sm_resp")
            receipt = await peer.next_of("deliver_sm")

            assert answer.command_status == 0
            assert STATES[behaviour] in receipt.pdu.short_message
            assert f"id:{answer.message_id} " in receipt.text

    @pytest.mark.parametrize("behaviour", REFUSALS)
    async def test_a_refused_message_has_this_status(self, behaviour):
        """And nothing is delivered."""
        async with scenario() as smsc, esme(smsc.port) as peer:
            peer.submit(number_of(behaviour))
            answer = await peer.next()

            assert (answer.command, answer.command_status) == ("submit_sm_resp", REFUSALS[behaviour])
            assert await peer.barrier() == []
            assert smsc.held == 0

    async def test_no_receipt(self):
        """Accepted, and never heard of again."""
        async with scenario() as smsc, esme(smsc.port) as peer:
            peer.submit(number_of("no_receipt"))

            assert (await peer.next()).command == "submit_sm_resp"
            assert await peer.barrier() == []
            assert smsc.held == 0

    async def test_unanswered(self):
        """The ESME waits in vain; the next message is answered."""
        async with scenario() as smsc, esme(smsc.port) as peer:
            peer.submit(number_of("unanswered"))
            second = peer.submit("447700900001", registered_delivery=0)

            assert (await peer.next()).sequence_number == second
            assert await peer.barrier() == []
            assert smsc.submitted == 2

    async def test_answer_lost(self):
        """The receipt is the only news."""
        async with scenario() as smsc, esme(smsc.port) as peer:
            peer.submit(number_of("answer_lost"))
            came = await peer.next()

            assert came.command == "deliver_sm"
            assert b"stat:DELIVRD" in came.pdu.short_message
            assert [entry.message_id in came.text for entry in smsc.log] == [True]


def number_of(behaviour):
    return next(number.pattern for number in SHIPPED if number.behaviour == behaviour)


class TestOnTheSocket:
    """Each kind of fault, as a peer meets it."""

    async def test_delay_answer(self):
        """The second one is answered first."""
        fault = Fault("delay_answer", count=1, seconds=(0.05, 0.05))
        async with scenario(fault) as smsc, esme(smsc.port) as peer:
            first, second = (peer.submit(registered_delivery=0) for _ in range(2))

            assert [(await peer.next()).sequence_number for _ in range(2)] == [second, first]

    async def test_reorder_answers(self):
        """Three are held and go out last first; the fourth goes when its time is over."""
        fault = Fault("reorder_answers", batch=3, seconds=(0.2, 0.2))
        async with scenario(fault) as smsc, esme(smsc.port) as peer:
            numbers = [peer.submit(registered_delivery=0) for _ in range(4)]

            came = [(await peer.next()).sequence_number for _ in range(4)]
            assert came == [numbers[2], numbers[1], numbers[0], numbers[3]]

    async def test_throttle(self):
        """A burst of two, then it goes on."""
        async with scenario(Fault("throttle", count=2)) as smsc, esme(smsc.port) as peer:
            for _ in range(3):
                peer.submit(registered_delivery=0)

            assert [(await peer.next()).command_status for _ in range(3)] == [0x58, 0x58, 0]

    async def test_rate_limit(self):
        """What is above the limit is refused."""
        async with scenario(Fault("rate_limit", per_s=5)) as smsc, esme(smsc.port) as peer:
            for _ in range(20):
                peer.submit(registered_delivery=0)
            answers = [(await peer.next()).command_status for _ in range(20)]

            assert answers[:5] == [0] * 5
            assert answers.count(0x58) >= 10

    async def test_refuse(self):
        """With any status."""
        async with scenario(Fault("refuse", status=0x400)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            answer = await peer.next()

            assert (answer.command, answer.command_status, len(answer.octets)) == ("submit_sm_resp", 0x400, 16)

    async def test_nack(self):
        """generic_nack in the place of the answer, with its sequence_number."""
        async with scenario(Fault("nack", status=0x02)) as smsc, esme(smsc.port) as peer:
            number = peer.submit()
            came = await peer.next()

            assert (came.command_id, came.command_status, came.sequence_number) == (0x80000000, 0x02, number)

    async def test_nack_unnamed(self):
        """generic_nack in the place of the answer, and whose request it means nobody can know."""
        async with scenario(Fault("nack_unnamed", status=0x02)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            came = await peer.next()

            assert (came.command_id, came.command_status, came.sequence_number) == (0x80000000, 0x02, 0)
            assert await peer.barrier() == []

    async def test_lose_answer(self):
        """The message is delivered all the same."""
        async with scenario(Fault("lose_answer")) as smsc, esme(smsc.port) as peer:
            peer.submit()
            assert (await peer.next()).command == "deliver_sm"

    async def test_double_answer(self):
        """The same octets twice."""
        async with scenario(Fault("double_answer")) as smsc, esme(smsc.port) as peer:
            peer.submit(registered_delivery=0)
            first, second = await peer.next(), await peer.next()

            assert first.octets == second.octets

    async def test_stray_answer(self):
        """To a number that nobody gave."""
        async with scenario(Fault("stray_answer")) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)
            stray, answer = await peer.next(), await peer.next()

            assert stray.command_id == answer.command_id
            assert stray.sequence_number > number + 1_000_000
            assert answer.sequence_number == number

    async def test_unbind(self):
        """In the middle of the window: what was read is not answered, and the answer to unbind ends it."""
        async with scenario(Fault("unbind", skip=1), latency_s=0.2) as smsc, esme(smsc.port) as peer:
            peer.submit()
            peer.submit()
            came = await peer.next()
            assert came.command == "unbind"
            peer.submit()
            peer.write("unbind_resp", came.sequence_number)

            assert await peer.next() is None

    async def test_reset(self):
        """RST, before the third PDU of each three is acted on."""
        async with scenario(Fault("reset", every=3)) as smsc:
            for _ in range(2):
                async with esme(smsc.port) as peer:
                    for _ in range(2):
                        peer.submit(registered_delivery=0)
                        assert (await peer.next()).command_status == 0
                    peer.submit()
                    with pytest.raises(ConnectionResetError):
                        await peer.next()

    async def test_silence(self):
        """Nothing is answered, and the connection stays."""
        async with scenario(Fault("silence", count=2)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            peer.write("enquire_link")

            assert await peer.barrier() == []
            assert smsc.submitted == 0

    async def test_mute_enquire_link(self):
        """Messages are answered, enquire_link is not."""
        async with scenario(Fault("mute_enquire_link")) as smsc, esme(smsc.port) as peer:
            peer.write("enquire_link")
            number = peer.submit()

            assert (await peer.next()).sequence_number == number

    async def test_refuse_bind(self):
        """Good credentials are refused once, with ESME_RBINDFAIL, and the connection ends."""
        async with scenario(Fault("refuse_bind", count=1)) as smsc:
            async with esme(smsc.port, kind="") as peer:
                assert (await peer.bind()).command_status == 0x0D
                assert await peer.next() is None
            async with esme(smsc.port):
                assert smsc.bound == 1

    async def test_slow_bind(self):
        """The answer comes late, and what is asked meanwhile after it."""
        fault = Fault("slow_bind", seconds=(0.1, 0.1))
        async with scenario(fault) as smsc, esme(smsc.port, kind="") as peer:
            started = asyncio.get_running_loop().time()
            answer = await peer.bind()

            assert answer.command_status == 0
            assert asyncio.get_running_loop().time() - started >= 0.09

    async def test_drop_bind(self):
        """RST in place of an answer; the next bind is accepted."""
        async with scenario(Fault("drop_bind", count=1)) as smsc:
            async with esme(smsc.port, kind="") as peer:
                with pytest.raises(ConnectionResetError):
                    await peer.bind()
            async with esme(smsc.port):
                assert smsc.bound == 1

    async def test_http(self):
        """Somebody else listens on the port: a line of HTTP, and the end."""
        async with scenario(Fault("http", count=1)) as smsc:
            async with esme(smsc.port, kind="") as peer:
                peer.write("bind_transceiver", system_id="clinic", password="secret", interface_version=0x34)
                assert (await peer.raw(1000)).startswith(b"HTTP/1.1 400 ")
            async with esme(smsc.port):
                assert smsc.bound == 1

    async def test_nack_nobody(self):
        """A generic_nack that names no request, then the answer."""
        async with scenario(Fault("nack_nobody")) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)

            nack, answer = await peer.next(), await peer.next()
            assert (nack.command, nack.command_status, nack.sequence_number) == ("generic_nack", 0x03, 0)
            assert answer.sequence_number == number

    async def test_unknown_command(self):
        """A PDU of 64 KiB that smpplib has no name for, then the answer."""
        async with scenario(Fault("unknown_command", octets=65_520)) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)

            unknown = await peer.next()
            assert (unknown.command_id, len(unknown.octets)) == (0x00010200, 16 + 65_520)
            assert (await peer.next()).sequence_number == number

    async def test_bare_answer(self):
        """A header, and no message_id, not even an empty one."""
        async with scenario(Fault("bare_answer")) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)
            answer = await peer.next()

            assert (answer.command, answer.command_status, len(answer.octets)) == ("submit_sm_resp", 0, 16)
            assert answer.sequence_number == number

    async def test_open_answer(self):
        """The id up to the end of the PDU; a refusal has none that could be cut."""
        faults = Fault("open_answer"), Fault("refuse", skip=1)
        async with scenario(*faults) as smsc, esme(smsc.port) as peer:
            peer.submit(registered_delivery=0)
            peer.submit(registered_delivery=0)
            answer, refusal = await peer.next(), await peer.next()

            assert answer.octets[16:].decode() == smsc.log[0].message_id
            assert len(refusal.octets) == 16

    @pytest.mark.parametrize("octets", [4, 16, 65_536])
    async def test_false_length(self, octets):
        """The first four octets lie, and all others are as they were."""
        async with scenario(Fault("false_length", octets=octets)) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)
            head = await peer.raw(16)

            assert struct.unpack(">LLLL", head) == (octets, 0x80000004, 0, number)
            rest = smsc.log[0].message_id.encode() + b"\0"
            assert await peer.raw(len(rest)) == rest

    async def test_pad_delivery(self):
        """One octet more than its text and TLVs have, and it stands between them."""
        async with scenario(Fault("pad_delivery", skip=1)) as smsc, esme(smsc.port) as peer:
            peer.submit()
            plain = await peer.next_of("deliver_sm")
            peer.submit()
            padded = await peer.next_of("deliver_sm")

            assert len(padded.octets) == len(plain.octets) + 1 == int.from_bytes(padded.octets[:4])
            end = padded.octets.index(b" text:") + len(b" text:")
            assert padded.octets[end : end + 3] == b"\0\0\x1e"  # then receipted_message_id

    async def test_cut_delivery(self):
        """What is left says how much it is."""
        async with scenario(Fault("cut_delivery", octets=40, count=1), redelivery_s=0.01) as smsc:
            async with esme(smsc.port) as peer:
                peer.submit()
                cut = await peer.next_of("deliver_sm")
                peer.write("deliver_sm_resp", cut.sequence_number, status=0x64)
                whole = await peer.next_of("deliver_sm")

        assert len(cut.octets) == int.from_bytes(cut.octets[:4]) == len(whole.octets) - 40
        assert cut.octets[16:] == whole.octets[16:-40]

    async def test_coalesce(self):
        """Answers to requests of different times come in one read."""
        fault = Fault("coalesce", skip=1, count=1, seconds=(0.1, 0.1))  # the first write is the bind's answer
        async with scenario(fault) as smsc, esme(smsc.port) as peer:
            numbers = [peer.submit(registered_delivery=0)]
            await asyncio.sleep(0.02)
            numbers.append(peer.submit(registered_delivery=0))

            octets = await peer._reader.read(1000)
            assert len(octets) > 2 * 16
            assert [int.from_bytes(octets[at : at + 4]) for at in (12, 16 + 12 + len(octets) // 2 - 16)] == numbers

    async def test_reset_in_pdu(self):
        """Half an answer, then RST."""
        async with scenario(Fault("reset_in_pdu")) as smsc, esme(smsc.port) as peer:
            peer.submit()
            with pytest.raises(ConnectionResetError):
                await peer.raw(1000)

            (entry,) = smsc.log
            whole = 16 + len(entry.message_id) + 1
            assert len(peer._reader._buffer) == whole // 2

    async def test_garbage(self):
        """Octets that are no PDU, before the answer."""
        async with scenario(Fault("garbage", octets=40)) as smsc, esme(smsc.port) as peer:
            number = peer.submit(registered_delivery=0)
            garbage = await peer.raw(40)

            assert len(set(garbage)) > 10
            assert (await peer.next()).sequence_number == number

    async def test_dribble(self):
        """An octet at a time; what comes behind it waits, and the order stays."""
        fault = Fault("dribble", skip=1, count=1, seconds=(0.002, 0.002))  # the first PDU is the bind's answer
        async with scenario(fault) as smsc, esme(smsc.port) as peer:
            first, second = (peer.submit(registered_delivery=0) for _ in range(2))
            reads = []
            async with asyncio.timeout(WAIT_S):
                while sum(map(len, reads)) < 16:
                    reads.append(await peer._reader.read(100))
            rest = b"".join(reads)
            length = int.from_bytes(rest[:4])
            rest += await peer.raw(length - len(rest)) if len(rest) < length else b""

            assert len(reads[0]) < 16
            assert int.from_bytes(rest[12:16]) == first
            assert (await peer.next()).sequence_number == second

    async def test_enquire_link_flood(self):
        """They come by themselves, with numbers of the SMSC's own."""
        fault = Fault("enquire_link_flood", per_s=200, count=20)
        async with scenario(fault) as smsc, esme(smsc.port) as peer:
            numbers = []
            while len(numbers) < 5:
                numbers.append((await peer.next_of("enquire_link")).sequence_number)
                peer.write("enquire_link_resp", numbers[-1])

            assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize(
        ("first", "numbers"),
        [
            (1, [1, 2, 3]),
            (0, [0, 1, 2]),
            (0x7FFFFFFE, [0x7FFFFFFE, 0x7FFFFFFF, 1]),
            (0xFFFFFFFE, [0xFFFFFFFE, 0xFFFFFFFF, 0]),
        ],
    )
    async def test_sequence_numbers_may_begin_where_no_specification_allows(self, first, numbers):
        """Up to 0x7FFFFFFF they wrap to 1, above it all 32 bits count."""
        async with scenario(first_sequence_number=first) as smsc, esme(smsc.port) as peer:
            for _ in numbers:
                peer.submit()
            came = [await peer.next_of("deliver_sm") for _ in numbers]

        assert [one.sequence_number for one in came] == numbers

    @pytest.mark.parametrize(("kind", "esm_class"), [("mo_flood", 0), ("receipt_flood", 4)])
    async def test_delivery_floods(self, kind, esm_class):
        """They stop at the window of deliveries until they are answered."""
        fault = Fault(kind, per_s=500, destination="88222")
        async with scenario(fault, deliver_window=3, held_limit=50) as smsc, esme(smsc.port) as peer:
            unanswered = [await peer.next_of("deliver_sm") for _ in range(3)]
            assert await peer.barrier() == []
            for came in unanswered:
                peer.acknowledge(came)
            assert (await peer.next()).command == "deliver_sm"

            assert {(came.pdu.esm_class, came.pdu.destination_addr) for came in unanswered} == {(esm_class, b"88222")}
            assert smsc.held <= 51

    def test_every_kind_has_a_test_here(self):
        """A fault that nobody has seen may not happen."""
        tested = {name.removeprefix("test_") for name in dir(self)} | {"mo_flood", "receipt_flood"}

        assert KINDS.keys() <= tested


async def test_no_traffic_meets_a_fault_of_ours():
    """Everything goes wrong at once while strangers write noise: no callback of the loop ever fails."""
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    floods = {"enquire_link_flood", "mo_flood", "receipt_flood"}
    faults = [
        Fault(kind, share=1.0 if kind in floods else 0.05, per_s=50, seconds=(0.0, 0.003), batch=3) for kind in KINDS
    ]
    chance = random.Random(5)
    lines = []
    played = Scenario(SmscSettings(receipts="payload", intermediate="receipt"), seed=5, faults=tuple(faults))

    async def talk(smsc):
        peer = Esme(*await asyncio.open_connection("127.0.0.1", smsc.port))
        with contextlib.suppress(ConnectionError):
            await peer.bind()
            for _ in range(40):
                destination = f"4477009009{chance.randrange(20):02d}"
                peer.submit(destination, chance.randbytes(chance.randrange(100)))
                if chance.random() < 0.3:
                    peer.write("enquire_link")
                await asyncio.sleep(0.001)
            if chance.random() < 0.5:
                peer._writer.write(chance.randbytes(40))
            else:
                peer.write("unbind")
            await peer._writer.drain()
        await peer.close()

    async with asyncio.timeout(WAIT_S), played.smsc(PduLog(lines.append)) as smsc:
        for _ in range(5):
            await asyncio.gather(*(talk(smsc) for _ in range(5)))
        happened = {one.fault.kind for one in smsc.plan if one.struck}
        await smsc.until(lambda: not smsc.connections)

    assert failures == []
    assert len(happened) >= len(KINDS) - 5  # by chance, a few may not have, those of binds above all
    assert all(json.loads(line) for line in lines)


async def test_another_library_binds_submits_and_gets_its_receipt():
    """smpp34's framing, codec and timers are its own."""
    async with scenario(accounts={"clinic": "secret"}) as smsc:
        client = smpp34.Client("127.0.0.1", smsc.port, "clinic", "secret")
        async with asyncio.timeout(WAIT_S):
            session = await client.connect()
            answer = await session.submit_sm("447700900901", b"hello", registered_delivery=1)
            receipt = await session.next()
            await session.unbind()

        assert answer.message_id in receipt.short_message.decode()
        assert b"stat:UNDELIV" in receipt.short_message


async def test_another_library_reads_a_throttle():
    """As a refusal of that message only."""
    async with scenario() as smsc, asyncio.timeout(WAIT_S):
        session = await smpp34.Client("127.0.0.1", smsc.port, "clinic", "secret").connect()
        throttled = await session.submit_sm("447700900909", b"hello")
        accepted = await session.submit_sm("447700900900", b"hello")
        await session.unbind()

    assert (throttled.is_success, throttled.command_status) == (False, 0x58)
    assert accepted.is_success


async def test_a_third_library_reads_a_refused_bind():
    """The client of smpplib raises the status; the next bind is taken."""

    def bind(port):
        client = smpplib.client.Client("127.0.0.1", port, timeout=WAIT_S, allow_unknown_opt_params=True)
        client.connect()
        try:
            client.bind_transceiver(system_id="clinic", password="secret")
            client.unbind()
        except smpplib.exceptions.PDUError as error:
            return error.args[1]
        finally:
            client.disconnect()
        return 0

    async with scenario(Fault("refuse_bind", count=1)) as smsc:
        assert [await asyncio.to_thread(bind, smsc.port) for _ in range(2)] == [0x0D, 0]
