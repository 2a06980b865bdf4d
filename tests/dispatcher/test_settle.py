"""dispatcher/settle.py: outcomes reach the database once, or not at all, and no acceptance is ever dropped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.job import closed
from dispatcher.store import PROBING, connect, succeed
from gateway import Verdict
from tests.dispatcher.instance import Instance, Unseen, instance, tables
from tests.journey.running import LINK

if TYPE_CHECKING:
    from dispatcher.job import Job

ACCEPTED, RETRY, REJECTED, UNANSWERED = Verdict.ACCEPTED, Verdict.RETRY, Verdict.REJECTED, Verdict.UNANSWERED
TWO_PARTS = "x" * 200


async def claimed(one: Instance, body: str = "Hello", **named: object) -> Job:
    number = await one.app.enqueue(body=body, **named)  # type: ignore[arg-type]
    (job,) = [job for job in await one.claim() if job.id == number]
    return job


async def test_each_outcome_leaves_the_row_in_its_table_and_the_journal_empty(tmp_path, queue_url):
    """submitted, deferred, failed, uncertain: one place each, and out of ready."""
    async with instance(tmp_path, queue_url) as one:
        submitted, deferred, failed, uncertain = [await claimed(one, client_ref=f"r{n}") for n in range(4)]
        one.accepted(submitted, ["m1"])
        one.answered(deferred, [(1, RETRY, 0x14, "")])
        one.answered(failed, [(1, REJECTED, 0x0B, "")])
        one.answered(uncertain, [(1, UNANSWERED, 0, "")])

        await one.flush()

        states = [await one.app.state(job.id) for job in (submitted, deferred, failed, uncertain)]
        assert states == ["submitted", "deferred", "failed", "uncertain"]
        reasons = [await one.app.reason(job.id) for job in (submitted, deferred, failed, uncertain)]
        assert reasons == [None, "RETRY_ESME_RMSGQFUL", "ESME_RINVDSTADR", "UNANSWERED"]
        assert await one.app.value("select count(*) from tocsin.ready") == 0
        assert await one.app.value("select count(*) from tocsin.claim") == 0
        (row,) = await one.app.sent(submitted.id)
        assert (row["message_id"], row["client_ref"], row["part"], row["parts"], row["receipt_state"]) == (
            "m1",
            "r0",
            1,
            1,
            None,
        )
        assert await one.app.events(failed.id) == ["job.failed"]
        assert await one.app.events(uncertain.id) == ["job.uncertain"]
        assert one.settler.pending == 0


async def test_a_retry_spends_an_attempt_and_waits_but_not_past_the_end_of_its_time(tmp_path, queue_url):
    """There it expires by the sweep of what is due."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one)
        await one.app.connection.execute("update tocsin.ready set expires_at = now() + interval '2 seconds'")
        one.answered(job, [(1, RETRY, 0x14, "")])
        await one.flush()

        (row,) = await one.app.fetch("select attempt, due_at <= expires_at as in_time from tocsin.deferred")
        assert (row["attempt"], row["in_time"]) == (1, True)


async def test_what_the_smsc_has_of_a_refused_message_is_to_be_cancelled(tmp_path, queue_url):
    """In the transaction that ends it; not of one whose time was over, nor where nothing was accepted."""
    async with instance(tmp_path, queue_url) as one:
        refused, expired, unsent = [await claimed(one, TWO_PARTS) for _ in range(3)]
        for job in (refused, expired):
            one.answered(job, [(1, ACCEPTED, 0, f"m{job.id}")])
        await one.flush()
        assert await one.app.value("select count(*) from tocsin.inquiry") == 0
        one.settler.put(refused, closed(refused, "blocked", "SUPPRESSED_OPT_OUT"))
        one.settler.put(expired, closed(expired, "expired", "EXPIRED"))
        one.settler.put(unsent, closed(unsent, "blocked", "SUPPRESSED_OPT_OUT"))

        await one.flush()

        rows = await one.app.fetch("select kind, job_id, part, message_id, cause from tocsin.inquiry")
        assert [tuple(row) for row in rows] == [("cancel", refused.id, 1, f"m{refused.id}", "refusal")]
        assert [await one.app.reason(job.id) for job in (refused, expired)] == ["PARTIAL", "PARTIAL"]
        assert await one.app.value("select count(*) from tocsin.operator_log") == 0


