"""dispatcher/receipts.py: a receipt raises the state of the one segment that it means, or is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import structlog

from dispatcher import intake as intake_module
from dispatcher import receipts as receipts_module
from dispatcher.errors import StoreUnavailable
from dispatcher.receipts import TELL_UNMATCHED_AFTER_S
from dispatcher.store import PROBING, connect
from gateway import DeliveryState, Receipt, Verdict
from tests.dispatcher.chores import DAY_S, PARTITIONS_OF_OLD
from tests.dispatcher.instance import WAIT_S, Given, instance, tables
from tests.journey.running import LINK

DELIVERED, UNDELIVERED, UNKNOWN, ENROUTE = (
    DeliveryState.DELIVERED,
    DeliveryState.UNDELIVERED,
    DeliveryState.UNKNOWN,
    DeliveryState.ENROUTE,
)
RECIPIENT = "447700900123"
OK, THROTTLED, TEMPORARY = 0x00, 0x58, 0x64


def receipt(message_id: str, state: DeliveryState = DELIVERED, **more: str) -> Receipt:
    return Receipt(message_id, state, **({"source": RECIPIENT, "destination": "Northside"} | more))


async def test_a_receipt_makes_its_job_delivered(tmp_path, queue_url):
    """The state, when, and one event."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])

        (given,) = await one.receive(receipt("m1", error="000"))

        assert given.answers == [OK]
        assert await one.app.state(number) == "delivered"
        (row,) = await one.app.sent(number)
        assert (row["receipt_state"], row["receipt_error"]) == (40, "000")
        assert row["receipt_at"] is not None
        assert await one.app.events(number) == ["job.delivered"]
        assert await one.app.value("select reason from tocsin.event_log") is None, "000 is no reason"
        assert one.counter("tocsin_receipts_total", link=LINK, state="delivered") == 1


async def test_a_repeated_receipt_that_nobody_can_match_is_kept_once(tmp_path, queue_url):
    """Property 7 for those that wait for their segment; one that says something else is another receipt."""
    async with instance(tmp_path, queue_url) as one:
        await one.receive(receipt("nobody", UNDELIVERED))
        before = await tables(one.app, "receipt_wait")

        (again,) = await one.receive(receipt("nobody", UNDELIVERED))

        assert again.answers == [OK]
        assert await tables(one.app, *before) == before
        assert one.counter("tocsin_receipts_total", link=LINK, state="repeated") == 1
        await one.receive(receipt("nobody", DELIVERED))
        assert await one.app.value("select count(*) from tocsin.receipt_wait") == 2


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_repeated_receipt_changes_nothing_but_a_counter(tmp_path, queue_url, parts):
    """Property 7: SMSCs repeat what they believe was not heard."""
    async with instance(tmp_path, queue_url) as one:
        names = [f"m{n}" for n in range(parts)]
        await one.sent(names)
        await one.receive(*map(receipt, names))
        before = await tables(one.app, "sent", "receipt_wait", "event_log", "closed", "ready")

        again = await one.receive(*map(receipt, names), *map(receipt, names))

        assert [given.answers for given in again] == [[OK]] * 2 * parts
        assert await tables(one.app, *before) == before
        assert one.counter("tocsin_receipts_total", link=LINK, state="repeated") == 2 * parts


async def test_two_receipts_of_one_segment_in_one_flush_count_as_the_better_one(tmp_path, queue_url):
    """They come in one read after an outage."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])

        given = await one.receive(receipt("m1", UNDELIVERED), receipt("m1"), receipt("m1", UNKNOWN))

        assert [g.answers for g in given] == [[OK]] * 3
        assert await one.app.state(number) == "delivered"
        assert await one.app.events(number) == ["job.delivered"]


async def test_a_state_that_is_not_final_is_answered_and_changes_nothing(tmp_path, queue_url):
    """ENROUTE may come late, after the end."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await one.receive(receipt("m1"))
        before = await tables(one.app, "sent", "receipt_wait", "event_log")

        (given,) = await one.receive(receipt("m1", ENROUTE))

        assert given.answers == [OK]
        assert await tables(one.app, *before) == before
        assert await one.app.state(number) == "delivered"
        assert one.counter("tocsin_receipts_total", link=LINK, state="enroute") == 1


