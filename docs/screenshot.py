"""Takes the picture of the status page for the README: ``python -m docs.screenshot [FOLDER]``.

An embedded Postgres, two simulated SMSCs, the daemon as a process of its own, and a clinic's traffic for some seconds;
then Debian's Chromium (packages chromium and chromium-driver) takes ``status-page.png``. Without FOLDER it goes to
``docs/images``; with one, phone width and the dark scheme are taken as well. All of it is invented.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from selenium.webdriver.support.wait import WebDriverWait

from dispatcher import demo_stage as stage
from dispatcher.demo_load import EMERGENCY_NUMBER, EMERGENCY_TEXT, FIRST_NUMBER, requests
from dispatcher.migrate import migrate
from dispatcher.store import connect
from gateway.smsc import DELIVERED, UNDELIVERABLE, Smsc, SmscSettings
from tests.browser import chromium, resize

if TYPE_CHECKING:
    from dispatcher.store import Connection
    from gateway.smsc import Submitted

IMAGES: Final = Path(__file__).parent / "images"
WIDTH: Final = 1200
PHONE: Final = 390
TRAFFIC_S: Final = 18
PATIENCE_S: Final = 8
# Segments go in bursts, as the throttle forgets those of the second before: between two the links would look idle.
IN_FLOW: Final = """
return [...document.querySelectorAll('.link [data-field="window"]')].every((window) => Number(window.textContent) > 4)
"""
SMSC: Final = SmscSettings(
    latency_s=0.3, receipt_delay_s=(0.3, 1.5)
)  # with these windows a second's segments take 0.8 s
LINKS: Final = (("carrier-a", 120, 40), ("carrier-b", 50, 20))  # name, segments a second, window

FILE: Final = """\
[daemon]
instance = "ward-1"
state_dir = "state"
drain_timeout_s = 5

[database]
url = "{url}"

[http]
listen = "127.0.0.1:{port}"

{links}
[[sender]]
address = "88222"
categories = ["emergency", "staff", "auth", "transactional", "informational"]

[[sender]]
address = "Northside"
categories = ["marketing"]

{routes}
"""


def _file(url: str, port: int, ports: dict[str, int]) -> str:
    links = "".join(
        f'[[link]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {ports[name]}\nsystem_id = "clinic"\n'
        f'password = "demo"\nwindow_size = {window}\nthroughput_per_s = {rate}\n\n'
        for name, rate, window in LINKS
    )
    prefixes = {"": "carrier-a"} | {f"44770090{digit}": "carrier-b" for digit in ("00", "02", "04")}
    routes = "".join(f'[[route]]\nprefix = "{prefix}"\nlinks = ["{link}"]\n' for prefix, link in prefixes.items())
    return FILE.format(url=url, port=port, links=links, routes=routes)


def _outcome(submitted: Submitted) -> int:
    """Let one handset in fifty be off."""
    return UNDELIVERABLE if sum(submitted.message_id.encode()) % 50 == 0 else DELIVERED


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def _traffic(app: Connection) -> None:
    """Send a backlog of reminders and marketing at once, then some of everything each second, with emergencies."""
    jobs = [{"recipient": r.recipient, "body": r.body, "category": r.category, "flash": r.flash} for r in requests()]
    urgent = {"recipient": EMERGENCY_NUMBER, "body": EMERGENCY_TEXT, "category": "emergency"}
    auth = [job | {"category": "auth", "body": "Your code is 000000"} for job in jobs[:8]]
    for _ in range(4):
        await app.fetch("demo_enqueue_many", json.dumps(jobs))
    for second in range(TRAFFIC_S):
        batch = jobs[second * 30 % len(jobs) :][:60] + auth + [urgent, urgent | {"recipient": str(FIRST_NUMBER)}]
        await app.fetch("demo_enqueue_many", json.dumps(batch))
        await asyncio.sleep(1)


def _take(address: str, folder: Path, loop: asyncio.AbstractEventLoop, ready: asyncio.Event) -> None:
    """Open the page early, so that rates are known, and take the pictures when the traffic is in full flow."""
    with chromium(WIDTH) as driver:
        driver.get(address)
        asyncio.run_coroutine_threadsafe(ready.wait(), loop).result()
        shots = [("status-page", WIDTH, "light")]
        if folder != IMAGES:
            shots += [("phone", PHONE, "light"), ("phone-dark", PHONE, "dark"), ("dark", WIDTH, "dark")]
        WebDriverWait(driver, PATIENCE_S).until(lambda page: page.execute_script(IN_FLOW))
        for name, width, scheme in shots:
            resize(driver, width, scheme=scheme)
            driver.save_screenshot(str(folder / f"{name}.png"))


async def main(folder: Path) -> None:
    """Set the stage, take the pictures, leave nothing behind."""
    place = stage.folder()
    try:
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(stage.postgres(place / "postgres"))
            app = await connect(url)
            stack.push_async_callback(app.close)
            await migrate(app.raw)
            smscs = {name: await stack.enter_async_context(Smsc(SMSC, outcome=_outcome)) for name, _, _ in LINKS}
            port = _free_port()
            file = place / "tocsin.toml"
            file.write_text(_file(url, port, {name: smsc.port for name, smsc in smscs.items()}), encoding="utf-8")
            process = await stack.enter_async_context(stage.daemon(file, place / "daemon.log"))
            for smsc in smscs.values():
                await stage.bound(smsc, process)
            ready = asyncio.Event()
            loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_traffic(app))
                tasks.create_task(asyncio.to_thread(_take, f"http://127.0.0.1:{port}/", folder, loop, ready))
                await asyncio.sleep(TRAFFIC_S - 8)
                ready.set()
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
