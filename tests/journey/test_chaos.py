"""Everything at once, and still each job ends once.

An SMSC that refuses, delays, forgets and hangs up, a database that drops connections, apps that cancel. Seeded, so
that a failure can be looked at again.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import THROTTLED, Answer
from tests.journey.handset import piece_of
from tests.journey.running import app_of, journey
from tests.journey.test_kill import taken_of

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged

JOBS = 400
HELD = ("auth", "transactional", "marketing")
RESENT = ("emergency", "staff")
RANK = {"job.unknown": 20, "job.undelivered": 30, "job.delivered": 40}
ENDS = {"job.failed", "job.cancelled", "job.expired", "job.blocked"}
PLACES = """
select id, array_agg(place order by place) as places from (
    select id, 'ready' as place from tocsin.ready union all select id, 'deferred' from tocsin.deferred
    union all select id, 'uncertain' from tocsin.uncertain union all select job_id, 'closed' from tocsin.closed
    union all select distinct job_id, 'sent' from tocsin.sent) p group by id
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
async def test_every_job_ends_once_whatever_goes_wrong_and_no_accepted_segment_is_written_again(
    tmp_path, queue_url, seed
):
    """By the client's own log, the SMSC's own log, and the tables."""
    asyncio.get_running_loop().set_debug(False)
    chosen = random.Random(seed)

    def answer(_: Logged) -> Answer:
        luck = chosen.random()
        if luck < 0.03:
            return Answer(withhold=True)
        if luck < 0.05:
            return Answer(delay_s=0.8)  # late: past the response time-out
        status = {5: 0x0B, 6: 0x08, 7: 0x45, 8: THROTTLED if chosen.random() < 0.1 else 0}.get(int(luck * 100), 0)
        return Answer(status=status, delay_s=chosen.random() * 0.02)

    async with (
        journey(
            tmp_path,
            queue_url,
            daemon={"doubt_resend_s": 0.3},
            response_timeout_s=0.5,
            window_size=20,
            throughput_per_s=500,
        ) as world,
        app_of(queue_url) as other,
    ):
        world.smsc.on_submit = answer
        world.smsc.receipt_delay_s = 0.01
        jobs = [
            {
                "recipient": f"4477{n:08d}",
                "body": "x" * chosen.choice((20, 200, 400)),
                "category": chosen.choice(HELD + RESENT),
            }
            for n in range(JOBS)
        ]
        ids = await world.app.enqueue_many(jobs)
        category = {job["recipient"]: job["category"] for job in jobs}
        cancelled = set()
        for _ in range(12):
            await asyncio.sleep(chosen.random() * 0.4)  # the trouble's own rhythm, not a wait for anything
            match chosen.randrange(4):
                case 0:
                    world.smsc.drop()
                case 1:
                    await other.fetch(
                        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin'"
                        " and datname = current_database() order by random() limit 3"
                    )
                case 2:
                    await world.app.hurry()
                case 3:
                    number = chosen.choice(ids)
                    if await other.value("select tocsin.cancel($1)", number) == "cancelled":
                        cancelled.add(number)
        world.smsc.on_submit = lambda _: Answer()
        async with asyncio.timeout(40):
            while (await world.app.states()).keys() & {"queued", "deferred"}:
                await world.app.hurry()
                await asyncio.sleep(0.1)
        await world.daemon.stop()

        places = {row["id"]: row["places"] for row in await world.app.fetch(PLACES)}
        assert places.keys() == set(ids), "none lost, none made up"
        for places_of_one in places.values():
            assert len(set(places_of_one) - {"sent"}) <= 1, "one place; beside it only what the SMSC took"
        assert await world.app.value("select count(*) from tocsin.claim") == 0

        by_recipient = {job["recipient"]: number for job, number in zip(jobs, ids, strict=True)}
        answers = {(a.session, a.sequence): a for a in world.smsc.answers()}
        taken = defaultdict(list)
        for submit in world.smsc.received("submit_sm"):
            piece = piece_of(taken_of(submit))
            assert by_recipient[piece.destination] not in cancelled, "cancelled means never written"
            taken[piece].append(answers.get((submit.session, submit.sequence)))
        known = {row["message_id"] for row in await world.app.fetch("select message_id from tocsin.sent")}
        for piece, outcomes in taken.items():
            accepted = [a for a in outcomes if a is not None and a.status == 0]
            if category[piece.destination] in HELD:
                assert len([a for a in outcomes if a is None or a.status == 0]) <= 1, f"{piece} was written again"
            else:
                assert len([a for a in outcomes if a is None or a.status == 0]) <= 3
            states = await world.app.state(by_recipient[piece.destination])
            assert states == "uncertain" or any(a.fields["message_id"] in known for a in accepted) or not accepted
        for number in ids:
            told = await world.app.events(number)
            ranks = [RANK[event] for event in told if event in RANK]
            assert ranks == sorted(set(ranks)), "a state only rises"
            assert sum(event in ENDS for event in told) <= 1
        print(
            f"\nseed {seed}: {await world.app.states()}, {len(taken)} segments, {sum(map(len, taken.values()))} submits"
        )