async def test_a_state_only_rises(tmp_path, queue_url):
    """UNDELIV then DELIVRD is an improvement with its own event; the other way round is a repetition."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])

        for state, told in (
            (UNKNOWN, "unknown"), (UNDELIVERED, "undelivered"), (UNKNOWN, "undelivered"), (DELIVERED, "delivered"), (UNDELIVERED, "delivered"),
        ):  # fmt: skip
            await one.receive(receipt("m1", state))
            assert await one.app.state(number) == told

        assert await one.app.events(number) == ["job.unknown", "job.undelivered", "job.delivered"]


async def test_a_job_of_several_parts_is_delivered_when_every_part_is(tmp_path, queue_url):
    """A text with a hole is not delivered; the one event comes with the last part."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["a", "b", "c"])

        await one.receive(receipt("b"))
        await one.receive(receipt("a"))
        assert await one.app.state(number) == "submitted"
        assert await one.app.events(number) == []
        await one.receive(receipt("c", UNDELIVERED))
        assert await one.app.state(number) == "undelivered"
        await one.receive(receipt("c"))

        assert await one.app.state(number) == "delivered"
        assert await one.app.events(number) == ["job.undelivered", "job.delivered"]


async def test_all_parts_of_a_job_in_one_flush_make_one_event(tmp_path, queue_url):
    """The usual case under load."""
    async with instance(tmp_path, queue_url) as one:
        first, second = await one.sent(["a", "b"]), await one.sent(["c", "d"])

        await one.receive(*map(receipt, "dacb"))

        assert await one.app.events(first) == await one.app.events(second) == ["job.delivered"]
        assert one.counter("tocsin_jobs_total", category="transactional", state="delivered") == 2


@pytest.mark.parametrize(
    ("answered", "told", "id_format"),
    [
        ("00BC614E", "12345678", "auto"),  # hexadecimal in the answer, decimal in the receipt
        ("12345678", "BC614E", "auto"),
        ("bc614e", "12345678", "decimal"),
        ("12345678", "00bc614e", "hex"),
        ("0000012345", "12345", "auto"),  # zeros come and go
        ("ABCDEF0", "abcdef0", "auto"),  # so do capitals
    ],
)
async def test_an_id_is_matched_in_each_of_its_forms(tmp_path, queue_url, answered, told, id_format):
    """Carriers write the same number in two ways."""
    async with instance(tmp_path, queue_url, links={LINK: {"message_id_format": id_format}}) as one:
        number = await one.sent([answered])
        await one.receive(receipt(told))

        assert await one.app.state(number) == "delivered"
        await one.receive(receipt(told))
        assert one.counter("tocsin_receipts_total", link=LINK, state="repeated") == 1


async def test_where_ids_are_texts_no_other_form_is_tried(tmp_path, queue_url):
    """The file says so: then 10 and 16 are two messages."""
    async with instance(tmp_path, queue_url, links={LINK: {"message_id_format": "text"}}) as one:
        number = await one.sent(["10"])
        await one.receive(receipt("16"))

        assert await one.app.state(number) == "submitted"


async def test_the_exact_form_goes_before_the_others(tmp_path, queue_url):
    """With ids 10 and 16 in use, the receipt for 16 means 16, though 0x10 is 16 too."""
    async with instance(tmp_path, queue_url) as one:
        ten, sixteen = await one.sent(["10"]), await one.sent(["16"])

        await one.receive(receipt("16"))

        assert [await one.app.state(n) for n in (ten, sixteen)] == ["submitted", "delivered"]


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (RECIPIENT, "Northside"),
        ("Northside", RECIPIENT),  # swapped
        ("+" + RECIPIENT, ""),
        ("07700900123", "12345"),  # national: the last 8 digits are the same
        ("", ""),
        ("12345", "Northside"),  # short codes and texts say nothing
    ],
)
async def test_addresses_may_be_swapped_shortened_or_absent(tmp_path, queue_url, source, destination):
    """Carriers do all of that, and the id is right."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await one.receive(receipt("m1", source=source, destination=destination))

        assert await one.app.state(number) == "delivered"


async def test_a_receipt_about_another_number_is_kept_and_matches_nothing(tmp_path, queue_url):
    """Ids are used again; an address that is not the recipient's is another message's."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])

        (given,) = await one.receive(receipt("m1", source="447700900999", destination="447700900888"))

        assert given.answers == [OK]
        assert await one.app.state(number) == "submitted"
        (kept,) = await one.app.fetch("select message_id, matched_at from tocsin.receipt_wait")
        assert (kept["message_id"], kept["matched_at"]) == ("m1", None)


