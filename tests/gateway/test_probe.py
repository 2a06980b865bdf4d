"""gateway/probe.py: one bind and one unbind."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from config.settings import LinkSettings
from gateway import probe
from tests.fakes.smsc import Smsc

if TYPE_CHECKING:
    from typing import Any


def link(port: int, **settings: Any) -> LinkSettings:
    usual = {"name": "a", "hosts": ("127.0.0.1",), "system_id": "clinic", "password": "secret", "bind_timeout_s": 0.5}
    return LinkSettings(**usual | settings, port=port)


async def test_an_smsc_that_takes_the_bind_is_unbound_again():
    """Left bound, it would refuse the daemon."""
    async with Smsc() as smsc:
        found = await probe(link(smsc.port), "127.0.0.1")

        assert (found.host, found.problem) == ("127.0.0.1", None)
        assert [pdu.command for pdu in smsc.log] == [
            "bind_transceiver",
            "bind_transceiver_resp",
            "unbind",
            "unbind_resp",
        ]


async def test_both_kinds_of_session_are_tried():
    """An account may lack one of them."""
    async with Smsc() as smsc:
        found = await probe(link(smsc.port, bind_type="transmitter+receiver", sessions=4), "127.0.0.1")

        assert found.problem is None
        assert len(smsc.received("bind_transmitter")) == len(smsc.received("bind_receiver")) == 1
        assert len(smsc.received("unbind")) == 2


async def test_a_refusal_is_named():
    """The password is not."""
    async with Smsc() as smsc:
        smsc.bind_statuses.append(0x0E)
        found = await probe(link(smsc.port), "127.0.0.1")

    assert found.problem == "bind_refused ESME_RINVPASWD"


async def test_nobody_there():
    """Refused at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = await probe(link(taken.getsockname()[1]), "127.0.0.1")

    assert found.problem == "connect_failed"


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_whoever_does_not_speak_smpp_is_given_up(greeting):
    """Silence ends at bind_timeout_s; garbage at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        found = await probe(link(server.sockets[0].getsockname()[1]), "127.0.0.1")

    assert found.problem
