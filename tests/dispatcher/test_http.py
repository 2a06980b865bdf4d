"""dispatcher/http.py: what machines and passers-by may read of a running daemon."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from config.settings import HttpSettings
from dispatcher.http import FILES, PAGE, HttpListener, Readiness
from dispatcher.status import LATE_AFTER_S, STALE_AFTER_S, from_json
from tests.dispatcher.documents import document

if TYPE_CHECKING:
    from dispatcher.status import Status

UP = Readiness(ready=True, facts={"database": "up", "schema": "current", "link carrier-a": "bound"})
DOWN = Readiness(ready=False, facts={"database": "away", "schema": "current", "link <b>": "waiting"})


async def looked() -> Status:
    return document()


@contextlib.asynccontextmanager
async def listening(readiness: Readiness):
    """A listener on a port of the system's choice, and a way to ask it."""
    registry = CollectorRegistry()
    Gauge("tocsin_link_bound", "...", ("link",), registry=registry).labels("carrier-a").set(1)
    listener = HttpListener(HttpSettings("127.0.0.1", 0), registry, lambda: readiness, looked)
    await listener.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:

            async def ask(path: str, method: str = "GET") -> tuple[int, str, str]:
                async with client.request(method, path) as response:
                    return response.status, response.headers["Content-Type"], await response.text()

            async def headers(path: str) -> dict[str, str]:
                async with client.get(path) as response:
                    return dict(response.headers)

            ask.headers = headers
            yield ask
    finally:
        await listener.stop()


async def test_metrics_are_the_registrys():
    """Prometheus reads them in its text format."""
    async with listening(UP) as ask:
        status, kind, body = await ask("/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert 'tocsin_link_bound{link="carrier-a"} 1.0' in body


async def test_healthz_answers_whatever_the_database_does():
    """A restart does not help against a database that is away, so liveness does not look at it."""
    async with listening(DOWN) as ask:
        assert (await ask("/healthz"))[0] == 200


async def test_readyz_names_database_schema_and_links():
    """Who looks at a daemon that is not ready wants to know what is missing."""
    async with listening(UP) as ask:
        status, kind, body = await ask("/readyz")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert json.loads(body) == {"ready": True, "database": "up", "schema": "current", "link carrier-a": "bound"}


async def test_readyz_is_503_while_not_ready():
    """Load balancers and orchestrators read the status alone."""
    async with listening(DOWN) as ask:
        status, _, body = await ask("/readyz")
    assert status == 503
    assert json.loads(body)["ready"] is False


async def test_status_json_is_the_document():
    """Who reads it gets back what the daemon said."""
    async with listening(UP) as ask:
        status, kind, body = await ask("/status.json")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert from_json(json.loads(body)) == document()


@pytest.mark.parametrize("path", FILES)
async def test_the_page_is_files_of_ours_and_may_load_nothing_else(path):
    """No inline script or style, no other origin, no frame around it, no guessing of types."""
    async with listening(UP) as ask:
        status, kind, body = await ask(path)
        headers = await ask.headers(path)
    assert status == 200
    assert kind == f"{FILES[path][1]}; charset=utf-8"
    assert not re.search(
        r"<script(?![^>]* src=\"/)|<style|https?://(?!www\.w3\.org/2000/svg)| on[a-z]+=|innerHTML", body
    )
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"unsafe|\*|https?:|data:", policy)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_judges_by_the_same_bounds_as_the_document():
    """A banner that says late over a figure that says well helps nobody."""
    script = (PAGE / "status.js").read_text(encoding="utf-8")
    assert f"const LATE_AFTER_S = {LATE_AFTER_S:.0f};" in script
    assert f"const STALE_AFTER_S = {STALE_AFTER_S:.0f};" in script


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_written(method):
    """The listener has no authentication, so it must change nothing."""
    async with listening(UP) as ask:
        assert (await ask("/metrics", method))[0] == 405


async def test_an_unknown_path_is_404():
    """And says nothing else."""
    async with listening(UP) as ask:
        assert (await ask("/debug"))[0] == 404


async def test_a_taken_port_is_an_error_and_leaves_nothing_open():
    """Two daemons with one [http] table must not both believe to be watched."""
    first = HttpListener(HttpSettings("127.0.0.1", 0), CollectorRegistry(), lambda: UP, looked)
    await first.start()
    second = HttpListener(HttpSettings("127.0.0.1", first.port), CollectorRegistry(), lambda: UP, looked)
    with pytest.raises(OSError, match="address"):
        await second.start()
    await second.stop()
    await first.stop()


async def test_the_port_is_the_settings_until_it_listens():
    """Port 0 has no number before the system chose one."""
    listener = HttpListener(HttpSettings("127.0.0.1", 9464), CollectorRegistry(), lambda: UP, looked)
    assert listener.port == 9464
    await listener.stop()
