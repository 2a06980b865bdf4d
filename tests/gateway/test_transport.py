"""The socket of a session, over real ones: fence, coalescing, back-pressure, the end."""

import asyncio
import contextlib
import socket
import struct
import time

import pytest
import uvloop

from gateway.session import (
    Bound,
    Closed,
    CloseReason,
    Delivered,
    Responded,
    Session,
    SessionSettings,
    SessionState,
    Unanswered,
)
from gateway.transport import Transport, connect
from tests.fakes.wire import (
    BIND_TRANSCEIVER,
    DELIVER_SM,
    ENQUIRE_LINK,
    RESP,
    SUBMIT_SM,
    UNBIND,
    bind_resp,
    deliver,
    frames,
    pdu,
    submit_resp,
)


def loopback() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs


class Wire:
    """A transport, and the SMSC's end of its socket."""

    def __init__(self, **settings) -> None:
        self.owns = True
        self.asked = 0
        self.events = []
        self.session = Session(
            SessionSettings(**({"kind": "transceiver", "system_id": "clinic", "password": "x"} | settings)),
            time.monotonic(),
        )
        self.socket, self.peer = loopback()
        self._changed = asyncio.Event()
        self.transport = Transport(self.socket, self.session, may_write=self._may_write, on_events=self._take)

    async def __aenter__(self):
        self.transport.start()
        return self

    async def __aexit__(self, *_):
        self.transport.close()
        self.peer.close()

    def _may_write(self) -> bool:
        self.asked += 1
        return self.owns

    def _take(self, events) -> None:
        self.events += events
        self._changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_closed(self) -> CloseReason:
        await self.until(lambda: self.events and isinstance(self.events[-1], Closed))
        return self.events[-1].reason

    async def say(self, octets: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, octets)

    async def bind(self) -> None:
        await self.hear(1)
        await self.say(bind_resp())
        await self.until(lambda: self.session.state is SessionState.BOUND)

    async def hear(self, count: int) -> list:
        """Read so many PDUs."""
        octets = b""
        async with asyncio.timeout(20.0):
            while True:
                with contextlib.suppress(AssertionError, struct.error):
                    if len(found := frames(octets)) >= count:
                        return found
                octets += await asyncio.get_running_loop().sock_recv(self.peer, 65_536)

    async def hear_the_end(self) -> bytes:
        """Read until the other side closes."""
        octets = b""
        async with asyncio.timeout(20.0):
            while part := await asyncio.get_running_loop().sock_recv(self.peer, 65_536):
                octets += part
        return octets

    def fill(self, count: int, octets: int) -> list[int]:
        return [self.session.submit(bytes(octets), number, time.monotonic()) for number in range(count)]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_session_lives_on_either_loop(new_loop):
    """The daemon runs on uvloop, many tests on the other."""

    async def life():
        async with Wire() as wire:
            await wire.bind()
            number = wire.session.submit(b"body", "token", time.monotonic())
            assert wire.transport.flush()
            (submit,) = await wire.hear(1)
            assert (submit.command_id, submit.body) == (SUBMIT_SM, b"body")
            await wire.say(submit_resp(number) + deliver(5))
            await wire.until(lambda: len(wire.events) == 3)
            assert wire.session.answer(5, 0)
            wire.transport.flush_soon()
            (answer,) = await wire.hear(1)
            assert answer.command_id == DELIVER_SM | RESP
            wire.transport.tell(wire.session.unbind(time.monotonic()))
            (unbind,) = await wire.hear(1)
            await wire.say(pdu(UNBIND | RESP, unbind.sequence_number))
            assert await wire.until_closed() is CloseReason.UNBOUND
            assert await wire.hear_the_end() == b""

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(life())


async def test_the_fence_is_asked_before_each_write():
    """The bind too: an account must not be bound from two hosts."""
    async with Wire() as wire:
        assert wire.asked == 1
        await wire.bind()
        wire.fill(3, 100)
        wire.transport.flush()
        assert wire.asked == 2
        wire.transport.flush()
        assert wire.asked == 2


async def test_what_the_fence_forbids_never_leaves():
    """Not one octet: the segments can be taken back and are in no doubt."""
    async with Wire() as wire:
        await wire.bind()
        wire.owns = False
        (number,) = wire.fill(1, 100)

        assert not wire.transport.flush()
        wire.session.withdraw(number)
        assert wire.transport.is_blocked
        assert not wire.transport.flush()

        assert await wire.until_closed() is CloseReason.FENCED
        assert not any(isinstance(event, Unanswered) for event in wire.events)
        assert await wire.hear_the_end() == b""


