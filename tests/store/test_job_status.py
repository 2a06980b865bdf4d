"""tocsin.job_status: the view and the function tell the same state, and after acceptance it only rises."""

from __future__ import annotations

import random

import pytest

from dispatcher.store import array, texts
from tests.events import visible
from tests.store.seed import app_session, count, enqueue, named, put, put_closed, put_sent, seeded

COLUMNS = (
    "job_id, client_ref, category, lane, state, reason, link, parts, attempts, enqueued_at, submitted_at, final_at"
)
JOBS = 150
RANKS = {"submitted": 10, "unknown": 20, "undelivered": 30, "delivered": 40}
STATES = {rank: state for state, rank in RANKS.items()}


async def both(connection, jobs: int) -> dict[int, dict]:
    """Every job's row of the view, after comparing it with the function's."""
    view: dict[int, dict] = {}
    for row in await connection.fetch(f"select {COLUMNS} from tocsin.job_status"):
        assert row["job_id"] not in view, "a job has one state"
        view[row["job_id"]] = dict(row)
    for job_id in range(1, jobs + 1):
        rows = await connection.fetch(f"select {COLUMNS} from tocsin.job_status($1)", job_id)
        assert [dict(row) for row in rows] == ([view[job_id]] if job_id in view else [])
    return view


async def random_job(root, chance: random.Random, job_id: int) -> str:
    """Put a job where its life may have taken it; returns the state it must have."""
    parts = chance.choice([1, 1, 2, 3])
    accepted = {part: [] for part in range(1, parts + 1) if chance.random() < 0.7}
    for part, attempts in accepted.items():
        for _ in range(chance.choice([1, 1, 2])):  # a second one: resent after doubt, or FENCED
            state = chance.choice([None, 20, 30, 40])
            attempts.append(state or 10)
            await put_sent(
                root, job_id, part=part, parts=parts, link=chance.choice("ab"),
                message_id=f"'m{job_id}.{part}.{len(attempts)}'", receipt_state=str(state or "null"),
                receipt_at="now()" if state else "null", reason=chance.choice(["null", "'FENCED'", "'DOUBT'"]),
            )  # fmt: skip
    place = chance.choice(["", "", "", "ready", "deferred", "uncertain", "closed"])
    if place == "closed":
        state = chance.choice(["blocked", "cancelled", "expired", "failed"])
        await put_closed(root, job_id, state, "PARTIAL" if accepted else state.upper(), parts=parts)
        return state
    if place:
        await put(root, place, job_id, parts=parts, link=chance.choice("ab"))
        return {"ready": "queued"}.get(place, place)
    if not accepted:
        return ""
    return STATES[min(max(attempts) for attempts in accepted.values()) if len(accepted) == parts else 10]


async def test_view_and_function_agree_with_the_rule_on_random_histories(shared_url):
    """The worst of its parts' best attempts; but where it waits, and how it ended before acceptance, decide first."""
    async with seeded(shared_url) as root:
        chance = random.Random(11)
        expected = {job_id: await random_job(root, chance, job_id) for job_id in range(1, JOBS + 1)}
        view = await both(root, JOBS)
        assert {job_id: row["state"] for job_id, row in view.items()} == {
            job: state for job, state in expected.items() if state
        }
        assert len(set(expected.values())) == 12, "every state occurs, and jobs without one"


async def test_each_place_of_a_job_has_its_state(shared_url):
    """What an app reads at every step of a job's life, each with the reason that stands there."""
    async with seeded(shared_url) as root:
        await put(root, "ready", 1, client_ref="'r-1'")
        await put(root, "deferred", 2, reason="'RETRY_THROTTLED'")
        await put(root, "uncertain", 3)
        await put_closed(root, 4, "failed", "PARTIAL", parts=2)
        await put_sent(root, 4, part=1, parts=2)
        await put_sent(root, 5, reason="'DOUBT'", receipt_state="20", receipt_at="now()", message_id="null")
        await put_sent(root, 6, reason="'FENCED'")
        await put_sent(root, 7, receipt_state="30", receipt_error="'EXPIRED_SMSC'", receipt_at="now()")
        await put_sent(root, 8, receipt_state="40", receipt_error="'000'", receipt_at="now()")
        told = {job: (row["state"], row["reason"]) for job, row in (await both(root, 9)).items()}
        assert told == {
            1: ("queued", None),
            2: ("deferred", "RETRY_THROTTLED"),
            3: ("uncertain", "UNANSWERED"),
            4: ("failed", "PARTIAL"),
            5: ("unknown", "DOUBT"),
            6: ("submitted", None),
            7: ("undelivered", "EXPIRED_SMSC"),
            8: ("delivered", None),
        }


