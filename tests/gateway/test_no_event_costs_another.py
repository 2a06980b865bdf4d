"""A fault of ours at one event of a socket read costs this event alone."""

from __future__ import annotations

import random

import pytest
import structlog

from dispatcher import log
from gateway import Receipt, Verdict, codec
from gateway import link as link_module
from gateway import session as session_module
from gateway.answers import Answers
from gateway.failures import LOGGED_EVERY_S
from gateway.metrics import MOST_UNKNOWN_STATUSES
from gateway.session import Bound, Closed, Delivered, Failed, Responded, Session, SessionSettings
from tests.compiled import swaps_a_part
from tests.conformance.vectors import load
from tests.fakes.account import account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer
from tests.fakes.wire import DELIVER_SM, RESP, SUBMIT_SM, bind_resp, data_sm, deliver, frames, pdu, submit_resp

SECRET = b"HIV test of 447700900123"


def withhold(smsc) -> None:
    smsc.on_submit = lambda _: Answer(withhold=True)


def read_by(monkeypatch, fails: bytes):
    """Let the reading of a delivery with these octets fail, with a text that quotes it."""
    parse = link_module.parse

    def parse_or_fail(pdu, **settings):
        if fails in pdu.short_message:
            raise LookupError(f"{pdu.short_message!r} {pdu.source_addr}")
        return parse(pdu, **settings)

    monkeypatch.setattr(link_module, "parse", parse_or_fail)


@pytest.fixture
def logged():
    """Events as the daemon's log has them."""
    with structlog.testing.capture_logs() as entries:
        yield lambda: [log.guard(None, "", dict(entry)) for entry in entries]


@swaps_a_part
async def test_a_receipt_that_cannot_be_handled_leaves_the_rest_of_the_read(monkeypatch, logged):
    """Deliveries before and behind it, and the answer to a segment; it is refused for now and stays with the SMSC."""
    read_by(monkeypatch, SECRET)
    async with account(prepare=withhold) as a:
        a.link.submit([submission()])
        (submit,) = await a.smsc.seen("submit_sm")
        a.smsc.receiver().send_raw(
            deliver(71, b"before")
            + deliver(72, SECRET, esm_class=0x04)
            + submit_resp(submit.sequence, b"name")
            + deliver(73, b"behind")
        )
        await a.seen.until(lambda: len(a.seen.deliveries) == 2)
        (refused,) = await a.smsc.seen("deliver_sm_resp")
        for delivery in a.seen.deliveries:
            assert delivery.answer(0)
        answered = await a.smsc.seen("deliver_sm_resp", 3)

        assert a.link.is_bound
        assert (refused.sequence, refused.status) == (72, 0x64)
        assert [(pdu.sequence, pdu.status) for pdu in answered[1:]] == [(71, 0), (73, 0)]
        assert [(result.verdict, result.message_id) for result in a.seen.results] == [(Verdict.ACCEPTED, "name")]
        assert a.metrics.failures == {"submit_sm_resp": 0, "deliver_sm": 1, "other": 0, "observer": 0}

    (line,) = [line for line in logged() if line["event"] == "event_failed"]
    assert (line["log_level"], line["link"], line["what"]) == ("error", "carrier-a", "deliver_sm")
    assert line["error"] == "LookupError"
    assert "test_no_event_costs_another.py:" in line["at_line"]
    for secret in ("HIV", "4477", "491511"):
        assert secret not in str(logged())


@swaps_a_part
async def test_an_answer_that_cannot_be_handled_leaves_its_segment_in_doubt(monkeypatch):
    """It may have been accepted; the answer behind it counts, and the job that it was for can end."""
    meaning = Answers.meaning

    def fail_at_one(self, command_status):
        if command_status == 0x4FF:
            raise KeyError(command_status)
        return meaning(self, command_status)

    monkeypatch.setattr(Answers, "meaning", fail_at_one)
    async with account(prepare=withhold) as a:
        one, other = submission(), submission()
        a.link.submit([one, other])
        first, second = await a.smsc.seen("submit_sm", 2)
        a.smsc.receiver().send_raw(submit_resp(first.sequence, b"", 0x4FF) + submit_resp(second.sequence, b"name"))
        await a.seen.until(lambda: len(a.seen.results) == 2)

        assert [(result.submission, result.verdict) for result in a.seen.results] == [
            (one, Verdict.UNANSWERED),
            (other, Verdict.ACCEPTED),
        ]
        assert not a.seen.results[0].session_over
        assert (one.stopped, one.unanswered, other.unanswered) == (True, 0, 0)
        assert a.metrics.failures["submit_sm_resp"] == 1
        assert a.link.is_bound


@swaps_a_part
async def test_a_fault_of_whoever_is_told_leaves_what_else_came(monkeypatch):
    """Answers are told first; deliveries that came with them are told nevertheless, or stay with the SMSC."""
    async with account(prepare=withhold) as a:
        a.link.submit([submission()])
        (submit,) = await a.smsc.seen("submit_sm")
        told = a.seen.delivered

        def fail(*_):
            raise RuntimeError

        monkeypatch.setattr(a.seen, "answered", fail)
        a.smsc.receiver().send_raw(submit_resp(submit.sequence, b"name") + deliver(71, b"told"))
        await a.seen.until(lambda: a.seen.deliveries)
        monkeypatch.setattr(a.seen, "delivered", fail)
        a.smsc.receiver().send_raw(deliver(72, b"not told"))
        (refused,) = await a.smsc.seen("deliver_sm_resp")
        monkeypatch.setattr(a.seen, "delivered", told)

        assert (refused.sequence, refused.status) == (72, 0x64)
        assert a.metrics.failures["observer"] == 2


