"""dispatcher/loops.py: what the loops ask of the database, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher.loops import PROBE_PAUSES, PROBE_S, Loops, Signals


@dataclass
class Slow:
    """A claimer without work whose probes take their time, on a clock that only they and its claims move."""

    probe_s: float
    now: float = 100.0
    probed_at: list[float] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def claim(self, *_: object) -> list[object]:
        self.now += 0.01
        return []

    async def probe(self, *_: object, whole: bool) -> bool:
        assert whole == (not self.probed_at)
        self.probed_at.append(self.now)
        self.now += self.probe_s
        if len(self.probed_at) == 5:
            self.enough.set()
            await asyncio.Event().wait()
        return True  # so the loop goes on at once


@pytest.mark.parametrize(("probe_s", "every_s"), [(0.001, PROBE_S), (0.05, 0.05 + PROBE_PAUSES * 0.05)])
async def test_a_slow_probe_is_followed_by_ten_times_its_length_without_one(probe_s, every_s):
    """It takes what it takes by the rows that are gone, and shall not take a processor for it."""
    claimer = Slow(probe_s)
    signals = Signals()
    absent: Any = SimpleNamespace(holds_others=signals.claim.set, lanes=(), links={})
    loops = Loops(
        owner="1:a",
        epochs={},
        claimer=claimer,  # type: ignore[arg-type]
        dispatcher=absent,
        settler=absent,
        receipts=absent,
        intake=absent,
        inbound=absent,
        backlog=absent,
        pauses=absent,
        gateway=lambda: absent,
        emergency_enqueued=absent,
        rules_changed=absent,
        signals=signals,
        clock=lambda: claimer.now,
    )
    running = asyncio.create_task(loops.claim(absent))
    await claimer.enough.wait()
    running.cancel()
    await asyncio.wait([running])

    pauses = [later - sooner for sooner, later in pairwise(claimer.probed_at)]
    assert pauses == pytest.approx([every_s] * 4, abs=0.011)  # a claim's length
