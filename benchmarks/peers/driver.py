"""The client side of a peer: it sends in a closed loop, and counts the receipts that the peer gives it.

The loop is ``enqueuer``'s: nobody sends while ``--depth`` messages are taken and not on the wire, or ``--owed``
receipts are owed by the sink. How messages go in and receipts come back is the peer's: ``box`` for Kannel, ``rows``
for smpp-gateway. Each is a process that prints one line when it is connected, sends from then on, and ends when the
ledger says so and every receipt has come, or ``--drain`` seconds later; then it prints one line with its report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks import ledger as cell
from benchmarks.enqueuer import TEXTS, recipient, stopped, texts
from benchmarks.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

LOOK_S: Final = 0.002  # between looks at a queue that is deep enough
KIND: Final = 3  # of the recipients: the load, lane 3


class Driver:
    """What goes in, what comes back, and whether there is room."""

    def __init__(self, ledger: Ledger, depth: int, owed: int, seed: int) -> None:
        self.ledger = ledger
        self.depth = depth
        self.owed = owed
        self.generator = random.Random(seed)
        self.texts = texts(self.generator, 100, 160, TEXTS)
        self.ending = False
        self.asked = self.accepted = self.refused = 0
        self.seen = bytearray()  # by number: how many receipts have come for it
        self.forwarded = self.doubled = self.strange = self.undelivered = 0
        self.looks = self.held_back = 0

    def room(self) -> int:
        """How many messages may be sent now."""
        cells = self.ledger.cells
        if self.ending or cells[cell.OWED] >= self.owed:
            return 0
        return self.depth - (self.asked - self.refused - cells[cell.SUBMITTED])

    def message(self) -> tuple[int, str, str]:
        """Give the next message: its number, recipient and text."""
        chance = self.generator.random
        number = self.asked
        self.asked += 1
        self.seen.append(0)
        return number, recipient(KIND, int(chance() * 10**8)), self.texts[int(chance() * TEXTS)]

    def answered(self, *, accepted: bool, messages: int = 1) -> None:
        """Count an answer."""
        if accepted:
            self.accepted += messages
            self.ledger[cell.CLIENTS] = self.accepted
        else:
            self.refused += messages

    def receipt(self, number: int, *, delivered: bool) -> None:
        """Count a receipt."""
        if not 0 <= number < len(self.seen):
            self.strange += 1
        elif self.seen[number]:
            self.doubled += 1
        else:
            self.seen[number] = 1
            self.undelivered += not delivered
            self.forwarded += 1
            self.ledger[cell.FORWARDED] = self.forwarded

    def report(self) -> dict[str, Any]:
        """What was sent, and what came back."""
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "forwarded": self.forwarded,
            "doubled": self.doubled,
            "strange": self.strange,
            "undelivered": self.undelivered,
            "unanswered": self.asked - self.accepted - self.refused,
            "held_back": self.held_back / max(1, self.looks),
        }

    async def sent_and_received(self, look: Callable[[], Awaitable[object]], drain_s: float) -> None:
        """Look every ``LOOK_S`` seconds until stopped, then until every receipt is back or time runs out."""
        parent, until = os.getppid(), math.inf
        while os.getppid() == parent and time.monotonic() < until:
            if not self.ending and stopped(self.ledger, parent):
                self.ending, until = True, time.monotonic() + drain_s
            if self.ending and self.asked == self.accepted + self.refused and self.forwarded >= self.accepted:
                return
            if not self.ending:
                self.looks += 1
                self.held_back += self.room() <= 0
            await look()
            await asyncio.sleep(LOOK_S)


def parser_of(name: str) -> argparse.ArgumentParser:
    """Give the command line of a driver, with what all of them take."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.peers.{name}", description="a client of a peer")
    add = parser.add_argument
    add("--ledger", type=Path, required=True)
    add("--depth", type=int, default=4_000)
    add("--owed", type=int, default=10_000)
    add("--seed", type=int, default=1)
    add("--drain", type=float, default=60.0)
    return parser


def run(send: Callable[[Driver, argparse.Namespace], Coroutine[Any, Any, None]], arguments: argparse.Namespace) -> None:
    """Run one driver, and print its report."""
    driver = Driver(Ledger(arguments.ledger), arguments.depth, arguments.owed, arguments.seed)
    uvloop.run(send(driver, arguments))
    print(json.dumps(driver.report()), flush=True)