async def test_parts_are_recorded_as_they_are_accepted(tmp_path, queue_url):
    """After a crash only the rest goes out."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one, TWO_PARTS)
        one.answered(job, [(1, ACCEPTED, 0, "m1")])
        await one.flush()
        (row,) = await one.app.fetch("select done::text as done, attempt from tocsin.ready")
        assert (row["done"], row["attempt"]) == ("10", 1)
        assert await one.app.state(job.id) == "queued"

        one.answered(job, [(2, ACCEPTED, 0, "m2")])
        await one.flush()

        assert [(row["part"], row["message_id"]) for row in await one.app.sent(job.id)] == [(1, "m1"), (2, "m2")]
        assert await one.app.state(job.id) == "submitted"
        assert await one.app.value("select count(*) from tocsin.claim") == 0


async def test_a_part_refused_for_good_after_another_was_accepted_fails_partially_and_the_accepted_one_is_told(
    tmp_path, queue_url
):
    """The recipient has a piece of it, and the evidence says which."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one, TWO_PARTS)
        one.answered(job, [(1, ACCEPTED, 0, "m1"), (2, REJECTED, 0x66, "")])
        await one.flush()

        assert (await one.app.state(job.id), await one.app.reason(job.id)) == ("failed", "PARTIAL")
        assert [row["message_id"] for row in await one.app.sent(job.id)] == ["m1"]


async def test_a_journal_stands_until_the_last_job_of_its_batch_is_settled_or_released(tmp_path, queue_url):
    """Until then its jobs may have been written."""
    async with instance(tmp_path, queue_url) as one:
        for _ in range(3):
            await one.app.enqueue()
        first, second, third = await one.claim()
        one.accepted(first, ["m1"])
        one.settler.released(second)
        await one.flush()
        assert await one.app.value("select ids from tocsin.claim") == [first.id, second.id, third.id]

        one.answered(third, [(1, RETRY, 0x14, "")])
        await one.flush()

        assert await one.app.value("select count(*) from tocsin.claim") == 0


async def test_after_its_epoch_has_passed_an_owner_changes_nothing_but_its_accepted_answers_are_kept(
    tmp_path, queue_url
):
    """A message id is never dropped: its receipt may still come, and an auditor may ask."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as old,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        accepted, deferred, failed, uncertain = [await claimed(old) for _ in range(4)]
        await new.own()
        before = await tables(old.app, "ready", "claim", "deferred", "closed", "uncertain", "event_log")
        old.accepted(accepted, ["m1"])
        old.answered(deferred, [(1, RETRY, 0x14, "")])
        old.answered(failed, [(1, REJECTED, 0x0B, "")])
        old.answered(uncertain, [(1, UNANSWERED, 0, "")])

        await old.flush()

        assert await tables(old.app, *before) == before
        (row,) = await old.app.fetch("select * from tocsin.sent")
        assert (row["job_id"], row["reason"], row["message_id"]) == (accepted.id, "FENCED", "m1")
        assert old.counter("tocsin_fenced_total", link=LINK) == 1


async def test_a_flush_that_failed_is_repeated(tmp_path, queue_url):
    """Nothing that was answered is forgotten because the database was away."""
    async with instance(tmp_path, queue_url) as one:
        job, other = await claimed(one, TWO_PARTS), await claimed(one)
        broken = await connect(queue_url, PROBING)
        await broken.close()
        one.answered(job, [(1, ACCEPTED, 0, "m1")])
        one.accepted(other, ["m3"])
        with pytest.raises(StoreUnavailable):
            await one.settler.flush(broken)
        one.answered(job, [(2, ACCEPTED, 0, "m2")])

        await one.flush()

        assert [row["message_id"] for row in await one.app.sent(job.id)] == ["m1", "m2"]
        assert await one.app.state(other.id) == "submitted"
        assert await one.app.value("select count(*) from tocsin.claim") == 0


async def test_a_flush_that_still_waits_in_the_server_is_ended_before_it_is_repeated(tmp_path, queue_url):
    """Its client is gone and it does not know: once its lock is free it would write a part's row for a second time."""
    async with instance(tmp_path, queue_url) as one:
        broken, holder = await connect(queue_url, PROBING), await connect(queue_url, PROBING)
        one.accepted(await claimed(one), ["m0"])
        await one.settler.flush(broken)
        job = await claimed(one, TWO_PARTS)
        one.answered(job, [(1, ACCEPTED, 0, "m1")])
        async with holder.transaction():
            await holder.execute("lock table tocsin.link in access exclusive mode")
            row = await broken.fetchrow("backend")
            assert row is not None
            waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and pid"
            flushing = asyncio.create_task(one.settler.flush(broken))
            while not await one.app.value(f"{waits} = $1", row["pid"]):
                await asyncio.sleep(0.005)
            broken.raw.terminate()
            with pytest.raises(StoreUnavailable):
                await flushing
            assert await one.app.value(f"{waits} = $1", row["pid"]) == 1
            await succeed(one.flushing, row)
            again = asyncio.create_task(one.flush())
            while not await one.app.value(f"{waits} <> $1", row["pid"]):
                await asyncio.sleep(0.005)
        await again
        one.answered(job, [(2, ACCEPTED, 0, "m2")])
        await one.flush()

        assert [(row["part"], row["message_id"]) for row in await one.app.sent(job.id)] == [(1, "m1"), (2, "m2")]
        await broken.close()
        await holder.close()


