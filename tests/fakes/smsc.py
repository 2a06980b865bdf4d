"""A scripted SMSC on a port of its own choice, for tests.

It reads and writes PDUs with smpplib, so it shares no line with the codec under test. Every PDU is logged with
a monotonic instant, which may be compared across processes of one host.

In process::

    async with Smsc() as smsc:
        smsc.on_submit = lambda submit: Answer(status=0x58)
        ...
        (submit,) = await smsc.seen("submit_sm")

As a process: ``python -m tests.fakes.smsc --help``. The first line on its standard output is
``{"port": ...}``; the others, or those of ``--log``, are the PDUs as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import smpplib.command_codes
import smpplib.consts
import smpplib.exceptions
import smpplib.smpp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

ENROUTE, DELIVERED, EXPIRED, DELETED, UNDELIVERABLE, ACCEPTED, UNKNOWN, REJECTED = range(1, 9)  # message_state
STAT = {
    ENROUTE: "ENROUTE",
    DELIVERED: "DELIVRD",
    EXPIRED: "EXPIRED",
    DELETED: "DELETED",
    UNDELIVERABLE: "UNDELIV",
    ACCEPTED: "ACCEPTD",
    UNKNOWN: "UNKNOWN",
    REJECTED: "REJECTD",
}
THROTTLED = 0x58
SUBMIT_SM_RESP = b"\x80\x00\x00\x04"
BIND_COMMANDS = ("bind_transmitter", "bind_receiver", "bind_transceiver")


class _Numbers:
    """What smpplib calls a client: where an outgoing request gets its sequence_number."""

    def __init__(self) -> None:
        self.sequence = 0

    def next_sequence(self) -> int:
        self.sequence = self.sequence + 1 if self.sequence < 0x7FFFFFFF else 1
        return self.sequence


@dataclass(frozen=True, slots=True)
class Logged:
    """One PDU that was read or written."""

    at: float  # monotonic seconds
    session: int  # 1 is the first connection
    sent: bool  # by the SMSC
    command: str
    status: int
    sequence: int
    fields: dict[str, Any]
    octets: bytes = field(repr=False)

    def as_json(self) -> str:
        """One line."""
        fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in self.fields.items()}
        return json.dumps(
            {
                "at": self.at,
                "session": self.session,
                "sent": self.sent,
                "command": self.command,
                "status": self.status,
                "sequence": self.sequence,
                "fields": fields,
            }
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do with one submit_sm."""

    status: int = 0
    message_id: str | None = None  # None: a new one where status is 0, no body otherwise
    delay_s: float = 0.0
    withhold: bool = False  # never answer
    nack: bool = False  # answer with generic_nack


