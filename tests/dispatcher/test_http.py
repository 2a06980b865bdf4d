"""dispatcher/http.py: what machines and passers-by may read of a running daemon."""

from __future__ import annotations

import contextlib
import json

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from config.settings import HttpSettings
from dispatcher.http import HttpListener, Readiness

UP = Readiness(ready=True, facts={"database": "up", "schema": "current", "link carrier-a": "bound"})
DOWN = Readiness(ready=False, facts={"database": "away", "schema": "current", "link <b>": "waiting"})


@contextlib.asynccontextmanager
async def listening(readiness: Readiness):
    """A listener on a port of the system's choice, and a way to ask it."""
    registry = CollectorRegistry()
    Gauge("tocsin_link_bound", "...", ("link",), registry=registry).labels("carrier-a").set(1)
    listener = HttpListener(HttpSettings("127.0.0.1", 0), registry, lambda: readiness)
    await listener.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:

            async def ask(path: str, method: str = "GET") -> tuple[int, str, str]:
                async with client.request(method, path) as response:
                    return response.status, response.headers["Content-Type"], await response.text()

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


async def test_the_status_page_shows_facts_and_gauges_escaped():
    """A link's name is an operator's text, not markup."""
    async with listening(DOWN) as ask:
        status, kind, body = await ask("/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "not ready" in body
    assert "link &lt;b&gt;" in body
    assert "<td>tocsin_link_bound carrier-a</td><td>1</td>" in body


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
    first = HttpListener(HttpSettings("127.0.0.1", 0), CollectorRegistry(), lambda: UP)
    await first.start()
    second = HttpListener(HttpSettings("127.0.0.1", first.port), CollectorRegistry(), lambda: UP)
    with pytest.raises(OSError, match="address"):
        await second.start()
    await second.stop()
    await first.stop()


async def test_the_port_is_the_settings_until_it_listens():
    """Port 0 has no number before the system chose one."""
    listener = HttpListener(HttpSettings("127.0.0.1", 9464), CollectorRegistry(), lambda: UP)
    assert listener.port == 9464
    await listener.stop()
