"""dispatcher/upkeep.py: what has to happen by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from config.settings import DaemonSettings
from dispatcher.errors import StoreUnavailable
from dispatcher.store import PINNED, connect
from dispatcher.upkeep import REPEATED_AT_ONCE
from gateway import Verdict
from tests.dispatcher.chores import DAY_S, PARTITIONS_OF_OLD, Chores, age, doubtful
from tests.dispatcher.instance import Instance, instance
from tests.journey.running import LINK, app_of

if TYPE_CHECKING:
    from dispatcher.job import Job


async def test_due_jobs_are_promoted_and_claimed_though_they_lie_behind_the_frontier(tmp_path, queue_url):
    """Their ids are old; the claimer is told."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await one.app.enqueue()
        (job,) = await one.claim()
        one.answered(job, [(1, Verdict.RETRY, 0x14, "")])
        await one.app.enqueue()
        await one.claim()
        await one.flush()
        await chores.run()
        assert await one.claim() == []

        await one.app.hurry()
        await chores.run()

        assert chores.woken == 1
        (again,) = await one.claim()
        assert (again.id, again.attempt) == (number, 2)


async def test_only_the_owner_of_a_link_promotes_into_it(tmp_path, queue_url):
    """Whoever else did it could not tell the claimer."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        one.epochs[LINK] = 7
        await one.app.enqueue(not_before=await one.app.value("select now() + interval '1 minute'"))
        await one.app.hurry()

        await Chores(one).run()

        assert await one.app.value("select count(*) from tocsin.deferred") == 1


async def test_waiting_jobs_expire_but_not_those_that_were_claimed(tmp_path, queue_url):
    """A claimed one may be on the wire: its own journey ends it."""
    async with instance(tmp_path, queue_url) as one:
        claimed = await one.app.enqueue()
        await one.claim()
        waiting = {lane: await one.app.enqueue(category=lane) for lane in ("emergency", "staff", "auth", "marketing")}
        alive = await one.app.enqueue()
        await one.app.connection.execute(
            "update tocsin.ready set expires_at = now() - interval '1 second' where id <> $1", alive
        )

        await Chores(one).run()

        assert {await one.app.state(number) for number in waiting.values()} == {"expired"}
        assert [await one.app.state(number) for number in (claimed, alive)] == ["queued", "queued"]
        assert one.counter("tocsin_jobs_total", category="emergency", state="expired") == 1


async def test_an_expired_job_that_a_journal_of_another_process_names_is_left_alone(tmp_path, queue_url):
    """Memory does not hold it; the journal does."""
    async with instance(tmp_path, queue_url) as one:
        number, other = await one.app.enqueue(), await one.app.enqueue()
        await one.claim(room=1)
        one.claimer.forget(LINK)
        await one.app.connection.execute("update tocsin.ready set expires_at = now() - interval '1 second'")

        await Chores(one).run()

        assert [await one.app.state(n) for n in (number, other)] == ["queued", "expired"]


async def test_a_partly_accepted_job_that_expires_has_failed_partially(tmp_path, queue_url):
    """The recipient has a piece of it."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        await one.app.connection.execute(
            "update tocsin.ready set expires_at = now() - interval '1 second', done = B'1'"
        )

        await Chores(one).run()

        assert (await one.app.state(number), await one.app.reason(number)) == ("failed", "PARTIAL")


async def with_a_floor(one: Instance) -> tuple[Job, Job]:
    """Claim four jobs and settle two of them, so that the lane's floor lies above all four; gives the two others."""
    for _ in range(4):
        await one.app.enqueue()
    first, *settled, last = await one.claim()
    for job in settled:
        one.accepted(job, [f"m{job.id}"])
    await one.flush()
    for _ in range(3):
        await one.claimer.probe(one.claiming)
    assert one.claimer.lane(LINK, first.lane).begin == last.id
    return first, last


async def test_the_depth_of_a_lane_is_counted_from_its_floor_and_what_is_held_below_counts(tmp_path, queue_url):
    """Behind a snapshot that is held open, a count from the lane's beginning would walk over all that has gone."""
    async with instance(tmp_path, queue_url) as one:
        held, _ = await with_a_floor(one)
        one.clock.ahead_s = 100.0
        await one.app.enqueue()

        await Chores(one).run()

        lane = str(held.lane)
        assert one.counter("tocsin_queue_jobs", lane=lane) == 3
        assert 100.0 <= one.counter("tocsin_queue_oldest_seconds", lane=lane) < 160.0
        assert one.counter("tocsin_queue_jobs", lane="0") == 0


