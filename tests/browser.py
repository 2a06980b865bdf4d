"""A headless Chromium that talks to this machine alone, with a profile that is thrown away."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"  # Debian's: selenium's own download never runs
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
IS_INSTALLED = os.access(CHROMIUM, os.X_OK) and os.access(DRIVER, os.X_OK)

needs_chromium = pytest.mark.skipif(
    not IS_INSTALLED and not os.environ.get("CI"), reason="Debian's packages chromium and chromium-driver are missing"
)


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Chrome]:
    """A browser with a window of this size; it is gone afterwards, with its profile."""
    profile = tempfile.mkdtemp(prefix="tocsin-chromium-")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    try:
        driver = Chrome(options=options, service=Service(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def resize(driver: Chrome, width: int, *, scheme: str = "light") -> None:
    """Show the page as a screen of this width does, and as high as it is, in one of the two colour schemes."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    height = driver.execute_script("return document.documentElement.scrollHeight")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | {"height": height})
