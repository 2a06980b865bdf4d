"""Named links."""

import asyncio

import pytest
import structlog

from config.settings import LinkSettings, TlsSettings
from gateway import Gateway, GatewayMetrics
from tests.fakes.observer import Recorder, submission
from tests.fakes.smsc import Smsc


def settings(smsc: Smsc, name: str, **changes) -> LinkSettings:
    return LinkSettings(
        **({"name": name, "hosts": ("127.0.0.1",), "port": smsc.port, "system_id": name, "password": "x"} | changes)
    )


async def test_links_are_opened_and_closed_by_name():
    """One process may own some of the links, and each may come and go."""
    async with Smsc() as smsc:
        seen = Recorder()
        gateway = Gateway(seen)
        first = gateway.open(settings(smsc, "a"), sent_at=())
        gateway.open(settings(smsc, "b"))
        await seen.until(lambda: all(link.is_bound for link in gateway.links.values()))

        assert gateway["a"] is first
        assert ("a" in gateway, "c" in gateway) == (True, False)
        with pytest.raises(KeyError):
            gateway["c"]
        first.submit([submission()])
        await seen.until(lambda: seen.results)

        await gateway.close("a", 1.0)
        assert list(gateway.links) == ["b"]
        assert first.state == "stopped"
        await gateway.close_all(1.0)
        assert not gateway.links
        assert len(smsc.received("unbind")) == 2


async def test_counts_outlive_the_link():
    """A counter that starts again is a rise that never was."""
    async with Smsc() as smsc:
        seen = Recorder()
        metrics = GatewayMetrics()
        gateway = Gateway(seen, metrics)
        for _ in range(2):
            link = gateway.open(settings(smsc, "a"), sent_at=())
            await seen.until(lambda link=link: link.is_bound)
            count = len(seen.results)
            link.submit([submission()])
            await seen.until(lambda count=count: len(seen.results) > count)
            await gateway.close("a", 1.0)

    assert metrics.link("a").statuses == {0: 2}


async def test_a_link_that_cannot_run_is_told_in_the_log(tmp_path):
    """A missing certificate stops one link and no other."""
    with structlog.testing.capture_logs() as logs:
        async with Smsc() as smsc:
            gateway = Gateway(Recorder())
            gateway.open(settings(smsc, "a", tls=TlsSettings(ca_file=tmp_path / "none.pem")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await gateway.close("a", 1.0)

    assert [entry["event"] for entry in logs] == ["link_failed"]


async def test_closing_at_once_is_fine():
    """The task may not even have begun."""
    async with Smsc() as smsc:
        gateway = Gateway(Recorder())
        gateway.open(settings(smsc, "a"))
        await gateway.close("a", 1.0)

    assert not smsc.received("bind_transceiver")
