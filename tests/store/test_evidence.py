"""tocsin.job_evidence: how one job came to its state, in order, without its text and without its number."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from config.settings import load
from dispatcher.apply import apply
from dispatcher.store import connect as store_connect
from tests.journey.running import write_file
from tests.store.seed import app_session, enqueue, named, put, put_closed, put_sent, seeded

NUMBER = "447700900123"


async def evidence(session, job_id: int) -> list[dict]:
    rows = await session.fetch("select * from tocsin.job_evidence($1)", job_id)
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    return [dict(row) | {"detail": json.loads(row["detail"])} for row in rows]


def steps(rows: list[dict]) -> list[tuple]:
    return [(row["what"], row["part"], row["reason"]) for row in rows]


async def test_it_says_who_enqueued_and_each_part_with_its_times(shared_url):
    """Two parts, one of them delivered; the number shows two digits, and no text is there."""
    async with seeded(shared_url) as root:
        await put_sent(
            root, 7, part=1, parts=2, submitted_at="now() + interval '1 s'", answered_ms="250", client_ref="'visit 7'"
        )
        await put_sent(
            root, 7, part=2, parts=2, submitted_at="now() + interval '2 s'", receipt_state="40",
            receipt_at="now() + interval '9 s'",
        )  # fmt: skip
        rows = await evidence(root, 7)

        assert steps(rows) == [
            ("enqueued", None, None),
            ("part_submitted", 1, None),
            ("part_submitted", 2, None),
            ("part_delivered", 2, None),
        ]
        first, submitted, *_ = rows
        assert first["detail"].items() >= {
            "app": await root.fetchval("select session_user"), "category": "transactional", "lane": 3, "sender": "Northside",
            "recipient": "***23", "parts": 2, "client_ref": "visit 7",
        }.items()  # fmt: skip
        assert (submitted["link"], submitted["detail"]["message_id"]) == ("a", "m7.1")
        answered = await root.fetchval("select $1::timestamptz", submitted["at"] + timedelta(milliseconds=250))
        assert await root.fetchval("select ($1::text)::timestamptz", submitted["detail"]["answered_at"]) == answered
        assert NUMBER not in str(rows)


@pytest.mark.parametrize("place", ["ready", "deferred", "uncertain"])
async def test_a_job_that_waits_has_its_evidence_too(shared_url, place):
    """Where it waits until a time, and for what, that stands at the end."""
    async with seeded(shared_url) as root:
        columns = {"reason": "'PAUSED'", "due_at": "now() + interval '1 hour'"} if place == "deferred" else {}
        await put(root, place, 3, **columns)
        rows = await evidence(root, 3)
        assert steps(rows) == [("enqueued", None, None)] + [("due", None, "PAUSED")] * (place == "deferred")
        assert "hello" not in str(rows)


async def test_a_refusal_names_the_entry_of_the_ledger_by_which_it_was(shared_url):
    """The first that said so and was not lifted; what was said of another sender, or before it was lifted, is none."""
    async with seeded(shared_url) as root:
        call = "select tocsin.{}($1, 'OPT_OUT', 'sender', $2)"
        await root.fetchval(call.format("suppress"), NUMBER, "Northside")
        await root.fetchval(call.format("lift"), NUMBER, "Northside")
        await root.fetchval(call.format("suppress"), NUMBER, "Clinic")
        await root.fetchval(call.format("suppress"), NUMBER, "Northside")
        await root.fetchval(call.format("suppress"), NUMBER, "Northside")  # said again: the evidence is the first
        (entry,) = [
            row["id"]
            for row in await root.fetch(
                "select id from tocsin.suppression_event where action = 'added' and value = 'Northside' order by id offset 1 limit 1"
            )
        ]
        await put_closed(root, 5, "blocked", "SUPPRESSED_OPT_OUT")
        await root.execute(
            "update tocsin.closed set sender = 'Northside', enqueued_at = now(), closed_at = now() + interval '1 s'"
        )

        rows = await evidence(root, 5)

        assert steps(rows)[-1] == ("job_blocked", None, "SUPPRESSED_OPT_OUT")
        assert rows[-1]["detail"] == {"suppression_event": entry}
        (added,) = [row for row in rows if row["what"] == "suppression_added"]
        assert added["detail"].items() >= {"suppression_event": entry, "source": "app", "scope": "sender"}.items()


async def test_a_refusal_for_want_of_consent_names_what_the_person_said(shared_url):
    """The last word by when it was said; of nobody's word there is no entry."""
    async with seeded(shared_url) as root:
        for number, action in ((NUMBER, "revoke"), ("447700900124", None)):
            if action:
                await root.fetchval(
                    "select tocsin.record_consent($1, 'transactional', now() - interval '2 d', 'paper', evidence => $2)",
                    number, '{"said": "Kanarienvogel"}',
                )  # fmt: skip
                await root.fetchval("select tocsin.revoke_consent($1, 'transactional', now() - interval '1 d')", number)
            job = 11 if action else 12
            await put_closed(root, job, "blocked", "CONSENT_REVOKED" if action else "CONSENT_MISSING")
            await root.execute("update tocsin.closed set recipient = $1 where job_id = $2", number, job)
        entry = await root.fetchval("select id from tocsin.consent_event where action = 'revoked'")

        revoked = await evidence(root, 11)
        assert revoked[-1]["detail"] == {"consent_event": entry}
        assert entry in [row["detail"].get("consent_event") for row in revoked if row["what"] == "consent_revoked"]
        assert "Kanarienvogel" not in str(revoked)
        assert (await evidence(root, 12))[-1]["detail"] == {}


