"""dispatcher/doubt.py: what ends the doubt about a segment that was written and never answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway import DeliveryState, Receipt, Verdict
from tests.dispatcher.chores import PARTITIONS_OF_OLD, Chores, age, doubtful
from tests.dispatcher.instance import Instance, instance
from tests.journey.running import LINK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dispatcher.job import Job

TO, OTHER = "447700900123", "447700900124"
SPARE = "carrier-b"
TWO_LINKS = {LINK: {}, SPARE: {}}


async def ended(one: Instance, link: str = LINK) -> dict[str, float]:
    """What ended doubt, by the metric."""
    hows = ("answer", "receipt", "resent", "requeued", "unknown", "expired")
    counts = {how: one.counter("tocsin_doubt_ended_total", link=link, how=how) for how in hows}
    return {how: count for how, count in counts.items() if count}


async def reasons(one: Instance, number: int) -> list[tuple[str, str | None]]:
    """The job's events with their reasons."""
    rows = await one.app.fetch("select type, reason from tocsin.event_log where subject = $1 order by seq", str(number))
    return [(row["type"], row["reason"]) for row in rows]


# ---------------------------------------------------------------- sent again


async def test_doubt_whose_late_answer_was_read_is_not_resent_before_that_is_written(tmp_path, queue_url):
    """Else a segment that was answered goes again, for no better reason than a slow database."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await one.app.enqueue(category="emergency")
        (job,) = await one.claim()
        one.submit(job)
        one.answered(job, [(1, Verdict.UNANSWERED, 0, "")])
        await one.flush()
        assert await one.app.state(number) == "uncertain"
        await age(one, "uncertain", "since", "1 hour")
        one.late(job, 1, Verdict.ACCEPTED, "m1")

        await chores.run()
        assert await one.app.state(number) == "uncertain"
        await one.flush()
        assert await one.app.state(number) == "submitted"


async def test_doubt_is_resent_twice_at_most_and_only_where_the_category_says_so(tmp_path, queue_url):
    """Two more texts are better than a missed emergency; a third is noise."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        held = await doubtful(one)
        emergency = await doubtful(one, category="emergency")
        rounds = 0
        await chores.run()
        assert await one.app.state(emergency) == "uncertain", "not before its minute is over"
        for _ in range(4):
            await age(one, "uncertain", "since", "61 seconds")
            await chores.run()
            if await one.app.state(emergency) == "uncertain":
                break
            await chores.run()  # promoted
            (job,) = await one.claim()
            assert (job.id, job.resends) == (emergency, rounds + 1)
            rounds += 1
            one.answered(job, [(1, Verdict.UNANSWERED, 0, "")])
            await one.flush()

        assert rounds == 2
        assert [await one.app.state(number) for number in (held, emergency)] == ["uncertain", "uncertain"]


async def test_a_resend_leaves_out_the_parts_that_were_accepted(tmp_path, queue_url):
    """Only the doubtful one is doubled."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await doubtful(one, body="x" * 200, parts=(2,), category="emergency")
        await age(one, "uncertain", "since", "61 seconds")
        await chores.run()
        await chores.run()

        (job,) = await one.claim()
        assert (job.parts, job.done) == (2, 0b01)


async def test_doubt_that_nothing_resolved_ends_in_unknown(tmp_path, queue_url):
    """After its time and the wait for a receipt: one row for each part that nobody knows of."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, body="x" * 200, parts=(2,))
        await age(one, "uncertain", "since", "3 days")
        await chores.run()
        assert await one.app.state(number) == "uncertain"

        await age(one, "uncertain", "expires_at", "3 days 1 minute")
        await chores.run()

        rows = await one.app.sent(number)
        assert [(row["part"], row["reason"], row["receipt_state"]) for row in rows] == [
            (1, None, None),
            (2, "DOUBT", 20),
        ]
        assert await one.app.value("select count(*) from tocsin.uncertain") == 0
        assert await one.app.value("select body from tocsin.sent_text") is None


