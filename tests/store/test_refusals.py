"""The ledgers of what people agree to and refuse: whatever the order, the state is what they say, and a refusal holds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.store.seed import seeded

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
