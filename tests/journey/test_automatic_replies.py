"""Texts that are answered by themselves; the cases' numbers are those of the list of hard replies."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tests.journey.running import LINK, journey, until, write_file
from tests.journey.test_expected_replies import ask, classes, say
from tests.journey.test_stop import OTHER, PATIENT, REPLY, events, sent_to

if TYPE_CHECKING:
    from tests.journey.running import Journey

THANKS = "Thanks. We answer within 2 hours."
OPENS = "We are closed until {opens}."
HOURS = {"zone": "Europe/London", "opens": "08:00", "closes": "18:00", "days": ["mon", "tue", "wed", "thu", "fri"]}
TABLES = [
    ("[[auto_reply]]", {"kind": "received", "text": THANKS}),
    ("[[auto_reply]]", {"kind": "closed", "text": OPENS}),
    ("[hours]", HOURS),
]
DAY, NIGHT = "2026-03-03 10:00", "2026-03-03 02:00"  # a Tuesday
PAGER = "447700900900"
STAFF = ("[[sender]]", {"address": f"+{PAGER}", "categories": ["staff", "reply"]})
KEYWORD = ("[[keyword]]", {"name": "directions", "words": ["where"], "reply": "1 Hill Street"})


def set_wall_clock(world: Journey, wall: str) -> None:
    """Let the daemon's wall clock stand at this time in London."""
    shows = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo("Europe/London")).timestamp()
    world.daemon.daemon._inbound._wall_clock = lambda: shows


async def pass_by(world: Journey, interval: str) -> None:
    """Let everything that was answered be so much older."""
    await world.app.value("update tocsin.automatic_reply set at = at - $1::text::interval", interval)


async def answers(world: Journey, number: str = PATIENT) -> list[str]:
    """Texts that the SMSC has for this number once all that was enqueued went."""
    await until(lambda: world.app.value("select not exists (select from tocsin.ready)"))
    return sent_to(world, number)


async def loops(world: Journey) -> list[dict[str, str]]:
    rows = await world.app.fetch("select reason, detail from tocsin.event_log where type = 'inbound.loop' order by seq")
    return [{"reason": row["reason"], **json.loads(row["detail"])} for row in rows]


async def test_a_free_text_in_our_hours_is_acknowledged_once_in_four_hours(tmp_path, queue_url):
    """The person knows that it came, and when somebody answers."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:
        set_wall_clock(world, DAY)
        await say(world, "Can I come at ten?", "Or at eleven?", "Stop by at 5, then?")
        assert await answers(world) == [THANKS]
        assert await classes(world) == ["text", "text", "soft_stop"]
        await pass_by(world, "4 h")
        await say(world, "Hello?")
        assert await answers(world) == [THANKS] * 2
        assert await loops(world) == []


async def test_outside_of_our_hours_it_is_told_once_when_we_open(tmp_path, queue_url):
    """From Friday evening to Monday morning; and on Monday evening again."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:
        told = []
        for wall, answer in (
            ("2026-03-06 18:00", "We are closed until 2026-03-09 08:00."),
            ("2026-03-07 12:00", None),
            ("2026-03-09 07:59", None),
            ("2026-03-09 08:00", THANKS),
            ("2026-03-09 18:00", "We are closed until 2026-03-10 08:00."),
        ):
            set_wall_clock(world, wall)
            await say(world, f"Hello, it is {wall}")
            told += [answer] * (answer is not None)
            assert await answers(world) == told, wall


async def test_an_acknowledgement_is_committed_before_the_smsc_has_its_response(tmp_path, queue_url):
    """With the text and its event, in one transaction: what was answered is stored, and what is stored is answered."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:
        set_wall_clock(world, DAY)
        await say(world, "Can I come at ten?")
        rows = await world.app.fetch(
            "select i.xmin::text as x from tocsin.inbound i union all select a.xmin::text from tocsin.automatic_reply a"
            " union all select e.xmin::text from tocsin.event_log e where e.type = 'inbound.received'"
        )
        assert len(rows) == 3
        assert len({row["x"] for row in rows}) == 1


async def test_a_long_text_is_acknowledged_once_it_is_whole(tmp_path, queue_url):
    """Not each of its parts; and outside of our hours as any other."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:

        def part(number: int, text: bytes, reference: int) -> None:
            world.smsc.deliver(
                source_addr=PATIENT,
                destination_addr="Northside",
                esm_class=0x40,
                short_message=bytes((5, 0, 3, reference, 2, number)) + text,
            )

        set_wall_clock(world, DAY)
        part(1, b"Can I come ", 1)
        await world.smsc.seen("deliver_sm_resp")
        assert await answers(world) == []
        part(2, b"at ten?", 1)
        await world.smsc.seen("deliver_sm_resp", 2)
        assert await answers(world) == [THANKS]
        set_wall_clock(world, NIGHT)
        part(2, b"HELP?", 2)
        part(1, b"Is nobody there? ", 2)
        await world.smsc.seen("deliver_sm_resp", 4)
        assert await answers(world) == [THANKS, OPENS.format(opens="2026-03-03 08:00")]


