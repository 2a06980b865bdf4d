"""An SMSC that accepts everything: the far end of the benchmarks, in a process of its own.

It shares no code with the gateway. Every submit_sm is answered after a fixed time; those that ask for a receipt get
one a random time later, of the kind "Appendix B" (text, and no TLV unless ``--receipted-message-id`` is given), at most
``deliver_window`` of them unanswered a session. Message ids are decimal and ascend. A receipt that is refused comes
again after a second. With ``--mo-per-s`` and ``--mo-to`` handsets write besides (handsets.py).

The third digit after the country code tells what a recipient belongs to (see ``enqueuer.recipient``):
0 to 5 the load, by lane; 7 single confirmations; 8 single emergencies; 9 the preloaded backlog.

``python -m benchmarks.sink --ledger FILE`` prints one line with its port, counts into the ledger, and, when its
standard input gets a line of instants (monotonic
seconds: the window's two ends, then marks) or ends, prints one line with its report and ends. With ``--log FILE`` it
writes each submit_sm before that, in the order of its reading: the instant and the recipient.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import struct
import sys
import time
from array import array
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import ledger as cell
from benchmarks.handsets import Handsets
from benchmarks.ledger import Ledger

HEADER: Final = struct.Struct(">IIII")
TLV: Final = struct.Struct(">HH")  # before its value
RECEIPTED_MESSAGE_ID: Final = 0x001E
BIND: Final = (0x01, 0x02, 0x09)
SUBMIT_SM: Final = 0x04
SUBMIT_SM_RESP: Final = 0x8000_0004
DELIVER_SM: Final = 0x05
DELIVER_SM_RESP: Final = 0x8000_0005
UNBIND: Final = 0x06
ENQUIRE_LINK: Final = 0x15
RESPONSE: Final = 0x8000_0000
TICK_S: Final = 0.005  # receipts leave at these steps
AGAIN_S: Final = 1.0
UDH: Final = 0x40  # esm_class: a user data header comes first
SINGLES, BACKLOG = b"78", ord("9")
ZERO = ord("0")

Receipt = tuple[bytes, bytes, bytes, bytes | None]  # destination as sent, source as sent, message id, its job or None


class Sink:
    """What all sessions share."""

    def __init__(
        self,
        ledger: Ledger,
        answer_s: float,
        receipts_s: tuple[float, float],
        deliver_window: int,
        *,
        receipted_message_id: bool = False,
        handsets: Handsets | None = None,
    ) -> None:
        self.cells = ledger.cells
        self.receipted_message_id = receipted_message_id
        self.handsets = handsets
        self.sessions: list[Session] = []  # bound
        self.answer_s = answer_s
        self.receipts_s = receipts_s
        self.deliver_window = deliver_window
        self.at = array("d")  # when each submit_sm was read
        self.emergencies: dict[str, float] = {}  # single jobs: recipient -> when its submit_sm was read
        self.recipients: list[bytes] | None = None  # of each submit_sm, for the log
        self.begun: dict[bytes, bytes] = {}  # jobs of several parts whose last one is not here yet
        self.owed: dict[bytes, int] = {}  # jobs of several parts: receipts not yet answered
        self.next_id = int(time.time()) * 1000
        self.orphans: list[Receipt] = []  # of sessions that ended
        self._stamp_at = 0
        self._stamp = b""

    def stamp(self) -> bytes:
        """The time as receipts write it."""
        now = int(time.time())
        if now != self._stamp_at:
            self._stamp_at = now
            self._stamp = time.strftime("%y%m%d%H%M", time.gmtime(now)).encode()
        return self._stamp

    def report(self, begin: float, end: float, *marks: float) -> dict[str, Any]:
        """What was seen between two instants and over the whole life, and the first segment after each mark."""
        at, inside = self.at, [instant for instant in self.at if begin <= instant < end]
        most = first = 0
        for last, instant in enumerate(at):
            while instant - at[first] >= 1.0:
                first += 1
            most = max(most, last - first + 1)
        seconds = [0] * max(1, int(end - begin))
        for instant in inside:
            if (second := int(instant - begin)) < len(seconds):
                seconds[second] += 1
        return {
            "first_after": [next((instant for instant in at if instant > mark), None) for mark in marks],
            "segments": len(at),
            "segments_in_window": len(inside),
            "jobs": self.cells[cell.JOBS],
            "delivered": self.cells[cell.DELIVERED],
            "receipts": self.cells[cell.RECEIPTS],
            "receipts_refused": self.cells[cell.REFUSED],
            "receipts_owed": self.cells[cell.OWED],
            "most_in_any_second": most,
            "each_second": seconds,
            "longest_gap_s": max((b - a for a, b in pairwise(inside)), default=0.0),
            "emergencies": self.emergencies,
            **({"handsets": self.handsets.report()} if self.handsets is not None else {}),
        }


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.rest = b""
        self.sequence = 0
        self.unanswered: dict[int, Receipt] = {}
        self.texts: dict[int, str] = {}  # of handsets, unanswered: sequence_number -> its number
        self.due: deque[Receipt] = deque()
        self.wheel: dict[int, list[Receipt]] = {}
        self.ticking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.sink.orphans += [*self.unanswered.values(), *self.due, *(r for late in self.wheel.values() for r in late)]
        self.unanswered, self.due, self.wheel = {}, deque(), {}
        if self in self.sink.sessions:
            self.sink.sessions.remove(self)
        if self.sink.handsets is not None:
            self.sink.handsets.lost(list(self.texts.values()))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        buffer = self.rest + data if self.rest else data
        at, size = 0, len(buffer)
        unpack = HEADER.unpack_from
        answers: list[bytes] = []
        receipts: list[Receipt] = []
        answered = False
        while size - at >= 16:
            length, command, status, sequence = unpack(buffer, at)
            if size - at < length:
                break
            if command == SUBMIT_SM:
                self._submit(buffer, at, sequence, now, answers, receipts)
            elif command == DELIVER_SM_RESP:
                if sequence in self.texts:
                    self.sink.handsets.answer(self.texts.pop(sequence), status, now)  # type: ignore[union-attr]
                else:
                    self._receipt_answered(sequence, status)
                    answered = True
            else:
                self._other(command, sequence)
            at += length
        self.rest = buffer[at:]
        if answers:
            self.loop.call_later(self.sink.answer_s, self._answer, b"".join(answers), receipts, now)
        if answered:
            self._pump()

    def _submit(
        self, buffer: bytes, at: int, sequence: int, now: float, answers: list[bytes], receipts: list[Receipt]
    ) -> None:
        sink = self.sink
        cells = sink.cells
        source = buffer.index(0, at + 16) + 1
        destination = buffer.index(0, source + 2) + 1
        end = buffer.index(0, destination + 2) + 1
        esm_class = buffer[end]
        validity = buffer.index(0, end + 3) + 1
        rest = buffer.index(0, validity) + 1  # registered_delivery, replace, data_coding, default id, sm_length, text
        number = buffer[destination + 2 : end - 1]
        parts = part = 1
        job = None
        sink.next_id += 1
        if esm_class & UDH:  # 05 00 03 reference parts part
            parts, part = buffer[rest + 9], buffer[rest + 10]
            named = number + buffer[rest + 8 : rest + 9]  # a number may get a reference again
            if part == 1 or named not in sink.begun:
                sink.begun[named] = b"%b %d" % (named, sink.next_id)
            job = sink.begun.pop(named) if part == parts else sink.begun[named]
        message_id = b"%d" % sink.next_id
        answers.append(HEADER.pack(17 + len(message_id), SUBMIT_SM_RESP, 0, sequence) + message_id + b"\0")
        sink.at.append(now)
        cells[cell.SEGMENTS] += 1
        kind = number[3]
        if sink.recipients is not None:
            sink.recipients.append(number)
        if kind in SINGLES:
            sink.emergencies.setdefault(number.decode(), now)
        else:
            cells[cell.LANES + (5 if kind == BACKLOG else kind - ZERO)] += 1
        if part == parts:
            cells[cell.JOBS] += 1
            if kind == BACKLOG:
                cells[cell.BACKLOG] += 1
            elif kind not in SINGLES:
                cells[cell.SUBMITTED] += 1
        if buffer[rest] & 1:
            if job is not None and job not in sink.owed:
                sink.owed[job] = parts
            cells[cell.OWED] += 1
            receipts.append((buffer[destination:end], buffer[source:destination], message_id, job))

    def _answer(self, octets: bytes, receipts: list[Receipt], now: float) -> None:
        if not self.transport.is_closing():
            self.transport.write(octets)
        least, most = self.sink.receipts_s
        base, span = now + self.sink.answer_s + least, most - least
        wheel = self.wheel
        for receipt in receipts:
            tick = int((base + random.random() * span) / TICK_S) + 1
            if tick in wheel:
                wheel[tick].append(receipt)
            else:
                wheel[tick] = [receipt]
        if not self.ticking and wheel:
            self.ticking = True
            self.loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = int(time.monotonic() / TICK_S)
        for tick in sorted(tick for tick in self.wheel if tick <= now):
            self.due.extend(self.wheel.pop(tick))
        self._pump()
        self.ticking = bool(self.wheel)
        if self.ticking:
            self.loop.call_later(TICK_S, self._tick)

    def _pump(self) -> None:
        room = min(self.sink.deliver_window - len(self.unanswered), len(self.due))
        if room <= 0 or self.transport.is_closing():
            return
        stamp = self.sink.stamp()
        chunks = []
        for _ in range(room):
            receipt = self.due.popleft()
            source, destination, message_id, _ = receipt
            text = (
                b"id:%b sub:001 dlvrd:001 submit date:%b done date:%b stat:DELIVRD err:000 text:"
                % (message_id, stamp, stamp)
            )  # fmt: skip
            body = b"\0%b%b\x04\0\0\0\0\0\0\0\0%c%b" % (source, destination, len(text), text)
            if self.sink.receipted_message_id:
                body += TLV.pack(RECEIPTED_MESSAGE_ID, len(message_id) + 1) + message_id + b"\0"
            self.sequence += 1
            self.unanswered[self.sequence] = receipt
            chunks.append(HEADER.pack(16 + len(body), DELIVER_SM, 0, self.sequence) + body)
        self.transport.write(b"".join(chunks))

    def deliver(self, number: str, body: bytes) -> None:
        """Write the text of a handset."""
        self.sequence += 1
        self.texts[self.sequence] = number
        self.transport.write(HEADER.pack(16 + len(body), DELIVER_SM, 0, self.sequence) + body)

    def _receipt_answered(self, sequence: int, status: int) -> None:
        receipt = self.unanswered.pop(sequence, None)
        if receipt is None:
            return
        cells = self.sink.cells
        if status:
            cells[cell.REFUSED] += 1
            self.loop.call_later(AGAIN_S, self._again, receipt)
            return
        cells[cell.RECEIPTS] += 1
        cells[cell.OWED] -= 1
        job = receipt[3]
        if job is not None:
            self.sink.owed[job] -= 1
            if self.sink.owed[job]:
                return
            del self.sink.owed[job]
        cells[cell.DELIVERED] += 1

    def _again(self, receipt: Receipt) -> None:
        self.due.append(receipt)
        self._pump()

    def _other(self, command: int, sequence: int) -> None:
        if command & RESPONSE:
            return
        body = b""
        if command in BIND:
            body = b"sink\0"
            self.sink.cells[cell.BOUND] += 1
            self.sink.sessions.append(self)
            self.due.extend(self.sink.orphans)
            self.sink.orphans.clear()
            self.loop.call_soon(self._pump)
        self.transport.write(HEADER.pack(16 + len(body), command | RESPONSE, 0, sequence) + body)
        if command == UNBIND:
            self.transport.close()


async def serve(arguments: argparse.Namespace) -> None:
    """Run until standard input has something to say."""
    sink = Sink(
        Ledger(arguments.ledger),
        arguments.answer_ms / 1000,
        (arguments.receipt_least_ms / 1000, arguments.receipt_most_ms / 1000),
        arguments.deliver_window,
        receipted_message_id=arguments.receipted_message_id,
        handsets=Handsets(arguments.mo_per_s, arguments.mo_to) if arguments.mo_per_s else None,
    )
    if arguments.log is not None:
        sink.recipients = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(sink), "127.0.0.1", arguments.port)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    told = loop.run_in_executor(None, sys.stdin.readline)
    writing = None
    if sink.handsets is not None:
        writing = loop.create_task(sink.handsets.write(sink.sessions, lambda: sink.cells[cell.STOP] > 0))
    line = await told
    if writing is not None:
        writing.cancel()
    server.close()
    if sink.recipients is not None:
        lines = (f"{at:.6f} {number.decode()}\n" for at, number in zip(sink.at, sink.recipients, strict=True))
        arguments.log.write_text("".join(lines))
    if line.strip():
        print(json.dumps(sink.report(*(float(word) for word in line.split()))), flush=True)


def main() -> None:
    """Run one sink."""
    parser = argparse.ArgumentParser(description="an SMSC that accepts everything, on loopback")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer-ms", type=float, default=5.0)
    parser.add_argument("--receipt-least-ms", type=float, default=50.0)
    parser.add_argument("--receipt-most-ms", type=float, default=500.0)
    parser.add_argument("--deliver-window", type=int, default=100)
    parser.add_argument("--receipted-message-id", action="store_true", help="receipts have this TLV too")
    parser.add_argument("--mo-per-s", type=float, default=0.0, help="texts from handsets, Poisson")
    parser.add_argument("--mo-to", default="", help="the number that they write to, digits alone")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
