"""`expect` of a request's options: what is refused of it, and that a keyset's words are compared as the recogniser compares texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dispatcher.recogniser import known_words, normal_form
from dispatcher.stop_words import EMERGENCY, HELP, START, STOP, STOP_PHRASES, WRONG_PERSON
from dispatcher.store import QUERIES
from tests.store.seed import seeded

if TYPE_CHECKING:
    import asyncpg

WORDS = [
    word
    for words in (STOP, START, HELP, STOP_PHRASES, WRONG_PERSON, EMERGENCY)
    for its in words.values()
    for word in its
]
SPELT = [
    spelt for word in WORDS for spelt in (word, word.title(), f" «{word.upper()}»!\u200b", word.replace("o", "\uff4f"))
]


async def reason_of(root: asyncpg.Connection, expect: Any) -> str | None:
    wish = [{"recipient": "447700900123", "body": "C or R?", "options": {"expect": expect}}]
    reason: str | None = await root.fetchval("select reason from tocsin.enqueue_many($1)", json.dumps(wish))
    return reason


async def learn(root: asyncpg.Connection) -> None:
    words = [{"form": form, "kind": kind} for form, kind in known_words()]
    await root.fetch(QUERIES["apply_known_words"], json.dumps(words))


@pytest.mark.parametrize(
    "wrong",
    [
        None, 7, [], {}, {"answers": {}}, {"answers": []}, {"answers": {"C": 1}}, {"answers": {"C": ""}},
        {"answers": {"C": "x" * 65}}, {"answers": {"C" * 41: "x"}}, {"answers": {str(n): "x" for n in range(21)}},
        {"answers": {"C": "x", " c ": "y"}}, {"answers": {"\u2705": "x"}}, {"answers": {"": "x"}},
        {"answers": {"C": "x"}, "code": 4821}, {"answers": {"C": "x"}, "code": "1"}, {"answers": {"C": "x"}, "code": "A1"},
        {"answers": {"C": "x"}, "code": "123456789"}, {"answers": {"C": "x", "22": "y"}, "code": "22"},
        {"answers": {"C": "x"}, "deadline": 0}, {"answers": {"C": "x"}, "deadline": 2_592_001}, {"answers": {"C": "x"}, "deadline": None},
        {"answers": {"C": "x"}, "deadline": "soon"}, {"answers": {"C": "x"}, "deadline": "2020-01-01T00:00:00Z"},
        {"answers": {"C": "x"}, "deadline": "infinity"}, {"answers": {"C": "x"}, "deadline": True}, {"answers": {"C": "x"}, "subject": ""},
        {"answers": {"C": "x"}, "subject": 7}, {"answers": {"C": "x"}, "subject": "x" * 201}, {"answers": {"C": "x"}, "more": 1},
    ],
)  # fmt: skip
async def test_what_is_wrong_with_expect_is_said_with_its_name(shared_url, wrong):
    async with seeded(shared_url) as root:
        assert str(await reason_of(root, wrong)).startswith("options: expect")
        assert await root.fetchval("select count(*) from tocsin.expectation") == 0


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"answers": {"C\u202e": "x"}}, "U+202E"),
        ({"answers": {"C": "x\x07"}}, "U+0007"),
        ({"answers": {"C": "x"}, "subject": "\u2066v"}, "U+2066"),
    ],
)
async def test_a_control_character_in_a_text_of_expect_is_refused_by_its_name(shared_url, wrong, name):
    """Word, answer or subject: the text is not quoted."""
    async with seeded(shared_url) as root:
        assert await reason_of(root, wrong) == f"options: expect has the control character {name}"


async def test_what_a_request_expects_is_kept_once_under_its_words_normal_forms(shared_url):
    async with seeded(shared_url) as root:
        for deadline in ({}, {"deadline": 60.5}, {"deadline": "2026-12-24T18:00:00Z"}):
            later = await root.fetchval("select (now() + interval '30 days')::text")
            said = {"deadline": later} if deadline.get("deadline") == "2026-12-24T18:00:00Z" else deadline
            assert (
                await reason_of(
                    root, {"answers": {"c.": "yes", "  não ": "no"}, "code": "4821", "subject": "v", **said}
                )
                is None
            )
        rows = await root.fetch(
            "select *, round(extract(epoch from deadline - now())) as s from tocsin.expectation order by job_id"
        )
        assert [json.loads(row["answers"]) for row in rows] == [{"C": "yes", "NAO": "no"}] * 3
        assert [int(row["s"]) for row in rows] == [pytest.approx(s, abs=5) for s in (259_200, 60, 2_592_000)]
        assert (rows[0]["sender"], rows[0]["peer"], rows[0]["code"], rows[0]["about"]) == (
            "Northside",
            "447700900123",
            "4821",
            "v",
        )
        await root.execute(
            "delete from tocsin.expectation; update tocsin.ready set enqueued_at = now() - interval '1 s'"
        )
        await root.execute(
            "with gone as (delete from tocsin.ready returning *) insert into tocsin.ready select * from gone"
        )
        assert await root.fetchval("select count(*) from tocsin.expectation") == 0  # what moves is no new question


async def test_case_5_no_word_of_stop_start_or_help_can_be_an_answer(shared_url):
    """In whatever spelling, and with words of politeness; all other words are free."""
    async with seeded(shared_url) as root:
        await learn(root)
        refused = [word for words in (STOP, START, HELP, STOP_PHRASES) for its in words.values() for word in its]
        for word in [*refused, "cancel please", "ok stop", "\uff33top", "S\u200bTOP", "ЅТОР", "please stop texting us"]:
            assert (
                await reason_of(root, {"answers": {word: "no"}})
                == "options: expect.answers has a word that means STOP, START or HELP"
            ), word
        for word in ("C", "1", "X", "yes", "ok", "нет", "نعم", "cannot come", "weekend", "是"):
            assert await reason_of(root, {"answers": {word: "yes"}}) is None, word


async def test_the_database_folds_words_as_the_recogniser_does(shared_url):
    async with seeded(shared_url) as root:
        rows = await root.fetch("select w, tocsin.normal_form(w) as form from unnest($1::text[]) w", SPELT)
        assert [(row["w"], row["form"]) for row in rows] == [(word, normal_form(word)) for word in SPELT]
        assert await root.fetchval("select tocsin.normal_form($1)", "٤٨٢١ \u2705\ufe0f x\U0001f600") == "4821 X"
