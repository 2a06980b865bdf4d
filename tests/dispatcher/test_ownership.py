"""dispatcher/ownership.py: one owner a link, by epochs; and what a dead owner may have written."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.ownership import GRACE_S, Fence, Owner
from dispatcher.record import Record
from gateway import Verdict
from tests.dispatcher.chores import Chores, age, doubtful
from tests.dispatcher.instance import Clock, Instance, instance, tables
from tests.journey.running import LINK, until

TAKEOVER_S = 10.0
TWO_PARTS = "x" * 200


class Time:
    """A float that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def owner_of(one: Instance, clock: Time | Clock | None = None, replay=None) -> Owner:
    """The owner of this instance; its epochs are those that the instance claims and settles with."""
    clock = clock or one.clock
    made = Owner(
        name=one.name,
        links={link.name: link for link in one.settings.links},
        fence=Fence(TAKEOVER_S, clock),
        takeover_s=TAKEOVER_S,
        replay=lambda: replay or one.record.replay,
        clock=clock,
    )
    one.epochs.clear()
    made.epochs = one.epochs
    return made


async def take(one: Instance, owner: Owner, link: str = LINK):
    """Take a link while settles go on, as the daemon does."""

    async def settle() -> None:
        while True:
            await one.settler.flush(one.flushing)
            await asyncio.sleep(0.005)

    settling = asyncio.create_task(settle())
    try:
        return await owner.take(one.claiming, link, one.settler)
    finally:
        while not one.settler.is_idle:
            await asyncio.sleep(0.005)
        settling.cancel()


class TestFence:
    """Until when a write to the socket is ours."""

    def test_a_link_may_be_written_to_for_seven_tenths_of_the_take_over_time_after_its_beat_was_sent(self):
        """The other three lie between the last octet of the old owner and the first of the new one."""
        clock = Time()
        fence = Fence(TAKEOVER_S, clock)
        fence.extend(LINK, sent_at=100.0)

        clock.now = 106.9
        assert fence.holds(LINK)
        clock.now = 107.1
        assert not fence.holds(LINK)

    def test_a_link_that_was_never_taken_or_was_given_back_may_not_be_written_to(self):
        """No beat, no octet."""
        fence = Fence(TAKEOVER_S, Time())
        assert not fence.holds(LINK)
        fence.extend(LINK, sent_at=100.0)
        fence.lower(LINK)
        assert not fence.holds(LINK)


