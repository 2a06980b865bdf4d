"""The benchmark of what handsets write: its run accounts for every text, and its figures mean what they say."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

import pytest

from benchmarks import bench_inbound
from benchmarks.bench_inbound import arguments_of, figures_of, plan_of, problems_of
from benchmarks.handsets import ORDINARY, STOP, STOP_EVERY, Handsets, is_stop
from dispatcher.recogniser import NOTHING, Wish, recognise
from gateway.codec import decode

TINY = ("--seconds", "2", "--warm", "0.5", "--offered", "200", "--mo-per-s", "100", "--drain", "30", "--json")
ONE, OTHER = "447700000000", "447700000001"


class Session:
    """Keeps what a handset wrote over it."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, bytes]] = []

    def deliver(self, number: str, body: bytes) -> None:
        self.delivered.append((number, body))


def noted(*, stops: tuple[str, ...] = (), **answered: float) -> dict[str, Any]:
    """What the sink says: the one text written at 10.0, the other at 10.5."""
    return {"written": {ONE: 10.0, OTHER: 10.5}, "answered": {ONE: 10.2, OTHER: 10.8}, "stops": stops, "refused": 0}


def found(**other: Any) -> dict[str, Any]:
    """What the reader says, of both."""
    rows = {ONE: [(10.05, 10.1)], OTHER: [(10.4, 10.7)]}
    events = {ONE: [(10.05, 10.1)], OTHER: [(10.7, 10.9)]}
    return {"stored": rows, "seen": events, "took": [0.001], "between": [0.006]} | other


@pytest.mark.slow
class TestRun:
    def test_every_text_is_answered_and_has_a_row_and_an_event(self, database_server, capsys):
        """Beside messages that go out; each STOP is confirmed, and counted as a job."""
        code = bench_inbound.main(["--database", database_server.url, *TINY])
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        replies = run["inbound"]

        assert code == 0, run["account"]
        assert replies["count"] > 100
        assert replies["confirmations"] >= 1
        assert run["account"]["enqueued"] == run["account"]["delivered"] > replies["confirmations"]
        for share in ("p50_ms", "p99_ms"):
            earliest, latest = replies["not_committed"][share], replies["committed"][share]
            assert earliest < latest <= replies["in_event"][share]
            assert 0 < replies["answered"][share]
        assert sum(replies["histogram"]["counts"]) == replies["count"]
        assert run["cpu_s_per_1000"]["reader"] > 0


class TestHandsets:
    def test_what_they_write_is_what_a_text_is(self):
        """Ordinary ones ask for nothing, in one part each and no two alike; one in a hundred says STOP."""
        handsets = Handsets(500.0, "441632960100")
        texts = []
        for count in range(2 * STOP_EVERY):
            number = f"4477{count:08d}"
            body = handsets.body(number)
            pdu = decode(struct.pack(">IIII", 16 + len(body), 0x05, 0, 7) + body)
            assert (pdu.source_addr, pdu.destination_addr) == (number, "441632960100")
            texts.append(pdu.short_message.decode("ascii"))
        stops = [text for text in texts if recognise(text).wish is Wish.STOP]

        assert stops == [STOP, STOP]
        assert all(recognise(text) == NOTHING for text in texts if text != STOP)
        assert len(set(texts)) == len(texts) - 1
        assert max(map(len, texts)) <= 160
        assert len(ORDINARY) < STOP_EVERY

    def test_they_write_as_often_as_they_are_told_and_over_every_session(self):
        """By chance, each from a number of its own; nothing before a session is bound, and nothing when it is over."""
        handsets, one, other = Handsets(2_000.0, "441632960100"), Session(), Session()
        sessions: list[Session] = []
        over = False

        async def play() -> tuple[int, float]:
            nonlocal over
            task = asyncio.create_task(handsets.write(sessions, lambda: over))
            await asyncio.sleep(0.05)
            assert not handsets.written
            sessions.extend([one, other])
            begun = time.monotonic()
            await asyncio.sleep(0.5)
            over = True
            count, took = len(handsets.written), time.monotonic() - begun
            await asyncio.sleep(0.05)
            task.cancel()
            return count, took

        count, took = asyncio.run(play())

        assert len(handsets.written) == count == len(one.delivered) + len(other.delivered)
        assert 0.8 < count / took / 2_000 < 1.2
        assert abs(len(one.delivered) - len(other.delivered)) <= 1
        assert len(handsets.stops) == count // STOP_EVERY

    def test_one_that_is_refused_comes_again_and_counts_from_the_first_time(self):
        """A second later, also when it is over: so does one whose session is lost, at once."""
        handsets, session = Handsets(1_000.0, "441632960100"), Session()
        handsets.written[ONE] = 1.0
        handsets.answer(ONE, 0x58, time.monotonic() - 1.0)
        handsets.lost([OTHER])

        async def play() -> None:
            task = asyncio.create_task(handsets.write([session], lambda: True))
            await asyncio.sleep(0.05)
            task.cancel()

        asyncio.run(play())
        handsets.answer(ONE, 0, 3.0)

        assert [number for number, _ in session.delivered] == [ONE, OTHER]
        assert (handsets.written, handsets.answered, handsets.refused) == ({ONE: 1.0}, {ONE: 3.0}, 1)

    def test_the_first_that_says_stop_is_the_hundredth(self):
        """So a short run has one."""
        assert [count for count in range(250) if is_stop(count)] == [99, 199]


