"""dispatcher/apply.py: the file's links, senders, routes and categories as rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest

from config.caps import CapSettings
from config.policy import PolicySettings
from config.settings import CategorySettings, load
from config.windows import WindowSettings
from dispatcher.apply import apply
from dispatcher.errors import StoreUnavailable
from dispatcher.store import connect

FILE = """
[[link]]
name = "zulu"
host = "127.0.0.1"
system_id = "clinic"
password = "secret"
concatenation = "udh16"

[[link]]
name = "alpha"
host = "127.0.0.1"
system_id = "clinic"
password = "secret"
account = "shared"
default_alphabet = "latin1"
receipts = "failures"

[[sender]]
address = "Northside"
categories = ["transactional", "staff"]

[[sender]]
address = "+447700900001"
categories = ["emergency"]
links = ["alpha"]

[[route]]
prefix = ""
links = ["zulu", "alpha"]

[[route]]
prefix = "+49"
links = ["alpha"]

[[route]]
prefix = ""
links = ["alpha", "zulu"]
categories = ["marketing", "staff"]
weights = [2, 1]
"""


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "tocsin.toml"
    path.write_text(FILE)
    return load(path, {})


@contextlib.asynccontextmanager
async def connected(url):
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def rows(connection, sql: str) -> list[tuple]:
    return [tuple(row) for row in await connection.raw.fetch(sql)]


async def everything(connection) -> dict[str, list[tuple]]:
    return {
        table: await rows(connection, f"select * from tocsin.{table} t order by t::text")
        for table in ("link", "sender", "route", "category", "policy", "policy_rule")
    }


async def test_the_file_becomes_rows(database_url, settings):
    """Apps and daemons read rows, never the file."""
    async with connected(database_url) as connection:
        assert await apply(connection, settings)
        assert await rows(
            connection,
            "select name, account, enabled, alphabet, concatenation, receipts, paused, owner, epoch"
            " from tocsin.link order by position",
        ) == [
            ("zulu", "zulu", True, "gsm7", "udh16", "all", False, None, 0),
            ("alpha", "shared", True, "latin1", "udh8", "failures", False, None, 0),
        ]
        assert await rows(connection, "select address, categories, links from tocsin.sender order by position") == [
            ("Northside", ["transactional", "staff"], None),
            ("+447700900001", ["emergency"], ["alpha"]),
        ]
        assert await rows(
            connection, "select prefix, category, links, weights from tocsin.route order by prefix, category"
        ) == [
            ("", "", ["zulu", "alpha"], []),
            ("", "marketing", ["alpha", "zulu"], [2, 1]),
            ("", "staff", ["alpha", "zulu"], [2, 1]),
            ("49", "", ["alpha"], []),
        ]
        assert await rows(connection, "select file_hash, by_user = session_user from tocsin.applied") == [
            (settings.sha256, True)
        ]


async def test_the_shipped_categories_are_as_promised(database_url, settings):
    """Lane, time to live, doubt, STOP and flash of each category are a promise to its users."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        assert await rows(
            connection,
            "select name, lane, extract(epoch from time_to_live)::int, on_doubt, stop, flash, max_parts, keep_text_days"
            " from tocsin.category order by lane, name",
        ) == [
            ("emergency", 0, 3600, "resend", "applies", "yes", 10, 0),
            ("reply", 1, 300, "hold", "exempt", "no", 10, 0),
            ("staff", 1, 1800, "resend", "recorded", "yes", 10, 0),
            ("auth", 2, 300, "hold", "exempt", "no", 10, 0),
            ("conversational", 2, 86400, "hold", "applies", "no", 10, 0),
            ("transactional", 3, 86400, "hold", "applies", "no", 10, 0),
            ("informational", 4, 259200, "hold", "applies", "no", 10, 0),
            ("marketing", 5, 259200, "hold", "applies", "never", 10, 0),
        ]


