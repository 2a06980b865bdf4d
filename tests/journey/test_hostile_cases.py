"""Bad inputs and bad moments of healthcare messaging, each under its number, from the app to the SMSC."""

from __future__ import annotations

import json

import asyncpg
import pytest

from tests.fakes.smsc import Answer, Smsc
from tests.journey.handset import Taken, messages
from tests.journey.running import LINK, Child, app_of, journey, until, write_file

PATIENT = "447700900123"
STAFF = "447700900124"


async def test_case_16_a_loop_under_new_keys_sends_one_message_and_is_counted(tmp_path, queue_url):
    """The app reads of each refusal, and the daemon, which had no part in them, counts them for the alert."""
    enqueue = "select job_id from tocsin.enqueue($1, 'Please call us', idempotency_key => $2)"
    policy = [("[policy]", {"duplicate_text_within_s": 3600.0})]
    async with journey(tmp_path, queue_url, tables=policy) as world:
        ids = [await world.app.value(enqueue, PATIENT, f"loop {n}") for n in range(500)]
        await world.app.until_state(ids[0], "submitted")

        async def counted() -> bool:
            world.daemon.hurry()
            return world.daemon.counter("tocsin_repeated_texts_total", category="transactional") == 499

        await until(counted)
        assert await world.app.states() == {"submitted": 1, "blocked": 499}
        assert await world.app.reason(ids[1]) == "DUP_CONTENT"
        assert await world.app.events(ids[1]) == ["job.blocked"]
        assert len(world.smsc.received("submit_sm")) == 1


async def test_case_24_a_crash_between_a_write_and_its_answer(tmp_path, queue_url):
    """An emergency goes once more, marked as perhaps double; a reminder stays in doubt. The evidence says both."""
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.on_submit = lambda _: Answer(withhold=True)
        async with Child(write_file(tmp_path, queue_url, {LINK: {"port": smsc.port}})) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            reminder = await app.enqueue(PATIENT)
            alert = await app.enqueue(STAFF, category="emergency")
            await smsc.seen("submit_sm", 2)
            child.kill()
            await child.wait()
            smsc.on_submit = lambda _: Answer()
            await child.start()
            await app.until_state(alert, "submitted", timeout_s=20.0)
            await app.until_state(reminder, "uncertain")

            written = [pdu.fields["destination_addr"] for pdu in smsc.received("submit_sm")]
            assert (written.count(STAFF), written.count(PATIENT)) == (2, 1)
            assert await app.reason(alert) == "POSSIBLE_DUPLICATE"
            steps = {
                job: [row["what"] for row in await app.fetch("select what from tocsin.job_evidence($1)", job)]
                for job in (alert, reminder)
            }
            assert steps[alert] == ["enqueued", "job_uncertain", "job_resent", "part_submitted"]
            assert steps[reminder] == ["enqueued", "job_uncertain"]


@pytest.mark.parametrize(
    "text",
    [
        "Dear {{ name }}, ${secret} %s {0}",
        "'); drop table tocsin.ready; --",
        "See https://clinic.example/a?b=1\r\nand\treply",
        "מועד\u200f: 14:30\u200e, נעים\u00ad \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩\u200d⚕️" * 12,
    ],
    ids=["template", "sql", "url_and_newlines", "marks_of_direction", "emoji"],
)
async def test_case_29_a_text_is_data_and_arrives_as_it_was_enqueued(tmp_path, queue_url, text):
    """Nothing in it is a template, a statement or a command to a link; nothing is taken out or turned round."""
    async with journey(tmp_path, queue_url) as world:
        job = await world.app.enqueue(PATIENT, text)
        await world.app.until_state(job, "submitted")

        taken = [
            Taken(
                pdu.fields["destination_addr"],
                pdu.fields["data_coding"],
                pdu.fields["esm_class"],
                pdu.fields["short_message"],
            )
            for pdu in world.smsc.received("submit_sm")
        ]
        assert messages(taken) == {(PATIENT, text): 1}


async def test_case_29_a_text_with_a_control_character_is_refused_alone(tmp_path, queue_url):
    """Bell, escape and form feed; a total that reads backwards. The character is named, the text is not; the others of the call go."""
    names = {"Anna\x07": "U+0007", "\x1b[2JAnna": "U+001B", "Anna\f1": "U+000C", "Anna \u202eFDP.exe\u202c": "U+202E"}
    async with journey(tmp_path, queue_url) as world:
        for text, name in names.items():
            with pytest.raises(asyncpg.PostgresError) as raised:
                await world.app.enqueue(PATIENT, text)
            error = raised.value
            assert (error.sqlstate, error.column_name, error.message) == (
                *("TC400", "body"),
                f"body: has the control character {name}",
            )
            assert "Anna" not in str(error.as_dict())  # detail and context neither
        jobs = [{"recipient": PATIENT, "body": text} for text in [*names, "Dear {{ name }}"]]
        rows = await world.app.fetch("select * from tocsin.enqueue_many($1) order by item", json.dumps(jobs))
        assert [row["outcome"] for row in rows] == ["invalid"] * 4 + ["queued"]
        assert [row["reason"] for row in rows[:4]] == [
            f"body: has the control character {name}" for name in names.values()
        ]
        await world.app.until_state(rows[4]["job_id"], "submitted")

        assert [pdu.fields["short_message"] for pdu in world.smsc.received("submit_sm")] == [
            b"Dear \x1b(\x1b( name \x1b)\x1b)"
        ]


@pytest.mark.parametrize("text", ["Anna" * 1000, "Reminder for " + "Anna" * 150 + " 🙂"], ids=["long", "one_emoji"])
async def test_case_29_a_text_of_too_many_parts_is_refused_whole(tmp_path, queue_url, text):
    """A long name, or one emoji that makes two parts of each: TC400 names the field, and nothing is cut or sent."""
    async with journey(tmp_path, queue_url, categories=[{"name": "transactional", "max_parts": 8}]) as world:
        with pytest.raises(asyncpg.PostgresError) as raised:
            await world.app.enqueue(PATIENT, text)

        assert (raised.value.sqlstate, raised.value.column_name) == ("TC400", "body")
        assert "Anna" not in str(raised.value)
        assert await world.app.states() == {}
        assert world.smsc.received("submit_sm") == []
