"""A link against a scripted SMSC, over real sockets."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import replace

import pytest
import structlog
import uvloop

from gateway import Inbound, Receipt, Verdict, answers
from gateway import link as link_module
from gateway.metrics import UNANSWERED
from gateway.segment import segment
from gateway.throttle import Throttle
from tests.compiled import swaps_a_part
from tests.fakes.account import Account, account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer, Smsc
from tests.fakes.wire import malformed_deliver

SOON_S = 0.2  # a time-out that a test waits for


class TestSubmitting:
    async def test_a_segment_is_written_and_its_answer_told(self):
        """With the SMSC's name for it, and the instants of both."""
        async with account() as a:
            before = time.monotonic()
            one = submission()
            a.link.submit([one])
            await a.seen.until(lambda: a.seen.results)

        (result,) = a.seen.results
        assert (result.submission, result.segment) == (one, one.segments[0])
        assert (result.verdict, result.command_status, result.message_id) == (Verdict.ACCEPTED, 0, "m00000001")
        assert before <= result.written_at <= result.answered_at <= time.monotonic()
        assert (one.unanswered, one.stopped) == (0, False)
        assert a.seen.written == [(one, one.segments[0])]
        (submit,) = a.smsc.received("submit_sm")
        assert submit.fields["destination_addr"] == "4915112345678"
        assert submit.fields["short_message"] == b"Your appointment is tomorrow."

    async def test_it_is_recorded_before_the_fence_is_asked_and_the_fence_before_it_is_written(self):
        """After a crash the record names everything that may be on the wire."""
        async with account() as a:
            a.seen.calls.clear()
            a.link.submit([submission()])

            assert a.seen.calls == ["writing", "may_write"]

    @pytest.mark.parametrize(
        ("validity", "form"),
        [("relative", r"000001\d{2}0000000R|000000235959000R"), ("absolute", r"\d{12}000\+"), ("none", "")],
    )
    async def test_the_time_to_live_goes_along(self, validity, form):
        """The SMSC stops trying when the message is of no use any more."""
        async with account(validity=validity) as a:
            a.link.submit([submission(within_s=86_400.0)])
            (submit,) = await a.smsc.seen("submit_sm")

        assert re.fullmatch(form, submit.fields["validity_period"])

    async def test_parts_go_in_order_and_each_is_told(self):
        """One message_id a part: receipts come for each."""
        async with account() as a:
            long = submission(text="Take two tablets. " * 30)
            a.link.submit([long])
            await a.seen.until(lambda: len(a.seen.results) == 4)

        assert [result.segment.part for result in a.seen.results] == [1, 2, 3, 4]
        assert [submit.fields["short_message"][:6] for submit in a.smsc.received("submit_sm")] == [
            bytes((5, 0, 3, 7, 4, part)) for part in (1, 2, 3, 4)
        ]

    async def test_tlvs_of_the_account_go_along(self):
        """Some countries refuse what has no registered entity."""
        async with account(tlv=((0x1400, b"1001"), (0x1401, b"2002"))) as a:
            a.link.submit([submission()])
            (submit,) = await a.smsc.seen("submit_sm")

        assert submit.octets.endswith(b"\x14\x00\x00\x041001\x14\x01\x00\x042002")

    async def test_sar_parts_carry_their_reference(self):
        """The SMSC makes the header of them."""
        async with account(concatenation="sar") as a:
            one = submission(text="Take two tablets. " * 10)
            cut = segment("Take two tablets. " * 10, reference=0x1234, concatenation="sar")
            one.segments = cut
            a.link.submit([one])
            first, second = await a.smsc.seen("submit_sm", 2)

        for part, submit in enumerate((first, second), start=1):
            assert (submit.fields["sar_msg_ref_num"], submit.fields["sar_total_segments"]) == (0x1234, 2)
            assert submit.fields["sar_segment_seqnum"] == part

    async def test_a_flash_may_be_said_in_a_tlv(self):
        """dest_addr_subunit 1, the display: some carriers refuse a message class in data_coding."""
        async with account(flash="dest_addr_subunit") as a:
            flash, plain = submission(), submission()
            flash.message = flash.message._replace(flash=True)
            a.link.submit([flash, plain])
            first, second = await a.smsc.seen("submit_sm", 2)

        assert first.octets.endswith(b"\x00\x05\x00\x01\x01")
        assert not second.octets.endswith(b"\x00\x05\x00\x01\x01")

    async def test_a_flash_is_said_once(self):
        """Where data_coding says it, no TLV does."""
        async with account(flash="class0") as a:
            flash = submission()
            flash.message = flash.message._replace(flash=True)
            a.link.submit([flash])
            (submit,) = await a.smsc.seen("submit_sm")

        assert submit.octets.endswith(b"tomorrow.")

    async def test_a_long_payload_goes_into_its_tlv(self):
        """The SMSC cuts it; what fits one short message stays one."""
        async with account(concatenation="payload") as a:
            text = "Take two tablets. " * 10
            one = submission(text=text)
            one.segments = segment(text, reference=1, concatenation="payload")
            a.link.submit([one, submission(text="short")])
            first, second = await a.smsc.seen("submit_sm", 2)

        assert (first.fields["sm_length"], first.fields["message_payload"]) == (0, text.encode())
        assert second.fields["short_message"] == b"short"

    async def test_what_cannot_be_encoded_is_told_and_not_written(self):
        """Nothing is cut to fit; the next message is not held up."""
        async with account() as a:
            bad = submission(to="4" * 30)
            a.link.submit([bad, submission()])
            await a.seen.until(lambda: len(a.seen.results) == 2)

        assert a.seen.verdicts() == [Verdict.MISCONFIGURED, Verdict.ACCEPTED]
        assert a.seen.results[0].written_at == 0.0
        assert bad.stopped
        assert len(a.smsc.received("submit_sm")) == 1

    async def test_what_waited_too_long_is_told_and_not_written(self):
        """An old reminder only confuses."""
        async with account() as a:
            late = submission(within_s=0.0)
            a.link.submit([late])
            await a.seen.until(lambda: a.seen.results)
            assert a.seen.verdicts() == [Verdict.EXPIRED]
            assert not a.seen.written

    async def test_nothing_more_of_a_refused_message_is_written(self):
        """Further parts would only cost money."""
        async with account(window_size=1, prepare=refuse_with(0x0B)) as a:
            a.link.submit([submission(text="Take two tablets. " * 30)])
            await a.seen.until(lambda: a.seen.results)
            a.smsc.on_submit = lambda _: Answer()
            a.link.submit([submission(text="another")])
            await a.seen.until(lambda: len(a.seen.results) == 2)

        assert a.seen.verdicts() == [Verdict.REJECTED, Verdict.ACCEPTED]
        assert len(a.smsc.received("submit_sm")) == 2

    async def test_a_link_may_judge_a_status_in_its_own_way(self):
        """Carriers use the same number for different things."""
        async with account(status_overrides={0x45: "rejected"}, prepare=refuse_with(0x45)) as a:
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.REJECTED]

    async def test_a_nack_is_an_answer(self):
        """By its status."""
        async with account(prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(0x03, nack=True))) as a:
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.MISCONFIGURED]

    async def test_submitting_from_within_a_callback_is_fine(self):
        """The observer claims more as soon as there is room."""
        async with account() as a:
            more = [submission() for _ in range(3)]
            a.seen.record = lambda _: a.link.submit([more.pop()]) if more else None
            a.link.submit([submission()])
            await a.seen.until(lambda: len(a.seen.results) == 4)

        assert Counter(a.seen.verdicts()) == {Verdict.ACCEPTED: 4}

    async def test_thousands_go_through_in_slices(self):
        """The loop is never held for long."""
        async with account(window_size=200, throughput_per_s=10_000) as a:
            a.link.submit([submission() for _ in range(1500)])
            assert len(a.seen.written) == link_module.SLICE
            await a.seen.until(lambda: len(a.seen.results) == 1500)

        assert set(a.seen.verdicts()) == {Verdict.ACCEPTED}


