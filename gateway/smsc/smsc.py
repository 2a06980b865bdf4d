"""The simulator: listens, gives message ids, sends receipts, and keeps a log of what came in which order.

An accepted message is answered `latency_s` later, and its receipt goes out a while after the answer, to any
session of the same account that receives. While none is there, receipts wait. A deliver_sm that is not answered
with success is sent again later, unless the ESME said that it can never take it.

query_sm and cancel_sm are answered at once, from what is remembered of the last `log_limit` accepted messages; a
receipt says DELETED after a cancel.

What waits is bounded: above `held_limit` messages, submit_sm is answered with ESME_RMSGQFUL. A peer that does not
read is not read from either.

A plan (``faults.py``) makes it misbehave; without one nothing is asked and nothing goes wrong.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from gateway.pdu import Pdu
from gateway.smsc import traffic
from gateway.smsc.connection import Connection
from gateway.smsc.deliveries import (
    DELETED,
    DELIVERED,
    ENROUTE,
    INTERMEDIATE,
    RECEIPT,
    Delivery,
    is_wanted,
    receipt,
    text_message,
)
from gateway.smsc.faults import PLAIN, Treatment
from gateway.smsc.ids import MessageIds
from gateway.smsc.inquiries import CANCEL_SM, Inquired, Message, Messages, state_body
from gateway.smsc.session import Acknowledged, Asked, Event
from gateway.smsc.settings import SmscSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.smsc.faults import Plan
    from gateway.smsc.pdulog import PduLog

LOOPBACK: Final = "127.0.0.1"  # passwords and texts cross this wire in the clear: it stays on this host
OK: Final = 0x00
INVALID_DESTINATION: Final = 0x0B
INVALID_PASSWORD: Final = 0x0E
INVALID_SYSTEM_ID: Final = 0x0F
QUEUE_FULL: Final = 0x14
NEVER: Final = frozenset({0x03, 0x65, 0x66})  # answers to deliver_sm after which it is not sent again


@dataclass(frozen=True, slots=True)
class Submitted:
    """One submit_sm that was read, in the order of the wire. Its repr shows no number and no text."""

    at: float  # monotonic seconds, when its octets were read
    session: int  # 1 is the first connection
    system_id: str  # of the ESME
    command_status: int  # of the answer
    message_id: str  # "" where it was refused
    pdu: Pdu
    receipt_id: str = ""  # what its receipt calls it
    treatment: Treatment = PLAIN  # what the plan has decided


class Smsc:
    """A simulated SMSC on the loopback interface."""

    def __init__(
        self,
        settings: SmscSettings | None = None,
        *,
        outcome: Callable[[Submitted], int] = lambda _: DELIVERED,
        chance: random.Random | None = None,
        plan: Plan | None = None,
        pdu_log: PduLog | None = None,
        messages: Iterable[traffic.Scheduled] = (),
    ) -> None:
        """Make a simulator that does nothing until `start`.

        `outcome` gives the final message_state of an accepted message; `chance` draws the delays and the first
        message id; `plan` says what goes wrong, `pdu_log` is told every PDU, and `messages` are sent by themselves.
        """
        self.settings = SmscSettings() if settings is None else settings
        self.plan = plan
        self.pdu_log = pdu_log
        self.log: deque[Submitted] = deque(maxlen=self.settings.log_limit)
        self.submitted = 0  # submit_sm read, refused ones included
        self.delivered = 0  # deliver_sm that were answered with success
        self.dropped = 0  # deliver_sm that the ESME said it can never take
        self.held = 0  # messages whose answer, receipt or delivery is still due
        self.port = self.settings.port
        self._outcome = outcome
        self._chance = random.Random() if chance is None else chance  # noqa: S311  # no secret
        self._connections: set[Connection] = set()
        self._opened = 0
        self._waiting: dict[str, deque[Delivery]] = {}  # system_id -> deliveries for which no session had room
        start = secrets.randbits(64) if chance is None else chance.getrandbits(64)  # a restart gives other ids
        self._ids = MessageIds(self.settings.message_ids, self.settings.receipt_message_ids, start=start)
        self._accepted = Messages(self.settings.log_limit)
        self._references = 0
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._changed = asyncio.Event()
        self._started_at = 0.0
        self._messages = tuple(messages)
        self._traffic: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------ for whoever runs it

    async def start(self) -> None:
        """Listen; `port` tells where.

        Raises:
            OSError: the port is taken.

        """
        loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._server = await loop.create_server(lambda: Connection(self), LOOPBACK, self.settings.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._started_at = time.monotonic()
        if self.plan is not None:
            self._traffic += [asyncio.create_task(traffic.flood(self, one)) for one in self.plan if one.is_flood]
        self._traffic += [asyncio.create_task(traffic.schedule(self, message)) for message in self._messages]

    async def stop(self) -> None:
        """End all connections."""
        if self._server is None:
            return
        self._is_stopping = True
        self._server.close()
        self._server = None
        for task in self._traffic:
            task.cancel()
        ended = await asyncio.gather(*self._traffic, return_exceptions=True)
        self._traffic.clear()
        for connection in self._connections:
            connection.abort()
        await self.until(lambda: not self._connections)
        for failure in ended:
            if isinstance(failure, Exception):  # a cancelled task is none
                raise failure

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

    @property
    def elapsed_s(self) -> float:
        """Seconds since it listens."""
        return time.monotonic() - self._started_at

    @property
    def connections(self) -> list[Connection]:
        """Connections that are open, oldest first."""
        return sorted(self._connections, key=lambda one: one.number)

    def receivers(self) -> list[str]:
        """Accounts with a session that receives, in alphabetical order."""
        return sorted({one.session.system_id for one in self._connections if one.session.receives})

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds that a PDU or a connection brings about."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def send(self, source: str, destination: str, text: str, *, system_id: str) -> None:
        """Send a mobile-originated message to an account, from a number to one of its senders."""
        self._references += 1
        self.push(text_message(source, destination, text, reference=self._references), system_id=system_id)

    def push(self, deliveries: Iterable[Delivery], *, system_id: str) -> None:
        """Send deliveries to an account, in this order; they wait where no session of it receives."""
        for delivery in deliveries:
            self.held += 1
            self._queue(system_id).append(delivery)
        self._pump(system_id)

    # ------------------------------------------------------------------ for its connections

    def opened(self, connection: Connection) -> int:
        """Take a connection in and give its number; one that was accepted in the last moment ends with the others."""
        self._connections.add(connection)
        self._opened += 1
        self._changed.set()
        if self._is_stopping:
            connection.abort()
        return self._opened

    def closed(self, connection: Connection, unanswered: list[Delivery]) -> None:
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

    def take(self, connection: Connection, events: list[Event], now: float) -> None:
        """Do what the peer asks for; its octets were read at `now`."""
        for event in events:
            if isinstance(event, Asked):
                self._submit(connection, event.pdu, now)
            elif isinstance(event, Inquired):
                self._inquire(connection, event, now)
            elif isinstance(event, Acknowledged):
                self._acknowledged(connection, event)
        if connection.session.kind is not None:
            self._pump(connection.session.system_id)
        self._changed.set()

    # ------------------------------------------------------------------ inside

    def _submit(self, connection: Connection, pdu: Pdu, now: float) -> None:
        destination = pdu.text("destination_addr")
        treatment = PLAIN
        if not destination:
            treatment = Treatment(INVALID_DESTINATION)
        elif self.held >= self.settings.held_limit:
            treatment = Treatment(QUEUE_FULL)
        elif self.plan is not None:
            treatment = self.plan.treatment(destination, now - self._started_at)
        message_id = receipt_id = ""
        if treatment.is_taken and not treatment.command_status:
            self.held += 1
            message_id, receipt_id = self._ids.next()
        system_id = connection.session.system_id
        submitted = Submitted(
            now, connection.number, system_id, treatment.command_status, message_id, pdu, receipt_id, treatment
        )
        self.log.append(submitted)
        self.submitted += 1
        if treatment.behaviour is not None or treatment.faults:
            connection.note(pdu.sequence_number, behaviour=treatment.behaviour, faults=treatment.faults)
        if treatment.unbinds:
            connection.unbind()
        if not treatment.is_taken:
            return
        delay_s = treatment.delay_s
        if self.settings.latency_s and not treatment.command_status:
            delay_s += self._drawn(self.settings.latency_s)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._answer, connection, submitted)
        else:
            self._answer(connection, submitted)

    def _answer(self, connection: Connection, submitted: Submitted) -> None:
        """Answer, where the session is still there; what was accepted stays accepted without it."""
        treatment, is_accepted = submitted.treatment, not submitted.command_status
        is_first = self.settings.receipt_first
        if is_accepted and is_first:
            self._send_receipts(submitted)
        if treatment.is_answered and treatment.reorder is not None:
            connection.answer_in_reverse(submitted, *treatment.reorder)
        elif treatment.is_answered:
            connection.answer(submitted)
        if is_accepted and not is_first:
            self._send_receipts(submitted)

    def _drawn(self, span: float | tuple[float, float]) -> float:
        return self._chance.uniform(*span) if isinstance(span, tuple) else span

    def _send_receipts(self, submitted: Submitted) -> None:
        """Send what was asked for, and let the message go where that is nothing."""
        state = submitted.treatment.message_state
        if state is None:
            state = self._outcome(submitted)
        now = datetime.now(UTC)
        delay_s = 0.0 if self.settings.receipt_first else self._drawn(self.settings.receipt_delay_s)
        message = Message(submitted, state, now, time.monotonic(), delay_s)
        self._accepted.remember(message)
        if not (submitted.treatment.has_receipt and is_wanted(submitted.pdu.number("registered_delivery"), state)):
            self.held -= 1
            self._changed.set()
            return
        if self.settings.intermediate != "none":
            self.held += 1
            self._send_receipt(submitted, ENROUTE, now)
        if delay_s:
            loop = asyncio.get_running_loop()
            message.receipt_timer = loop.call_later(delay_s, self._send_receipt, submitted, state, now)
        else:
            self._send_receipt(submitted, state, now)

    def _inquire(self, connection: Connection, asked: Inquired, now: float) -> None:
        """Answer a query_sm or cancel_sm, and do what a cancel_sm asks for."""
        command_status, message = self._accepted.judge(asked, connection.session.system_id, now)
        if command_status or message is None:
            connection.answer_inquiry(asked, command_status)
        elif asked.command_id == CANCEL_SM:
            connection.answer_inquiry(asked, OK)
            self._delete(message, now)
        else:
            connection.answer_inquiry(asked, OK, state_body(message, now, self.settings.receipt_error))

    def _delete(self, message: Message, now: float) -> None:
        """Take a message back, with the receipt that says so in the place of the one that was due."""
        message.delete(now, datetime.now(UTC))
        if message.receipt_timer is None:
            self.held += 1
        else:
            message.receipt_timer.cancel()
        submitted = message.submitted
        if submitted.treatment.has_receipt and is_wanted(submitted.pdu.number("registered_delivery"), DELETED):
            self._send_receipt(submitted, DELETED, message.submitted_on)
        else:
            self.held -= 1

    def _send_receipt(self, submitted: Submitted, state: int, submitted_on: datetime) -> None:
        settings = self.settings
        esm_class = None
        if state == ENROUTE:
            esm_class = INTERMEDIATE if settings.intermediate == "notification" else RECEIPT
        made = receipt(
            submitted.pdu,
            submitted.receipt_id,
            state,
            submitted_on,
            datetime.now(UTC),
            error=0 if state in {DELIVERED, ENROUTE} or not settings.receipt_error else settings.receipt_error,
            dialect=settings.receipts,
            esm_class=esm_class,
        )
        copies = 1 if state == ENROUTE else settings.receipt_copies
        self.held += copies - 1
        for _ in range(copies):
            self._queue(submitted.system_id).append(made)
        self._pump(submitted.system_id)

    def _acknowledged(self, connection: Connection, event: Acknowledged) -> None:
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
