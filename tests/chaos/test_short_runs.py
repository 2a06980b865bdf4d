"""The short form: two seconds of traffic under faults, judged by the logs. ``make chaos`` runs the long one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.run import run_seed
from tests.chaos.schedule import FAMILIES, schedule


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 23, 35])
async def test_nothing_is_lost_doubled_or_doubted_without_a_cause(seed):
    """The folder stays when something was found; the seed gives the same schedule again."""
    asyncio.get_running_loop().set_debug(False)
    folder = Path(tempfile.mkdtemp(prefix=f"tocsin-chaos-{seed}-"))
    verdict = await run_seed(seed, 400, folder)
    assert verdict.word == "ok", f"{folder}; again: python -m tests.chaos --jobs 400 --seeds {seed}"
    assert sum(verdict.states.values()) == 400, "the judge saw every job"
    shutil.rmtree(folder)


def test_a_seed_gives_the_same_schedule_and_all_of_them_every_fault():
    """A failure can be looked at again; no fault is only on paper."""
    assert [schedule(seed) for seed in range(50)] == [schedule(seed) for seed in range(50)]
    tried = {fault.name for seed in range(50) for fault in schedule(seed).faults}
    assert tried == {name for family in FAMILIES for name in family}
