"""What keeps the sessions of a link bound: hosts in turn, pauses, refusals, the fence."""

import asyncio
import time

from gateway import binds
from tests.compiled import swaps_a_part
from tests.fakes.account import Account, account
from tests.fakes.smsc import Smsc

SOON_S = 0.2  # a time-out that a test waits for


async def test_the_bind_carries_the_account():
    """As the settings say."""
    async with account(system_type="SMS", interface_version="5.0", address_range="^49") as a:
        (bind,) = a.smsc.received("bind_transceiver")

    assert bind.fields == {
        "system_id": "clinic",
        "password": "secret-word",
        "system_type": "SMS",
        "interface_version": 0x50,
        "addr_ton": 0,
        "addr_npi": 0,
        "address_range": "^49",
    }


async def test_states_are_told_as_they_change():
    """Operators see what the link is doing, and why."""
    async with account() as a:
        a.smsc.drop()
        await a.seen.until(lambda: len(a.seen.states) >= 5)
        task = asyncio.create_task(a.link.stop(1.0))
        await task

    assert a.seen.states == [
        ("binding", "127.0.0.1"),
        ("bound", "transceiver"),
        ("waiting", "peer_closed"),
        ("binding", "127.0.0.1"),
        ("bound", "transceiver"),
        ("stopped", ""),
    ]


async def test_hosts_are_tried_in_turn():
    """One of a carrier's two sites may be down."""
    async with account(hosts=("127.0.0.9", "127.0.0.1")) as a:
        assert a.seen.states[:3] == [
            ("binding", "127.0.0.9"),
            ("waiting", "connect_failed"),
            ("binding", "127.0.0.1"),
        ]


async def test_refused_credentials_hold_every_session_back_for_minutes():
    """They do not mend by themselves, and carriers lock accounts that insist."""
    async with account(bound=False, sessions=2, prepare=lambda smsc: smsc.bind_statuses.extend([0x0E, 0x0E])) as a:
        await a.seen.until(lambda: ("waiting", "bind_refused ESME_RINVPASWD") in a.seen.states)
        await a.smsc.until(lambda: not a.smsc.sessions)

        assert a.link._binds._not_before - time.monotonic() > 299.0


async def test_a_bind_that_is_not_answered_is_tried_again():
    """A hung SMSC process takes connections and says nothing."""
    async with account(
        bound=False, bind_timeout_s=SOON_S, prepare=lambda smsc: setattr(smsc, "answers_binds", False)
    ) as a:
        await a.seen.until(lambda: ("waiting", "bind_timeout") in a.seen.states)
        a.smsc.answers_binds = True
        await a.until_bound()


async def test_an_unbind_of_the_smsc_is_answered_and_the_link_comes_back():
    """Maintenance."""
    async with account() as a:
        a.smsc.unbind()
        await a.smsc.seen("unbind_resp")
        await a.smsc.seen("bind_transceiver", 2)

    assert ("waiting", "peer_unbound") in a.seen.states


async def test_silence_is_broken_by_enquire_link_and_unbroken_silence_ends_the_session():
    """A dead path is found before an emergency needs it."""
    async with account(enquire_link_s=0.1, response_timeout_s=SOON_S) as a:
        await a.smsc.seen("enquire_link", 2)
        a.smsc.answers_enquiries = False
        await a.seen.until(lambda: ("waiting", "silent") in a.seen.states)


async def test_refused_credentials_are_tried_again_in_the_end(monkeypatch):
    """An operator may have mended them at the carrier."""
    async with account(bound=False, prepare=lambda smsc: setattr(smsc, "answers_binds", False), sessions=2) as a:
        await a.smsc.until(lambda: len(a.smsc.received("bind_transceiver")) == 2)
        a.smsc.answers_binds = True
        a.link._binds._not_before = time.monotonic() + SOON_S
        a.smsc.drop()
        await a.until_bound()

        assert time.monotonic() >= a.link._binds._not_before


@swaps_a_part
async def test_a_session_that_lived_long_was_a_good_one(monkeypatch):
    """Its loss is repaired at once, whatever failed the day before."""
    monkeypatch.setattr(binds, "PROVEN_AFTER_S", 0.0)
    async with account() as a:
        a.link._binds._backoff.failures = 5
        a.smsc.drop()
        await a.seen.until(lambda: not a.link.is_bound)
        await a.until_bound()

        assert a.link._binds._backoff.failures == 1


async def test_a_host_that_cannot_be_a_name_is_a_failure_like_another():
    """A slip in the file must not stop the other hosts."""
    async with account(hosts=("smsc..example", "127.0.0.1")) as a:
        assert ("waiting", "connect_failed") in a.seen.states


async def test_giving_up_in_the_middle_of_connecting_leaves_no_socket():
    """Warnings about unclosed sockets are errors in this suite."""
    async with Smsc() as smsc:
        a = Account(smsc)
        running = asyncio.create_task(a.link.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    assert a.link.state == "stopped"
