"""Two instances on one database: a link has one owner, and a dead or frozen owner is followed by another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.fakes.smsc import Smsc
from tests.journey.handset import piece_of
from tests.journey.running import LINK, Child, Relay, Running, app_of, until, write_file
from tests.journey.test_kill import taken_of

JOBS = 300
TAKEOVER_S = 1.5


@pytest.mark.slow
async def test_after_the_loss_of_a_host_another_takes_its_link_once_it_has_been_silent_long_enough(tmp_path, queue_url):
    """What the dead one's journal names is in doubt; all the rest goes out, once."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.answer_delay_s = 0.1
        link = {LINK: {"port": smsc.port, "throughput_per_s": 100, "receipts": "none"}}
        first = Child(write_file(tmp_path / "a", queue_url, link, daemon={"instance": "a", "takeover_s": TAKEOVER_S}))
        second = Child(write_file(tmp_path / "b", queue_url, link, daemon={"instance": "b", "takeover_s": TAKEOVER_S}))
        async with first:
            await smsc.seen("bind_transceiver", timeout_s=15)
            async with second:
                await second.until_logged("database_reached")
                await app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(JOBS)])
                await smsc.seen("submit_sm", 30)
                killed_at = first.kill()
                await smsc.seen("bind_transceiver", 2, timeout_s=15)
                taken_after = smsc.received("bind_transceiver")[-1].at - killed_at
                doubted = await app.value("select count(*)::int from tocsin.uncertain")
                await app.until_states({"submitted": JOBS - doubted, "uncertain": doubted})

                (taken,) = second.events("link_taken")
                assert 0 < doubted == taken["uncertain"] <= taken["journalled"]
                assert 0.7 * TAKEOVER_S <= taken_after <= TAKEOVER_S + 5  # of the default 10 s: within 15
                assert smsc.most_bound() == 1
                sent = Counter(piece_of(taken_of(submit)) for submit in smsc.received("submit_sm"))
                assert set(sent.values()) == {1}
                second.terminate()
                assert await second.wait() == 0
    print(f"\ntaken over {taken_after:.2f} s after the kill (takeover_s {TAKEOVER_S}); {doubted} jobs in doubt")


@pytest.mark.slow
async def test_an_owner_cut_off_from_the_database_closes_its_session_before_another_binds(tmp_path, queue_url):
    """The SMSC still reaches both: the account is never bound twice, though nothing was to be written."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, Relay(queue_url) as relay:
        await relay.open()
        link = {LINK: {"port": smsc.port, "receipts": "none", "enquire_link_s": 60}}
        daemon = {"takeover_s": 3.0}
        files = [
            write_file(tmp_path / name, url, link, daemon=daemon | {"instance": name})
            for name, url in (("a", relay.url), ("b", queue_url))
        ]
        async with Running(files[0]) as first:
            await first.until_bound()
            async with Running(files[1]) as second:
                relay.cut()
                await second.until_bound()

                old, new = smsc.all_sessions
                assert old.ended_at is not None
                assert new.bind is not None
                assert old.ended_at < new.bind.at
                await relay.open()

                async def told() -> bool:
                    return not first.owns

                await until(told)
                await first.stop()
                await second.stop()


@pytest.mark.slow
async def test_a_link_is_bound_again_at_once_after_a_drain_and_after_a_kill_in_place(tmp_path, queue_url):
    """With a take-over time of a minute: nobody waits for it who need not."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        link = {LINK: {"port": smsc.port, "throughput_per_s": 100, "receipts": "none"}}
        first, second = [
            Child(write_file(tmp_path / name, queue_url, link, daemon={"instance": name, "takeover_s": 60.0}))
            for name in ("a", "b")
        ]
        async with first:
            await smsc.seen("bind_transceiver", timeout_s=15)
            async with second:
                await second.until_logged("database_reached")
                await app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(JOBS)])
                await smsc.seen("submit_sm", 30)
                first.terminate()
                assert await first.wait() == 0
                drained_at = time.monotonic()
                bound = (await smsc.seen("bind_transceiver", 2, timeout_s=15))[-1]
                after_drain = bound.at - drained_at
                assert await app.value("select count(*) from tocsin.uncertain") == 0

                await first.start()
                await first.until_logged("database_reached")
                await smsc.seen("submit_sm", 100)
                second.kill()
                await second.wait()
                await second.start()
                bound = (await smsc.seen("bind_transceiver", 3, timeout_s=20))[-1]
                in_place = bound.at - second.started_at
                assert await app.value("select owner like 'b:%' from tocsin.link")
                assert smsc.most_bound() == 1
                assert await app.value("select count(*) from tocsin.instance") == 2
                for child in (first, second):
                    child.terminate()
                    assert await child.wait() == 0
    print(f"\nbound {after_drain:.2f} s after the end of the drained one, {in_place:.2f} s after a start in place")


@pytest.mark.slow
async def test_an_owner_that_was_frozen_past_its_time_writes_nothing_more_and_settles_nothing(tmp_path, queue_url):
    """Property 6: it wakes up and believes that it owns the link, until it asks."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.answer_delay_s = 0.05
        link = {LINK: {"port": smsc.port, "throughput_per_s": 50, "receipts": "none", "enquire_link_s": 60}}
        first = Child(write_file(tmp_path / "a", queue_url, link, daemon={"instance": "a", "takeover_s": TAKEOVER_S}))
        second = Child(write_file(tmp_path / "b", queue_url, link, daemon={"instance": "b", "takeover_s": TAKEOVER_S}))
        async with first:
            await smsc.seen("bind_transceiver", timeout_s=15)
            async with second:
                await second.until_logged("database_reached")
                await app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(200)])
                await smsc.seen("submit_sm", 60)
                first.pause()
                await second.until_logged("link_taken")
                woken = len(smsc.log)
                first.resume()
                await first.until_logged("link_ownership_lost")
                doubted = await app.value("select count(*)::int from tocsin.uncertain")

                async def over() -> bool:
                    states = await app.states()
                    return not states.keys() - {"submitted", "uncertain"}

                await until(over, 20)
                late = [pdu for pdu in smsc.log[woken:] if pdu.command == "submit_sm" and pdu.session == 1]
                assert late == []
                sent = Counter(piece_of(taken_of(submit)) for submit in smsc.received("submit_sm"))
                assert set(sent.values()) == {1}
                assert smsc.most_within(0.8) <= 50, "this process may read up to 0.2 s late"
                assert sum((await app.states()).values()) == 200
                assert await app.value("select owner like 'b:%' from tocsin.link")
                assert await app.value("select count(*)::int from tocsin.uncertain") <= doubted
                for child in (first, second):
                    child.terminate()
                    assert await child.wait() == 0