async def test_between_two_candidates_nothing_is_guessed(tmp_path, queue_url):
    """Two segments with one id: kept as unmatched, and neither is delivered."""
    async with instance(tmp_path, queue_url) as one:
        first, second, third = await one.sent(["m1"]), await one.sent(["m1"]), await one.sent(["m2"])

        given = await one.receive(receipt("m1"), receipt("m2"))

        assert [g.answers for g in given] == [[OK], [OK]]
        assert [await one.app.state(n) for n in (first, second, third)] == ["submitted", "submitted", "delivered"]
        assert await one.app.value("select count(*) from tocsin.receipt_wait where matched_at is null") == 1


async def test_of_two_candidates_the_address_decides(tmp_path, queue_url):
    """An id that was used again for another recipient."""
    async with instance(tmp_path, queue_url) as one:
        first = await one.sent(["m1"])
        other = await one.sent(["m1"], recipient="447700900555")

        await one.receive(receipt("m1", source="447700900555"))

        assert [await one.app.state(n) for n in (first, other)] == ["submitted", "delivered"]


async def older(one, number: int, days: int) -> None:
    """Let the job's segments have been taken so many days ago."""
    await one.app.connection.execute(PARTITIONS_OF_OLD)
    await one.app.connection.execute(
        "update tocsin.sent set submitted_at = now() - make_interval(days => $2) where job_id = $1", number, days
    )


async def test_an_id_that_was_used_weeks_ago_means_the_new_segment(tmp_path, queue_url):
    """SMSCs count from the beginning again; no receipt comes for what ended long ago."""
    async with instance(tmp_path, queue_url) as one:
        one.receipts._horizon_s = 2 * DAY_S  # past that no receipt is waited for
        old = await one.sent(["m1"])
        await older(one, old, 4)
        new = await one.sent(["m1"])

        (given,) = await one.receive(receipt("m1"))

        assert given.answers == [OK]
        assert [await one.app.state(number) for number in (old, new)] == ["submitted", "delivered"]


async def test_an_id_that_was_used_yesterday_means_the_segment_of_the_last_hours(tmp_path, queue_url):
    """A receipt that comes again afterwards is not the older one's."""
    async with instance(tmp_path, queue_url) as one:
        old = await one.sent(["m1"])
        await older(one, old, 1)
        new = await one.sent(["m1"])

        await one.receive(receipt("m1"))
        assert [await one.app.state(number) for number in (old, new)] == ["submitted", "delivered"]

        await one.receive(receipt("m1"))
        assert [await one.app.state(number) for number in (old, new)] == ["submitted", "delivered"]


@pytest.mark.parametrize("submitted_on", ["", "0001010000", "9912312359", "today"])
async def test_a_date_that_is_wrong_still_finds_its_segment(tmp_path, queue_url, submitted_on):
    """Dates are in the carrier's own time, or made up."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await older(one, number, 2)

        await one.receive(receipt("m1", submitted_on=submitted_on.replace("today", f"{datetime.now(UTC):%y%m%d%H%M}")))

        assert await one.app.state(number) == "delivered"


async def test_an_early_receipt_that_is_applied_beside_its_repetition_is_matched(tmp_path, queue_url):
    """The SMSC sent it again just when the answer came, so that both are tried at once."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        await one.receive(receipt("m1"))
        one.intake.take(LINK, [Given(receipt("m1"))])  # type: ignore[list-item]
        await one.intake.keep(one.flushing)

        one.accepted(job, ["m1"])
        await one.flush()
        await one.bring_home()

        assert await one.app.state(number) == "delivered"
        assert await one.app.value("select matched_at is not null from tocsin.receipt_wait")
        assert one.counter("tocsin_receipts_total", link=LINK, state="repeated") == 1