async def test_a_job_of_several_parts_is_final_when_each_part_is(shared_url):
    """Half a message that arrived is not a message that arrived."""
    async with seeded(shared_url) as root:
        await put_sent(root, 1, part=1, parts=2, receipt_state="40", receipt_at="now()")
        assert (await both(root, 1))[1]["state"] == "submitted"
        await put_sent(root, 1, part=2, parts=2)
        row = (await both(root, 1))[1]
        assert (row["state"], row["final_at"]) == ("submitted", None)
        await root.execute(
            "update tocsin.sent set receipt_state = 30, receipt_at = now(), receipt_error = '012' where part = 2"
        )
        row = (await both(root, 1))[1]
        assert (row["state"], row["reason"], row["final_at"] is None) == ("undelivered", "012", False)


@pytest.mark.parametrize(
    ("asked", "known", "state"),
    [
        ("none", 20, "unknown"),
        ("failures", 20, "unknown"),
        ("failures", 30, "undelivered"),
        ("all", 20, "submitted"),
        ("all", 30, "submitted"),
    ],
)
async def test_a_part_of_which_no_receipt_is_awaited_keeps_no_job_from_its_end(shared_url, asked, known, state):
    """Its acceptance was the last that is ever heard of it; without any other end it is what the job is."""
    async with seeded(shared_url) as root:
        await root.execute("update tocsin.link set receipts = $1 where name = 'a'", asked)
        await put_sent(root, 1, part=1, parts=2)
        await put_sent(root, 1, part=2, parts=2)
        assert (await both(root, 1))[1]["state"] == "submitted"
        await root.execute("update tocsin.sent set receipt_state = $1, receipt_at = now() where part = 2", known)
        assert (await both(root, 1))[1]["state"] == state


async def test_a_part_that_failed_ends_the_job_where_only_failures_are_told(shared_url):
    """The app hears of it, once."""
    async with seeded(shared_url) as root:
        await root.execute("update tocsin.link set receipts = 'failures' where name = 'a'")
        for part in (1, 2):
            await put_sent(root, 1, part=part, parts=2)
        for part in (2, 2, 1):
            one, none = texts(["a"]), texts([""])
            ids = texts([f"m1.{part}"])
            await named(
                root, "apply_receipts", array([0]), ids, none, none, "a", one, array([30]), none, none, 86400.0, 86400.0
            )
        await visible(root)
        events = await root.fetch("select type, subject from tocsin.event order by seq")
        assert [tuple(row) for row in events] == [("job.undelivered", "1")]
        assert (await both(root, 1))[1]["state"] == "undelivered"


async def test_after_acceptance_the_state_only_rises_and_each_rise_is_told_once(shared_url):
    """Receipts come twice, late and in any order; an app that acted on delivered must not hear undelivered."""
    async with seeded(shared_url) as root:
        chance = random.Random(5)
        parts = {job_id: chance.choice([1, 1, 2, 3]) for job_id in range(1, 21)}
        for job_id, of in parts.items():
            for part in range(1, of + 1):
                await put_sent(root, job_id, part=part, parts=of)
        rank = dict.fromkeys(parts, 10)
        told: list[tuple[str, str]] = []
        for _ in range(40):
            named_by = chance.sample([(job, part) for job, of in parts.items() for part in range(1, of + 1)], 6)
            states = [chance.choice([20, 30, 40]) for _ in named_by]
            ids = texts([f"m{job}.{part}" for job, part in named_by])
            links, none = texts(["a"] * len(states)), texts([""] * len(states))
            count_up, ranks = array(range(len(states))), array(states)
            await named(
                root, "apply_receipts", count_up, ids, none, none, "a", links, ranks, none, none, 86400.0, 86400.0
            )
            for job_id, row in (await both(root, len(parts))).items():
                assert RANKS[row["state"]] >= rank[job_id]
                if RANKS[row["state"]] > rank[job_id]:
                    told.append((f"job.{row['state']}", str(job_id)))
                rank[job_id] = RANKS[row["state"]]
        await visible(root)
        events = await root.fetch("select type, subject from tocsin.event order by seq")
        assert sorted(told) == sorted(tuple(row) for row in events)
        assert len(told) > len(parts)


async def test_an_app_sees_its_own_jobs_and_an_auditor_all(shared_url):
    """By the view and by the function alike."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        others = (await enqueue(root))["job_id"]
        mine = (await enqueue(app))["job_id"]
        assert [row["job_id"] for row in await app.fetch("select job_id from tocsin.job_status")] == [mine]
        assert await app.fetch("select * from tocsin.job_status($1)", others) == []
        assert len(await app.fetch("select * from tocsin.job_status($1)", mine)) == 1
        assert await count(root, "job_status") == 2
