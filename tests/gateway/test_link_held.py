"""What keeps segments waiting is named, whatever is slow, and a link forgets neither order nor limits over it."""

import asyncio
import socket
import time
from itertools import pairwise

from gateway import link as link_module
from gateway.held import PARTS
from tests.fakes.account import Account, account
from tests.fakes.observer import submission
from tests.fakes.smsc import Answer


def held(a: Account) -> dict[str, float]:
    return a.metrics.held.seconds(time.monotonic())


def holding(a: Account) -> str | None:
    return a.metrics.held._part


def numbered(lane: int, count: int, text: str = "x"):
    return [submission(lane, text, to=f"44770090{lane}{n:03d}") for n in range(count)]


def on_the_wire(a: Account, lane: int) -> list[str]:
    sent = [submit.fields["destination_addr"] for submit in a.smsc.received("submit_sm")]
    return [to for to in sent if to.startswith(f"44770090{lane}")]


async def test_nothing_is_held_where_nothing_waits():
    """A link in health shows no more than the time its record takes."""
    async with account() as a:
        a.link.submit([submission()])
        await a.seen.until(lambda: a.seen.results)

        assert holding(a) is None
        assert [part for part in PARTS if held(a)[part]] == ["record"]


async def test_an_smsc_that_does_not_answer_holds_by_the_window():
    """Lane 0 goes through its reserve meanwhile; the rest goes in order once answers come."""
    waiting = []

    def withhold(pdu):
        waiting.append(pdu)
        return Answer(withhold=True)

    async with account(window_size=10) as a:
        a.smsc.on_submit = withhold
        a.link.submit(numbered(5, 30))
        await a.smsc.seen("submit_sm", 9)

        assert holding(a) == "window"
        a.link.submit(numbered(0, 1))
        await a.smsc.seen("submit_sm", 10)
        assert on_the_wire(a, 0) == ["447700900000"]
        assert holding(a) == "window"

        a.smsc.on_submit = lambda _: Answer()
        for pdu in waiting:
            a.smsc.sessions[0].send("submit_sm_resp", sequence=pdu.sequence, message_id=f"w{pdu.sequence}")
        await a.seen.until(lambda: len(a.seen.results) == 31)

        assert on_the_wire(a, 5) == [f"447700905{n:03d}" for n in range(30)]
        assert holding(a) is None
        assert held(a)["window"] > 0
        assert held(a)["socket"] == held(a)["throttle"] == 0


async def test_the_agreed_rate_holds_by_the_throttle():
    """Its part is no fault, and is told apart from those that are."""
    async with account(throughput_per_s=5) as a:
        a.link.submit(numbered(5, 6))
        await a.smsc.seen("submit_sm", 4)

        assert holding(a) == "throttle"
        await a.seen.until(lambda: len(a.seen.results) == 6)
        assert holding(a) is None
        assert held(a)["throttle"] > 0.5
        assert held(a)["window"] == held(a)["socket"] == 0


async def test_a_peer_that_does_not_read_holds_by_the_socket():
    """The kernel's buffers are full, the window is not; it goes on where it stopped."""
    async with account(window_size=5000, throughput_per_s=5000) as a:
        reading = a.smsc.sessions[0]._writer.transport
        reading.pause_reading()
        ours = a.link._binds.live[0].transport._socket
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        a.link.submit(numbered(5, 300, "x" * 1500))  # 10 segments each, about 700 kB
        async with asyncio.timeout(20):
            while holding(a) != "socket":  # the link's own turns of the loop bring it about
                await asyncio.sleep(0)

        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        reading.resume_reading()
        await a.seen.until(lambda: len(a.seen.results) == 3000)

        assert on_the_wire(a, 5) == [f"447700905{n:03d}" for n in range(300) for _ in range(10)]
        assert held(a)["socket"] > 0


async def test_a_full_disk_holds_by_the_record_and_an_emergency_goes_first_after_it(monkeypatch):
    """What was taken goes back to the head of its lane: nothing is passed by its followers."""
    monkeypatch.setattr(link_module, "RECORD_PAUSE_S", 0.05)
    failures = []

    def fail(batch):
        failures.append(len(batch))
        raise OSError(28, "No space left on device")

    async with account() as a:
        a.seen.record = fail
        a.link.submit(numbered(5, 40))
        await a.smsc.until(lambda: True)
        assert holding(a) == "record"
        a.link.submit(numbered(0, 2))
        a.seen.record = lambda _: None
        await a.seen.until(lambda: len(a.seen.results) == 42)

        sent = [submit.fields["destination_addr"] for submit in a.smsc.received("submit_sm")]
        assert failures == [32]
        assert sent[:2] == ["447700900000", "447700900001"]
        assert sent[2:] == [f"447700905{n:03d}" for n in range(40)]
        assert holding(a) is None
        assert held(a)["record"] > 0


async def test_a_slow_disk_does_not_make_the_link_exceed_its_rate():
    """A segment leaves after its record was written: the throttle counts it from then on."""
    took_s = 0.1
    recorded: list[float] = []  # when, of each segment in their order

    def block(batch):
        time.sleep(took_s)  # the disk holds the whole process
        recorded.extend([time.monotonic()] * len(batch))

    rate = 10
    async with account(throughput_per_s=rate, window_size=100) as a:
        a.seen.record = block
        a.link.submit(numbered(5, 30))
        await a.seen.until(lambda: len(a.seen.results) == 30)

        written = sorted(result.written_at for result in a.seen.results)
        assert all(earlier <= later for earlier, later in zip(recorded, written, strict=True))
        assert all(later - earlier > 1.0 for earlier, later in zip(written, written[rate:], strict=False))
        assert all(earlier <= later for earlier, later in pairwise(written))
        assert held(a)["record"] >= took_s
        assert a.metrics.records.sum >= took_s


async def test_what_waits_for_more_of_lane_0_goes_once_no_more_comes():
    """Whoever expected it says so; nothing else would bring the link back."""
    async with account() as a:
        a.link.expect_urgent(60.0)
        a.link.submit([*numbered(5, 40), *numbered(0, 3)])
        await a.seen.until(lambda: len(a.seen.results) == 3)
        assert on_the_wire(a, 5) == []
        assert holding(a) is None  # neither window nor throttle

        a.link.expect_urgent(0.0)
        await a.seen.until(lambda: len(a.seen.results) == 43)

    assert len(on_the_wire(a, 0)) == 3


async def test_what_waits_for_more_of_lane_0_waits_no_longer_than_was_said():
    """Whoever expects it may have stopped: then the link comes back by itself."""
    async with account() as a:
        a.link.expect_urgent(0.05)
        begun = time.monotonic()
        a.link.submit(numbered(5, 40))
        await a.seen.until(lambda: len(a.seen.results) == 40)

    assert a.smsc.received("submit_sm")[0].at - begun >= 0.05