def refuse_with(command_status: int):
    return lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(command_status))


def withhold(smsc: Smsc) -> None:
    smsc.on_submit = lambda _: Answer(withhold=True)


class TestOrder:
    async def test_lane_0_goes_before_everything_that_waits(self):
        """Claimed bulk never stands before an emergency."""
        async with account(throughput_per_s=20) as a:
            a.link.submit([submission(lane=5) for _ in range(16)])
            await a.smsc.seen("submit_sm", 16)
            a.link.submit([submission(lane=5) for _ in range(16)])
            a.link.submit([submission(lane=0, text="CODE BLUE")])
            submits = await a.smsc.seen("submit_sm", 17 + 2)

        texts = [submit.fields["short_message"] for submit in submits]
        assert texts.index(b"CODE BLUE") <= 18

    async def test_the_rate_is_never_exceeded_in_any_second(self):
        """By the SMSC's clock, wherever the second begins."""
        async with account(throughput_per_s=60) as a:
            a.link.submit([submission(lane=lane) for lane in (0, 3, 5) for _ in range(60)])
            submits = await a.smsc.seen("submit_sm", 130)

        instants = [submit.at for submit in submits]
        assert max(sum(start <= at < start + 1.0 for at in instants) for start in instants) <= 60

    async def test_what_waited_goes_evenly_and_not_a_second_s_worth_at_once(self):
        """By the SMSC's clock: neither does it get a burst, nor does lane 1 wait for the next second."""
        async with account(throughput_per_s=400, window_size=400) as a:
            a.link.submit([submission(lane=5) for _ in range(400)])
            submits = await a.smsc.seen("submit_sm", 200)
            a.link.submit([submission(lane=1, text="You will get no more")])
            await a.smsc.seen("submit_sm", 260)

        assert submits[199].at - submits[0].at > 0.3  # 40 at once, and then as the pace allows
        texts = [submit.fields["short_message"] for submit in a.smsc.received("submit_sm")]
        assert texts.index(b"You will get no more") < 260

    async def test_the_window_keeps_slots_for_lane_0(self):
        """An SMSC that answers slowly must not hold up an emergency."""
        async with account(window_size=20, prepare=withhold) as a:
            a.link.submit([submission(lane=5) for _ in range(40)])
            await a.smsc.seen("submit_sm", 18)
            assert a.link.window_in_use == 18
            a.link.submit([submission(lane=0)])
            await a.smsc.seen("submit_sm", 19)
            assert a.link.window_in_use == 19

    async def test_room_is_about_a_second_of_the_rate(self):
        """And told to be there again when it has sunk to half."""
        async with account(throughput_per_s=30, prepare=withhold, window_size=5) as a:
            assert a.link.room(3) == 30
            freed = a.seen.freed
            a.link.submit([submission() for _ in range(34)])
            assert a.link.room(3) == 0
            assert a.seen.freed == freed
            a.smsc.on_submit = lambda _: Answer()
            a.smsc.drop()
            await a.seen.until(lambda: ("waiting", "peer_closed") in a.seen.states)
            await a.until_bound()
            a.link.submit([submission() for _ in range(18)])
            await a.seen.until(lambda: a.seen.freed == freed + 2)

    async def test_two_sessions_share_the_work(self):
        """The window is each session's own, the throttle is the account's."""
        async with account(sessions=2, window_size=5, prepare=withhold) as a:
            await a.seen.until(lambda: a.link.sessions_bound == 2)
            a.link.submit([submission(lane=0) for _ in range(12)])
            submits = await a.smsc.seen("submit_sm", 10)

            assert Counter(submit.session for submit in submits) == {1: 5, 2: 5}
            assert a.link.window_in_use == 10

    async def test_a_transmitter_sends_and_a_receiver_receives(self):
        """Each operation on the bind that allows it."""
        async with account(bind_type="transmitter+receiver") as a:
            await a.seen.until(lambda: a.link.sessions_bound == 2)
            a.link.submit([submission()])
            (submit,) = await a.smsc.seen("submit_sm")
            a.smsc.deliver(short_message=b"YES")
            await a.seen.until(lambda: a.seen.deliveries)
            a.seen.deliveries[0].answer(0)
            (answer,) = await a.smsc.seen("deliver_sm_resp")

        binds = {bind.session: bind.command for bind in a.smsc.log if bind.command.startswith("bind") and not bind.sent}
        assert binds[submit.session] == "bind_transmitter"
        assert binds[answer.session] == "bind_receiver"


