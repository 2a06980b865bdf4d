"""What an SMSC's answer makes of a job."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes.smsc import THROTTLED, Answer
from tests.journey.running import LINK, journey, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.fakes.smsc import Logged

TO = "447700900123"
OTHER = "447700900124"
TWO_PARTS = "x" * 200


def scripted(by_recipient: Mapping[str, Sequence[Answer]]) -> Callable[[Logged], Answer]:
    """Answer each recipient's submits in this order, and accept all others."""
    seen: dict[str, int] = defaultdict(int)

    def answer(submit: Logged) -> Answer:
        to = submit.fields["destination_addr"]
        seen[to] += 1
        answers = by_recipient.get(to, ())
        return answers[seen[to] - 1] if seen[to] <= len(answers) else Answer()

    return answer


async def test_a_passing_trouble_defers_the_job_and_it_goes_again_after_its_wait(tmp_path, queue_url):
    """0x08: an attempt is spent, the reason stands in the row meanwhile, and lane 1 waits a second."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(status=0x08)]})
        number = await world.app.enqueue(TO, category="staff")

        await world.app.until_state(number, "deferred")
        assert await world.app.reason(number) == "RETRY_ESME_RSYSERR"
        await world.app.until_state(number, "submitted")

        first, second = world.smsc.received("submit_sm")
        assert 0.9 < second.at - first.at < 4
        assert [row["attempt"] for row in await world.app.sent(number)] == [2]


async def test_a_retry_sends_only_the_parts_that_were_not_accepted(tmp_path, queue_url):
    """The recipient gets each part once."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(), Answer(status=0x14)]})
        number = await world.app.enqueue(TO, TWO_PARTS)
        await world.app.until_state(number, "deferred")
        await world.app.hurry()
        await world.app.until_state(number, "submitted")

        assert [submit.fields["short_message"][5] for submit in world.smsc.received("submit_sm")] == [1, 2, 2]
        assert [row["part"] for row in await world.app.sent(number)] == [1, 2]


async def test_a_refused_number_fails_with_the_smsc_s_reason(tmp_path, queue_url):
    """0x0B: never tried again."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(status=0x0B)]})
        number = await world.app.enqueue(TO)
        await world.app.until_state(number, "failed")

        assert await world.app.reason(number) == "ESME_RINVDSTADR"
        assert await world.app.events(number) == ["job.failed"]
        assert await world.app.value("select count(*) from tocsin.claim") == 0


async def test_a_sender_that_is_not_provisioned_fails_the_job_and_not_the_link(tmp_path, queue_url):
    """0x0A: an operator must look, and the other messages go on."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(status=0x0A)]})
        number, other = await world.app.enqueue(TO), await world.app.enqueue(OTHER)
        await world.app.until_state(number, "failed")
        await world.app.until_state(other, "submitted")

        assert await world.app.reason(number) == "ESME_RINVSRCADR"


async def test_a_refusal_that_does_not_say_why_is_tried_three_times(tmp_path, queue_url):
    """0x45 is a passing trouble for some carriers and a blocked number for others."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(status=0x45)] * 5})
        number = await world.app.enqueue(TO)
        for attempt in (1, 2):
            await world.smsc.seen("submit_sm", attempt)
            await world.app.until_state(number, "deferred")
            await world.app.hurry()
        await world.app.until_state(number, "failed")

        assert len(world.smsc.received("submit_sm")) == 3
        assert await world.app.reason(number) == "ESME_RSUBMITFAIL"


async def test_a_throttled_segment_is_repeated_first_and_spends_no_attempt(tmp_path, queue_url):
    """0x58: the link pauses, and nothing of its lane overtakes."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(status=THROTTLED)]})
        number = await world.app.enqueue(TO)
        await world.smsc.until(lambda: any(pdu.status == THROTTLED for pdu in world.smsc.answers()))
        others = [await world.app.enqueue(OTHER) for _ in range(3)]
        for other in others:
            await world.app.until_state(other, "submitted")

        submits = world.smsc.received("submit_sm")
        assert [submit.fields["destination_addr"] for submit in submits] == [TO, TO, OTHER, OTHER, OTHER]
        assert submits[1].at - submits[0].at >= 0.9
        assert await world.app.state(number) == "submitted"
        assert [row["attempt"] for row in await world.app.sent(number)] == [1]


async def test_a_part_refused_after_another_was_accepted_is_a_partial_failure(tmp_path, queue_url):
    """The accepted part is told, and its receipt does not make the job delivered."""
    async with journey(tmp_path, queue_url, window_size=1) as world:
        world.smsc.on_submit = scripted({TO: [Answer(message_id="first"), Answer(status=0x66)]})
        number = await world.app.enqueue(TO, TWO_PARTS)
        await world.app.until_state(number, "failed")

        assert await world.app.reason(number) == "PARTIAL"
        world.smsc.deliver_receipt("first", world.smsc.received("submit_sm")[0])
        await until(lambda: _received(world.app, number))
        assert await world.app.state(number) == "failed"


