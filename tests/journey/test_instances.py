"""Two instances that share the links of one database: evenly, in order, and through restarts and kills."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest

from dispatcher.errors import StoreUnavailable
from tests.journey.instances import LINKS, World, world
from tests.journey.many_kills import many_kills
from tests.journey.running import Child, Running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.fakes.smsc import Logged

TAKEOVER_S = 3.0
EMERGENCY_EVERY_S = 0.25


@contextlib.asynccontextmanager
async def steadily(work: Callable[[], object], every_s: float) -> AsyncIterator[None]:
    """Call again and again while the block runs."""

    async def again() -> None:
        while True:
            await work()  # type: ignore[misc]
            await asyncio.sleep(every_s)

    working = asyncio.create_task(again())
    try:
        yield
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def owns(made: World, *names: str) -> bool:
    """Whether these instances own the links, in the file's order."""
    rows = await made.app.fetch("select split_part(owner, ':', 1) as owner from tocsin.link order by position")
    return [row["owner"] for row in rows] == list(names)


@pytest.mark.slow
async def test_a_second_instance_is_handed_its_share_under_load_and_no_job_is_in_doubt(tmp_path, queue_url):
    """The first one closes its session and settles before the second one binds; at its end it gets the link back."""
    # A pause of the machine beyond half of takeover_s fences the session, and what it has in flight is in doubt.
    async with world(tmp_path, queue_url, takeover_s=6.0, rate=100) as made, Running(made.files["a"]) as first:
        for link in LINKS:
            await first.until_bound(link)
        await made.enqueue(1_000)
        async with Running(made.files["b"]) as second:
            await second.until_bound("carrier-b")
            assert (first.owns, second.owns) == ({"carrier-a"}, {"carrier-b"})
            old, new = made.smscs["carrier-b"].all_sessions
            assert old.ended_at is not None
            assert new.bind is not None
            assert old.ended_at < new.bind.at
            await made.until_nothing_waits()
            await second.stop()

            async def owns_all() -> bool:
                return first.owns == set(LINKS)

            await until(owns_all)
            assert await made.app.value("select count(*) from tocsin.instance") == 1
        await first.stop()
        assert await made.app.value("select count(*) from tocsin.instance") == 0
        verdict = await made.judge()
        verdict.hold()
        assert verdict.in_doubt == 0


async def test_links_that_were_taken_when_the_database_went_away_are_opened_when_it_is_back(
    tmp_path, queue_url, monkeypatch
):
    """They are ours and we beat for them, so nobody else would."""
    async with world(tmp_path, queue_url, takeover_s=10.0, rate=100) as made:
        instance = Running(made.files["a"])
        receipts = instance.daemon._receipts
        restore = receipts.restore
        failed: list[object] = []

        async def restore_at_the_second_try(*arguments: object) -> None:
            if not failed:
                failed.append(arguments)
                raise StoreUnavailable("gone")
            await restore(*arguments)

        monkeypatch.setattr(receipts, "restore", restore_at_the_second_try)
        async with instance:
            for link in LINKS:
                await instance.until_bound(link)
            assert failed
            await instance.stop()


@pytest.mark.slow
async def test_a_rolling_restart_under_load_loses_and_doubles_nothing_and_emergencies_keep_going_out(
    tmp_path, queue_url
):
    """SIGTERM, wait, start; first one instance, then the other. Drained windows leave no doubt."""
    async with world(tmp_path, queue_url, takeover_s=TAKEOVER_S, rate=100) as made:
        urgent_at: dict[str, list[float]] = {link: [] for link in LINKS}
        for link, smsc in made.smscs.items():

            def note(pdu: Logged, link: str = link) -> None:
                if pdu.command == "submit_sm" and not pdu.sent and pdu.fields["priority_flag"] == 3:
                    urgent_at[link].append(pdu.at)

            smsc.on_log = note
        children = {name: Child(path) for name, path in made.files.items()}
        async with children["a"], children["b"]:
            await until(lambda: shared_out(made), 30)

            async def load() -> None:
                await made.enqueue(2, category="emergency")
                await made.enqueue(20)

            async with steadily(load, EMERGENCY_EVERY_S):
                for name, other in (("a", "b"), ("b", "a")):
                    await made.until_read(100)
                    children[name].terminate()
                    assert await children[name].wait(40) == 0
                    await until(lambda other=other: owns(made, other, other), 30)
                    await children[name].start()
                    await until(lambda: shared_out(made), 60)
                await made.until_read(100)
            await made.until_nothing_waits()
            for child in children.values():
                child.terminate()
                assert await child.wait(40) == 0
        verdict = await made.judge()
        verdict.hold()
        assert verdict.in_doubt == 0
        gaps = {link: max(after - before for before, after in itertools.pairwise(at)) for link, at in urgent_at.items()}
        print(f"\nlongest time without an emergency (one each {EMERGENCY_EVERY_S} s): {gaps}; {verdict}")
        assert max(gaps.values()) < 10


async def shared_out(made: World) -> bool:
    """Whether each instance owns a link, and both are bound."""
    return (await owns(made, "a", "b") or await owns(made, "b", "a")) and all(
        any(session.receives for session in smsc.sessions) for smsc in made.smscs.values()
    )


@pytest.mark.slow
async def test_kills_of_either_instance_under_load_lose_and_double_nothing(tmp_path, queue_url):
    """The small form of ``python -m tests.journey.many_kills``."""
    verdict = await many_kills(tmp_path, queue_url, kills=3, jobs=2_000, seed=5)
    print(f"\n{verdict}")
    verdict.hold()
