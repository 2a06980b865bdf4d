"""One accepted socket: octets to its session and back, one write for all that a turn of the loop brings.

Where the simulator has a plan, it is asked here about each PDU read and each PDU written: silence, resets, garbage and
dribbles are made on the socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.pdu import CommandId
from gateway.smsc.session import Session
from gateway.smsc.spoil import SPOILED, spoiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.smsc.deliveries import Delivery
    from gateway.smsc.faults import Kind, Plan
    from gateway.smsc.inquiries import Inquired
    from gateway.smsc.smsc import Smsc, Submitted

UNBIND_WAIT_S: Final = 5.0  # for the answer to our unbind
HTTP: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NOBODYS: Final = 0x4000_0000  # away from every sequence_number in use: a number that the ESME never gave
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Connection(asyncio.Protocol):
    """One connection of the simulator."""

    def __init__(self, smsc: Smsc) -> None:
        settings = smsc.settings
        is_looked_at = smsc.plan is not None or smsc.pdu_log is not None
        self.session = Session(
            system_id=settings.system_id,
            authenticate=smsc.authenticate if smsc.plan is None else self._authenticate,
            deliver_window=settings.deliver_window,
            first_sequence_number=settings.first_sequence_number,
            admit=self._admit if is_looked_at else None,
        )
        self.number = 0
        self._smsc = smsc
        self._transport: asyncio.Transport
        self._is_blocked = False  # the peer does not read
        self._flush_is_due = False
        self._quiet_until = 0.0  # monotonic: nothing is written before
        self._is_gathering = False  # a coalesce holds what is outgoing
        self._held: list[Submitted] = []  # answers that go out last first
        self._drops: deque[tuple[bytes, float]] = deque()  # octets to write, and the seconds until the next ones

    @property
    def room(self) -> int:
        """Deliveries that may go now."""
        return 0 if self._is_blocked else self.session.room

    def answer(self, submitted: Submitted) -> None:
        """Answer a submit_sm, unless the session has ended."""
        session, treatment, number = self.session, submitted.treatment, submitted.pdu.sequence_number
        if session.is_over or session.is_unbinding:
            return
        if treatment.is_strayed:
            session.answer(number ^ NOBODYS, 0, submitted.message_id)
        if treatment.nack:
            session.nack(number if treatment.is_named else 0, submitted.command_status)
        else:
            session.answer(number, submitted.command_status, submitted.message_id)
        if treatment.is_doubled:
            session.repeat()
        self._flush_soon()

    def answer_inquiry(self, asked: Inquired, command_status: int, body: bytes = b"") -> None:
        """Answer a query_sm or cancel_sm."""
        self.session.answer_inquiry(asked, command_status, body)
        self._flush_soon()

    def answer_in_reverse(self, submitted: Submitted, batch: int, wait_s: float) -> None:
        """Answer once so many answers are held, or after a while."""
        if not self._held:
            asyncio.get_running_loop().call_later(wait_s, self._release)
        self._held.append(submitted)
        if len(self._held) >= batch:
            self._release()

    def _release(self) -> None:
        while self._held:
            self.answer(self._held.pop())

    def deliver(self, delivery: Delivery) -> None:
        """Send a deliver_sm; there is room for it."""
        self.session.deliver(delivery)
        self._flush_soon()

    def enquire(self) -> None:
        """Send an enquire_link, where the session is bound and its peer reads."""
        if self.session.kind is not None and not (self.session.is_over or self._is_blocked):
            self.session.enquire()
            self._flush_soon()

    def unbind(self) -> None:
        """Unbind, where the session is bound; without an answer the connection ends all the same."""
        if self.session.kind is not None and not (self.session.is_over or self.session.is_unbinding):
            self.session.unbind()
            self._flush_soon()
            asyncio.get_running_loop().call_later(UNBIND_WAIT_S, self.abort)

    def abort(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def reset(self) -> None:
        """End the connection with RST: what the peer still writes meets an error."""
        self.session.is_over = True
        if not self._transport.is_closing():
            self._log_event("reset")
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()

    def _end_with(self, octets: bytes) -> None:
        """End the connection with these octets as the last ones; without any, by RST."""
        if octets:
            self._transport.write(octets)
            self._transport.close()
            self.session.is_over = True
        else:
            self.reset()

    def note(self, sequence_number: int, *, behaviour: str | None = None, faults: Sequence[str] = ()) -> None:
        """Log that what happens to a PDU is on purpose."""
        if self._smsc.pdu_log is not None:
            facts: dict[str, object] = {"sequence_number": sequence_number}
            if behaviour is not None:
                facts["behaviour"] = behaviour
            if faults:
                facts["faults"] = list(faults)
            self._log_event("on_purpose", **facts)

    # Calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.number = self._smsc.opened(self)
        self._log_event("connected")

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        now = time.monotonic()
        self._smsc.take(self, self.session.receive(data), now)
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        """End."""
        self._log_event("closed")
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

    # Reading

    def _authenticate(self, system_id: str, password: str) -> int:
        """Give the command_status of a bind; good credentials may meet a fault."""
        command_status = self._smsc.authenticate(system_id, password)
        plan = self._smsc.plan
        if command_status or plan is None:
            return command_status
        for kind, octets in (("drop_bind", b""), ("http", HTTP)):
            if plan.strike(kind, self._smsc.elapsed_s):  # type: ignore[arg-type]  # a kind each
                self._log_event("on_purpose", faults=[kind])
                self._end_with(octets)
                return 0
        if slow := plan.strike("slow_bind", self._smsc.elapsed_s):
            self._quiet_until = time.monotonic() + plan.drawn(slow.seconds)
            self._log_event("on_purpose", faults=["slow_bind"])
        if refusal := plan.strike("refuse_bind", self._smsc.elapsed_s):
            self._log_event("on_purpose", faults=["refuse_bind"])
            return refusal.command_status
        return 0

    def _admit(self, frame: bytes) -> bool:
        """Say whether a PDU is acted on."""
        if self._smsc.pdu_log is not None:
            self._smsc.pdu_log.frame(self.number, "in", self.session.system_id, frame)
        if self.session.kind is None:
            return True
        if self._strikes("reset", frame):
            self.reset()
            return False
        if self._strikes("silence", frame):
            return False
        is_enquiry = int.from_bytes(frame[4:8]) == CommandId.ENQUIRE_LINK
        return not (is_enquiry and self._strikes("mute_enquire_link", frame))

    def _strikes(self, kind: Kind, frame: bytes) -> bool:
        plan = self._smsc.plan
        if plan is None or plan.strike(kind, self._smsc.elapsed_s) is None:
            return False
        self.note(int.from_bytes(frame[12:16]), faults=(kind,))
        return True

    # Writing

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        quiet_s = self._quiet_until - time.monotonic() if self._quiet_until else 0.0
        if quiet_s > 0:
            asyncio.get_running_loop().call_later(quiet_s, self._flush)  # it stays due
            return
        plan = self._smsc.plan
        if self._is_gathering or self.session.kind is None:
            plan = None
        if plan is not None and (hold := plan.strike("coalesce", self._smsc.elapsed_s)):
            self._is_gathering = True
            asyncio.get_running_loop().call_later(plan.drawn(hold.seconds), self._flush)
            return
        self._is_gathering = False
        self._flush_is_due = False
        if self._transport.is_closing():
            return
        if self._smsc.plan is None and self._smsc.pdu_log is None:
            octets = self.session.take_outgoing()
            if octets:
                self._transport.write(octets)
        else:
            self._write_each(self._smsc.plan)
        if self.session.is_over and not self._drops:
            self._transport.close()

    def _write_each(self, plan: Plan | None) -> None:
        """Write what is outgoing, PDU by PDU, with whatever happens to each."""
        whole = []  # PDUs to which nothing happens: one write for all of them
        for frame in self.session.take_frames():
            if plan is not None:
                now_s = self._smsc.elapsed_s
                is_answer = int.from_bytes(frame[4:8]) == CommandId.SUBMIT_SM_RESP
                number = int.from_bytes(frame[12:16])
                for kind in SPOILED.get(int.from_bytes(frame[4:8]), ()):
                    if fault := plan.strike(kind, now_s):
                        before, frame = spoiled(fault, frame, plan.chance)  # noqa: PLW2901
                        whole.append(before)
                        self.note(number, faults=(kind,))
                if is_answer and plan.strike("reset_in_pdu", now_s):
                    self.note(number, faults=("reset_in_pdu",))
                    half = frame[: len(frame) // 2]
                    self._transport.write(b"".join((*(octets for octets, _ in self._drops), *whole, half)))
                    self.reset()
                    return
                if dribble := plan.strike("dribble", now_s):
                    self.note(number, faults=("dribble",))
                    self._write(b"".join(whole))
                    whole.clear()
                    self._dribble(frame, plan.drawn(dribble.seconds))
                    self._log_frame(frame)
                    continue
            self._log_frame(frame)
            whole.append(frame)
        self._write(b"".join(whole))

    def _write(self, octets: bytes) -> None:
        """Write octets, behind those that dribble."""
        if octets and self._drops:
            self._drops.append((octets, 0.0))
        elif octets:
            self._transport.write(octets)

    def _dribble(self, frame: bytes, pause_s: float) -> None:
        is_first = not self._drops
        self._drops.extend((frame[at : at + 1], pause_s) for at in range(len(frame)))
        if is_first:
            self._drip()

    def _drip(self) -> None:
        """Write the next octets that dribble; after the last ones a session that is over ends."""
        if self._transport.is_closing():
            self._drops.clear()
            return
        octets, pause_s = self._drops[0]
        self._transport.write(octets)
        self._drops.popleft()
        if self._drops:
            asyncio.get_running_loop().call_later(pause_s, self._drip)
        elif self.session.is_over:
            self._transport.close()

    def _log_frame(self, frame: bytes) -> None:
        if self._smsc.pdu_log is not None:
            self._smsc.pdu_log.frame(self.number, "out", self.session.system_id, frame)

    def _log_event(self, event: str, **facts: object) -> None:
        if self._smsc.pdu_log is not None:
            self._smsc.pdu_log.event(event, connection=self.number, system_id=self.session.system_id, **facts)