async def test_changed_hours_hold_from_the_reload_on(tmp_path, queue_url):
    """Without a restart, as the texts."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES[:1]) as world:
        set_wall_clock(world, NIGHT)
        await say(world, "Hello?")
        assert await answers(world) == [THANKS]
        write_file(tmp_path, queue_url, {LINK: {"port": world.smsc.port, "receipts": "none"}}, tables=TABLES)
        world.daemon.daemon._reload_asked.set()
        await until(lambda: world.app.value("select exists (select from tocsin.auto_reply where kind = 'closed')"))

        async def has_hours() -> bool:
            return world.daemon.daemon.settings.hours is not None

        await until(has_hours)
        await say(world, "Hello?")
        assert (await answers(world))[1:] == [OPENS.format(opens="2026-03-03 08:00")]


async def test_who_is_answered_otherwise_is_not_acknowledged(tmp_path, queue_url):
    """An answer to a question, a keyword, STOP, START, HELP: one text each at most."""
    async with journey(tmp_path, queue_url, receipts="none", tables=[*TABLES, KEYWORD]) as world:
        set_wall_clock(world, DAY)
        await ask(world)
        asked = sent_to(world)
        await say(world, "C", "where", "HELP", "STOP", "STOP", "START")
        assert await classes(world) == ["answer", "keyword", "help", "stop", "stop", "start"]
        shipped = [await world.app.value(REPLY, kind, "en") for kind in ("help", "stop", "start")]
        assert sorted(await answers(world)) == sorted([*asked, "1 Hill Street", *shipped])


@pytest.mark.parametrize("text", ["HELP I can't breathe", "I have chest pain"])
async def test_case_30_words_of_emergency_at_two_in_the_morning_are_answered_at_once(tmp_path, queue_url, text):
    """With the emergency text, not that of closed hours; apps are told before the SMSC has its response."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:
        set_wall_clock(world, NIGHT)
        since = time.monotonic()
        await say(world, text)
        assert await events(world) == ["inbound.emergency"]
        await world.smsc.until(lambda: sent_to(world) != [])
        assert time.monotonic() - since < 5
        assert await answers(world) == [await world.app.value(REPLY, "emergency", "en")]


async def test_case_14_a_member_of_staff_who_sends_stop_is_told_that_pages_go_on(tmp_path, queue_url):
    """They do; it is in the ledger, and whoever answers for the staff reads it in the event."""
    async with journey(tmp_path, queue_url, receipts="none", tables=[STAFF]) as world:
        world.smsc.deliver(source_addr=PATIENT, destination_addr=PAGER, short_message=b"STOP")
        await world.smsc.until(lambda: sent_to(world) != [])
        assert sent_to(world) == [await world.app.value(REPLY, "staff_stop", "en")]
        (pdu,) = world.smsc.received("submit_sm")
        assert pdu.fields["source_addr"] == PAGER
        row = (await world.app.fetch("select reason, detail from tocsin.event_log where type = 'suppression.added'"))[0]
        detail = json.loads(row["detail"])
        assert (row["reason"], detail["recorded_only"], detail["value"]) == ("OPT_OUT", True, PAGER)
        assert await world.app.value("select count(*) from tocsin.suppression_event") == 1
        page = await world.app.enqueue(PATIENT, "Theatre 2", category="staff", sender="+" + PAGER)
        assert await world.app.until_state(page, "submitted", "blocked") == "submitted"


async def test_case_27_an_auto_responder_and_we_do_not_talk_all_night(tmp_path, queue_url):
    """A handset that answers all that it gets within a second gets nothing of our own, and is a class of its own."""
    async with journey(tmp_path, queue_url, receipts="none", tables=TABLES) as world:
        set_wall_clock(world, NIGHT)
        for _ in range(3):
            await say(world, "I'm driving right now, I'll get back to you later")
        assert await answers(world) == []
        assert await classes(world) == ["auto_responder"] * 3
        labels = {"link": LINK, "class": "auto_responder"}
        assert world.daemon.counter("tocsin_inbound_total", **labels) == 3
        assert await loops(world) == [{"reason": "AUTOREPLY_LOOP", "link": LINK, "kind": "closed"}] * 3


async def test_case_27_a_number_of_ours_a_short_code_and_an_echo_are_not_answered(tmp_path, queue_url):
    async with journey(tmp_path, queue_url, receipts="none", tables=[*TABLES, STAFF]) as world:
        set_wall_clock(world, DAY)
        await say(world, "Hello?", "HELP", source=PAGER)
        await say(world, "Hello?", source="60777")
        await say(world, THANKS.upper())
        assert [loop["kind"] for loop in await loops(world)] == ["received", "help", "received"]
        job = await world.app.enqueue(OTHER)
        await world.app.until_state(job, "submitted")
        assert len(world.smsc.received("submit_sm")) == 1


async def test_case_27_two_machines_exchange_five_texts_a_day(tmp_path, queue_url):
    """Words that no table knows: the bound holds whatever they are. A STOP of the same number is obeyed and confirmed."""
    async with journey(tmp_path, queue_url, receipts="none", tables=[*TABLES, KEYWORD]) as world:
        set_wall_clock(world, DAY)
        await say(world, *["where"] * 7)
        assert await answers(world) == ["1 Hill Street"] * 5
        assert await loops(world) == [{"reason": "AUTOREPLY_LOOP", "link": LINK, "kind": "keyword"}] * 2
        await say(world, "STOP")
        assert (await answers(world))[5:] == [await world.app.value(REPLY, "stop", "en")]
        assert await world.app.value("select reason from tocsin.suppression") == "OPT_OUT"


async def test_case_27_help_twice_within_a_minute_is_answered_once(tmp_path, queue_url):
    async with journey(tmp_path, queue_url, receipts="none") as world:
        await say(world, "HELP", "help!")
        assert len(await answers(world)) == 1
        await pass_by(world, "61 s")
        await say(world, "HELP")
        assert len(await answers(world)) == 2
        assert [loop["kind"] for loop in await loops(world)] == ["help"]
