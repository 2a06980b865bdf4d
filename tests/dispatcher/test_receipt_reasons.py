"""The reason of a receipt on its way to its segment: kept, parked, taken up by another process, counted."""

from __future__ import annotations

import json

import pytest

from dispatcher.receipts import TELL_UNMATCHED_AFTER_S
from gateway import DeliveryState, Receipt, Verdict
from tests.dispatcher.chores import Chores
from tests.dispatcher.instance import Given, Instance, instance
from tests.journey.running import LINK

RECIPIENT = "447700900123"
TOTAL = "tocsin_receipt_errors_total"


def receipt(message_id: str, reason: str = "ABSENT", state: DeliveryState = DeliveryState.UNDELIVERED) -> Receipt:
    error = "061" if reason else "000"
    return Receipt(message_id, state, error, source=RECIPIENT, destination="Northside", reason=reason)


async def reached(one: Instance, number: int) -> tuple[object, ...]:
    """State, reason and retry of the job; reason and code in its evidence; its last event's reason and detail."""
    (row,) = await one.app.fetch("select state, reason, retry from tocsin.job_status($1)", number)
    (sent,) = await one.app.fetch("select receipt_reason, receipt_error from tocsin.sent where job_id = $1", number)
    query = "select reason, detail from tocsin.event_log where subject = $1 order by seq desc limit 1"
    (event,) = await one.app.fetch(query, str(number))
    return *row, *sent, event["reason"], json.loads(event["detail"] or "{}")


ABSENT = ("undelivered", "ABSENT", "later", "ABSENT", "061", "ABSENT", {"error": "061", "retry": "later"})


async def test_it_is_written_told_and_counted_once(tmp_path, queue_url):
    """A repetition is no second failure."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await one.receive(receipt("m1"))
        await one.receive(receipt("m1"), receipt("m1", "BARRED"))

        assert await reached(one, number) == ABSENT
        assert one.counter(TOTAL, link=LINK, reason="ABSENT") == 1
        assert one.counter(TOTAL, link=LINK, reason="BARRED") == 0


async def test_each_part_is_counted_by_its_own_reason_and_what_arrives_by_none(tmp_path, queue_url):
    """The counter is of receipts; the job has the reason of its worst part."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1", "m2"])
        await one.sent(["m3"])
        await one.receive(
            receipt("m1"), receipt("m2", "UNKNOWN_SUBSCRIBER"), receipt("m3", "", DeliveryState.DELIVERED)
        )

        assert await one.app.reason(number) == "UNKNOWN_SUBSCRIBER"
        counted = {
            sample.labels["reason"]: sample.value
            for metric in one.registry.collect()
            for sample in metric.samples
            if sample.name == TOTAL and sample.value
        }
        assert counted == {"ABSENT": 1, "UNKNOWN_SUBSCRIBER": 1}


async def test_a_parked_receipt_keeps_its_reason_for_the_next_process(tmp_path, queue_url):
    """It came before its answer, and its process went."""
    async with instance(tmp_path, queue_url, name="1:a") as one:
        number = await one.app.enqueue()
        await one.receive(receipt("m1"))
        assert await one.app.value("select reason from tocsin.receipt_wait") == "ABSENT"
        async with instance(tmp_path, queue_url, name="2:b") as two:
            (job,) = await two.claim()
            two.accepted(job, ["m1"])
            await two.flush()
            await two.receipts.restore(two.flushing, [LINK])
            await two.receive()

            assert await reached(two, number) == ABSENT


async def test_a_kept_receipt_keeps_its_reason_for_the_next_owner(tmp_path, queue_url):
    """It was answered and not applied when its process went."""
    async with instance(tmp_path, queue_url, name="1:a") as one:
        numbers = [await one.sent([name]) for name in ("m1", "m2")]
        one.intake.take(LINK, [Given(receipt("m1")), Given(receipt("m2", "", DeliveryState.DELIVERED))])  # type: ignore[list-item]
        await one.intake.keep(one.flushing)
        async with instance(tmp_path, queue_url, name="2:b") as two:
            await two.intake.restore(two.flushing, [LINK])
            await two.bring_home()

            assert await reached(two, numbers[0]) == ABSENT
            assert await two.app.state(numbers[1]) == "delivered"


@pytest.mark.parametrize("tail", ["", ', "OF_ANOTHER_VERSION"'])
async def test_what_another_version_kept_has_its_code_for_a_reason(tmp_path, queue_url, tail):
    """A row from before the reason was kept, or with one that is not known here, is applied and not lost."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        kept = f'[["m1", 30, "061", "{RECIPIENT}", "Northside", ""{tail}]]'
        await one.app.connection.execute(
            "insert into tocsin.receipt_taken (link, receipts) values ($1, $2)", LINK, kept
        )
        await one.intake.restore(one.flushing, [LINK])
        await one.bring_home()

        told = {"error": "061", "retry": "unclear"}
        assert await reached(one, number) == ("undelivered", "061", "unclear", None, "061", "061", told)


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_receipt_that_resolves_doubt_gives_the_job_its_reason(tmp_path, queue_url, parts):
    """Its id is unknown and its addresses name one job; beside a part that arrived, the other's reason is the job's."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue(RECIPIENT, "x" * (100 if parts == 1 else 200))
        (job,) = await one.claim()
        taken = [(1, Verdict.ACCEPTED, 0, "m1")] if parts == 2 else []
        one.answered(job, [*taken, (parts, Verdict.UNANSWERED, 0, "")], session_over=True)
        await one.flush()
        if taken:
            await one.receive(receipt("m1", "", DeliveryState.DELIVERED))
        await one.receive(receipt("unseen"))
        one.clock.ahead_s += TELL_UNMATCHED_AFTER_S + 1
        await Chores(one).run()

        query = "select state, reason, retry from tocsin.job_status($1)"
        assert [tuple(row) for row in await one.app.fetch(query, number)] == [ABSENT[:3]]
        kept = "select receipt_reason, receipt_error from tocsin.sent where job_id = $1 and part = $2"
        assert [tuple(row) for row in await one.app.fetch(kept, number, parts)] == [("ABSENT", "061")]
        (event,) = await one.app.fetch("select reason, detail from tocsin.event_log where type = 'job.undelivered'")
        assert (event["reason"], json.loads(event["detail"])) == ABSENT[5:]
        assert one.counter(TOTAL, link=LINK, reason="ABSENT") == 1
