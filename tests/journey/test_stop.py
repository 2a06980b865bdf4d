"""STOP, START, HELP, and what an app suppresses: from the reply to what does not leave any more."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import Answer
from tests.journey.many_stops import many_stops
from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged
    from tests.journey.running import Journey

PATIENT = "447700900123"
OTHER = "447700900124"
REPLY = "select body from tocsin.auto_reply where kind = $1 and language = $2"


def text_to(world: Journey, text: str, source: str = PATIENT) -> None:
    world.smsc.deliver(source_addr=source, destination_addr="Northside", short_message=text.encode("ascii"))


def sent_to(world: Journey, number: str = PATIENT) -> list[str]:
    """Texts that reached the SMSC for this number, in order."""
    return [
        pdu.fields["short_message"].decode("latin-1")
        for pdu in world.smsc.received("submit_sm")
        if pdu.fields["destination_addr"] == number
    ]


async def events(world: Journey) -> list[str]:
    rows = await world.app.fetch(
        "select type from tocsin.event_log where type !~ '^(inbound.received|job)' order by seq"
    )
    return [row["type"] for row in rows]


async def fold_is_the_table(world: Journey) -> bool:
    differing = "(select * from tocsin.{0} except select * from tocsin.{1})"
    return not await world.app.value(
        "select exists "
        + differing.format("suppression", "suppression_by_events")
        + " or exists "
        + differing.format("suppression_by_events", "suppression")
    )


async def test_a_stop_is_confirmed_once_and_nothing_of_that_sender_goes_any_more(tmp_path, queue_url):
    """But a code that the person asks for does, and others get theirs; START takes it back, and that alone."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        text_to(world, " Stop. ")
        (answer,) = await world.smsc.seen("deliver_sm_resp")
        assert answer.status == 0
        row = (await world.app.fetch("select * from tocsin.suppression"))[0]
        assert (row["recipient"], row["scope"], row["value"], row["reason"]) == (
            PATIENT,
            "sender",
            "Northside",
            "OPT_OUT",
        )
        assert await world.app.value("select class from tocsin.inbox") == "stop"

        reminder = await world.app.enqueue(PATIENT)
        code = await world.app.enqueue(PATIENT, "Your code", category="auth")
        other = await world.app.enqueue(OTHER)
        await world.app.until_state(reminder, "blocked")
        await world.app.until_state(code, "submitted")
        await world.app.until_state(other, "submitted")
        assert await world.app.reason(reminder) == "SUPPRESSED_OPT_OUT"

        text_to(world, "STOP")
        await world.smsc.seen("deliver_sm_resp", 2)
        await world.smsc.until(lambda: len(sent_to(world)) == 2)
        confirmation = await world.app.value(REPLY, "stop", "en")
        assert sorted(sent_to(world)) == sorted([confirmation, "Your code"])
        assert await world.app.value("select count(*) from tocsin.suppression_event") == 2  # evidence of both

        await world.app.value("select tocsin.suppress($1, 'OTHER_CHANNEL', 'category', 'marketing')", PATIENT)
        text_to(world, "START")
        await world.smsc.seen("deliver_sm_resp", 3)
        again = await world.app.enqueue(PATIENT)
        await world.app.until_state(again, "submitted")
        held = await world.app.enqueue(PATIENT, category="marketing")
        await world.app.until_state(held, "blocked")
        assert await world.app.reason(held) == "SUPPRESSED_OTHER_CHANNEL"
        assert await events(world) == ["suppression.added", "suppression.added", "suppression.lifted"]
        assert await fold_is_the_table(world)


