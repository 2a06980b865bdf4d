"""The HTTP listener for machines and a look in passing: /metrics, /healthz, /readyz, and a status page at /.

Read-only, without access log, and without texts or numbers: everything shown is a metric or a fact that the
daemon states about itself. It runs in the daemon's own loop, so an answer proves that the loop turns.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

    from config.settings import HttpSettings

CLOSE_TIMEOUT_S = 1.0  # a scrape takes milliseconds; a drain must not wait for idle connections
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>tocsin</title><style>body{{font:14px sans-serif;margin:2em}}td{{padding:.1em 1.5em .1em 0}}</style>
<h1>tocsin: {state}</h1><table>{facts}</table><h2>Now</h2><table>{gauges}</table>
"""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon does its work, and what that rests on: database, schema, the state of each link."""

    ready: bool
    facts: dict[str, str] = field(default_factory=dict)


class HttpListener:
    """Listens from ``start`` to ``stop``."""

    def __init__(self, settings: HttpSettings, registry: CollectorRegistry, health: Callable[[], Readiness]) -> None:
        self._settings = settings
        self._registry = registry
        self._health = health
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on: the system's choice when the settings say 0."""
        if self._runner is None or not self._runner.addresses:
            return self._settings.port
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be had.

        """
        application = web.Application()
        application.router.add_get("/", self._page)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening; open requests have a second to end."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        readiness = self._health()
        body = json.dumps(readiness.facts | {"ready": readiness.ready}, indent=1)
        return web.Response(text=body + "\n", content_type="application/json", status=200 if readiness.ready else 503)

    async def _page(self, _request: web.Request) -> web.Response:
        readiness = self._health()
        gauges = [
            (" ".join([sample.name, *sample.labels.values()]), f"{sample.value:g}")
            for metric in self._registry.collect()
            if metric.type == "gauge"
            for sample in metric.samples
        ]
        state = "ready" if readiness.ready else "not ready"
        page = PAGE.format(state=state, facts=_rows(readiness.facts.items()), gauges=_rows(gauges))
        return web.Response(text=page, content_type="text/html")


def _rows(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in pairs)
