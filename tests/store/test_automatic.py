"""tocsin.heed: what is answered by itself, to whom, how often, and what is held back."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dispatcher.recogniser import recognise
from dispatcher.store import QUERIES, array, texts
from tests.events import visible
from tests.store.seed import app_session, connect, seeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

PATIENT = "447700900123"
PAGER = "+447700900900"  # of which a STOP reaches nothing
CODES = "Codes"  # the same
TEXTS = {
    "stop": "Stopped. START takes it back.", "staff_stop": "Pages go on.", "start": "Started.", "help": "Northside, 555-0100.",
    "emergency": "Call 999 now.", "received": "Thanks. We answer within 2 hours.", "closed": "We open at {opens}.",
}  # fmt: skip
OPENING = "2026-11-30 08:00"
AGE = "update tocsin.automatic_reply set at = at - $1::text::interval"


@asynccontextmanager
async def numbers(url: str, **texts_of: str) -> AsyncIterator[asyncpg.Connection]:
    """Senders of ours with a text of each kind, and a keyword."""
    async with seeded(url) as root:
        await root.execute(
            "insert into tocsin.category (name, lane, time_to_live, on_doubt, stop, flash, max_parts) values"
            " ('reply', 1, '300 s', 'hold', 'exempt', 'no', 10), ('auth', 2, '300 s', 'hold', 'exempt', 'no', 10);"
            f"insert into tocsin.sender values ('{PAGER}', 3, '{{staff,reply}}', null), ('{CODES}', 4, '{{auth}}', null),"
            " ('Elsewhere', 5, '{transactional}', '{b}')"
        )
        await root.executemany(
            "insert into tocsin.auto_reply (kind, body) values ($1, $2)", list((TEXTS | texts_of).items())
        )
        await root.execute(
            "insert into tocsin.keyword (form, sender, name, body) values ('WHERE', '', 'way', '1 Hill Street.')"
        )
        yield root


class Said:
    """What became of a text: its class, the kind of its answer and its words; events by type."""

    def __init__(self, kind: str, answer: asyncpg.Record | None, events: dict[str, Any]) -> None:
        self.kind = kind
        self.answer = answer["kind"] if answer else None
        self.body = answer["body"] if answer else None
        self.events = events


async def say(
    root: asyncpg.Connection,
    text: str,
    *,
    source: str = PATIENT,
    to: str = "Northside",
    opening: str | None = None,
    link: str = "a",
) -> Said:
    """Let a handset say something, as a daemon stores it."""
    asked = recognise(text)
    wish = None if asked.wish == "none" else asked.wish.value
    before = await root.fetchval("select coalesce(max(seq), 0) from tocsin.event_log")
    (row,) = await root.fetch(
        QUERIES["store_inbound"],
        *(texts([value]) for value in (link, source, to, text, wish or "text", "")),
        *(array([0]), array([0]), texts(["00"]), texts([link]), array([1]), array([1]), texts([None])),
        *(texts([value]) for value in (wish, asked.language, asked.emergency)),
        opening,
    )
    answer = await root.fetchrow(
        "select a.kind, r.body from tocsin.automatic_reply a join tocsin.ready r on r.id = a.job_id where a.inbound_id = $1",
        row["inbound_id"],
    )
    told = await root.fetch("select type, reason, detail, subject from tocsin.event_log where seq > $1", before)
    for one in told:
        assert text not in str(one)
        assert source not in str(one)
    return Said(
        row["class"], answer, {one["type"]: {"reason": one["reason"], **json.loads(one["detail"])} for one in told}
    )


async def test_a_free_text_is_acknowledged_once_in_four_hours(shared_url):
    """To each number of ours; somebody else has an acknowledgement of their own."""
    async with numbers(shared_url) as root:
        first = await say(root, "Can I come at ten?")
        assert (first.kind, first.answer, first.body) == ("text", "received", TEXTS["received"])
        assert (await say(root, "Or at eleven?")).answer is None
        assert (await say(root, "Can I come?", source="+447700900124")).answer == "received"
        assert (await say(root, "Can I come?", to="Clinic")).answer == "received"
        await root.execute(AGE, "3 h 59 min")
        assert (await say(root, "Hello?")).answer is None
        await root.execute(AGE, "1 min")
        assert (await say(root, "Hello?")).answer == "received"


async def test_outside_of_our_hours_it_says_when_we_open_once_until_then(shared_url):
    """However long that is; the next closed period has its own, and in between it is acknowledged."""
    async with numbers(shared_url) as root:
        first = await say(root, "Can I come at ten?", opening=OPENING)
        assert (first.answer, first.body) == ("closed", "We open at 2026-11-30 08:00.")
        await root.execute(AGE, "13 days")
        assert (await say(root, "Hello?", opening=OPENING)).answer is None
        assert (await say(root, "Hello?")).answer == "received"
        assert (await say(root, "And tonight?", opening="2026-12-01 08:00")).body == "We open at 2026-12-01 08:00."


@pytest.mark.parametrize(("body", "answer"), [("We open at {opens}.", None), ("We are closed.", "closed")])
async def test_what_names_an_opening_that_is_not_known_is_not_sent(shared_url, body, answer):
    """Nobody gets a text with a hole in it."""
    async with numbers(shared_url, closed=body) as root:
        assert (await say(root, "Hello?", opening="")).answer == answer
        assert (await say(root, "Hello?", opening="")).answer is None


@pytest.mark.parametrize("opening", [None, OPENING])
async def test_without_a_text_of_the_operator_nothing_is_acknowledged(shared_url, opening):
    async with numbers(shared_url) as root:
        await root.execute("delete from tocsin.auto_reply where kind in ('received', 'closed')")
        said = await say(root, "Can I come at ten?", opening=opening)
        assert (said.kind, said.answer, list(said.events)) == ("text", None, ["inbound.received"])


async def test_a_text_with_a_word_of_stop_in_it_is_held_and_acknowledged(shared_url):
    async with numbers(shared_url) as root:
        said = await say(root, "Stop by the clinic at 5")
        assert (said.kind, said.answer) == ("soft_stop", "received")
        assert said.events["suppression.added"]["reason"] == "SOFT_HOLD"


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("STOP", "stop", "stop"),
        ("START", "start", "help"),
        ("HELP", "help", "help"),
        ("where?", "keyword", "keyword"),
        ("wrong number", "wrong_person", None),
        ("I have chest pain", "text", "emergency"),
        ("I have chest pain, stop by", "soft_stop", "emergency"),
    ],
)
@pytest.mark.parametrize("opening", [None, OPENING])
async def test_what_asks_for_something_has_its_own_answer_at_any_hour_and_no_other(
    shared_url, text, kind, answer, opening
):
    """Nobody with chest pain is told to wait for two hours, nor until the morning."""
    async with numbers(shared_url) as root:
        said = await say(root, text, opening=opening)
        assert (said.kind, said.answer) == (kind, answer)
        assert await root.fetchval("select count(*) from tocsin.ready") == (answer is not None)


async def test_without_a_text_for_an_emergency_none_is_acknowledged_either(shared_url):
    async with numbers(shared_url, emergency="") as root:
        assert (await say(root, "I have chest pain")).answer is None


async def test_the_same_stop_again_is_not_acknowledged(shared_url):
    async with numbers(shared_url) as root:
        assert [(await say(root, "STOP")).answer for _ in range(2)] == ["stop", None]


@pytest.mark.parametrize(
    ("to", "answer", "recorded_only"),
    [(PAGER, "staff_stop", True), (CODES, "staff_stop", True), ("Clinic", "stop", None), ("447700900999", None, None)],
)
async def test_case_14_a_stop_to_a_number_of_which_it_reaches_nothing_is_recorded_and_explained(
    shared_url, to, answer, recorded_only
):
    """Whoever answers for the staff hears that pages go on; the ledger has it in any case."""
    async with numbers(shared_url) as root:
        said = await say(root, "STOP", to=to)
        assert (said.kind, said.answer) == ("stop", answer)
        assert said.events["suppression.added"].get("recorded_only") is recorded_only
        row = await root.fetchrow("select reason, evidence from tocsin.suppression_event")
        assert (row["reason"], json.loads(row["evidence"]).get("recorded_only")) == ("OPT_OUT", recorded_only)


async def test_only_a_reply_says_that_messages_go_on(shared_url):
    """An app's evidence is its own, and in no event."""
    async with numbers(shared_url) as root:
        await root.execute(
            "select tocsin.suppress($1, 'OPT_OUT', evidence => $2)", PATIENT, '{"recorded_only": "text"}'
        )
        assert "recorded_only" not in await root.fetchval("select detail from tocsin.event_log")


