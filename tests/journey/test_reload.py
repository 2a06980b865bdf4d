"""SIGHUP: what a changed file changes while the daemon runs, and what it says of the rest."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.fakes.smsc import Smsc
from tests.journey.running import LINK, App, Child, Relay, app_of, http_get, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TIME_TO_LIVE = "select extract(epoch from time_to_live)::int from tocsin.category where name = 'staff'"


class World:
    """A daemon in a process of its own, bound, whose file can be changed."""

    def __init__(self, folder: Path, url: str, smsc: Smsc, child: Child, app: App) -> None:
        self.folder = folder
        self.url = url
        self.smsc = smsc
        self.child = child
        self.app = app

    def write(self, *, ttl_s: float = 1800.0, others: tuple[str, ...] = (), **changes: Any) -> Path:
        links: dict[str, dict[str, object]] = {LINK: {"port": self.smsc.port, **changes}}
        links |= {name: {"port": self.smsc.port} for name in others}
        return write_file(self.folder, self.url, links, categories=[{"name": "staff", "time_to_live_s": ttl_s}])

    def binds(self) -> int:
        return len(self.smsc.received("bind_transceiver"))


@asynccontextmanager
async def running(folder: Path, url: str) -> AsyncIterator[World]:
    async with Smsc() as smsc, app_of(url) as app:
        child = Child(folder / "tocsin.toml")
        world = World(folder, url, smsc, child, app)
        world.write()
        async with child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            yield world
            child.terminate()
            assert await child.wait() == 0
            assert world.binds() == 1, "a reload dropped a bind"


async def test_a_category_s_new_time_to_live_holds_for_the_next_enqueue_and_no_bind_is_dropped(tmp_path, queue_url):
    """Rows are what apps read; the sessions know nothing of it."""
    async with running(tmp_path, queue_url) as world:
        world.write(ttl_s=600.0)
        world.child.reload()
        applied = await world.child.until_logged("reload_applied")

        assert applied["changed"] is True
        assert await world.app.value(TIME_TO_LIVE) == 600
        number = await world.app.enqueue(category="staff")
        await world.app.until_state(number, "submitted")
        assert world.child.events("reload_needs_restart") == []


async def test_a_wrong_file_changes_nothing_and_the_log_names_the_key(tmp_path, queue_url):
    """The daemon that sends alarms does not stop for a typing mistake."""
    async with running(tmp_path, queue_url) as world:
        path = world.write(ttl_s=600.0, windowsize=3, password="hidden-7")
        world.child.reload()
        refused = await world.child.until_logged("reload_refused")

        assert refused["problem"] == (
            f'{path}: [[link]] "{LINK}": windowsize: unknown key; the nearest known key is window_size'
        )
        assert "hidden-7" not in world.child.output
        assert await world.app.value(TIME_TO_LIVE) == 1800
        number = await world.app.enqueue()
        await world.app.until_state(number, "submitted")


async def test_what_only_a_restart_applies_is_named_without_its_value(tmp_path, queue_url):
    """A changed password is told as changed; the categories of the same file are applied."""
    async with running(tmp_path, queue_url) as world:
        world.write(ttl_s=600.0, password="hidden-7", window_size=3)
        world.child.reload()
        waiting = await world.child.until_logged("reload_needs_restart")

        assert waiting["settings"] == [f'[[link]] "{LINK}" password', f'[[link]] "{LINK}" window_size']
        assert "hidden-7" not in world.child.output
        assert await world.app.value(TIME_TO_LIVE) == 600


async def test_a_link_s_new_rate_holds_at_once_and_no_bind_is_dropped(tmp_path, queue_url):
    """A carrier grants more, or asks for less, in the middle of a day."""
    async with running(tmp_path, queue_url) as world:
        port = await world.child.port()
        world.write(throughput_per_s=40, window_size=3)
        world.child.reload()
        waiting = await world.child.until_logged("reload_needs_restart")

        async def limits() -> list[str]:
            _, page = await http_get(port, "/metrics")
            return [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith("tocsin_throughput_")]

        assert waiting["settings"] == [f'[[link]] "{LINK}" window_size']
        assert await limits() == ["40.0", "40.0"]  # in force, and configured
        await world.app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(70)])
        submits = await world.smsc.seen("submit_sm", 70)
        assert submits[-1].at - submits[0].at > 0.9, "70 need two seconds of 40, and a tenth of one of 1,000"


async def test_a_route_to_a_link_that_does_not_run_yet_waits_for_the_restart(tmp_path, queue_url):
    """Else messages would be given to a link that nobody opens."""
    async with running(tmp_path, queue_url) as world:
        world.write(others=("carrier-b",))
        world.child.reload()
        waiting = await world.child.until_logged("reload_needs_restart")

        assert waiting["settings"] == ['[[link]] "carrier-b" added', "[[route]]"]
        assert await world.app.value("select links from tocsin.route where prefix = ''") == [LINK]
        assert await world.app.value("select count(*) from tocsin.link where enabled") == 1


async def test_every_reload_is_answered_also_when_nothing_changed(tmp_path, queue_url):
    """Who asks again must see that it was done again."""
    async with running(tmp_path, queue_url) as world:
        for times in (1, 2):
            world.child.reload()

            async def answered(times: int = times) -> bool:
                return len(world.child.events("reload_applied")) == times

            await until(answered)

        assert [line["changed"] for line in world.child.events("reload_applied")] == [False, False]


async def test_without_its_database_a_reload_is_refused_and_the_daemon_goes_on(tmp_path, queue_url):
    """Half a file is not applied later, when nobody looks."""
    async with Smsc() as smsc, Relay(queue_url) as relay:
        await relay.open()
        async with Child(write_file(tmp_path, relay.url, {LINK: {"port": smsc.port}})) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            relay.cut()
            child.reload()
            refused = await child.until_logged("reload_refused")
            assert "Connect" in refused["problem"]

            await relay.open()
            child.reload()
            await child.until_logged("reload_applied")
            child.terminate()
            assert await child.wait() == 0