@pytest.mark.parametrize("known", [20, 30, 40])
async def test_a_job_is_told_as_unknown_once_no_part_of_it_is_awaited(tmp_path, queue_url, known):
    """Not while its state is submitted, and not twice: when doubt ends, and when the last receipt is given up."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        awaited, brought = [await doubtful(one, body="x" * 200, parts=(2,)) for _ in range(2)]
        await one.app.connection.execute("update tocsin.sent set receipt_state = $1 where job_id = $2", known, brought)
        await age(one, "uncertain", "since", "3 days")
        await age(one, "uncertain", "expires_at", "3 days 1 minute")
        await chores.run()

        assert [await one.app.state(number) for number in (awaited, brought)] == ["submitted", "unknown"]
        told = [await one.app.events(number) for number in (awaited, brought)]
        assert told == [["job.uncertain"], ["job.uncertain", "job.unknown"]]

        await one.app.fetch("select tocsin.make_partitions(1)")
        await one.app.connection.execute(PARTITIONS_OF_OLD)
        await one.app.connection.execute(
            "update tocsin.sent set submitted_at = now() - interval '75 hours', enqueued_at = now() - interval '75 hours'"
            " where job_id = $1",
            awaited,
        )
        await chores.run()

        assert await one.app.state(awaited) == "unknown"
        assert (await one.app.events(awaited)).count("job.unknown") == 1
        assert one.counter("tocsin_jobs_total", category="transactional", state="unknown") == 2


@pytest.mark.parametrize("receipt", [None, 40])
async def test_an_answer_that_the_fence_kept_out_ends_the_doubt_of_the_next_owner(tmp_path, queue_url, receipt):
    """It stood in `sent` before the job came into doubt: the part is neither sent again nor given up, and told once."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        whole = await doubtful(one)
        half = await doubtful(one, body="x" * 200, parts=(1, 2))
        await age(one, "uncertain", "written_at", "10 seconds")
        for number in (whole, half):
            await one.app.connection.execute(
                "insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category,"
                " lane, enqueued_at, app, reason, message_id, receipt_state, receipt_at) select now(), id, 1, parts, 1, link,"
                " recipient, sender, category, lane, enqueued_at, app, 'FENCED', 'f' || id, $2, now() from tocsin.uncertain"
                " where id = $1",
                number,
                receipt,
            )

        await chores.run()

        assert [await one.app.state(number) for number in (whole, half)] == [
            "delivered" if receipt else "submitted",
            "uncertain",
        ]
        assert await one.app.value("select doubt::text from tocsin.uncertain") == "01"
        assert await one.app.events(whole) == ["job.uncertain"] + ([] if receipt else ["job.submitted"])
        assert await ended(one) == {"answer": 1.0}

        await age(one, "uncertain", "since", "3 days")
        await age(one, "uncertain", "expires_at", "3 days 1 minute")
        await chores.run()
        assert len(await one.app.sent(whole)) == 1
        assert "job.unknown" not in await one.app.events(whole)


async def test_once_the_session_is_over_a_resend_is_due_at_once(tmp_path, queue_url):
    """No answer can come any more. One that timed out on a session that lives waits for its interval."""
    async with instance(tmp_path, queue_url) as one:
        lost = await doubtful(one, category="emergency", session_over=True)
        slow = await doubtful(one, category="emergency")
        held = await doubtful(one, session_over=True)
        assert await one.app.reason(lost) == "SESSION_LOST"
        assert await one.app.reason(slow) == "UNANSWERED"

        await Chores(one).run()

        assert [await one.app.state(number) for number in (lost, slow, held)] == ["deferred", "uncertain", "uncertain"]
        assert await reasons(one, lost) == [("job.uncertain", "SESSION_LOST"), ("job.resent", "RESEND")]
        assert await reasons(one, slow) == [("job.uncertain", "UNANSWERED")]
        assert await ended(one) == {"resent": 1}


