"""dispatcher/loops.py: what the loops ask of the database, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from dispatcher.caps import Caps
from dispatcher.loops import PROBE_PAUSES, PROBE_S, PROBE_WHOLE_PAUSES, PROBE_WHOLE_S, Loops, Signals


@dataclass
class Slow:
    """A claimer without work whose probes take their time, on a clock that only they and its claims move."""

    probe_s: float
    whole_s: float
    wanted: int = 10_000
    wanted_whole: int = 10_000
    now: float = 100.0
    probed_at: list[float] = field(default_factory=list)
    whole_at: list[float] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def claim(self, *_: object) -> list[object]:
        self.now += 0.01
        return []

    async def probe(self, *_: object, whole: bool) -> bool:
        (self.whole_at if whole else self.probed_at).append(self.now)
        self.now += self.whole_s if whole else self.probe_s
        if len(self.probed_at) == self.wanted or len(self.whole_at) == self.wanted_whole:
            self.enough.set()
            await asyncio.Event().wait()
        return True  # so the loop goes on at once


class Desk:
    """Receipts or replies that wait for one flush, which takes until it is let go."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.pending = 1
        self.refused = 0
        self.flushed = asyncio.Event()
        self._let_go = asyncio.Event()
        if not stuck:
            self._let_go.set()

    async def flush(self, _connection: object) -> int:
        await self._let_go.wait()
        self.pending = 0
        self.flushed.set()
        return 1

    keep = flush

    def refuse(self) -> None:
        self.refused += 1


def loops_of(signals: Signals, **parts: Any) -> Loops:
    """Loops with these parts and no others."""
    names = ("claimer", "dispatcher", "settler", "receipts", "intake", "inbound", "backlog", "pauses")
    absent: Any = SimpleNamespace()
    others: Any = dict.fromkeys((*names, "emergency_enqueued", "rules_changed"), absent) | {
        "gateway": lambda: absent,
        "clock": asyncio.get_running_loop().time,
    }
    return Loops(**(others | {"owner": "1:a", "epochs": {}, "signals": signals} | parts))


@pytest.mark.parametrize("stuck", ["intake", "inbound"])
async def test_receipts_and_replies_do_not_wait_for_each_other(stuck):
    """The flush of the one hangs in the database, and the other is written all the same."""
    absent: Any = None
    desks = {name: Desk(stuck=name == stuck) for name in ("intake", "inbound")}
    loops = loops_of(Signals(), **desks)
    running = [asyncio.create_task(loops.receive(absent)), asyncio.create_task(loops.store_replies(absent))]
    (other,) = desks.keys() - {stuck}
    await asyncio.wait_for(desks[other].flushed.wait(), 5)

    assert not desks[stuck].flushed.is_set()
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def test_every_kind_of_delivery_is_refused_while_nothing_can_be_kept():
    """What waits at once, and what comes later by its own signal."""
    signals, intake, inbound = Signals(), Desk(), Desk()
    running = asyncio.create_task(loops_of(signals, intake=intake, inbound=inbound).refuse())
    await asyncio.sleep(0.01)
    assert (intake.refused, inbound.refused) == (1, 1)

    signals.reply.set()
    await asyncio.sleep(0.01)
    assert (intake.refused, inbound.refused) == (1, 2)

    signals.arrival.set()
    await asyncio.sleep(0.01)
    assert (intake.refused, inbound.refused) == (2, 2)
    running.cancel()
    await asyncio.wait([running])


async def probes_of(claimer: Slow) -> None:
    """Let the loop of lanes 1 to 5 probe as often as is wanted."""
    signals = Signals()
    absent: Any = SimpleNamespace(holds_others=signals.claim.set, lanes=(), links={})
    parts = dict.fromkeys(("backlog", "pauses"), absent)
    dispatcher = SimpleNamespace(caps=Caps(()), count=AsyncMock())
    loops = loops_of(
        signals, claimer=claimer, dispatcher=dispatcher, gateway=lambda: absent, clock=lambda: claimer.now, **parts
    )
    running = asyncio.create_task(loops.claim(absent))
    await claimer.enough.wait()
    running.cancel()
    await asyncio.wait([running])


def pauses(instants: list[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(instants)]


@pytest.mark.parametrize(("probe_s", "every_s"), [(0.001, PROBE_S), (0.05, 0.05 + PROBE_PAUSES * 0.05)])
async def test_a_slow_probe_is_followed_by_ten_times_its_length_without_one(probe_s, every_s):
    """It takes what it takes by the rows that are gone, and shall not take a processor for it."""
    claimer = Slow(probe_s, whole_s=0.001, wanted=5)
    await probes_of(claimer)

    assert pauses(claimer.probed_at) == pytest.approx([every_s] * 4, abs=0.011)  # a claim's length


@pytest.mark.parametrize(("whole_s", "every_s"), [(0.01, PROBE_WHOLE_S), (2.0, 2.0 + PROBE_WHOLE_PAUSES * 2.0)])
async def test_a_slow_look_at_the_whole_is_seldom_and_keeps_no_probe_waiting(whole_s, every_s):
    """Behind a snapshot that somebody holds it walks over all that has gone since; the floor goes on meanwhile."""
    claimer = Slow(0.001, whole_s=whole_s, wanted_whole=3)
    await probes_of(claimer)

    assert pauses(claimer.whole_at) == pytest.approx([every_s] * 2, abs=0.25)
    assert max(pauses(claimer.probed_at)) < whole_s + 2 * PROBE_S