class TestWaiting:
    @swaps_a_part
    async def test_whether_to_write_and_when_to_look_again_are_decided_at_one_instant(self, monkeypatch):
        """At a later one the throttle may just have come free: no timer would be set, and no answer would come."""
        looks: list[float] = []
        allowance = Throttle.allowance

        def noted(throttle: Throttle, now: float, *, lane0: bool) -> int:
            looks.append(now)
            return allowance(throttle, now, lane0=lane0)

        async with account(throughput_per_s=2) as a:
            a.link._throttle.take(time.monotonic(), 2)
            monkeypatch.setattr(Throttle, "allowance", noted)
            a.link.submit([submission()])

            assert len(looks) > 1
            assert len(set(looks)) == 1
            await a.smsc.seen("submit_sm")


class TestThrottled:
    async def test_a_throttled_segment_goes_again_first_and_is_no_outcome(self):
        """No attempt is spent: the message was good, the link too fast."""
        answers = iter([Answer(0x58), Answer(0x58)])

        async with account(
            window_size=2, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))
        ) as a:
            first, second, third = (submission(lane=0, text=text) for text in ("first", "second", "third"))
            a.link.submit([first, second, third])
            await a.seen.until(lambda: len(a.seen.results) == 3)
            assert 500 <= a.link.throughput_limit < 1000

        submits = a.smsc.received("submit_sm")
        assert [submit.fields["short_message"] for submit in submits] == [
            b"first",
            b"second",
            b"first",
            b"second",
            b"third",
        ]
        assert submits[2].at - submits[1].at >= 1.0
        assert [(repeat.submission, repeat.verdict) for repeat in a.seen.repeats] == [
            (first, Verdict.THROTTLED),
            (second, Verdict.THROTTLED),
        ]
        assert a.seen.verdicts() == [Verdict.ACCEPTED] * 3
        assert a.metrics.statuses == {0x58: 2, 0: 3}

    async def test_a_throttled_segment_of_a_stopped_message_is_told(self):
        """It will not be repeated, and that it is over must be known."""
        answers = iter([Answer(0x0B), Answer(0x58)])

        async with account(
            window_size=2, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))
        ) as a:
            one = submission(lane=0, text="Take two tablets. " * 10)
            a.link.submit([one])
            await a.seen.until(lambda: len(a.seen.results) == 2)

        assert a.seen.verdicts() == [Verdict.REJECTED, Verdict.RETRY]
        assert one.unanswered == 0

    async def test_what_is_throttled_when_the_link_is_lost_comes_back(self):
        """Refused for certain, so it is in no doubt."""
        async with account(prepare=refuse_with(0x58)) as a:
            one = submission()
            a.link.submit([one])
            await a.smsc.until(a.smsc.answers)
            a.smsc.unbind()
            await a.seen.until(lambda: a.seen.returned)

        assert a.seen.returned == [one]
        assert not a.seen.results


