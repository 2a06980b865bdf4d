"""dispatcher/intake.py: a receipt is answered once it is kept, and what keeps it goes once it is applied."""

from __future__ import annotations

import pytest

from dispatcher.errors import StoreUnavailable
from dispatcher.intake import LEFT_AFTER_S
from dispatcher.store import PROBING, connect
from gateway import DeliveryState, Receipt
from tests.dispatcher.chores import Chores
from tests.dispatcher.instance import Given, Instance, Unseen, instance
from tests.journey.running import LINK

RECIPIENT = "447700900123"
OK, TEMPORARY = 0x00, 0x64
ROWS = "select count(*) from tocsin.receipt_taken"


def receipt(message_id: str, **more: str) -> Receipt:
    return Receipt(message_id, DeliveryState.DELIVERED, **({"source": RECIPIENT, "destination": "Northside"} | more))


async def keep(one: Instance, *said: Receipt, link: str = LINK) -> list[Given]:
    """Let receipts come and be kept, and no more."""
    given = [Given(each) for each in said]
    one.intake.take(link, given)  # type: ignore[arg-type]
    await one.intake.keep(one.flushing)
    return given


async def test_a_receipt_is_answered_once_it_is_kept_and_its_row_goes_once_it_is_applied(tmp_path, queue_url):
    """The SMSC's window does not wait for the segment to be found."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])

        (given,) = await keep(one, receipt("m1"))
        assert given.answers == [OK]
        assert await one.app.state(number) == "submitted"
        assert await one.app.value(ROWS) == 1

        await one.bring_home()
        assert await one.app.state(number) == "delivered"
        assert await one.app.value(ROWS) == 0


async def test_what_a_process_kept_and_did_not_apply_is_applied_by_the_next_owner(tmp_path, queue_url):
    """Twice applied is once told."""
    async with instance(tmp_path, queue_url, name="1:a") as one:
        numbers = [await one.sent([f"m{n}"]) for n in range(3)]
        await keep(one, receipt("m0"), receipt("m1"))
        await keep(one, receipt("m2"), receipt("stranger"))
        async with instance(tmp_path, queue_url, name="2:b") as two:
            await two.intake.restore(two.flushing, [LINK])
            await two.bring_home()

            assert [await two.app.state(number) for number in numbers] == ["delivered"] * 3
            assert await two.app.value(ROWS) == 0
        await one.bring_home()  # the first one lives after all

        assert await one.app.value("select count(*) from tocsin.event_log where type = 'job.delivered'") == 3
        assert await one.app.value("select count(distinct message_id) from tocsin.receipt_wait") == 1


async def test_a_row_whose_commit_nobody_saw_is_found_and_applied_once(tmp_path, queue_url):
    """Its receipts were refused and come again."""
    async with instance(tmp_path, queue_url) as one:
        chores = Chores(one)
        number = await one.sent(["m1"])
        given = Given(receipt("m1"))
        one.intake.take(LINK, [given])  # type: ignore[list-item]
        with pytest.raises(StoreUnavailable):
            await one.intake.keep(Unseen(one.flushing))  # type: ignore[arg-type]
        assert given.answers == [TEMPORARY]
        await one.receive(receipt("m1"))
        assert await one.app.value(ROWS) == 1

        await one.app.connection.execute(
            "update tocsin.receipt_taken set taken_at = now() - make_interval(secs => $1)", LEFT_AFTER_S
        )
        await chores.run()
        await one.bring_home()

        assert await one.app.value(ROWS) == 0
        assert await one.app.events(number) == ["job.delivered"]
        assert one.counter("tocsin_receipts_total", link=LINK, state="delivered") == 1


async def test_what_memory_holds_and_what_is_young_is_not_read_again(tmp_path, queue_url):
    """A row that waits for its settle, and one whose commit is on its way to us."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        one.accepted(job, ["m1"])
        await one.receive(receipt("m1"))
        other = '[["stranger", 40, "", "", "", ""]]'
        await one.app.connection.execute(
            "insert into tocsin.receipt_taken (link, receipts) values ($1, $2)", LINK, other
        )

        await one.intake.restore(one.flushing, [LINK], LEFT_AFTER_S)
        assert one.receipts.held == 1
        await one.app.connection.execute("update tocsin.receipt_taken set taken_at = now() - interval '1 minute'")
        await one.intake.restore(one.flushing, [LINK], LEFT_AFTER_S)
        assert one.receipts.held == 2

        await one.flush()
        await one.bring_home()
        assert await one.app.state(number) == "delivered"
        assert await one.app.value(ROWS) == 0


async def test_with_the_database_away_what_was_kept_waits_and_is_applied_after_it(tmp_path, queue_url):
    """It was answered: nobody sends it again."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await keep(one, receipt("m1"))
        broken = await connect(queue_url, PROBING)
        await broken.close()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await one.receipts.flush(broken)
        one.intake.refuse()

        await one.bring_home()

        assert await one.app.state(number) == "delivered"
        assert await one.app.value(ROWS) == 0


async def test_a_row_of_another_owner_s_link_is_left_to_it(tmp_path, queue_url):
    """Whoever owns the link reads it."""
    async with instance(tmp_path, queue_url, links={LINK: {}, "carrier-b": {}}) as one:
        await keep(one, receipt("m1"), link="carrier-b")
        async with instance(tmp_path, queue_url, name="2:b", links={LINK: {}, "carrier-b": {}}) as two:
            await two.intake.restore(two.flushing, [LINK])
            assert two.receipts.held == 0
            await two.intake.restore(two.flushing, ["carrier-b"])
            assert two.receipts.held == 1


@pytest.mark.parametrize("said", ['"{}\\', "a\x00b", "\xff\x80", "", "NULL", "x" * 65])
async def test_what_an_smsc_writes_is_kept_as_it_is(tmp_path, queue_url, said):
    """Ids and addresses are texts of a stranger."""
    async with instance(tmp_path, queue_url) as one:
        await keep(one, receipt(said, source=said, destination=said, error="01"))
        async with instance(tmp_path, queue_url, name="2:b") as two:
            await two.intake.restore(two.flushing, [LINK])
            ((item,),) = [two.receipts._waiting]

        assert (item.message_id, item.source, item.destination, item.error, item.rank) == (said, said, said, "01", 40)