async def test_a_free_link_is_taken_at_once_by_one_of_those_who_want_it(tmp_path, queue_url):
    """The row's lock decides."""
    async with (
        instance(tmp_path, queue_url, name="1:a", owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", owns=False) as b,
    ):
        owners = owner_of(a), owner_of(b)
        assert await owners[0].candidates(a.claiming) == await owners[1].candidates(b.claiming) == [LINK]

        taken = await asyncio.gather(take(a, owners[0]), take(b, owners[1]))

        assert sorted(one is None for one in taken) == [False, True]
        (row,) = await a.app.fetch("select owner, epoch from tocsin.link")
        assert row["epoch"] == 1
        assert row["owner"] == ("1:a" if taken[0] else "2:b")


async def test_another_s_link_is_taken_after_its_beat_stood_still_long_enough_on_our_clock(tmp_path, queue_url):
    """No time is compared between hosts; a beat begins the wait anew."""
    async with (
        instance(tmp_path, queue_url, name="1:a", owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", owns=False) as b,
    ):
        old = owner_of(a)
        await take(a, old)
        clock = Time()
        new = owner_of(b, clock)
        assert await new.candidates(b.claiming) == []
        clock.now += TAKEOVER_S - 0.1
        assert await new.candidates(b.claiming) == []
        assert await old.beat(a.claiming, {}) == []
        clock.now += 1
        assert await new.candidates(b.claiming) == []
        clock.now += TAKEOVER_S - 0.1
        assert await new.candidates(b.claiming) == []
        clock.now += 0.2

        assert await new.candidates(b.claiming) == [LINK]
        taken = await take(b, new)
        assert taken is not None
        assert taken.epoch == 2
        assert not taken.recorded


async def test_a_beat_between_the_look_and_the_lock_calls_a_take_over_off(tmp_path, queue_url):
    """It was only slow."""
    async with (
        instance(tmp_path, queue_url, name="1:a", owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", owns=False) as b,
    ):
        old = owner_of(a)
        await take(a, old)
        clock = Time()
        new = owner_of(b, clock)
        await new.candidates(b.claiming)
        clock.now += TAKEOVER_S + 1
        assert await new.candidates(b.claiming) == [LINK]
        await old.beat(a.claiming, {})

        assert await take(b, new) is None
        assert await old.beat(a.claiming, {}) == []


async def test_an_owner_that_lost_its_link_is_told_by_its_next_beat(tmp_path, queue_url):
    """From then on it writes nothing."""
    async with (
        instance(tmp_path, queue_url, name="1:a", owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", owns=False) as b,
    ):
        old = owner_of(a)
        await take(a, old)
        assert old._fence.holds(LINK)
        await b.own()

        assert await old.beat(a.claiming, {}) == [LINK]
        assert not old._fence.holds(LINK)
        assert old.epochs == {}


@pytest.mark.parametrize("owner_now", ["", "1:a"])
async def test_a_beat_on_its_way_while_the_link_is_given_back_neither_fails_nor_lifts_the_fence(
    tmp_path, queue_url, owner_now
):
    """A drain ends the daemon with 0, and what was given back may not be written to, whichever came first."""
    async with instance(tmp_path, queue_url, name="1:a", owns=False) as one:
        owner = owner_of(one)
        await take(one, owner)
        async with one.app.connection.transaction():
            await one.app.connection.execute("update tocsin.link set owner = $1", owner_now)
            beat = asyncio.create_task(owner.beat(one.claiming, {}))

            async def waits() -> bool:
                return bool(await one.app.value("select exists (select from pg_locks where not granted)"))

            await until(waits)
            owner.epochs.clear()
            owner._fence.lower(LINK)

        assert await beat == []
        assert not owner._fence.holds(LINK)


async def test_its_own_link_is_taken_at_once_after_a_restart(tmp_path, queue_url):
    """Who holds the state directory's lock knows that its predecessor is dead."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        await take(one, owner_of(one))
        again = owner_of(one)

        assert await again.candidates(one.claiming) == [LINK]
        taken = await take(one, again)

        assert taken is not None
        assert taken.epoch == 2


async def test_a_link_given_back_is_free(tmp_path, queue_url):
    """An orderly end: the next owner need not wait."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        owner = owner_of(one)
        await take(one, owner)

        assert await owner.give_back(one.claiming, LINK, lambda _: True)

        assert not owner._fence.holds(LINK)
        assert await one.app.value("select owner from tocsin.link") is None


async def test_a_link_is_given_back_with_its_journal_empty_and_fences_a_claim_that_is_on_its_way(tmp_path, queue_url):
    """What the journal still names was never handed out: it waits in the queue, and is in no doubt."""
    async with (
        instance(tmp_path, queue_url, name="1:a", owns=False) as one,
        instance(tmp_path, queue_url, name="2:b", owns=False) as next_one,
    ):
        owner = owner_of(one)
        taken = await take(one, owner)
        number = await one.app.enqueue()
        await one.claim()
        one.claimer.forget(LINK)  # its answer was never seen

        assert await owner.give_back(one.claiming, LINK, lambda link: not one.claimer.holds(link))

        assert await one.app.value("select count(*) from tocsin.claim") == 0
        one.epochs[LINK] = taken.epoch
        assert await one.claim() == []
        assert await take(next_one, owner_of(next_one))
        assert await one.app.state(number) == "queued"


async def test_a_link_that_is_given_back_while_a_beat_is_on_its_way_is_not_lost(tmp_path, queue_url):
    """The beat finds it disowned, by our own doing; nothing may write to it again."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        owner = owner_of(one)
        await take(one, owner)

        class Slow:
            async def fetch(self, name: str, *arguments: object):
                await owner.give_back(one.flushing, LINK, lambda _: True)
                return await one.claiming.fetch(name, *arguments)

        assert await owner.beat(Slow(), {}) == []  # type: ignore[arg-type]
        assert not owner._fence.holds(LINK)


async def test_a_link_is_not_given_back_while_memory_holds_a_job_of_it(tmp_path, queue_url):
    """It is settled first."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        owner = owner_of(one)
        await take(one, owner)
        await one.app.enqueue()
        (job,) = await one.claim()

        def is_empty(link: str) -> bool:
            return not one.claimer.holds(link)

        assert not await owner.give_back(one.claiming, LINK, is_empty)
        assert owner.epochs == {LINK: 1}
        one.accepted(job, ["m1"])
        await one.flush()
        assert await owner.give_back(one.claiming, LINK, is_empty)


async def test_a_link_that_is_lost_while_it_is_given_back_is_left_as_it_is(tmp_path, queue_url):
    """A beat may learn of it while the row's lock is waited for."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        owner = owner_of(one)
        await take(one, owner)
        before = await tables(one.app, "link")

        def is_empty(link: str) -> bool:
            del owner.epochs[link]
            return True

        assert not await owner.give_back(one.claiming, LINK, is_empty)
        assert await tables(one.app, "link") == before


TWO = {"carrier-a": {}, "carrier-b": {}}


async def test_a_free_link_is_left_to_an_instance_with_fewer_for_a_grace_and_then_taken(tmp_path, queue_url):
    """Availability goes before a fair share."""
    async with (
        instance(tmp_path, queue_url, name="1:a", links=TWO, owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", links=TWO, owns=False) as b,
    ):
        clock = Time()
        one, other = owner_of(a, clock), owner_of(b)
        await one.beat(a.claiming, {})
        await other.beat(b.claiming, {})
        assert await one.candidates(a.claiming) == ["carrier-a"]
        await take(a, one, "carrier-a")

        assert await one.candidates(a.claiming) == []
        assert await other.candidates(b.claiming) == ["carrier-b"]
        clock.now += GRACE_S - 0.1
        assert await one.candidates(a.claiming) == []
        clock.now += 0.2
        assert await one.candidates(a.claiming) == ["carrier-b"]


async def test_the_links_of_a_silent_owner_are_shared_by_those_that_live_within_the_take_over_time_and_a_grace(
    tmp_path, queue_url
):
    """The one with fewer takes them first."""
    links = {f"l{n}": {} for n in range(4)}
    async with (
        instance(tmp_path, queue_url, name="1:dead", links=links, owns=False) as dead,
        instance(tmp_path, queue_url, name="2:b", links=links, owns=False) as b,
        instance(tmp_path, queue_url, name="3:c", links=links, owns=False) as c,
    ):
        old = owner_of(dead)
        await old.beat(dead.claiming, {})
        await take(dead, old, "l0")
        clock = Time()
        one, other = owner_of(b, clock), owner_of(c, clock)
        for owner, its in ((one, b), (other, c)):
            await owner.beat(its.claiming, {})
        await take(b, one, "l1")
        await take(b, one, "l2")
        await take(c, other, "l3")
        assert await other.candidates(c.claiming) == await one.candidates(b.claiming) == []
        clock.now += TAKEOVER_S
        for owner, its in ((one, b), (other, c)):
            await owner.beat(its.claiming, {})
        assert await other.candidates(c.claiming) == ["l0"]
        assert await one.candidates(b.claiming) == []
        clock.now += GRACE_S
        assert await one.candidates(b.claiming) == ["l0"]


async def test_an_instance_that_ended_in_order_is_no_rival_and_beats_no_more(tmp_path, queue_url):
    """The others need not wait for it."""
    async with (
        instance(tmp_path, queue_url, name="1:a", links=TWO, owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", links=TWO, owns=False) as b,
    ):
        one, other = owner_of(a), owner_of(b)
        await one.beat(a.claiming, {})
        await other.beat(b.claiming, {})
        await one.leave(a.claiming)
        await one.beat(a.claiming, {})

        assert await other.candidates(b.claiming) == ["carrier-a", "carrier-b"]


async def test_an_instance_that_drains_is_no_rival(tmp_path, queue_url):
    """It takes no link any more."""
    async with (
        instance(tmp_path, queue_url, name="1:a", links=TWO, owns=False) as a,
        instance(tmp_path, queue_url, name="2:b", links=TWO, owns=False) as b,
    ):
        one, other = owner_of(a), owner_of(b)
        await one.beat(a.claiming, {}, drains=True)

        await take(b, other, "carrier-a")
        assert await other.candidates(b.claiming) == ["carrier-b"]


async def test_the_row_of_an_instance_goes_a_day_after_its_last_beat(tmp_path, queue_url):
    """By the database's clock, and only to keep the table small."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        await one.app.connection.execute(
            "insert into tocsin.instance (owner, links, beat, at) values ('x', '{}', 1, now() - interval '25 hours'),"
            " ('y', '{}', 1, now() - interval '23 hours'), ($1, '{}', 1, now() - interval '25 hours')",
            one.name,
        )
        await owner_of(one).beat(one.claiming, {})
        rows = await one.app.fetch("select owner, beat from tocsin.instance order by owner")
        assert [tuple(row) for row in rows] == [(one.name, 2), ("y", 1)]


async def test_without_a_record_every_part_that_a_journal_names_and_that_is_not_done_is_in_doubt(tmp_path, queue_url):
    """The host is lost: what is not journalled goes out, what was settled stays settled."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as dead,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        settled, journalled, partly = [await dead.app.enqueue(body=TWO_PARTS) for _ in range(3)]
        jobs = {job.id: job for job in await dead.claim()}
        queued = await dead.app.enqueue()
        dead.accepted(jobs[settled], ["m1", "m2"])
        await dead.flush()
        dead.answered(jobs[partly], [(1, Verdict.ACCEPTED, 0, "m3")])
        await dead.flush()
        owner = owner_of(new)
        owner._seen.clear()
        await new.app.connection.execute("update tocsin.link set owner = null")

        taken = await take(new, owner)

        assert taken is not None
        states = {number: await new.app.state(number) for number in (settled, journalled, partly, queued)}
        assert states == {settled: "submitted", journalled: "uncertain", partly: "uncertain", queued: "queued"}
        doubts = dict(await new.app.fetch("select id, doubt::text from tocsin.uncertain"))
        assert doubts == {journalled: "11", partly: "01"}
        assert {await new.app.reason(number) for number in doubts} == {"SESSION_LOST"}
        assert await new.app.value("select count(*) from tocsin.claim") == 0
        assert [job.id for job in await new.claim()] == [queued]


async def test_with_a_record_only_what_was_written_and_not_answered_is_in_doubt(tmp_path, queue_url):
    """Answered ones are settled from it, refused ones as their answer says, unwritten ones go out."""
    async with instance(tmp_path, queue_url) as one:
        names = ("answered", "refused", "throttled", "formed", "unanswered", "unwritten", "partly", "half")
        bodies = {"partly": TWO_PARTS, "half": TWO_PARTS}
        ids = {name: await one.app.enqueue(body=bodies.get(name, name)) for name in names}
        jobs = {name: job for job in await one.claim() for name in names if ids[name] == job.id}
        key = {name: (job.id, job.enqueued_us) for name, job in jobs.items()}
        one.record.recovered(one.clock())
        written = [(*key[name], 1) for name in names if name != "unwritten"] + [(*key["half"], 2)]
        one.record.written(LINK, one.clock(), written)
        one.record.answered(
            LINK,
            one.clock(),
            [
                (*key["answered"], 1, 0x00, "m1"),
                (*key["refused"], 1, 0x0B, ""),
                (*key["throttled"], 1, 0x58, ""),
                (*key["formed"], 1, 0x104, ""),  # the link was about to write it in another form
                (*key["partly"], 1, 0x00, "m2"),
                (*key["half"], 1, 0x00, "m3"),
            ],
        )
        record = Record.open(tmp_path / "1_a" / "record")
        assert record.replay.intact
        for job in jobs.values():
            one.claimer.gone(job)  # the process that held them is dead
        owner = owner_of(one, replay=record.replay)
        one.claimer.forget(LINK)

        taken = await take(one, owner)

        assert taken is not None
        assert taken.recorded
        assert {name: await one.app.state(ids[name]) for name in names} == {
            "answered": "submitted",
            "refused": "failed",
            "throttled": "queued",
            "formed": "queued",
            "unanswered": "uncertain",
            "unwritten": "queued",
            "partly": "queued",
            "half": "uncertain",
        }
        assert [row["message_id"] for row in await one.app.sent(ids["answered"])] == ["m1"]
        assert [row["message_id"] for row in await one.app.sent(ids["partly"])] == ["m2"]
        assert await one.app.value("select count(*) from tocsin.claim") == 0
        claimed = {job.id: job.done for job in await one.claim()}
        assert claimed == {ids["throttled"]: 0, ids["formed"]: 0, ids["unwritten"]: 0, ids["partly"]: 1}
        record.close()


@pytest.mark.parametrize("fails_at", ["settle", "forget_journal"])
async def test_a_take_over_that_broke_off_is_repeated_with_its_journals_still_there(tmp_path, queue_url, fails_at):
    """Nothing that may have been written is sent because the database went away in between."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as dead,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        number = await dead.app.enqueue()
        (job,) = await dead.claim()
        await new.app.connection.execute("update tocsin.link set owner = null")
        owner = owner_of(new)

        class Breaking:
            def __getattr__(self, name: str):
                return getattr(new.claiming, name)

            async def fetch(self, name: str, *arguments: object):
                if name == "forget_journal":
                    raise StoreUnavailable("gone")
                return await new.claiming.fetch(name, *arguments)

        if fails_at == "forget_journal":
            settling = asyncio.create_task(_settle_soon(new))
            with pytest.raises(StoreUnavailable):
                await owner.take(Breaking(), LINK, new.settler)  # type: ignore[arg-type]
            await settling
        else:
            taking = asyncio.create_task(owner.take(new.claiming, LINK, new.settler))
            while not new.settler.pending:
                await asyncio.sleep(0.005)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        assert owner.epochs == {}
        assert await new.app.value("select count(*) from tocsin.claim") == 1

        # the old owner wakes up in between and believes that all is settled
        dead.accepted(job, ["m1"])
        await dead.flush()
        assert await new.app.value("select count(*) from tocsin.claim") == 1

        await take(new, owner)
        assert await new.app.state(number) in {"uncertain", "submitted"}
        assert await new.claim() == []


async def test_a_take_over_that_broke_off_leaves_journals_that_its_own_record_cannot_explain(tmp_path, queue_url):
    """Its record is whole and names nothing of them: an owner that reads it as `never written` sends them twice."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as dead,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        number = await dead.app.enqueue()
        await dead.claim()
        new.record.recovered(new.clock())
        record = Record.open(tmp_path / "2_b" / "record")
        assert record.replay.intact
        owner = owner_of(new, replay=record.replay)
        await new.app.connection.execute("update tocsin.link set owner = null")
        taking = asyncio.create_task(owner.take(new.claiming, LINK, new.settler))
        while not new.settler.pending:
            await asyncio.sleep(0.005)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert owner.epochs == {}
        assert await new.app.value("select owner from tocsin.link where name = $1", LINK) == new.name

        taken = await take(new, owner)

        assert taken is not None
        assert not taken.recorded
        assert await new.app.state(number) == "uncertain"
        assert await new.claim() == []
        record.close()


async def test_what_the_record_knows_ends_doubt_before_the_link_s_chores_send_it_again(tmp_path, queue_url):
    """The answer came late, the database was away, and the daemon was killed: its next start has a resend that is due."""
    async with instance(tmp_path, queue_url) as one:
        number = await doubtful(one, category="emergency")
        await one.app.enqueue()
        (waiting,) = await one.claim()
        enqueued_us = await one.app.value(
            "select (extract(epoch from enqueued_at) * 1000000)::bigint from tocsin.uncertain"
        )
        one.record.recovered(one.clock())
        one.record.answered(LINK, one.clock(), [(number, enqueued_us, 1, 0x00, "m1")])
        one.record.written(LINK, one.clock(), [(waiting.id, waiting.enqueued_us, 1)])
        await age(one, "uncertain", "since", "1 hour")
        record = Record.open(tmp_path / "1_a" / "record")
        assert record.replay.intact
        one.claimer.forget(LINK)
        owner = owner_of(one, replay=record.replay)
        chores = Chores(one)
        taking = asyncio.create_task(owner.take(one.claiming, LINK, one.settler))
        while not one.settler.pending:
            await asyncio.sleep(0.005)
        assert LINK in one.epochs

        await chores.run()

        await one.flush()
        assert await taking is not None
        assert "job.resent" not in await one.app.events(number)
        assert await one.app.state(number) == "submitted"
        record.close()


async def test_an_owner_that_was_overtaken_while_it_accounted_forgets_no_journal(tmp_path, queue_url):
    """The next one is reading it, and may break off as well."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as dead,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        await dead.app.enqueue()
        await dead.claim()
        await new.app.connection.execute("update tocsin.link set owner = null, epoch = epoch + 2")
        epoch = await new.app.value("select epoch from tocsin.link where name = $1", LINK)

        await new.claiming.fetch("forget_journal", LINK, epoch - 1)
        assert await new.app.value("select count(*) from tocsin.claim") == 1

        await new.claiming.fetch("forget_journal", LINK, epoch)
        assert await new.app.value("select count(*) from tocsin.claim") == 0


async def _settle_soon(one: Instance) -> None:
    while not one.settler.pending:
        await asyncio.sleep(0.005)
    await one.flush()
