"""Receipts as an SMSC sends them, on the session it likes, at the moment it likes."""

from __future__ import annotations

import pytest

from dispatcher.receipt_ids import LEARNT_AFTER, RELATIONS
from tests.dispatcher.instance import tables
from tests.fakes.smsc import DELIVERED, ENROUTE, UNDELIVERABLE, Answer
from tests.journey.running import LINK, journey, until

TO = "447700900123"


async def test_a_receipt_before_its_submit_sm_resp_counts(tmp_path, queue_url):
    """Some SMSCs deliver faster than they answer."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: Answer(message_id="early", delay_s=0.3)
        number = await world.app.enqueue(TO)
        (submit,) = await world.smsc.seen("submit_sm")
        world.smsc.deliver_receipt("early", submit)
        await world.smsc.seen("deliver_sm_resp")
        assert world.smsc.answers() == []

        await world.app.until_state(number, "delivered")

        assert await world.app.events(number) == ["job.delivered"]
        assert world.daemon.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 0


async def test_a_repeated_and_a_late_receipt_leave_the_database_as_it_was(tmp_path, queue_url):
    """The SMSC repeats DELIVRD, and an ENROUTE was on its way for longer: answered, counted, nothing changed."""
    async with journey(tmp_path, queue_url) as world:
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "submitted")
        (submit,) = world.smsc.received("submit_sm")
        (answer,) = world.smsc.answers()
        name = answer.fields["message_id"]
        world.smsc.deliver_receipt(name, submit, UNDELIVERABLE)
        await world.app.until_state(number, "undelivered")
        world.smsc.deliver_receipt(name, submit, DELIVERED)
        await world.app.until_state(number, "delivered")
        before = await tables(world.app, "sent", "receipt_wait", "event_log", "closed", "ready", "deferred")

        for state in (DELIVERED, ENROUTE, UNDELIVERABLE, DELIVERED):
            world.smsc.deliver_receipt(name, submit, state)
        answers = await world.smsc.seen("deliver_sm_resp", 6)

        async def applied() -> bool:  # an answer says that they are kept, and no more
            return world.daemon.counter("tocsin_receipts_total", link=LINK, state="repeated") == 3

        await until(applied)
        assert [pdu.status for pdu in answers] == [0] * 6
        assert await tables(world.app, *before) == before
        assert world.daemon.counter("tocsin_receipts_total", link=LINK, state="repeated") == 3
        assert world.daemon.counter("tocsin_receipts_total", link=LINK, state="enroute") == 1


async def test_receipts_come_over_a_receiver_session_of_its_own(tmp_path, queue_url):
    """Transmitter and receiver: what is submitted on one is received on the other."""
    async with journey(tmp_path, queue_url, bind_type="transmitter+receiver") as world:
        await world.smsc.seen("bind_receiver")
        number = await world.app.enqueue(TO, "x" * 200)
        await world.app.until_state(number, "submitted")
        submits = world.smsc.received("submit_sm")
        names = [answer.fields["message_id"] for answer in world.smsc.answers()]

        world.smsc.deliver_receipt(names[0], submits[0])
        await world.smsc.seen("deliver_sm_resp")
        assert await world.app.state(number) == "submitted"
        world.smsc.deliver_receipt(names[1], submits[1])
        await world.app.until_state(number, "delivered")

        sessions = {session.number: session.bind.command for session in world.smsc.sessions if session.bind}
        assert {sessions[submit.session] for submit in submits} == {"bind_transmitter"}
        assert {sessions[pdu.session] for pdu in world.smsc.received("deliver_sm_resp")} == {"bind_receiver"}


async def test_a_stranger_s_receipt_is_answered_kept_and_counted(tmp_path, queue_url):
    """It may belong to a message of another system on the same account."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.deliver_receipt("stranger")
        (answer,) = await world.smsc.seen("deliver_sm_resp")
        assert answer.status == 0
        parked = world.daemon.daemon._receipts._parked

        async def is_parked() -> bool:
            return bool(parked)

        await until(is_parked)
        (item,) = {item for sharing in parked.values() for item in sharing}
        item.parked_at -= 31  # move its clock

        async def counted() -> bool:
            world.daemon.hurry()
            return world.daemon.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 1

        await until(counted)
        assert await world.app.value("select message_id from tocsin.receipt_wait where counted") == "stranger"