async def test_doubt_is_due_once_its_link_was_seen_to_lose_its_sessions_after_it(tmp_path, queue_url):
    """The state is told every two seconds: 5 s after the doubt, it was this session that ended."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one, category="emergency")
        await age(one, "uncertain", "since", "4 seconds")
        await one.app.connection.execute("update tocsin.link set state_since = now()")
        await Chores(one).run()
        assert await one.app.state(number) == "uncertain"

        await age(one, "uncertain", "since", "2 seconds")
        await Chores(one).run()

        assert await one.app.state(number) == "deferred"


async def test_a_part_that_timed_out_on_a_living_session_keeps_the_whole_job_waiting(tmp_path, queue_url):
    """Its answer may still come, though the other part's cannot."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue(body="x" * 200, category="emergency")
        (job,) = await one.claim()
        one.submit(job)
        job.note(1, Verdict.UNANSWERED, 0, "", one.clock())
        one.answered(job, [(2, Verdict.UNANSWERED, 0, "")], session_over=True)
        await one.flush()

        assert await one.app.reason(number) == "UNANSWERED"


async def test_what_is_accepted_after_a_resend_is_marked_and_told(tmp_path, queue_url):
    """The job, its evidence and its events say that the person may have it twice; the parts before it are not marked."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, body="x" * 200, parts=(2,), category="emergency", session_over=True)
        await chores.run()
        await chores.run()
        (job,) = await one.claim()
        assert (job.id, job.done, job.resends) == (number, 0b01, 1)
        one.answered(job, [(2, Verdict.ACCEPTED, 0, "again")])
        await one.flush()

        assert (await one.app.state(number), await one.app.reason(number)) == ("submitted", "POSSIBLE_DUPLICATE")
        assert [(row["part"], row["reason"], row["resends"]) for row in await one.app.sent(number)] == [
            (1, None, None),
            (2, "POSSIBLE_DUPLICATE", 1),
        ]
        assert [kind for kind, _ in await reasons(one, number)] == ["job.uncertain", "job.resent", "job.submitted"]
        assert await one.app.value("select resends from tocsin.job_status($1)", number) == 1

        await one.receive(said("m1"), said("again"))
        assert (await one.app.state(number), await one.app.reason(number)) == ("delivered", "POSSIBLE_DUPLICATE")


async def test_the_carrier_s_error_goes_before_the_mark_until_it_is_delivered(tmp_path, queue_url):
    """Why it did not arrive matters more than how often it was sent."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, category="emergency", session_over=True)
        await chores.run()
        await chores.run()
        (job,) = await one.claim()
        one.accepted(job, ["again"])
        await one.flush()

        await one.receive(said("again", DeliveryState.UNDELIVERED, error="012"))
        assert await one.app.reason(number) == "012"
        await one.receive(said("again"))
        assert await one.app.reason(number) == "POSSIBLE_DUPLICATE"


async def test_a_resend_whose_time_runs_out_is_in_doubt_again_and_ends_as_unknown(tmp_path, queue_url):
    """Expired would say that it was never accepted, and its first write may have been."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, body="x" * 200, parts=(2,), category="emergency", session_over=True)
        await chores.run()
        await chores.run()
        assert await one.app.state(number) == "queued"
        await age(one, "ready", "expires_at", "2 hours")
        await chores.run()
        assert await one.app.state(number) == "uncertain"
        assert await one.app.value("select doubt::text from tocsin.uncertain") == "01"

        await age(one, "uncertain", "expires_at", "3 days")
        await age(one, "uncertain", "since", "3 days")
        await chores.run()
        await one.receive(said("m1"))

        assert await one.app.state(number) == "unknown"
        assert await ended(one) == {"resent": 1, "expired": 1}


async def test_a_claimed_resend_that_may_not_go_any_more_is_in_doubt_again(tmp_path, queue_url):
    """Expired in the waiting room, or stopped by the person meanwhile."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, category="emergency", session_over=True)
        await chores.run()
        await chores.run()
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.EXPIRED, 0, "")])
        await one.flush()

        assert await one.app.state(number) == "uncertain"


async def test_a_resend_goes_by_the_next_link_that_can(tmp_path, queue_url):
    """The link that lost the answer is the likeliest to lose the next one."""
    async with instance(tmp_path, queue_url, links=TWO_LINKS) as one:
        chores = Chores(one)
        await one.app.connection.execute("update tocsin.link set state = 'bound'")
        number = await doubtful(one, category="emergency", session_over=True)
        await chores.run()
        await chores.run()

        assert [job.id for job in await one.claim(link=SPARE)] == [number]
        assert await one.claim() == []


