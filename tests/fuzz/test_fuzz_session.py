"""Any octets give events, in any state and in any pieces; nothing is raised, and nothing grows."""

import random

import pytest

from gateway.pdu import MAX_PDU_OCTETS
from gateway.session import Closed, Failed, Responded, Session, SessionSettings, SessionState, Unanswered
from tests.fakes.wire import bind_resp, deliver, frames, malformed_deliver, pdu, submit_resp
from tests.fuzz.mutation import mutated

ROUNDS = 400
SEEDS = range(4)
CORPUS = [
    bind_resp(),
    bind_resp(command_status=0x0E),
    submit_resp(2),
    submit_resp(3, command_status=0x58),
    submit_resp(4, b"0" * 64),
    deliver(1),
    deliver(2, b"id:1 stat:DELIVRD", esm_class=4),
    malformed_deliver(3),
    pdu(0x15, 5),
    pdu(0x80000015, 5),
    pdu(0x06, 6),
    pdu(0x80000000, 0, command_status=2),
    pdu(0x80000000, 3, command_status=3),
    pdu(0x0B, 7, b"smsc\0secret\0"),
    pdu(0x103, 8, b"\0" * 20),
    b"\0\0\0\3",
    b"\xff\xff\xff\xff",
]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_octets_give_events_and_nothing_else(seed):
    """The peer is not ours: it may be broken, or hostile."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        session = Session(
            SessionSettings(kind="transceiver", system_id="clinic", password="secret", window_size=5), 0.0
        )
        if chance.random() < 0.8:
            session.receive(bind_resp(), 0.0)
        accepted = 0
        events = []
        now = 0.0
        stream = b"".join(mutated(chance, chance.choice(CORPUS)) for _ in range(chance.randrange(1, 12)))
        while stream:
            if session.free(lane0=True) and chance.random() < 0.5:
                session.submit(b"body", accepted, now)
                accepted += 1
            size = chance.randrange(1, 60)
            piece, stream = stream[:size], stream[size:]
            events += session.receive(piece, now)
            now += chance.random()
            events += session.tick(now)
            assert len(session._reader) <= MAX_PDU_OCTETS + size
            frames(session.take_outgoing())  # whole PDUs, whatever came
        events += session.receive_eof()

        outcomes = [
            event.token
            for event in events
            if isinstance(event, Unanswered) or (isinstance(event, Responded) and not event.late)
        ]
        assert sorted(outcomes) == list(range(accepted))
        assert not [event for event in events if isinstance(event, Failed)]
        assert sum(isinstance(event, Closed) for event in events) == 1
        assert session.state is SessionState.CLOSED


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_is_survived(seed):
    """Octets that never were a PDU."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        session = Session(SessionSettings(kind="transceiver", system_id="clinic", password="secret"), 0.0)
        for _ in range(chance.randrange(1, 8)):
            session.receive(chance.randbytes(chance.randrange(200)), 0.0)
        frames(session.take_outgoing())
