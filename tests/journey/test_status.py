"""The status document of real daemons: what it says of links, lanes and doubt, and that looking is all that it costs."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from dispatcher import watch
from dispatcher.look import COUNTED, EVENTS_SHOWN, grouped, look
from dispatcher.store import PINNED, connect
from tests.fakes.smsc import THROTTLED, Answer, Smsc
from tests.journey.running import LINK, Relay, Running, app_of, http_get, journey, until, write_file

LOOKING = (
    "select count(*) from pg_stat_activity where application_name = 'tocsin status' and datname = current_database()"
)
BACKLOG = """
insert into tocsin.ready (link, lane, id, app, recipient, sender, body, category, flash, enqueued_at, due_at, expires_at, parts)
select $1, 5, 900000000 + n, 'app', '447700900123', 'Northside', 'hello', 'marketing', false, now(), now() - interval '1 minute',
       now() + interval '1 hour', 1
from generate_series(1, $2::int) n
"""


async def told(daemon: Running) -> dict[str, Any]:
    status, body = await http_get(daemon.port, "/status.json")
    assert status == 200
    return dict(json.loads(body))


async def test_a_link_of_its_own_is_told_with_all_that_the_daemon_knows(tmp_path, queue_url):
    """State, sessions, window, rate against both limits, receipts, in figures that the metrics have as well."""
    async with journey(tmp_path, queue_url, window_size=7, throughput_per_s=30, sessions=2) as world:

        async def both() -> bool:
            return world.daemon.counter("tocsin_link_sessions", link=LINK) == 2

        await until(both)
        await world.app.until_state(await world.app.enqueue(category="emergency"), "submitted")
        status = await told(world.daemon)
        (link,) = status["links"]

    wanted = {
        "name": LINK,
        "state": "bound",
        "owner": "this",
        "paused": False,
        "sessions_bound": 2,
        "sessions_configured": 2,
        "window_in_use": 0,
        "window_size": 14,
        "limit_per_s": 30,
        "reserved_per_s": 3,
        "configured_per_s": 30,
        "throttled_total": 0,
        "unanswered_total": 0,
        "uncertain_segments": 0,
        "epoch": 1,
    }
    assert {name: link[name] for name in wanted} == wanted
    assert link["segments_per_s"] in {0, 1}
    assert (status["ready"], status["missing"], status["database"], status["schema"]) == (True, [], "up", "current")
    assert status["emergencies"] == {"state": "flowing", "reasons": []}
    assert status["lanes"][0]["categories"] == ["emergency"]
    assert [lane["lane"] for lane in status["lanes"]] == list(range(6))


async def test_throttling_and_doubt_are_told(tmp_path, queue_url):
    """The limit in force stands beside the configured one, and what was never answered is counted."""
    async with journey(tmp_path, queue_url, throughput_per_s=100, response_timeout_s=0.3) as world:
        answers = [Answer(status=THROTTLED), Answer(), Answer(withhold=True)]
        world.smsc.on_submit = lambda _: answers.pop(0) if answers else Answer()
        await world.app.until_state(await world.app.enqueue(), "submitted")
        await world.app.until_state(await world.app.enqueue(), "uncertain")

        async def in_doubt() -> dict[str, Any] | None:
            status = await told(world.daemon)
            return status if status["uncertain_segments"] == 1 else None

        status = await until(in_doubt)
        (link,) = status["links"]
        assert (link["throttled_total"], link["unanswered_total"], link["uncertain_segments"]) == (1, 1, 1)
        assert 50 <= link["limit_per_s"] < 100 == link["configured_per_s"]
        assert link["limit_per_s"] <= world.daemon.counter("tocsin_throughput_limit", link=LINK)


async def test_a_standby_tells_who_owns_the_link_and_that_the_owner_lives(tmp_path, queue_url):
    """Emergencies flow, through the other instance; this one is not ready, and says why."""
    async with Smsc() as smsc:
        link = {LINK: {"port": smsc.port}}
        first = write_file(tmp_path / "a", queue_url, link, daemon={"instance": "a"})
        second = write_file(tmp_path / "b", queue_url, link, daemon={"instance": "b"})
        async with Running(first) as owner:
            await owner.until_bound()
            async with Running(second) as standby:

                async def listens() -> bool:
                    return standby.port != 0

                await until(listens)

                async def alive() -> dict[str, Any] | None:
                    status = await told(standby)
                    return status if status["links"][0]["beat_age_s"] is not None else None

                status = await until(alive, 20.0, poll_s=0.2)
                (told_of,) = status["links"]
                assert (told_of["owner"], told_of["owner_instance"], told_of["state"]) == ("another", "a", "bound")
                assert told_of["sessions_bound"] is None
                assert status["emergencies"]["state"] == "flowing"
                assert (status["ready"], status["missing"]) == (False, ["no link of its own is bound"])


async def test_the_database_is_asked_only_while_somebody_looks(tmp_path, queue_url, monkeypatch):
    """A page that was closed costs nothing: not even a connection."""
    monkeypatch.setattr(watch, "WATCHED_FOR_S", 3.0)
    monkeypatch.setattr(watch, "EVERY_S", 0.1)
    async with journey(tmp_path, queue_url) as world:

        async def count() -> int:
            return int(await world.app.value(LOOKING))

        async def nobody() -> bool:
            return await count() == 0

        assert await count() == 0
        for _ in range(3):
            await told(world.daemon)
            assert await count() == 1
        await until(nobody, 30.0)
        assert (await told(world.daemon))["read_age_s"] is not None
        assert await count() == 1


async def test_a_database_that_goes_away_is_told_and_the_last_numbers_keep_their_age(tmp_path, queue_url):
    """What was read before is shown with its age, never as if it were new."""
    async with Smsc() as smsc, Relay(queue_url) as relay:
        await relay.open()
        async with Running(write_file(tmp_path, relay.url, {LINK: {"port": smsc.port}})) as daemon:
            await daemon.until_bound()
            assert (await told(daemon))["emergencies"]["state"] == "flowing"
            relay.cut()

            async def stopped() -> dict[str, Any] | None:
                status = await told(daemon)
                return status if status["database"] != "up" else None

            first = await until(stopped)
            assert first["emergencies"]["state"] == "stopped"
            assert "the database does not answer" in first["emergencies"]["reasons"]
            assert first["ready"] is False

            async def older() -> bool:
                return bool((await told(daemon))["read_age_s"] > first["read_age_s"])

            await until(older)
            await relay.open()

            async def flowing() -> bool:
                return bool((await told(daemon))["emergencies"]["state"] == "flowing")

            await until(flowing, 20.0)


async def test_a_fault_in_what_is_shown_does_not_end_what_sends(tmp_path, queue_url, monkeypatch):
    """A look is a courtesy; the daemon's work is not."""
    asked = asyncio.Event()

    async def broken(_connection: object) -> None:
        asked.set()
        raise KeyError("447700900123")

    monkeypatch.setattr(watch, "look", broken)
    monkeypatch.setattr(watch, "FRESH_WITHIN_S", 0.1)
    async with journey(tmp_path, queue_url) as world:
        status = await told(world.daemon)
        await asyncio.wait_for(asked.wait(), 10)
        assert (status["read_age_s"], status["emergencies"]["state"]) == (None, "unknown")
        assert status["lanes"][0]["jobs"] is None
        await world.app.until_state(await world.app.enqueue(), "submitted")