@pytest.mark.parametrize("then", ["nothing", "the rest"])
async def test_a_flush_whose_commit_was_not_seen_is_repeated_without_a_second_row(tmp_path, queue_url, then):
    """The connection may break between the commit and its answer: two rows for one part would make its receipt ambiguous."""
    async with instance(tmp_path, queue_url) as one:
        partly, whole = await claimed(one, TWO_PARTS), await claimed(one)
        one.answered(partly, [(1, ACCEPTED, 0, "m1")])
        one.accepted(whole, ["m3"])
        with pytest.raises(StoreUnavailable):
            await one.settler.flush(Unseen(one.flushing))  # type: ignore[arg-type]
        if then == "the rest":
            one.answered(partly, [(2, ACCEPTED, 0, "m2")])
        await one.flush()
        if then == "nothing":
            one.answered(partly, [(2, ACCEPTED, 0, "m2")])
            await one.flush()

        assert [row["message_id"] for row in await one.app.sent(partly.id)] == ["m1", "m2"]
        assert [row["message_id"] for row in await one.app.sent(whole.id)] == ["m3"]
        assert await one.app.state(partly.id) == await one.app.state(whole.id) == "submitted"
        assert await one.app.value("select count(*) from tocsin.claim") == 0


async def test_a_late_acceptance_takes_a_job_out_of_doubt(tmp_path, queue_url):
    """The answer was only slow."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one)
        one.answered(job, [(1, UNANSWERED, 0, "")])
        await one.flush()
        assert await one.app.state(job.id) == "uncertain"

        one.late(job, 1, ACCEPTED, "m1")
        await one.flush()

        assert await one.app.state(job.id) == "submitted"
        assert [row["message_id"] for row in await one.app.sent(job.id)] == ["m1"]


async def test_a_late_refusal_takes_a_job_out_of_doubt_and_it_goes_again(tmp_path, queue_url):
    """It was not taken: for certain, it may be sent."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one)
        one.answered(job, [(1, UNANSWERED, 0, "")])
        await one.flush()

        one.late(job, 1, RETRY, "")
        await one.flush()

        assert await one.app.state(job.id) == "deferred"


async def test_a_late_answer_to_one_of_two_doubtful_parts_leaves_the_other_in_doubt(tmp_path, queue_url):
    """Each part is known by itself."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one, TWO_PARTS)
        one.submit(job).unanswered = 1
        one.answered(job, [(1, UNANSWERED, 0, "")])
        assert job.submission is not None
        job.submission.unanswered = 0
        one.answered(job, [(2, UNANSWERED, 0, "")])
        await one.flush()

        one.late(job, 2, ACCEPTED, "m2")
        await one.flush()

        (row,) = await one.app.fetch("select done::text as done, doubt::text as doubt from tocsin.uncertain")
        assert (row["done"], row["doubt"]) == ("01", "10")
        one.late(job, 1, ACCEPTED, "m1")
        await one.flush()
        assert await one.app.state(job.id) == "submitted"


async def test_a_late_answer_waits_for_the_flush_that_says_its_job_is_in_doubt(tmp_path, queue_url):
    """A flush takes a thousand jobs: the doubt may be in the next one, and its resolution must not pass it by."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.enqueue_many([{"recipient": "447700900123", "body": "x"} for _ in range(1_001)])
        jobs = await one.claim(room=2_000)
        for job in jobs[:-1]:
            one.accepted(job, [f"m{job.id}"])
        one.answered(jobs[-1], [(1, UNANSWERED, 0, "")])
        one.late(jobs[-1], 1, ACCEPTED, "late")

        await one.flush()

        assert await one.app.states() == {"submitted": 1_001}
        (row,) = await one.app.sent(jobs[-1].id)
        assert (row["message_id"], row["reason"]) == ("late", None)


