"""tocsin.enqueue: what becomes of one request, and how a bad one is refused."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from config.replies import CONTROL
from tests.events import visible
from tests.store.seed import app_session, connect, count, enqueue, enqueue_many, item, seeded


async def refusal(connection, **fields) -> tuple[str, str]:
    """SQLSTATE and the field that a refused request names."""
    with pytest.raises(asyncpg.PostgresError) as raised:
        await enqueue(connection, **fields)
    error = raised.value
    assert error.message.startswith(f"{error.column_name}: ")
    return error.sqlstate, error.column_name


async def test_a_request_becomes_a_row_of_ready_in_its_category_s_lane(shared_url):
    """What the row holds is what the request said, the number in its one stored form."""
    async with seeded(shared_url) as root:
        row = await enqueue(
            root,
            body="Bring your referral.",
            category="staff",
            client_ref="r-1",
            flash=True,
            options='{"priority_flag": 2}',
        )
        assert (row["outcome"], row["reason"]) == ("queued", None)
        ready = await root.fetchrow("select * from tocsin.ready")
        assert ready["id"] == row["job_id"]
        assert (ready["link"], ready["lane"], ready["recipient"], ready["sender"]) == ("a", 1, "447700900123", "Clinic")
        assert (ready["body"], ready["category"], ready["flash"], ready["client_ref"]) == (
            "Bring your referral.",
            "staff",
            True,
            "r-1",
        )
        assert json.loads(ready["options"]) == {"priority_flag": 2}
        assert (ready["app"], ready["attempt"], ready["parts"], ready["done"]) == ("postgres", 0, 1, None)
        assert ready["expires_at"] - ready["enqueued_at"] == timedelta(minutes=30)


async def test_without_options_the_row_stores_none(shared_url):
    """Empty options cost no octet and mean the same request."""
    async with seeded(shared_url) as root:
        for options in ("{}", None, "null"):
            await enqueue(root, options=options)
        assert await count(root, "ready", "options is null") == 3


async def test_not_before_defers_and_moves_the_default_expiry(shared_url):
    """A job that waits a week for its day has its whole time to live after that day."""
    async with seeded(shared_url) as root:
        day = datetime.now(UTC) + timedelta(days=7)
        row = await enqueue(root, not_before=day)
        assert row["outcome"] == "deferred"
        deferred = await root.fetchrow("select * from tocsin.deferred")
        assert (deferred["id"], deferred["due_at"], deferred["reason"]) == (row["job_id"], day, "SCHEDULED")
        assert deferred["expires_at"] == day + timedelta(hours=24)
        assert (await enqueue(root, not_before=day - timedelta(days=8)))["outcome"] == "queued"
        assert await root.fetchval(
            "select expires_at = due_at + interval '24 hours' and due_at = enqueued_at from tocsin.ready"
        )


async def test_the_sender_is_the_first_that_allows_the_category(shared_url):
    """Position decides, not name or order of insertion."""
    async with seeded(shared_url) as root:
        for category in ("transactional", "staff", "marketing"):
            await enqueue(root, category=category)
        await enqueue(root, sender="Clinic")
        rows = await root.fetch("select sender, link from tocsin.ready order by id")
        assert [tuple(row) for row in rows] == [("Northside", "a"), ("Clinic", "a"), ("Wellness", "b"), ("Clinic", "a")]


async def test_the_longest_prefix_routes_to_its_first_link_that_has_the_sender(shared_url):
    """A link without the sender would replace or refuse it."""
    async with seeded(shared_url) as root:
        for recipient in ("+33123456789", "447700900123", "447800900123"):
            await enqueue(root, recipient=recipient)
        await enqueue(root, recipient="447700900123", category="marketing")
        await root.execute("update tocsin.link set enabled = false where name = 'b'")
        await enqueue(root, recipient="447800900123")
        rows = await root.fetch("select recipient, link from tocsin.ready order by id")
        assert [tuple(row) for row in rows] == [
            ("33123456789", "a"),
            ("447700900123", "a"),
            ("447800900123", "b"),
            ("447700900123", "b"),
            ("447800900123", "a"),
        ]


async def test_without_a_route_the_job_is_blocked_and_leaves_evidence(shared_url):
    """A refusal by policy is an outcome with a reason, a row and an event; never an error."""
    async with seeded(shared_url) as root:
        row = await enqueue(root, recipient="33123456789", category="marketing", client_ref="r-1")
        assert (row["outcome"], row["reason"]) == ("blocked", "NO_ROUTE")
        closed = await root.fetchrow("select * from tocsin.closed")
        assert (closed["job_id"], closed["state"], closed["reason"], closed["link"]) == (
            row["job_id"],
            "blocked",
            "NO_ROUTE",
            None,
        )
        await visible(root)
        event = await root.fetchrow("select * from tocsin.event")
        assert (event["type"], event["subject"]) == ("job.blocked", str(row["job_id"]))
        assert json.loads(event["data"]) == {"client_ref": "r-1", "category": "marketing", "reason": "NO_ROUTE"}
        later = datetime.now(UTC) + timedelta(hours=1)
        assert (await enqueue(root, recipient="33123456789", category="marketing", not_before=later))[
            "outcome"
        ] == "blocked"
        assert await count(root, "ready") + await count(root, "deferred") == 0


NO_E164_NUMBERS = [
    *[
        "",
        "+",
        "12",
        "123456",
        "1234567890123456",
        "0447700900123",
        "+0447700900123",
        "++447700900123",
        "447700900123+",
    ],
    *["44 7700 900123", "447700900123\n", "٤٤٧٧٠٠٩٠٠١٢٣", "４４７７００９００１２３", None],
]


async def test_a_recipient_that_is_no_e164_number_is_refused(shared_url):
    """Guessing at a number sends somebody's message to somebody else."""
    async with seeded(shared_url) as root:
        for recipient in NO_E164_NUMBERS:
            assert (await refusal(root, recipient=recipient), recipient) == (("TC400", "recipient"), recipient)
        assert await count(root, "ready") == 0