class TestDoubt:
    async def test_a_lost_link_leaves_written_segments_unanswered_and_gives_the_others_back(self):
        """What is on the wire is in doubt; what is not is known, and may go elsewhere at once."""
        async with account(window_size=5, prepare=withhold) as a:
            written = [submission(lane=0) for _ in range(5)]
            waiting = [submission(lane) for lane in (0, 1, 5)]
            a.link.submit(written + waiting)
            await a.smsc.seen("submit_sm", 5)
            a.smsc.drop()
            await a.seen.until(lambda: a.seen.returned)

        assert [result.submission for result in a.seen.results] == written
        assert set(a.seen.verdicts()) == {Verdict.UNANSWERED}
        assert a.seen.returned == waiting
        assert all(each.stopped and not each.unanswered for each in written)
        assert a.seen.calls.index("answered") < a.seen.calls.index("recalled")
        assert a.metrics.statuses == {UNANSWERED: 5}

    async def test_a_message_with_a_segment_in_doubt_is_not_given_back(self):
        """Its other parts wait for what the category says."""
        async with account(window_size=1, prepare=withhold) as a:
            one = submission(text="Take two tablets. " * 30)
            a.link.submit([one])
            await a.smsc.seen("submit_sm")
            a.smsc.drop()
            await a.seen.until(lambda: a.seen.results)
            await a.seen.until(lambda: "waiting" in dict(a.seen.states))

        assert a.seen.verdicts() == [Verdict.UNANSWERED]
        assert not a.seen.returned

    async def test_no_answer_in_time_is_unanswered_and_a_late_one_is_told_as_well(self):
        """It carries the message_id that ends the doubt."""
        late = iter([Answer(delay_s=2 * SOON_S), Answer(0x58, delay_s=2 * SOON_S)])

        async with account(
            response_timeout_s=SOON_S, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(late))
        ) as a:
            one, other = submission(), submission()
            a.link.submit([one, other])
            await a.seen.until(lambda: len(a.seen.results) == 4)

        assert a.seen.verdicts() == [Verdict.UNANSWERED, Verdict.UNANSWERED, Verdict.ACCEPTED, Verdict.RETRY]
        assert a.seen.results[2].message_id == "m00000001"
        assert (one.unanswered, other.unanswered) == (0, 0)

    async def test_a_worn_window_is_replaced(self):
        """An SMSC that answers enquire_link and nothing else gets a new session."""
        async with account(response_timeout_s=SOON_S, window_size=2, prepare=withhold) as a:
            a.link.submit([submission()])
            await a.smsc.seen("unbind")
            await a.smsc.seen("bind_transceiver", 2)

        assert ("waiting", "worn_out") in a.seen.states

    async def test_a_link_fault_binds_again_and_gives_the_segment_back(self):
        """The SMSC forgot us; the message is good."""
        answers = iter([Answer(0x04)])

        async with account(prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))) as a:
            one = submission()
            a.link.submit([one])
            await a.seen.until(lambda: a.seen.returned == [one])
            await a.until_bound()
            assert not a.seen.results
            assert [repeat.verdict for repeat in a.seen.repeats] == [Verdict.LINK_FAULT]
            again = submission()
            a.link.submit([again])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert a.smsc.received("unbind")

    @pytest.mark.parametrize(("command_status", "verdict"), [(0x04, Verdict.RETRY), (0x02, Verdict.MISCONFIGURED)])
    async def test_a_second_link_fault_of_the_same_segment_is_told(self, command_status, verdict):
        """It may be the cause: without an end it would rebind the link for ever."""
        async with account(prepare=refuse_with(command_status)) as a:
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.returned)
            await a.until_bound()
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [verdict]

    async def test_with_another_session_a_link_fault_is_repeated_there(self):
        """The account is up; only one socket was forgotten."""
        answers = iter([Answer(0x04)])

        async with account(
            sessions=2, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: next(answers, Answer()))
        ) as a:
            await a.seen.until(lambda: a.link.sessions_bound == 2)
            a.link.submit([submission()])
            await a.seen.until(lambda: a.seen.results)

        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert not a.seen.returned

    @swaps_a_part
    async def test_faults_long_past_are_forgotten(self, monkeypatch):
        """Memory is bounded."""
        monkeypatch.setattr(answers, "FAULTS_KEPT", 0)
        async with account(prepare=refuse_with(0x04)) as a:
            for count in (1, 2):
                await a.until_bound()
                a.link.submit([submission()])
                await a.seen.until(lambda count=count: len(a.seen.returned) == count)

        assert not a.seen.results

    async def test_a_message_on_its_way_back_is_not_written_again(self):
        """Not even if a new session is bound before its last answer, which says THROTTLED, has come."""

        def prepare(smsc):
            withhold(smsc)
            smsc.answers_unbinds = False

        async with account(sessions=2, window_size=2, prepare=prepare) as a:

            def answer(submit, command_status):
                session = next(each for each in a.smsc.sessions if each.number == submit.session)
                session.send("submit_sm_resp", sequence=submit.sequence, status=command_status, message_id="m")

            await a.seen.until(lambda: a.link.sessions_bound == 2)
            other, half = submission(lane=0), submission(lane=0, text="Take two tablets. " * 30)
            a.link.submit([other, half])
            of_other, first, second, third = await a.smsc.seen("submit_sm", 4)
            answer(of_other, 0x04)
            await a.smsc.seen("unbind")
            answer(second, 0x04)
            await a.seen.until(lambda: a.seen.returned == [other])
            answer(third, 0)
            await a.seen.until(lambda: a.seen.results)
            next(each for each in a.smsc.sessions if each.number == third.session).drop()
            await a.until_bound()
            answer(first, 0x58)
            await a.seen.until(lambda: a.seen.returned == [other, half])
            assert not a.link._rooms  # it would leave them once the throttle's hold is over

        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert len(a.seen.written) == 4