class TestFigures:
    def test_a_text_counts_when_it_was_written_inside_the_window(self):
        """Each stage from then: the commit lies between two reads, and not before the text."""
        figures = figures_of(noted(), found(), 10.2, 11.0)

        assert figures["count"] == 1
        assert figures["per_s"] == pytest.approx(1.25)
        assert figures["committed"]["p50_ms"] == pytest.approx(200)
        assert figures["not_committed"]["p50_ms"] == 0.0
        assert figures["answered"]["most_ms"] == pytest.approx(300)
        assert figures["in_event"]["p99_ms"] == pytest.approx(400)
        assert figures_of(noted(), found(), 9.0, 10.4)["not_committed"]["p50_ms"] == pytest.approx(50)

    def test_nothing_inside_the_window_is_no_figure(self):
        """None, and no 0."""
        assert figures_of(noted(), found(), 0.0, 1.0)["committed"]["p99_ms"] is None

    def test_all_that_adds_up_is_no_problem(self):
        """A row, an event and an answer each."""
        assert problems_of(noted(), found()) == []

    @pytest.mark.parametrize(
        ("handsets", "read", "problem"),
        [
            ({"answered": {ONE: 10.2}}, {}, ["1 texts of handsets never answered"]),
            ({}, {"stored": {ONE: [(0, 1)]}, "seen": {ONE: [(0, 1)]}}, ["1 texts of handsets never stored"]),
            ({}, {"stored": {ONE: [(0, 1)] * 2, OTHER: [(0, 1)]}}, ["1 texts of handsets stored more than once"]),
            ({"written": {ONE: 10.0}}, {}, ["1 texts of handsets stored and never written"]),
            ({}, {"seen": {ONE: [(0, 1)]}}, ["1 texts of handsets without an event"]),
            ({}, {"seen": {ONE: [(0, 1)] * 2, OTHER: [(0, 1)]}}, ["1 texts of handsets with more than one event"]),
            ({"written": {}, "answered": {}}, {"stored": {}, "seen": {}}, ["no handset wrote"]),
        ],
    )
    def test_what_does_not_add_up_is_told(self, handsets, read, problem):
        """How many, and what."""
        assert problems_of(noted() | handsets, found(**read)) == problem


class TestPlan:
    def test_the_load_is_what_was_asked_for(self):
        """Five thousand a second of one part and five hundred texts, to a number that can be answered."""
        plan = plan_of(arguments_of([]))

        assert (plan.offered, plan.two_parts, plan.mo_per_s) == (5_000.0, 0.0, 500.0)
        assert plan.sender.lstrip("+").isdigit()

    @pytest.mark.parametrize("option", ["--mo-per-s", "--offered"])
    def test_nothing_of_nothing_is_measured(self, option, capsys):
        """A usage error, exit 2."""
        with pytest.raises(SystemExit) as ended:
            arguments_of([option, "0"])

        assert ended.value.code == 2
        assert option in capsys.readouterr().err