# ---------------------------------------------------------------- loops

HELD = {"reason": "AUTOREPLY_LOOP", "link": "a"}


async def test_case_27_a_number_of_ours_is_obeyed_and_not_answered(shared_url):
    async with numbers(shared_url) as root:
        for text, kind in (
            ("Hello?", "received"),
            ("HELP", "help"),
            ("STOP", "stop"),
            ("chest pain", "emergency"),
            ("where", "keyword"),
        ):
            said = await say(root, text, source=PAGER.lstrip("+"))
            assert (said.answer, said.events["inbound.loop"]) == (None, HELD | {"kind": kind}), text
        assert await root.fetchval("select reason from tocsin.suppression") == "OPT_OUT"


@pytest.mark.parametrize(("reason", "answer"), [("INVALID", None), ("LANDLINE", None), ("OTHER_CHANNEL", "help")])
async def test_case_27_who_cannot_read_it_is_not_answered(shared_url, reason, answer):
    async with numbers(shared_url) as root:
        await root.execute("select tocsin.suppress($1, $2)", PATIENT, reason)
        said = await say(root, "HELP")
        assert (said.answer, "inbound.loop" in said.events) == (answer, answer is None)


@pytest.mark.parametrize("source", ["60777", "Northside"])
async def test_case_27_a_short_code_or_a_name_is_not_answered(shared_url, source):
    async with numbers(shared_url) as root:
        said = await say(root, "Hello?", source=source)
        assert (said.kind, said.answer, list(said.events)) == ("text", None, ["inbound.received"])