class TestFence:
    async def test_nothing_is_written_once_the_fence_says_no(self):
        """Another process may own the link: its segments are given back, in no doubt."""
        async with account() as a:
            a.seen.owns = False
            one = submission(text="Take two tablets. " * 10)
            a.link.submit([one])
            await a.seen.until(lambda: a.seen.returned)

            assert a.seen.returned == [one]
            assert one.unanswered == 0
            assert not a.seen.results
            assert not a.smsc.received("submit_sm")
            await a.seen.until(lambda: not a.link.sessions_bound)
            assert ("waiting", "fenced") in a.seen.states

    async def test_an_idle_session_ends_once_the_fence_says_no(self):
        """There is nothing to write that would ask it, and another process may bind the account in a moment."""
        async with account(enquire_link_s=60) as a:
            a.seen.owns = False
            await a.seen.until(lambda: not a.link.sessions_bound)
            assert ("waiting", "fenced") in a.seen.states
            assert not a.smsc.received("unbind"), "an unbind would be a write"

    async def test_without_the_fence_nothing_is_bound(self):
        """And it is once the fence says yes."""
        async with account(bound=False) as a:
            a.seen.owns = False
            await a.seen.until(lambda: ("waiting", "fenced") in a.seen.states)
            assert not a.smsc.sessions
            a.seen.owns = True
            await a.until_bound()

    async def test_segments_count_for_the_rate_from_when_they_left_and_not_from_when_they_were_chosen(self):
        """A slow disk would otherwise let the next ones follow too closely."""
        async with account(throughput_per_s=20) as a:
            a.seen.record = lambda _: time.sleep(0.1)
            chosen_at = time.monotonic()
            a.link.submit([submission() for _ in range(21)])
            a.seen.record = lambda _: None
            submits = await a.smsc.seen("submit_sm", 21)

        assert submits[20].at - chosen_at >= 1.1

    async def test_what_cannot_be_recorded_is_not_written(self, monkeypatch):
        """A full disk costs time, and never certainty."""
        monkeypatch.setattr(link_module, "RECORD_PAUSE_S", 0.05)

        def fail(_):
            raise OSError(28, "No space left on device")

        async with account() as a:
            a.seen.record = fail
            one, two = submission(), submission()
            a.link.submit([one, two])
            assert not a.smsc.received("submit_sm")
            assert one.unanswered == 0
            a.seen.record = lambda _: None
            await a.seen.until(lambda: len(a.seen.results) == 2)

        assert [result.submission for result in a.seen.results] == [one, two]
        assert a.link.throughput_limit == 1000


