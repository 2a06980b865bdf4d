"""Receipts as an SMSC sends them, on the session it likes, at the moment it likes."""

from __future__ import annotations

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
