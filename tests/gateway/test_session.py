"""The session, without a socket: octets and a clock in, events and octets out."""

import pytest

from gateway.errors import NotBound, WindowFull
from gateway.session import (
    BindRefused,
    Bound,
    Closed,
    CloseReason,
    Delivered,
    Responded,
    Session,
    SessionSettings,
    SessionState,
    Unanswered,
    UnbindReceived,
    Undecodable,
    Unexpected,
    WornOut,
)
from tests.fakes.wire import (
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    DELIVER_SM,
    ENQUIRE_LINK,
    GENERIC_NACK,
    RESP,
    SUBMIT_SM,
    UNBIND,
    Frame,
    bind_resp,
    deliver,
    frames,
    malformed_deliver,
    pdu,
    submit_resp,
)

BODY = b"body of a submit_sm"


def settings(**changes) -> SessionSettings:
    return SessionSettings(**({"kind": "transceiver", "system_id": "clinic", "password": "secret"} | changes))


def bound(**changes) -> Session:
    """A session at instant 0 whose bind was taken."""
    session = Session(settings(**changes), 0.0)
    kind = {"transceiver": BIND_TRANSCEIVER, "transmitter": BIND_TRANSMITTER, "receiver": BIND_RECEIVER}
    session.receive(bind_resp(1, kind[session.settings.kind]), 0.0)
    session.take_outgoing()
    assert session.state is SessionState.BOUND
    return session


def sent(session: Session) -> list[Frame]:
    return frames(session.take_outgoing())


class TestBinding:
    @pytest.mark.parametrize(
        ("kind", "command_id"),
        [("transceiver", BIND_TRANSCEIVER), ("transmitter", BIND_TRANSMITTER), ("receiver", BIND_RECEIVER)],
    )
    def test_the_bind_is_outgoing_from_the_start(self, kind, command_id):
        """Whoever opens the socket has only to write."""
        session = Session(settings(kind=kind, system_type="SMS", address_range="^49"), 0.0)

        (bind,) = sent(session)

        assert (bind.command_id, bind.sequence_number) == (command_id, 1)
        assert bind.body == b"clinic\0secret\0SMS\0\x34\0\0^49\0"
        assert session.state is SessionState.BINDING

    def test_an_accepted_bind_is_bound(self):
        """Messages may flow."""
        session = Session(settings(), 0.0)

        events = session.receive(bind_resp(), 0.1)

        assert events == [Bound(None)]
        assert session.can_submit

    def test_the_version_of_the_smsc_is_told(self):
        """Without it TLVs may not be understood."""
        session = Session(settings(), 0.0)

        events = session.receive(pdu(BIND_TRANSCEIVER | RESP, 1, b"smsc\0\x02\x10\x00\x01\x34"), 0.1)

        assert events == [Bound(0x34)]

    @pytest.mark.parametrize(
        ("answer", "command_status"),
        [
            (bind_resp(command_status=0x0E), 0x0E),
            (pdu(BIND_TRANSCEIVER | RESP, 1, b"smsc\0", 0x05), 0x05),
            (pdu(GENERIC_NACK, 1, command_status=0x03), 0x03),
            (pdu(GENERIC_NACK, 1), 0x0D),
        ],
        ids=["no body", "with a body", "nack", "nack that says no error"],
    )
    def test_a_refused_bind_closes(self, answer, command_status):
        """Whatever form the refusal takes."""
        session = Session(settings(), 0.0)

        events = session.receive(answer, 0.1)

        assert events == [BindRefused(command_status), Closed(CloseReason.BIND_REFUSED)]
        assert session.state is SessionState.CLOSED

    def test_a_bind_without_an_answer_times_out(self):
        """An SMSC that takes connections and says nothing is no SMSC."""
        session = Session(settings(bind_timeout_s=10.0), 0.0)

        assert session.next_deadline() == 10.0
        assert session.tick(9.9) == []
        assert session.tick(10.0) == [Closed(CloseReason.BIND_TIMEOUT)]
        assert session.next_deadline() is None

    def test_enquire_link_before_bind_resp_is_answered_and_proves_nothing(self):
        """Some SMSCs ask before they answer; the bind still has to come in time."""
        session = Session(settings(bind_timeout_s=10.0), 0.0)
        session.take_outgoing()

        assert session.receive(pdu(ENQUIRE_LINK, 77), 5.0) == []
        assert sent(session) == [Frame(ENQUIRE_LINK | RESP, 0, 77, b"")]
        assert session.next_deadline() == 10.0

    def test_deliver_sm_in_the_same_read_as_bind_resp_is_not_lost(self):
        """SMSCs begin to deliver at once."""
        session = Session(settings(), 0.0)

        events = session.receive(bind_resp() + deliver(4), 0.1)

        assert [type(event) for event in events] == [Bound, Delivered]

    def test_deliver_sm_before_bind_resp_is_left_to_come_again(self):
        """No answer is allowed yet."""
        session = Session(settings(), 0.0)
        session.take_outgoing()

        events = session.receive(deliver(4) + malformed_deliver(5), 0.1)

        assert [event.kind for event in events] == ["delivery_unbound", "request"]
        assert sent(session) == []

    @pytest.mark.parametrize(
        "answer",
        [bind_resp(2), bind_resp(1, BIND_RECEIVER), pdu(GENERIC_NACK, 0, command_status=3), submit_resp(1)],
        ids=["another number", "another bind", "nack of nothing", "another answer"],
    )
    def test_an_answer_to_something_else_does_not_bind(self, answer):
        """Only the bind's own answer does."""
        session = Session(settings(), 0.0)

        (event,) = session.receive(answer, 0.1)

        assert isinstance(event, Unexpected)
        assert session.state is SessionState.BINDING

    def test_nothing_else_leaves_before_the_bind_is_taken(self):
        """SMPP v3.4 section 2.2."""
        session = Session(settings(), 0.0)
        session.take_outgoing()

        with pytest.raises(NotBound) as caught:
            session.submit(BODY, "token", 0.0)
        assert caught.value.state == "binding"
        assert not session.answer(1, 0)
        assert session.free(lane0=True) == 0
        assert session.take_outgoing() == b""

    def test_giving_up_before_the_bind_closes_without_unbind(self):
        """There is nothing to unbind."""
        session = Session(settings(), 0.0)
        session.take_outgoing()

        assert session.unbind(0.1) == [Closed(CloseReason.ABORTED)]
        assert session.take_outgoing() == b""

    def test_credentials_are_not_shown(self):
        """Settings end up in tracebacks."""
        assert "secret" not in repr(settings())
        assert "clinic" not in repr(settings())