@pytest.mark.parametrize("way", ["reply", "app"])
async def test_what_waits_in_memory_is_taken_back(tmp_path, queue_url, way):
    """Forty jobs are claimed and wait for their tokens; no more than is on the wire already goes."""
    async with journey(tmp_path, queue_url, receipts="none", throughput_per_s=10) as world:
        jobs = [await world.app.enqueue(PATIENT, f"Reminder {number}") for number in range(14)]
        others = [await world.app.enqueue(OTHER, f"Reminder {number}") for number in range(2)]
        await world.smsc.until(lambda: len(sent_to(world)) >= 2)
        if way == "reply":
            text_to(world, "STOP")
            await world.smsc.seen("deliver_sm_resp")
        else:
            await world.app.value("select tocsin.suppress($1, 'OPT_OUT', 'sender', 'Northside')", PATIENT)
        out = len(sent_to(world)) if way == "reply" else None

        for job in others:
            await world.app.until_state(job, "submitted")
        states = [await world.app.until_state(job, "submitted", "blocked") for job in jobs]
        reminders = [text for text in sent_to(world) if text.startswith("Reminder")]
        assert len(reminders) == states.count("submitted")
        assert states.count("blocked") >= 5
        if out is not None:
            assert len(reminders) == out
        assert await world.app.fetch("select from tocsin.ready where category <> 'reply'") == []


async def test_a_long_text_that_was_stopped_half_way_has_failed(tmp_path, queue_url):
    """Two parts are out when the STOP comes: the third never leaves, and the app is told that a piece is there."""
    async with journey(tmp_path, queue_url, receipts="none", throughput_per_s=2) as world:
        job = await world.app.enqueue(PATIENT, "x" * 450)
        await world.smsc.until(lambda: len(sent_to(world)) == 1)
        text_to(world, "stop")
        await world.smsc.seen("deliver_sm_resp")
        parts = sum("x" in text for text in sent_to(world))
        await world.app.until_state(job, "failed")
        assert await world.app.reason(job) == "PARTIAL"
        await world.smsc.until(lambda: any("START" in text for text in sent_to(world)))
        assert sum("xxx" in text for text in sent_to(world)) == parts < 3


@pytest.mark.parametrize(
    ("response", "status", "outcome"),
    [(0x80000008, 0, "answered"), (0x80000008, 0x11, "answered"), (0x80000000, 0x03, "unsupported")],
    ids=["cancelled", "too_late", "not_offered"],
)
async def test_case_1_stop_while_parts_are_in_flight(tmp_path, queue_url, response, status, outcome):
    """The rest never leaves, the SMSC is asked to cancel what it has, it is confirmed once; evidence has the order."""
    async with journey(tmp_path, queue_url, throughput_per_s=2) as world:

        def answer(logged: Logged) -> None:
            if logged.command == "cancel_sm" and not logged.sent:
                world.smsc.sessions[0].send_raw(struct.pack(">LLLL", 16, response, status, logged.sequence))

        world.smsc.on_log = answer
        job = await world.app.enqueue(PATIENT, "x" * 450)
        await until(lambda: world.app.sent(job))
        text_to(world, "stop")
        await world.smsc.seen("deliver_sm_resp")
        await world.app.until_state(job, "failed")
        await until(
            lambda: world.app.value("select count(*) > 0 and bool_and(answered_at is not null) from tocsin.inquiry")
        )
        await world.smsc.until(lambda: any("START" in text for text in sent_to(world)))

        parts = await world.app.sent(job)
        assert 0 < len(parts) < 3
        asked = b"".join(pdu.octets for pdu in world.smsc.received("cancel_sm"))
        if outcome == "answered":
            assert all(row["message_id"].encode() + b"\0" in asked for row in parts)
        assert sum("START" in text for text in sent_to(world)) == 1
        assert sum("xxx" in text for text in sent_to(world)) == len(parts)

        rows = await world.app.fetch("select * from tocsin.job_evidence($1)", job)
        steps = [row["what"] for row in rows]
        assert steps.index("part_submitted") < steps.index("suppression_added") < steps.index("job_failed")
        assert steps.index("job_failed") < steps.index("smsc_cancel_asked") < steps.index("smsc_cancel_answered")
        assert steps.count("smsc_cancel_answered") == len(parts)
        said = [json.loads(row["detail"]) for row in rows if row["what"] == "smsc_cancel_answered"]
        assert (said[0]["outcome"], said[0]["command_status"]) == (outcome, status)
        (stop,) = [json.loads(row["detail"]) for row in rows if row["what"] == "suppression_added"]
        assert stop["inbound_id"] == await world.app.value("select inbound_id from tocsin.inbox")


