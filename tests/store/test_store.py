"""The one place that runs SQL: literals that hold anything, statements planned once, one kind of failure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.errors import StoreUnavailable
from dispatcher.store import PROBING, connect, load_queries, texts


async def test_a_query_is_planned_once_a_connection(database_url: str) -> None:
    """An unnamed statement is parsed and planned at each call: 2 ms in place of 0.3."""
    connection = await connect(database_url, PROBING)
    for _ in range(3):
        await connection.fetch("categories")

    rows = await connection.raw.fetch(
        "select name, generic_plans, custom_plans from pg_prepared_statements where statement like '-- What the journey needs%'"
    )
    await connection.close()

    assert [(bool(row["name"]), row["generic_plans"], row["custom_plans"]) for row in rows] == [(True, 3, 0)]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")),
            st.sampled_from(["NULL", "", '"', "\\", "{}", "a,b", "\n"]),
        ),
        max_size=8,
    )
)
def test_texts_travel_unchanged(values: list[str | None], database_server: object) -> None:
    """A message id is hostile input: no content may break out of its element."""
    assert len(_elements(texts(values))) == len(values)


def _elements(literal: str) -> list[str]:
    """Split an array literal by Postgres's own rules, written down once more."""
    elements, current, quoted, i = [], "", False, 1
    if literal == "{}":
        return []
    while i < len(literal) - 1:
        c = literal[i]
        if c == "\\":
            current += literal[i + 1]
            i += 1
        elif c == '"':
            quoted = not quoted
        elif c == "," and not quoted:
            elements.append(current)
            current = ""
        else:
            current += c
        i += 1
    return [*elements, current]


async def test_texts_come_back_from_postgres_as_they_were(database_url: str) -> None:
    """Quotes, backslashes, braces, NULL as a word, emoji; what Postgres cannot store becomes U+FFFD."""
    hostile = [
        '"',
        "\\",
        '\\"',
        "{}",
        "NULL",
        "null",
        "",
        " ",
        "a,b",
        "\n\t",
        "€ 😀",
        "'; drop table",
        None,
        "x\x00y",
        "\ud800",
    ]
    connection = await connect(database_url)

    back = await connection.raw.fetchval("select $1::text::text[]", texts(hostile))
    await connection.close()

    assert back == [*hostile[:-2], "x\ufffdy", "\ufffd"]


async def test_a_refusal_of_the_database_names_its_sqlstate_and_no_content(database_url: str) -> None:
    """Postgres quotes row content in its messages; ours must not."""
    connection = await connect(database_url)
    with pytest.raises(StoreUnavailable) as caught:
        await connection.execute("select 'canary-word'::int")
    await connection.close()

    assert caught.value.sqlstate == "22P02"
    assert "canary" not in str(caught.value)


async def test_an_unreachable_server_is_store_unavailable() -> None:
    """Callers keep what they hold and try again."""
    with pytest.raises(StoreUnavailable):
        await connect("postgresql://nobody@127.0.0.1:1/nothing")


def test_every_query_has_a_name_of_its_own_and_says_what_it_locks_or_reads() -> None:
    """A query without a comment hides its cost."""
    queries = load_queries()

    assert len(queries) > 20
    assert all(text.startswith("--") or len(text) < 200 for text in queries.values())
