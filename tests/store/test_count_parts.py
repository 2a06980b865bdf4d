"""tocsin.count_parts gives the number of segments that gateway/segment.py cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import gsm7
from gateway.errors import TooManySegments
from gateway.segment import Alphabet, Concatenation, NationalTable, segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import DatabaseServer

FORMS = [(alphabet, concatenation) for alphabet in get_args(Alphabet) for concatenation in get_args(Concatenation)]
LIMITS = [66, 67, 70, 132, 133, 134, 140, 152, 153, 160]

ASCII_OF_BASIC = st.sampled_from([character for character in gsm7.BASIC if character.isascii() and character != "\x1b"])
BASIC = st.sampled_from([character for character in gsm7.BASIC if character != "\x1b"])
EXTENSION = st.sampled_from(list(gsm7.EXTENSION.values()))
ASCII = st.characters(min_codepoint=1, max_codepoint=0x7F)
LATIN1 = st.characters(min_codepoint=1, max_codepoint=0xFF)
BMP = st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"])
ASTRAL = st.characters(min_codepoint=0x1_0000)

NEAR_A_LIMIT = st.builds(
    lambda limit, times, more: max(1, limit * times + more),
    st.sampled_from(LIMITS),
    st.integers(1, 4),
    st.integers(-3, 3),
)
RUNS = st.lists(
    st.tuples(st.one_of(ASCII_OF_BASIC, BASIC, EXTENSION, ASCII, LATIN1, BMP, ASTRAL), st.integers(1, 80)),
    min_size=1,
    max_size=6,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Runs of characters of one kind or several, cut to a length where a segment begins or ends."""
    kinds = draw(
        st.lists(st.sampled_from([ASCII_OF_BASIC, BASIC, EXTENSION, LATIN1, BMP, ASTRAL]), min_size=1, max_size=2)
    )
    text = (
        "".join(character * times for character, times in draw(RUNS))
        if draw(st.booleans())
        else draw(st.text(st.one_of(*kinds), min_size=1, max_size=40))
    )
    length = draw(NEAR_A_LIMIT)
    return (text * (length // len(text) + 1))[:length]


@pytest.fixture(scope="module")
def count_all(database_server: DatabaseServer, shared_url: str) -> Iterator[Callable[[str], list[int]]]:
    """Count a text's parts in SQL, for each of the forms."""
    connection: asyncpg.Connection = database_server.run(asyncpg.connect(shared_url))
    query = (
        "select tocsin.count_parts($1, a, c) from unnest($2::text[], $3::text[]) with ordinality f (a, c, n) order by n"
    )
    alphabets, concatenations = zip(*FORMS, strict=True)

    def count(text: str) -> list[int]:
        return [row[0] for row in database_server.run(connection.fetch(query, text, alphabets, concatenations))]

    yield count
    database_server.run(connection.close())


def segments(text: str, alphabet: Alphabet, concatenation: Concatenation) -> int:
    """What the gateway would send; 256 stands for more than a message can have."""
    try:
        return len(segment(text, reference=1, alphabet=alphabet, concatenation=concatenation))
    except TooManySegments:
        return 256


def expected(text: str) -> list[int]:
    return [segments(text, alphabet, concatenation) for alphabet, concatenation in FORMS]


def limited(counts: list[int]) -> list[int]:
    return [min(parts, 256) for parts in counts]


NATIONAL = list(get_args(NationalTable))
LETTERS = sorted(
    {c for single in gsm7.SINGLE_SHIFTS.values() for c in single.values()}
    | {c for locking in gsm7.LOCKING_SHIFTS.values() for c in locking if c != "\x1b"}
    | set("“’–…\u00a0\tк😀abc")
)


@pytest.fixture(scope="module")
def count_with_tables(database_server: DatabaseServer, shared_url: str) -> Iterator[Callable[..., int]]:
    """Count a text's parts in SQL as a link and a category with these settings have them."""
    connection: asyncpg.Connection = database_server.run(asyncpg.connect(shared_url))

    def count(text: str, concatenation: str, tables: list[str], substitute: bool) -> int:  # SQL has no names
        query = "select tocsin.count_parts($1, 'gsm7', $2, $3, $4)"
        return database_server.run(connection.fetchval(query, text, concatenation, tables, substitute))

    yield count
    database_server.run(connection.close())


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(st.sampled_from(LETTERS), min_size=1, max_size=12).flatmap(
        lambda text: NEAR_A_LIMIT.map(lambda length: (text * (length // len(text) + 1))[:length])
    )
    | texts(),
    concatenation=st.sampled_from(get_args(Concatenation)),
    tables=st.lists(st.sampled_from(NATIONAL), unique=True),
    substitute=st.booleans(),
)
def test_national_tables_and_plain_characters_count_as_the_gateway_writes_them(
    count_with_tables, text, concatenation, tables, substitute
):
    """Of each way to write it the shortest one."""
    if concatenation in ("sar", "payload"):
        tables = []  # the configuration refuses them
    try:
        made = len(
            segment(text, reference=1, concatenation=concatenation, national=tuple(tables), substitute=substitute)
        )
    except TooManySegments:
        made = 256
    assert min(count_with_tables(text, concatenation, tables, substitute), 256) == made


@settings(max_examples=400, deadline=None)
@given(text=texts())
def test_a_text_has_as_many_parts_as_the_gateway_sends(count_all, text):
    """max_parts is judged at enqueue, in SQL; the wire is cut in Python: they must not disagree."""
    assert limited(count_all(text)) == expected(text)


def test_every_character_counts_as_the_gateway_encodes_it(count_all):
    """A character that one of the two takes for GSM-7 and the other does not makes a text twice as long."""
    for code in [
        *range(1, 0x500),
        *range(0x2000, 0x2100),
        0x20AC,
        0xD7FF,
        0xE000,
        0xFEFF,
        0xFFFD,
        0xFFFF,
        0x1_0000,
        0x1_F600,
        0x10_FFFF,
    ]:
        text = chr(code) + "a" * 79 + chr(code) * 80
        assert (code, count_all(text)) == (code, expected(text))


def test_a_pair_is_never_split_at_any_position(count_all):
    """An escape pair or a surrogate pair that meets a cut moves to the next segment, and the text may need one more."""
    for pair in ("€", "{", "\N{PILE OF POO}"):
        for before in (*range(62, 72), *range(128, 136), *range(148, 156)):
            for after in (64, 65, 66, 67, 150, 151, 152, 153):
                text = "a" * before + pair + "a" * after
                assert (before, after, count_all(text)) == (before, after, expected(text))
    for text in ("€" * 400, "a" + "€" * 400, "\N{PILE OF POO}" * 200, "a" + "\N{PILE OF POO}" * 200):
        assert count_all(text) == expected(text)


def test_past_255_parts_every_form_refuses(count_all):
    """The number of parts is one octet; max_parts is at most 255, so such a text is always too long."""
    for text in (
        "a" * 153 * 255,
        "a" * (153 * 255 + 1),
        "a" * 152 * 255,
        "ж" * 67 * 255,
        "ж" * (67 * 255 + 1),
        "€" * 76 * 255,
        "{" * 76 * 256,
    ):
        assert limited(count_all(text)) == expected(text)
    assert min(count_all("€" * 100_000)) > 255
