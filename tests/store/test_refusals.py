"""The ledgers of what people agree to and refuse: whatever the order, the state is what they say, and a refusal holds."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.store.seed import app_session, enqueue, seeded

NUMBER = "447700900123"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


async def steps(root: asyncpg.Connection, category: str = "marketing", number: str = NUMBER) -> dict[str, str | None]:
    """What decides, by step: its reason, or None where it passes."""
    rows = await root.fetch("select * from tocsin.check($1, $2)", number, category)
    return {row["step"]: row["reason"] for row in rows if row["verdict"] != "passes"}


async def state(root: asyncpg.Connection) -> bool | None:
    granted: bool | None = await root.fetchval("select is_granted from tocsin.consent where recipient = $1", NUMBER)
    return granted


async def record(root: asyncpg.Connection, at: datetime, method: str = "web_form") -> str:
    said: str = await root.fetchval("select tocsin.record_consent($1, 'marketing', $2, $3)", "+" + NUMBER, at, method)
    return said


async def revoke(root: asyncpg.Connection, at: datetime) -> int:
    ended: int = await root.fetchval("select tocsin.revoke_consent($1, 'marketing', $2)", NUMBER, at)
    return ended


async def differs(root: asyncpg.Connection) -> int:
    """Rows in which a state is not what its ledger says."""
    found = 0
    for table in ("consent", "suppression"):
        for one, other in ((table, f"{table}_by_events"), (f"{table}_by_events", table)):
            found += await root.fetchval(
                f"select count(*) from (select * from tocsin.{one} except select * from tocsin.{other}) d"
            )
    return found


async def test_a_stale_import_never_undoes_a_refusal(shared_url):
    """Last month's file comes after the refusal of this month."""
    async with seeded(shared_url) as root:
        assert await record(root, NOON - timedelta(days=40)) == "granted"
        assert await revoke(root, NOON) == 1
        assert await record(root, NOON - timedelta(days=30), "import") == "stale"
        assert await state(root) is False
        assert await revoke(root, NOON - timedelta(days=35)) == 0
        assert await record(root, NOON) == "stale"  # at the same instant the refusal holds
        assert await record(root, NOON + timedelta(minutes=1)) == "granted"
        assert await state(root) is True
        assert await differs(root) == 0
        evidence = await root.fetch("select action, method, captured_at from tocsin.consent_evidence($1)", NUMBER)
        assert [row["action"] for row in evidence] == [
            "granted", "revoked", "granted", "revoked", "granted", "granted",
        ]  # fmt: skip
        assert [row["captured_at"] for row in evidence] == sorted(row["captured_at"] for row in evidence)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_order_the_state_is_what_the_ledger_says(shared_url, seed):
    """And nothing granted before the last refusal holds after it."""
    chosen = random.Random(seed)
    async with seeded(shared_url) as root:
        said: list[tuple[datetime, bool]] = []
        for _ in range(chosen.randint(1, 12)):
            at, grants = NOON + timedelta(minutes=chosen.randint(0, 6)), chosen.random() < 0.5
            await (record(root, at) if grants else revoke(root, at))
            said.append((at, grants))
            if chosen.random() < 0.5:
                function = chosen.choice(["suppress", "lift"])
                scope, value = chosen.choice([("everything", ""), ("sender", "Wellness"), ("category", "marketing")])
                reason = chosen.choice(["OPT_OUT", "INVALID"])
                await root.fetchval(f"select tocsin.{function}($1, $2, $3, $4)", NUMBER, reason, scope, value)

        assert await differs(root) == 0
        last = max(at for at, _ in said)
        assert await state(root) is all(grants for at, grants in said if at == last)