MALFORMED = [
    ("body", {"body": ""}),
    ("body", {"body": None}),
    ("body", {"body": "x" * (160 * 10)}),
    ("body", {"body": "x" * 500, "category": "marketing"}),
    ("category", {"category": "unknown"}),
    ("sender", {"sender": "Nobody"}),
    ("sender", {"sender": ""}),
    ("sender", {"sender": "Wellness"}),
    ("flash", {"flash": True}),
    ("flash", {"flash": True, "category": "marketing"}),
    ("expires_at", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}),
    ("expires_at", {"expires_at": datetime(2090, 1, 1, tzinfo=UTC), "not_before": datetime(2090, 1, 1, tzinfo=UTC)}),
    ("idempotency_key", {"idempotency_key": ""}),
    ("idempotency_key", {"idempotency_key": "k" * 201}),
    ("client_ref", {"client_ref": "r" * 201}),
    ("options", {"options": '{"retries": 3}'}),
    ("options", {"options": "[]"}),
    ("options", {"options": '"tz"'}),
    ("options", {"options": '{"priority_flag": 4}'}),
    ("options", {"options": '{"priority_flag": "1"}'}),
    ("options", {"options": '{"cancel_group": ""}'}),
    ("options", {"options": '{"cancel_group": 7}'}),
    ("options", {"options": '{"tz": null}'}),
]


async def test_a_malformed_request_names_its_field(shared_url):
    """An app's developer sees which argument was wrong; nothing is shortened or guessed."""
    async with seeded(shared_url) as root:
        for field, values in MALFORMED:
            assert (await refusal(root, **values), values) == (("TC400", field), values)
        assert await count(root, "ready") + await count(root, "idempotency") == 0


