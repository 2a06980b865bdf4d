"""Reasons of receipts in SQL: of which part a job has its reason, what its event tells, and rows of older versions."""

from __future__ import annotations

import json
import random

import pytest

from dispatcher import migrate as migrations
from dispatcher.store import array, texts
from gateway import RETRY
from tests.events import visible
from tests.store.seed import connect, named, put_sent, seeded

DAY_S = 86_400.0
VERSION = 18  # the migration that brought the column
STATE = {20: "unknown", 30: "undelivered", 40: "delivered"}


async def apply(root, *receipts: tuple[str, int, str, str]) -> None:
    """Message id, state, error and reason of each, as the daemon applies them."""
    ids, states, errors, reasons = zip(*receipts, strict=True)
    none = texts([""] * len(receipts))
    await named(
        root, "apply_receipts", array(range(len(receipts))), texts(ids), texts(errors), none, "a", texts(["a"] * len(receipts)), array(states), none,
        texts(reasons), DAY_S, DAY_S,
    )  # fmt: skip


async def told(root) -> list[tuple[str, dict[str, object]]]:
    """Types and data of the jobs' events so far, in order."""
    await visible(root)
    rows = await root.fetch("select type, data from tocsin.event where type like 'job.%' order by seq")
    return [(row["type"], json.loads(row["data"])) for row in rows]


async def status(root, job_id: int) -> tuple[str, str | None, str | None]:
    """State, reason and retry, after comparing the view with the function."""
    query = "select state, reason, retry from tocsin.job_status"
    (row,) = await root.fetch(f"{query}($1)", job_id)
    (shown,) = await root.fetch(f"{query} where job_id = $1", job_id)
    assert tuple(row) == tuple(shown)
    return tuple(row)


async def test_the_database_and_the_gateway_decide_alike(shared_url):
    """The event is told by one and the page is written by the other."""
    async with seeded(shared_url) as root:
        for reason, retry in RETRY.items():
            assert await root.fetchval("select tocsin.receipt_retry($1)", reason) == retry
        assert await root.fetchval("select tocsin.receipt_retry(null)") == "unclear"
        assert await root.fetchval("select tocsin.receipt_retry('061')") == "unclear"


@pytest.mark.parametrize("reason", RETRY)
async def test_the_app_reads_the_reason_the_code_and_what_to_do(shared_url, reason):
    """In the event and by job_status; the code itself stays with the evidence."""
    async with seeded(shared_url) as root:
        await put_sent(root, 1)
        await apply(root, ("m1.1", 30, "0A1", reason))

        assert await status(root, 1) == ("undelivered", reason, RETRY[reason])
        ((kind, data),) = await told(root)
        assert kind == "job.undelivered"
        assert data == {"category": "transactional", "reason": reason, "error": "0A1", "retry": RETRY[reason]}
        (row,) = await root.fetch("select receipt_reason, receipt_error from tocsin.sent")
        assert tuple(row) == (reason, "0A1")


async def test_of_a_delivered_and_of_an_unknown_message_no_retry_is_told(shared_url):
    """The one arrived; the other may have, and a second one would be a duplicate."""
    async with seeded(shared_url) as root:
        await put_sent(root, 1)
        await put_sent(root, 2)
        await apply(root, ("m1.1", 40, "000", ""), ("m2.1", 20, "", "UNKNOWN_SMSC"))

        assert await status(root, 1) == ("delivered", None, None)
        assert await status(root, 2) == ("unknown", "UNKNOWN_SMSC", None)
        assert sorted(await told(root)) == [
            ("job.delivered", {"category": "transactional"}),
            ("job.unknown", {"category": "transactional", "reason": "UNKNOWN_SMSC"}),
        ]
        assert await root.fetchval("select receipt_reason from tocsin.sent where job_id = 1") is None


