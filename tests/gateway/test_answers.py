"""What a link does about refusals, against a scripted SMSC over real sockets."""

import structlog

from gateway import Verdict
from gateway.breaker import FAULTS, FULL_SPREADS_AT, SENDER_REFUSALS
from tests.fakes.account import account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer

FULL, SENDER, SYSTEM_ERROR = 0x14, 0x0A, 0x08


def answering(answer):
    """An SMSC that answers so."""
    return lambda smsc: setattr(smsc, "on_submit", answer)


def many(number, *, lane=3, to=None):
    """Submissions to as many destinations, or to one."""
    return [submission(lane=lane, to=to or f"49151{n:08d}") for n in range(number)]


async def until_results(a, number):
    await a.seen.until(lambda: len(a.seen.results) >= number)


class TestCongestion:
    async def test_an_smsc_that_says_it_is_congested_is_sent_less(self):
        """congestion_state stands in the answer, an accepted one too; an odd length says nothing."""
        states = iter([b"", b"\x59", b"\x00\x64", b"\x64"])

        async with account(throughput_per_s=100) as a:
            rates = []
            for number, state in enumerate(states, start=1):
                tlv = b"\x04\x28" + len(state).to_bytes(2) + state if state else b""
                a.smsc.on_submit = lambda _: Answer(withhold=True)
                a.link.submit([submission()])
                (*_, submit) = await a.smsc.seen("submit_sm", number)
                a.smsc.sessions[0].send_raw(with_tlv(submit.sequence, tlv))
                await until_results(a, number)
                rates.append(a.link.throughput_limit)

        assert a.seen.verdicts() == [Verdict.ACCEPTED] * 4
        assert rates == [100, 100, 100, 50]


def with_tlv(sequence, tlv):
    """A submit_sm_resp that accepts, with a TLV behind its message_id."""
    body = b"m1\0" + tlv
    return (16 + len(body)).to_bytes(4) + b"\x80\0\0\x04" + bytes(4) + sequence.to_bytes(4) + body


class TestFullQueues:
    async def test_a_destination_is_held_and_the_others_go_on(self):
        """Its job is told as RETRY; whoever asks hears for how long."""
        full = "4915100000001"

        def answer(submit):
            return Answer(status=FULL if submit.fields["destination_addr"] == full else 0)

        async with account(prepare=answering(answer)) as a:
            one, other = submission(to=full), submission(to="4915100000002")
            a.link.submit([one, other])
            await until_results(a, 2)

            assert a.seen.verdicts() == [Verdict.RETRY, Verdict.ACCEPTED]
            held, for_s = a.link.held_back(one.message)
            assert held == "destination"
            assert 4.0 < for_s <= 5.0
            assert a.link.held_back(other.message) == ("", 0.0)

    async def test_where_it_spreads_the_link_holds_and_spends_no_attempt(self):
        """It is the SMSC's own queue: the segment that said so goes again."""
        async with account(prepare=answering(lambda _: Answer(status=FULL)), throughput_per_s=100) as a:
            a.link.submit(many(FULL_SPREADS_AT))
            await a.seen.until(lambda: a.seen.repeats)

            assert len(a.seen.results) == FULL_SPREADS_AT - 1
            assert a.link.held_for_s > 0.5
            assert a.link.throughput_limit == 50

    async def test_an_override_of_the_link_comes_first(self):
        """A carrier that means another thing by 0x14 is taken at its word."""
        async with account(prepare=answering(lambda _: Answer(status=FULL)), status_overrides={FULL: "rejected"}) as a:
            one = submission()
            a.link.submit([one])
            await until_results(a, 1)

            assert a.seen.verdicts() == [Verdict.REJECTED]
            assert a.link.held_back(one.message) == ("", 0.0)


