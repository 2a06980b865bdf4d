"""dispatcher/failover.py: what the record knows of a job, against the place where a new primary shows it.

What a standby lost is made by hand: a row is put where it stood before, and nothing names it.
"""

from __future__ import annotations

import pytest

from dispatcher.failover import Aftermath
from dispatcher.lineage import FILE, Lineage, accounted, lineage_of, note_accounted
from dispatcher.record import Record, Replay
from tests.dispatcher.instance import Instance, instance
from tests.dispatcher.test_ownership import TWO_PARTS, owner_of, take
from tests.journey.running import LINK, app_of

ENQUEUED_US = "select (extract(epoch from enqueued_at) * 1000000)::bigint from tocsin.ready where id = $1"
DEFER = """
with gone as (delete from tocsin.ready where id = $1 returning *)
insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
                             expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, reason)
select now() + interval '1 hour', id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at,
       expires_at, cancel_group, 1, resends, parts, done, now(), 'RETRY_ESME_RSYSERR' from gone
"""
DOUBT = """
with gone as (delete from tocsin.ready where id = $1 returning *)
insert into tocsin.uncertain (id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
                              expires_at, cancel_group, attempt, resends, parts, done, first_wire_at, doubt)
select id, link, lane, app, client_ref, recipient, sender, body, category, flash, options, enqueued_at, due_at,
       expires_at, cancel_group, 1, resends, parts, done, now(), repeat('1', parts)::varbit from gone
"""


class History:
    """Jobs in ready, and what the local record says of them."""

    def __init__(self, one: Instance) -> None:
        self._one = one
        self.keys: dict[str, tuple[int, int]] = {}

    async def job(self, name: str, body: str = "Hello", category: str = "transactional") -> int:
        number = await self._one.app.enqueue(body=body, category=category)
        self.keys[name] = number, await self._one.app.value(ENQUEUED_US, number)
        return number

    def written(self, name: str, part: int = 1) -> None:
        self._one.record.written(LINK, self._one.clock(), [(*self.keys[name], part)])

    def answered(self, name: str, message_id: str, status: int = 0, part: int = 1, *, settled: bool = True) -> None:
        self.written(name, part)
        self._one.record.answered(LINK, self._one.clock(), [(*self.keys[name], part, status, message_id)])
        if settled:
            self._one.record.settled([self.keys[name]], self._one.clock())

    def replay(self) -> Replay:
        """What a process that begins now would read."""
        self._one.record.recovered(self._one.clock())
        again = Record.open(self._one.record._directory)
        again.close()
        return again.replay


async def begin_again(one: Instance, history: History) -> Aftermath:
    """Take the link as a daemon does that finds another lineage."""
    replay = history.replay()
    owner = owner_of(one, replay=replay)
    owner.aftermath = Aftermath(replay)
    await one.app.connection.execute("update tocsin.link set owner = $1, accounted_by = $1", one.name)
    taken = await take(one, owner)
    assert taken is not None
    await owner.aftermath.finish(one.claiming)
    return owner.aftermath


async def message_ids(one: Instance, number: int) -> list[str]:
    return [row["message_id"] for row in await one.app.sent(number)]


async def test_an_accepted_job_that_stands_in_ready_again_is_settled_with_its_message_ids(tmp_path, queue_url):
    """Its claim and its settle were lost."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number = await history.job("accepted", TWO_PARTS)
        untouched = await history.job("never written")
        history.answered("accepted", "m1", settled=False)
        history.answered("accepted", "m2", part=2)

        await begin_again(one, history)

        assert await one.app.state(number) == "submitted"
        assert await message_ids(one, number) == ["m1", "m2"]
        assert [job.id for job in await one.claim()] == [untouched]


async def test_a_part_whose_settle_was_lost_is_done_and_the_other_goes_out(tmp_path, queue_url):
    """What was accepted is not sent again, what was never written is not held up."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number = await history.job("half", TWO_PARTS)
        history.answered("half", "m1")

        await begin_again(one, history)

        assert await message_ids(one, number) == ["m1"]
        assert {job.id: job.done for job in await one.claim()} == {number: 1}


async def test_a_job_that_was_written_and_not_answered_is_in_doubt_wherever_it_stands(tmp_path, queue_url):
    """In ready, and in deferred where its promotion was lost."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        ready, deferred = await history.job("ready"), await history.job("deferred")
        history.written("ready")
        history.written("deferred")
        await one.app.connection.execute(DEFER, deferred)

        await begin_again(one, history)

        assert {number: await one.app.state(number) for number in (ready, deferred)} == {
            ready: "uncertain",
            deferred: "uncertain",
        }


async def test_an_accepted_job_that_waits_in_deferred_is_settled_and_a_refused_one_keeps_its_turn(tmp_path, queue_url):
    """The first one's promotion was lost; the second one is where it belongs."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        accepted, refused = await history.job("accepted"), await history.job("refused")
        history.answered("accepted", "m1")
        history.answered("refused", "", status=8)
        for number in (accepted, refused):
            await one.app.connection.execute(DEFER, number)
        due_at = await one.app.value("select due_at from tocsin.deferred where id = $1", refused)

        await begin_again(one, history)

        assert await one.app.state(accepted) == "submitted"
        assert await message_ids(one, accepted) == ["m1"]
        assert await one.app.value("select due_at from tocsin.deferred where id = $1", refused) == due_at


