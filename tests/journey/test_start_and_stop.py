"""A daemon begins when what it needs is there, and ends when nothing is left in the air."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg

from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Child, Relay, Running, app_of, free_port, http_get, until, write_file


async def _readyz(port: int) -> int:
    return (await http_get(port, "/readyz"))[0]


async def test_a_daemon_that_comes_before_its_database_and_its_smsc_waits_for_both(tmp_path, queue_url):
    """After a power cut they come up in any order."""
    smsc_port = free_port()
    async with Relay(queue_url) as relay:
        path = write_file(tmp_path, relay.url, {LINK: {"port": smsc_port}})
        async with Child(path) as child:
            port = await child.port()
            await child.until_logged("database_unavailable")
            assert await _readyz(port) == 503
            assert (await http_get(port, "/healthz"))[0] == 200

            await relay.open()
            await child.until_logged("link_taken")
            assert await _readyz(port) == 503
            async with Smsc(port=smsc_port) as smsc, app_of(queue_url) as app:
                await until(lambda: _is_ready(port))
                number = await app.enqueue(category="emergency")
                await app.until_state(number, "submitted")
                child.terminate()
                assert await child.wait() == 0
                assert len(smsc.received("submit_sm")) == 1


async def _is_ready(port: int) -> bool:
    return await _readyz(port) == 200


async def test_a_daemon_waits_for_its_database_to_be_made(tmp_path, database_server, template_database):
    """The server is there, the database is restored a minute later."""
    name = f"tocsin_test_late_{secrets.token_hex(4)}"
    url = database_server.database_url(name)
    async with Smsc() as smsc, Child(write_file(tmp_path, url, {LINK: {"port": smsc.port}})) as child:
        await child.until_logged("database_unavailable")
        admin = await asyncpg.connect(database_server.url)
        try:
            await admin.execute(f"create database {name} template {template_database}")
            await smsc.seen("bind_transceiver", timeout_s=15)
            child.terminate()
            assert await child.wait() == 0
        finally:
            await admin.execute(f"drop database if exists {name} with (force)")
            await admin.close()


async def test_a_second_daemon_on_the_same_state_directory_is_refused(tmp_path, queue_url):
    """Exit code 3 and one line: two writers of one local record would make it worthless."""
    async with Smsc() as smsc:
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}})
        async with Child(path) as first:
            await smsc.seen("bind_transceiver", timeout_s=15)
            async with Child(path) as second:
                assert await second.wait() == 3
            assert "state_dir" in second.output.splitlines()[-1]
            first.terminate()
            assert await first.wait() == 0
        assert len(smsc.received("bind_transceiver")) == 1


async def test_a_stop_while_it_waits_for_the_database_ends_it_with_0(tmp_path):
    """Nothing was begun."""
    path = write_file(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none", {LINK: {"port": 1}})
    async with Child(path) as child:
        await child.until_logged("database_unavailable")
        child.terminate()
        assert await child.wait() == 0


async def test_sigterm_empties_the_window_gives_the_links_back_and_the_next_daemon_starts_at_once(tmp_path, queue_url):
    """Nothing is in doubt, nothing is journalled, the next one need not wait; it sends the rest."""
    jobs = 120
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.on_submit = lambda _: Answer(delay_s=0.4)
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port, "window_size": 30, "receipts": "none"}})
        async with Child(path) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            await app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(jobs)])
            await smsc.seen("submit_sm", 20)
            assert not smsc.answers()
            child.terminate()
            assert await child.wait() == 0
            (finished,) = child.events("drain_finished")

            written = len(smsc.received("submit_sm"))
            assert len(smsc.answers()) == written
            assert await app.states() == {"submitted": written, "queued": jobs - written}
            assert await app.value("select count(*) from tocsin.claim") == 0
            assert await app.value("select count(*) from tocsin.link where owner is not null") == 0
            assert smsc.received("unbind")

            smsc.on_submit = lambda _: Answer()
            await child.start()
            await smsc.seen("bind_transceiver", 2)
            first = smsc.received("bind_transceiver")[-1].at - child.started_at
            await app.until_states({"submitted": jobs})
            assert len(smsc.received("submit_sm")) == jobs
            child.terminate()
            assert await child.wait() == 0
    assert first < 5
    print(f"\ndrained in {finished['took_s']} s with {written} written; the next daemon was bound after {first:.2f} s")


async def test_what_is_unanswered_at_the_end_of_the_drain_is_in_doubt(tmp_path, queue_url):
    """The SMSC never answered: the drain does not wait for ever, and does not pretend."""
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.on_submit = lambda _: Answer(withhold=True)
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}}, daemon={"drain_timeout_s": 1.5})
        async with Child(path) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            number = await app.enqueue()
            await smsc.seen("submit_sm")
            child.terminate()
            assert await child.wait() == 0

            assert await app.state(number) == "uncertain"
            assert await app.value("select count(*) from tocsin.claim") == 0


async def test_only_the_next_owner_of_a_link_takes_its_last_second_to_have_been_full(tmp_path, queue_url):
    """Nobody had it before the first one, which may send at once."""
    async with Smsc() as smsc:
        assumed = []
        for instance in ("a", "b"):
            link = {LINK: {"port": smsc.port, "throughput_per_s": 100}}
            path = write_file(tmp_path / instance, queue_url, link, daemon={"instance": instance})
            async with Running(path) as running:
                await running.until_bound()
                assumed.append(running.daemon._gateway[LINK]._throttle._assumed[1])

    assert assumed == [0, 90]
