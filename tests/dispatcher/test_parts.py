"""dispatcher/parts.py: the parts of a long message from a handset are joined, and never to another person's."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.record import Record
from dispatcher.store import PROBING, connect
from gateway import Address, Inbound
from gateway.reassembly import GAP
from tests.dispatcher.instance import REASSEMBLY_WAIT_S, Given, instance
from tests.journey.running import LINK

OK, TEMPORARY = 0x00, 0x64


def part(
    number: int, of: int, text: str, *, source: str = "447700900123", reference: int = 7, bits: int = 8
) -> Inbound:
    """One part as the gateway gives it, its header included."""
    header = bytes((5, 0, 3, reference, of, number)) if bits == 8 else bytes((6, 8, 4, 0, reference, of, number))
    return Inbound(
        source=Address(source),
        destination=Address("60777", 0, 1),
        text=text,
        octets=header + text.encode("ascii"),
        data_coding=0,
        esm_class=0x40,
        reference=reference,
        reference_bits=bits,
        part=number,
        parts=of,
    )


async def inbox(one) -> list[tuple[str, int]]:
    rows = await one.app.fetch("select text, missing from tocsin.inbox order by inbound_id")
    return [(row["text"], row["missing"]) for row in rows]


async def wait(one, seconds: float) -> None:
    """Let every part be so much older."""
    await one.app.connection.execute(
        "update tocsin.inbound_part set received_at = received_at - make_interval(secs => $1)", seconds
    )


async def look(one) -> None:
    one.inbound.look_for_stale()
    await one.inbound.flush(one.flushing)


async def test_parts_in_any_order_make_one_message_with_one_event(tmp_path, queue_url):
    """Each is answered when it is kept; apps see the whole alone."""
    async with instance(tmp_path, queue_url) as one:
        answers = []
        for number, text in ((3, "!"), (1, "Hello "), (2, "world")):
            (given_,) = await one.deliver(part(number, 3, text))
            answers += given_.answers

        assert answers == [OK] * 3
        assert await inbox(one) == [("Hello world!", 0)]
        (row,) = await one.app.fetch("select * from tocsin.inbox")
        assert (row["parts"], row["class"], row["source"]) == (3, "text", "447700900123")
        assert await one.app.fetch("select type, subject from tocsin.event_log") == [
            ("inbound.received", str(row["inbound_id"]))
        ]
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "part"}) == 3
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "text"}) == 1


async def test_parts_of_one_read_are_joined_at_once(tmp_path, queue_url):
    """Among other messages, and with one part twice among them."""
    async with instance(tmp_path, queue_url) as one:
        short = replace(part(1, 1, "YES"), esm_class=0, octets=b"YES", reference=0, reference_bits=0)
        given_ = await one.deliver(part(2, 2, "world"), short, part(1, 2, "Hello "), part(2, 2, "world"))

        assert [each.answers for each in given_] == [[OK]] * 4
        assert sorted(await inbox(one)) == [("Hello world", 0), ("YES", 0)]


@pytest.mark.parametrize(
    "other",
    [
        {"source": "447700900124"},
        {"reference": 8},
        {"bits": 16},
    ],
)
async def test_a_part_of_another_message_is_never_joined(tmp_path, queue_url, other):
    """Not by the reference alone: one handset in 256 has the same."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(part(1, 2, "Take two "), part(2, 2, "for the dog", **other))
        assert await inbox(one) == []
        await one.deliver(part(2, 2, "tablets"), part(1, 2, "One more ", **other))

        assert sorted(await inbox(one)) == [("One more for the dog", 0), ("Take two tablets", 0)]


async def test_a_part_that_never_comes_is_marked_when_the_others_have_waited(tmp_path, queue_url):
    """Nobody takes a piece for the whole; a part that comes after all is not lost."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(part(1, 3, "Do not take "), part(3, 3, "tablets"))
        await wait(one, REASSEMBLY_WAIT_S - 60)
        await look(one)
        assert await inbox(one) == []
        await wait(one, 120)
        await look(one)

        assert await inbox(one) == [(f"Do not take {GAP}tablets", 1)]
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "incomplete"}) == 1
        assert (await one.app.fetch("select detail from tocsin.event_log"))[0]["detail"].count('"missing": 1') == 1
        await one.deliver(part(2, 3, "more than two "))
        await wait(one, REASSEMBLY_WAIT_S + 60)
        await look(one)
        assert (await inbox(one))[1] == (f"{GAP}more than two {GAP}", 2)


async def test_a_reference_that_is_used_again_hands_over_what_came_before(tmp_path, queue_url):
    """Two messages of one person are not mixed where their parts can tell them apart."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(part(1, 2, "First, "))
        await one.deliver(part(1, 2, "Second, "))
        await one.deliver(part(2, 2, "its end"))

        assert await inbox(one) == [(f"First, {GAP}", 1), ("Second, its end", 0)]