async def test_an_early_receipt_waits_for_its_segment(tmp_path, queue_url):
    """It came before its submit_sm_resp: kept, answered, and matched once the answer is committed."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        (given,) = await one.receive(receipt("m1"))
        assert given.answers == [OK]
        assert await one.app.value("select count(*) from tocsin.receipt_wait") == 1

        one.accepted(job, ["m1"])
        await one.flush()
        await one.receive()

        assert await one.app.state(number) == "delivered"
        assert await one.app.value("select matched_at is not null from tocsin.receipt_wait")
        assert one.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 0


async def test_an_early_receipt_with_another_form_of_the_id_waits_too(tmp_path, queue_url):
    """0xBC614E is 12345678."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        await one.receive(receipt("12345678"))

        one.accepted(job, ["BC614E"])
        await one.flush()
        await one.receive()

        assert await one.app.state(number) == "delivered"


async def test_early_receipts_whose_ids_share_a_form_each_find_their_segment(tmp_path, queue_url):
    """0x10 is 16: the receipt that came first must not stand in the other's place."""
    async with instance(tmp_path, queue_url) as one:
        recipients = {"16": RECIPIENT, "10": "447700900555"}
        ids = [await one.app.enqueue(recipient) for recipient in recipients.values()]
        jobs = await one.claim()
        await one.receive(receipt("10", source=recipients["10"]))
        await one.receive(receipt("16", source=recipients["16"]))

        for job, name in zip(jobs, recipients, strict=True):
            one.accepted(job, [name])
            await one.flush()
            await one.receive()

        assert [await one.app.state(number) for number in ids] == ["delivered", "delivered"]


async def test_a_receipt_whose_answer_is_read_and_not_committed_is_applied_after_that_commit(tmp_path, queue_url):
    """It belongs to a row that is about to be there: it is answered, and its own row stays until then."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        one.accepted(job, ["m1"])
        (given,) = await one.receive(receipt("m1"))
        assert given.answers == [OK]
        assert await one.app.value("select count(*) from tocsin.receipt_taken") == 1

        await one.flush()
        await one.receive()

        assert await one.app.state(number) == "delivered"
        assert await one.app.value("select count(*) from tocsin.receipt_taken") == 0


async def test_a_receipt_that_is_looked_for_while_its_answer_is_committed_finds_it(tmp_path, queue_url):
    """Settles and receipts have a connection each: what one has just missed must not be forgotten."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.app.enqueue()
        (job,) = await one.claim()
        given = Given(receipt("m1"))

        class Slow:
            """Lets the answer be committed between the look and the parking."""

            async def fetch(self, name: str, *arguments: object) -> object:
                rows = await one.claiming.fetch(name, *arguments)
                if name == "find_receipts":
                    one.accepted(job, ["m1"])
                    await one.flush()
                return rows

            def transaction(self) -> object:
                return one.claiming.transaction()

        one.intake.take(LINK, [given])  # type: ignore[list-item]
        await one.intake.keep(one.flushing)
        await one.receipts.flush(Slow())  # type: ignore[arg-type]
        await one.receive()

        assert given.answers == [OK]
        assert await one.app.state(number) == "delivered"


async def test_a_receipt_that_nobody_can_match_is_kept_and_counted_once(tmp_path, queue_url):
    """Never dropped: an operator finds it in receipt_wait and in the counter."""
    async with instance(tmp_path, queue_url) as one:
        (given,) = await one.receive(receipt("nobody"))
        await one.receipts.tell_unmatched(one.flushing)
        assert one.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 0

        one.clock.ahead_s = TELL_UNMATCHED_AFTER_S + 1
        await one.receipts.tell_unmatched(one.flushing)
        await one.receipts.tell_unmatched(one.flushing)

        assert given.answers == [OK]
        assert one.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 1
        (row,) = await one.app.fetch("select * from tocsin.receipt_wait")
        assert (row["message_id"], row["counted"], row["matched_at"]) == ("nobody", True, None)