@pytest.mark.parametrize(
    "text", ["\u062a\u0648\u0642\u0651\u0641", "\u0627\u064a\u0642\u0627\u0641"], ids=["vowel_sign", "other_alef"]
)
async def test_case_2_a_stop_in_arabic_is_confirmed_in_arabic(tmp_path, queue_url, text):
    """In UCS-2, in one part."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        ucs_2 = text.encode("utf-16-be")
        world.smsc.deliver(source_addr=PATIENT, destination_addr="Northside", short_message=ucs_2, data_coding=8)
        reminder = await world.app.enqueue(PATIENT)
        await world.app.until_state(reminder, "blocked", "submitted")
        await world.smsc.until(lambda: any(pdu.fields["data_coding"] == 8 for pdu in world.smsc.received("submit_sm")))
        later = await world.app.enqueue(PATIENT)
        await world.app.until_state(later, "blocked")

        (answer,) = [pdu for pdu in world.smsc.received("submit_sm") if pdu.fields["data_coding"] == 8]
        confirmation = await world.app.value(REPLY, "stop", "ar")
        assert answer.fields["short_message"].decode("utf-16-be") == confirmation
        assert answer.fields["esm_class"] == 0  # no header of a longer text
        assert await world.app.reason(later) == "SUPPRESSED_OPT_OUT"


@pytest.mark.parametrize(
    "text",
    ["\u0405\u0422\u041e\u0420", "\uff33\uff34\uff2f\uff30", "S\u200bT\u2060OP"],
    ids=["cyrillic", "fullwidth", "zero_width"],
)
async def test_case_4_a_stop_in_other_letters_is_a_stop(tmp_path, queue_url, text):
    async with journey(tmp_path, queue_url, receipts="none") as world:
        ucs_2 = text.encode("utf-16-be")
        world.smsc.deliver(source_addr=PATIENT, destination_addr="Northside", short_message=ucs_2, data_coding=8)
        await world.smsc.until(lambda: sent_to(world) != [])
        assert sent_to(world) == [await world.app.value(REPLY, "stop", "en")]
        assert await world.app.value("select reason from tocsin.suppression") == "OPT_OUT"


async def test_case_7_a_start_from_a_number_that_stopped_nothing_grants_and_lifts_nothing(tmp_path, queue_url):
    """The number was given to somebody else, as a database of such numbers said; HELP's answer, and no consent."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await world.app.value("select tocsin.suppress($1, 'REASSIGNED')", PATIENT)
        text_to(world, "START")
        await world.smsc.until(lambda: sent_to(world) != [])
        assert sent_to(world) == [await world.app.value(REPLY, "help", "en")]
        assert [row["reason"] for row in await world.app.fetch("select reason from tocsin.suppression")] == [
            "REASSIGNED"
        ]
        assert await world.app.value("select count(*) from tocsin.consent_event") == 0
        job = await world.app.enqueue(PATIENT)
        await world.app.until_state(job, "blocked")


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("HELP", "help", []),
        ("START", "help", []),  # nothing was stopped
        ("I have chest pain", "emergency", ["inbound.emergency"]),
        ("HELP I can't breathe", "emergency", ["inbound.emergency"]),
    ],
)
async def test_who_asks_for_help_is_answered_once(tmp_path, queue_url, text, kind, told):
    async with journey(tmp_path, queue_url, receipts="none") as world:
        text_to(world, text)
        await world.smsc.until(lambda: sent_to(world) != [])
        assert sent_to(world) == [await world.app.value(REPLY, kind, "en")]
        assert await events(world) == told
        assert await world.app.value("select count(*) from tocsin.suppression") == 0