@pytest.mark.parametrize("text", ["thanks. WE answer within 2 hours", "Northside, 555-0100.", "1 Hill Street!"])
async def test_case_27_our_own_words_are_not_answered_when_they_come_back(shared_url, text):
    """In whatever case and punctuation; those of a keyword, too."""
    async with numbers(shared_url) as root:
        said = await say(root, text)
        assert (said.answer, said.events["inbound.loop"]) == (None, HELD | {"kind": "received"})


@pytest.mark.parametrize("text", ["\u2705", "Thanks. We answer within 2 hours, you said?"])
async def test_a_text_that_is_not_all_of_ours_is_no_echo(shared_url, text):
    """Nor is one without letters, though a text of ours has none either."""
    async with numbers(shared_url, start="\u2705") as root:
        assert (await say(root, text)).answer == "received"


@pytest.mark.parametrize("text", ["I'm driving", "Out of office until Monday", "Automatic reply: thank you"])
@pytest.mark.parametrize("opening", [None, OPENING])
async def test_case_27_an_auto_responder_is_not_acknowledged(shared_url, text, opening):
    async with numbers(shared_url) as root:
        said = await say(root, text, opening=opening)
        assert (said.kind, said.answer) == ("auto_responder", None)
        assert said.events["inbound.loop"]["reason"] == "AUTOREPLY_LOOP"


async def test_case_27_nobody_gets_more_than_five_answers_in_a_day_that_they_did_not_ask_for(shared_url):
    """Whichever number of ours they write to; STOP, START, HELP and words of emergency are answered all the same."""
    async with numbers(shared_url) as root:
        tos = ["Northside", "Clinic", PAGER, "Northside", "Clinic"]
        assert [(await say(root, "where", to=to)).answer for to in tos] == ["keyword"] * 5
        for text, kind in (("where", "keyword"), ("Hello?", "received")):
            said = await say(root, text, to=CODES)
            assert (said.kind, said.answer) == ("text" if kind == "received" else "keyword", None)
            assert said.events["inbound.loop"] == HELD | {"kind": kind}
        for text, kind in (("HELP", "help"), ("STOP", "stop"), ("START", "start"), ("chest pain", "emergency")):
            assert (await say(root, text)).answer == kind, text
        assert (await say(root, "where", source="447700900124")).answer == "keyword"
        await root.execute(AGE, "24 h")
        assert (await say(root, "where")).answer == "keyword"