class TestSubmitting:
    def test_a_submit_leaves_with_a_header_of_its_own(self):
        """The body is whoever encoded it; number and length are ours."""
        session = bound()

        number = session.submit(BODY, "token", 1.0)

        assert sent(session) == [Frame(SUBMIT_SM, 0, number, BODY)]
        assert session.take_outgoing() == b""

    def test_an_answer_is_told_with_its_token(self):
        """And with the instant of writing, for the response time."""
        session = bound()
        number = session.submit(BODY, "token", 1.0)

        assert session.receive(submit_resp(number, b"abc"), 1.2) == [Responded("token", 0, "abc", 1.0, late=False)]
        assert session.is_quiet

    def test_answers_come_in_any_order(self):
        """Each finds its own request."""
        session = bound()
        first, second = session.submit(BODY, "first", 1.0), session.submit(BODY, "second", 1.0)

        events = session.receive(submit_resp(second) + submit_resp(first, command_status=0x58), 1.2)

        assert [(event.token, event.command_status) for event in events] == [("second", 0), ("first", 0x58)]

    @pytest.mark.parametrize("body", [b"", b"abc\0", b"abc", b"\0"], ids=["none", "id", "no NUL", "empty id"])
    def test_a_refusal_may_have_any_body(self, body):
        """SMPP v3.4 says none, carriers send what they like."""
        session = bound()
        number = session.submit(BODY, "token", 1.0)

        (event,) = session.receive(pdu(SUBMIT_SM | RESP, number, body, 0x14), 1.2)

        assert (event.token, event.command_status) == ("token", 0x14)

    def test_generic_nack_with_a_known_number_is_the_answer(self):
        """By its status; one that says "no error" is a refusal still."""
        session = bound()
        first, second = session.submit(BODY, "first", 1.0), session.submit(BODY, "second", 1.0)

        events = session.receive(
            pdu(GENERIC_NACK, first, command_status=0x02) + pdu(GENERIC_NACK, second, command_status=0), 1.2
        )

        assert [(event.token, event.command_status) for event in events] == [("first", 0x02), ("second", 0xFF)]

    @pytest.mark.parametrize("number", [0, 4711])
    def test_generic_nack_of_nothing_is_told_as_unexpected(self, number):
        """It alarms, and ends nothing."""
        session = bound()

        assert session.receive(pdu(GENERIC_NACK, number, command_status=0x02), 1.0) == [
            Unexpected("nack", GENERIC_NACK, number, 0x02)
        ]
        assert session.state is SessionState.BOUND

    def test_a_second_answer_is_unexpected(self):
        """One request, one outcome."""
        session = bound()
        number = session.submit(BODY, "token", 1.0)
        session.receive(submit_resp(number), 1.2)

        assert session.receive(submit_resp(number), 1.3) == [Unexpected("answer", SUBMIT_SM | RESP, number, 0)]

    def test_the_window_bounds_what_is_unanswered(self):
        """And keeps its reserve for lane 0."""
        session = bound(window_size=10)
        for _ in range(9):
            session.submit(BODY, "token", 1.0)

        assert (session.free(lane0=True), session.free(lane0=False)) == (1, 0)
        session.submit(BODY, "token", 1.0)
        with pytest.raises(WindowFull):
            session.submit(BODY, "token", 1.0)
        assert len(sent(session)) == 10

    def test_a_receiver_does_not_submit(self):
        """SMPP v3.4 section 2.3: the operation is not allowed there."""
        session = bound(kind="receiver")

        with pytest.raises(NotBound):
            session.submit(BODY, "token", 1.0)
        assert not session.can_submit

    def test_a_withdrawn_submit_has_no_outcome(self):
        """The fence stopped it before one octet had left."""
        session = bound()
        session.withdraw(session.submit(BODY, "token", 1.0))

        assert session.abort() == [Closed(CloseReason.ABORTED)]

    def test_a_number_in_use_by_enquire_link_is_skipped(self):
        """At the wrap an old keep-alive may still be open."""
        session = bound(enquire_link_s=30.0)
        session.tick(30.0)
        (enquiry,) = sent(session)
        session.window._last = enquiry.sequence_number - 1

        assert session.submit(BODY, "token", 30.0) == enquiry.sequence_number + 1