async def test_the_same_file_again_changes_nothing(database_url, settings):
    """Every start of a daemon applies its file."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        before = await everything(connection)
        assert not await apply(connection, settings)
        assert await everything(connection) == before
        assert await rows(connection, "select count(*) from tocsin.applied") == [(1,)]


async def test_rows_changed_by_hand_are_repaired_without_a_new_file(database_url, settings):
    """The file is what a person reads to know the rules, so the rows must not differ from it."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        before = await everything(connection)
        await connection.execute("update tocsin.link set receipts = 'none'")
        await connection.execute("update tocsin.category set lane = 5 where name = 'auth'")
        await connection.execute("insert into tocsin.sender values ('Stranger', 9, '{marketing}', null)")
        await connection.execute("delete from tocsin.route where prefix = '49'")
        assert await apply(connection, settings)
        assert await everything(connection) == before
        assert await rows(connection, "select count(*) from tocsin.applied") == [(2,)]


async def test_a_new_hash_alone_is_noted(database_url, settings):
    """A comment that changed is another file: the note must match what lies on disk."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        assert not await apply(connection, replace(settings, sha256="f" * 64))
        assert await rows(connection, "select file_hash from tocsin.applied order by at") == [
            (settings.sha256,),
            ("f" * 64,),
        ]


async def test_a_link_that_left_the_file_is_switched_off_and_kept(database_url, settings):
    """Jobs and evidence name it; it comes back as it was."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        before = await everything(connection)
        fewer = replace(settings, links=settings.links[:1], senders=settings.senders[:1], routes=settings.routes[:1])
        assert await apply(connection, fewer)
        assert await rows(connection, "select name, enabled from tocsin.link order by name") == [
            ("alpha", False),
            ("zulu", True),
        ]
        assert await rows(connection, "select address from tocsin.sender") == [("Northside",)]
        assert await rows(connection, "select prefix from tocsin.route") == [("",)]
        assert await apply(connection, settings)
        assert await everything(connection) == before


async def test_the_order_of_the_file_is_kept(database_url, settings):
    """The first sender that allows a category is its default."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        await apply(connection, replace(settings, senders=settings.senders[::-1], links=settings.links[::-1]))
        assert await rows(connection, "select address from tocsin.sender order by position") == [
            ("+447700900001",),
            ("Northside",),
        ]
        assert await rows(connection, "select name from tocsin.link order by position") == [("alpha",), ("zulu",)]


async def test_what_operators_and_daemons_wrote_stays(database_url, settings):
    """Applying a file must neither resume what a person paused nor fence a running owner."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        await connection.execute(
            "update tocsin.link set owner = 'one', epoch = 7, beat = 9, state = 'bound', paused = true, alphabet = 'ascii'"
        )
        await connection.execute("update tocsin.category set paused = true, max_parts = 3 where name = 'marketing'")
        assert await apply(connection, settings)
        assert await rows(connection, "select distinct owner, epoch, beat, state, paused from tocsin.link") == [
            ("one", 7, 9, "bound", True)
        ]
        assert await rows(connection, "select name from tocsin.category where paused") == [("marketing",)]


async def test_an_added_category_outlives_its_removal(database_url, settings):
    """Its queued jobs still need its rules; no sender allows it any more, so no new ones come."""
    async with connected(database_url) as connection:
        added = CategorySettings("lab", 3, time_to_live_s=0.5, stop=False, keep_text_days=2)
        await apply(connection, replace(settings, categories=(*settings.categories, added)))
        await apply(connection, settings)
        assert await rows(
            connection,
            "select extract(epoch from time_to_live)::float8, stop, keep_text_days from tocsin.category where name = 'lab'",
        ) == [(0.5, "exempt", 2)]


async def test_stop_of_staff_is_recorded_unless_the_file_obeys_it(database_url, settings):
    """A STOP against pages is for a person to look at; stop = true in the file makes it binding."""
    async with connected(database_url) as connection:
        obeying = tuple(replace(category, stop=True) for category in settings.categories)
        await apply(connection, replace(settings, categories=obeying))
        assert await rows(connection, "select distinct stop from tocsin.category") == [("applies",)]
        await apply(connection, settings)
        assert await rows(connection, "select stop from tocsin.category where name = 'staff'") == [("recorded",)]


