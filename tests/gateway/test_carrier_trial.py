"""gateway/carrier_trial.py: real sessions, against the simulator and against two SMSCs that share no line with us."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from config.settings import LinkSettings
from gateway import carrier_trial, learn
from gateway.smsc import DIALECTS, Fault, Scenario, SmscSettings
from tests.fakes.smpp34_smsc import Smpp34Smsc
from tests.fakes.smsc import Answer, Smsc
from tests.journey.handset import Taken, messages

if TYPE_CHECKING:
    from gateway import Learnt, Observed

TO = "447700900123"
MESSAGES = 20  # submit_sm of all trials
RECEIPTS = 19  # that are asked for of them
ESM, DCS, TLV, EXPIRY, PRIORITY = 0x43, 0x104, 0xC1, 0x62, 0x06


def link(port: int, **settings) -> LinkSettings:
    """A link that notices within tenths of a second what a real one notices within seconds."""
    usual = {
        "name": "a",
        "hosts": ("127.0.0.1",),
        "system_id": "clinic",
        "password": "secret",
        "throughput_per_s": 1_000,
        "bind_timeout_s": 0.5,
        "response_timeout_s": 0.5,
        "rebind_delay_s": 0.05,
    }
    return LinkSettings(**usual | settings, port=port)


async def tried(settings: LinkSettings, wait_s: float = 10.0) -> tuple[Observed, Learnt]:
    """One trial, and what it taught."""
    seen = await carrier_trial(settings, sender="Northside", recipient=TO, wait_s=wait_s)
    return seen, learn(seen, settings)


def values(learnt: Learnt) -> dict[str, object]:
    return {one.key: one.value for one in learnt.settings}


def outcomes(seen: Observed) -> Counter[str]:
    return Counter(seen.outcome(trial.key)[0] for trial in seen.trials)


class TestWhatIsSent:
    async def test_smpplib_reads_each_form_as_it_was_meant(self):
        """Headers, TLVs, data_coding and validity, by a codec that is not ours."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            seen, _ = await tried(link(smsc.port))
        submits = [submit.fields for submit in smsc.received("submit_sm")]
        assert len(submits) == MESSAGES
        assert outcomes(seen) == {"accepted": 17}
        assert TO not in repr(seen)
        assert {(s["destination_addr"], s["source_addr"]) for s in submits} == {(TO, "Northside")}

        texts = iter(submits)
        by_form = {trial.key: list(itertools.islice(texts, len(trial.segments(0)))) for trial in seen.trials}
        one = {key: fields[0] for key, fields in by_form.items()}
        whole = [
            Taken(s["destination_addr"], s["data_coding"], s["esm_class"], s["short_message"])
            for key, fields in by_form.items()
            if key not in {"latin1", "udh16", "sar", "payload"}
            for s in fields
        ]
        sent = {trial.key: trial.text for trial in seen.trials}
        assert messages(whole) == Counter(
            (TO, text) for key, text in sent.items() if key not in {"latin1", "udh16", "sar", "payload"}
        )
        assert one["latin1"]["short_message"] == sent["latin1"].encode("latin-1")
        assert [s["short_message"][:7].hex()[:6] for s in by_form["udh16"]] == ["060804"] * 2
        assert b"".join(s["short_message"][7:] for s in by_form["udh16"]) == sent["udh16"].encode()
        assert [(s["sar_segment_seqnum"], s["sar_total_segments"]) for s in by_form["sar"]] == [(1, 2), (2, 2)]
        assert b"".join(s["short_message"] for s in by_form["sar"]) == sent["sar"].encode()
        assert one["payload"]["message_payload"] == sent["payload"].encode()
        assert not one["payload"]["short_message"]
        assert {key for key, s in one.items() if s["data_coding"] == 0x10} == {"class0"}
        assert {key for key, s in one.items() if s["data_coding"] == 0x18} == {"class0_ucs2"}
        assert {key for key, s in one.items() if s["data_coding"] == 0xF0} == {"group_f"}
        assert {key for key, s in one.items() if s.get("dest_addr_subunit") == 1} == {"dest_addr_subunit"}
        assert {key for key, s in one.items() if s["priority_flag"] == 3} == {"priority_flag"}
        assert {key for key, s in one.items() if s["registered_delivery"] == 2} == {"failures"}
        assert one["relative"]["validity_period"].endswith("000R")
        assert one["absolute"]["validity_period"].endswith("000+")
        assert not any(s["validity_period"] for key, s in one.items() if key not in {"relative", "absolute"})

    async def test_rate_and_window_of_the_link_are_kept(self):
        """Counted by the SMSC; one segment at a time where the window is one."""
        async with Smsc() as smsc:
            smsc.answer_delay_s = 0.01
            smsc.receipt_delay_s = 0.0
            _, learnt = await tried(link(smsc.port, throughput_per_s=10, window_size=1))
        assert smsc.most_within(1.0) <= 10
        unanswered = most = 0
        for pdu in smsc.log:
            unanswered += (pdu.command == "submit_sm") - (pdu.command == "submit_sm_resp")
            most = max(most, unanswered)
        assert most == 1
        assert "window_size" in values(learnt)

    async def test_the_session_is_unbound_at_the_end(self):
        """Left bound, it would refuse the daemon."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            await tried(link(smsc.port, bind_type="transmitter+receiver", sessions=4))
            assert len(smsc.received("bind_transmitter")) == len(smsc.received("bind_receiver")) == 1
            assert len(smsc.received("unbind")) == 2
            assert not smsc.undelivered


class TestRefusals:
    async def test_refused_forms_are_results(self):
        """A carrier that takes no user data header, no class 0, no relative time and no priority."""

        def answer(submit):
            fields = submit.fields
            if fields["esm_class"] & 0x40:
                return Answer(status=ESM)
            if fields["data_coding"] in (0x10, 0x18):
                return Answer(status=DCS)
            if fields["validity_period"].endswith("R"):
                return Answer(status=EXPIRY)
            if fields["priority_flag"]:
                return Answer(status=PRIORITY)
            return Answer(status=TLV) if fields.get("message_payload") else Answer()

        async with Smsc() as smsc:
            smsc.on_submit = answer
            smsc.receipt_delay_s = 0.0
            seen, learnt = await tried(link(smsc.port))
        assert outcomes(seen) == {"accepted": 10, "refused": 7}
        known = values(learnt)
        assert known["concatenation"] == "sar"
        assert (known["flash"], known["flash_fallback"]) == ("dest_addr_subunit", ("dest_addr_subunit", "group_f"))
        assert (known["validity"], known["priority_flag"]) == ("absolute", 0)
        assert seen.outcome("class0") == ("refused", "ESME_RINVDCS")

    async def test_a_carrier_that_refuses_all_teaches_nothing(self):
        """Each form is tried all the same; nothing of it is the form's fault."""
        async with Smsc() as smsc:
            smsc.on_submit = lambda _: Answer(status=0x0B)
            seen, learnt = await tried(link(smsc.port))
        assert (seen.accepted, len(smsc.received("submit_sm"))) == (0, MESSAGES)
        assert values(learnt) == {}

    async def test_a_throttled_segment_goes_again_after_a_hold(self):
        """And it is noted."""
        async with Scenario(faults=(Fault("throttle", skip=4, count=1),)).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port))
            throttled, again = list(smsc.log)[4:6]
        assert outcomes(seen) == {"accepted": 17}
        assert throttled.pdu.octets("short_message") == again.pdu.octets("short_message")
        assert again.at - throttled.at >= 1.0
        assert any("ESME_RTHROTTLED 1 times" in note for note in learnt.notes)

    @pytest.mark.slow
    async def test_one_that_is_always_throttled_is_given_up(self):
        """After three times; the rest is still tried."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            smsc.on_submit = lambda s: Answer(status=0x58 if s.fields["validity_period"].endswith("R") else 0)
            seen, learnt = await tried(link(smsc.port))
        assert seen.throttled == 3
        assert seen.outcome("relative") == ("refused", "ESME_RTHROTTLED")
        assert values(learnt)["validity"] == "absolute"

    async def test_an_answer_that_never_comes_is_no_refusal(self):
        """The rest goes on; the receipt cannot be told, and stays with the SMSC."""
        async with Scenario(faults=(Fault("lose_answer", skip=1, count=1),)).smsc() as smsc:
            seen, _ = await tried(link(smsc.port))
        assert outcomes(seen) == {"accepted": 16, "unclear": 1}
        assert seen.outcome("extension") == ("unclear", "not answered")
        assert seen.kept == 1


class TestSessions:
    async def test_a_refused_bind_is_told_and_nothing_is_sent(self):
        """Of the last host."""
        async with Smsc() as smsc:
            smsc.bind_statuses += [0x0E, 0x0E]
            seen, learnt = await tried(link(smsc.port, hosts=("127.0.0.1", "localhost")))
        assert (seen.is_bound, seen.problem, seen.host) == (False, "bind_refused ESME_RINVPASWD", "localhost")
        assert not smsc.received("submit_sm")
        assert values(learnt) == {}

    async def test_the_next_host_is_tried(self):
        """As the daemon would."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            smsc.bind_statuses.append(0x05)
            seen, _ = await tried(link(smsc.port, hosts=("127.0.0.1", "localhost")))
        assert (seen.host, seen.accepted) == ("localhost", 17)

    async def test_nobody_there(self):
        """Refused at once."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            seen, _ = await tried(link(taken.getsockname()[1]))
        assert (seen.is_bound, seen.problem) == (False, "connect_failed")

    async def test_a_session_that_ends_is_bound_anew_and_the_rest_goes_on(self):
        """What was on the wire is in doubt, and is not sent again."""
        async with Scenario(faults=(Fault("unbind", skip=3, count=1),)).smsc() as smsc:
            seen, _ = await tried(link(smsc.port))
            assert smsc.submitted == MESSAGES
        assert outcomes(seen) == {"accepted": 16, "unclear": 1}
        assert not seen.problem

    async def test_a_session_that_is_gone_for_good_ends_the_trial(self):
        """What was not sent is told apart."""
        faults = (Fault("unbind", skip=3, count=1), Fault("refuse_bind", skip=1, status=0x08))
        async with Scenario(faults=faults).smsc() as smsc:
            began = time.monotonic()
            seen, _ = await tried(link(smsc.port), wait_s=0.1)
        assert seen.is_bound
        assert seen.problem == "bind_refused ESME_RSYSERR"
        assert seen.outcome("absolute") == ("unclear", "not sent")
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize("answers", [True, False])
    async def test_whether_enquire_link_is_answered(self, answers):
        """Asked at the end, when all else has been seen."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            smsc.answers_enquiries = answers
            seen, _ = await tried(link(smsc.port))
        assert seen.enquiry_answered is answers
        assert seen.accepted == 17
        assert smsc.received("enquire_link")[0].at > smsc.received("deliver_sm_resp")[-1].at