async def test_a_job_that_came_back_below_the_floor_expires(tmp_path, queue_url):
    """It is looked for from where it stands."""
    async with instance(tmp_path, queue_url) as one:
        jobs = await with_a_floor(one)
        for job in jobs:
            one.settler.released(job)
        await one.flush()
        await one.app.connection.execute("update tocsin.ready set expires_at = now() - interval '1 second'")

        await Chores(one).run()

        assert [await one.app.state(job.id) for job in jobs] == ["expired", "expired"]


REPEAT = "insert into tocsin.repeated_texts (category, texts) values ('transactional', 2), ('marketing', 3), ('marketing', 1)"


async def test_what_enqueues_refused_as_repeated_is_counted_once_by_category(tmp_path, queue_url):
    """Whichever links an instance has: an app's refusal belongs to none. What commits late is counted then."""
    async with instance(tmp_path, queue_url, owns=False) as one, app_of(queue_url) as late:
        chores = Chores(one)

        def counted() -> list[float]:
            return [
                one.counter("tocsin_repeated_texts_total", category=name) for name in ("transactional", "marketing")
            ]

        transaction = late.connection.transaction()
        await transaction.start()
        await late.connection.execute(REPEAT)
        await one.app.connection.execute(REPEAT)
        await chores.run()
        await chores.run()
        assert counted() == [2, 4]

        await transaction.commit()
        await chores.run()
        assert counted() == [4, 8]
        assert await one.app.value("select count(*) from tocsin.repeated_texts") == 0


async def test_more_refusals_than_one_look_takes_are_counted_without_a_wait(tmp_path, queue_url):
    """A loop of a thousand a second keeps no rows."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.connection.execute(
            "insert into tocsin.repeated_texts (category, texts) select 'marketing', 1 from generate_series(1, $1)",
            REPEATED_AT_ONCE + 1,
        )
        chores = Chores(one)
        await chores.run()
        assert one.counter("tocsin_repeated_texts_total", category="marketing") == REPEATED_AT_ONCE
        await chores.upkeep.run(one.claiming)  # no clock was moved
        assert one.counter("tocsin_repeated_texts_total", category="marketing") == REPEATED_AT_ONCE + 1


@pytest.mark.parametrize(("unknown_after_s", "every_s"), [(96.0, 2.0), (2 * DAY_S, 3600.0), (30 * DAY_S, 3600.0)])
async def test_missing_receipts_are_looked_for_in_good_time(tmp_path, queue_url, unknown_after_s, every_s):
    """A 48th of the wait, once an hour at most: a short wait that is looked at once an hour is an hour."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one, DaemonSettings(unknown_after_s=unknown_after_s))
        assert {name: period for name, period, _ in chores.upkeep._chores()}["give_up_receipts"] == every_s


async def test_a_receipt_that_never_came_makes_the_job_unknown(tmp_path, queue_url):
    """Two days after the end of its validity; the event says so."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number, young = await one.sent(["m1"]), await one.sent(["m2"])
        await one.app.fetch("select tocsin.make_partitions(1)")
        await one.app.connection.execute(PARTITIONS_OF_OLD)
        await one.app.connection.execute(
            "update tocsin.sent set submitted_at = now() - interval '75 hours', enqueued_at = now() - interval '75 hours' where job_id = $1",
            number,
        )

        await chores.run()

        assert [await one.app.state(n) for n in (number, young)] == ["unknown", "submitted"]
        assert one.counter("tocsin_jobs_total", category="transactional", state="unknown") == 1
        assert [await one.app.events(n) for n in (number, young)] == [["job.unknown"], []]


@pytest.mark.parametrize("known", [None, 20, 30, 40])
async def test_a_job_is_unknown_once_its_last_part_is_given_up(tmp_path, queue_url, known):
    """One event and one count a job, whatever its other part ended in, and none while a part is still awaited."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await one.sent(["m1", "m2"])
        await one.app.fetch("select tocsin.make_partitions(1)")
        await one.app.connection.execute(PARTITIONS_OF_OLD)
        old = "submitted_at = now() - interval '75 hours', enqueued_at = now() - interval '75 hours'"
        await one.app.connection.execute(f"update tocsin.sent set {old} where part = 1")
        await chores.run()
        assert await one.app.events(number) == []
        await one.app.connection.execute(
            f"update tocsin.sent set {old}, receipt_state = {known or 'null'} where part = 2"
        )
        await one.app.connection.execute("update tocsin.sent set receipt_state = null where part = 1")

        await chores.run()
        await chores.run()

        assert await one.app.state(number) == "unknown"
        assert await one.app.events(number) == ["job.unknown"]
        assert one.counter("tocsin_jobs_total", category="transactional", state="unknown") == 1


