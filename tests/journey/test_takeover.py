"""Two instances on one database: a link has one owner, and a dead or frozen owner is followed by another."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.fakes.smsc import Smsc
from tests.journey.handset import piece_of
from tests.journey.running import LINK, Child, app_of, until, write_file
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
                assert taken_after >= 0.7 * TAKEOVER_S
                sent = Counter(piece_of(taken_of(submit)) for submit in smsc.received("submit_sm"))
                assert set(sent.values()) == {1}
                second.terminate()
                assert await second.wait() == 0
    print(f"\ntaken over {taken_after:.2f} s after the kill (takeover_s {TAKEOVER_S}); {doubted} jobs in doubt")


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
                assert sum((await app.states()).values()) == 200
                assert await app.value("select owner like 'b:%' from tocsin.link")
                assert await app.value("select count(*)::int from tocsin.uncertain") <= doubted
                for child in (first, second):
                    child.terminate()
                    assert await child.wait() == 0
