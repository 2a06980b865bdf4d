"""A job that asks something, and the reply that answers it; the cases' numbers are those of the list of hard replies."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.journey.running import journey, until
from tests.journey.test_stop import OTHER, PATIENT, sent_to, text_to

if TYPE_CHECKING:
    from tests.journey.running import Journey

KEYSET = {"C": "confirm", "YES": "confirm", "R": "reschedule", "نعم": "confirm"}


async def ask(world: Journey, number: str = PATIENT, *, state: str = "submitted", **more: object) -> int:
    """Ask for a visit to be confirmed, and have it accepted."""
    expect = {"answers": KEYSET, **more}
    job = await world.app.enqueue(
        number, f"Reply C {more.get('code', '')} or R", options={"expect": expect}, client_ref="visit"
    )
    await world.app.until_state(job, state)
    return job


async def replies(world: Journey) -> list[tuple[str, int, str | None]]:
    """What apps were told of replies: type, job and answer."""
    rows = await world.app.fetch(
        "select type, subject::bigint as job, client_ref, detail from tocsin.event_log where type like 'reply.%' order by seq"
    )
    assert all(row["client_ref"] == "visit" for row in rows)
    return [(row["type"], row["job"], json.loads(row["detail"] or "{}").get("answer")) for row in rows]


async def classes(world: Journey) -> list[str]:
    rows = await world.app.fetch("select class from tocsin.inbox order by inbound_id")
    return [row["class"] for row in rows]


async def say(world: Journey, *texts: str, source: str = PATIENT) -> None:
    """Send texts one after the other, each once the one before was answered."""
    for text in texts:
        answered = len(world.smsc.received("deliver_sm_resp"))
        if text.isascii():
            text_to(world, text, source)
        else:
            world.smsc.deliver(
                source_addr=source, destination_addr="Northside", data_coding=8, short_message=text.encode("utf-16-be")
            )
        answers = await world.smsc.seen("deliver_sm_resp", answered + 1)
        assert answers[-1].status == 0


@pytest.mark.parametrize("text", ["C", " c. ", "yes please", "YES", "نَعَم", "\uff23"])
async def test_an_answer_belongs_to_the_one_question_that_is_open(tmp_path, queue_url, text):
    """It is told in the transaction that stores it, before the SMSC has its response; no text and no number is told."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        job = await ask(world)
        await ask(world, OTHER)
        await say(world, text)
        assert await replies(world) == [("reply.matched", job, "confirm")]
        inbound = await world.app.value("select inbound_id from tocsin.inbox")
        detail = await world.app.value("select detail from tocsin.event_log where type = 'reply.matched'")
        assert json.loads(detail) == {"inbound_id": inbound, "answer": "confirm"}
        assert await classes(world) == ["answer"]


@pytest.mark.parametrize("text", ["maybe", "\u2705", "...", "C U later", "4821"])
async def test_what_is_no_word_of_the_keyset_answers_nothing(tmp_path, queue_url, text):
    """Case 31: a reply without letters confirms no visit."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await ask(world)
        await say(world, text)
        assert await replies(world) == []
        assert await classes(world) == ["text"]


async def test_case_5_cancel_as_an_answer_is_refused_at_enqueue_and_stops_all_the_same(tmp_path, queue_url):
    async with journey(tmp_path, queue_url, receipts="none") as world:
        enqueue = "select reason from tocsin.enqueue_many($1)"
        for word in ("CANCEL", "cancel please", "Yes, stop texting", "start", "\u2705", "توقّف", "ЅТОР"):
            wish = [{"recipient": PATIENT, "body": "?", "options": {"expect": {"answers": {word: "no"}}}}]
            assert (await world.app.value(enqueue, json.dumps(wish))).startswith(
                "options: expect.answers has a word"
            ), word
        await ask(world)
        await say(world, "CANCEL")
        assert await replies(world) == []
        assert await classes(world) == ["stop"]


async def test_case_6_yes_from_a_number_that_sent_stop_answers_and_subscribes_to_nothing(tmp_path, queue_url):
    async with journey(tmp_path, queue_url, receipts="none") as world:
        job = await ask(world)
        await say(world, "STOP", "YES")
        assert await replies(world) == [("reply.matched", job, "confirm")]
        assert await world.app.value("select reason from tocsin.suppression") == "OPT_OUT"
        later = await world.app.enqueue(PATIENT)
        await world.app.until_state(later, "blocked")


async def test_case_25_two_honest_answers_are_kept_and_count_once(tmp_path, queue_url):
    """And a later one that differs is told as a change."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        job = await ask(world)
        await say(world, "YES", "YES", "R")
        assert await replies(world) == [("reply.matched", job, "confirm"), ("reply.changed", job, "reschedule")]
        assert await classes(world) == ["answer"] * 3