async def _received(app, number: int) -> bool:
    return [row["receipt_state"] for row in await app.sent(number)] == [40]


async def test_an_unanswered_segment_is_in_doubt_until_its_late_answer(tmp_path, queue_url):
    """Nobody knows whether it was taken; then the SMSC says so."""
    async with journey(tmp_path, queue_url, response_timeout_s=0.5) as world:
        world.smsc.on_submit = lambda _: Answer(delay_s=1.1)
        number = await world.app.enqueue(TO)

        await world.app.until_state(number, "uncertain")
        assert await world.app.events(number) == ["job.uncertain"]
        await world.app.until_state(number, "submitted")

        assert len(world.smsc.received("submit_sm")) == 1
        assert len(await world.app.sent(number)) == 1


async def test_a_receipt_of_a_late_answer_counts(tmp_path, queue_url):
    """The doubt ends in delivered."""
    async with journey(tmp_path, queue_url, response_timeout_s=0.5) as world:
        world.smsc.receipt_delay_s = 0.0
        world.smsc.on_submit = lambda _: Answer(delay_s=1.1)
        number = await world.app.enqueue(TO)

        await world.app.until_state(number, "delivered")


async def test_doubt_is_resent_for_an_emergency_and_held_for_a_reminder(tmp_path, queue_url):
    """The category decides: twice is better than never, or the other way round. A resend is the same segment again."""
    async with journey(
        tmp_path, queue_url, daemon={"doubt_resend_s": 0.2}, response_timeout_s=0.3, window_size=20
    ) as world:
        world.smsc.on_submit = scripted({TO: [Answer(withhold=True)], OTHER: [Answer(withhold=True)]})
        emergency = await world.app.enqueue(TO, TWO_PARTS, category="emergency")
        reminder = await world.app.enqueue(OTHER)

        await world.app.until_state(emergency, "submitted")

        submits = [
            s.fields["short_message"] for s in world.smsc.received("submit_sm") if s.fields["destination_addr"] == TO
        ]
        assert len(submits) == 3
        assert submits[2] == submits[0]
        assert await world.app.state(reminder) == "uncertain"
        assert sum(s.fields["destination_addr"] == OTHER for s in world.smsc.received("submit_sm")) == 1


async def test_a_lost_connection_puts_the_unanswered_in_doubt_and_the_rest_goes_over_the_next_session(
    tmp_path, queue_url
):
    """What was never written is not in doubt."""
    async with journey(tmp_path, queue_url, window_size=5) as world:
        world.smsc.on_submit = lambda _: Answer(withhold=True)
        ids = [await world.app.enqueue(f"4477009{n:05d}") for n in range(20)]
        await world.smsc.seen("submit_sm", 4)
        written = {s.fields["destination_addr"] for s in world.smsc.received("submit_sm")}
        world.smsc.on_submit = lambda _: Answer()
        world.smsc.drop()

        await world.app.until_states({"uncertain": len(written), "submitted": len(ids) - len(written)})

        doubted = {row["recipient"] for row in await world.app.fetch("select recipient from tocsin.uncertain")}
        assert doubted == written
        assert len(world.smsc.received("submit_sm")) == len(ids)


async def test_the_rest_of_a_message_is_not_cut_in_another_way_than_what_is_out(tmp_path, queue_url):
    """References of 16 bits take a letter's room: as many parts, and another place to cut, so that one would be doubled."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = scripted({TO: [Answer(), Answer(status=0x14)]})
        number = await world.app.enqueue(TO, TWO_PARTS)
        other = await world.app.enqueue(OTHER, TWO_PARTS, not_before=datetime.now(UTC) + timedelta(hours=1))
        await world.app.until_state(number, "deferred")

        text = world.path.read_text(encoding="utf-8")
        world.path.write_text(
            text.replace('name = "carrier-a"\n', 'name = "carrier-a"\nconcatenation = "udh16"\n'),
            encoding="utf-8",
        )
        world.daemon.daemon._reload_asked.set()  # as SIGHUP does

        async def is_taken_over() -> bool:
            return world.daemon.daemon._gateway[LINK].settings.concatenation == "udh16"

        await until(is_taken_over)
        await world.app.hurry()
        await world.app.until_state(number, "failed")
        assert await world.app.reason(number) == "PARTIAL"
        await world.app.until_state(other, "submitted")
        to_the_first = [pdu for pdu in world.smsc.received("submit_sm") if pdu.fields["destination_addr"] == TO]
        assert len(to_the_first) == 2