class TestTimeOuts:
    def test_an_unanswered_submit_is_told_once_and_in_time(self):
        """Neither sent nor failed: nobody can know."""
        session = bound(response_timeout_s=10.0)
        session.submit(BODY, "token", 1.0)

        assert session.next_deadline() == 11.0
        assert session.tick(10.9) == []
        assert session.tick(11.0) == [Unanswered("token", 1.0, session_over=False)]
        assert session.tick(11.1) == []
        assert session.is_quiet

    def test_a_late_answer_is_told_as_an_extra(self):
        """It has the message_id that resolves the doubt."""
        session = bound(response_timeout_s=10.0)
        number = session.submit(BODY, "token", 1.0)
        session.tick(11.0)

        assert session.receive(submit_resp(number, b"abc"), 12.0) == [Responded("token", 0, "abc", 1.0, late=True)]
        assert session.receive(submit_resp(number, b"abc"), 12.0)[0].kind == "answer"

    def test_a_worn_window_unbinds(self):
        """Half of it dead: a new session is the better choice."""
        session = bound(window_size=2, response_timeout_s=10.0)
        session.submit(BODY, "token", 1.0)
        session.take_outgoing()

        assert session.tick(11.0) == [Unanswered("token", 1.0, session_over=False), WornOut(1)]
        assert [frame.command_id for frame in sent(session)] == [UNBIND]
        assert session.state is SessionState.UNBINDING

    def test_the_age_of_the_oldest_unanswered_submit_is_watched(self):
        """Some SMSCs answer nothing but enquire_link when they are overloaded."""
        session = bound(window_size=100, response_timeout_s=10.0, enquire_link_s=1000.0)
        session.submit(BODY, "token", 1.0)
        session.tick(11.0)

        assert session.next_deadline() == 31.0
        assert session.tick(31.0) == [WornOut(1)]

    def test_silence_brings_an_enquire_link(self):
        """So that a dead path is noticed before an emergency needs it."""
        session = bound(enquire_link_s=30.0, response_timeout_s=10.0)

        assert session.next_deadline() == 30.0
        assert session.tick(29.9) == []
        session.tick(30.0)
        (enquiry,) = sent(session)
        assert enquiry.command_id == ENQUIRE_LINK
        assert session.next_deadline() == 40.0

    def test_an_answered_enquire_link_begins_a_new_silence(self):
        """Whether with its own answer, a refusal, or anything else that comes."""
        for answer in (ENQUIRE_LINK | RESP, GENERIC_NACK):
            session = bound(enquire_link_s=30.0, response_timeout_s=10.0)
            session.tick(30.0)
            (enquiry,) = sent(session)

            assert session.receive(pdu(answer, enquiry.sequence_number), 31.0) == []
            assert session.next_deadline() == 60.0

    def test_answers_to_enquire_link_are_counted_by_their_number(self):
        """Whatever comes proves that the peer lives, and not that it answers enquire_link."""
        session = bound(enquire_link_s=30.0, response_timeout_s=10.0)
        session.tick(30.0)
        (enquiry,) = sent(session)
        session.receive(deliver(1), 31.0)
        session.receive(pdu(ENQUIRE_LINK | RESP, enquiry.sequence_number + 1), 31.0)
        assert session.answered_enquiries == 0

        session.receive(pdu(ENQUIRE_LINK | RESP, enquiry.sequence_number), 32.0)

        assert session.answered_enquiries == 1

    def test_an_unanswered_enquire_link_closes(self):
        """And what is in the window with it."""
        session = bound(enquire_link_s=30.0, response_timeout_s=10.0)
        session.tick(30.0)
        session.submit(BODY, "token", 35.0)

        assert session.tick(40.0) == [Unanswered("token", 35.0, session_over=True), Closed(CloseReason.SILENT)]

    def test_traffic_from_the_smsc_is_life(self):
        """An SMSC that delivers and is slow to answer is not dead."""
        session = bound(enquire_link_s=30.0, response_timeout_s=10.0)
        session.tick(30.0)
        session.receive(deliver(1), 35.0)

        assert session.tick(40.0) == []
        assert session.state is SessionState.BOUND

    def test_we_ask_even_while_the_smsc_talks(self):
        """Some SMSCs count only our requests and end sessions that make none."""
        session = bound(enquire_link_s=30.0)
        for number in range(1, 30):
            session.receive(deliver(number), float(number))
        session.take_outgoing()

        session.tick(30.0)

        assert [frame.command_id for frame in sent(session)] == [ENQUIRE_LINK]

    def test_a_closed_session_has_no_deadline(self):
        """The timer is not set again."""
        session = bound()
        session.receive_eof()

        assert session.next_deadline() is None
        assert session.tick(1e9) == []