@pytest.mark.parametrize(
    ("text", "reason", "marketing", "reminder", "code"),
    [
        ("Stop by the clinic at 5", "SOFT_HOLD", "blocked", "submitted", "submitted"),
        ("wrong number, who is this?", "WRONG_PERSON", "blocked", "blocked", "blocked"),
    ],
)
async def test_what_is_no_plain_stop_holds_what_it_must(tmp_path, queue_url, text, reason, marketing, reminder, code):
    """A person reads the first; of the second nothing may go to a stranger any more. Neither is answered."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        text_to(world, text)
        await world.smsc.seen("deliver_sm_resp")
        jobs = [await world.app.enqueue(PATIENT, category=name) for name in ("marketing", "transactional", "auth")]
        for job, state in zip(jobs, (marketing, reminder, code), strict=True):
            assert await world.app.until_state(job, "submitted", "blocked") == state
        assert await world.app.reason(jobs[0]) == f"SUPPRESSED_{reason}"
        assert await events(world) == ["suppression.added"]
        assert all(text == "Hello" for text in sent_to(world))


async def test_short_codes_and_unknown_numbers_of_ours_get_no_answer(tmp_path, queue_url):
    """A machine would answer the answer; and from a number that is not ours nothing can be sent."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        text_to(world, "STOP", source="60777")
        text_to(world, "HELP", source="Northside")
        world.smsc.deliver(source_addr=PATIENT, destination_addr="447700900999", short_message=b"STOP")
        await world.smsc.seen("deliver_sm_resp", 3)

        async def is_known() -> bool:
            return bool(await world.app.value("select count(*) from tocsin.suppression"))

        await until(is_known)
        assert [tuple(row) for row in await world.app.fetch("select scope, value from tocsin.suppression")] == [
            ("everything", "")
        ]
        job = await world.app.enqueue(OTHER)
        await world.app.until_state(job, "submitted")
        assert len(world.smsc.received("submit_sm")) == 1
        assert await world.app.value("select count(*) from tocsin.inbox where link = $1", LINK) == 3


@pytest.mark.slow
async def test_whenever_a_stop_comes_nothing_leaves_after_its_answer(tmp_path, queue_url):
    """On a busy link, by reply and by an app; `python -m tests.journey.many_stops` has a thousand of them."""
    verdict = await many_stops(tmp_path, queue_url, runs=100, seed=7)

    assert verdict.wrong == []
    assert (verdict.by_reply, verdict.by_app) == (50, 50)
    assert verdict.blocked > 100
    assert verdict.sent > 200


async def test_a_category_that_asks_for_consent_goes_to_those_who_gave_it(tmp_path, queue_url):
    """Others are blocked; what waits when it is revoked is taken back, and goes again once it is given anew."""
    marketing = {"name": "marketing", "consent": True}
    async with journey(tmp_path, queue_url, receipts="none", categories=[marketing]) as world:
        grant = "select tocsin.record_consent($1, 'marketing', clock_timestamp(), 'web_form')"
        await world.app.value(grant, PATIENT)
        jobs = [await world.app.enqueue(number, category="marketing") for number in (PATIENT, OTHER)]
        reminder = await world.app.enqueue(OTHER)
        assert await world.app.until_state(jobs[0], "submitted", "blocked") == "submitted"
        assert await world.app.until_state(jobs[1], "submitted", "blocked") == "blocked"
        assert await world.app.reason(jobs[1]) == "CONSENT_MISSING"
        await world.app.until_state(reminder, "submitted")

        await world.app.value("select tocsin.revoke_consent($1, captured_at => clock_timestamp())", PATIENT)
        job = await world.app.enqueue(PATIENT, category="marketing")
        await world.app.until_state(job, "blocked")
        assert await world.app.reason(job) == "CONSENT_REVOKED"
        await world.app.value(grant, PATIENT)
        job = await world.app.enqueue(PATIENT, category="marketing")
        await world.app.until_state(job, "submitted")


