"""tocsin cancel and tocsin job --query, against an SMSC that answers octet by octet what the test says."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from dispatcher import enqueue as queue
from dispatcher.store import connect
from gateway.smsc import Smsc as Simulator
from gateway.smsc import SmscSettings
from tests.journey.running import LINK, ROOT, TOCSIN, Running, app_of, journey, until, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.smsc import Logged, Smsc
    from tests.journey.running import Journey

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


async def leave_unasked(world: Journey, number: int, asked_at: str, sent_at: str) -> None:
    """Put in a request to cancel, with these instants as SQL, and let the daemon look: nothing may leave."""
    await world.app.connection.execute(
        "insert into tocsin.inquiry (asked_at, kind, job_id, part, link, message_id, sender, recipient, sent_at)"
        f" select {asked_at}, 'cancel', job_id, part, link, message_id, sender, destination, {sent_at}"
        " from tocsin.sent where job_id = $1",
        number,
    )
    world.daemon.hurry()
    await asyncio.sleep(0.5)

    assert world.smsc.received("cancel_sm") == []


async def command(path: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Call ``tocsin``; gives its exit code and what it printed as JSON."""
    called = await asyncio.create_subprocess_exec(
        sys.executable, *TOCSIN, *arguments, "--config", str(path), "--json", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await called.communicate()
    return called.returncode or 0, json.loads(out)


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
        await leave_unasked(world, number, "now() - interval '2 minutes'", "null")

        assert await world.app.value("select count(*) from tocsin.inquiry where sent_at is null") == 1


async def test_a_taken_inquiry_is_never_asked_again(tmp_path, queue_url):
    """As after a kill between the commit and the write: it stays unanswered."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        await leave_unasked(world, number, "now()", "now()")


async def test_what_an_smsc_cancelled_is_undelivered_by_its_receipt(tmp_path, queue_url):
    """From the command to the receipt DELETED; the command says that all of it was cancelled, and a second one that it is over."""
    async with Simulator(SmscSettings(receipt_delay_s=(60.0, 60.0))) as smsc, app_of(queue_url) as app:
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}})
        async with Running(path) as daemon:
            await daemon.until_bound()
            number = await app.enqueue(TO, "x" * 200)
            await app.until_state(number, "submitted")

            code, before = await command(path, "job", str(number), "--query")
            assert code == 0
            assert [(one["part"], one["message_state"]) for one in before["smsc"]] == [(1, "ENROUTE"), (2, "ENROUTE")]
            assert before["state"] == "submitted"
            code, said = await command(path, "cancel", str(number))
            assert (code, said["outcome"]) == (0, "cancelled_by_smsc")
            assert [(one["part"], one["command_status"]) for one in said["smsc"]] == [(1, 0), (2, 0)]
            await app.until_state(number, "undelivered")
            assert await command(path, "cancel", str(number)) == (1, {"job_id": number, "outcome": "too_late"})


async def test_a_message_of_which_a_part_arrived_is_not_called_cancelled(tmp_path, queue_url):
    """The rest of it was cancelled, and the command says so; it is too late all the same."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO, "x" * 200)
        await world.app.until_state(number, "submitted")
        ids = [row["message_id"].encode() for row in await world.app.sent(number)]
        answering(world.smsc, "cancel_sm", CANCEL_RESP, dict.fromkeys(ids, (0, b"")))
        await world.app.connection.execute(
            "update tocsin.sent set receipt_state = 40, receipt_at = now() where job_id = $1 and part = 1", number
        )

        code, said = await command(world.path, "cancel", str(number))

        assert (code, said["outcome"]) == (1, "too_late")
        assert [(one["part"], one["outcome"], one["command_status"]) for one in said["smsc"]] == [(2, "answered", 0)]


async def test_what_was_called_not_asked_is_not_asked_later(tmp_path, queue_url):
    """No daemon had the link while somebody waited; the one that comes within the minute does not cancel behind his back."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        await world.daemon.stop()

        (said,) = await asked(queue_url, number, "cancel", wait_s=0.3)
        async with Running(world.path) as again:
            await again.until_bound()
            again.hurry()
            second = asyncio.create_task(asked(queue_url, number, "query", wait_s=10.0))
            await world.smsc.seen("query_sm")  # what is new is taken, so what was old would have been

            assert world.smsc.received("cancel_sm") == []
            second.cancel()
            await asyncio.wait([second])
    assert said.outcome == "not asked"
