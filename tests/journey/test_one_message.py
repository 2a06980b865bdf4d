"""One message from enqueue to receipt, and what stands in its submit_sm by an SMSC that reads with smpplib."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.journey.running import journey

RELATIVE = re.compile(r"0000(\d\d)(\d\d)(\d\d)(\d\d)000R")


def relative_s(validity_period: str) -> int:
    """Seconds of a relative validity_period, SMPP v3.4 section 7.1.1.2: YYMMDDhhmmss000R."""
    found = RELATIVE.fullmatch(validity_period)
    assert found is not None, validity_period
    days, hours, minutes, seconds = map(int, found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


async def test_a_message_is_enqueued_submitted_and_delivered(tmp_path, queue_url):
    """The whole way; text, addresses and requests as they must be on the wire."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.receipt_delay_s = 0.0
        number = await world.app.enqueue("+447700900123", "Hello [world] for 5 €", client_ref="visit-7")
        await world.app.until_state(number, "delivered")

        (submit,) = world.smsc.received("submit_sm")
        fields = submit.fields
        assert (fields["source_addr"], fields["source_addr_ton"], fields["source_addr_npi"]) == ("Northside", 5, 0)
        assert (fields["destination_addr"], fields["dest_addr_ton"], fields["dest_addr_npi"]) == ("447700900123", 1, 1)
        assert fields["short_message"] == b"Hello \x1b<world\x1b> for 5 \x1be"
        assert (fields["data_coding"], fields["esm_class"], fields["registered_delivery"]) == (0, 0, 1)
        assert (fields["priority_flag"], fields["protocol_id"], fields.get("schedule_delivery_time") or "") == (
            0,
            0,
            "",
        )
        assert 86_395 <= relative_s(fields["validity_period"]) <= 86_400
        (row,) = await world.app.sent(number)
        assert (row["link"], row["destination"], row["sender"], row["client_ref"]) == (
            "carrier-a", "447700900123", "Northside", "visit-7",
        )  # fmt: skip
        assert row["receipt_state"] == 40
        assert row["receipt_at"] >= row["submitted_at"]
        assert await world.app.events(number) == ["job.delivered"]


async def test_validity_and_priority_follow_the_category(tmp_path, queue_url):
    """An emergency is told as urgent and dies after an hour; a reminder is neither."""
    expected = {
        "emergency": (3, 3600), "staff": (2, 1800), "auth": (0, 300), "transactional": (0, 86_400), "marketing": (0, 259_200),
    }  # fmt: skip
    async with journey(tmp_path, queue_url) as world:
        for category in expected:
            await world.app.enqueue(body=category, category=category)
        await world.app.enqueue(body="option", category="auth", options={"priority_flag": 1})

        submits = await world.smsc.seen("submit_sm", len(expected) + 1)

        told = {submit.fields["short_message"].decode(): submit.fields for submit in submits}
        for category, (priority, life_s) in expected.items():
            assert told[category]["priority_flag"] == priority
            assert life_s - 5 <= relative_s(told[category]["validity_period"]) <= life_s
        assert told["option"]["priority_flag"] == 1


async def test_an_app_s_own_deadline_is_the_validity_on_the_wire(tmp_path, queue_url):
    """Nobody wants a reminder after the appointment."""
    async with journey(tmp_path, queue_url) as world:
        await world.app.enqueue(expires_at=datetime.now(UTC) + timedelta(minutes=10))

        (submit,) = await world.smsc.seen("submit_sm")

        assert 590 <= relative_s(submit.fields["validity_period"]) <= 600


@pytest.mark.parametrize(("receipts", "requested"), [("all", 1), ("failures", 2), ("none", 0)])
async def test_the_link_says_which_receipts_to_ask_for(tmp_path, queue_url, receipts, requested):
    """registered_delivery, SMPP v3.4 section 5.2.17; where none come, submitted is the end and has its event."""
    async with journey(tmp_path, queue_url, receipts=receipts) as world:
        number = await world.app.enqueue()
        await world.app.until_state(number, "submitted")

        (submit,) = world.smsc.received("submit_sm")
        assert submit.fields["registered_delivery"] == requested
        assert await world.app.events(number) == (["job.submitted"] if receipts == "none" else [])


@pytest.mark.parametrize("validity", ["absolute", "none"])
async def test_the_link_says_how_the_end_of_life_is_told(tmp_path, queue_url, validity):
    """Absolute in UTC, or not at all."""
    async with journey(tmp_path, queue_url, validity=validity) as world:
        before = datetime.now(UTC).replace(microsecond=0)
        await world.app.enqueue(category="emergency")
        (submit,) = await world.smsc.seen("submit_sm")

        told = submit.fields.get("validity_period") or ""
        if validity == "none":
            assert told == ""
        else:
            assert told.endswith("000+")
            end = datetime.strptime(told[:12], "%y%m%d%H%M%S").replace(tzinfo=UTC)
            assert timedelta(seconds=3595) <= end - before <= timedelta(seconds=3605)


async def test_the_parts_of_a_long_text_share_the_job_s_reference_and_come_in_order(tmp_path, queue_url):
    """The reference is the job id modulo 256: the same on every resend."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(body="x" * 400)
        submits = await world.smsc.seen("submit_sm", 3)

        assert [s.fields["short_message"][:6] for s in submits] == [
            bytes((5, 0, 3, number % 256, 3, part)) for part in (1, 2, 3)
        ]
        assert b"".join(s.fields["short_message"][6:] for s in submits) == b"x" * 400
        assert {s.fields["esm_class"] for s in submits} == {0x40}


async def test_a_category_s_optional_parameters_go_along_with_its_messages_alone(tmp_path, queue_url):
    """Some countries want the id of a registered template for each kind of text."""
    templates = [{"name": "transactional", "tlv": {"0x1401": "31303037"}}]
    async with journey(tmp_path, queue_url, categories=templates, tlv={"0x1400": "31"}) as world:
        for category in ("transactional", "informational"):
            await world.app.until_state(await world.app.enqueue(category=category), "submitted")

        first, second = world.smsc.received("submit_sm")
        assert first.octets.endswith(b"\x14\x00\x00\x011" + b"\x14\x01\x00\x041007")
        assert second.octets.endswith(b"\x14\x00\x00\x011")
