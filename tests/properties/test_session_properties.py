"""What the session promises whatever the peer sends and however the network cuts it."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import LocalError
from gateway.inquiry import Ended, Inquiry
from gateway.messages import Address
from gateway.pdu import MAX_PDU_OCTETS
from gateway.session import (
    Closed,
    Delivered,
    Event,
    Failed,
    Responded,
    Session,
    SessionSettings,
    SessionState,
    Unanswered,
)
from tests.fakes.wire import (
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    CANCEL_SM,
    DATA_SM,
    DELIVER_SM,
    ENQUIRE_LINK,
    GENERIC_NACK,
    QUERY_SM,
    RESP,
    SUBMIT_SM,
    UNBIND,
    bind_resp,
    data_sm,
    deliver,
    frames,
    malformed_deliver,
    pdu,
    submit_resp,
)

WINDOW = 4
DELIVERIES = 3

numbers = st.one_of(st.integers(0, 12), st.sampled_from([0x7FFFFFFF, 0xFFFFFFFF]))
statuses = st.sampled_from([0, 0, 0, 0x03, 0x58])
pdus = st.one_of(
    st.builds(bind_resp, st.just(1), st.just(BIND_TRANSCEIVER), statuses),
    st.builds(lambda number, status: submit_resp(number, b"id", status), numbers, statuses),
    st.builds(deliver, numbers),
    st.builds(malformed_deliver, numbers),
    st.builds(data_sm, numbers),
    st.builds(
        pdu,
        st.sampled_from([QUERY_SM | RESP, CANCEL_SM | RESP, DATA_SM, GENERIC_NACK]),
        numbers,
        st.sampled_from([b"", b"id", b"id\0\0\2\0", b"\xff" * 70]),
        statuses,
    ),
    st.builds(
        lambda command, number, status: pdu(command, number, b"", status),
        st.sampled_from(
            [ENQUIRE_LINK, ENQUIRE_LINK | RESP, UNBIND, UNBIND | RESP, GENERIC_NACK, 0x77, 0x80000077, SUBMIT_SM]
        ),
        numbers,
        statuses,
    ),
    st.just(b"\0\0\0\3"),
)
streams = st.lists(pdus, max_size=12).map(b"".join)

# What the application, the peer and the clock may do, in any order.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), pdus),
        st.tuples(st.just("submit"), st.none()),
        st.tuples(st.just("inquire"), st.sampled_from(["query", "cancel"])),
        st.tuples(st.just("answer"), numbers),
        st.tuples(st.just("tick"), st.sampled_from([0.1, 5.0, 10.0, 31.0])),
        st.tuples(st.just("unbind"), st.none()),
    ),
    max_size=40,
)


def new_session(kind: str = "transceiver") -> Session:
    return Session(
        SessionSettings(
            kind=kind,
            system_id="clinic",
            password="secret",
            window_size=WINDOW,
            response_timeout_s=10.0,
            bind_timeout_s=10.0,
            enquire_link_s=30.0,
            delivery_limit=DELIVERIES,
        ),
        0.0,
    )


class Driver:
    """Carries out steps and notes what comes of them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now = 0.0
        self.events: list[Event] = []
        self.accepted: list[int] = []
        self.asked: list[tuple[int, str]] = []
        self.answered: Counter[int] = Counter()

    def do(self, step: str, argument) -> None:
        session = self.session
        if step == "receive":
            self.events += session.receive(argument, self.now)
            assert not any(isinstance(event, Failed) for event in self.events)
        elif step == "submit":
            try:
                session.submit(b"body", len(self.accepted), self.now)
            except LocalError:
                return
            self.accepted.append(len(self.accepted))
        elif step == "inquire":
            token = (len(self.asked), argument)
            try:
                session.inquire(Inquiry(argument, "id", Address("12345"), Address("491511")), token, self.now)
            except LocalError:
                return
            self.asked.append(token)
        elif step == "answer":
            if session.answer(argument, 0):
                self.answered[argument] += 1
        elif step == "tick":
            self.now += argument
            self.events += session.tick(self.now)
        else:
            self.events += session.unbind(self.now)


