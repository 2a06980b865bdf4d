"""The simulator: listens, gives message ids, sends receipts, and keeps a log of what came in which order.

An accepted message is answered `latency_s` later, and its receipt goes out a while after the answer, to any
session of the same account that receives. While none is there, receipts wait. A deliver_sm that is not answered
with success is sent again later, unless the ESME said that it can never take it.

What waits is bounded: above `held_limit` messages, submit_sm is answered with ESME_RMSGQFUL. A peer that does not
read is not read from either.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from gateway.smsc.deliveries import DELIVERED, Delivery, is_wanted, receipt, text_message
from gateway.smsc.session import Acknowledged, Asked, Event, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.pdu import Pdu

LOOPBACK: Final = "127.0.0.1"  # passwords and texts cross this wire in the clear: it stays on this host
OK: Final = 0x00
INVALID_DESTINATION: Final = 0x0B
INVALID_PASSWORD: Final = 0x0E
INVALID_SYSTEM_ID: Final = 0x0F
QUEUE_FULL: Final = 0x14
NEVER: Final = frozenset({0x03, 0x65, 0x66})  # answers to deliver_sm after which it is not sent again


@dataclass(frozen=True, slots=True)
class SmscSettings:
    """How the simulator behaves."""

    port: int = 0  # 0: any free one
    system_id: str = "simulator"
    accounts: Mapping[str, str] | None = field(default=None, repr=False)  # system_id -> password; None: everybody's
    latency_s: float = 0.0  # from submit_sm to its answer
    receipt_delay_s: tuple[float, float] = (0.0, 0.0)  # from the answer to the receipt: evenly between these
    deliver_window: int = 10  # deliver_sm unanswered at once, per session
    redelivery_s: float = 1.0  # until a deliver_sm that was refused for now is sent again
    held_limit: int = 100_000  # messages whose answer, receipt or delivery is still due
    log_limit: int = 100_000  # submit_sm that the log keeps


@dataclass(frozen=True, slots=True)
class Submitted:
    """One submit_sm that was read, in the order of the wire. Its repr shows no number and no text."""

    at: float  # monotonic seconds, when its octets were read
    session: int  # 1 is the first connection
    system_id: str  # of the ESME
    command_status: int  # of the answer
    message_id: str  # "" where it was refused
    pdu: Pdu


class Smsc:
    """A simulated SMSC on the loopback interface."""

    def __init__(
        self,
        settings: SmscSettings | None = None,
        *,
        outcome: Callable[[Submitted], int] = lambda _: DELIVERED,
        chance: random.Random | None = None,
    ) -> None:
        """Make a simulator that does nothing until `start`.

        `outcome` gives the final message_state of an accepted message; `chance` draws the delays of receipts.
        """
        self.settings = SmscSettings() if settings is None else settings
        self.log: deque[Submitted] = deque(maxlen=self.settings.log_limit)
        self.submitted = 0  # submit_sm read, refused ones included
        self.delivered = 0  # deliver_sm that were answered with success
        self.dropped = 0  # deliver_sm that the ESME said it can never take
        self.held = 0  # messages whose answer, receipt or delivery is still due
        self.port = self.settings.port
        self._outcome = outcome
        self._chance = random.Random() if chance is None else chance  # noqa: S311  # no secret
        self._connections: set[_Connection] = set()
        self._opened = 0
        self._waiting: dict[str, deque[Delivery]] = {}  # system_id -> deliveries for which no session had room
        self._start_id = secrets.token_hex(3)  # no message_id comes twice, not even after a restart
        self._accepted = 0
        self._references = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------ for whoever runs it

    async def start(self) -> None:
        """Listen; `port` tells where.

        Raises:
            OSError: the port is taken.

        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), LOOPBACK, self.settings.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in self._connections:
            connection.abort()
        await self.until(lambda: not self._connections)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        await self.stop()

    @property
    def bound(self) -> int:
        """Sessions that are bound."""
        return sum(connection.session.kind is not None for connection in self._connections)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds that a PDU or a connection brings about."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def send(self, source: str, destination: str, text: str, *, system_id: str) -> None:
        """Send a mobile-originated message to an account, from a number to one of its senders."""
        self._references += 1
        parts = text_message(source, destination, text, reference=self._references)
        self.held += len(parts)
        self._queue(system_id).extend(parts)
        self._pump(system_id)

    # ------------------------------------------------------------------ for its connections

    def opened(self, connection: _Connection) -> int:
        """Take a connection in and give its number."""
        self._connections.add(connection)
        self._opened += 1
        self._changed.set()
        return self._opened

    def closed(self, connection: _Connection, unanswered: list[Delivery]) -> None:
        """Let a connection go; what it had not acknowledged goes to another one, or waits."""
        self._connections.discard(connection)
        if unanswered:
            self._queue(connection.session.system_id).extendleft(reversed(unanswered))
            self._pump(connection.session.system_id)
        self._changed.set()

    def authenticate(self, system_id: str, password: str) -> int:
        """Give the command_status for these credentials."""
        accounts = self.settings.accounts
        if accounts is None:
            return OK
        if system_id not in accounts:
            return INVALID_SYSTEM_ID
        same = secrets.compare_digest(accounts[system_id].encode(), password.encode())
        return OK if same else INVALID_PASSWORD

    def take(self, connection: _Connection, events: list[Event], now: float) -> None:
        """Do what the peer asks for; its octets were read at `now`."""
        for event in events:
            if isinstance(event, Asked):
                self._submit(connection, event.pdu, now)
            elif isinstance(event, Acknowledged):
                self._acknowledged(connection, event)
        if connection.session.kind is not None:
            self._pump(connection.session.system_id)
        self._changed.set()

    # ------------------------------------------------------------------ inside

    def _submit(self, connection: _Connection, pdu: Pdu, now: float) -> None:
        command_status = OK
        if not pdu.text("destination_addr"):
            command_status = INVALID_DESTINATION
        elif self.held >= self.settings.held_limit:
            command_status = QUEUE_FULL
        message_id = ""
        if command_status == OK:
            self.held += 1
            self._accepted += 1
            message_id = f"{self._start_id}-{self._accepted:08d}"
        submitted = Submitted(now, connection.number, connection.session.system_id, command_status, message_id, pdu)
        self.log.append(submitted)
        self.submitted += 1
        if self.settings.latency_s and not command_status:
            loop = asyncio.get_running_loop()
            loop.call_later(self.settings.latency_s, self._answer, connection, submitted)
        else:
            self._answer(connection, submitted)

    def _answer(self, connection: _Connection, submitted: Submitted) -> None:
        """Answer, where the session is still there; what was accepted stays accepted without it."""
        connection.answer(submitted)
        if submitted.command_status:
            return
        state = self._outcome(submitted)
        if is_wanted(submitted.pdu.number("registered_delivery"), state):
            delay_s = self._chance.uniform(*self.settings.receipt_delay_s)
            loop = asyncio.get_running_loop()
            loop.call_later(delay_s, self._send_receipt, submitted, state, datetime.now(UTC))
        else:
            self.held -= 1
            self._changed.set()

    def _send_receipt(self, submitted: Submitted, state: int, submitted_on: datetime) -> None:
        made = receipt(submitted.pdu, submitted.message_id, state, submitted_on, datetime.now(UTC))
        self._queue(submitted.system_id).append(made)
        self._pump(submitted.system_id)

    def _acknowledged(self, connection: _Connection, event: Acknowledged) -> None:
        if event.command_status and event.command_status not in NEVER:
            loop = asyncio.get_running_loop()
            system_id = connection.session.system_id
            loop.call_later(self.settings.redelivery_s, self._deliver_again, system_id, event.delivery)
            return
        self.held -= 1
        if event.command_status:
            self.dropped += 1
        else:
            self.delivered += 1

    def _deliver_again(self, system_id: str, delivery: Delivery) -> None:
        self._queue(system_id).append(delivery)
        self._pump(system_id)

    def _queue(self, system_id: str) -> deque[Delivery]:
        return self._waiting.setdefault(system_id, deque())

    def _pump(self, system_id: str) -> None:
        """Hand what waits for an account to its sessions, the one with the most room first."""
        waiting = self._waiting.get(system_id)
        while waiting:
            ours = (one for one in self._connections if one.session.system_id == system_id)
            freest = max(ours, key=lambda one: one.room, default=None)
            if freest is None or freest.room <= 0:
                return
            freest.deliver(waiting.popleft())
        self._waiting.pop(system_id, None)


