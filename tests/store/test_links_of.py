"""tocsin.links_of: which links may carry a message, in order of preference."""

from __future__ import annotations

import asyncpg

RULES = """
insert into tocsin.link (name, account, position, enabled) values
    ('a', 'a', 0, true), ('b', 'b', 1, true), ('c', 'c', 2, true), ('gone', 'gone', 3, false);
insert into tocsin.route values ('', '{a,b}'), ('44', '{c,gone,b,a}'), ('4477', '{b,c}');
insert into tocsin.sender (address, position, categories, links) values ('Everywhere', 0, '{staff}', null), ('OnlyC', 1, '{staff}', '{c}');
"""


async def test_the_longest_prefix_decides_and_disabled_or_unprovisioned_links_are_left_out(database_url):
    """The order is the route's own; a sender that nobody knows is not held back."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(RULES)

        async def links(recipient: str, sender: str) -> list[str]:
            return await connection.fetchval("select tocsin.links_of($1, $2)", recipient, sender)

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
