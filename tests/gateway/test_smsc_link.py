"""Our own link against the simulator's faults: it comes through each of them and sends again."""

from __future__ import annotations

import asyncio

import pytest

from config.settings import LinkSettings
from gateway import Link, LinkMetrics, Verdict
from gateway.smsc import KINDS, Fault, Scenario
from tests.fakes.observer import Recorder, submission

SPANS = {
    "slow_bind": (0.1, 0.1),
    "dribble": (0.0005, 0.0005),
    "delay_answer": (0.05, 0.05),
    "reorder_answers": (0.05, 0.05),
}


def usual(port):
    """A link that notices within tenths of a second what a real one notices within seconds."""
    return LinkSettings(
        name="simulator",
        hosts=("127.0.0.1",),
        port=port,
        system_id="clinic",
        password="secret",
        rebind_delay_s=0.05,
        enquire_link_s=0.2,
        response_timeout_s=0.6,
        bind_timeout_s=2.0,
        throughput_per_s=1000,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_the_link_comes_through(kind):
    """Every message has an end that is told; after the fault the link is bound and its message is accepted."""
    status = 0x08 if "status" in KINDS[kind].keys else None  # after ESME_RBINDFAIL a link waits for minutes
    fault = Fault(kind, count=1, status=status, seconds=SPANS.get(kind, (1.0, 1.0)), per_s=50 if "flood" in kind else 1)
    seen = Recorder()
    async with Scenario(faults=(fault,), seed=1).smsc() as smsc:
        (armed,) = smsc.plan
        link = Link(usual(smsc.port), seen, metrics=LinkMetrics(), sent_at=())
        task = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(60):
                if kind == "mute_enquire_link":  # a link that sends does not ask
                    await smsc.until(lambda: armed.struck)
                while not (armed.struck and seen.verdicts()[-1:] == [Verdict.ACCEPTED]):
                    await seen.until(lambda: link.is_bound)
                    before = ended(seen)
                    link.submit([submission()])
                    await seen.until(lambda before=before: ended(seen) > before)
        finally:
            task.cancel()
            await asyncio.wait([task])


def ended(seen):
    """Messages of which the link has told an end: answered, in doubt, or given back unwritten."""
    return len(seen.results) + len(seen.returned)