class Session:
    """One connection."""

    def __init__(self, smsc: Smsc, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.smsc = smsc
        self.number = number
        self.bind: Logged | None = None  # once it was accepted
        self.ended_at: float | None = None  # monotonic; unbound or disconnected
        self.numbers = _Numbers()
        self._gathered: list[bytes] = []  # answers that wait for company
        self._reader = reader
        self._writer = writer
        self._delivered: dict[int, dict[str, Any]] = {}  # sequence_number -> fields of deliver_sm not yet answered

    @property
    def receives(self) -> bool:
        """Bound as a receiver or transceiver."""
        return self.bind is not None and self.bind.command != "bind_transmitter"

    async def run(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await self._reader.readexactly(4)
                octets = length + await self._reader.readexactly(struct.unpack(">L", length)[0] - 4)
                self._read(self.smsc._note(self.number, octets, sent=False))

    def _read(self, pdu: Logged) -> None:
        smsc = self.smsc
        if pdu.command in BIND_COMMANDS:
            if smsc.answers_binds:
                status = smsc.bind_statuses.popleft() if smsc.bind_statuses else 0
                if not status:
                    self.bind = pdu
                    self.send(f"{pdu.command}_resp", sequence=pdu.sequence, system_id=smsc.system_id)
                    self._deliver_again()
                else:
                    self.send_raw(_bare(f"{pdu.command}_resp", pdu.sequence, status))
        elif pdu.command == "submit_sm":
            answer = smsc._judge(pdu)
            if answer.withhold:
                return
            if answer.delay_s:
                asyncio.get_running_loop().call_later(answer.delay_s, self._answer_submit, pdu, answer)
            else:
                self._answer_submit(pdu, answer)
        elif pdu.command == "deliver_sm_resp":
            smsc.undelivered.pop((self.number, pdu.sequence), None)
            fields = self._delivered.pop(pdu.sequence, None)
            if fields is not None and pdu.status and smsc.repeat_after_s is not None:
                asyncio.get_running_loop().call_later(smsc.repeat_after_s, self._repeat, fields)
        elif pdu.command == "enquire_link" and smsc.answers_enquiries:
            self.send("enquire_link_resp", sequence=pdu.sequence)
        elif pdu.command == "unbind" and smsc.answers_unbinds:
            self.send("unbind_resp", sequence=pdu.sequence)
            self.ended_at = pdu.at
            self._writer.close()

    def give_up(self) -> None:
        """The session ended: what it left unanswered is sent again on another one."""
        if self.smsc.repeat_after_s is not None:
            for fields in self._delivered.values():
                asyncio.get_running_loop().call_later(self.smsc.repeat_after_s, self._repeat, fields)
        self._delivered.clear()

    def _repeat(self, fields: dict[str, Any]) -> None:
        """Send a deliver_sm that was refused again, on whichever session takes it by then."""
        session = next((session for session in self.smsc.sessions if session.receives), None)
        if session is not None:
            session.send("deliver_sm", **fields)
        elif self.smsc.repeat_after_s is not None:
            asyncio.get_running_loop().call_later(self.smsc.repeat_after_s, self._repeat, fields)

    def _answer_submit(self, submit: Logged, answer: Answer) -> None:
        if answer.nack:
            self.send_raw(_bare("generic_nack", submit.sequence, answer.status))
            return
        message_id = answer.message_id
        if message_id is None and not answer.status:
            message_id = self.smsc._next_message_id()
        if message_id is None:
            self.send_raw(_bare("submit_sm_resp", submit.sequence, answer.status))
        else:
            self.send("submit_sm_resp", sequence=submit.sequence, status=answer.status, message_id=message_id)
        if not answer.status and self.smsc.receipt_delay_s is not None and submit.fields["registered_delivery"] & 1:
            assert message_id is not None
            asyncio.get_running_loop().call_later(
                self.smsc.receipt_delay_s, self.smsc.deliver_receipt, message_id, submit
            )

    def send(self, command: str, *, sequence: int | None = None, status: int = 0, **fields: Any) -> int:
        """Write one PDU and return its sequence_number."""
        number = self.numbers.next_sequence() if sequence is None else sequence
        pdu = smpplib.smpp.make_pdu(command, client=_Numbers(), status=status, sequence=number, **fields)
        pdu.sequence = number
        octets: bytes = pdu.generate()
        if command == "deliver_sm":
            self._delivered[int(pdu.sequence)] = fields
        self.send_raw(octets)
        if command == "deliver_sm":
            self.smsc.undelivered[self.number, number] = octets
        return int(pdu.sequence)

    def _deliver_again(self) -> None:
        """Send what an earlier connection left unanswered, octet for octet."""
        if self.smsc.delivers_again and self.receives:
            for (session, number), octets in list(self.smsc.undelivered.items()):
                if session != self.number:
                    del self.smsc.undelivered[session, number]
                    self.smsc.undelivered[self.number, number] = octets
                    self.numbers.sequence = max(self.numbers.sequence, number)
                    self.send_raw(octets)

    def send_raw(self, octets: bytes) -> None:
        """Write octets that need not be a PDU."""
        if not self._writer.is_closing():
            with contextlib.suppress(Exception):  # what is not a PDU is not logged
                self.smsc._note(self.number, octets, sent=True)
            self._gathered.append(octets)
            if octets[4:8] != SUBMIT_SM_RESP or len(self._gathered) >= self.smsc.answers_at_once:
                self._writer.write(b"".join(self._gathered))
                self._gathered.clear()

    def drop(self) -> None:
        """End the connection without a word."""
        self._writer.transport.abort()


class Smsc:
    """An SMSC that accepts everything unless told otherwise."""

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.on_submit: Callable[[Logged], Answer] = lambda _: Answer()
        self.answers_binds = True
        self.answers_enquiries = True
        self.answers_unbinds = True
        self.bind_statuses: deque[int] = deque()  # of the next binds; 0 accepts
        self.answer_delay_s = 0.0  # added to that of each answer
        self.answers_at_once = 1  # submit_sm_resp that wait for each other and leave in one write
        self.receipt_delay_s: float | None = None  # None: no receipts
        self.delivers_again = False  # on the next bind, what an earlier connection left unanswered
        self.undelivered: dict[
            tuple[int, int], bytes
        ] = {}  # deliver_sm without an answer, by session and sequence_number
        self.repeat_after_s: float | None = None  # a refused deliver_sm is sent again; None: it is not
        self.throttle_above: int | None = None  # submit_sm in any sliding second; those above get ESME_RTHROTTLED
        self.id_prefix = "m"
        self.system_id = "smsc"
        self.log: list[Logged] = []
        self.submits = 0  # submit_sm that were read
        self.on_log: Callable[[Logged], None] = lambda _: None
        self.sessions: list[Session] = []  # those that are connected
        self.all_sessions: list[Session] = []  # those that were, too
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._message_ids = 0
        self._lately: deque[float] = deque()  # instants of accepted submits
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        for session in list(self.sessions):
            session.drop()
        await self.until(lambda: not self.sessions)

    # What a test waits for

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait until something holds that a PDU or a connection brings about."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def seen(self, command: str, count: int = 1, timeout_s: float = 20.0) -> list[Logged]:
        """Wait until so many PDUs of this kind were read; give all of them."""
        await self.until(lambda: len(self.received(command)) >= count, timeout_s)
        return self.received(command)

    def received(self, command: str) -> list[Logged]:
        """PDUs of this kind that were read."""
        return [pdu for pdu in self.log if pdu.command == command and not pdu.sent]

    def answers(self, command: str = "submit_sm_resp") -> list[Logged]:
        """PDUs of this kind that were written."""
        return [pdu for pdu in self.log if pdu.command == command and pdu.sent]

    def most_bound(self) -> int:
        """The most sessions that were bound at the same time: from the accepted bind to the unbind or the end."""
        steps = []
        for session in self.all_sessions:
            if session.bind is not None:
                steps += [(session.bind.at, 1), (session.ended_at or float("inf"), -1)]
        most = bound = 0
        for _, step in sorted(steps):
            bound += step
            most = max(most, bound)
        return most

    def most_within(self, seconds: float) -> int:
        """The most submit_sm that were read in any sliding time of this length."""
        lately: deque[float] = deque()
        most = 0
        for submit in self.received("submit_sm"):
            lately.append(submit.at)
            while lately[0] <= submit.at - seconds:
                lately.popleft()
            most = max(most, len(lately))
        return most

    # What a test makes it do

    def receiver(self) -> Session:
        """Give a session that takes deliver_sm."""
        return next(session for session in self.sessions if session.receives)

    def deliver(self, *, session: Session | None = None, **fields: Any) -> int:
        """Send deliver_sm; smpplib's field names, short_message in octets. Returns its sequence_number."""
        fields = {"source_addr": "4915100000001", "destination_addr": "12345", "source_addr_ton": 1} | fields
        return (session or self.receiver()).send("deliver_sm", **fields)

    def answer(self, submit: Logged, answer: Answer) -> None:
        """Answer now a submit_sm that was withheld, on its session if that is still open."""
        for session in self.sessions:
            if session.number == submit.session:
                session._answer_submit(submit, answer)

    def deliver_receipt(
        self,
        message_id: str,
        submit: Logged | None = None,
        state: int = DELIVERED,
        *,
        session: Session | None = None,
        addresses: dict[str, str] | None = None,
        error: str = "000",
    ) -> int:
        """Send the receipt of one message, with text and TLVs; 0 when no session takes it."""
        if session is None and not any(session.receives for session in self.sessions):
            if self.repeat_after_s is not None:
                loop = asyncio.get_running_loop()
                again = partial(self.deliver_receipt, message_id, submit, state, error=error)
                loop.call_later(self.repeat_after_s, again)
            return 0
        stamp = time.strftime("%y%m%d%H%M")
        dates = f"submit date:{stamp} done date:{stamp}"
        text = f"id:{message_id} sub:001 dlvrd:001 {dates} stat:{STAT[state]} err:{error} text:"
        if submit is not None:
            addresses = {
                "source_addr": submit.fields["destination_addr"],
                "destination_addr": submit.fields["source_addr"],
            }
        return self.deliver(
            session=session,
            esm_class=0x04,
            short_message=text.encode("ascii"),
            receipted_message_id=message_id,
            message_state=state,
            **(addresses or {}),
        )

    def unbind(self) -> None:
        """Ask each session to end."""
        for session in list(self.sessions):
            session.send("unbind")

    def drop(self) -> None:
        """End every connection without a word."""
        for session in list(self.sessions):
            session.drop()

    # Inside

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        session = Session(self, self._connections, reader, writer)
        self.sessions.append(session)
        self.all_sessions.append(session)
        self._changed.set()
        try:
            await session.run()
        finally:
            self.sessions.remove(session)
            session.ended_at = session.ended_at or time.monotonic()
            session.give_up()
            self._changed.set()
            writer.close()

    def _judge(self, submit: Logged) -> Answer:
        answer = self.on_submit(submit)
        if self.throttle_above is not None and not answer.status:
            while self._lately and self._lately[0] + 1.0 <= submit.at:
                self._lately.popleft()
            if len(self._lately) >= self.throttle_above:
                answer = Answer(status=THROTTLED)
            else:
                self._lately.append(submit.at)
        if self.answer_delay_s:
            answer = Answer(
                answer.status, answer.message_id, answer.delay_s + self.answer_delay_s, answer.withhold, answer.nack
            )
        return answer

    def _next_message_id(self) -> str:
        self._message_ids += 1
        return f"{self.id_prefix}{self._message_ids:08d}"

    def _note(self, session: int, octets: bytes, *, sent: bool) -> Logged:
        at = time.monotonic()
        try:
            pdu = smpplib.smpp.parse_pdu(octets, client=_Numbers(), allow_unknown_opt_params=True)
        except smpplib.exceptions.UnknownCommandError:  # smpplib knows the name, and has no fields: cancel_sm, data_sm
            _, command, status, sequence = struct.unpack_from(">LLLL", octets)
            name = smpplib.command_codes.get_command_name(command)
            noted = Logged(at, session, sent, name, status, sequence, {}, octets)
        else:
            fields = {name: getattr(pdu, name, None) for name in pdu.params_order}
            noted = Logged(at, session, sent, pdu.command, pdu.status, pdu.sequence, _as_text(fields), octets)
        self.log.append(noted)
        self.submits += noted.command == "submit_sm" and not sent
        self.on_log(noted)
        self._changed.set()
        return noted


def _as_text(fields: dict[str, Any]) -> dict[str, Any]:
    """Decode what smpplib leaves as octets, but for user data; leave out what is not there."""
    return {
        name: value.decode("latin-1")
        if isinstance(value, bytes) and name not in {"short_message", "message_payload"}
        else value
        for name, value in fields.items()
        if value is not None
    }


def _bare(command: str, sequence: int, status: int) -> bytes:
    """A PDU without a body, as SMPP v3.4 wants refusals to be."""
    code = {
        "generic_nack": 0x80000000,
        "submit_sm_resp": 0x80000004,
        "bind_receiver_resp": 0x80000001,
        "bind_transmitter_resp": 0x80000002,
        "bind_transceiver_resp": 0x80000009,
    }[command]
    return struct.pack(">LLLL", 16, code, status, sequence)


async def _send_replies(smsc: Smsc, replies: int, every_s: float) -> None:
    """Send so many texts, each from a number of its own, while a session takes them."""
    for n in range(replies):
        await smsc.until(lambda: any(session.receives for session in smsc.sessions), 3600.0)
        smsc.deliver(source_addr=f"4479{n:08d}", short_message=f"reply {n}".encode("ascii"))
        await asyncio.sleep(every_s)


async def _serve(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(arguments.log, "a", encoding="ascii")) if arguments.log else sys.stdout  # noqa: PTH123
        async with Smsc(port=arguments.port) as smsc:
            smsc.answer_delay_s = arguments.answer_delay_s
            smsc.receipt_delay_s = arguments.receipt_delay_s
            smsc.repeat_after_s = arguments.repeat_after_s
            smsc.throttle_above = arguments.throttle_above
            if arguments.withhold_every:
                counted = iter(range(1, sys.maxsize))
                smsc.on_submit = lambda _: Answer(withhold=next(counted) % arguments.withhold_every == 0)
            smsc.on_log = lambda pdu: print(pdu.as_json(), file=out, flush=True)
            print(json.dumps({"port": smsc.port}), flush=True)
            await _send_replies(smsc, arguments.replies, arguments.reply_every_s)
            await asyncio.Event().wait()


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(description="A scripted SMSC for tests.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, told on standard output")
    parser.add_argument("--log", help="file for the PDUs as JSON lines; standard output by default")
    parser.add_argument("--answer-delay-s", type=float, default=0.0)
    parser.add_argument("--receipt-delay-s", type=float, default=None, help="send a receipt so long after each answer")
    parser.add_argument("--repeat-after-s", type=float, default=None, help="send a refused deliver_sm again after")
    parser.add_argument("--replies", type=int, default=0, help="texts of handsets that it sends once something binds")
    parser.add_argument("--reply-every-s", type=float, default=0.02)
    parser.add_argument("--throttle-above", type=int, default=None, help="submit_sm in any second")
    parser.add_argument("--withhold-every", type=int, default=0, help="never answer each n-th submit_sm")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