@pytest.mark.parametrize(
    ("parts", "ended"),
    [
        ([(30, "061", "ABSENT"), (40, "000", "")], ("undelivered", "ABSENT", "061")),
        ([(30, "061", "ABSENT"), (30, "001", "UNKNOWN_SUBSCRIBER")], ("undelivered", "UNKNOWN_SUBSCRIBER", "001")),
        ([(30, "061", "ABSENT"), (30, "099", "UNDELIVERED_SMSC")], ("undelivered", "UNDELIVERED_SMSC", "099")),
        ([(30, "099", "UNDELIVERED_SMSC"), (30, "013", "BARRED")], ("undelivered", "BARRED", "013")),
        ([(30, "", "UNDELIVERED_SMSC"), (30, "099", "UNDELIVERED_SMSC")], ("undelivered", "UNDELIVERED_SMSC", "099")),
        ([(30, "001", "UNKNOWN_SUBSCRIBER"), (20, "", "UNKNOWN_SMSC")], ("unknown", "UNKNOWN_SMSC", None)),
        ([(30, "", ""), (30, "099", "")], ("undelivered", "099", "099")),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_job_of_several_parts_has_the_reason_of_its_worst(shared_url, parts, ended, order, at_once):
    """The lowest state, and of it what can least be mended: a text of which one part meets a dead number is not sent again."""
    state, reason, error = ended
    async with seeded(shared_url) as root:
        for part in range(1, len(parts) + 1):
            await put_sent(root, 1, part=part, parts=len(parts))
        receipts = [(f"m1.{part}", *said) for part, said in enumerate(parts, 1)][::order]
        for batch in [receipts] if at_once else [[one] for one in receipts]:
            await apply(root, *batch)

        retry = (RETRY.get(reason, "unclear")) if state == "undelivered" else None
        assert await status(root, 1) == (state, reason, retry)
        facts = {"category": "transactional", "reason": reason, "error": error, "retry": retry}
        assert await told(root) == [(f"job.{state}", {key: value for key, value in facts.items() if value})]


async def test_a_part_that_was_given_up_is_the_reason_of_its_job(shared_url):
    """Beside it another part's receipt says what is known of that part, and not of the message."""
    async with seeded(shared_url) as root:
        await put_sent(
            root, 1, part=1, parts=2, reason="'DOUBT'", message_id="null", receipt_state="20", receipt_at="now()"
        )
        await put_sent(root, 1, part=2, parts=2)
        await apply(root, ("m1.2", 30, "001", "UNKNOWN_SUBSCRIBER"))

        assert await status(root, 1) == ("unknown", "DOUBT", None)
        assert await told(root) == [("job.unknown", {"category": "transactional", "reason": "DOUBT"})]


async def test_of_a_part_that_was_sent_again_the_better_end_counts(shared_url):
    """The first writing met a full memory, the second was given up: what is known is that it was not delivered."""
    async with seeded(shared_url) as root:
        await put_sent(root, 1, reason="'DOUBT'", message_id="null", receipt_state="20", receipt_at="now()")
        await put_sent(root, 1, reason="'POSSIBLE_DUPLICATE'", message_id="'again'", resends="1")
        await apply(root, ("again", 30, "040", "MEMORY_FULL"))
        assert await status(root, 1) == ("undelivered", "MEMORY_FULL", "later")

        await apply(root, ("again", 40, "000", ""))
        assert await status(root, 1) == ("delivered", "POSSIBLE_DUPLICATE", None)
        assert [kind for kind, _ in await told(root)] == ["job.undelivered", "job.delivered"]


async def test_what_is_told_is_what_job_status_has_at_that_moment(shared_url):
    """Whatever the parts, the resends, the order and the batches."""
    async with seeded(shared_url) as root:
        chance = random.Random(23)
        ids: list[str] = []
        for job_id in range(1, 25):
            parts = chance.choice([1, 2, 3])
            for part in range(1, parts + 1):
                copies = chance.choice([1, 1, 2])
                mark = "'POSSIBLE_DUPLICATE'" if copies > 1 else "null"
                for copy in range(copies):
                    ids.append(f"m{job_id}.{part}.{copy}")
                    await put_sent(root, job_id, part=part, parts=parts, message_id=f"'{ids[-1]}'", reason=mark)
        seen, by_state = 0, set()
        for _ in range(60):
            batch = []
            for name in chance.sample(ids, 6):
                state = chance.choice([20, 30, 30, 40])
                reason = "" if state == 40 else chance.choice([*RETRY, ""])
                batch.append((name, state, chance.choice(["", "001", "061"]), reason))
            await apply(root, *batch)
            rows = await root.fetch(
                "select subject, type, reason, detail from tocsin.event_log where type like 'job.%' order by seq offset $1",
                seen,
            )
            seen += len(rows)
            for row in rows:
                state, reason, retry = await status(root, int(row["subject"]))
                detail = json.loads(row["detail"] or "{}")
                assert row["type"] == f"job.{state}"
                assert detail.get("retry") == retry
                if state != "delivered":
                    assert row["reason"] == (None if reason == "POSSIBLE_DUPLICATE" else reason)
                by_state.add(state)
        assert by_state == set(STATE.values())


async def test_rows_of_an_older_version_keep_their_code_for_a_reason(empty_database_url, monkeypatch):
    """Nothing is rewritten: the column is null where an older daemon wrote, before the migration or after it."""
    shipped = migrations.shipped()
    connection = await connect(empty_database_url)
    try:
        monkeypatch.setattr(migrations, "shipped", lambda: [one for one in shipped if one.version < VERSION])
        await migrations.migrate(connection)
        old = {"receipt_state": "30", "receipt_at": "now()"}
        await put_sent(connection, 1, receipt_error="'061'", **old)
        await put_sent(connection, 2, **old)
        for part, error in ((1, "'061'"), (2, "null")):
            await put_sent(connection, 3, part=part, parts=2, receipt_error=error, **old)
        await connection.execute(
            "insert into tocsin.receipt_wait (received_at, id, link, message_id, forms, state, error, source, destination,"
            " submitted_on) values (now(), 1, 'a', 'm9', '{m9}', 30, '061', '', '', '')"
        )
        before = await connection.fetch("select state, reason from tocsin.job_status order by job_id")

        monkeypatch.setattr(migrations, "shipped", lambda: shipped)
        assert (await migrations.migrate(connection))[0].startswith(f"{VERSION:04d}_")

        assert [tuple(row) for row in before] == [("undelivered", "061"), ("undelivered", None), ("undelivered", "061")]
        after = await connection.fetch("select state, reason, retry from tocsin.job_status order by job_id")
        assert [tuple(row) for row in after] == [(*tuple(row), "unclear") for row in before]
        for job_id in (1, 2, 3):
            assert await status(connection, job_id) == tuple(after[job_id - 1])
        assert await connection.fetchval("select count(*) from tocsin.sent where receipt_reason is not null") == 0
        (parked,) = await named(connection, "parked_receipts", texts(["a"]), DAY_S)
        assert (parked["error"], parked["reason"]) == ("061", "")
    finally:
        await connection.close()