class TestReceipts:
    @pytest.mark.parametrize(
        ("answers", "receipts", "learnt_format"),
        [
            ("text", "same", "text"),
            ("hex", "decimal", "decimal"),
            ("hex_upper", "decimal_padded", "decimal"),
            ("decimal", "hex_upper", "hex"),
            ("uuid", "same", "text"),
            ("hex", "hex_padded", "auto"),
        ],
    )
    async def test_the_form_of_ids(self, answers, receipts, learnt_format):
        """Every receipt finds its text, and the format is the one that explains them all."""
        settings = SmscSettings(message_ids=answers, receipt_message_ids=receipts)
        async with Scenario(settings=settings, seed=5).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port))
            assert smsc.delivered == RECEIPTS
        assert values(learnt)["message_id_format"] == learnt_format
        assert (seen.kept, len(seen.receipts)) == (0, RECEIPTS)

    @pytest.mark.parametrize("ids", ["constant", "empty"])
    async def test_ids_that_tell_nothing(self, ids):
        """It comes to its end, and says so."""
        async with Scenario(settings=SmscSettings(message_ids=ids)).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port), wait_s=0.3)
        assert seen.accepted == 17
        assert "message_id_format" not in values(learnt)

    @pytest.mark.parametrize("dialect", DIALECTS)
    async def test_each_dialect_is_read_and_described(self, dialect):
        """What the text holds, the TLVs, and esm_class."""
        async with Scenario(settings=SmscSettings(receipts=dialect)).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port))
        assert values(learnt)["receipts"] == "all"
        form = DIALECTS[dialect]
        esm_class = f"esm_class 0x{form.esm_class:02X}"
        text = "text in message_payload" if form.in_payload else "text" if form.text else "no text"
        tlvs = "both TLVs" if form.has_tlvs else "no TLVs"
        assert f"receipts: {esm_class}, {text}, {tlvs} ({RECEIPTS} of {RECEIPTS})" in learnt.notes
        assert len(seen.receipts) == RECEIPTS

    async def test_receipts_before_their_answers_are_the_trial_s(self):
        """They wait for the answer, and are not left to the SMSC."""
        settings = SmscSettings(receipt_first=True, latency_s=0.02, message_ids="hex", receipt_message_ids="decimal")
        async with Scenario(settings=settings).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port))
            assert (seen.kept, smsc.delivered) == (0, RECEIPTS)
        assert values(learnt)["message_id_format"] == "decimal"

    async def test_esm_class_0_with_a_text_alone_is_told(self):
        """The daemon would take these for replies."""
        async with Smsc() as smsc:

            def answer(submit):
                number = f"n{submit.sequence}"
                text = f"id:{number} sub:001 dlvrd:001 stat:DELIVRD err:000 text:"
                asyncio.get_running_loop().call_later(
                    0.01, lambda: smsc.deliver(esm_class=0, source_addr=TO, short_message=text.encode())
                )
                return Answer(message_id=number)

            smsc.on_submit = answer
            seen, learnt = await tried(link(smsc.port), wait_s=2.0)
        assert seen.kept == 0
        assert values(learnt)["text_receipts"] is True
        assert f"receipts: esm_class 0x00, text, no TLVs ({MESSAGES} of {MESSAGES})" in learnt.notes

    async def test_receipts_on_the_receiver_and_after_how_long(self):
        """Where two sessions are bound, which of them they come on; the delay counts from the answer."""
        async with Scenario(settings=SmscSettings(receipt_delay_s=(0.3, 0.3))).smsc() as smsc:
            seen, learnt = await tried(link(smsc.port, bind_type="transmitter+receiver"))
        assert f"receipts: on the receiver session ({RECEIPTS} of {RECEIPTS})" in learnt.notes
        assert all(0.25 < one.after_s < 1.0 for one in seen.receipts)

    async def test_none_within_the_wait_is_not_learnt(self):
        """It ends when the wait is over."""
        async with Smsc() as smsc:
            began = time.monotonic()
            seen, learnt = await tried(link(smsc.port), wait_s=0.3)
        assert time.monotonic() - began < 5
        assert seen.accepted == 17
        assert "receipts" not in values(learnt)
        assert dict(learnt.unknown)["receipts"].startswith("none came within 0.3 s")

    async def test_what_comes_after_the_wait_is_left_to_the_smsc(self):
        """It is not answered by a session that has gone."""
        async with Scenario(settings=SmscSettings(receipt_delay_s=(5.0, 5.0))).smsc() as smsc:
            seen, _ = await tried(link(smsc.port), wait_s=0.2)
            assert smsc.delivered == 0
        assert not seen.receipts


