"""The SMSC of a run, in a process of its own: it can be killed, and remembers by its log files what it owes.

A carrier stores and forwards: a receipt that was not acknowledged is sent again, on any session of the same account,
also after a restart. Told on standard input what to do, a JSON object a line: the names of ``Moods``, or ``drop``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes.smsc import DELIVERED, THROTTLED, UNDELIVERABLE, Answer, Smsc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fakes.smsc import Logged

SYSTEM_ERROR, INVALID_DESTINATION, SUBMIT_FAILED = 0x08, 0x0B, 0x45
RECEIPT_DELAY_S = 0.2
RECEIPT_AGAIN_S = 1.0
RECEIPTS_IN_FLIGHT = 100  # of all sessions
TURN_S = 0.02
LATE_S = (0.8, 2.0)  # around the time-out of the answer, and past it


@dataclass(slots=True)
class Moods:
    """How the SMSC behaves; set from outside."""

    late: bool = False
    silent: bool = False
    refuse: bool = False
    throttle: bool = False


@dataclass(slots=True)
class Owed:
    """A receipt that was not acknowledged."""

    account: str
    addresses: dict[str, str]
    due_at: float


class Ledger:
    """What is owed, by the log: live, and of the processes before."""

    def __init__(self) -> None:
        self.owed: dict[str, Owed] = {}
        self._accounts: dict[int, str] = {}  # session -> system_id
        self._submits: dict[tuple[int, int], Mapping[str, Any]] = {}
        self._sent: dict[tuple[int, int], str] = {}  # deliver_sm -> message id

    def note(self, pdu: Mapping[str, Any]) -> None:
        """Take in one line of the log."""
        key, command, fields = (pdu["session"], pdu["sequence"]), pdu["command"], pdu["fields"]
        if command.startswith("bind_") and not pdu["sent"]:
            self._accounts[pdu["session"]] = fields["system_id"]
        elif command == "submit_sm":
            self._submits[key] = fields
        elif command == "submit_sm_resp" and not pdu["status"]:
            submit = self._submits.pop(key)
            if submit.get("registered_delivery", 0) & 1:
                addresses = {"source_addr": submit["destination_addr"], "destination_addr": submit["source_addr"]}
                owed = Owed(self._accounts[pdu["session"]], addresses, time.monotonic() + RECEIPT_DELAY_S)
                self.owed[fields["message_id"]] = owed
        elif command == "deliver_sm":
            self._sent[key] = fields["receipted_message_id"]
        elif command == "deliver_sm_resp":
            message_id = self._sent.pop(key, None)
            if message_id is not None and not pdu["status"]:
                self.owed.pop(message_id, None)

    @property
    def in_flight(self) -> int:
        """Receipts sent and unanswered."""
        return len(self._sent)

    def forget_sessions(self, alive: set[int]) -> None:
        """What was in flight on a session that has ended goes again."""
        self._sent = {key: message_id for key, message_id in self._sent.items() if key[0] in alive}


class Carrier:
    """The fake SMSC with moods, noise and a memory."""

    def __init__(self, smsc: Smsc, ledger: Ledger, log: Path, noise: float, seed: int) -> None:
        self.moods = Moods()
        self._smsc = smsc
        self._ledger = ledger
        self._out = log.open("a", encoding="ascii")
        self._noise = noise
        self._seed = seed
        self._chosen = random.Random(f"{seed} {smsc.id_prefix}")
        smsc.on_submit = self._answer
        smsc.on_log = self._note

    def told(self, command: dict[str, Any]) -> None:
        """Change a mood, or drop every connection."""
        for name, value in command.items():
            if name == "drop":
                self._smsc.drop()
            else:
                setattr(self.moods, name, value)
        self._smsc.bind_statuses = deque([SYSTEM_ERROR] * 10_000 if self.moods.refuse else ())

    def _note(self, pdu: Logged) -> None:
        line = pdu.as_json()
        self._out.write(line + "\n")
        self._out.flush()
        self._ledger.note({"session": pdu.session, "sequence": pdu.sequence, "command": pdu.command,
                           "sent": pdu.sent, "status": pdu.status, "fields": pdu.fields})  # fmt: skip
        self._smsc.log.clear()

    def _answer(self, _: Logged) -> Answer:
        if self.moods.silent:
            return Answer(withhold=True)
        if self.moods.throttle:
            return Answer(status=THROTTLED)
        if self.moods.late:
            return Answer(delay_s=self._chosen.uniform(*LATE_S))
        luck = self._chosen.random() / self._noise if self._noise else 1.0
        if luck < 0.2:
            return Answer(withhold=True)
        if luck < 0.4:
            return Answer(delay_s=self._chosen.uniform(*LATE_S))
        if luck < 0.8:
            return Answer(status=self._chosen.choice((SYSTEM_ERROR, INVALID_DESTINATION, SUBMIT_FAILED)))
        return Answer(delay_s=self._chosen.random() * 0.02)

    def _fate(self, message_id: str) -> int | None:
        """The same at every repetition: None is a receipt that never comes."""
        luck = random.Random(f"{self._seed} {message_id}").random()
        return None if luck < 0.01 else UNDELIVERABLE if luck < 0.05 else DELIVERED

    async def send_receipts(self) -> None:
        """Send what is due, and what was not acknowledged in time."""
        while True:
            await asyncio.sleep(TURN_S)
            now = time.monotonic()
            receivers = {
                s.bind.fields["system_id"]: s for s in self._smsc.sessions if s.receives and s.bind is not None
            }
            self._ledger.forget_sessions({session.number for session in self._smsc.sessions})
            due = [(message_id, owed) for message_id, owed in self._ledger.owed.items() if owed.due_at <= now]
            for message_id, owed in due:
                if self._ledger.in_flight >= RECEIPTS_IN_FLIGHT:
                    break
                if owed.account not in receivers:
                    continue
                state = self._fate(message_id)
                owed.due_at = now + RECEIPT_AGAIN_S
                if state is None:
                    del self._ledger.owed[message_id]
                    continue
                self._smsc.deliver_receipt(
                    message_id, state=state, session=receivers[owed.account], addresses=owed.addresses
                )


async def _serve(arguments: argparse.Namespace) -> None:
    ledger = Ledger()
    for earlier in arguments.earlier:
        for line in Path(earlier).read_text(encoding="ascii").splitlines():
            with contextlib.suppress(ValueError):  # a killed process may have left half a line
                ledger.note(json.loads(line))
    ledger.forget_sessions(set())
    async with Smsc(port=arguments.port) as smsc:
        smsc.id_prefix = f"m{arguments.start}."
        carrier = Carrier(smsc, ledger, Path(arguments.log), arguments.noise, arguments.seed)
        carrier.told(json.loads(arguments.moods))
        sys.stdout.write(json.dumps({"port": smsc.port}) + "\n")
        sys.stdout.flush()
        commands = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(carrier.send_receipts())
            while line := await commands.readline():
                carrier.told(json.loads(line))
            sending.cancel()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--earlier", nargs="*", default=(), help="logs of the processes before")
    parser.add_argument("--start", type=int, default=1, help="message ids begin with it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--moods", default="{}", help="as on standard input")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