@pytest.mark.parametrize(("status", "state"), [(8, "queued"), (0x0B, "failed")])
async def test_a_settled_refusal_ends_a_job_in_ready_only_when_it_was_final(tmp_path, queue_url, status, state):
    """A refusal for now may already be counted in the row: it costs no second attempt."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number = await history.job("refused")
        history.answered("refused", "", status=status)

        await begin_again(one, history)

        assert await one.app.state(number) == state
        assert await one.app.value("select count(*) from tocsin.claim") == 0


async def test_doubt_ends_with_the_recorded_answer(tmp_path, queue_url):
    """The late answer came, and its settle was lost."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number, doubted = await history.job("answered late"), await history.job("never answered")
        history.answered("answered late", "m1")
        history.written("never answered")
        for job in (number, doubted):
            await one.app.connection.execute(DOUBT, job)

        await begin_again(one, history)

        assert await one.app.state(number) == "submitted"
        assert await message_ids(one, number) == ["m1"]
        assert await one.app.state(doubted) == "uncertain"


async def test_a_job_that_was_accepted_and_cancelled_on_the_new_primary_keeps_its_message_id_as_fenced(
    tmp_path, queue_url
):
    """It stood in ready there, named by no journal, before we came."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number = await history.job("cancelled")
        history.answered("cancelled", "m1")
        assert await one.app.value("select tocsin.cancel($1)", number) == "cancelled"

        aftermath = await begin_again(one, history)
        await aftermath.finish(one.claiming)  # repeated, it keeps nothing twice

        (row,) = await one.app.sent(number)
        assert (row["message_id"], row["reason"]) == ("m1", "FENCED")


async def test_a_job_that_has_a_lost_one_s_id_is_not_taken_for_it(tmp_path, queue_url):
    """Sequences roll back with lost WAL: only id and enqueued_at together name a job."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        number = await history.job("lost")
        history.answered("lost", "m1")
        await one.app.connection.execute(
            "update tocsin.ready set enqueued_at = enqueued_at + interval '1 second', recipient = '447700900999'"
        )

        await begin_again(one, history)

        (job,) = await one.claim()
        assert (job.id, job.recipient) == (number, "447700900999")
        assert await message_ids(one, number) == []


async def test_what_is_as_it_should_be_stays_as_it_is(tmp_path, queue_url):
    """All but the last moments of ten minutes."""
    async with instance(tmp_path, queue_url) as one:
        history = History(one)
        number = await history.job("sent", TWO_PARTS)
        (job,) = await one.claim()
        one.accepted(job, ["m1", "m2"])
        await one.flush()
        history.answered("sent", "m1", settled=False)
        history.answered("sent", "m2", part=2)
        before = await one.app.sent(number)

        aftermath = await begin_again(one, history)

        assert await one.app.sent(number) == before
        assert aftermath._open == []


async def test_a_link_that_was_accounted_for_is_not_accounted_for_again(tmp_path, queue_url):
    """What the record said at the start is old news at a later take-over."""
    async with instance(tmp_path, queue_url, owns=False) as one:
        history = History(one)
        await history.job("accepted")
        history.answered("accepted", "m1")

        aftermath = await begin_again(one, history)

        assert not aftermath.concerns(LINK)
        assert aftermath.concerns("carrier-b")


class TestLineage:
    """Which history of the database it is."""

    async def test_a_server_tells_its_cluster_and_its_timeline(self, tmp_path, queue_url):
        """The cluster's number is the one that pg_control has; a cluster that never failed over is on timeline 1."""
        async with instance(tmp_path, queue_url) as one, app_of(queue_url) as app:
            wanted = str(await app.value("select system_identifier from pg_control_system()"))

            assert await lineage_of(one.claiming) == Lineage(wanted, "00000001")

    def test_it_is_kept_in_the_state_directory_and_a_damaged_file_is_none(self, tmp_path):
        """Without it everything is accounted for once more."""
        assert accounted(tmp_path) is None
        note_accounted(tmp_path, Lineage("7", "00000002"))
        assert accounted(tmp_path) == Lineage("7", "00000002")
        (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
        assert accounted(tmp_path) is None
