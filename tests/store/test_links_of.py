"""tocsin.links_of: which links may carry a message, in order of preference."""

from __future__ import annotations

import asyncpg

RULES = """
insert into tocsin.link (name, account, position, enabled) values
    ('a', 'a', 0, true), ('b', 'b', 1, true), ('c', 'c', 2, true), ('gone', 'gone', 3, false);
insert into tocsin.route (prefix, links) values ('', '{a,b}'), ('44', '{c,gone,b,a}'), ('4477', '{b,c}');
insert into tocsin.sender (address, position, categories, links) values ('Everywhere', 0, '{staff}', null), ('OnlyC', 1, '{staff}', '{c}');
"""


async def test_the_longest_prefix_decides_and_disabled_or_unprovisioned_links_are_left_out(database_url):
    """The order is the route's own; a sender that nobody knows is not held back."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(RULES)

        async def links(recipient: str, sender: str) -> list[str]:
            return await connection.fetchval("select tocsin.links_of($1, $2, 'staff')", recipient, sender)

        assert await links("15550100", "Everywhere") == ["a", "b"]
        assert await links("4420000000", "Everywhere") == ["c", "b", "a"]
        assert await links("447700900123", "Everywhere") == ["b", "c"]
        assert await links("447700900123", "OnlyC") == ["c"]
        assert await links("15550100", "OnlyC") == []
        assert await links("447700900123", "Unknown") == ["b", "c"]
        await connection.execute("delete from tocsin.route where prefix = ''")
        assert await links("15550100", "Everywhere") == []
    finally:
        await connection.close()


async def test_a_categorys_own_route_goes_before_that_of_all_and_a_longer_prefix_before_both(database_url):
    """By category alone, and by prefix first."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(RULES)
        await connection.execute(
            "insert into tocsin.route (prefix, category, links) values ('44', 'marketing', '{a,gone}')"
        )

        async def links(recipient: str, category: str) -> list[str]:
            return await connection.fetchval("select tocsin.links_of($1, 'Everywhere', $2)", recipient, category)

        assert await links("4420000000", "marketing") == ["a"]
        assert await links("4420000000", "staff") == ["c", "b", "a"]
        assert await links("447700900123", "marketing") == ["b", "c"]
        assert await links("15550100", "marketing") == ["a", "b"]
    finally:
        await connection.close()


async def test_weights_share_the_numbers_and_a_number_keeps_its_link(database_url):
    """Weights 3, 1 and 0 of three links: about 3 to 1, the third one only as the last resort."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(RULES)
        await connection.execute(
            "insert into tocsin.route (prefix, links, weights) values ('49', '{a,b,c}', '{3,1,0}')"
        )
        numbers = [f"49151{n:08d}" for n in range(2_000)]

        async def orders() -> list[list[str]]:
            rows = await connection.fetch(
                "select tocsin.links_of(n, 'Everywhere', 'staff') as links from unnest($1::text[]) with ordinality u (n, i) order by i",
                numbers,
            )
            return [row["links"] for row in rows]

        first = await orders()
        assert {tuple(links) for links in first} == {("a", "b", "c"), ("b", "a", "c")}
        by_b = sum(links[0] == "b" for links in first)
        assert 400 <= by_b <= 600
        assert await orders() == first
        await connection.execute("update tocsin.link set enabled = false where name = 'a'")
        assert {tuple(links) for links in await orders()} == {("b", "c")}
        await connection.execute("update tocsin.link set enabled = false where name = 'b'")
        assert {tuple(links) for links in await orders()} == {("c",)}
    finally:
        await connection.close()