async def test_resends_and_what_an_smsc_was_asked_stand_in_their_place(shared_url):
    """Doubt, its resend, an operator's hand, and the question to the SMSC with its answer."""
    async with seeded(shared_url) as root:
        await put(root, "uncertain", 4)
        assert await root.fetchval("select tocsin.requeue(4, 'the carrier says no', 'Ada')") == "requeued"
        await put_sent(root, 8)
        await root.fetch("select tocsin.ask_about(8, 'cancel', 'wrong text', 'Ada')")
        await root.execute(
            "update tocsin.inquiry set sent_at = now(), answered_at = now() + interval '1 s', outcome = 'answered', command_status = 17"
        )
        again, asked = await evidence(root, 4), await evidence(root, 8)

        assert ("job_resent", None, "REQUEUED") in steps(again)
        (by_hand,) = [row for row in again if row["what"] == "operator_requeue"]
        assert by_hand["detail"].items() >= {"person": "Ada", "why": "the carrier says no"}.items()
        assert [row["what"] for row in asked if row["what"].startswith("smsc_")] == [
            "smsc_cancel_asked",
            "smsc_cancel_answered",
        ]
        assert asked[-1]["detail"].items() >= {"outcome": "answered", "command_status": 17}.items()


async def test_an_app_sees_its_own_jobs_and_no_operator_s_name(shared_url):
    """Another's job is unknown to it."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        await root.execute(
            f"grant execute on function tocsin.job_evidence to {await app.fetchval('select session_user')}"
        )
        own = (await enqueue(app))["job_id"]
        other = (await enqueue(root))["job_id"]
        await root.execute("select tocsin.audit('cancel', 'job', $1::text, 'why', 'Ada')", str(own))

        rows = await evidence(app, own)
        assert [row["what"] for row in rows] == ["enqueued", "operator_cancel"]
        assert "Ada" not in str(rows)
        assert await evidence(app, other) == []
        assert await evidence(root, 4711) == []


async def test_each_step_has_the_rules_that_were_in_force_then(tmp_path, database_url):
    """Their digest changes with a rule, not with a pause, and not with a setting of a link."""
    connection = await store_connect(database_url)
    link = {"carrier-a": {"port": 2775}}
    try:
        await apply(connection, load(write_file(tmp_path, database_url, link), {}))
        first = await connection.raw.fetchval("select tocsin.policy_digest()")
        job = await connection.raw.fetchval("select job_id from tocsin.enqueue($1, 'hello')", NUMBER)
        await connection.raw.fetchval("select tocsin.set_paused('category', 'transactional', true, '', 'Ada')")
        await apply(connection, load(write_file(tmp_path, database_url, {"carrier-a": {"port": 2776}}), {}))
        assert await connection.raw.fetchval("select tocsin.policy_digest()") == first

        await apply(
            connection,
            load(write_file(tmp_path, database_url, link, categories=[{"name": "transactional", "stop": False}]), {}),
        )
        second = await connection.raw.fetchval("select policy from tocsin.applied order by at desc limit 1")
        assert await connection.raw.fetchval("select tocsin.cancel($1)", job) == "cancelled"
        rows = await evidence(connection.raw, job)
        assert [row["policy"] for row in rows if row["what"] in ("enqueued", "job_cancelled")] == [first, second]
        assert first != second
        assert len(first) == 16
    finally:
        await connection.close()


async def test_the_digest_of_the_rules_covers_hours_and_caps(tmp_path, database_url):
    """A change of one of them changes it, their order does not; without any it is the digest of the other rules."""
    connection = await store_connect(database_url)
    hours = {"categories": ["marketing", "transactional"], "opens": "08:00", "closes": "21:00"}
    abroad = {"categories": ["marketing"], "opens": "09:00", "closes": "20:00", "prefix": "1"}
    cap = {"categories": ["marketing"], "per_day": 1}

    async def digest(windows: list[dict] | None = None, caps: list[dict] | None = None, port: int = 2775) -> str:
        path = write_file(tmp_path, database_url, {"carrier-a": {"port": port}}, windows=windows or [], caps=caps or [])
        await apply(connection, load(path, {}))
        noted = await connection.raw.fetchval("select policy from tocsin.applied order by at desc limit 1")
        assert noted == await connection.raw.fetchval("select tocsin.policy_digest()")
        return noted

    try:
        plain = await digest()
        held = await digest([hours, abroad], [cap])
        assert await digest([abroad, hours], [cap], port=2776) == held
        others = [
            await digest([hours | {"closes": "20:00"}, abroad], [cap]),
            await digest([hours | {"days": ["mon"]}, abroad], [cap]),
            await digest([hours, abroad | {"prefix": "44"}], [cap]),
            await digest([hours, abroad], [cap | {"per_day": 2}]),
            await digest([hours, abroad], [cap | {"zone": "Europe/London"}]),
            await digest([hours, abroad]),
            plain,
        ]
        assert len({held, *others}) == 8
        assert await digest() == plain
    finally:
        await connection.close()


async def test_it_reads_no_whole_table(shared_url):
    """Over a queue and evidence of many days it stays at indexes; operators' and files' logs are small."""
    async with seeded(shared_url) as root:
        await put_closed(root, 5, "blocked", "SUPPRESSED_OPT_OUT")
        await root.execute("set enable_seqscan = off")
        await named(root, "job_evidence", 5)
        before = "select coalesce(sum(seq_scan), 0) from pg_stat_user_tables where relname ~ '^(sent|closed|event_log)_[0-9]' or relname in ('ready', 'deferred', 'uncertain', 'inquiry')"
        await root.fetchval("select pg_stat_force_next_flush()")
        count = await root.fetchval(before)
        await named(root, "job_evidence", 5)
        await root.fetchval("select pg_stat_force_next_flush()")
        await root.fetchval("select pg_stat_clear_snapshot()")
        assert await root.fetchval(before) == count