@swaps_a_part
async def test_failures_are_counted_each_and_logged_once_a_second(monkeypatch, logged):
    """A peer that brings one about again and again fills no log."""
    read_by(monkeypatch, b"again")
    async with account() as a:
        a.smsc.receiver().send_raw(b"".join(deliver(number, b"again") for number in range(1, 201)))
        answers = await a.smsc.seen("deliver_sm_resp", 200)
        a.link._failures._logged_at -= LOGGED_EVERY_S  # move its clock
        a.smsc.receiver().send_raw(deliver(201, b"again"))
        await a.smsc.seen("deliver_sm_resp", 201)

        assert {pdu.status for pdu in answers} == {0x64}
        assert a.metrics.failures["deliver_sm"] == 201

    assert [line["failures"] for line in logged() if line["event"] == "event_failed"] == [1, 201]


def bound(now: float = 0.0) -> Session:
    session = Session(SessionSettings("transceiver", "clinic", "secret"), now)
    assert isinstance(session.receive(bind_resp(), now)[0], Bound)
    session.take_outgoing()
    return session


@swaps_a_part
@pytest.mark.parametrize(("make", "answers"), [(deliver, DELIVER_SM | RESP), (data_sm, 0x103 | RESP)])
def test_a_pdu_that_cannot_be_decoded_leaves_the_frames_behind_it(monkeypatch, make, answers):
    """The session goes on; a delivery is refused for now."""
    decode = codec.decode

    def fail_at_one(frame):
        if SECRET in frame:
            raise IndexError
        return decode(frame)

    monkeypatch.setattr(session_module.codec, "decode", fail_at_one)
    session = bound()

    events = session.receive(make(5, SECRET) + deliver(6), 1.0)

    assert [type(event) for event in events] == [Failed, Delivered]
    assert (events[0].sequence_number, events[1].sequence_number) == (5, 6)
    (answer,) = frames(session.take_outgoing())
    assert (answer.command_id, answer.command_status, answer.sequence_number) == (answers, 0x64, 5)
    assert session.is_quiet is False
    assert session.answer(6, 0)
    assert session.is_quiet


@swaps_a_part
def test_an_answer_that_cannot_be_decoded_ends_by_its_time_out(monkeypatch):
    """Its slot stays taken until then: one outcome, and doubt."""
    decode = codec.decode

    def fail_at_one(frame):
        if b"poison" in frame:
            raise IndexError
        return decode(frame)

    monkeypatch.setattr(session_module.codec, "decode", fail_at_one)
    session = bound()
    first = session.submit(b"body", "first", 1.0)
    second = session.submit(b"body", "second", 1.0)

    events = session.receive(submit_resp(first, b"poison") + submit_resp(second, b"name"), 2.0)
    events += session.tick(12.0)

    assert [type(event).__name__ for event in events] == ["Failed", "Responded", "Unanswered"]
    assert [event.token for event in events if not isinstance(event, Failed)] == ["second", "first"]


@swaps_a_part
def test_a_fault_while_a_pdu_is_read_leaves_the_end_of_the_session_to_come(monkeypatch):
    """What ends the session behind it still ends it."""
    monkeypatch.setattr(session_module, "congestion_of", lambda _: 1 / 0)
    session = bound()
    number = session.submit(b"body", "first", 1.0)
    answer = pdu(SUBMIT_SM | RESP, number, b"name\0\x04\x28\x00\x01\x05")

    events = session.receive(answer, 2.0) + session.receive_eof()

    assert not [event for event in events if isinstance(event, Responded)]
    assert [type(event).__name__ for event in events] == ["Failed", "Unanswered", "Closed"]
    assert isinstance(events[-1], Closed)


async def test_no_command_status_raises_and_each_unknown_one_is_counted_by_its_number():
    """A vendor's, reserved ones, the largest there is; of lane 0, which no refusal holds."""
    statuses = [*range(0x400, 0x400 + MOST_UNKNOWN_STATUSES - 3), 0x09, 0x80000000, 0xFFFFFFFF]
    async with account(prepare=withhold, window_size=len(statuses)) as a:
        a.link.submit([submission(lane=0) for _ in statuses])
        submits = await a.smsc.seen("submit_sm", len(statuses))
        a.smsc.receiver().send_raw(
            b"".join(
                submit_resp(submit.sequence, command_status=number)
                for submit, number in zip(submits, statuses, strict=True)
            )
        )
        await a.seen.until(lambda: len(a.seen.results) == len(statuses))

        assert [result.command_status for result in a.seen.results] == statuses
        assert {result.verdict for result in a.seen.results} == {Verdict.AMBIGUOUS}
        assert a.metrics.statuses == dict.fromkeys(statuses, 1)
        assert set(a.metrics.failures.values()) == {0}


async def test_no_text_of_a_receipt_raises():
    """Those that carriers were seen to send, and octets that nobody would."""
    chance = random.Random(7)
    texts = [entry.values[0]["text"].encode("latin-1")[:254] for entry in load("dlr_text")]
    texts += [chance.randbytes(chance.randrange(255)) for _ in range(200)]
    texts += [b"id:" + text[:200] + b" stat:" + text[:40] for text in texts[-100:]]
    async with account() as a:
        for number, text in enumerate(texts, 1):
            a.smsc.receiver().send_raw(deliver(number, text, esm_class=0x04))
        await a.seen.until(lambda: len(a.seen.deliveries) == len(texts))

        assert all(isinstance(delivery.receipt_or_inbound, Receipt) for delivery in a.seen.deliveries)
        assert set(a.metrics.failures.values()) == {0}