@pytest.mark.parametrize(("text", "kind"), [("HELP", "help"), ("chest pain", "emergency"), ("START", "help")])
async def test_case_27_the_same_within_a_minute_is_answered_once(shared_url, text, kind):
    """By the same number of ours; afterwards again."""
    async with numbers(shared_url) as root:
        assert (await say(root, text)).answer == kind
        again = await say(root, text)
        assert (again.answer, again.events["inbound.loop"]) == (None, HELD | {"kind": kind})
        assert (await say(root, text, to="Clinic")).answer == kind
        await root.execute(AGE, "61 s")
        assert (await say(root, text)).answer == kind


async def test_case_27_a_stop_within_a_minute_is_obeyed_and_confirmed_once(shared_url):
    async with numbers(shared_url) as root:
        assert [(await say(root, text)).answer for text in ("STOP", "START")] == ["stop", "start"]
        said = await say(root, "STOP")
        assert (said.answer, set(said.events)) == (None, {"inbound.received", "inbound.loop", "suppression.added"})
        assert await root.fetchval("select count(*) from tocsin.suppression") == 1


async def test_an_auto_responder_with_words_of_emergency_is_answered_five_times_a_day(shared_url):
    """A person may have written it; the absence note of a doctor is no conversation without an end."""
    async with numbers(shared_url) as root:
        answers = []
        for _ in range(7):
            said = await say(root, "Out of office. With chest pain call 999.")
            assert "inbound.emergency" in said.events
            answers.append(said.answer)
            await root.execute(AGE, "2 min")
        assert answers == ["emergency"] * 5 + [None] * 2


async def test_nothing_is_held_back_that_would_not_have_been_sent(shared_url):
    """No text, a number that is not ours, or one that may not send over this link: no event either."""
    async with numbers(shared_url, help="") as root:
        for text, to in (("HELP", "Northside"), ("Hello?", "447700900999"), ("Hello?", "Elsewhere")):
            said = await say(root, text, to=to, source=PAGER.lstrip("+"))
            assert (said.answer, list(said.events)) == (None, ["inbound.received"])


async def test_an_app_sees_that_something_was_held_back(shared_url):
    """As it sees the text itself."""
    async with numbers(shared_url) as root, app_session(root, shared_url) as own:
        await say(root, "Hello?", source=PAGER.lstrip("+"))
        await visible(root)
        (event,) = await own.fetch("select data from tocsin.event where type = 'inbound.loop'")
        assert json.loads(event["data"]) == HELD | {"kind": "received"}


async def test_of_two_texts_at_once_one_is_acknowledged(shared_url):
    """Over two links, which two instances may have: the second waits for the first one's commit."""
    async with numbers(shared_url) as root:
        others = [await connect(shared_url) for _ in range(2)]
        first = others[0].transaction()
        await first.start()
        assert (await say(others[0], "Can I come?")).answer == "received"
        second = asyncio.create_task(say(others[1], "Or my daughter?", link="b"))
        while not await root.fetchval("select count(*) from pg_locks where locktype = 'advisory' and not granted"):
            assert not second.done()
        await first.commit()
        assert (await second).answer is None
        for other in others:
            await other.close()


async def test_texts_of_one_statement_count_one_after_the_other(shared_url):
    """A person who writes two texts in a breath is acknowledged once, and in the order of the texts."""
    async with numbers(shared_url) as root:
        said = ["Hello?", "One more thing", "HELP"]
        wishes = [recognise(text).wish.value for text in said]
        count = len(said)
        rows = await root.fetch(
            QUERIES["store_inbound"],
            *(texts([value] * count) for value in ("a", PATIENT, "Northside")),
            *(
                texts(said),
                texts(["text", "text", "help"]),
                texts([""] * count),
                array([0] * count),
                array([0] * count),
            ),
            *(texts(["00"] * count), texts(["a"]), array([1]), array([1] * count), texts([None] * count)),
            *(texts([None if wish == "none" else wish for wish in wishes]), texts([""] * count), texts([None] * count)),
            None,
        )
        assert [row["answer"] is not None for row in rows] == [True, False, True]
        assert [row["class"] for row in rows] == ["text", "text", "help"]