async def test_check_says_what_would_happen_and_why_in_the_order_of_the_gates(shared_url):
    """Without sending anything."""
    async with seeded(shared_url) as root:
        assert await steps(root) == {}
        await root.execute("update tocsin.category set consent = true where name = 'marketing'")
        assert await steps(root) == {"consent": "CONSENT_MISSING"}
        assert await steps(root, "transactional") == {}
        await record(root, NOON)
        assert await steps(root) == {}
        await revoke(root, NOON + timedelta(minutes=1))
        await root.fetchval("select tocsin.suppress($1, 'OPT_OUT', 'sender', 'Wellness')", NUMBER)
        await root.execute("update tocsin.category set paused = true where name = 'marketing'")
        assert await steps(root) == {
            "suppression": "SUPPRESSED_OPT_OUT",
            "consent": "CONSENT_REVOKED",
            "pause": "PAUSED",
        }
        assert await steps(root, "transactional") == {}  # another sender
        await root.fetchval("select tocsin.suppress($1, 'DECEASED')", NUMBER)
        assert (await steps(root, "staff"))["suppression"] == "SUPPRESSED_DECEASED"
        assert list(await steps(root, "nonsense")) == ["category"]
        assert list(await steps(root, number="12")) == ["recipient"]
        assert await root.fetchval("select count(*) from tocsin.ready") == 0


async def answer(root: asyncpg.Connection, step: str, number: str = NUMBER, body: str | None = None) -> tuple:
    """Verdict, reason and detail of one step."""
    rows = await root.fetch("select * from tocsin.check($1, 'marketing', null, $2)", number, body)
    (row,) = [row for row in rows if row["step"] == step]
    return row["verdict"], row["reason"], json.loads(row["detail"] or "{}")


@pytest.mark.parametrize(("reason", "verdict"), [("REASSIGNED", "passes"), ("INVALID", "blocked")])
async def test_check_knows_that_an_answer_goes_to_whoever_asked(shared_url, reason, verdict):
    """As dispatcher/policy.py decides; anything else to a number of that kind is blocked."""
    async with seeded(shared_url) as root:
        await root.execute(
            'insert into tocsin.category select (jsonb_populate_record(c, \'{"name": "reply", "stop": "exempt"}\')).*'
            " from tocsin.category c where c.name = 'transactional';"
            " update tocsin.sender set categories = array['reply', 'transactional']"
        )
        await root.execute("select tocsin.suppress($1, $2)", NUMBER, reason)
        for category, expected in (("reply", verdict), ("transactional", "blocked")):
            rows = await root.fetch("select * from tocsin.check($1, $2)", NUMBER, category)
            assert [row["verdict"] for row in rows if row["step"] == "suppression"] == [expected]


async def test_check_names_the_hours_that_bind_and_leaves_them_open(shared_url):
    """The longest prefix; whether they are open is the recipient's clock's to say."""
    async with seeded(shared_url) as root:
        assert await answer(root, "window") == ("passes", None, {})
        await root.execute(
            "insert into tocsin.policy_rule values ('window', 'marketing', '44', '{\"opens\": \"08:00\"}'),"
            " ('window', 'marketing', '447', '{\"opens\": \"09:00\"}'), ('window', 'staff', '', '{\"opens\": \"10:00\"}')"
        )
        rule = {"opens": "09:00", "prefix": "447", "decided": "when it is claimed"}
        assert await answer(root, "window") == ("depends", None, rule)
        assert (await answer(root, "window", "442079460123"))[2]["opens"] == "08:00"
        assert await answer(root, "window", "12125550123") == ("passes", None, {})


@pytest.mark.parametrize(
    ("hours_ago", "rule", "verdict"),
    [
        ([], {"per_day": 1}, "passes"),
        ([1], {"per_day": 1}, "depends"),
        ([26.9], {"per_day": 1}, "depends"),  # a day has up to 27 hours, when a clock is put back by three
        ([27.1], {"per_day": 1}, "passes"),
        ([1, 2], {"per_day": 3}, "passes"),
        ([1, 60, 170.9], {"per_day": 2, "per_week": 3}, "depends"),
        ([1, 60, 171.1], {"per_day": 2, "per_week": 3}, "passes"),
    ],
)
async def test_check_leaves_a_cap_open_only_where_it_may_be_reached(shared_url, hours_ago, rule, verdict):
    """Without the recipient's clock it is told how many went in the longest day and week that there are."""
    async with seeded(shared_url) as root:
        await root.execute("insert into tocsin.policy_rule values ('cap', 'marketing', '', $1)", json.dumps(rule))
        await root.execute(
            "insert into tocsin.cap_count select $1, 'marketing', array_agg(row(n, now() - ago * interval '1 h', 1)::tocsin.cap_use),"
            " '{}', '{}', now() from unnest($2::float8[]) with ordinality u (ago, n)",
            NUMBER,
            [*map(float, hours_ago), 400.0],
        )
        found = await answer(root, "cap")
        assert found[:2] == (verdict, None)
        assert found[2].items() >= (rule | {"counted_in_171_h": sum(ago < 171 for ago in hours_ago)}).items()
        assert found[2]["counted_in_27_h"] == sum(ago < 27 for ago in hours_ago)