async def test_a_policy_holds_from_its_file_on_and_ends_with_it(database_url, settings):
    """For what is enqueued after that."""
    enqueue = "select reason from tocsin.enqueue('447700900123', 'hello', 'transactional')"
    async with connected(database_url) as connection:
        await apply(connection, settings)
        assert await rows(connection, "select duplicate_text_within = '0' from tocsin.policy") == [(True,)]
        assert await apply(connection, replace(settings, policy=PolicySettings(600.0, 1)))
        assert [(await rows(connection, enqueue))[0][0] for _ in range(2)] == [None, "DUP_CONTENT"]
        assert await apply(connection, settings)
        assert (await rows(connection, enqueue)) == [(None,)]


async def test_hours_and_caps_are_rows_and_go_with_their_entries(database_url, settings):
    """A row for each category of an entry, with what it says; the days in the order of the week."""
    windows = (
        WindowSettings(("marketing", "informational"), "08:00", "21:00", ("wed", "mon"), "US-CA", prefix="1"),
        WindowSettings(("marketing",), "09:00", "20:00", zone="Europe/Berlin"),
    )
    office = {"opens": "08:00", "closes": "21:00", "days": ["mon", "wed"], "holidays": "US-CA", "zone": "UTC"}
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    select = "select kind, category, prefix, rule from tocsin.policy_rule order by kind, category, prefix"
    with_rules = replace(settings, windows=windows, caps=(CapSettings(("marketing",), per_week=3),))
    async with connected(database_url) as connection:
        assert await apply(connection, with_rules)
        assert [(*key, json.loads(rule)) for *key, rule in await rows(connection, select)] == [
            ("cap", "marketing", "", {"per_week": 3, "zone": "UTC"}),
            ("window", "informational", "1", office),
            ("window", "marketing", "", {"opens": "09:00", "closes": "20:00", "days": week, "zone": "Europe/Berlin"}),
            ("window", "marketing", "1", office),
        ]
        assert not await apply(connection, with_rules)
        assert not await apply(
            connection, replace(with_rules, windows=(replace(windows[0], days=("mon", "wed")), windows[1]))
        )
        assert await apply(connection, replace(with_rules, windows=(replace(windows[0], closes="20:00"),)))
        assert [row[:3] for row in await rows(connection, select)] == [
            ("cap", "marketing", ""),
            ("window", "informational", "1"),
            ("window", "marketing", "1"),
        ]
        assert await apply(connection, settings)
        assert await rows(connection, select) == []


async def test_two_instances_with_different_files_do_not_mix(database_url, settings):
    """Whoever comes last wins as a whole: never the links of one file with the routes of the other."""
    other = replace(
        settings,
        sha256="e" * 64,
        links=(replace(settings.links[0], name="other", account="other"),),
        senders=(replace(settings.senders[0], links=("other",)),),
        routes=(replace(settings.routes[0], links=("other",)),),
    )
    async with connected(database_url) as one, connected(database_url) as two:
        for _ in range(5):
            await asyncio.gather(apply(one, settings), apply(two, other))
            enabled = {name for (name,) in await rows(one, "select name from tocsin.link where enabled")}
            routed = {name for (links,) in await rows(one, "select links from tocsin.route") for name in links}
            assert enabled == routed


async def test_a_row_that_the_schema_refuses_leaves_everything_as_it_was(database_url, settings):
    """Half a file would be a third configuration that nobody wrote."""
    async with connected(database_url) as connection:
        await apply(connection, settings)
        before = await everything(connection)
        wrong = replace(settings, links=settings.links[:1], routes=(replace(settings.routes[0], prefix="x"),))
        with pytest.raises(StoreUnavailable):
            await apply(connection, wrong)
        assert await everything(connection) == before