async def test_receipts_of_many_submits_arrive_while_others_are_submitted(tmp_path, queue_url):
    """Settles and receipts run side by side: each job ends delivered, whichever came first."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.receipt_delay_s = 0.0
        ids = await world.app.enqueue_many(
            [{"recipient": f"4477009{n:05d}", "body": "x" * (200 if n % 3 == 0 else 20)} for n in range(300)]
        )
        await world.app.until_states({"delivered": len(ids)}, timeout_s=20)


LONGEST = "F" * 57 + "{:07X}"  # 64 characters, the most that an answer may have


def forms(world) -> dict[str, float]:
    """Receipts by how their ids relate to those of the answers."""
    counted = {
        form: world.daemon.counter("tocsin_receipt_ids_total", link=LINK, form=form) for form in (*RELATIONS, "none")
    }
    return {form: count for form, count in counted.items() if count}


@pytest.mark.parametrize(
    ("answered", "told", "form"),
    [
        ("{:d}", "{:x}", "hex"),
        ("{:X}", "{:d}", "decimal"),
        ("{:010d}", "{:d}", "zeros"),
        ("{:d}", "{:020d}", "zeros"),
        ("{:x}", "{:010x}", "zeros"),
        ("{:010d}", "{:X}", "hex"),
        ("{:08X}", "{:012d}", "decimal"),
        ("{:X}", "{:x}", "case"),
        ("m-{:x}", "M-{:X}", "case"),
        (LONGEST, LONGEST, "exact"),
        (LONGEST, LONGEST.lower(), "case"),
    ],
    ids=str,
)
async def test_an_id_that_is_spelt_in_another_way_finds_its_message(tmp_path, queue_url, answered, told, form):
    """Each of three to one person, whose number says nothing then; and by which relation is counted."""
    numbers = [0x0ABCDEF0 + n for n in range(3)]
    async with journey(tmp_path, queue_url) as world:
        waiting = iter(numbers)
        world.smsc.on_submit = lambda _: Answer(message_id=answered.format(next(waiting)))
        jobs = [await world.app.enqueue(TO) for _ in numbers]
        submits = await world.smsc.seen("submit_sm", 3)
        await world.app.until_states({"submitted": 3})

        for number, submit in zip(reversed(numbers), submits, strict=True):
            world.smsc.deliver_receipt(told.format(number), submit)
        await world.app.until_states({"delivered": 3})

        assert {pdu.status for pdu in await world.smsc.seen("deliver_sm_resp", 3)} == {0}
        assert forms(world) == {form: 3}
        assert [await world.app.events(job) for job in jobs] == [["job.delivered"]] * 3


@pytest.mark.parametrize("name", ["", "1"], ids=["no id", "one id"])
async def test_an_id_that_names_no_one_message_is_never_guessed(tmp_path, queue_url, name):
    """Two messages to one person: the receipt is kept, and neither is delivered."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: Answer(message_id=name)
        jobs = [await world.app.enqueue(TO) for _ in range(2)]
        submits = await world.smsc.seen("submit_sm", 2)
        await world.app.until_states({"submitted": 2})

        for submit in submits:
            world.smsc.deliver_receipt(name, submit)
        answers = await world.smsc.seen("deliver_sm_resp", 2)

        async def is_kept() -> bool:
            return bool(await world.app.value("select count(*) from tocsin.receipt_wait"))

        await until(is_kept)
        assert {pdu.status for pdu in answers} == {0}
        assert [await world.app.state(job) for job in jobs] == ["submitted"] * 2
        assert forms(world) == {}


async def test_where_all_have_one_id_the_numbers_tell_them_apart(tmp_path, queue_url):
    """Each receipt is its own person's."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: Answer(message_id="1")
        jobs = [await world.app.enqueue(f"4477009001{n}") for n in range(20, 23)]
        submits = await world.smsc.seen("submit_sm", 3)
        await world.app.until_states({"submitted": 3})

        for submit, state in zip(submits, (DELIVERED, UNDELIVERABLE, DELIVERED), strict=True):
            world.smsc.deliver_receipt("1", submit, state)
        await world.app.until_states({"delivered": 2, "undelivered": 1})

        assert await world.app.state(jobs[1]) == "undelivered"


async def test_a_link_that_has_shown_how_it_spells_ids_takes_no_receipt_of_another_spelling(tmp_path, queue_url):
    """A hundred receipts in hexadecimal: the one whose id, read as a decimal, names another message is a stranger's."""
    numbers = iter(range(0x1000, 0x2000))
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: Answer(message_id=f"{next(numbers):d}")
        await world.app.enqueue_many([{"recipient": TO, "body": "Hello"} for _ in range(LEARNT_AFTER)])
        submits = await world.smsc.seen("submit_sm", LEARNT_AFTER)
        await world.app.until_states({"submitted": LEARNT_AFTER})
        for answer in world.smsc.answers():
            world.smsc.deliver_receipt(f"{int(answer.fields['message_id']):x}", submits[0])
        await world.app.until_states({"delivered": LEARNT_AFTER})
        world.smsc.on_submit = lambda _: Answer(message_id="2FF")
        job = await world.app.enqueue(TO)
        await world.app.until_state(job, "submitted")

        world.smsc.deliver_receipt(str(0x2FF), submits[0])  # 767: read as a decimal, it names that one

        async def is_kept() -> bool:
            return bool(await world.app.value("select count(*) from tocsin.receipt_wait"))

        await until(is_kept)
        assert await world.app.state(job) == "submitted"
        assert forms(world) == {"hex": LEARNT_AFTER}
