"""A daemon against the simulator: what becomes of a job to each test number, in each form of ids and receipts."""

from __future__ import annotations

import asyncio

import pytest

from gateway.smsc import DIALECTS, OUTCOMES, SHIPPED, Scenario, SmscSettings
from tests.fakes.esme import WAIT_S
from tests.journey.running import LINK, ROOT, Running, app_of, write_file

MANUAL = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
TO = "447700900123"
STATE = {  # of the job, once nothing more comes; or, where it is tried again, after the first time
    "delivered": "delivered",
    "undeliverable": "undelivered",
    "expired": "undelivered",
    "deleted": "undelivered",
    "rejected": "undelivered",
    "unknown": "unknown",
    "no_receipt": "submitted",
    "unanswered": "uncertain",
    "answer_lost": "uncertain",
    "throttled": "queued",
    "queue_full": "deferred",
    "invalid_destination": "failed",
    "system_error": "deferred",
}


@pytest.mark.parametrize("number", SHIPPED, ids=lambda number: number.behaviour)
async def test_what_becomes_of_a_job_to_a_test_number(tmp_path, queue_url, number):
    """The table of the manual, as an app sees it."""
    behaviour, state = number.behaviour, STATE[number.behaviour]
    assert f"| +{number.pattern} | `{behaviour}` | {OUTCOMES[behaviour].meaning} | {state} |" in MANUAL
    async with Scenario().smsc() as smsc, app_of(queue_url) as app:
        file = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port, "response_timeout_s": 0.3}})
        async with Running(file) as daemon:
            await daemon.until_bound()
            job = await app.enqueue(number.pattern, category="transactional")

            repeats = 2 if behaviour == "throttled" else 1  # the link itself repeats what is throttled
            async with asyncio.timeout(WAIT_S):
                await smsc.until(lambda: smsc.submitted >= repeats and smsc.held == 0)
            await app.until_state(job, state)
            assert await daemon.stop() == 0


FORMS = [("decimal", "hex"), ("hex_upper", "decimal_padded"), ("uuid", "same"), ("longest", "same")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dialect", "answer", "receipt"),
    [*((dialect, "hex", "decimal") for dialect in DIALECTS), *(("appendix_b", *forms) for forms in FORMS)],
)
async def test_receipts_find_their_job(tmp_path, queue_url, dialect, answer, receipt):
    """In every dialect, with ids in two forms."""
    settings = SmscSettings(receipts=dialect, message_ids=answer, receipt_message_ids=receipt, receipt_copies=2)
    async with Scenario(settings).smsc() as smsc, app_of(queue_url) as app:
        async with Running(write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}})) as daemon:
            await daemon.until_bound()
            job = await app.enqueue(TO)

            await app.until_state(job, "delivered")
            assert await daemon.stop() == 0