async def test_the_daemon_counts_what_an_operator_requeued(tmp_path, queue_url):
    """It learns of it when the job is due."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one)
        assert await one.app.value("select tocsin.requeue($1, 'they say it never came', 'ada')", number) == "requeued"
        await Chores(one).run()

        assert await ended(one) == {"requeued": 1}
        assert ("job.resent", "REQUEUED") in await reasons(one, number)


async def test_a_link_that_was_lost_shows_no_doubt(tmp_path, queue_url):
    """Its new owner shows it; two would be added up."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await doubtful(one)
        await chores.run()
        assert one.counter("tocsin_uncertain_segments", link=LINK) == 1

        del one.epochs[LINK]
        await chores.run()

        assert one.counter("tocsin_uncertain_segments", link=LINK) == 0


# ---------------------------------------------------------------- a late answer


@pytest.mark.parametrize("promoted", [False, True])
async def test_a_late_acceptance_takes_back_the_resend_that_waits(tmp_path, queue_url, promoted):
    """Due or not yet: it is not sent again, and it is no duplicate. The claimer finds nothing and goes on."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await one.app.enqueue(category="emergency")
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.UNANSWERED, 0, "")])
        await one.flush()
        await age(one, "uncertain", "since", "61 seconds")
        await chores.run()
        if promoted:
            await chores.run()
        assert await one.app.state(number) == ("queued" if promoted else "deferred")

        one.late(job, 1, Verdict.ACCEPTED, "late")
        await one.flush()

        assert (await one.app.state(number), await one.app.reason(number)) == ("submitted", None)
        assert [(row["message_id"], row["reason"]) for row in await one.app.sent(number)] == [("late", None)]
        assert (await one.app.events(number))[-1] == "job.submitted"
        await chores.run()
        assert await one.claim() == []
        other = await one.app.enqueue(category="emergency")
        assert [found.id for found in await one.claim()] == [other]


@pytest.mark.parametrize("promoted", [False, True])
async def test_a_late_acceptance_of_one_part_leaves_the_others_to_the_resend(tmp_path, queue_url, promoted):
    """Each part by itself."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await one.app.enqueue(body="x" * 400, category="emergency")
        (job,) = await one.claim()
        one.answered(
            job, [(1, Verdict.ACCEPTED, 0, "m1"), (2, Verdict.UNANSWERED, 0, ""), (3, Verdict.UNANSWERED, 0, "")]
        )
        await one.flush()
        await age(one, "uncertain", "since", "61 seconds")
        await chores.run()
        if promoted:
            await chores.run()

        one.late(job, 2, Verdict.ACCEPTED, "late")
        await one.flush()
        await chores.run()

        (again,) = await one.claim()
        assert (again.id, again.done, again.resends) == (job.id, 0b011, 1)


async def claimed_again(one: Instance, chores: Chores, body: str = "Hello") -> tuple[Job, Job]:
    """A job whose first part was written and never answered, and the same as it is claimed to be sent again."""
    await one.app.enqueue(category="emergency", body=body)
    (job,) = await one.claim()
    one.answered(job, [(1, Verdict.UNANSWERED, 0, "")], session_over=True)
    await one.flush()
    await chores.run()
    await chores.run()
    (again,) = await one.claim()
    return job, again


