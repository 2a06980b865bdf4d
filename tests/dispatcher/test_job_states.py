"""[[category]] job_states: apps hear of each state where they ask for it, and of no more elsewhere."""

from __future__ import annotations

import json

import pytest

from gateway import Verdict
from tests.dispatcher.instance import instance
from tests.journey.running import LINK

TELLING = {"name": "transactional", "job_states": True}


@pytest.mark.parametrize("is_told", [True, False])
async def test_each_state_is_told_of_categories_that_ask_for_it(tmp_path, queue_url, is_told):
    """Put off, due again, accepted; the links ask for receipts, so otherwise none of it is."""
    async with instance(tmp_path, queue_url, categories=[TELLING] if is_told else []) as one:
        number = await one.app.enqueue(client_ref="visit 7")
        other = await one.app.enqueue(category="conversational")
        jobs = {job.id: job for job in await one.claim()}
        one.answered(jobs[number], [(1, Verdict.RETRY, 0x14, "")])
        one.accepted(jobs[other], ["m0"])
        await one.flush()
        await one.app.hurry()
        await one.claiming.fetch("promote", f"{{{LINK}}}", f"{{{jobs[number].epoch}}}", 10)
        one.claimer.arrived(LINK, jobs[number].lane, (number,))
        (again,) = await one.claim()
        one.accepted(again, ["m1"])
        await one.flush()

        assert await one.app.events(number) == ["job.deferred", "job.queued", "job.submitted"] * is_told
        assert await one.app.events(other) == []
        if is_told:
            (row,) = await one.app.fetch(
                "select reason, client_ref, detail from tocsin.event_log where type = 'job.deferred'"
            )
            assert (row["reason"], row["client_ref"]) == ("RETRY_ESME_RMSGQFUL", "visit 7")
            assert set(json.loads(row["detail"])) == {"until"}
            steps = [step["what"] for step in await one.app.fetch("select what from tocsin.job_evidence($1)", number)]
            assert steps == ["enqueued", "job_deferred", "part_submitted"]


async def test_what_is_told_of_many_is_told_once_and_in_their_order_of_numbers(tmp_path, queue_url):
    """One statement a flush: as many events as jobs, no number twice."""
    async with instance(tmp_path, queue_url, categories=[TELLING]) as one:
        for _ in range(20):
            await one.app.enqueue()
        for job in await one.claim():
            one.accepted(job, [f"m{job.id}"])
        await one.flush()

        rows = await one.app.fetch("select seq, xid::text from tocsin.event_log where type = 'job.submitted'")
        assert len({row["seq"] for row in rows}) == 20
        assert len({row["xid"] for row in rows}) == 1
