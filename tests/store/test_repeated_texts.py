"""The same text to the same number under new keys, or none: refused within the policy's time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.store.seed import app_session, connect, count, enqueue, enqueue_many, item, named, seeded

if TYPE_CHECKING:
    import asyncpg

OTHER_NUMBER = "447700900124"


async def set_policy(root: asyncpg.Connection, within: str = "1 hour", texts: int = 1) -> None:
    await root.execute(
        f"insert into tocsin.policy (duplicate_text_within, duplicate_texts) values ('{within}', {texts})"
        " on conflict (only_one) do update set duplicate_text_within = excluded.duplicate_text_within,"
        " duplicate_texts = excluded.duplicate_texts"
    )


async def refused(root: asyncpg.Connection) -> dict[str, int]:
    """What the daemon is to count, by category."""
    return dict(await root.fetch("select category, sum(texts) from tocsin.repeated_texts group by category"))


def outcomes(rows: list[asyncpg.Record]) -> list[str]:
    return [row["reason"] or row["outcome"] for row in rows]


async def test_a_loop_of_500_under_new_keys_is_refused_after_the_first(shared_url):
    """Each refusal is an outcome, a row and an event; the one message goes."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        rows = [await enqueue(root, idempotency_key=f"loop {n}") for n in range(250)]
        rows += [await enqueue(root) for _ in range(250)]

        assert outcomes(rows) == ["queued"] + ["DUP_CONTENT"] * 499
        assert {row["outcome"] for row in rows[1:]} == {"blocked"}
        assert await count(root, "ready") == 1
        assert await count(root, "closed", "state = 'blocked' and reason = 'DUP_CONTENT' and link = 'a'") == 499
        assert await count(root, "event_log", "type = 'job.blocked' and reason = 'DUP_CONTENT'") == 499
        assert await refused(root) == {"transactional": 499}
        again = await enqueue(root, idempotency_key="loop 7")
        assert (again["outcome"], again["job_id"]) == ("duplicate", rows[7]["job_id"]), "a key is a key"


async def test_without_a_policy_and_with_one_that_is_off_nothing_is_refused_or_noted(shared_url):
    """Off until configured."""
    async with seeded(shared_url) as root:
        assert outcomes([await enqueue(root) for _ in range(3)]) == ["queued"] * 3
        await set_policy(root, within="0")
        assert outcomes(await enqueue_many(root, *[item()] * 3)) == ["queued"] * 3
        assert await count(root, "recent_text") == 0
        assert await count(root, "repeated_texts") == 0


async def test_another_text_number_or_app_is_none_of_it(shared_url):
    """What one app sends, another does not learn."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        rows = [await enqueue(root), await enqueue(root, body="hello!"), await enqueue(root, recipient=OTHER_NUMBER)]
        async with app_session(root, shared_url) as app:
            rows += [await enqueue(app), await enqueue(app, sender="Clinic", category="transactional")]

        assert outcomes(rows) == ["queued"] * 4 + ["DUP_CONTENT"]


async def test_items_of_one_call_count_too_and_the_first_ones_go(shared_url):
    """As many as the policy allows."""
    async with seeded(shared_url) as root:
        await set_policy(root, texts=2)
        await enqueue(root, body="an earlier one")
        rows = await enqueue_many(
            root,
            item(),
            item(body="an earlier one"),
            item(idempotency_key="x"),
            item(),
            item(body=""),
            item(body="an earlier one"),
            item(idempotency_key="x"),
        )
        assert outcomes(rows) == [
            *["queued", "queued", "queued", "DUP_CONTENT", "body: empty", "DUP_CONTENT", "duplicate"],
        ]
        assert await count(root, "ready") == 4
        assert await refused(root) == {"transactional": 2}
        assert await count(root, "repeated_texts") == 1, "a row for each call and category, not for each text"


async def test_an_emergency_goes_as_often_as_it_is_asked_for(shared_url):
    """Whoever repeats it has a reason."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        assert outcomes([await enqueue(root, category="emergency") for _ in range(3)]) == ["queued"] * 3


async def test_what_counts_is_when_it_is_due(shared_url):
    """A reminder for each day of the week is no repetition; and a slip to the same hour is one, in either direction."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        days = [item(not_before=f"2090-01-0{day}T08:00:00Z", expires_at="2090-02-01T00:00:00Z") for day in range(1, 8)]
        rows = await enqueue_many(root, *days)
        before = await enqueue(root, not_before=None)
        near = await enqueue_many(
            root,
            item(not_before="2090-01-03T07:00:01Z", expires_at="2090-02-01T00:00:00Z"),
            item(not_before="2090-01-03T08:59:59Z", expires_at="2090-02-01T00:00:00Z"),
            item(not_before="2090-01-03T09:00:00Z", expires_at="2090-02-01T00:00:00Z"),
        )

        assert outcomes([*rows, before]) == ["deferred"] * 7 + ["queued"]
        assert outcomes(near) == ["DUP_CONTENT", "DUP_CONTENT", "deferred"]


async def test_after_its_time_a_text_goes_again(shared_url):
    """And upkeep forgets it."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        await enqueue(root)
        await enqueue(root, body="another")
        await root.execute(
            "update tocsin.recent_text set due_at = array[now() - interval '1 hour'], until = now() - interval '1 s'"
        )
        assert outcomes([await enqueue(root), await enqueue(root)]) == ["queued", "DUP_CONTENT"]
        await named(root, "prune_keys")
        assert await count(root, "recent_text") == 1


async def test_what_is_rolled_back_was_not_asked_for(shared_url):
    """Its app can ask again."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        transaction = root.transaction()
        await transaction.start()
        assert outcomes([await enqueue(root), await enqueue(root)]) == ["queued", "DUP_CONTENT"]
        await transaction.rollback()
        assert await refused(root) == {}
        assert outcomes([await enqueue(root)]) == ["queued"]


@pytest.mark.parametrize("many", [False, True])
async def test_of_callers_at_the_same_time_one_is_taken(shared_url, many):
    """A loop may run on ten hosts."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        apps = [await connect(shared_url) for _ in range(6)]
        try:
            texts = [item(body=f"text {n}") for n in range(20)]
            if many:  # each in another order
                calls = [enqueue_many(app, *texts[n:], *texts[:n]) for n, app in enumerate(apps)]
                rows = [row for result in await asyncio.gather(*calls) for row in result]
            else:
                rows = await asyncio.gather(*(enqueue(app) for app in apps))
        finally:
            for app in apps:
                await app.close()
        assert outcomes(rows).count("queued") == await count(root, "ready") == (20 if many else 1)
        assert set(outcomes(rows)) == {"queued", "DUP_CONTENT"}


async def test_neither_text_nor_number_is_kept(shared_url):
    """A digest of both."""
    async with seeded(shared_url) as root:
        await set_policy(root)
        await enqueue(root, body="SECRET-4821")
        (row,) = await root.fetch("select t::text as all_of_it, length(digest) as octets from tocsin.recent_text t")
        assert row["octets"] == 32
        assert "SECRET" not in row["all_of_it"]
        assert "447700900123" not in row["all_of_it"]