async def test_an_acceptance_of_a_job_that_ended_otherwise_is_kept_as_fenced(tmp_path, queue_url):
    """Whatever the job's state says, the SMSC has it."""
    async with instance(tmp_path, queue_url) as one:
        job = await claimed(one)
        one.settler.put(job, closed(job, "expired", "EXPIRED"))
        await one.flush()

        one.late(job, 1, ACCEPTED, "m1")
        one.late(job, 1, ACCEPTED, "m1")
        await one.flush()

        (row,) = await one.app.sent(job.id)
        assert (row["reason"], row["message_id"]) == ("FENCED", "m1")
        assert await one.app.state(job.id) == "expired"


async def test_a_message_id_may_hold_anything(tmp_path, queue_url):
    """It is the SMSC's own text."""
    async with instance(tmp_path, queue_url) as one:
        names = ['a"b', "back\\slash", "{1,2}", "NULL", "", "ünïcode", "a,b", " "]
        numbers = [await one.sent([name]) for name in names]

        assert [(await one.app.sent(number))[0]["message_id"] for number in numbers] == names


async def test_a_text_is_kept_only_where_its_category_says_so(tmp_path, queue_url):
    """A text that is not there cannot leak."""
    kept = [{"name": "lab_result", "lane": 3, "keep_text_days": 2}]
    async with instance(tmp_path, queue_url, categories=kept) as one:
        number = await one.sent(["m1"], category="lab_result")
        await one.sent(["m2"], category="staff")

        rows = await one.app.fetch("select job_id, body from tocsin.sent_text")
        assert [(row["job_id"], row["body"]) for row in rows] == [(number, "x" * 100)]


async def test_an_outcome_of_an_earlier_ownership_leaves_the_row_to_the_later_one(tmp_path, queue_url):
    """A link lost and taken again by the same process: the take-over has accounted for the old claims."""
    async with instance(tmp_path, queue_url) as one:
        one.record.recovered(one.clock())
        old = await claimed(one)
        one.epochs.clear()
        one.claimer.forget(LINK)
        await one.app.connection.execute("delete from tocsin.claim")  # another owner knew that it was never written
        await one.own()
        (new,) = await one.claim()
        assert (new.id, new.epoch) == (old.id, old.epoch + 1)
        one.record.written(LINK, one.clock(), [(new.id, new.enqueued_us, 1)])

        one.answered(old, [(1, UNANSWERED, 0, "")])
        await one.flush()
        assert await one.app.state(new.id) == "queued"
        assert await one.claim() == [], "the later claim still holds it"
        assert one.record.told(one.clock()).parts(new.id, new.enqueued_us) == {1: None}, "and its record stands"

        one.accepted(new, ["m2"])
        await one.flush()
        assert await one.app.state(new.id) == "submitted"
        assert [row["message_id"] for row in await one.app.sent(new.id)] == ["m2"]


async def test_an_acceptance_of_an_earlier_ownership_is_kept_as_fenced(tmp_path, queue_url):
    """The message id is evidence; the job is the later owner's."""
    async with instance(tmp_path, queue_url) as one:
        old = await claimed(one)
        one.epochs.clear()
        one.claimer.forget(LINK)
        await one.own()
        (new,) = await one.claim()
        one.accepted(new, ["m2"])
        await one.flush()

        one.accepted(old, ["m1"])
        await one.flush()
        reasons = {row["message_id"]: row["reason"] for row in await one.app.sent(new.id)}
        assert reasons == {"m1": "FENCED", "m2": None}