class TestWhatIsNotTheTrials:
    async def test_messages_and_receipts_of_others_are_left_to_the_smsc(self):
        """Each is answered ESME_RX_T_APPN as often as it comes, and counted once."""
        async with Smsc() as smsc:
            smsc.receipt_delay_s = 0.0
            smsc.repeat_after_s = 0.05
            smsc.answer_delay_s = 0.02
            foreign: set[int] = set()

            def answer(submit):
                if submit.sequence == 2:  # 1 is the bind
                    foreign.add(smsc.deliver(short_message=b"I am late"))
                    foreign.add(smsc.deliver_receipt("of the daemon", submit))
                return Answer()

            smsc.on_submit = answer
            seen, learnt = await tried(link(smsc.port))
            answers = {pdu.sequence: pdu.status for pdu in smsc.received("deliver_sm_resp")}
        assert {answers[number] for number in foreign} == {0x64}
        refused = [number for number, status in answers.items() if status == 0x64]
        assert len(refused) > 2  # they came again
        assert seen.kept == 2
        assert sorted(answers.values()).count(0) == RECEIPTS
        assert values(learnt)["receipts"] == "all"
        assert "receipts that name the test number and no id of an answer: 1" in learnt.notes

    async def test_a_receipt_about_another_number_is_another_s_whatever_its_id(self):
        """Ids come again, and in another form one may be the trial's by chance: the daemon must not lose its receipt."""
        async with Smsc() as smsc:
            foreign: list[int] = []

            def answer(submit):
                number = submit.sequence + 14  # 16 and on: "10" is the first in hexadecimal
                smsc.deliver_receipt(str(number), submit)
                if number == 20:
                    for other in ("10", "17"):
                        addresses = {"source_addr": "447700900777", "destination_addr": "Northside"}
                        foreign.append(smsc.deliver_receipt(other, addresses=addresses))
                return Answer(message_id=str(number))

            smsc.on_submit = answer
            seen, learnt = await tried(link(smsc.port), wait_s=1.0)
            answers = {pdu.sequence: pdu.status for pdu in smsc.received("deliver_sm_resp")}
        assert [answers[number] for number in foreign] == [0x64, 0x64]
        assert (seen.kept, list(answers.values()).count(0)) == (2, MESSAGES)
        assert values(learnt)["message_id_format"] == "text"

    @pytest.mark.parametrize(
        "addresses",
        [
            {"source_addr": "Northside", "destination_addr": TO},
            {"source_addr": "", "destination_addr": ""},
            {"source_addr": "07700900123", "destination_addr": "Northside"},
            {"source_addr": "", "destination_addr": "Northside"},
        ],
    )
    async def test_swapped_shortened_and_absent_addresses_are_the_trial_s(self, addresses):
        """Carriers write them so."""
        async with Smsc() as smsc:

            def answer(submit):
                smsc.deliver_receipt(f"n{submit.sequence}", addresses=addresses)
                return Answer(message_id=f"n{submit.sequence}")

            smsc.on_submit = answer
            seen, _ = await tried(link(smsc.port))
        assert (seen.kept, len(seen.receipts)) == (0, MESSAGES)

    async def test_an_mo_message_of_the_simulator_is_still_there_for_the_daemon(self):
        """Word for word."""
        async with Scenario().smsc() as smsc:
            trial = asyncio.ensure_future(tried(link(smsc.port)))
            await smsc.until(lambda: smsc.submitted > 2)
            smsc.send("447700900555", "88222", "STOP", system_id="clinic")
            seen, _ = await trial
            assert (seen.kept, smsc.delivered, smsc.dropped, smsc.held) == (1, RECEIPTS, 0, 1)

    async def test_what_nobody_can_read_is_counted(self):
        """Its answer is the session's."""
        async with Scenario(faults=(Fault("cut_delivery", count=1, octets=20),)).smsc() as smsc:
            seen, _ = await tried(link(smsc.port), wait_s=0.5)
        assert seen.unreadable == 1


async def test_smpp34_sees_the_texts_and_its_receipts_find_them():
    """A server in Rust: framing, codec and timers of its own."""
    async with Smpp34Smsc() as smsc:
        seen, learnt = await tried(link(smsc.port))
    assert len(smsc.submits) == MESSAGES
    assert {one.destination for one in smsc.submits} == {TO}
    assert seen.accepted == 17
    assert set(smsc.receipt_statuses) == {0}
    assert len(smsc.receipt_statuses) == RECEIPTS
    known = values(learnt)
    assert (known["message_id_format"], known["receipts"]) == ("text", "all")
    assert seen.enquiry_answered