async def test_a_journal_whose_claim_was_never_seen_is_dropped_and_others_are_not(tmp_path, queue_url):
    """Its commit took place and its answer was lost: nobody holds its jobs."""
    async with instance(tmp_path, queue_url) as one:
        lost, held = await one.app.enqueue(category="staff"), await one.app.enqueue()
        await one.claim([1])
        one.claimer.forget(LINK)
        await one.claim([3])
        await age(one, "claim", "at", "2 minutes")

        await Chores(one).run()

        assert await one.app.value("select array_agg(ids[1]) from tocsin.claim") == [held]
        await one.claimer.probe(one.claiming, whole=True)
        assert [job.id for job in await one.claim()] == [lost]


class Taking:
    """A connection; with each statement another link is taken."""

    def __init__(self, one: Instance) -> None:
        self._one = one

    async def fetch(self, name: str, *arguments: object) -> object:
        self._one.epochs[f"other-{len(self._one.epochs)}"] = 1
        return await self._one.claiming.fetch(name, *arguments)


async def test_a_link_that_is_taken_while_others_are_measured_disturbs_nothing(tmp_path, queue_url):
    """A daemon of several links takes them one by one, and would end at its start."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.enqueue()

        await Chores(one).upkeep._measure(Taking(one))

        assert one.counter("tocsin_queue_jobs", lane="3") == 1


async def test_what_waits_is_measured_by_lane_and_what_is_in_doubt_by_link(tmp_path, queue_url):
    """Jobs and the age of the oldest; segments, not jobs."""
    async with instance(tmp_path, queue_url) as one:
        await doubtful(one, body="x" * 400, parts=(2, 3))
        await one.app.enqueue(category="emergency")
        for _ in range(3):
            await one.app.enqueue(category="marketing")
        await age(one, "ready", "due_at", "90 seconds")

        await Chores(one).run()

        assert one.counter("tocsin_queue_jobs", lane="0") == 1
        assert one.counter("tocsin_queue_jobs", lane="5") == 3
        assert 90 <= one.counter("tocsin_queue_oldest_seconds", lane="5") < 100
        assert one.counter("tocsin_uncertain_segments", link=LINK) == 2


async def test_the_rules_of_the_categories_are_read(tmp_path, queue_url):
    """What the journey asks before it sends."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await chores.run()

        assert chores.categories["marketing"].stop_applies
        assert not chores.categories["auth"].stop_applies
        assert chores.categories["auth"].max_parts == 10


async def test_a_key_is_forgotten_after_a_week(tmp_path, queue_url):
    """The table stays small."""
    async with instance(tmp_path, queue_url) as one:
        await one.app.enqueue(idempotency_key="old")
        await age(one, "idempotency", "at", "8 days")
        await one.app.enqueue(idempotency_key="new")

        await Chores(one).run()

        assert await one.app.value("select array_agg(key) from tocsin.idempotency") == ["new"]


async def test_a_chore_that_fails_does_not_keep_the_others_from_being_done(tmp_path, queue_url):
    """A lock held by somebody else is a matter of one chore."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        locker = await connect(queue_url, PINNED)
        await one.claiming.execute("set lock_timeout = '50ms'")
        async with locker.transaction():
            await locker.execute("lock table tocsin.deferred in access exclusive mode")
            await chores.run()
        await locker.close()

        assert chores.categories


async def test_a_lost_connection_ends_the_upkeep_so_that_it_gets_another(tmp_path, queue_url):
    """Or it would fail chore after chore for ever."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        await one.claiming.close()

        with pytest.raises(StoreUnavailable):
            await chores.run()