async def test_a_late_acceptance_of_what_is_claimed_again_is_kept_beside_the_resend(tmp_path, queue_url):
    """It may be on the wire: the id is kept as FENCED, and should the resend be in doubt too, it is not sent a third time."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        job, again = await claimed_again(one, chores)
        one.late(job, 1, Verdict.ACCEPTED, "late")
        await one.flush()
        assert [row["reason"] for row in await one.app.sent(job.id)] == ["FENCED"]

        one.answered(again, [(1, Verdict.UNANSWERED, 0, "")], session_over=True)
        await one.flush()
        await chores.run()

        assert await one.app.state(job.id) == "submitted"
        assert await one.app.value("select count(*) from tocsin.deferred") == 0


@pytest.mark.parametrize("parts", [1, 3])
async def test_a_late_acceptance_spares_a_part_that_is_claimed_again_and_still_waits(tmp_path, queue_url, parts):
    """The link holds it back for its throttle or its window: nothing forces us to send twice what was taken once."""
    async with instance(tmp_path, queue_url) as one:
        job, again = await claimed_again(one, Chores(one), "x" * (100 if parts == 1 else 153 * parts))
        waits = one.submit(again)

        one.late(job, 1, Verdict.ACCEPTED, "late")
        await one.flush()

        assert [row["message_id"] for row in await one.app.sent(job.id)] == ["late"]
        if parts == 1:
            assert waits.stopped
        else:
            assert again.done == 0b001
            waits.next_index = parts
            one.answered(again, [(part, Verdict.ACCEPTED, 0, f"m{part}") for part in range(2, parts + 1)])
            await one.flush()
        assert await one.app.state(job.id) == "submitted"
        assert len(await one.app.sent(job.id)) == parts
        assert await one.app.value("select count(*) from tocsin.claim") == 0


@pytest.mark.parametrize("where", ["on the wire", "settled"])
async def test_a_late_acceptance_of_a_part_that_was_written_again_is_kept_as_fenced(tmp_path, queue_url, where):
    """It cannot be taken back."""
    async with instance(tmp_path, queue_url) as one:
        job, again = await claimed_again(one, Chores(one))
        one.submit(again).next_index = 1
        if where == "settled":
            one.accepted(again, ["second"])

        one.late(job, 1, Verdict.ACCEPTED, "late")
        await one.flush()

        assert ("late", "FENCED") in [(row["message_id"], row["reason"]) for row in await one.app.sent(job.id)]


async def test_a_late_answer_that_ends_doubt_is_told_and_counted(tmp_path, queue_url):
    """The app heard of the doubt: it hears that there is none."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.UNANSWERED, 0, "")])
        await one.flush()
        one.late(job, 1, Verdict.ACCEPTED, "late")
        await one.flush()

        assert await one.app.events(number) == ["job.uncertain", "job.submitted"]
        assert await ended(one) == {"answer": 1}
        assert one.counter("tocsin_jobs_total", category="transactional", state="submitted") == 1


@pytest.mark.parametrize("by", ["answer", "receipt", "withdrawn"])
async def test_the_text_is_kept_where_the_category_says_so_whatever_ended_the_doubt(tmp_path, queue_url, by):
    """As it is of a message that was accepted without doubt."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.connection.execute("update tocsin.category set keep_text_days = 7")
        await one.app.enqueue(category="emergency", body="kept")
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.UNANSWERED, 0, "")], session_over=by == "withdrawn")
        await one.flush()
        if by == "receipt":
            await one.receive(said())
            await judge(one)
        else:
            await Chores(one).run()
            one.late(job, 1, Verdict.ACCEPTED, "late")
            await one.flush()

        assert await one.app.state(job.id) in {"submitted", "delivered"}
        assert await one.app.value("select array_agg(body) from tocsin.sent_text") == ["kept"]


# ---------------------------------------------------------------- a receipt


def said(message_id: str = "unseen", state: DeliveryState = DeliveryState.DELIVERED, **more: str) -> Receipt:
    return Receipt(message_id, state, **({"source": TO, "destination": "Northside"} | more))


async def judge(one: Instance) -> None:
    """Let the receipts that came wait as long as any does, and be judged."""
    one.clock.ahead_s += 31
    await Chores(one).run()


async def parked(one: Instance) -> list[tuple[bool, bool]]:
    """Of each receipt that was kept: whether it found its segment, whether it was told as unmatched."""
    rows = await one.app.fetch("select matched_at is not null as matched, counted from tocsin.receipt_wait order by id")
    return [(row["matched"], row["counted"]) for row in rows]


@pytest.mark.parametrize("category", ["transactional", "emergency"])
@pytest.mark.parametrize(
    "addresses", [(TO, "Northside"), ("Northside", TO), ("+" + TO, "Northside")], ids=["plain", "swapped", "plus"]
)
async def test_a_receipt_that_can_mean_one_part_in_doubt_and_no_other_resolves_it(
    tmp_path, queue_url, category, addresses
):
    """The answer never came and its id is unknown; the two addresses name one job, and there is nothing to choose."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one, category=category)
        bystander = await doubtful(one, recipient=OTHER)
        await one.receive(said(source=addresses[0], destination=addresses[1]))
        assert await one.app.state(number) == "uncertain", "not before the usual wait"

        await judge(one)

        assert await one.app.state(number) == "delivered"
        assert await one.app.state(bystander) == "uncertain"
        (row,) = await one.app.sent(number)
        assert (row["message_id"], row["reason"], row["receipt_state"]) == ("unseen", "DOUBT_RECEIPT", 40)
        assert await one.app.events(number) == ["job.uncertain", "job.delivered"]
        assert await parked(one) == [(True, False)]
        assert await ended(one) == {"receipt": 1}
        assert one.counter("tocsin_receipts_total", link=LINK, state="delivered") == 1
        assert one.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 0