async def test_a_kept_receipt_outlives_the_process(tmp_path, queue_url):
    """The next one takes it up, and matches it."""
    async with instance(tmp_path, queue_url, name="1:a") as one:
        await one.receive(receipt("m1"))
        number = await one.app.enqueue()
        async with instance(tmp_path, queue_url, name="2:b") as two:
            (job,) = await two.claim()
            two.accepted(job, ["m1"])
            await two.flush()
            await two.receipts.restore(two.flushing, [LINK])
            await two.receive()

            assert await two.app.state(number) == "delivered"
            assert await two.app.value("select matched_at is not null from tocsin.receipt_wait")


async def test_links_of_one_account_share_receipts_and_others_do_not(tmp_path, queue_url):
    """A carrier may send the receipt over any session of the account."""
    links = {LINK: {"account": "acme"}, "carrier-b": {"account": "acme"}, "carrier-c": {}}
    async with instance(tmp_path, queue_url, links=links) as one:
        first, second = await one.sent(["m1"]), await one.sent(["m2"])

        await one.receive(receipt("m1"), link="carrier-b")
        await one.receive(receipt("m2"), link="carrier-c")

        assert [await one.app.state(n) for n in (first, second)] == ["delivered", "submitted"]


async def test_while_the_database_is_away_receipts_are_refused_and_the_smsc_keeps_them(tmp_path, queue_url):
    """0x64: sent again later, and matched then."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        broken = await connect(queue_url, PROBING)
        await broken.close()
        given = Given(receipt("m1"))
        one.intake.take(LINK, [given])  # type: ignore[list-item]

        with pytest.raises(StoreUnavailable):
            await one.intake.keep(broken)

        assert given.answers == [TEMPORARY]
        assert (one.intake.pending, one.receipts.pending) == (0, 0)
        (again,) = await one.receive(receipt("m1"))
        assert again.answers == [OK]
        assert await one.app.state(number) == "delivered"


async def test_a_receipt_without_an_id_is_kept(tmp_path, queue_url):
    """And matches no segment whose SMSC gave no id either."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent([""])

        (given,) = await one.receive(receipt(""))

        assert given.answers == [OK]
        assert await one.app.state(number) == "submitted"
        assert await one.app.value("select count(*) from tocsin.receipt_wait") == 1


async def test_receipts_of_a_fenced_answer_are_matched_too(tmp_path, queue_url):
    """Its id was kept for this."""
    async with (
        instance(tmp_path, queue_url, name="1:a") as old,
        instance(tmp_path, queue_url, name="2:b", owns=False) as new,
    ):
        number = await old.app.enqueue()
        (job,) = await old.claim()
        await new.own()
        old.answered(job, [(1, Verdict.ACCEPTED, 0, "m1")])
        await old.flush()

        await new.receive(receipt("m1"))

        assert (await new.app.sent(number))[0]["receipt_state"] == 40


@pytest.mark.parametrize(("first", "second"), [("m0", "m1"), ("m1", "m0")])
@pytest.mark.parametrize("then", [DELIVERED, UNDELIVERED])
async def test_of_a_segment_that_was_sent_again_the_better_receipt_counts_and_is_told_once(
    tmp_path, queue_url, first, second, then
):
    """Both came to be accepted: the late answer's row is FENCED, the other one is of a later attempt."""
    async with instance(tmp_path, queue_url) as one:
        number = await one.sent(["m1"])
        await one.app.connection.execute("update tocsin.sent set attempt = 2")
        await one.app.connection.execute(
            "create temporary table again as select * from tocsin.sent;"
            "update again set message_id = 'm0', attempt = 1, reason = 'FENCED'; insert into tocsin.sent select * from again"
        )

        await one.receive(receipt(first, DELIVERED))
        await one.receive(receipt(second, then))

        assert await one.app.state(number) == "delivered"
        assert await one.app.events(number) == ["job.delivered"]
        assert one.counter("tocsin_jobs_total", category="transactional", state="delivered") == 1