async def test_case_26_one_answer_to_two_questions_is_asked_about_once_and_a_code_picks(tmp_path, queue_url):
    """The family's phone: two children's visits."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        first = await ask(world, code="4821")
        second = await ask(world, code="4822")
        await say(world, "c", "c")
        await world.smsc.until(lambda: len(sent_to(world)) == 3)
        assert sent_to(world)[2] == "Which message do you answer? Please reply with its code: C 4821, C 4822"
        await say(world, "4822", "R 4821", "c")
        await until(lambda: world.app.value("select not exists (select from tocsin.ready)"))
        assert await replies(world) == [
            ("reply.ambiguous", second, None),
            ("reply.ambiguous", first, None),
            ("reply.ambiguous", second, None),
            ("reply.ambiguous", first, None),
            ("reply.matched", second, "confirm"),
            ("reply.matched", first, "reschedule"),
        ]
        assert (await classes(world))[:4] == ["ambiguous", "ambiguous", "answer", "answer"]
        assert len(sent_to(world)) == 3
        await say(world, "STOP")  # of the number, whosever visits they are
        assert await world.app.value("select count(*) from tocsin.suppression") == 1


async def test_two_questions_about_one_thing_are_one(tmp_path, queue_url):
    """The second reminder of a visit stands for the first one, which ends without a word."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await ask(world, subject="visit 7")
        again = await ask(world, subject="visit 7")
        await say(world, "C")
        assert await replies(world) == [("reply.matched", again, "confirm")]
        assert await world.app.value("select count(*) from tocsin.expectation where answer is null") == 0


async def test_the_first_answer_takes_back_what_waits_of_its_group(tmp_path, queue_url):
    """The second reminder, in the transaction that keeps the reply, and no app had to do it; what is of no group goes."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        later = {"not_before": datetime.now(UTC) + timedelta(hours=1)}
        options = {"expect": {"answers": KEYSET}, "cancel_group": "visit 7"}
        first = await world.app.enqueue(PATIENT, "Reply C or R", options=options, client_ref="visit")
        second = await world.app.enqueue(PATIENT, "Please answer", options={"cancel_group": "visit 7"}, **later)
        other = await world.app.enqueue(PATIENT, "Bring your card", **later)
        await world.app.until_state(first, "submitted")

        await say(world, "What was the time?")
        assert (await world.app.states()).get("cancelled") is None
        await say(world, "C", "R")
        assert await replies(world) == [("reply.matched", first, "confirm"), ("reply.changed", first, "reschedule")]
        detail = await world.app.value("select detail from tocsin.event_log where type = 'reply.matched'")
        assert json.loads(detail)["cancelled"] == [second]
        assert await world.app.until_state(second, "cancelled") == "cancelled"
        assert await world.app.value("select id from tocsin.deferred") == other


async def test_a_job_of_the_group_that_somebody_holds_does_not_keep_the_answer(tmp_path, queue_url):
    """After the lock's time-out the reply is stored and told without it, and its app can cancel it."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        options = {"expect": {"answers": KEYSET}, "cancel_group": "visit 7"}
        first = await world.app.enqueue(PATIENT, "Reply C or R", options=options, client_ref="visit")
        at = datetime.now(UTC) + timedelta(hours=1)
        second = await world.app.enqueue(PATIENT, "Please answer", options={"cancel_group": "visit 7"}, not_before=at)
        await world.app.until_state(first, "submitted")
        async with world.app.connection.transaction():
            await world.app.connection.execute("select from tocsin.deferred where id = $1 for update", second)
            await say(world, "C")
        assert await replies(world) == [("reply.matched", first, "confirm")]
        assert (await world.app.states()) == {"submitted": 1, "deferred": 1}


async def test_a_question_that_was_not_sent_yet_is_not_answered(tmp_path, queue_url):
    """Next week's reminder does not make today's answer unclear."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        later = await world.app.value(
            "select job_id from tocsin.enqueue($1, 'C or R?', not_before => now() + interval '1 day', options => $2)",
            PATIENT,
            json.dumps({"expect": {"answers": KEYSET}}),
        )
        job = await ask(world)
        await say(world, "C")
        assert await replies(world) == [("reply.matched", job, "confirm")]
        assert await world.app.value("select answer from tocsin.expectation where job_id = $1", later) is None


async def test_at_the_deadline_the_app_is_told_that_no_answer_came(tmp_path, queue_url):
    """Once; not of what was answered, nor of a question that never left."""
    async with journey(tmp_path, queue_url, receipts="none") as world:
        silent = await ask(world, deadline=3600)
        await ask(world, OTHER)
        await say(world, "C", source=OTHER)
        await world.app.value("select tocsin.suppress('447700900199', 'OTHER_CHANNEL')")
        await ask(world, "447700900199", state="blocked")
        await world.app.connection.execute("update tocsin.expectation set deadline = now()")
        world.daemon.hurry()

        async def is_over() -> bool:
            return not await world.app.value("select exists (select from tocsin.expectation)")

        await until(is_over)
        assert [what for what in await replies(world) if what[0] == "reply.timeout"] == [
            ("reply.timeout", silent, None)
        ]
        await say(world, "C")
        assert (await classes(world))[-1] == "text"


DIRECTIONS = {"name": "directions", "words": ["where", "wo", "C"], "reply": "1 Hill Street"}


async def test_a_keyword_is_told_and_answered_once(tmp_path, queue_url):
    """In any spelling; a question that is open goes before it, and STOP before both."""
    async with journey(tmp_path, queue_url, receipts="none", tables=[("[[keyword]]", DIRECTIONS)]) as world:
        await say(world, "Where, please?")
        await world.smsc.until(lambda: sent_to(world) == ["1 Hill Street"])
        rows = await world.app.fetch("select subject, detail from tocsin.event_log where type = 'inbound.keyword'")
        inbound = await world.app.value("select inbound_id from tocsin.inbox")
        assert [(row["subject"], json.loads(row["detail"])["keyword"]) for row in rows] == [
            (str(inbound), "directions")
        ]
        assert world.daemon.counter("tocsin_inbound_total", **{"link": "carrier-a", "class": "keyword"}) == 1

        await ask(world)
        await say(world, "C", "STOP", "somewhere")
        assert await classes(world) == ["keyword", "answer", "stop", "text"]
