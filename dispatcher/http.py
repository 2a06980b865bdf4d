"""The HTTP listener: /metrics, /healthz, /readyz and /status.json for machines, and the status page at / for people.

Read-only, without access log, and without texts or numbers: everything shown is a metric or a fact that the
daemon states about itself. It runs in the daemon's own loop, so an answer proves that the loop turns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from config.settings import HttpSettings
    from dispatcher.status import Status

CLOSE_TIMEOUT_S = 1.0  # a scrape takes milliseconds; a drain must not wait for idle connections
PAGE = Path(__file__).parent / "page"
FILES = {  # of the status page: path -> file and type
    "/": ("status.html", "text/html"),
    "/status.css": ("status.css", "text/css"),
    "/status.js": ("status.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Nothing from elsewhere, nothing inline: what a peer wrote can become neither script nor style nor request.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon does its work, and what that rests on: database, schema, the state of each link."""

    ready: bool
    facts: dict[str, str] = field(default_factory=dict)


class HttpListener:
    """Listens from ``start`` to ``stop``."""

    def __init__(
        self,
        settings: HttpSettings,
        registry: CollectorRegistry,
        health: Callable[[], Readiness],
        look: Callable[[], Awaitable[Status]],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._health = health
        self._look = look
        self._files = {path: ((PAGE / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
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
        for path in self._files:
            application.router.add_get(path, self._page)
        application.router.add_get("/status.json", self._status_json)
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

    async def _status_json(self, _request: web.Request) -> web.Response:
        body = json.dumps((await self._look()).as_json())
        return web.Response(text=body + "\n", content_type="application/json", headers=HEADERS)

    async def _page(self, request: web.Request) -> web.Response:
        octets, kind = self._files[request.path]
        return web.Response(body=octets, content_type=kind, charset="utf-8", headers=HEADERS)