async def test_a_deep_lane_is_counted_to_10_000_and_no_further(queue_url):
    """Counting a million rows every other second would cost more than it tells."""
    async with app_of(queue_url) as app:
        await app.value("insert into tocsin.link (name, account) values ('a', 'a'), ('b', 'b') returning name")
        await app.value(
            "insert into tocsin.link (name, account, enabled) values ('old', 'x', false), ('idle', 'x', false) returning name"
        )
        for link, rows in (("a", COUNTED + 5), ("b", 30), ("old", 1)):
            await app.fetch(BACKLOG.replace("900000000", str(900_000_000 + ord(link[0]) * 1_000_000)), link, rows)
        connection = await connect(queue_url, PINNED)
        try:
            seen = await look(connection)
        finally:
            await connection.close()

    deep = seen.lanes[5]
    assert (deep.jobs, deep.at_least) == (COUNTED + 31, True)
    assert 59 < deep.oldest_s < 120
    assert (seen.lanes[0].jobs, seen.lanes[0].at_least, seen.lanes[0].oldest_s) == (0, False, 0.0)
    assert {link.name: link.enabled for link in seen.links} == {"a": True, "b": True, "old": False}


async def test_events_are_told_by_kind_without_text_number_or_reference(tmp_path, queue_url):
    """Twenty kinds of the last two hundred: a job id leads to the rest."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        numbers = [
            await world.app.enqueue(body="Saffron", client_ref="patient-7731", category="staff") for _ in range(3)
        ]
        for number in numbers:
            await world.app.until_state(number, "submitted")
        await world.app.value(
            "select tocsin.cancel($1)", await world.app.enqueue(not_before=await _tomorrow(world.app))
        )

        async def both() -> dict[str, Any] | None:
            status = await told(world.daemon)
            return status if len(status["events"]) == 2 else None

        status = await until(both)
    cancelled, submitted = status["events"]
    assert (cancelled["type"], submitted["type"], submitted["category"]) == ("job.cancelled", "job.submitted", "staff")
    assert (submitted["events"], int(submitted["subject"])) == (3, numbers[-1])
    assert not re.search("Saffron|7731|447700900", json.dumps(status))


async def _tomorrow(app: Any) -> object:
    return await app.value("select now() + interval '1 day'")


def test_a_reason_that_may_hold_a_number_is_withheld():
    """The error field of a receipt is whatever an SMSC wrote into it."""
    reasons = ["447700900123", "x" * 41, "a\x1b[2J", "000", "NO_ROUTE", None]
    rows = [
        {"type": "job.undelivered", "subject": "1", "category": "auth", "reason": reason, "age_s": 1.0}
        for reason in reasons
    ]
    assert [(event.reason, event.events) for event in grouped(rows)] == [
        ("(withheld)", 3),
        ("000", 1),
        ("NO_ROUTE", 1),
        ("", 1),
    ]


def test_no_more_kinds_of_events_are_told_than_fit_a_screen():
    """The newest ones."""
    rows = [
        {"type": f"job.{n}", "subject": str(n), "category": None, "reason": None, "age_s": float(n)} for n in range(99)
    ]
    assert [event.type for event in grouped(rows)] == [f"job.{n}" for n in range(EVENTS_SHOWN)]