class TestDelivering:
    async def test_deliveries_come_in_a_batch_and_are_answered_when_told(self):
        """After the commit, and not before."""
        async with account() as a:
            a.smsc.deliver_receipt("m1")
            a.smsc.deliver(short_message=b"YES")
            await a.seen.until(lambda: len(a.seen.deliveries) == 2)
            receipt, reply = a.seen.deliveries
            assert isinstance(receipt.receipt_or_inbound, Receipt)
            assert receipt.receipt_or_inbound.message_id == "m1"
            assert isinstance(reply.receipt_or_inbound, Inbound)
            assert (reply.link, reply.receipt_or_inbound.text, reply.pdu.short_message) == ("carrier-a", "YES", b"YES")
            assert not a.smsc.received("deliver_sm_resp")

            assert receipt.answer(0)
            assert reply.answer(0x64)
            assert not reply.answer(0)
            answers = await a.smsc.seen("deliver_sm_resp", 2)

        assert [(answer.sequence, answer.status) for answer in answers] == [(1, 0), (2, 0x64)]

    async def test_an_answer_after_the_session_has_ended_says_so(self):
        """The SMSC will deliver it again."""
        async with account() as a:
            a.smsc.deliver(short_message=b"YES")
            await a.seen.until(lambda: a.seen.deliveries)
            a.smsc.drop()
            await a.seen.until(lambda: not a.link.is_bound)
            await a.until_bound()

            assert not a.seen.deliveries[0].answer(0)

    async def test_what_nobody_can_read_is_kept(self):
        """Its octets go to whoever can store them."""
        async with account() as a:
            a.smsc.receiver().send_raw(malformed_deliver(9))
            await a.seen.until(lambda: a.seen.unread)
            (answer,) = await a.smsc.seen("deliver_sm_resp")

        assert a.seen.unread == [(malformed_deliver(9), 0x65)]
        assert (answer.sequence, answer.status) == (9, 0x65)

    @pytest.mark.parametrize(("text_receipts", "read"), [(False, Inbound), (True, Receipt)])
    async def test_a_receipt_by_its_text_alone_is_one_where_the_link_says_so(self, text_receipts, read):
        """With esm_class 0 and no TLVs a handset could have written it."""
        async with account(text_receipts=text_receipts) as a:
            a.smsc.deliver(esm_class=0, short_message=b"id:7f sub:001 dlvrd:001 stat:DELIVRD err:000 text:")
            await a.seen.until(lambda: a.seen.deliveries)

        (delivery,) = a.seen.deliveries
        assert type(delivery.receipt_or_inbound) is read

    async def test_ussd_is_acknowledged_and_left_alone(self):
        """It is no message."""
        async with account() as a:
            a.smsc.deliver(service_type="USSD", short_message=b"*100#")
            (answer,) = await a.smsc.seen("deliver_sm_resp")

        assert answer.status == 0
        assert not a.seen.deliveries


