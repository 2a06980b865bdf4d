"""What operators do by hand, seen at the SMSC: pause, resume, requeue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dispatcher.commands.operate import person
from tests.fakes.smsc import Answer
from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from tests.journey.running import App, Journey

SET = "select tocsin.set_paused($1, $2, $3, 'maintenance', 'alice')"


async def set_paused(world: Journey, kind: str, name: str, *, paused: bool) -> None:
    """Pause or resume, and wait until the daemon obeys."""
    assert await world.app.value(SET, kind, name, paused) == "changed"
    pauses = world.daemon.daemon._pauses
    category = world.daemon.daemon._dispatcher.categories.get(name)

    async def obeyed() -> bool:
        rules = world.daemon.daemon._dispatcher.categories
        return (name in pauses.links) == paused if kind == "link" else rules[name].paused == paused

    assert kind == "link" or category is not None
    await until(obeyed)


async def test_from_a_paused_link_nothing_leaves_and_all_of_it_leaves_once_when_it_is_resumed(tmp_path, queue_url):
    """What waited in the daemon went back to the queue; an emergency waits too; the session stays."""
    async with journey(tmp_path, queue_url, throughput_per_s=20) as world:
        before = [await world.app.enqueue(f"4477009001{n:02d}") for n in range(60)]
        await world.smsc.seen("submit_sm", 3)
        await set_paused(world, "link", LINK, paused=True)
        written = len(world.smsc.received("submit_sm"))
        await until(lambda: nothing_is_claimed(world.app))
        sent = len(world.smsc.received("submit_sm"))
        assert sent - written <= 1  # one that was on its way to the SMSC
        urgent = await world.app.enqueue("447700900999", category="emergency")
        await until(lambda: all_queued_or_sent(world.app, sent, len(before) + 1))

        assert sent < len(before)
        assert len(world.smsc.received("submit_sm")) == sent
        assert await world.app.state(urgent) == "queued"
        assert world.daemon.is_bound()
        await set_paused(world, "link", LINK, paused=False)
        for number in [*before, urgent]:
            await world.app.until_state(number, "submitted")
        assert len(world.smsc.received("submit_sm")) == len(before) + 1


async def nothing_is_claimed(app: App) -> bool:
    """What was written is answered and settled, and the rest is back in the queue."""
    return await app.value("select count(*) from tocsin.claim") == 0


async def all_queued_or_sent(app: App, sent: int, total: int) -> bool:
    """The journal is empty: nothing is claimed any more."""
    row = await app.fetch(
        "select (select count(*) from tocsin.claim) as claimed, (select count(*) from tocsin.ready) as ready,"
        " (select count(*) from tocsin.sent) as sent"
    )
    return (row[0]["claimed"], row[0]["ready"], row[0]["sent"]) == (0, total - sent, sent)


async def test_a_paused_category_lets_the_others_of_its_lane_pass(tmp_path, queue_url):
    """Its jobs are put off with a reason and without spending an attempt; no text is lost."""
    other = {"name": "recall", "lane": 3, "time_to_live_s": 3600.0}
    async with journey(tmp_path, queue_url, categories=[other]) as world:
        await set_paused(world, "category", "transactional", paused=True)
        held = await world.app.enqueue(category="transactional")
        passing = await world.app.enqueue("447700900124", category="recall")
        await world.app.until_state(passing, "submitted")
        await world.app.until_state(held, "deferred")

        assert await world.app.reason(held) == "PAUSED"
        assert world.daemon.daemon._pauses.lanes == set()
        await set_paused(world, "category", "transactional", paused=False)
        await world.app.hurry()
        await world.app.until_state(held, "submitted")
        assert [row["attempt"] for row in await world.app.sent(held)] == [1]


async def test_from_a_lane_that_is_paused_as_a_whole_nothing_is_claimed(tmp_path, queue_url):
    """A million waiting rows are not moved about."""
    async with journey(tmp_path, queue_url) as world:
        await set_paused(world, "category", "marketing", paused=True)
        held = await world.app.enqueue(category="marketing")
        await world.app.until_state(await world.app.enqueue("447700900124"), "submitted")

        assert world.daemon.daemon._pauses.lanes == {5}
        assert await world.app.state(held) == "queued"
        await set_paused(world, "category", "marketing", paused=False)
        await world.app.until_state(held, "submitted")


async def test_a_daemon_that_starts_obeys_a_pause_that_was_there(tmp_path, queue_url):
    """It is a row, not a message."""
    async with journey(tmp_path, queue_url) as world:
        await set_paused(world, "link", LINK, paused=True)
        await world.daemon.stop()
        number = await world.app.enqueue(category="emergency")
        async with type(world.daemon)(world.path) as again:
            await again.until_bound()
            await until(lambda: _claims_twice(again))
            assert await world.app.state(number) == "queued"
            await world.app.value(SET, "link", LINK, False)
            await world.app.until_state(number, "submitted")


async def _claims_twice(running) -> bool:
    """The claimer has looked since the link was bound."""
    running.daemon._signals.wake_claims()
    return running.daemon._gateway[LINK].is_bound and running.daemon._pauses.links == {LINK}


async def test_what_is_in_doubt_goes_again_when_an_operator_says_so(tmp_path, queue_url):
    """Under `hold` nothing else sends it twice."""
    async with journey(tmp_path, queue_url, response_timeout_s=1.0) as world:
        answers = iter([Answer(withhold=True)])
        world.smsc.on_submit = lambda _: next(answers, Answer())
        number = await world.app.enqueue()
        await world.app.until_state(number, "uncertain")
        assert await world.app.value("select tocsin.requeue($1, 'the carrier lost it', 'alice')", number) == "requeued"
        await world.app.until_state(number, "submitted")

        assert len(world.smsc.received("submit_sm")) == 2
        assert await world.app.value("select tocsin.requeue($1, '', 'alice')", number) == "too_late"
        assert await world.app.value("select tocsin.requeue(999999, '', 'alice')") == "unknown"


async def test_each_change_is_in_the_audit_log_and_in_the_events(tmp_path, queue_url):
    """Who, what, why; what changed nothing is not there."""
    async with journey(tmp_path, queue_url) as world:
        assert await world.app.value(SET, "category", "marketing", True) == "changed"
        assert await world.app.value(SET, "category", "marketing", True) == "unchanged"
        assert await world.app.value(SET, "category", "nonsense", True) == "unknown"
        assert await world.app.value(SET, "category", "marketing", False) == "changed"
        rows = await world.app.fetch("select verb, kind, subject, reason, person from tocsin.operator_log order by at")
        events = await world.app.fetch(
            "select type, subject, detail from tocsin.event_log where type like 'operator.%' order by seq"
        )

        assert [tuple(row) for row in rows] == [
            ("pause", "category", "marketing", "maintenance", "alice"),
            ("resume", "category", "marketing", "maintenance", "alice"),
        ]
        assert [(row["type"], row["subject"], json.loads(row["detail"])) for row in events] == [
            ("operator.pause", "marketing", {"kind": "category"}),
            ("operator.resume", "marketing", {"kind": "category"}),
        ]


def test_the_person_is_the_one_behind_sudo(monkeypatch):
    """Root did nothing by itself."""
    monkeypatch.setenv("SUDO_USER", "alice")
    assert person() == "alice"