async def test_check_says_of_a_text_whether_it_is_one_too_many(shared_url):
    """From the same app; without a text, and without the rule, nothing is said or refused."""
    async with seeded(shared_url) as root, app_session(root, shared_url) as app:
        await root.execute(f"grant execute on function tocsin.check to {await app.fetchval('select session_user')}")
        assert await answer(root, "repeat", body="hello") == ("passes", None, {})
        await root.execute("insert into tocsin.policy (duplicate_text_within, duplicate_texts) values ('1 hour', 2)")
        for verdict in ("passes", "passes", "blocked", "blocked"):
            assert (await answer(app, "repeat", f"+{NUMBER}", "hello"))[0] == verdict
            outcome = (await enqueue(app, category="marketing"))["outcome"]
            assert outcome == ("queued" if verdict == "passes" else verdict)
        assert await answer(app, "repeat", body="hello") == ("blocked", "DUP_CONTENT", {})
        assert (await answer(app, "repeat", body="hello!"))[0] == "passes"
        assert (await answer(root, "repeat", body="hello"))[0] == "passes"
        assert "repeat" not in await steps(app)
        rows = await app.fetch("select step, verdict from tocsin.check($1, 'emergency', body => 'hello')", NUMBER)
        assert dict(rows)["repeat"] == "passes"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("tocsin.suppress('12', 'OPT_OUT')", "recipient"),
        ("tocsin.suppress('447700900123', 'MOOD')", "reason"),
        ("tocsin.suppress('447700900123', 'OPT_OUT', 'town')", "scope"),
        ("tocsin.suppress('447700900123', 'OPT_OUT', 'sender')", "value"),
        ("tocsin.lift('447700900123', 'OPT_OUT', 'everything', 'x')", "value"),
        ("tocsin.lift(null, 'OPT_OUT')", "recipient"),
        ("tocsin.record_consent('447700900123', 'nonsense', now(), 'paper')", "category"),
        ("tocsin.record_consent('447700900123', null, now(), 'paper')", "category"),
        ("tocsin.record_consent('447700900123', 'marketing', now() + '1 h', 'paper')", "captured_at"),
        ("tocsin.record_consent('447700900123', 'marketing', now(), 'telepathy')", "method"),
        ("tocsin.revoke_consent('x')", "recipient"),
    ],
)
async def test_bad_input_is_refused_with_the_name_of_the_field(shared_url, call, field):
    async with seeded(shared_url) as root:
        with pytest.raises(asyncpg.PostgresError) as raised:
            await root.fetchval(f"select {call}")
        assert raised.value.sqlstate == "TC400"
        assert str(raised.value).startswith(f"{field}: ")
        assert await root.fetchval("select count(*) from tocsin.consent_event") == 0


async def test_a_revocation_of_everything_ends_what_was_granted(shared_url):
    async with seeded(shared_url) as root:
        for category in ("marketing", "transactional"):
            await root.fetchval("select tocsin.record_consent($1, $2, $3, 'paper')", NUMBER, category, NOON)
        assert await root.fetchval("select tocsin.revoke_consent($1)", NUMBER) == 2
        assert await root.fetchval("select count(*) from tocsin.consent where is_granted") == 0
        assert await root.fetchval("select tocsin.revoke_consent($1)", NUMBER) == 0
