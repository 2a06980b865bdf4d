"""Why a message did not arrive, from the octets of its receipt to what its app reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.dispatcher.test_receipt_reasons import TOTAL
from tests.events import visible
from tests.fakes.smsc import DELETED, DELIVERED, EXPIRED, REJECTED, UNDELIVERABLE
from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from tests.journey.running import Journey

TO = "447700900123"


async def receipts(world: Journey, number: int, *said: tuple[int, str]) -> None:
    """Let the SMSC send a receipt for each part: message_state and err."""
    await world.app.until_state(number, "submitted")
    ids = [row["message_id"] for row in await world.app.sent(number)]
    submits = world.smsc.received("submit_sm")[-len(ids) :]
    for message_id, submit, (state, error) in zip(ids, submits, said, strict=True):
        world.smsc.deliver_receipt(message_id, submit, state, error=error)


async def ended(world: Journey, number: int) -> tuple[str, str, str]:
    """State, reason and retry as the app polls them."""
    await world.app.until_state(number, "undelivered")
    (row,) = await world.app.fetch("select state, reason, retry from tocsin.job_status($1)", number)
    return tuple(row)


async def told(world: Journey, number: int) -> list[dict[str, object]]:
    """The data of the job's events as the app reads them."""
    await visible(world.app.connection)
    query = "select data from tocsin.event where type = 'job.undelivered' and subject = $1"
    return [json.loads(row["data"]) for row in await world.app.fetch(query, str(number))]


@pytest.mark.parametrize(
    ("state", "error", "reason", "retry"),
    [
        (UNDELIVERABLE, "061", "ABSENT", "later"),
        (UNDELIVERABLE, "001", "UNKNOWN_SUBSCRIBER", "never"),
        (UNDELIVERABLE, "000", "UNDELIVERED_SMSC", "unclear"),
        (REJECTED, "000", "REJECTED_SMSC", "never"),
        (DELETED, "061", "DELETED_SMSC", "unclear"),
        (EXPIRED, "061", "EXPIRED_SMSC", "later"),
    ],
)
async def test_the_app_reads_why_it_did_not_arrive_and_what_to_do(tmp_path, queue_url, state, error, reason, retry):
    """In the event, by job_status, in the counter; the carrier's own code stays in the evidence."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO, client_ref="page 4711")
        await receipts(world, number, (state, error))

        assert await ended(world, number) == ("undelivered", reason, retry)
        facts = {"client_ref": "page 4711", "category": "transactional", "reason": reason}
        assert await told(world, number) == [facts | {"error": error, "retry": retry}]
        (row,) = await world.app.sent(number)
        assert (row["receipt_reason"], row["receipt_error"]) == (reason, error)
        assert world.daemon.counter(TOTAL, link=LINK, reason=reason) == 1


async def test_a_message_of_two_parts_has_the_reason_of_the_part_that_did_not_arrive(tmp_path, queue_url):
    """And of two that did not, of the one that can least be mended."""
    async with journey(tmp_path, queue_url) as world:
        half = await world.app.enqueue(TO, "x" * 200)
        await receipts(world, half, (DELIVERED, "000"), (UNDELIVERABLE, "040"))
        assert await ended(world, half) == ("undelivered", "MEMORY_FULL", "later")

        none = await world.app.enqueue(TO, "y" * 200)
        await receipts(world, none, (UNDELIVERABLE, "013"), (EXPIRED, "000"))
        assert await ended(world, none) == ("undelivered", "BARRED", "never")
        assert [data["reason"] for data in await told(world, none)] == ["BARRED"]


async def test_a_link_s_own_table_goes_before_the_shipped_one_and_a_reload_changes_it(tmp_path, queue_url):
    """This carrier counts in its own way; what was told before the change stays as it was told."""
    async with journey(tmp_path, queue_url, receipt_errors={"61": "BARRED", "*": "UNDELIVERED_SMSC"}) as world:
        own = await world.app.enqueue(TO)
        await receipts(world, own, (UNDELIVERABLE, "0061"))
        other = await world.app.enqueue(TO)
        await receipts(world, other, (UNDELIVERABLE, "001"))
        assert await ended(world, own) == ("undelivered", "BARRED", "never")
        assert await ended(world, other) == ("undelivered", "UNDELIVERED_SMSC", "unclear")

        text = world.path.read_text(encoding="utf-8")
        world.path.write_text(text.replace('"BARRED"', '"BUSY"'), encoding="utf-8")
        world.daemon.daemon._reload_asked.set()  # as SIGHUP does

        async def taken_over() -> bool:
            return world.daemon.daemon._gateway[LINK].settings.receipt_errors["61"] == "BUSY"

        await until(taken_over)
        later = await world.app.enqueue(TO)
        await receipts(world, later, (UNDELIVERABLE, "061"))

        assert await ended(world, later) == ("undelivered", "BUSY", "later")
        assert await ended(world, own) == ("undelivered", "BARRED", "never")
        assert world.daemon.is_bound()
        assert len(world.smsc.received("bind_transceiver")) == 1


async def test_an_emergency_that_was_not_delivered_is_told_and_not_sent_again(tmp_path, queue_url):
    """Whom to reach instead is for the app to say, and not for a second message to the same handset."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO, category="emergency")
        await receipts(world, number, (UNDELIVERABLE, "060"))

        assert await ended(world, number) == ("undelivered", "ABSENT", "later")
        assert await world.app.events(number) == ["job.undelivered"]
        world.daemon.hurry()
        await world.app.until_state(await world.app.enqueue(TO), "submitted")
        assert len(world.smsc.received("submit_sm")) == 2, "the emergency once, and the next one"