async def test_a_receipt_that_says_undelivered_resolves_doubt_too(tmp_path, queue_url):
    """The SMSC had it; its error is the job's reason."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one)
        await one.receive(said(state=DeliveryState.UNDELIVERED, error="012"))
        await judge(one)

        assert (await one.app.state(number), await one.app.reason(number)) == ("undelivered", "012")
        assert (await reasons(one, number))[-1] == ("job.undelivered", "012")


async def test_the_job_is_delivered_once_all_its_parts_say_so(tmp_path, queue_url):
    """The receipt ends the doubt about one part; the other's is awaited."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one, body="x" * 200, parts=(2,))
        await one.receive(said())
        await judge(one)
        assert await one.app.state(number) == "submitted"

        await one.receive(said("m1"))

        assert await one.app.state(number) == "delivered"
        assert await one.app.events(number) == ["job.uncertain", "job.submitted", "job.delivered"]


async def test_parts_never_written_go_once_a_receipt_ends_the_doubt(tmp_path, queue_url):
    """They are in no doubt."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue(body="x" * 400)
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.ACCEPTED, 0, "m1"), (2, Verdict.UNANSWERED, 0, "")])
        await one.flush()
        await one.receive(said())
        await judge(one)

        assert (await one.app.state(number), await one.app.reason(number)) == ("deferred", "RETRY_LATE_ANSWER")
        await Chores(one).run()
        (rest,) = await one.claim()
        assert rest.done == 0b011


async def _two_jobs(one: Instance) -> None:
    await doubtful(one)


async def _a_job_of_two_parts_in_doubt(one: Instance) -> None:
    await doubtful(one, body="x" * 200, parts=(1, 2))


async def _another_on_a_link_of_the_account(one: Instance) -> None:
    number = await doubtful(one)
    await one.app.connection.execute("update tocsin.uncertain set link = $2 where id = $1", number, SPARE)
    await one.app.connection.execute("update tocsin.link set account = $1", LINK)


async def _another_that_was_sent_again(one: Instance) -> None:
    await doubtful(one, category="emergency", session_over=True)
    await Chores(one).run()


async def _another_that_ended_as_unknown(one: Instance) -> None:
    await one.app.connection.execute("update tocsin.uncertain set expires_at = now() + interval '9 days'")
    number = await doubtful(one)
    await one.app.connection.execute(
        "update tocsin.uncertain set expires_at = now() - interval '3 days', since = now() - interval '3 days' where id = $1",
        number,
    )
    await Chores(one).run()
    assert await one.app.state(number) == "unknown"


async def _a_second_receipt(one: Instance) -> None:
    await one.receive(said("unseen-too"))


async def _a_segment_with_this_id(one: Instance) -> None:
    await one.sent(["unseen"], recipient="447700900199")


def _changed(columns: str) -> Callable[[Instance], Awaitable[None]]:
    async def change(one: Instance) -> None:
        await one.app.connection.execute(f"update tocsin.uncertain set {columns}")

    return change


async def _nothing(_one: Instance) -> None:
    """Leave it as it is."""


@pytest.mark.parametrize(
    ("besides", "receipt"),
    [
        (_nothing, {"source": ""}),
        (_nothing, {"destination": ""}),
        (_nothing, {"message_id": ""}),
        (_nothing, {"source": OTHER}),
        (_nothing, {"source": TO[-8:]}),
        (_nothing, {"destination": "Southside"}),
        (_nothing, {"destination": "northside"}),
        (_nothing, {"destination": TO}),
        (_two_jobs, {}),
        (_a_job_of_two_parts_in_doubt, {}),
        (_another_on_a_link_of_the_account, {}),
        (_another_that_was_sent_again, {}),
        (_another_that_ended_as_unknown, {}),
        (_a_second_receipt, {}),
        (_a_segment_with_this_id, {}),
        (_changed("written_at = now() + interval '1 minute'"), {}),
        (_changed("written_at = null, since = now() + interval '1 minute'"), {}),
        (_changed("parts = 2, doubt = B'11'"), {}),
        (_changed(f"link = '{SPARE}'"), {}),
    ],
    ids=[
        "no source",
        "no destination",
        "no id",
        "another recipient",
        "not the full number",
        "another sender",
        "a sender in other letters",
        "one address twice",
        "two jobs",
        "a job with two parts in doubt",
        "a job on another link of the account",
        "a job sent again meanwhile",
        "a job that ended as unknown",
        "two receipts",
        "the id of another segment",
        "written after the receipt came",
        "not known when it was written",
        "two parts in doubt",
        "another account",
    ],
)
async def test_where_there_is_something_to_choose_a_receipt_resolves_nothing(tmp_path, queue_url, besides, receipt):
    """Delivered is said of a message that was delivered, never of one that probably was."""
    async with instance(tmp_path, queue_url, links=TWO_LINKS) as one:
        number = await doubtful(one)
        await besides(one)
        message_id = receipt.pop("message_id", "unseen")
        await one.receive(said(message_id, **receipt))

        await judge(one)

        assert await one.app.state(number) == "uncertain"
        assert (False, True) in await parked(one)
        assert "receipt" not in await ended(one)


async def test_a_receipt_is_judged_once_every_request_before_it_is_answered_or_in_doubt(tmp_path, queue_url):
    """On a link that waits a minute for answers, another candidate may still be on the wire after half of it."""
    async with instance(tmp_path, queue_url, links={LINK: {"response_timeout_s": 60.0}}) as one:
        number = await doubtful(one)
        await one.receive(said())
        await judge(one)
        assert await one.app.state(number) == "uncertain"
        assert await parked(one) == [(False, False)]

        one.clock.ahead_s = 71
        await Chores(one).run()

        assert await one.app.state(number) == "delivered"


async def test_a_job_written_after_the_receipt_came_is_no_second_candidate(tmp_path, queue_url):
    """It cannot be meant."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one)
        await one.receive(said())
        later = await doubtful(one)

        await judge(one)

        assert [await one.app.state(n) for n in (number, later)] == ["delivered", "uncertain"]


async def test_a_receipt_that_resolves_a_resent_part_leaves_the_mark(tmp_path, queue_url):
    """It was written twice: that it arrived once more than once is what the mark says."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await doubtful(one, category="emergency", session_over=True)
        await chores.run()
        await chores.run()
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.UNANSWERED, 0, "")])
        await one.flush()
        await one.receive(said())
        await judge(one)

        assert (await one.app.state(number), await one.app.reason(number)) == ("delivered", "POSSIBLE_DUPLICATE")


async def test_repeated_writes_are_forgotten_once_no_receipt_can_be_theirs(tmp_path, queue_url):
    """They hold numbers, and are kept no longer than they are of use."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await doubtful(one, category="emergency", session_over=True)
        await chores.run()
        assert await one.app.value("select count(*) from tocsin.resent") == 1
        await age(one, "resent", "at", "6 days")
        await chores.run()

        assert await one.app.value("select count(*) from tocsin.resent") == 0