class TestOwning:
    async def test_what_is_submitted_while_unbound_comes_back(self):
        """In the next turn of the loop, not from within the call."""
        async with account(bound=False) as a:
            one = submission()
            a.link.submit([])
            a.link.submit([one])
            assert a.link.room(0) == 0
            assert not a.seen.returned
            await a.seen.until(lambda: a.seen.returned == [one])

    async def test_a_new_owner_holds_back_what_a_predecessor_may_have_sent(self):
        """The dead one's last second counts; lane 0 has its reserve."""
        async with account(sent_at=None, throughput_per_s=100) as a:
            a.link.submit([submission(lane=5), submission(lane=0)])

            assert [written[0].lane for written in a.seen.written] == [0]
            await a.smsc.seen("submit_sm", 2)

    async def test_a_changed_rate_needs_no_new_bind(self):
        """An operator turns it down while messages flow."""
        async with account() as a:
            a.link.reconfigure(replace(a.link.settings, throughput_per_s=5))
            a.link.submit([submission() for _ in range(10)])
            await a.smsc.seen("submit_sm", 4)

            assert a.link.throughput_limit == 5
            assert len(a.smsc.received("submit_sm")) == 4
            assert len(a.smsc.received("bind_transceiver")) == 1


class TestStopping:
    async def test_stopping_waits_for_answers_and_unbinds(self):
        """Nothing is left in doubt that need not be."""
        async with account(
            window_size=3, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(delay_s=SOON_S))
        ) as a:
            written, waiting = [submission(lane=0) for _ in range(3)], submission(lane=0)
            a.link.submit([*written, waiting])
            await a.smsc.seen("submit_sm", 3)

            await a.link.stop(5.0)

            assert a.seen.verdicts() == [Verdict.ACCEPTED] * 3
            assert a.seen.returned == [waiting]
            assert a.smsc.received("unbind")
            assert a.link.state == "stopped"
            a.link.submit([submission()])
            await a.seen.until(lambda: len(a.seen.returned) == 2)

    async def test_a_message_half_written_comes_back_when_its_last_answer_has(self):
        """Only then it is known which parts are accepted."""
        async with account(
            window_size=1, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(delay_s=SOON_S))
        ) as a:
            one = submission(lane=0, text="Take two tablets. " * 30)
            a.link.submit([one])
            await a.smsc.seen("submit_sm")

            await a.link.stop(5.0)

        assert a.seen.verdicts() == [Verdict.ACCEPTED]
        assert a.seen.returned == [one]
        assert a.seen.calls.index("answered") < a.seen.calls.index("recalled")
        assert len(a.smsc.received("submit_sm")) == 1

    async def test_a_throttled_segment_is_not_repeated_while_stopping(self):
        """It comes back instead."""
        async with account(
            window_size=2, prepare=lambda smsc: setattr(smsc, "on_submit", lambda _: Answer(0x58, delay_s=SOON_S))
        ) as a:
            whole, half = submission(lane=0), submission(lane=0, text="Take two tablets. " * 10)
            a.link.submit([whole, half])
            await a.smsc.seen("submit_sm", 2)

            await a.link.stop(5.0)

        assert {id(each) for each in a.seen.returned} == {id(whole), id(half)}
        assert len(a.seen.returned) == 2
        assert not a.seen.results

    async def test_stopping_ends_in_time(self):
        """An SMSC that does not answer leaves doubt, and does not hold up the daemon."""
        async with account(prepare=withhold) as a:
            a.link.submit([submission()])
            await a.smsc.seen("submit_sm")

            await a.link.stop(SOON_S)

        assert a.seen.verdicts() == [Verdict.UNANSWERED]
        assert a.link.state == "stopped"

    async def test_deliveries_are_answered_before_the_unbind(self):
        """They are committed: the SMSC need not send them again."""
        async with account() as a:
            a.smsc.deliver(short_message=b"YES")
            await a.seen.until(lambda: a.seen.deliveries)
            stopping = asyncio.create_task(a.link.stop(5.0))
            await asyncio.sleep(0)
            assert a.seen.deliveries[0].answer(0)
            await stopping

        commands = [pdu.command for pdu in a.smsc.log if not pdu.sent]
        assert commands[-2:] == ["deliver_sm_resp", "unbind"]

    async def test_cancelling_closes_the_sockets_at_once(self):
        """What is written is in doubt, what waits is given back."""
        async with account(window_size=2, prepare=withhold) as a:
            a.link.submit([submission(lane=0) for _ in range(3)])
            await a.smsc.seen("submit_sm", 2)

        assert a.seen.verdicts() == [Verdict.UNANSWERED] * 2
        assert len(a.seen.returned) == 1
        assert a.link.state == "stopped"
        assert not a.smsc.received("unbind")

    async def test_a_link_that_does_not_run_stops_at_once(self):
        """Nothing was begun."""
        async with Smsc() as smsc:
            await Account(smsc).link.stop(1.0)

    async def test_a_link_stops_while_it_waits_to_bind_again(self):
        """However long it meant to wait."""
        async with account(bound=False, prepare=lambda smsc: smsc.bind_statuses.append(0x0E)) as a:
            await a.seen.until(lambda: any(state == "waiting" for state, _ in a.seen.states))

            await a.link.stop(1.0)

        assert a.link.state == "stopped"


