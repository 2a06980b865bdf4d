"""The status page in a real browser: what it shows is so, it asks nobody but its daemon, and it tells no secrets."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from config.settings import HttpSettings
from dispatcher.http import HttpListener, Readiness
from dispatcher.status import EmergencyStatus, EventStatus
from gateway.smsc import Smsc, SmscSettings
from tests.browser import chromium, needs_chromium, resize
from tests.dispatcher.documents import document, lane, link
from tests.journey.running import LINK, Running, app_of, http_get, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dispatcher.status import Status

pytestmark = [needs_chromium, pytest.mark.slow]

NUMBER = "447700900617"
TEXT = "Saffron umbrella"
REFERENCE = "patient-7731"
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
LONG_S = 30.0  # a browser on a busy machine


class Page:
    """The page in a browser, asked without holding the loop that serves it."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    async def run(self, script: str, *arguments: object) -> Any:
        return await asyncio.to_thread(self._driver.execute_script, script, *arguments)

    async def text(self, selector: str) -> str:
        """What the first element that fits holds; "" while there is none."""
        return str(await self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    async def until_text(self, selector: str, wanted: str) -> None:
        async def shown() -> bool:
            return wanted in await self.text(selector)

        await until(shown, LONG_S)

    async def log(self) -> list[str]:
        """What the browser complains about: the policy's violations are among it."""
        return [entry["message"] for entry in await asyncio.to_thread(self._driver.get_log, "browser")]


@asynccontextmanager
async def opened(port: int, width: int = 1280) -> AsyncIterator[Page]:
    """The page of the daemon that listens there."""
    browser = chromium(width)
    driver = await asyncio.to_thread(browser.__enter__)
    try:
        await asyncio.to_thread(driver.get, f"http://127.0.0.1:{port}/")
        yield Page(driver)
    finally:
        await asyncio.to_thread(browser.__exit__, None, None, None)


@asynccontextmanager
async def served(status: list[Status]) -> AsyncIterator[HttpListener]:
    """A listener that tells the last of these documents."""

    async def look() -> Status:
        return status[-1]

    listener = HttpListener(HttpSettings("127.0.0.1", 0), CollectorRegistry(), lambda: Readiness(ready=True), look)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


def lane_cell(number: int, field: str) -> str:
    return f'[data-rows="lanes"] > :nth-child({number + 1}) [data-field="{field}"]'


async def told(port: int) -> dict[str, Any]:
    return dict(json.loads((await http_get(port, "/status.json"))[1]))


async def test_what_is_shown_moves_with_the_traffic_and_equals_what_the_daemon_tells_machines(tmp_path, queue_url):
    """A page that lies is worse than none; and it says so once nobody tells it anything new."""
    jobs = [{"recipient": NUMBER, "body": f"{TEXT} {n}", "client_ref": REFERENCE} for n in range(240)]
    async with Smsc(SmscSettings(latency_s=0.02, receipt_delay_s=(0.05, 0.1))) as smsc, app_of(queue_url) as app:
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port, "throughput_per_s": 40}})
        async with Running(path) as daemon:
            await daemon.until_bound()
            async with opened(daemon.port) as page:
                await page.until_text('[data-field="verdict"]', "Emergencies flow")
                assert await page.text(".link [data-field='name']") == LINK
                await app.enqueue_many(jobs)

                seen: dict[str, set[str]] = {"rate": set(), "receipts": set(), "jobs": set()}

                async def moved() -> bool:
                    for field in ("rate", "receipts"):
                        seen[field].add(await page.text(f".link [data-field='{field}']"))
                    seen["jobs"].add(await page.text(lane_cell(3, "jobs")))
                    return all(len(values) >= 2 for values in seen.values()) and len(seen["receipts"]) >= 3

                await until(moved, LONG_S, poll_s=0.2)
                assert all(int(value) <= 40 for value in seen["rate"])
                during = await page.run("return document.documentElement.outerHTML")

                await app.until_states({"delivered": len(jobs)})
                await page.until_text(lane_cell(3, "jobs"), "0")
                await page.until_text(".link [data-field='receipts']", str(len(jobs)))
                status = await told(daemon.port)
                assert status["links"][0]["receipts_matched_total"] == len(jobs)
                assert daemon.counter("tocsin_receipts_total", link=LINK, state="delivered") == len(jobs)
                assert status["links"][0]["limit_per_s"] == daemon.counter("tocsin_throughput_limit", link=LINK) == 40
                assert await page.text(".link [data-field='rate-more']") == "limit 40, of it 4 for lane 0 alone"
                assert await page.text(".link [data-field='sessions']") == "1 of 1"
                assert status["unsettled"] == daemon.counter("tocsin_settle_pending") == 0
                await page.until_text('[data-rows="events"]', "job.delivered")

                after = await page.run("return document.documentElement.outerHTML")
                for secret in (NUMBER, NUMBER[2:], TEXT, REFERENCE, "Northside", "secret"):
                    assert secret not in during + after + json.dumps(status)

                names = await page.run("return performance.getEntries().map((entry) => entry.name)")
                origin = f"http://127.0.0.1:{daemon.port}/"
                asked = [name for name in names if "//" in name]
                assert any(name.endswith("/status.json") for name in asked)
                assert [name for name in asked if not name.startswith(origin)] == []
                assert await page.log() == []

                await daemon.stop()
                await page.until_text('[data-field="verdict"]', "The daemon does not answer")
                assert "s old" in await page.text('[data-field="reasons"]')
                assert await page.text(".link [data-field='receipts']") == str(len(jobs))  # the last that was known


