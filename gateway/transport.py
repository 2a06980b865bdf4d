"""The socket of one session: dull on purpose.

It feeds what it reads to the session, writes what the session puts out, and keeps one timer, at the session's
next deadline. Writing is direct: `flush` calls the fence and then `send` on the socket itself, with nothing in
between, so what the fence forbids is in no buffer of ours. When the kernel's buffer is full the rest waits,
and it goes on only after the fence has said yes again; else the socket is closed.

What lies in the socket is read before a deadline or an end decides what was not answered: a process that stood
still, or a turn of the loop that took long, must not doubt what the SMSC has long answered.

All methods are called from the event loop's thread. `now` is time.monotonic() everywhere: uvloop's own clock
stands still within one turn of the loop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

from gateway.session import CloseReason, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.session import Event, Session
    from gateway.tls import Tls

READ_OCTETS = 16_384  # about 500 submit_sm_resp, 2 ms of work: the loop is not held longer
READS_AT_ONCE = 64  # a megabyte: the answers to any window; a peer that sends without end holds up no deadline
REST_OCTETS = 262_144  # a peer that does not read what we answer is not read either beyond this
SHORTEST_TIMER_S = 0.001  # uvloop counts in milliseconds: a shorter wait would spin


async def connect(host: str, port: int, *, local_address: str | None, timeout_s: float) -> socket.socket:
    """Open a socket to the first address of `host` that answers.

    Raises OSError; a time-out is one (TimeoutError).
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if local_address is not None:
                    sock.bind((local_address, 0))
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure


class Transport:
    """One connected socket and the session on it."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        *,
        may_write: Callable[[], bool],
        on_events: Callable[[list[Event]], None],
        tls: Tls | None = None,
    ) -> None:
        self.session = session
        self._socket = sock
        self._may_write = may_write
        self._on_events = on_events
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._rest = b""  # what the kernel did not take yet
        self._reads = False
        self._is_ending = False  # the fence said no, or the socket failed: nothing is written any more
        self._is_closed = False
        self._flush_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def start(self) -> None:
        """Begin to read, and write the bind."""
        self._read_on()
        self.flush()

    @property
    def is_blocked(self) -> bool:
        """Say whether more submits would only wait in our memory."""
        return bool(self._rest) or self._is_ending

    def flush(self) -> bool:
        """Write what the session has put out, in one piece.

        False: not one octet of it has reached the kernel, nor ever will; the session is about to be closed.
        """
        self._arm()
        if self._is_ending:
            self.session.take_outgoing()
            return False
        try:
            octets = self._take_outgoing()
            if self._rest:
                self._rest += octets
                self._read_on()
            elif octets and not self._may_write():
                self._end_soon(CloseReason.FENCED)
                return False
            elif octets:
                self._send(octets)
        except OSError:
            self._end_soon(CloseReason.PEER_CLOSED)
            return False
        return True

    def flush_soon(self) -> None:
        """Flush once in this turn of the loop, however often this is called."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_now)

    def close(self, reason: CloseReason = CloseReason.ABORTED) -> None:
        """Close the socket at once; the session tells what that leaves unanswered."""
        self._is_ending = True
        self._read_what_lies()
        events = self.session.abort(reason)
        self._close()
        if events:
            self._on_events(events)

    def tell(self, events: list[Event]) -> None:
        """Pass on what a call of ours to the session brought, and do what follows from it."""
        self._on_events(events)
        self.flush()
        if self.session.state is SessionState.CLOSED:
            self._close()

    # Reading

    def _readable(self) -> bool:
        """Read once; False: nothing lay there."""
        try:
            octets = self._socket.recv(READ_OCTETS)
            ended = not octets
            if self._tls is not None and octets:
                octets = self._tls.receive(octets)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # a TLS failure is one
            octets, ended = b"", True
        self.tell(self.session.receive_eof() if ended else self.session.receive(octets, time.monotonic()))
        return True

    def _read_what_lies(self) -> None:
        for _ in range(READS_AT_ONCE):
            if not self._reads or not self._readable():
                break

    def _read_on(self) -> None:
        """Read, unless too much of what we answered waits to be taken."""
        wanted = len(self._rest) <= REST_OCTETS and not self._is_closed
        if wanted and not self._reads:
            self._loop.add_reader(self._socket, self._readable)
        elif self._reads and not wanted:
            self._loop.remove_reader(self._socket)
        self._reads = wanted

    # Writing

    def _flush_now(self) -> None:
        self._flush_is_due = False
        if not self._is_closed:
            self.tell([])

    def _take_outgoing(self) -> bytes:
        octets = self.session.take_outgoing()
        if self._tls is None:
            return octets
        self._tls.send(octets)
        return self._tls.take_outgoing()

    def _send(self, octets: bytes) -> None:
        """Hand octets to the kernel, and keep what it does not take. Raises OSError."""
        try:
            sent = self._socket.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(octets):
            if not self._rest:
                self._loop.add_writer(self._socket, self._writable)
            self._rest = octets[sent:]
            self._read_on()
        elif self._rest:
            self._rest = b""
            self._loop.remove_writer(self._socket)
            self._read_on()

    def _writable(self) -> None:
        if not self._may_write():
            self._end_now(CloseReason.FENCED)
            return
        try:
            self._send(self._rest)
        except OSError:
            self._end_now(CloseReason.PEER_CLOSED)
            return
        if not self._rest:
            self.tell([])  # there is room again

    # Time

    def _arm(self) -> None:
        """Keep the timer at the session's next deadline; one that is too early does no harm, so it stays."""
        deadline = self.session.next_deadline()
        if deadline is None or self._is_closed or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(SHORTEST_TIMER_S, deadline - time.monotonic())
        self._timer_at = deadline
        self._timer = self._loop.call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._read_what_lies()
        if not self._is_closed:
            self.tell(self.session.tick(time.monotonic()))

    # The end

    def _end_soon(self, reason: CloseReason) -> None:
        """End in the next turn of the loop: whoever flushes is in the middle of something."""
        self._is_ending = True
        self._loop.call_soon(self._end_now, reason)

    def _end_now(self, reason: CloseReason) -> None:
        self._is_ending = True
        if not self._is_closed:
            self.close(reason)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = self._is_ending = True
        self._rest = b""
        self._read_on()
        self._loop.remove_writer(self._socket)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
