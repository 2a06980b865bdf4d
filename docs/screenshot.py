"""Takes the picture of the status page for the README: ``python -m docs.screenshot [FOLDER]``.

The demonstration runs as a process of its own; Debian's Chromium (packages chromium and chromium-driver) opens its
status page and takes ``status-page.png`` once an emergency was delivered and both links are in full flow. Without
FOLDER it goes to ``docs/images``; with one, phone width and the dark scheme are taken as well.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import chromium, resize

IMAGES: Final = Path(__file__).parent / "images"
WIDTH: Final = 1200
PHONE: Final = 390
STARTS_WITHIN_S: Final = 20  # Postgres, two SMSCs, the daemon
FLOWS_WITHIN_S: Final = 25  # all of the traffic
# Segments go in bursts, as the throttle forgets those of the second before: between two the links would look idle.
IN_FLOW: Final = """
return document.body.textContent.includes('job.delivered emergency')
    && [...document.querySelectorAll('.link [data-field="window"]')].every((window) => Number(window.textContent) > 4)
"""


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(folder: Path) -> None:
    """Run the demonstration, take the pictures, and let it end."""
    port = _free_port()
    demo = subprocess.Popen(
        [sys.executable, "-m", "dispatcher.cli", "demo", "--http", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        with chromium(WIDTH) as driver:
            starting = WebDriverWait(driver, STARTS_WITHIN_S, ignored_exceptions=[WebDriverException])
            starting.until(lambda page: page.get(f"http://127.0.0.1:{port}/") is None and "tocsin" in page.title)
            shots = [("status-page", WIDTH, "light")]
            if folder != IMAGES:
                shots += [("phone", PHONE, "light"), ("phone-dark", PHONE, "dark"), ("dark", WIDTH, "dark")]
            WebDriverWait(driver, FLOWS_WITHIN_S, 0.1).until(lambda page: page.execute_script(IN_FLOW))
            for name, width, scheme in shots:
                resize(driver, width, scheme=scheme)
                driver.save_screenshot(str(folder / f"{name}.png"))
    finally:
        demo.terminate()
        demo.wait()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    target.mkdir(parents=True, exist_ok=True)
    main(target)