async def test_the_same_message_twice_is_two_messages(tmp_path, queue_url):
    """Some handsets never change the reference; the first one's answers were written."""
    async with instance(tmp_path, queue_url) as one:
        for _ in range(2):
            await one.deliver(part(1, 2, "Help "), part(2, 2, "me"))

        assert await inbox(one) == [("Help me", 0)] * 2


async def test_a_part_that_comes_again_while_its_message_waits_is_a_repetition(tmp_path, queue_url):
    """Whether or not it was answered."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(part(1, 2, "Help "))
        (again,) = await one.deliver(part(1, 2, "Help "))
        await one.deliver(part(2, 2, "me"))

        assert again.answers == [OK]
        assert await inbox(one) == [("Help me", 0)]
        assert one.counter("tocsin_inbound_total", link=LINK, **{"class": "repeated"}) == 1


@pytest.mark.parametrize(("answered", "messages"), [(False, 1), (True, 2)])
async def test_after_a_kill_only_a_part_whose_answer_was_not_written_is_a_repetition(
    tmp_path, queue_url, answered, messages
):
    """The last part made the message; the SMSC sends it again."""
    async with instance(tmp_path, queue_url) as one:
        await one.deliver(part(1, 2, "Help "), part(2, 2, "me"))
        if not answered:  # killed between the commit and the record
            for file in (tmp_path / "1_a" / "record").iterdir():
                file.unlink()
        record = Record.open(tmp_path / "1_a" / "record")
        one.inbound._parts._record = record
        one.inbound._parts._acknowledged.clear()
        (again,) = await one.deliver(part(2, 2, "me"))
        await wait(one, REASSEMBLY_WAIT_S + 60)
        await look(one)
        record.close()

        assert again.answers == [OK]
        assert len(await inbox(one)) == messages


async def test_without_the_database_parts_are_refused_and_come_again(tmp_path, queue_url):
    """Whole messages of the same read too; nothing is stored twice."""
    async with instance(tmp_path, queue_url) as one:
        broken = await connect(queue_url, PROBING)
        await broken.close()
        short = replace(part(1, 1, "YES"), esm_class=0, octets=b"YES", reference=0, reference_bits=0)
        given_ = [Given(part(1, 2, "Help ")), Given(part(2, 2, "me")), Given(short)]
        one.inbound.take(LINK, given_)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable):
            await one.inbound.flush(broken)
        again = await one.deliver(part(1, 2, "Help "), part(2, 2, "me"), short)

        assert [each.answers for each in given_] == [[TEMPORARY]] * 3
        assert [each.answers for each in again] == [[OK]] * 3
        assert sorted(await inbox(one)) == [("Help me", 0), ("YES", 0)]


async def test_a_link_that_was_lost_keeps_nothing_and_refuses(tmp_path, queue_url):
    """Its owner gets the part from the SMSC."""
    async with instance(tmp_path, queue_url) as one:
        one.epochs[LINK] -= 1
        (given_,) = await one.deliver(part(1, 2, "Help "))

        assert given_.answers == [TEMPORARY]
        assert await one.app.value("select count(*) from tocsin.inbound_part") == 0


@pytest.mark.parametrize("of", [2, 3, 17, 255])
async def test_any_number_of_parts_is_in_order(tmp_path, queue_url, of):
    """2 to 255, shuffled, over many reads."""
    async with instance(tmp_path, queue_url) as one:
        parts = [part(number, of, f"<{number}>") for number in range(1, of + 1)]
        random.Random(of).shuffle(parts)
        for begin in range(0, of, 40):
            await one.deliver(*parts[begin : begin + 40])

        assert await inbox(one) == [("".join(f"<{number}>" for number in range(1, of + 1)), 0)]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_the_order_nobody_gets_another_one_s_words(tmp_path, queue_url, seed):
    """Many people, few references used again and again: no text has a part of another, none is lost, all in order."""
    chance = random.Random(seed)
    async with instance(tmp_path, queue_url) as one:
        for _ in range(10):
            await one.app.connection.execute("truncate tocsin.inbound, tocsin.inbound_part")
            streams, wanted = conversations(chance, people=chance.randint(2, 8), references=chance.randint(1, 2))
            while streams:
                taken = []
                for _ in range(min(len(streams), chance.randint(1, 6))):
                    stream = chance.choice(streams)
                    taken.append(stream.pop(0))
                    if not stream:
                        streams.remove(stream)
                    if not streams:
                        break
                await one.deliver(*taken)

            assert sorted(text for text, _ in await inbox(one)) == sorted(wanted)


def conversations(chance: random.Random, *, people: int, references: int) -> tuple[list[list[Inbound]], list[str]]:
    """What each person sends, part by part, each message's own in any order; and the texts."""
    streams, wanted = [], []
    for person in range(people):
        stream = []
        for message in range(chance.randint(1, 3)):
            words = {number: f"p{person}m{message}n{number} " for number in range(1, chance.randint(2, 5) + 1)}
            wanted.append("".join(words.values()))
            source = f"4477009{person:05d}"
            cut = [
                part(n, len(words), text, source=source, reference=message % references) for n, text in words.items()
            ]
            stream += chance.sample(cut, len(cut))
        streams.append(stream)
    return streams, wanted