async def test_a_control_character_in_a_body_is_refused_by_its_name(shared_url):
    """Each of them and no other character, as the configuration refuses them in automatic replies."""
    async with seeded(shared_url) as root:
        others = {0x00, *range(0xD800, 0xE000)}  # no text of Postgres has these
        rows = await root.fetch(
            "select n, tocsin.control_character('a' || chr(n) || 'b') as name from generate_series(1, 1114111) n"
            " where n not between 55296 and 57343"
        )
        named = {row["n"]: row["name"] for row in rows if row["name"]}
        assert named == {n: f"U+{n:04X}" for n in range(0x110000) if n not in others and CONTROL.search(chr(n))}
        expected = {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
        assert named.keys() == expected - {0x00, 0x09, 0x0A, 0x0D}

        for character, name in (("\f", "U+000C"), ("\x85", "U+0085"), ("\u2066", "U+2066")):
            with pytest.raises(asyncpg.PostgresError, match=rf"^body: has the control character {re.escape(name)}$"):
                await enqueue(root, body=f"SECRET {character} \u202e")
        assert await count(root, "ready") == 0


async def test_a_text_with_a_control_character_that_was_taken_once_is_still_a_duplicate(shared_url):
    """By a version that took it: a retry learns of the job that exists."""
    async with seeded(shared_url) as root:
        await root.execute("begin; alter function tocsin.control_character rename to real_one")
        await root.execute(
            "create function tocsin.control_character(said text) returns text language sql as 'select null::text'"
        )
        first = await enqueue(root, body="a\fb", idempotency_key="k")
        await root.execute("drop function tocsin.control_character")
        await root.execute("alter function tocsin.real_one rename to control_character; commit")
        again = await enqueue(root, body="a\fb", idempotency_key="k")
        assert (again["outcome"], again["job_id"], again["reason"]) == ("duplicate", first["job_id"], None)
        assert await refusal(root, body="a\fb", idempotency_key="other") == ("TC400", "body")


async def test_an_instant_that_no_client_can_read_is_refused(shared_url):
    """Such a row would break every reader of the queue, or the addition of the time to live."""
    async with seeded(shared_url) as root:
        for field in ("not_before", "expires_at"):
            for moment in ("infinity", "-infinity", "294276-12-31", "10000-01-01", "4713-01-01 BC"):
                with pytest.raises(asyncpg.PostgresError) as raised:
                    await root.execute(f"select * from tocsin.enqueue('447700900123', 'hello', {field} => '{moment}')")
                assert (raised.value.sqlstate, raised.value.column_name) == ("TC400", field)


async def test_a_sender_that_no_link_needs_leaves_no_default(shared_url):
    """Without any sender for the category the message names the missing piece."""
    async with seeded(shared_url) as root:
        await root.execute("delete from tocsin.sender where address = 'Wellness'")
        assert await refusal(root, category="marketing") == ("TC400", "sender")


async def test_the_same_key_and_request_is_a_duplicate_whatever_the_time_zone(shared_url):
    """A retry gives the first job's id; how a session writes an instant is not part of the request."""
    async with seeded(shared_url) as root:
        day = datetime(2090, 5, 1, 8, tzinfo=UTC)
        first = await enqueue(root, idempotency_key="k", expires_at=day, recipient="+447700900123")
        await root.execute("set timezone = 'Asia/Kathmandu'")
        again = await enqueue(root, idempotency_key="k", expires_at=day, recipient="447700900123")
        (many,) = await enqueue_many(root, item(idempotency_key="k", expires_at="2090-05-01T10:00+02:00"))
        assert [row["outcome"] for row in (first, again, many)] == ["queued", "duplicate", "duplicate"]
        assert first["job_id"] == again["job_id"] == many["job_id"]
        assert await count(root, "ready") == 1


async def test_the_same_key_for_another_request_is_a_conflict(shared_url):
    """Silence would lose the second message, sending it would double the first."""
    others = [
        {"recipient": "447700900124"},
        {"body": "Hello"},
        {"category": "emergency"},
        {"sender": "Northside"},
        {"not_before": datetime(2090, 1, 1, tzinfo=UTC)},
        {"expires_at": datetime(2090, 1, 1, tzinfo=UTC)},
        {"category": "emergency", "flash": True},
        {"options": '{"cancel_group": "g"}'},
    ]
    async with seeded(shared_url) as root:
        await enqueue(root, idempotency_key="k")
        for other in others:
            assert (await refusal(root, idempotency_key="k", **other), other) == (("TC409", "idempotency_key"), other)
        assert await count(root, "ready") == 1


async def test_client_ref_is_not_part_of_the_request(shared_url):
    """It is the caller's own note, and a retry may carry another."""
    async with seeded(shared_url) as root:
        first = await enqueue(root, idempotency_key="k", client_ref="r-1")
        again = await enqueue(root, idempotency_key="k", client_ref="r-2")
        assert (again["outcome"], again["job_id"]) == ("duplicate", first["job_id"])


async def test_a_repeated_request_is_a_duplicate_even_when_it_would_be_refused_by_now(shared_url):
    """A retry after its expiry, or after a change of the configuration, must learn of the job that exists."""
    async with seeded(shared_url) as root:
        transaction = root.transaction()
        await transaction.start()
        soon = await root.fetchval("select now() + interval '1 millisecond'")
        first = await enqueue(root, idempotency_key="k", expires_at=soon, category="staff")
        await transaction.commit()
        await root.execute("delete from tocsin.category where name = 'staff'")
        again = await enqueue(root, idempotency_key="k", expires_at=soon, category="staff")
        assert (again["outcome"], again["job_id"], again["reason"]) == ("duplicate", first["job_id"], None)
        assert await refusal(root, idempotency_key="k", category="staff", body="other") == ("TC400", "category")


async def test_a_blocked_request_keeps_its_key(shared_url):
    """The same call again gives the same answer's id, not a second row."""
    async with seeded(shared_url) as root:
        first = await enqueue(root, recipient="33123456789", category="marketing", idempotency_key="k")
        again = await enqueue(root, recipient="33123456789", category="marketing", idempotency_key="k")
        assert (first["outcome"], again["outcome"], again["job_id"]) == ("blocked", "duplicate", first["job_id"])
        assert await count(root, "closed") == 1


async def test_keys_belong_to_the_app_that_used_them(shared_url):
    """Two apps that count from 1 must not meet; the app is who logged in, not who owns the function."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        first = await enqueue(root, idempotency_key="1")
        other = await enqueue(app, idempotency_key="1", body="another request")
        assert (first["outcome"], other["outcome"]) == ("queued", "queued")
        user = await app.fetchval("select session_user::text")
        assert await root.fetchval("select app from tocsin.ready where id = $1", other["job_id"]) == user
        assert (await enqueue(app, idempotency_key="1", body="another request"))["job_id"] == other["job_id"]


async def test_an_app_reaches_the_queue_through_the_functions_alone(shared_url):
    """The functions run with their owner's rights; the caller needs none of the tables, and cannot plant its own names."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        await app.execute("create temp table ready (id int); set search_path = pg_temp, public")
        assert (await enqueue(app))["outcome"] == "queued"
        for query in ("select * from tocsin.ready", "select tocsin.admit('[]')", "select * from tocsin.idempotency"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(query)


async def test_twenty_identical_requests_at_once_make_one_job(shared_url):
    """Twenty workers that retry the same event are one message."""
    async with seeded(shared_url) as root:
        sessions = [await connect(shared_url) for _ in range(20)]
        rows = await asyncio.gather(*[enqueue(session, idempotency_key="k") for session in sessions])
        outcomes = sorted(row["outcome"] for row in rows)
        assert outcomes == ["duplicate"] * 19 + ["queued"]
        assert len({row["job_id"] for row in rows}) == 1
        assert await count(root, "ready") == 1
        for session in sessions:
            await session.close()


async def test_a_key_of_an_open_transaction_makes_the_next_one_wait_and_give_up(shared_url):
    """Neither duplicate nor queued would be true before the first one has committed."""
    async with seeded(shared_url) as root:
        other = await connect(shared_url)
        transaction = other.transaction()
        await transaction.start()
        await enqueue(other, idempotency_key="k")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await enqueue(root, idempotency_key="k")
        waiting = asyncio.create_task(enqueue(root, idempotency_key="k"))
        await transaction.rollback()
        assert (await waiting)["outcome"] == "queued"
        await other.close()


async def test_lane_0_is_notified_with_its_link_and_nothing_else_is(shared_url):
    """A NOTIFY in each transaction would make the commits of all apps wait for each other."""
    async with seeded(shared_url) as root:
        heard: list[str] = []
        await root.add_listener("tocsin_ready", lambda *call: heard.append(call[-1]))
        later = datetime.now(UTC) + timedelta(hours=1)
        await enqueue(root, category="staff")
        await enqueue(root, category="emergency", not_before=later)
        await enqueue(root, category="emergency", recipient="447800900123")
        await enqueue_many(root, *[item(category="emergency")] * 3)
        await root.fetchval("select 1")
        assert heard == ["b", "a"]


async def test_a_rolled_back_request_leaves_nothing_but_a_gap_in_the_ids(shared_url):
    """The caller's own transaction decides; ids are not handed out again."""
    async with seeded(shared_url) as root:
        transaction = root.transaction()
        await transaction.start()
        gone = await enqueue(root, idempotency_key="k")
        await transaction.rollback()
        row = await enqueue(root, idempotency_key="k")
        assert row["outcome"] == "queued"
        assert row["job_id"] > gone["job_id"]


async def test_the_caller_s_settings_do_not_change_the_outcome(shared_url):
    """A session may pin what it likes: the functions pin their own."""
    async with seeded(shared_url) as root:
        await root.execute(
            "set enable_hashjoin = off; set enable_nestloop = off; set lock_timeout = 0; set datestyle = 'SQL, DMY'"
        )
        rows = await enqueue_many(root, *[item(client_ref=str(n), not_before="2090-03-04T00:00Z") for n in range(50)])
        assert {row["outcome"] for row in rows} == {"deferred"}
        assert (
            await root.fetchval(
                "select count(*) from tocsin.deferred where due_at = '2090-03-04 00:00:00+00'::timestamptz"
            )
            == 50
        )
        assert await root.fetchval("show lock_timeout") == "0"