async def test_what_was_lifted_goes_at_once(tmp_path, queue_url):
    """The minute for which memory keeps a block is over with it."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await world.app.value("select tocsin.suppress($1, 'OTHER_CHANNEL')", PATIENT)
        job = await world.app.enqueue(PATIENT)
        await world.app.until_state(job, "blocked")
        assert await world.app.value("select tocsin.lift($1, 'OTHER_CHANNEL')", PATIENT)
        job = await world.app.enqueue(PATIENT)
        await world.app.until_state(job, "submitted")


async def test_a_stop_that_only_the_carrier_knows_blocks_that_sender(tmp_path, queue_url):
    """Its receipt says so by a code that the link names; our START cannot lift it, and a second receipt adds nothing."""
    async with journey(tmp_path, queue_url, receipt_errors={"099": "OPTED_OUT"}) as world:
        jobs = [await world.app.enqueue(PATIENT) for _ in range(2)]
        for submit in await world.smsc.seen("submit_sm", 2):
            (answer,) = [pdu for pdu in world.smsc.answers() if pdu.sequence == submit.sequence]
            text = f"id:{answer.fields['message_id']} sub:001 dlvrd:000 submit date:2611010000 done date:2611010000 stat:UNDELIV err:099"
            world.smsc.deliver(
                esm_class=4, source_addr=PATIENT, destination_addr="Northside", short_message=text.encode("ascii")
            )
        for job in jobs:
            await world.app.until_state(job, "undelivered")
        rows = await world.app.fetch("select scope, value, reason, source from tocsin.suppression_event")
        assert [tuple(row) for row in rows] == [("sender", "Northside", "CARRIER_BLOCK", "carrier")]

        text_to(world, "START")
        await world.smsc.seen("deliver_sm_resp", 3)
        code = await world.app.enqueue(PATIENT, category="auth")
        await world.app.until_state(code, "blocked")
        assert await world.app.reason(code) == "SUPPRESSED_CARRIER_BLOCK"
        assert await fold_is_the_table(world)


async def test_case_32_a_refusal_that_means_a_stop_at_the_carrier_blocks_that_sender(tmp_path, queue_url):
    """By its number, which the link names; what other senders have for the person, and others' messages, go."""
    async with journey(tmp_path, queue_url, receipts="none", status_overrides={"0x00000456": "opted_out"}) as world:
        world.smsc.on_submit = lambda submit: Answer(
            status=0x456 if submit.fields["destination_addr"] == PATIENT else 0
        )
        job = await world.app.enqueue(PATIENT)
        other = await world.app.enqueue(OTHER)
        await world.app.until_state(job, "failed")
        await world.app.until_state(other, "submitted")
        assert await world.app.reason(job) == "OPTED_OUT"
        rows = await world.app.fetch("select recipient, scope, value, reason, source from tocsin.suppression_event")
        assert [tuple(row) for row in rows] == [(PATIENT, "sender", "Northside", "CARRIER_BLOCK", "carrier")]
        assert await events(world) == ["suppression.added"]

        code = await world.app.enqueue(PATIENT, category="auth")
        await world.app.until_state(code, "blocked")
        assert await world.app.reason(code) == "SUPPRESSED_CARRIER_BLOCK"
        assert len(world.smsc.received("submit_sm")) == 2
        assert await fold_is_the_table(world)


async def test_a_stop_binds_emergencies_of_its_sender_and_no_pages_of_staff(tmp_path, queue_url):
    """Who refused an emergency's number is reached another way; a member of staff is paged all the same."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        text_to(world, "STOP")
        await world.smsc.seen("deliver_sm_resp")
        alert = await world.app.enqueue(PATIENT, category="emergency")
        page = await world.app.enqueue(PATIENT, category="staff")
        await world.app.until_state(alert, "blocked")
        await world.app.until_state(page, "submitted")
        assert await world.app.reason(alert) == "SUPPRESSED_OPT_OUT"


async def test_a_confirmation_that_cannot_go_for_five_minutes_never_goes(tmp_path, queue_url):
    """A late one would need a reason of its own (47 CFR 64.1200(a)(12))."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await world.app.value("select tocsin.set_paused('link', $1, true, '', 'test')", LINK)
        await until(lambda: world.app.value("select paused from tocsin.link"))

        async def is_paused() -> bool:
            return bool(world.daemon.daemon._gateway[LINK].is_paused)

        await until(is_paused)
        text_to(world, "STOP")
        await world.smsc.seen("deliver_sm_resp")
        life = "select expires_at - enqueued_at from tocsin.ready where category = 'reply'"
        assert (await world.app.value(life)).total_seconds() == 300
        await world.app.connection.execute("update tocsin.ready set expires_at = now() - interval '1 second'")
        await world.app.value("select tocsin.set_paused('link', $1, false, '', 'test')", LINK)
        job = await world.app.enqueue(OTHER)
        await world.app.until_state(job, "submitted")
        assert sent_to(world) == []