class TestDelivering:
    def test_deliver_sm_is_not_answered_until_told_to(self):
        """Its content has to be committed first."""
        session = bound()

        (event,) = session.receive(deliver(9, b"YES"), 1.0)

        assert isinstance(event, Delivered)
        assert (event.sequence_number, event.pdu.short_message) == (9, b"YES")
        assert session.take_outgoing() == b""
        assert not session.is_quiet

        assert session.answer(9, 0)
        assert sent(session) == [Frame(DELIVER_SM | RESP, 0, 9, b"\0")]
        assert session.is_quiet

    def test_each_deliver_sm_is_answered_once(self):
        """The SMSC would take a second answer for that of another request."""
        session = bound()
        session.receive(deliver(9), 1.0)
        session.answer(9, 0x64)

        assert not session.answer(9, 0)
        assert not session.answer(10, 0)
        assert [frame.command_status for frame in sent(session)] == [0x64]

    @pytest.mark.parametrize("number", [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    def test_the_number_is_echoed_as_it_came(self, number):
        """The SMSC counts for itself, from 0 or above 0x7FFFFFFF, and may use a number that we use too."""
        session = bound()
        session.submit(BODY, "token", 1.0)
        session.take_outgoing()
        session.receive(deliver(number), 1.0)
        session.answer(number, 0)

        assert [frame.sequence_number for frame in sent(session)] == [number]
        assert len(session.window) == 1

    def test_a_number_used_twice_is_answered_twice(self):
        """An SMSC that repeats itself waits for both."""
        session = bound()
        session.receive(deliver(9) + deliver(9), 1.0)

        assert [session.answer(9, 0) for _ in range(3)] == [True, True, False]

    def test_above_the_limit_deliver_sm_is_put_off(self):
        """Memory is bounded; the SMSC sends it again."""
        session = bound(delivery_limit=2)

        events = session.receive(deliver(1) + deliver(2) + deliver(3), 1.0)

        assert [type(event) for event in events] == [Delivered, Delivered, Unexpected]
        assert events[2].kind == "overload"
        assert sent(session) == [Frame(DELIVER_SM | RESP, 0x58, 3, b"\0")]
        session.answer(1, 0)
        assert isinstance(session.receive(deliver(3), 1.0)[0], Delivered)

    def test_one_that_cannot_be_read_is_refused_and_kept(self):
        """generic_nack would make many SMSCs end the session and deliver the same again."""
        session = bound()

        (event,) = session.receive(malformed_deliver(9), 1.0)

        assert isinstance(event, Undecodable)
        assert (event.sequence_number, event.command_status, event.octets) == (9, 0x65, malformed_deliver(9))
        assert "source_addr" in event.problem
        assert sent(session) == [Frame(DELIVER_SM | RESP, 0x65, 9, b"\0")]
        assert session.state is SessionState.BOUND

    def test_no_answer_leaves_after_the_end(self):
        """The SMSC delivers it again on the next session."""
        session = bound()
        session.receive(deliver(9), 1.0)
        session.receive_eof()

        assert not session.answer(9, 0)
        assert session.take_outgoing() == b""


class TestRequestsOfTheSmsc:
    def test_enquire_link_is_answered_below_the_application(self):
        """No event, the same number."""
        session = bound()

        assert session.receive(pdu(ENQUIRE_LINK, 0x80000001), 1.0) == []
        assert sent(session) == [Frame(ENQUIRE_LINK | RESP, 0, 0x80000001, b"")]

    @pytest.mark.parametrize("command_id", [0x07, 0x08, 0x0B, 0x0001_0000, 0x7FFF_FFFF])
    def test_an_unknown_request_gets_generic_nack(self, command_id):
        """ESME_RINVCMDID with its number; the session goes on."""
        session = bound()

        assert session.receive(pdu(command_id, 5, b"\1\2\3"), 1.0) == [Unexpected("request", command_id, 5, 0)]
        assert sent(session) == [Frame(GENERIC_NACK, 0x03, 5, b"")]

    def test_a_malformed_request_gets_generic_nack(self):
        """Its number was good enough to answer."""
        session = bound()

        (event,) = session.receive(pdu(SUBMIT_SM, 5, b"x"), 1.0)

        assert event == Unexpected("request", SUBMIT_SM, 5, 0)
        assert [(frame.command_id, frame.sequence_number) for frame in sent(session)] == [(GENERIC_NACK, 5)]

    def test_a_status_in_a_request_is_ignored(self):
        """SMPP v3.4 section 3.2: command_status says something in answers alone."""
        session = bound()
        delivery, ask, leave = (
            deliver(5),
            pdu(ENQUIRE_LINK, 6, command_status=0x08),
            pdu(UNBIND, 7, command_status=0x58),
        )
        delivery = delivery[:8] + (0xFF).to_bytes(4) + delivery[12:]

        (event,) = session.receive(delivery + ask, 1.0)
        assert isinstance(event, Delivered)
        assert session.answer(5, 0)
        assert isinstance(session.receive(leave, 1.0)[0], UnbindReceived)

        assert [(frame.command_id, frame.command_status, frame.sequence_number) for frame in sent(session)] == [
            (ENQUIRE_LINK | RESP, 0, 6),
            (DELIVER_SM | RESP, 0, 5),
            (UNBIND | RESP, 0, 7),
        ]

    def test_an_unknown_answer_is_dropped(self):
        """An answer is never answered."""
        session = bound()

        assert session.receive(pdu(0x8000_0099, 5), 1.0) == [Unexpected("answer", 0x8000_0099, 5, 0)]
        assert session.take_outgoing() == b""

    @pytest.mark.parametrize("length", [0, 15, 70_001, 0xFFFFFFFF])
    def test_an_impossible_length_ends_the_session(self, length):
        """Nothing after it can be trusted: ESME_RINVCMDLEN with number 0, then the end."""
        session = bound()
        session.submit(BODY, "token", 0.5)
        session.take_outgoing()

        events = session.receive(deliver(1) + length.to_bytes(4) + bytes(12) + deliver(2), 1.0)

        assert [type(event) for event in events] == [Delivered, Unanswered, Closed]
        assert events[-1].reason is CloseReason.BROKEN_STREAM
        assert sent(session) == [Frame(GENERIC_NACK, 0x02, 0, b"")]
        assert session.receive(deliver(3), 1.0) == []


class TestTheEnd:
    def test_unbind_of_the_smsc_is_answered_and_ends_at_once(self):
        """What it has not answered by then, it will not: the window becomes unanswered."""
        session = bound()
        session.submit(BODY, "token", 1.0)
        session.take_outgoing()

        events = session.receive(pdu(UNBIND, 8) + deliver(9), 2.0)

        assert events == [
            UnbindReceived(),
            Unanswered("token", 1.0, session_over=True),
            Closed(CloseReason.PEER_UNBOUND),
        ]
        assert sent(session) == [Frame(UNBIND | RESP, 0, 8, b"")]
        with pytest.raises(NotBound):
            session.submit(BODY, "token", 2.0)

    def test_our_unbind_waits_for_answers_until_its_own(self):
        """The SMSC may answer what it has taken."""
        session = bound()
        number = session.submit(BODY, "first", 1.0)
        session.submit(BODY, "second", 1.0)
        session.receive(deliver(9), 1.0)
        session.take_outgoing()

        assert session.unbind(2.0) == []
        assert session.unbind(2.0) == []
        (unbind,) = sent(session)
        assert unbind.command_id == UNBIND
        with pytest.raises(NotBound):
            session.submit(BODY, "third", 2.0)
        assert session.receive(submit_resp(number), 2.1)[0].token == "first"
        assert session.answer(9, 0)
        session.receive(pdu(ENQUIRE_LINK, 10), 2.1)
        assert [frame.command_id for frame in sent(session)] == [DELIVER_SM | RESP, ENQUIRE_LINK | RESP]

        assert session.receive(pdu(UNBIND | RESP, unbind.sequence_number), 2.2) == [
            Unanswered("second", 1.0, session_over=True),
            Closed(CloseReason.UNBOUND),
        ]

    def test_an_unanswered_unbind_times_out(self):
        """Nobody waits for a dead SMSC."""
        session = bound(response_timeout_s=10.0)
        session.submit(BODY, "token", 1.0)
        session.unbind(2.0)

        assert session.next_deadline() == 12.0
        assert session.tick(11.9) == []
        assert session.tick(12.0) == [Unanswered("token", 1.0, session_over=True), Closed(CloseReason.UNBIND_TIMEOUT)]

    def test_generic_nack_to_our_unbind_is_its_answer(self):
        """We meant to leave."""
        session = bound()
        session.unbind(2.0)
        (unbind,) = sent(session)

        assert session.receive(pdu(GENERIC_NACK, unbind.sequence_number, command_status=3), 2.1) == [
            Closed(CloseReason.UNBOUND)
        ]

    def test_both_sides_may_unbind_at_once(self):
        """Both are answered and neither waits."""
        session = bound()
        session.unbind(2.0)
        session.take_outgoing()

        assert session.receive(pdu(UNBIND, 8), 2.1) == [UnbindReceived(), Closed(CloseReason.PEER_UNBOUND)]
        assert sent(session) == [Frame(UNBIND | RESP, 0, 8, b"")]

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (lambda session: session.receive_eof(), CloseReason.PEER_CLOSED),
            (lambda session: session.abort(), CloseReason.ABORTED),
            (lambda session: session.abort(CloseReason.FENCED), CloseReason.FENCED),
        ],
    )
    def test_however_the_socket_ends_the_window_is_told_once(self, end, reason):
        """Expired ones were told before."""
        session = bound(response_timeout_s=10.0, window_size=10)
        session.submit(BODY, "expired", 0.0)
        session.submit(BODY, "open", 5.0)
        session.tick(10.0)

        assert end(session) == [Unanswered("open", 5.0, session_over=True), Closed(reason)]
        assert end(session) == []
        assert session.unbind(11.0) == []