class _Connection(asyncio.Protocol):
    """One accepted socket: octets to its session and back, one write for all that a turn of the loop brings."""

    def __init__(self, smsc: Smsc) -> None:
        settings = smsc.settings
        self.session = Session(
            system_id=settings.system_id, authenticate=smsc.authenticate, deliver_window=settings.deliver_window
        )
        self.number = 0
        self._smsc = smsc
        self._transport: asyncio.Transport
        self._is_blocked = False  # the peer does not read
        self._flush_is_due = False

    @property
    def room(self) -> int:
        """Deliveries that may go now."""
        return 0 if self._is_blocked else self.session.room

    def answer(self, submitted: Submitted) -> None:
        """Answer a submit_sm, unless the session has ended."""
        if not self.session.is_over:
            self.session.answer(submitted.pdu.sequence_number, submitted.command_status, submitted.message_id)
            self._flush_soon()

    def deliver(self, delivery: Delivery) -> None:
        """Send a deliver_sm; there is room for it."""
        self.session.deliver(delivery)
        self._flush_soon()

    def abort(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    # Calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.number = self._smsc.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        now = time.monotonic()
        self._smsc.take(self, self.session.receive(data), now)
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        """End."""
        self._smsc.closed(self, self.session.end())

    def pause_writing(self) -> None:
        """Stop to read until the peer reads: what it asks for would pile up as answers."""
        self._is_blocked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_blocked = False
        self._transport.resume_reading()
        self._smsc.take(self, [], time.monotonic())

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport.is_closing():
            return
        octets = self.session.take_outgoing()
        if octets:
            self._transport.write(octets)
        if self.session.is_over:
            self._transport.close()
