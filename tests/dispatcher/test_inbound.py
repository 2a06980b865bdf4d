"""dispatcher/inbound.py: what people send us is stored once, and only then answered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog

from dispatcher import inbound as inbound_module
from dispatcher.errors import StoreUnavailable
from dispatcher.inbound import REPEATED_WITHIN_S, InboundDesk, digest
from dispatcher.record import Record
from dispatcher.store import PROBING, connect
from gateway import Address, Inbound
from tests.dispatcher.instance import Given, instance
from tests.journey.running import LINK

OK, THROTTLED, TEMPORARY = 0x00, 0x58, 0x64
YES = Inbound(
    source=Address("447700900123"),
    destination=Address("60777", 0, 1),
    text="YES",
    octets=b"YES",
    data_coding=0,
    esm_class=0,
)


async def texts_of(one) -> list[str]:
    return [row["text"] for row in await one.app.fetch("select text from tocsin.inbox order by inbound_id")]


async def test_a_message_is_stored_with_an_event_and_then_answered(tmp_path, queue_url):
    """The row as an app reads it; the event names it and holds nothing of it."""
    async with instance(tmp_path, queue_url) as one:
        (given,) = await one.deliver(YES)

        assert given.answers == [OK]
        (row,) = await one.app.fetch("select * from tocsin.inbox")
        assert (row["link"], row["source"], row["destination"], row["text"], row["class"]) == (
            LINK, "447700900123", "60777", "YES", "text",
        )  # fmt: skip
        (event,) = await one.app.fetch("select type, subject from tocsin.event_log")
        assert (event["type"], event["subject"]) == ("inbound.received", str(row["inbound_id"]))
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "text"}) == 1


async def test_without_the_database_a_message_is_refused_and_not_kept(tmp_path, queue_url):
    """0x64: the SMSC keeps it and sends it again; it is no repetition then."""
    async with instance(tmp_path, queue_url) as one:
        broken = await connect(queue_url, PROBING)
        await broken.close()
        given = Given(YES)
        one.inbound.take(LINK, [given])  # type: ignore[list-item]

        with pytest.raises(StoreUnavailable):
            await one.inbound.flush(broken)

        assert given.answers == [TEMPORARY]
        assert one.inbound.pending == 0
        (again,) = await one.deliver(YES)
        assert again.answers == [OK]
        assert await texts_of(one) == ["YES"]


async def test_what_came_over_a_link_that_is_no_longer_ours_is_left_to_its_owner(tmp_path, queue_url):
    """0x64 and no row: the SMSC sends it again, to whoever has taken the link over."""
    async with instance(tmp_path, queue_url) as one:
        one.epochs[LINK] -= 1  # as an earlier owner knows it

        (given,) = await one.deliver(YES)

        assert given.answers == [TEMPORARY]
        assert await texts_of(one) == []
        one.epochs[LINK] += 1
        (again,) = await one.deliver(YES)
        assert again.answers == [OK]
        assert await texts_of(one) == ["YES"]


async def test_what_waits_when_the_database_goes_is_refused_at_once(tmp_path, queue_url):
    """The SMSC's window is not held by what we cannot store."""
    async with instance(tmp_path, queue_url) as one:
        given = Given(YES)
        one.inbound.take(LINK, [given])  # type: ignore[list-item]

        one.inbound.refuse()

        assert given.answers == [TEMPORARY]


async def test_two_honest_messages_of_the_same_words_survive(tmp_path, queue_url):
    """Property 7: their answers were written, so nobody repeated anything."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(YES)
        await one.deliver(YES)
        await one.deliver(YES, YES)

        assert await texts_of(one) == ["YES"] * 4


async def test_a_message_whose_answer_was_never_written_is_a_repetition_when_it_comes_again(tmp_path, queue_url):
    """The session had ended: the SMSC cannot know that we have it. The copy is answered; the next one is new."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(YES, session_lives=False)

        (again,) = await one.deliver(YES)
        assert again.answers == [OK]
        assert await texts_of(one) == ["YES"]
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "repeated"}) == 1

        await one.deliver(YES)
        assert await texts_of(one) == ["YES", "YES"]


async def test_after_two_minutes_it_is_a_message_of_its_own(tmp_path, queue_url):
    """Better twice than never."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(YES, session_lives=False)
        one.clock.ahead_s = REPEATED_WITHIN_S + 1

        await one.deliver(YES)

        assert await texts_of(one) == ["YES", "YES"]


@pytest.mark.parametrize(
    "other",
    [
        replace(YES, octets=b"yes", text="yes"),
        replace(YES, source=Address("447700900124")),
        replace(YES, destination=Address("60778", 0, 1)),
        replace(YES, data_coding=1),
    ],
    ids=["octets", "source", "destination", "coding"],
)
async def test_a_message_that_differs_in_anything_is_no_repetition(tmp_path, queue_url, other):
    """Link, addresses, coding and octets: all of them."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(YES, session_lives=False)

        await one.deliver(other)

        assert len(await texts_of(one)) == 2
    assert digest(LINK, YES) != digest("carrier-b", YES)


