"""Doubt over the wire, to its end: by the next session, the next link, a late answer, a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher import receipts
from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import LINK, Running, app_of, journey, until, write_file

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged
    from tests.journey.running import Journey

TO, OTHER = "447700900123", "447700900124"
SPARE = "carrier-b"
SILENT = Answer(withhold=True)


def reference(submit: Logged) -> tuple[int, int, int]:
    """Concatenation reference, number of parts, and which one, of the 8-bit header."""
    octets = submit.fields["short_message"]
    return octets[3], octets[4], octets[5]


async def data(world: Journey, number: int) -> list[tuple[str, str | None]]:
    """The job's events with their reasons."""
    rows = await world.app.fetch(
        "select type, reason from tocsin.event_log where subject = $1 order by seq", str(number)
    )
    return [(row["type"], row["reason"]) for row in rows]


async def test_an_emergency_whose_session_is_lost_goes_again_by_the_next_session_at_once(tmp_path, queue_url):
    """No answer can come any more, so nothing is gained by the minute's wait. It is marked, and told."""
    async with journey(tmp_path, queue_url) as world:
        world.smsc.on_submit = lambda _: SILENT
        number = await world.app.enqueue(TO, category="emergency")
        held = await world.app.enqueue(OTHER)
        await world.smsc.seen("submit_sm", 2)
        world.smsc.on_submit = lambda _: Answer()
        world.smsc.drop()

        await world.app.until_state(number, "submitted", timeout_s=20.0)

        assert await world.app.reason(number) == "POSSIBLE_DUPLICATE"
        assert await data(world, number) == [
            ("job.uncertain", "SESSION_LOST"),
            ("job.resent", "RESEND"),
            ("job.submitted", None),
        ]
        assert (await world.app.state(held), await world.app.reason(held)) == ("uncertain", "SESSION_LOST")
        first, second = (s for s in world.smsc.received("submit_sm") if s.fields["destination_addr"] == TO)
        assert first.session != second.session
        assert first.fields["short_message"] == second.fields["short_message"]
        assert world.daemon.counter("tocsin_doubt_ended_total", link=LINK, how="resent") == 1


async def test_a_resend_goes_by_the_next_link_of_its_route(tmp_path, queue_url):
    """The carrier that loses answers loses the next one too."""
    async with Smsc() as silent, Smsc() as spare:
        silent.on_submit = lambda _: SILENT
        path = write_file(tmp_path, queue_url, {LINK: {"port": silent.port}, SPARE: {"port": spare.port}})
        async with Running(path) as daemon, app_of(queue_url) as app:
            await daemon.until_bound()
            await daemon.until_bound(SPARE)

            async def told() -> bool:
                return bool(await app.value("select bool_and(state = 'bound') from tocsin.link"))

            await until(told)
            number = await app.enqueue(TO, category="emergency")
            await silent.seen("submit_sm")
            silent.answers_binds = False
            silent.drop()

            await app.until_state(number, "submitted", timeout_s=20.0)

            (submit,) = spare.received("submit_sm")
            assert submit.fields["destination_addr"] == TO
            assert len(silent.received("submit_sm")) == 1
            assert await app.value("select link from tocsin.job_status($1)", number) == SPARE


async def test_of_three_parts_only_the_unanswered_one_goes_again_with_the_same_reference(tmp_path, queue_url):
    """A handset joins the two that arrived with the third."""
    async with journey(tmp_path, queue_url, daemon={"doubt_resend_s": 0.2}, response_timeout_s=0.5) as world:
        asked = []

        def answer(submit: Logged) -> Answer:
            asked.append(reference(submit))
            return SILENT if len(asked) == 2 else Answer()

        world.smsc.on_submit = answer
        number = await world.app.enqueue(TO, "x" * 400, category="emergency")

        await world.app.until_state(number, "submitted", timeout_s=20.0)

        assert {(ref, of) for ref, of, _ in asked} == {(number % 256, 3)}
        assert [which for _, _, which in asked] == [1, 2, 3, 2]
        assert [(row["part"], row["reason"]) for row in await world.app.sent(number)] == [
            (1, None),
            (2, "POSSIBLE_DUPLICATE"),
            (3, None),
        ]


async def test_a_late_answer_takes_back_a_resend_that_a_paused_link_holds(tmp_path, queue_url):
    """The session lives while the link is paused: what the SMSC has after all is not sent again."""
    async with journey(
        tmp_path, queue_url, daemon={"doubt_resend_s": 0.2}, response_timeout_s=0.5, window_size=20
    ) as world:
        world.smsc.on_submit = lambda _: SILENT
        number = await world.app.enqueue(TO, category="emergency")
        (submit,) = await world.smsc.seen("submit_sm")
        await world.app.fetch("select tocsin.set_paused('link', $1, true, 'test', 'ada')", LINK)
        await world.app.until_state(number, "queued", timeout_s=20.0)

        world.smsc.sessions[0].send("submit_sm_resp", sequence=submit.sequence, message_id="late")
        await world.app.until_state(number, "submitted")

        assert await world.app.reason(number) is None
        world.smsc.on_submit = lambda _: Answer()
        await world.app.fetch("select tocsin.set_paused('link', $1, false, 'test', 'ada')", LINK)
        await world.app.until_state(await world.app.enqueue(OTHER, category="emergency"), "submitted")
        assert [s.fields["destination_addr"] for s in world.smsc.received("submit_sm")] == [TO, OTHER]


async def test_a_receipt_with_an_unknown_id_resolves_the_only_doubt_it_can_mean(tmp_path, queue_url, monkeypatch):
    """The answer was lost with its id; the receipt comes over the next session and names both addresses."""
    monkeypatch.setattr(receipts, "TELL_UNMATCHED_AFTER_S", 0.1)
    monkeypatch.setattr(receipts, "SETTLED_WITHIN_S", 0.1)
    async with journey(tmp_path, queue_url, response_timeout_s=0.5, window_size=20) as world:
        world.smsc.on_submit = lambda _: SILENT
        number, other = await world.app.enqueue(TO), await world.app.enqueue(OTHER)
        submits = {s.fields["destination_addr"]: s for s in await world.smsc.seen("submit_sm", 2)}
        for waiting in (number, other):
            await world.app.until_state(waiting, "uncertain")
        world.smsc.deliver_receipt("never-told", submits[TO])

        async def kept() -> bool:
            world.daemon.hurry()
            return await world.app.state(number) == "delivered"

        await until(kept, poll_s=0.2)

        assert await world.app.state(other) == "uncertain"
        (row,) = await world.app.sent(number)
        assert (row["message_id"], row["reason"]) == ("never-told", "DOUBT_RECEIPT")
        assert await world.app.events(number) == ["job.uncertain", "job.delivered"]