@given(stream=streams, cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_the_same_octets_gives_the_same_events(stream, cuts):
    """TCP keeps the order of octets and nothing else."""
    whole, cut = new_session(), new_session()
    for session in (whole, cut):
        session.receive(bind_resp(), 0.0)
        for token in range(WINDOW):
            session.submit(b"body", token, 0.0)
    edges = sorted({0, len(stream), *(at for at in cuts if at < len(stream))})

    expected = whole.receive(stream, 1.0)
    found = []
    for start, end in pairwise(edges):
        found += cut.receive(stream[start:end], 1.0)

    assert found == expected
    assert cut.take_outgoing() == whole.take_outgoing()


@given(steps=steps, binds=st.booleans())
def test_every_accepted_submit_has_exactly_one_outcome(steps, binds):
    """Responded in time, or Unanswered; a late answer comes only after the latter, and once."""
    driver = Driver(new_session())
    if binds:
        driver.do("receive", bind_resp())
    for step, argument in steps:
        driver.do(step, argument)
    driver.events += driver.session.receive_eof()

    outcomes = Counter()
    late = Counter()
    for event in driver.events:
        if isinstance(event, Unanswered) or (isinstance(event, Responded) and not event.late):
            outcomes[event.token] += 1
        elif isinstance(event, Responded):
            assert outcomes[event.token] == 1
            late[event.token] += 1
    assert outcomes == dict.fromkeys(driver.accepted, 1)
    assert all(count == 1 for count in late.values())
    assert [event for event in driver.events if isinstance(event, Closed)] == driver.events[-1:]


@given(steps=steps, binds=st.booleans())
@example(steps=[("inquire", "cancel"), ("receive", pdu(QUERY_SM | RESP, 2))], binds=True)
@example(steps=[("inquire", "query"), ("receive", pdu(GENERIC_NACK, 2))], binds=True)
@example(steps=[("inquire", "query"), ("tick", 10.0), ("receive", pdu(QUERY_SM | RESP, 2))], binds=True)
def test_every_inquiry_has_exactly_one_outcome(steps, binds):
    """Answered by its own response or a generic_nack, unanswered, or ended with its session; never by another's answer."""
    driver = Driver(new_session())
    if binds:
        driver.do("receive", bind_resp())
    numbers = {}  # sequence_number -> token, as they left
    for step, argument in [*steps, ("eof", None)]:
        driver.session.take_outgoing()
        asked, seen = len(driver.asked), len(driver.events)
        if step == "eof":
            driver.events += driver.session.receive_eof()
        else:
            driver.do(step, argument)
        for token in driver.asked[asked:]:
            (frame,) = frames(driver.session.take_outgoing())
            assert frame.command_id == {"query": QUERY_SM, "cancel": CANCEL_SM}[token[1]]
            numbers[token] = frame.sequence_number
        for event in driver.events[seen:]:
            if isinstance(event, Ended) and event.reply.outcome in {"answered", "unsupported"}:
                (frame,) = frames(argument)
                command = {"query": QUERY_SM, "cancel": CANCEL_SM}[event.token[1]]
                assert frame.command_id in {command | RESP, GENERIC_NACK}
                assert frame.sequence_number == numbers[event.token]
                assert frame.command_status == event.reply.command_status
    outcomes = Counter(event.token for event in driver.events if isinstance(event, Ended))

    assert outcomes == dict.fromkeys(driver.asked, 1)


@given(steps=steps)
@example(steps=[("inquire", "query"), *[("submit", None)] * WINDOW])
@example(steps=[*[("submit", None)] * (WINDOW - 1), ("inquire", "cancel")])
def test_submits_and_inquiries_together_never_exceed_the_window(steps):
    """Carriers count requests of any kind; and no inquiry takes the slot that is kept for lane 0."""
    driver = Driver(new_session())
    driver.do("receive", bind_resp())
    for step, argument in steps:
        could = driver.session.free(lane0=False)
        asked = len(driver.asked)
        driver.do(step, argument)

        unanswered = len(driver.session.window) + len(driver.session._inquiries)
        assert unanswered <= WINDOW
        assert driver.session.free(lane0=True) in {WINDOW - unanswered, 0}
        assert len(driver.asked) == asked or could > 0


REQUESTS = {
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    BIND_RECEIVER,
    SUBMIT_SM,
    QUERY_SM,
    CANCEL_SM,
    ENQUIRE_LINK,
    UNBIND,
}


@pytest.mark.parametrize("kind", ["transceiver", "transmitter", "receiver"])
@given(steps=steps, binds=st.booleans())
@example(steps=[("receive", pdu(DATA_SM, 5))], binds=False)
@example(steps=[("receive", data_sm(5)), ("receive", bind_resp()), ("answer", 5)], binds=False)
@settings(max_examples=60)
def test_no_pdu_leaves_in_a_state_that_does_not_allow_it(kind, steps, binds):
    """SMPP v3.4 sections 2.2 and 2.3, looked at after each step."""
    driver = Driver(new_session(kind))
    session = driver.session
    command = {"transceiver": BIND_TRANSCEIVER, "transmitter": BIND_TRANSMITTER, "receiver": BIND_RECEIVER}[kind]
    assert [frame.command_id for frame in frames(session.take_outgoing())] == [command]
    if binds:
        driver.do("receive", bind_resp(1, command))
    deliveries = Counter()
    seen = 0
    for step, argument in steps:
        before = session.state
        driver.do(step, argument)
        for event in driver.events[seen:]:
            if isinstance(event, Delivered):
                deliveries[event.sequence_number] += 1
        seen = len(driver.events)
        for frame in frames(session.take_outgoing()):
            if frame.command_id in REQUESTS:
                assert before is SessionState.BOUND or session.state is SessionState.BOUND
                assert 1 <= frame.sequence_number <= 0x7FFFFFFF
            if frame.command_id in {SUBMIT_SM, QUERY_SM, CANCEL_SM}:
                assert kind != "receiver"
                assert session.state is SessionState.BOUND
            if before is SessionState.BINDING and session.state in {SessionState.BINDING, SessionState.CLOSED}:
                assert frame.command_id in {ENQUIRE_LINK | RESP, GENERIC_NACK, UNBIND | RESP}
            if before is SessionState.CLOSED:
                raise AssertionError
            if frame.command_id in {DELIVER_SM | RESP, DATA_SM | RESP} and step == "answer":
                deliveries[frame.sequence_number] -= 1
    assert all(count >= 0 for count in deliveries.values()), "an answer that nobody asked for"


@given(stream=st.lists(pdus, min_size=1, max_size=60).map(b"".join), size=st.integers(1, 4096))
def test_memory_is_bounded(stream, size):
    """By the longest PDU, the window and the limit of deliveries, not by what the peer sends."""
    session = new_session()
    session.receive(bind_resp(), 0.0)
    for token in range(WINDOW):
        session.submit(b"body", token, 0.0)
    for start in range(0, len(stream), size):
        session.receive(stream[start : start + size], 1.0)
        outgoing = session.take_outgoing()

        assert len(outgoing) <= 100 + 2 * (size + MAX_PDU_OCTETS)
        assert len(session._reader) <= MAX_PDU_OCTETS + size
        assert session._undelivered <= DELIVERIES
        assert len(session._deliveries) <= DELIVERIES
        assert len(session._data) <= DELIVERIES
        assert len(session.window) <= WINDOW


@given(steps=steps)
def test_the_next_deadline_is_never_missed_nor_without_effect_for_ever(steps):
    """Ticking at each deadline ends: a timer that fires without moving on would hold the loop."""
    driver = Driver(new_session())
    driver.do("receive", bind_resp())
    for step, argument in steps:
        driver.do(step, argument)
    for _ in range(2 * WINDOW + 6):
        deadline = driver.session.next_deadline()
        if deadline is None:
            break
        driver.now = max(driver.now, deadline)
        driver.events += driver.session.tick(driver.now)

    assert driver.session.state is SessionState.CLOSED