@pytest.mark.parametrize(("answered", "rows"), [(True, 2), (False, 1)])
async def test_whether_a_response_was_written_outlives_the_process(tmp_path, queue_url, answered, rows):
    """The local record knows it: a message that was stored and not acknowledged at a kill is a repetition afterwards."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(YES)
        if not answered:  # killed between the commit and the record
            for file in (tmp_path / "1_a" / "record").iterdir():
                file.unlink()
        record = Record.open(tmp_path / "1_a" / "record")
        desk = InboundDesk(
            epochs=one.epochs,
            record=record,
            metrics=one.metrics,
            clock=one.clock,
            wake=lambda: None,
            links=one.links,
            reassembly_wait_s=600.0,
            stops=one.stops,
            settings=one.settings,
        )
        await desk.restore(one.flushing, [LINK])
        given = Given(YES)
        desk.take(LINK, [given])  # type: ignore[list-item]
        await desk.flush(one.flushing)
        record.close()

        assert given.answers == [OK]
        assert len(await texts_of(one)) == rows


async def test_what_nobody_can_read_is_kept(tmp_path, queue_url):
    """Refused by the session already; an engineer may look at the octets."""
    async with instance(tmp_path, queue_url) as one:
        one.inbound.take_undecodable(LINK, b"\x00garbage\xff")
        await one.inbound.flush(one.flushing)

        (row,) = await one.app.fetch("select class, octets, text from tocsin.inbound")
        assert (row["class"], row["octets"], row["text"]) == ("undecodable", b"\x00garbage\xff", "")
        assert one.inbound.pending == 0


@pytest.mark.parametrize("text", ["\x00nul", 'quote " and \\ and {,}', "🙂 Привет", "\ud800 lone", ""])
async def test_any_text_can_be_stored(tmp_path, queue_url, text):
    """What Postgres cannot hold becomes U+FFFD; nothing makes a flush fail for ever."""
    async with instance(tmp_path, queue_url) as one:
        (given,) = await one.deliver(replace(YES, text=text, octets=text.encode("utf-8", "surrogatepass")))

        assert given.answers == [OK]
        assert await texts_of(one) == [text.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")]


async def test_many_messages_keep_their_order(tmp_path, queue_url):
    """More than one flush takes."""
    async with instance(tmp_path, queue_url) as one:
        said = [replace(YES, text=str(n), octets=str(n).encode()) for n in range(1_200)]
        given = await one.deliver(*said)

        assert {tuple(g.answers) for g in given} == {(OK,)}
        assert await texts_of(one) == [str(n) for n in range(1_200)]


async def test_messages_above_the_bound_are_refused_and_come_again(tmp_path, queue_url, monkeypatch):
    """An SMSC that is bound anew sends all it was not answered for again: a session's bound is not enough."""
    monkeypatch.setattr(inbound_module, "MOST_UNWRITTEN", 2)
    async with instance(tmp_path, queue_url) as one:
        said = [replace(YES, text=text, octets=text.encode()) for text in ("A", "B", "C", "D")]
        given = [Given(message) for message in said]
        with structlog.testing.capture_logs() as logs:
            one.inbound.take(LINK, given)  # type: ignore[arg-type]

        assert one.inbound.pending == 2
        assert [g.answers for g in given] == [[], [], [THROTTLED], [THROTTLED]]
        assert [entry["event"] for entry in logs] == ["deliveries_refused"]

        await one.inbound.flush(one.flushing)
        again = await one.deliver(*said[2:])
        assert [g.answers for g in (*given[:2], *again)] == [[OK]] * 4
        assert await texts_of(one) == ["A", "B", "C", "D"]


async def test_a_full_disk_neither_loses_nor_doubles_a_message(tmp_path, queue_url):
    """It is stored, but its answer could not be recorded: the SMSC is told to send it again, and that is a repetition."""
    async with instance(tmp_path, queue_url) as one:
        one.record.close()
        (given,) = await one.deliver(YES)

        assert given.answers == [TEMPORARY]
        (again,) = await one.deliver(YES)
        assert again.answers == [OK]
        assert await texts_of(one) == ["YES"]
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "repeated"}) == 1
