"""A Prometheus on loopback that loads the shipped example against a daemon under test."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tests.journey.running import free_port, until
from tests.sre.shipped import PROMETHEUS, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Prometheus:
    """What its HTTP API answers."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"

    async def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """One call; an error comes as its JSON."""
        url = f"{self._root}{path}?{urllib.parse.urlencode(parameters)}"

        def call() -> dict[str, Any]:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    body = answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    body = error.read()
            found: dict[str, Any] = json.loads(body)
            return found

        return await asyncio.to_thread(call)

    async def evaluate(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        answer = await self.get("/api/v1/query", query=expression)
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    async def until_scraped(self, times: int = 2) -> None:
        """Wait for so many scrapes that begin after now, with the rules evaluated on them."""

        async def scrapes() -> int:
            found = await self.evaluate('count_over_time(up{job="tocsin"}[1h]) and up{job="tocsin"} == 1')
            return int(found[0]["value"][1]) if found else 0

        before = await scrapes()

        async def scraped() -> bool:
            return await scrapes() > before + times

        await until(scraped, timeout_s=30, poll_s=0.1)


@asynccontextmanager
async def prometheus(folder: Path, target_port: int) -> AsyncIterator[Prometheus]:
    """Run it, scraping each second."""
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(PROMETHEUS / file) for file in settings["rule_files"]]
    (scrape,) = settings["scrape_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{target_port}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            tool("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    server = Prometheus(port)

    async def is_ready() -> bool:
        assert process.returncode is None, (folder / "prometheus.log").read_text()
        try:
            return bool(await server.evaluate("up == 1"))
        except (OSError, ValueError):  # it does not listen yet, or says so in a line of text
            return False

    try:
        await until(is_ready, timeout_s=30, poll_s=0.1)
        yield server
    finally:
        process.terminate()
        await process.wait()