async def test_answers_of_one_turn_leave_in_one_write():
    """A commit that settles a hundred receipts costs one system call."""
    async with Wire() as wire:
        await wire.bind()
        await wire.say(b"".join(deliver(number) for number in range(1, 101)))
        await wire.until(lambda: sum(isinstance(event, Delivered) for event in wire.events) == 100)
        asked = wire.asked
        for number in range(1, 101):
            assert wire.session.answer(number, 0)
            wire.transport.flush_soon()

        answers = await wire.hear(100)

        assert [answer.sequence_number for answer in answers] == list(range(1, 101))
        assert wire.asked == asked + 1


def block(wire: Wire) -> int:
    """Submit until the kernel takes no more; give the number of segments."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    count = 0
    while not wire.transport.is_blocked:
        wire.fill(10, 60_000)
        count += 10
        assert wire.transport.flush()
    return count


async def test_the_rest_of_a_full_socket_follows():
    """Nothing is lost or repeated, and meanwhile nothing more should be submitted."""
    async with Wire(window_size=10_000) as wire:
        await wire.bind()
        count = block(wire)
        wire.session.submit(b"last", "last", time.monotonic())
        assert wire.transport.flush()

        submits = await wire.hear(count + 1)

        assert [submit.sequence_number for submit in submits] == list(range(2, count + 3))
        assert submits[-1].body == b"last"
        await wire.until(lambda: not wire.transport.is_blocked)


async def test_the_rest_is_not_written_once_the_fence_says_no():
    """Another process may own the link by now; the socket closes instead."""
    async with Wire(window_size=10_000) as wire:
        await wire.bind()
        count = block(wire)
        wire.owns = False

        octets = await wire.hear_the_end()

        assert await wire.until_closed() is CloseReason.FENCED
        assert len(octets) < count * 60_016
        assert sum(isinstance(event, Unanswered) for event in wire.events) == count


async def test_a_peer_that_reads_nothing_is_not_read_without_end():
    """Its enquiries would pile up as answers in our memory."""
    async with Wire(enquire_link_s=1000.0) as wire:
        await wire.bind()
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        flood = pdu(ENQUIRE_LINK, 9) * 4_096
        with contextlib.suppress(TimeoutError):
            for _ in range(500):
                async with asyncio.timeout(0.5):
                    await wire.say(flood)
        assert wire.transport.is_blocked
        assert len(wire.transport._rest) < 2 * 262_144

        await wire.hear(10_000)
        assert not wire.events[1:]


async def test_the_end_of_the_socket_ends_the_session():
    """Whatever is in the window becomes unanswered at once."""
    async with Wire() as wire:
        await wire.bind()
        wire.fill(2, 10)
        wire.transport.flush()
        await wire.hear(2)

        wire.peer.close()

        assert await wire.until_closed() is CloseReason.PEER_CLOSED
        assert [event.token for event in wire.events if isinstance(event, Unanswered)] == [0, 1]


async def test_a_reset_socket_ends_the_session():
    """A write that fails has written nothing: it can be taken back."""
    async with Wire() as wire:
        await wire.bind()
        wire.transport._reads = True
        asyncio.get_running_loop().remove_reader(wire.socket)
        wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.peer.close()
        (number,) = wire.fill(1, 10)

        assert not wire.transport.flush()
        wire.session.withdraw(number)

        assert await wire.until_closed() is CloseReason.PEER_CLOSED
        assert not any(isinstance(event, Unanswered) for event in wire.events)


async def test_deadlines_of_the_session_are_kept():
    """One timer, and an earlier deadline moves it."""
    started = time.monotonic()
    async with Wire(bind_timeout_s=0.05) as wire:
        assert await wire.until_closed() is CloseReason.BIND_TIMEOUT
        assert 0.05 <= time.monotonic() - started < 1.0


async def submitted(wire: Wire, count: int) -> bytes:
    """Submit, and give the answers that the SMSC would send."""
    await wire.bind()
    numbers = wire.fill(count, 10)
    assert wire.transport.flush()
    await wire.hear(count)
    return b"".join(map(submit_resp, numbers))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_answer_that_came_in_time_counts_however_late_it_is_read(new_loop):
    """A process that was stopped, or a long turn of the loop: uvloop runs its timers before it looks at sockets."""

    async def life():
        async with Wire(response_timeout_s=0.1) as wire:
            answers = await submitted(wire, 3)
            one, other = loopback()
            loop = asyncio.get_running_loop()
            stood_still = loop.create_future()

            def stand_still():  # where the loop waits for its sockets: after it, timers may come first
                loop.remove_reader(one)
                wire.peer.sendall(answers)
                time.sleep(0.3)
                stood_still.set_result(None)

            loop.add_reader(one, stand_still)
            with one, other:
                other.send(b"!")
                await stood_still
            await wire.until(lambda: len(wire.events) >= 4)

            assert [(type(event), event.token) for event in wire.events[1:]] == [(Responded, n) for n in range(3)]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(life())


async def test_an_answer_that_came_before_the_fence_fell_counts():
    """It is no write; and what it says keeps its segment out of doubt."""
    async with Wire() as wire:
        wire.peer.sendall(await submitted(wire, 3))  # the loop has no turn to read them in
        wire.owns = False
        (number,) = wire.fill(1, 10)
        assert not wire.transport.flush()
        wire.session.withdraw(number)

        assert await wire.until_closed() is CloseReason.FENCED
        assert [type(event) for event in wire.events[1:]] == [Responded] * 3 + [Closed]


async def test_an_answer_that_came_before_a_reset_counts():
    """The write that fails is the first to know of the reset; the answers lie in the socket still."""
    async with Wire() as wire:
        wire.peer.sendall(await submitted(wire, 3))  # the loop has no turn to read them in
        wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.peer.close()
        (number,) = wire.fill(1, 10)
        assert not wire.transport.flush()
        wire.session.withdraw(number)

        assert await wire.until_closed() is CloseReason.PEER_CLOSED
        assert [type(event) for event in wire.events[1:]] == [Responded] * 3 + [Closed]


async def test_a_deadline_waits_for_no_more_than_a_megabyte(monkeypatch):
    """A peer that sends without end holds up nothing."""
    monkeypatch.setattr("gateway.transport.READS_AT_ONCE", 1)
    async with Wire(response_timeout_s=0.1) as wire:
        await wire.bind()
        wire.fill(1, 10)
        wire.transport.flush()
        wire.peer.sendall(deliver(7) * 1_000)
        time.sleep(0.3)

        await wire.until(lambda: sum(isinstance(event, Delivered) for event in wire.events) == 1_000)

        told = next(n for n, event in enumerate(wire.events) if isinstance(event, Unanswered))
        assert 0 < told < 1_000


async def test_an_earlier_deadline_moves_the_timer():
    """A submit's time-out comes before the next enquire_link."""
    async with Wire(enquire_link_s=100.0, response_timeout_s=0.05) as wire:
        await wire.bind()
        wire.fill(1, 10)
        wire.transport.flush()

        await wire.until(lambda: any(isinstance(event, Unanswered) for event in wire.events))


