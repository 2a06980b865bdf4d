"""Whatever is slow: memory is bounded, emergencies go first, lanes keep their order, a metric names the part, it recovers.

The slow parts are real: a lock in Postgres, an SMSC that keeps its answers, a disk that is full.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from dispatcher import backlog, intake, record
from gateway import link as link_module
from tests.fakes.smsc import Answer
from tests.journey.running import LINK, Journey, journey, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes.smsc import Logged

MOST_UNWRITTEN = 100
RATE = 200  # segments a second, and the size of a waiting room
WINDOW = 20
BULK = 1_000
OK, TEMPORARY = 0x00, 0x64


@pytest.fixture(autouse=True)
def low_bounds(monkeypatch):
    monkeypatch.setattr(backlog, "MOST_UNWRITTEN", MOST_UNWRITTEN)


def messages(lane_digit: int, count: int, category: str) -> list[dict[str, object]]:
    return [{"recipient": f"4477009{lane_digit}{n:04d}", "body": "x", "category": category} for n in range(count)]


def on_the_wire(world: Journey, lane_digit: int) -> list[str]:
    """Recipients in the order of their first submit_sm."""
    sent = [submit.fields["destination_addr"] for submit in world.smsc.received("submit_sm")]
    return [to for to in sent if to.startswith(f"4477009{lane_digit}")]


def recipients(jobs: Sequence[dict[str, object]]) -> list[object]:
    return [job["recipient"] for job in jobs]


def in_memory(world: Journey) -> int:
    """Jobs that the daemon holds."""
    return sum(len(lane.held) for lane in world.daemon.daemon._claimer._lanes.values())


def held_s(world: Journey, part: str) -> float:
    return world.daemon.counter("tocsin_held_back_seconds_total", link=LINK, part=part)


def claims_held_s(world: Journey, part: str) -> float:
    return world.daemon.counter("tocsin_claims_held_seconds_total", part=part)


async def an_emergency_goes(world: Journey, number: str = "447700900999") -> None:
    await world.app.enqueue(number, "Cardiac arrest, ward 4", category="emergency")
    await world.smsc.until(
        lambda: any(pdu.fields["destination_addr"] == number for pdu in world.smsc.received("submit_sm"))
    )


@pytest.mark.slow
async def test_a_settle_that_waits_for_a_lock_stops_claims_of_emergencies_last(tmp_path, queue_url, monkeypatch):
    """A migration or a report holds `sent`: what is answered is kept, once; even lane 0 does not fill all memory."""
    bulk = messages(5, BULK, "marketing")
    urgent, most_urgent = messages(1, BULK, "emergency"), 400
    monkeypatch.setattr(backlog, "MOST_URGENT_UNWRITTEN", most_urgent)
    async with journey(tmp_path, queue_url, throughput_per_s=RATE, window_size=WINDOW, receipts="none") as world:
        other = await asyncpg.connect(queue_url)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("lock table tocsin.sent in share mode")
        await world.app.enqueue_many(bulk)
        settler = world.daemon.daemon._settler

        async def full() -> bool:
            """All that was claimed has been answered, and the claims stand still."""
            return claims_held_s(world, "settle") > 1.0 and settler.pending == in_memory(world)

        await until(full, 30)
        assert MOST_UNWRITTEN <= in_memory(world) <= MOST_UNWRITTEN + RATE + WINDOW
        await an_emergency_goes(world)
        assert len(on_the_wire(world, 5)) < BULK
        assert claims_held_s(world, "receive") == 0

        bulk_so_far = len(on_the_wire(world, 5))
        await world.app.enqueue_many(urgent)

        async def full_of_emergencies() -> bool:
            return settler.pending >= most_urgent and settler.pending == in_memory(world)

        await until(full_of_emergencies, 30)
        assert in_memory(world) <= most_urgent + RATE + WINDOW
        assert bulk_so_far == len(on_the_wire(world, 5))

        await transaction.rollback()
        await other.close()
        await world.app.until_states({"submitted": 2 * BULK + 1}, 60)

        assert on_the_wire(world, 5) == recipients(bulk)
        assert on_the_wire(world, 1) == recipients(urgent)
        assert await world.app.value("select count(*) from tocsin.sent") == 2 * BULK + 1


async def test_an_smsc_that_keeps_its_answers_holds_by_the_window_and_no_emergency(tmp_path, queue_url):
    """Memory holds a room and a window, however much waits in the database."""
    bulk = messages(5, BULK, "marketing")
    kept: list[Logged] = []

    def keep(pdu: Logged) -> Answer:
        kept.append(pdu)
        return Answer(withhold=True)

    async with journey(tmp_path, queue_url, throughput_per_s=RATE, window_size=WINDOW, receipts="none") as world:
        world.smsc.on_submit = keep
        await world.app.enqueue_many(bulk)
        await world.smsc.seen("submit_sm", WINDOW - 2)  # two slots are lane 0's

        async def full() -> bool:
            return in_memory(world) == RATE + WINDOW - 2 and held_s(world, "window") > 0

        await until(full)
        await an_emergency_goes(world)
        assert len(on_the_wire(world, 5)) == WINDOW - 2
        before_s = held_s(world, "window")

        async def counts() -> bool:
            return held_s(world, "window") > before_s  # while nothing at all happens

        await until(counts)
        assert in_memory(world) == RATE + WINDOW - 2 + 1
        assert held_s(world, "socket") == 0

        world.smsc.on_submit = lambda _: Answer()
        for pdu in kept:
            world.smsc.sessions[0].send("submit_sm_resp", sequence=pdu.sequence, message_id=f"kept{pdu.sequence}")
        await world.app.until_states({"submitted": BULK + 1}, 60)

        assert on_the_wire(world, 5) == recipients(bulk)


async def test_a_full_disk_holds_by_the_record_and_the_daemon_lives(tmp_path, queue_url, monkeypatch):
    """Nothing is written that could not be recorded; a reply is stored once; then the emergency goes before the bulk."""
    bulk = messages(5, 300, "marketing")
    monkeypatch.setattr(link_module, "RECORD_PAUSE_S", 0.1)
    write = record._write
    is_full = False

    def write_or_fail(descriptor: int, octets: bytes) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor, octets)

    monkeypatch.setattr(record, "_write", write_or_fail)
    async with journey(tmp_path, queue_url, throughput_per_s=RATE, window_size=WINDOW, receipts="none") as world:
        is_full = True
        await world.app.enqueue_many(bulk)

        async def full() -> bool:
            return held_s(world, "record") > 0.2 and in_memory(world) == RATE + WINDOW - 2  # a room, and a batch

        await until(full)
        reply: dict[str, Any] = {"source_addr": "447700900123", "short_message": b"YES"}
        world.smsc.deliver(**reply)
        await world.smsc.seen("deliver_sm_resp", 1)
        await world.app.enqueue("447700900999", "Cardiac arrest, ward 4", category="emergency")

        async def claimed() -> bool:
            return in_memory(world) == RATE + WINDOW - 2 + 1

        await until(claimed)
        assert world.smsc.received("submit_sm") == []
        is_full = False
        await world.app.until_states({"submitted": 301}, 60)
        world.smsc.deliver(**reply)
        answers = await world.smsc.seen("deliver_sm_resp", 2)

        sent = [submit.fields["destination_addr"] for submit in world.smsc.received("submit_sm")]
        assert sent == ["447700900999", *recipients(bulk)]
        assert [answer.status for answer in answers] == [TEMPORARY, OK]
        assert await world.app.value("select count(*) from tocsin.inbox") == 1


@pytest.mark.slow
async def test_receipts_that_wait_for_a_lock_are_bounded_and_stop_bulk_alone(tmp_path, queue_url, monkeypatch):
    """The SMSC keeps what is refused; emergencies go and are settled; in the end every job is delivered."""
    first, most = 60, 40
    monkeypatch.setattr(intake, "MOST_UNWRITTEN", most)
    async with journey(tmp_path, queue_url, throughput_per_s=RATE, window_size=WINDOW) as world:
        jobs = messages(3, first, "transactional")
        await world.app.enqueue_many(jobs)
        await world.app.until_states({"submitted": first})
        monkeypatch.setattr(backlog, "MOST_UNWRITTEN", 20)
        submits = {pdu.sequence: pdu for pdu in world.smsc.received("submit_sm")}
        receipts: dict[int, tuple[str, Logged]] = {}

        def deliver(message_id: str, submit: Logged) -> None:
            receipts[world.smsc.deliver_receipt(message_id, submit)] = (message_id, submit)

        other = await asyncpg.connect(queue_url)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from tocsin.sent for update")
        for answer in world.smsc.answers():
            deliver(answer.fields["message_id"], submits[answer.sequence])

        async def held() -> bool:
            return claims_held_s(world, "receive") > 0

        await until(held)  # the flush in flight counts
        answers = await world.smsc.seen("deliver_sm_resp", first)
        refused = [answer for answer in answers if answer.status != OK]
        assert {answer.status for answer in refused} == {intake.THROTTLED}
        assert len(refused) == first - most
        assert world.daemon.daemon._receipts.pending <= most
        await world.app.enqueue_many(messages(5, 5, "marketing"))
        await an_emergency_goes(world)
        assert claims_held_s(world, "settle") == 0

        await transaction.rollback()
        await other.close()

        answered = 0
        while receipts:
            answers = await world.smsc.seen("deliver_sm_resp", answered + 1)
            for answer in answers[answered:]:
                message_id, submit = receipts.pop(answer.sequence)
                if answer.status != OK:
                    deliver(message_id, submit)  # as an SMSC does with what was refused
            answered = len(answers)
        await world.app.until_states({"delivered": first, "submitted": 6}, 30)
        assert world.daemon.counter("tocsin_receipts_total", link=LINK, state="delivered") == first
        assert world.daemon.counter("tocsin_receipts_total", link=LINK, state="unmatched") == 0
