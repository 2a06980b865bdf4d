"""SIGHUP: what a changed file changes while the daemon runs, and what it says of the rest."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.smsc import Smsc
from tests.journey.running import LINK, App, Child, Relay, app_of, http_get, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
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

    def write(
        self,
        *,
        ttl_s: float = 1800.0,
        others: Mapping[str, int] | None = None,
        password_of_others: str = "secret",
        routes: Mapping[str, Sequence[str]] | None = None,
        daemon: Mapping[str, object] | None = None,
        **changes: Any,
    ) -> Path:
        """Write the file: the link with these changes, and other ones by their ports."""
        links: dict[str, dict[str, object]] = {LINK: {"port": self.smsc.port, **changes}}
        for name, port in (others or {}).items():
            links[name] = {"port": port, "password": password_of_others, "throughput_per_s": 200}
        return write_file(
            self.folder,
            self.url,
            links,
            categories=[{"name": "staff", "time_to_live_s": ttl_s}],
            routes=routes,
            daemon=daemon,
        )

    def most_unanswered(self) -> int:
        """The largest number of submit_sm without an answer at any instant, by the SMSC's record."""
        unanswered = most = 0
        for pdu in self.smsc.log:
            unanswered += (pdu.command == "submit_sm") - (pdu.command == "submit_sm_resp")
            most = max(most, unanswered)
        return most

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
    """The categories of the same file are applied."""
    async with running(tmp_path, queue_url) as world:
        world.write(ttl_s=600.0, daemon={"takeover_s": 17.0})
        world.child.reload()
        waiting = await world.child.until_logged("reload_needs_restart")

        assert waiting["settings"] == ["[daemon] takeover_s"]
        assert "17" not in str(waiting["settings"])
        assert await world.app.value(TIME_TO_LIVE) == 600


async def test_a_link_s_new_rate_and_window_hold_at_once_and_no_bind_is_dropped(tmp_path, queue_url):
    """A carrier grants more, or asks for less, in the middle of a day."""
    async with running(tmp_path, queue_url) as world:
        port = await world.child.port()
        world.write(throughput_per_s=40, window_size=3)
        world.child.reload()
        applied = await world.child.until_logged("reload_applied")

        async def limits(name: str) -> list[str]:
            _, page = await http_get(port, "/metrics")
            return [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(name)]

        assert applied["live"] == [LINK]
        assert await limits("tocsin_throughput_") == ["40.0", "40.0"]  # in force, and configured
        assert await limits("tocsin_window_limit") == ["3.0"]
        world.smsc.answer_delay_s = 0.05
        await world.app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(70)])
        submits = await world.smsc.seen("submit_sm", 70)
        assert submits[-1].at - submits[0].at > 0.9, "70 need two seconds of 40, and a tenth of one of 1,000"
        assert world.most_unanswered() <= 3


async def test_what_is_looked_up_for_each_segment_holds_from_the_next_one_on(tmp_path, queue_url):
    """Receipts no longer asked for, another type of number, a TLV of the carrier."""
    async with running(tmp_path, queue_url) as world:
        await world.app.until_state(await world.app.enqueue(), "submitted")
        world.write(receipts="none", dest_ton=2, priority_flag=3, validity="none")
        world.child.reload()
        applied = await world.child.until_logged("reload_applied")
        await world.app.until_state(await world.app.enqueue(), "submitted")

        assert (applied["live"], applied["bound_anew"]) == ([LINK], [])
        before, after = (submit.fields for submit in world.smsc.received("submit_sm"))
        names = ("registered_delivery", "dest_addr_ton", "priority_flag")
        assert [before[name] for name in names] == [1, 1, 0]
        assert [after[name] for name in names] == [0, 2, 3]
        assert (bool(before["validity_period"]), bool(after["validity_period"])) == (True, False)


async def test_a_link_that_is_added_carries_what_is_enqueued_to_it_and_the_other_keeps_its_session(tmp_path, queue_url):
    """Route and link come with the same file."""
    async with Smsc() as other, running(tmp_path, queue_url) as world:
        world.write(others={"carrier-b": other.port}, routes={"": [LINK], "4477": ["carrier-b"]})
        world.child.reload()
        applied = await world.child.until_logged("reload_applied")
        number = await world.app.enqueue()
        await world.app.until_state(number, "submitted")

        assert applied["added"] == ["carrier-b"]
        assert len(other.received("submit_sm")) == 1
        assert world.smsc.received("submit_sm") == []


@pytest.mark.slow
async def test_a_link_that_is_removed_is_unbound_in_order_and_shown_no_more(tmp_path, queue_url):
    """What it had written is answered and settled; the other link goes on through it."""
    async with Smsc() as other, running(tmp_path, queue_url) as world:
        other.answer_delay_s = 0.3
        world.write(others={"carrier-b": other.port}, routes={"": [LINK], "4477": ["carrier-b"]})
        world.child.reload()
        await other.seen("bind_transceiver")
        port = await world.child.port()
        ids = await world.app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(30)])
        await other.seen("submit_sm", 30)
        world.write(routes={"": [LINK]})
        world.child.reload()
        await other.seen("unbind")

        async def shown() -> bool:
            return "carrier-b" in (await http_get(port, "/metrics"))[1]

        async def given_back() -> bool:
            return await world.app.value(
                "select owner is null and not enabled from tocsin.link where name = 'carrier-b'"
            ) and not (await shown())

        await until(given_back)
        assert await world.app.states() == {"submitted": len(ids)}
        assert other.received("submit_sm")[-1].at < other.received("unbind")[0].at
        await world.app.until_state(await world.app.enqueue(), "submitted")
        assert len(world.smsc.received("submit_sm")) == 1


@pytest.mark.slow
async def test_a_link_whose_bind_changed_is_bound_anew_alone_and_nothing_is_lost_or_sent_twice(tmp_path, queue_url):
    """Under load on both links, by both SMSCs' records."""
    async with Smsc() as other, running(tmp_path, queue_url) as world:
        routes = {"": [LINK], "4477": ["carrier-b"]}
        other.answer_delay_s = world.smsc.answer_delay_s = 0.02
        world.write(others={"carrier-b": other.port}, routes=routes, throughput_per_s=200)
        world.child.reload()
        await other.seen("bind_transceiver")
        ids = await world.app.enqueue_many(
            [{"recipient": f"44{7 + n % 2}7009{n:05d}", "body": "x"} for n in range(1_000)]
        )
        await other.seen("submit_sm", 100)
        world.write(others={"carrier-b": other.port}, routes=routes, throughput_per_s=200, password_of_others="hidden7")
        world.child.reload()
        await other.seen("bind_transceiver", 2)
        await world.app.until_states({"submitted": len(ids)}, timeout_s=30)

        assert other.received("bind_transceiver")[1].fields["password"] == "hidden7"
        assert len(other.received("unbind")) == 1
        for smsc in (other, world.smsc):
            assert len(smsc.received("submit_sm")) == len(ids) // 2
            assert len({submit.fields["destination_addr"] for submit in smsc.received("submit_sm")}) == len(ids) // 2
        assert "hidden7" not in world.child.output


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