async def test_a_broken_stream_is_answered_before_the_end():
    """The SMSC's operators find the reason in their log."""
    async with Wire() as wire:
        await wire.bind()
        await wire.say(bytes(16))

        assert [(frame.command_status, frame.sequence_number) for frame in frames(await wire.hear_the_end())] == [
            (2, 0)
        ]
        assert await wire.until_closed() is CloseReason.BROKEN_STREAM


async def test_closing_twice_is_closing_once():
    """Whoever gives up need not ask who was first."""
    async with Wire() as wire:
        (bind,) = await wire.hear(1)
        assert bind.command_id == BIND_TRANSCEIVER
        wire.transport.close()
        wire.transport.close()
        wire.transport.flush_soon()

        assert [type(event) for event in wire.events] == [Closed]
        assert not any(isinstance(event, Bound) for event in wire.events)


async def test_connect_gives_a_socket_without_delay():
    """Nagle's algorithm would hold a lone emergency back for an answer's time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connect("127.0.0.1", listener.getsockname()[1], local_address="127.0.0.2", timeout_s=5.0)
        with sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.getblocking()
            assert sock.getsockname()[0] == "127.0.0.2"


async def test_connect_tries_every_address_of_a_host(monkeypatch):
    """A name may have a dead address among good ones."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        async def addresses(*_, **__):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
        sock = await connect("smsc.example", port, local_address=None, timeout_s=5.0)
        assert sock.getpeername()[0] == "127.0.0.1"
        sock.close()


async def test_connect_fails_as_an_os_error():
    """Refused, or out of time: the link tries the next host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError):
        await connect("127.0.0.1", port, local_address=None, timeout_s=5.0)
    with pytest.raises(TimeoutError):
        await connect("127.0.0.1", port, local_address=None, timeout_s=0.0)