class TestRefusedSenders:
    async def test_a_sender_that_is_refused_again_and_again_is_held(self):
        """Its thousand reminders wait for the operator, in place of failing one by one."""
        with structlog.testing.capture_logs() as logs:
            async with account(prepare=answering(lambda _: Answer(status=SENDER))) as a:
                a.link.submit(many(SENDER_REFUSALS))
                await until_results(a, SENDER_REFUSALS)
                held, for_s = a.link.held_back(submission().message)

        assert a.seen.verdicts() == [Verdict.MISCONFIGURED] * SENDER_REFUSALS
        assert held == "sender"
        assert 59.0 < for_s <= 60.0
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["sender_held"]

    async def test_it_goes_on_once_it_is_accepted(self):
        """Lane 0 is never held: its message shows that the carrier has mended it."""
        answers = iter([Answer(status=SENDER)] * SENDER_REFUSALS)

        async with account(prepare=answering(lambda _: next(answers, Answer()))) as a:
            a.link.submit(many(SENDER_REFUSALS))
            await until_results(a, SENDER_REFUSALS)
            a.link.submit([submission(lane=0)])
            await until_results(a, SENDER_REFUSALS + 1)

            assert a.link.held_back(submission().message) == ("", 0.0)


class TestAFailingLink:
    async def test_lanes_1_to_5_are_held_and_given_back_and_lane_0_goes(self):
        """What waits may go by another link; an alert is worth its own try."""
        async with account(prepare=answering(lambda _: Answer(status=SYSTEM_ERROR)), window_size=5) as a:
            a.link.submit(many(FAULTS + 10))
            await a.seen.until(lambda: a.link.is_failing and a.seen.returned)

            assert [a.link.room(lane) > 0 for lane in range(6)] == [True] + [False] * 5
            written = len(a.smsc.received("submit_sm"))
            more = submission(lane=1)
            a.link.submit([more])
            await a.seen.until(lambda: more in a.seen.returned)
            a.link.submit([submission(lane=0)])
            await a.smsc.seen("submit_sm", written + 1)

        answered = {id(result.submission) for result in a.seen.results}
        assert not answered & {id(returned) for returned in a.seen.returned}
        assert len(a.seen.results) + len(a.seen.returned) == FAULTS + 10 + 2

    async def test_an_accepted_alert_ends_the_hold(self):
        """It shows that the SMSC takes messages again."""
        answers = iter([Answer(status=SYSTEM_ERROR)] * FAULTS)

        with structlog.testing.capture_logs() as logs:
            async with account(prepare=answering(lambda _: next(answers, Answer()))) as a:
                a.link.submit(many(FAULTS))
                await until_results(a, FAULTS)
                assert a.link.is_failing
                freed = a.seen.freed
                a.link.submit([submission(lane=0)])
                await until_results(a, FAULTS + 1)
                await a.seen.until(lambda: a.seen.freed > freed)

                assert not a.link.is_failing
                assert a.link.room(3) > 1

        told = [entry["event"] for entry in logs if entry["event"].startswith("link_") and "for_s" in entry]
        assert told == ["link_failing"]
        assert "link_recovered" in [entry["event"] for entry in logs]

    async def test_refused_numbers_are_no_fault_of_the_link(self):
        """A list of bad numbers must not stop the others."""
        async with account(prepare=answering(lambda _: Answer(status=0x0B))) as a:
            a.link.submit(many(2 * FAULTS))
            await until_results(a, 2 * FAULTS)

            assert not a.link.is_failing

    async def test_after_a_hold_one_segment_goes_and_when_it_is_accepted_all_do(self):
        """The first wait is ten seconds; here its end is now."""
        answers = iter([Answer(status=SYSTEM_ERROR)] * FAULTS)

        async with account(prepare=answering(lambda _: next(answers, Answer(delay_s=0.2)))) as a:
            a.link.submit(many(FAULTS))
            await until_results(a, FAULTS)
            a.link._answers.breaker._until = 1e-9  # long ago
            assert a.link.room(3) == 1
            a.link.submit(many(10))
            await a.smsc.seen("submit_sm", FAULTS + 1)
            assert len(a.seen.written) == FAULTS + 1
            await until_results(a, FAULTS + 10)

            assert not a.link.is_failing
            assert a.seen.verdicts()[FAULTS:] == [Verdict.ACCEPTED] * 10