async def test_many_receipts_at_once_each_find_their_segment(tmp_path, queue_url):
    """More than one flush takes, in any order, with strangers among them."""
    async with instance(tmp_path, queue_url) as one:
        ids = await one.app.enqueue_many([{"recipient": f"4477009{n:05d}", "body": "x"} for n in range(1_500)])
        jobs = await one.claim(room=2_000)
        for job in jobs:
            one.accepted(job, [f"{job.id:X}"])
        await one.flush()

        said = [receipt(f"{job.id:X}", source=job.recipient) for job in reversed(jobs)]
        given = await one.receive(*said[:700], *(receipt(f"stranger{n}") for n in range(50)), *said[700:])

        assert {tuple(g.answers) for g in given} == {(OK,)}
        assert await one.app.states() == {"delivered": len(ids)}
        assert await one.app.value("select count(*) from tocsin.receipt_wait") == 50
        await asyncio.sleep(0)


async def test_receipts_above_the_bound_are_refused_and_come_again(tmp_path, queue_url, monkeypatch):
    """An SMSC that is bound anew sends all it was not answered for again: a session's bound is not enough."""
    monkeypatch.setattr(intake_module, "MOST_UNWRITTEN", 3)
    async with instance(tmp_path, queue_url) as one:
        numbers = [await one.sent([f"m{n}"]) for n in range(5)]
        given = [Given(receipt(f"m{n}")) for n in range(5)]
        with structlog.testing.capture_logs() as logs:
            one.intake.take(LINK, given)  # type: ignore[arg-type]

        assert one.intake.pending == 3
        assert [g.answers for g in given] == [[], [], [], [THROTTLED], [THROTTLED]]
        assert [entry["event"] for entry in logs] == ["deliveries_refused"]

        await one.bring_home()
        again = await one.receive(receipt("m3"), receipt("m4"))
        assert [g.answers for g in (*given[:3], *again)] == [[OK]] * 5
        assert [await one.app.state(number) for number in numbers] == ["delivered"] * 5


async def test_receipts_that_wait_for_their_own_settle_count_towards_the_bound(tmp_path, queue_url, monkeypatch):
    """While outcomes cannot be written, an SMSC that repeats their receipts fills no memory."""
    monkeypatch.setattr(intake_module, "MOST_UNWRITTEN", 3)
    async with instance(tmp_path, queue_url) as one:
        await one.own()
        number = await one.app.enqueue()
        (job,) = await one.claim()
        one.accepted(job, ["m1"])  # read, not committed
        given: list[Given] = []
        for _ in range(5):
            given += await one.receive(receipt("m1"))

        assert [g.answers for g in given] == [[OK], [OK], [OK], [THROTTLED], [THROTTLED]]

        await one.flush()
        await one.bring_home()
        assert await one.app.state(number) == "delivered"
        (again,) = await one.receive(receipt("m1"))
        assert again.answers == [OK]


async def test_receipts_of_one_id_that_nobody_can_match_fill_no_memory(tmp_path, queue_url, monkeypatch):
    """The table keeps each of them; memory keeps no more than its bound, whatever their ids."""
    monkeypatch.setattr(receipts_module, "MOST_PARKED", 3)
    async with instance(tmp_path, queue_url) as one:
        for n in range(5):
            (given,) = await one.receive(receipt("stranger", error=f"00{n}"))
            assert given.answers == [OK]

        parked = {item for sharing in one.receipts._parked.values() for item in sharing}
        assert len(parked) == 3
        assert await one.app.value("select count(*) from tocsin.receipt_wait") == 5

        one.clock.ahead_s += WAIT_S + 1.0
        await one.receipts.tell_unmatched(one.flushing)
        await one.receive(receipt("another"))
        assert len({item for sharing in one.receipts._parked.values() for item in sharing}) == 1