class TestSecrets:
    async def test_logs_hold_no_text_no_number_and_no_password(self):
        """Whatever happens: bound, throttled, refused, unreadable, lost."""
        with structlog.testing.capture_logs() as logs:
            async with account(
                prepare=lambda smsc: (smsc.bind_statuses.append(0x08), refuse_with(0x04)(smsc)),
            ) as a:
                a.link.submit([submission(text="HIV test positive")])
                await a.seen.until(lambda: a.seen.returned)
                await a.until_bound()
                refuse_with(0x58)(a.smsc)
                a.link.submit([submission(text="HIV test positive", to="4915112345670")])
                await a.smsc.seen("submit_sm", 2)
                a.link.submit([submission(to="4915112345678" * 3)])
                a.smsc.receiver().send_raw(malformed_deliver(9))
                a.smsc.receiver().send("generic_nack", sequence=0, status=3)
                await a.smsc.seen("deliver_sm_resp")
                a.smsc.drop()
                await a.seen.until(lambda: not a.link.is_bound)
        told = " ".join(map(repr, logs))

        assert {"bind_refused", "session_bound", "session_ended", "link_fault", "delivery_undecodable"} <= {
            entry["event"] for entry in logs
        }
        for secret in ("HIV", "491511", "secret-word", "444444"):
            assert secret not in told


class TestLoops:
    def test_a_link_runs_on_uvloop(self):
        """The daemon does."""

        async def life():
            async with account() as a:
                a.link.submit([submission() for _ in range(100)])
                await a.seen.until(lambda: len(a.seen.results) == 100)
                await a.link.stop(1.0)
                assert a.link.state == "stopped"

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(life())
