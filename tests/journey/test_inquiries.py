"""tocsin cancel and tocsin job --query, against an SMSC that answers octet by octet what the test says."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest

from dispatcher import enqueue as queue
from dispatcher.store import connect
from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged, Smsc

TO = "447700900123"
CANCEL_RESP, QUERY_RESP = 0x80000008, 0x80000003


def answering(smsc: Smsc, command: str, response: int, answers: dict[bytes, tuple[int, bytes]]) -> None:
    """Answer requests of this name by the message_id that they hold: status and body."""

    def take(logged: Logged) -> None:
        if logged.command != command or logged.sent:
            return
        for message_id, (status, body) in answers.items():
            if message_id + b"\0" in logged.octets[16:]:
                octets = struct.pack(">LLLL", 16 + len(body), response, status, logged.sequence) + body
                smsc.sessions[0].send_raw(octets)

    smsc.on_log = take


async def asked(url: str, job_id: int, kind: str, wait_s: float = 10.0) -> list[queue.Asked]:
    connection = await connect(url)
    try:
        return await queue.ask(connection, job_id, kind, why="", who="me", wait_s=wait_s)
    finally:
        await connection.close()


async def test_each_accepted_part_is_asked_to_be_cancelled_and_the_smsc_s_word_is_told(tmp_path, queue_url):
    """One was cancelled, one is with the handset already; the job's state is for receipts to say."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO, "x" * 200)
        await world.app.until_state(number, "submitted")
        ids = [row["message_id"].encode() for row in await world.app.sent(number)]
        answering(world.smsc, "cancel_sm", CANCEL_RESP, {ids[0]: (0, b""), ids[1]: (0x11, b"")})

        said = await asked(queue_url, number, "cancel")

        assert [(one.part, one.link, one.outcome, one.command_status) for one in said] == [
            (1, LINK, "answered", 0),
            (2, LINK, "answered", 0x11),
        ]
        assert await world.app.state(number) == "submitted"
        assert len(world.smsc.received("cancel_sm")) == 2
        (noted,) = await world.app.fetch("select verb, kind, subject, person from tocsin.operator_log")
        assert tuple(noted) == ("cancel", "job", str(number), "me")


async def test_a_query_tells_the_state_and_changes_none(tmp_path, queue_url):
    """query_sm for a job whose receipt does not come."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        (row,) = await world.app.sent(number)
        message_id = row["message_id"].encode()
        body = message_id + b"\0" + b"\0" + b"\x02\x00"
        answering(world.smsc, "query_sm", QUERY_RESP, {message_id: (0, body)})

        (said,) = await asked(queue_url, number, "query")

        assert (said.outcome, said.message_state) == ("answered", "DELIVERED")
        assert await world.app.state(number) == "submitted"


async def test_a_job_with_a_final_receipt_or_without_a_part_is_not_asked_about(tmp_path, queue_url):
    """There is nothing to cancel."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.receipt_delay_s = 0.0
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "delivered")

        assert await asked(queue_url, number, "cancel") == []
        assert await asked(queue_url, 4711, "cancel") == []
        assert await world.app.value("select count(*) from tocsin.operator_log") == 0


@pytest.mark.parametrize(("paused", "outcome"), [(False, "unanswered"), (True, "session_lost")])
async def test_silence_and_a_link_that_may_not_write_are_told(tmp_path, queue_url, paused, outcome):
    """Nobody waits for ever, and nothing is asked later behind the operator's back."""
    async with journey(tmp_path, queue_url, response_timeout_s=0.3) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        if paused:
            await world.app.value("select tocsin.set_paused('link', $1, true, '', 'me')", LINK)

            async def is_paused() -> bool:
                return world.daemon.daemon._gateway[LINK].is_paused

            await until(is_paused)
        (said,) = await asked(queue_url, number, "cancel")

        assert said.outcome == outcome
        assert len(world.smsc.received("cancel_sm")) == (0 if paused else 1)


async def test_what_nobody_took_within_a_minute_is_not_asked_any_more(tmp_path, queue_url):
    """A daemon that comes back after an hour does not cancel what somebody wanted cancelled then."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        await world.app.connection.execute(
            "insert into tocsin.inquiry (asked_at, kind, job_id, part, link, message_id, sender, recipient)"
            " select now() - interval '2 minutes', 'cancel', job_id, part, link, message_id, sender, destination"
            " from tocsin.sent where job_id = $1",
            number,
        )
        world.daemon.hurry()
        await asyncio.sleep(0.5)

        assert world.smsc.received("cancel_sm") == []
        assert await world.app.value("select count(*) from tocsin.inquiry where sent_at is null") == 1


async def test_a_taken_inquiry_is_never_asked_again(tmp_path, queue_url):
    """As after a kill between the commit and the write: it stays unanswered."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        await world.app.connection.execute(
            "insert into tocsin.inquiry (kind, job_id, part, link, message_id, sender, recipient, sent_at)"
            " select 'cancel', job_id, part, link, message_id, sender, destination, now()"
            " from tocsin.sent where job_id = $1",
            number,
        )
        world.daemon.hurry()
        await asyncio.sleep(0.5)

        assert world.smsc.received("cancel_sm") == []