async def test_a_paused_category_of_lane_0_stops_emergencies_on_the_page(tmp_path, queue_url):
    """The banner says why, within seconds of the operator's command."""
    async with Smsc() as smsc, app_of(queue_url) as app:
        async with Running(write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}})) as daemon:
            await daemon.until_bound()
            async with opened(daemon.port) as page:
                await page.until_text('[data-field="verdict"]', "Emergencies flow")
                await app.value("update tocsin.category set paused = true where name = 'emergency' returning name")
                await page.until_text('[data-field="verdict"]', "Emergencies are stopped")
                assert await page.text('[data-field="reasons"]') == "paused: emergency"
                assert await page.text('[data-field="paused"]') == "Paused: emergency"
                await app.value("update tocsin.category set paused = false returning name")
                await page.until_text('[data-field="verdict"]', "Emergencies flow")


async def test_what_a_peer_wrote_stays_text():
    """An SMSC's words can become neither element nor script, in any place of the document."""
    wrote: list[str] = []

    def hostile() -> str:
        wrote.append(f"{HOSTILE}{len(wrote)};")
        return wrote[-1]

    category = hostile()
    status = document(
        instance=hostile(),
        version=hostile(),
        missing=(hostile(),),
        emergencies=EmergencyStatus("stopped", (hostile(),)),
        database=hostile(),
        schema=hostile(),
        paused_categories=(hostile(),),
        links=(
            link(name=hostile(), state=hostile(), state_detail=hostile(), owner="another", owner_instance=hostile()),
        ),
        lanes=(lane(0, categories=(category,), paused=(category,)),),
        events=(EventStatus(hostile(), hostile(), hostile(), 1, 0.0, hostile()),),
    )
    async with served([status]) as listener, opened(listener.port) as page:
        await page.until_text('[data-rows="events"]', HOSTILE)
        shown = await page.run("return document.body.textContent")
        assert [words for words in wrote if words not in shown] == []
        assert await page.run("return document.querySelectorAll('img, body script').length") == 0
        assert await page.run("return window.hit ?? null") is None


async def test_the_browser_lets_the_page_ask_nobody_else():
    """Should a script get in after all, it has nobody to tell."""
    heard = asyncio.Event()

    async def hear(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        writer.close()

    elsewhere = await asyncio.start_server(hear, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/"
    async with elsewhere, served([document()]) as listener, opened(listener.port) as page:
        refused = await page.run(
            "return fetch(arguments[0], {mode: 'no-cors'}).then(() => 'answered', () => 'refused')", address
        )
        tried = await page.run(
            "const image = new Image(); image.src = arguments[0];"
            "return new Promise((done) => { image.onload = () => done('loaded'); image.onerror = () => done('refused'); })",
            address,
        )
        assert (refused, tried) == ("refused", "refused")
        assert not heard.is_set()


async def test_it_says_how_old_it_is_while_the_daemon_is_away_and_goes_on_when_it_is_back():
    """Nobody reloads pages at 3 am."""
    status = [document()]
    async with served(status) as listener:
        port = listener.port
        async with opened(port) as page:
            await page.until_text('[data-field="age"]', "live")
            await listener.stop()
            await page.until_text('[data-field="verdict"]', "The daemon does not answer")
            assert "old" in await page.text('[data-field="age"]')
            assert await page.run("return document.body.dataset.flow") == "away"

            async def look() -> Status:
                return replace(document(), instance="restarted")

            again = HttpListener(
                HttpSettings("127.0.0.1", port), CollectorRegistry(), lambda: Readiness(ready=True), look
            )
            await again.start()
            try:
                await page.until_text('[data-field="instance"]', "restarted")
                await page.until_text('[data-field="age"]', "live")
                assert await page.text('[data-field="verdict"]') == "Emergencies flow"
            finally:
                await again.stop()


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_nothing_sticks_out_at_this_width(width):
    """A phone in a corridor shows the whole of it, long names included."""
    status = document(
        links=(
            link(name="c" * 63, limit_per_s=20, held_for_s=0.7),
            link(name="b", state="waiting", state_detail="x" * 60),
        ),
        lanes=(lane(0, jobs=60_000, at_least=True, oldest_s=5000.0, categories=("a" * 31, "b" * 31)),),
        events=(EventStatus("job.undelivered", "c" * 31, "E" * 40, 200, 3.0, "9" * 19),),
    )
    async with served([status]) as listener, opened(listener.port, width) as page:
        await asyncio.to_thread(resize, page._driver, width)
        await page.until_text(lane_cell(0, "jobs"), "≥ 60,000")
        wide = await page.run(
            "return [...document.querySelectorAll('body *')].filter((element) =>"
            " element.getBoundingClientRect().right > innerWidth + 1).map((element) => element.outerHTML)"
        )
        assert wide == []
