"""A connection is cut inside each statement: before it reaches the server, and after its commit, before its answer is read.

One day of work for each: jobs of one and two parts, one that is refused once, one that waits for its time, one whose
answer comes late, receipts, one of them for nobody, and two honest replies of the same words. Whatever is cut, each
segment goes once, each reply is stored once, each job ends delivered, and the daemon lives.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dispatcher import receipts, retention
from dispatcher.errors import StoreUnavailable
from dispatcher.store import Connection
from tests.fakes.smsc import Answer, Smsc
from tests.journey.handset import piece_of
from tests.journey.running import LINK, Running, app_of, until, write_file
from tests.journey.test_kill import taken_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.fakes.smsc import Logged

STATEMENTS = (
    *("categories", "paused_links", "lineage", "links", "lock_link", "own_link", "journalled", "forget_journal"),
    *("parked_receipts", "recent_inbound", "beat", "claim", "probe", "settle", "settle_orphans", "promote"),
    *(
        "keep_receipts",
        "taken_receipts",
        "drop_taken",
        "apply_receipts",
        "find_receipts",
        "park_receipts",
        "receipts_matched",
        "receipts_unmatched",
        "store_inbound",
    ),
    *("expire", "resend", "give_up_doubt", "give_up_receipts", "depth", "uncertain_count", "make_partitions"),
    *("prune_keys", "prune_journal", "notify_alive", "notify_events"),
    *(
        "settle, parts_sent",
        "store_inbound, recent_inbound",
        "own_link, own_link",
        "claim, claim",
        "keep_receipts, keep_receipts",
    ),
)
AT_THE_END = ("release", "settle", "disown", "beat")
JOBS = 40
REFUSED = "447700900901"
LATE = "447700900902"
LATER = "447700900903"
EARLY = "447700900904"


class Cut:
    """Cuts connections, each at the next one of some statements in turn."""

    def __init__(self, names: str, when: str) -> None:
        self._names = names.split(", ")
        self._when = when
        self._within: set[Connection] = set()  # connections whose open transaction ran the statement

    @property
    def is_done(self) -> bool:
        return not self._names and not self._within

    def install(self, patch: pytest.MonkeyPatch) -> None:
        fetch, transaction = Connection.fetch, Connection.transaction
        cut = self

        async def fetch_and_cut(self: Connection, name: str, *arguments: object) -> Sequence[Any]:
            if name not in cut._names[:1]:
                return await fetch(self, name, *arguments)
            del cut._names[0]
            if cut._when == "before it is sent":
                cut.now(self)
            rows = await fetch(self, name, *arguments)
            if self.raw.is_in_transaction():
                cut._within.add(self)
            else:
                cut.now(self)
            return rows

        @asynccontextmanager
        async def transaction_and_cut(self: Connection) -> AsyncIterator[None]:
            async with transaction(self):
                yield
            if self in cut._within:
                cut._within.remove(self)
                cut.now(self)

        patch.setattr(Connection, "fetch", fetch_and_cut)
        patch.setattr(Connection, "transaction", transaction_and_cut)

    @staticmethod
    def now(connection: Connection) -> None:
        connection.raw.terminate()
        raise StoreUnavailable("cut by the test")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before it is sent", "after its commit"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_connection_cut_inside_a_statement_loses_and_doubles_nothing(
    tmp_path, queue_url, monkeypatch, name, when
):
    """A statement whose commit was not seen is never simply repeated."""
    asyncio.get_running_loop().set_debug(False)
    cut = Cut(name, when)
    monkeypatch.setattr(receipts, "TELL_UNMATCHED_AFTER_S", 0.2)
    monkeypatch.setattr(retention, "DAYS_AHEAD", 15)
    refused: set[str] = set()
    early: list[Logged] = []

    def answer(submit: Logged) -> Answer:
        recipient = submit.fields["destination_addr"]
        if recipient == REFUSED and recipient not in refused:
            refused.add(recipient)
            return Answer(status=8)
        if recipient == EARLY:
            early.append(submit)
            asyncio.get_running_loop().call_soon(smsc.deliver_receipt, "before-its-answer", submit)
            return Answer(withhold=True)  # until its receipt is parked
        return Answer(delay_s=0.9 if recipient == LATE else 0.02)

    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.on_submit = answer
        smsc.receipt_delay_s = 0.02
        smsc.repeat_after_s = 0.1
        link = {"port": smsc.port, "response_timeout_s": 0.5, "window_size": 20}
        path = write_file(tmp_path, queue_url, {LINK: link}, daemon={"takeover_s": 3.0})
        running = Running(path)
        cut.install(monkeypatch)
        async with running:
            await running.until_bound()
            running.forget_last_second()  # a cut take-over is made twice
            jobs = [{"recipient": f"4477{n:08d}", "body": "x" * (200 if n % 4 == 0 else 20)} for n in range(JOBS)]
            jobs += [{"recipient": one, "body": "Hello"} for one in (REFUSED, LATE, EARLY)]
            await app.enqueue_many(jobs)
            await app.value(
                "select job_id from tocsin.enqueue($1, 'Hello', not_before => now() + interval '1 second')", LATER
            )
            smsc.deliver_receipt("nobody-s")
            smsc.deliver(short_message=b"YES")
            smsc.deliver(short_message=b"YES")

            async def over() -> bool:
                running.hurry()
                await app.hurry()
                if early and await app.value(
                    "select count(*) from tocsin.receipt_wait where message_id = 'before-its-answer'"
                ):
                    smsc.answer(early.pop(), Answer(message_id="before-its-answer"))
                states = await app.states()
                replies = await app.value("select count(*) from tocsin.inbound")
                return cut.is_done and states == {"delivered": JOBS + 4} and replies >= 2

            await until(over, 20, poll_s=0.05)

            async def all_is_answered() -> bool:
                unmatched = await app.value("select count(*) from tocsin.receipt_wait where matched_at is null")
                return unmatched and not running.daemon._backlog.unwritten

            await until(all_is_answered)

            async def is_up() -> bool:
                return running.counter("tocsin_database_up") == 1

            await until(is_up)
            assert await running.stop() == 0

        submits: dict[Any, int] = {}
        for submit in smsc.received("submit_sm"):
            piece = piece_of(taken_of(submit))
            submits[piece] = submits.get(piece, 0) + 1
        assert {piece.destination for piece, times in submits.items() if times > 1} == {REFUSED}
        assert await app.value("select count(*) from tocsin.inbound") == 2
        doubled = await app.fetch(
            "select job_id, part from tocsin.sent where message_id is not null group by 1, 2 having count(*) > 1"
        )
        assert doubled == []


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before it is sent", "after its commit"])
@pytest.mark.parametrize("name", AT_THE_END)
async def test_a_connection_cut_while_a_daemon_drains_loses_and_doubles_nothing(
    tmp_path, queue_url, monkeypatch, name, when
):
    """It still ends with 0, and the next one goes on at once."""
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.answer_delay_s = 1.0
        link = {"port": smsc.port, "receipts": "none", "window_size": 5}
        path = write_file(tmp_path, queue_url, {LINK: link}, daemon={"takeover_s": 3.0})
        async with Running(path) as running:
            await running.until_bound()
            jobs = [{"recipient": f"4477{n:08d}", "body": "Hello"} for n in range(JOBS)]
            await app.enqueue_many(jobs[:4])
            await smsc.seen("submit_sm", 4)  # the window is full, but for the place of lane 0
            await app.enqueue_many(jobs[4:])

            async def all_claimed() -> bool:
                return await app.value("select sum(cardinality(ids)) from tocsin.claim") == JOBS

            await until(all_claimed)
            cut = Cut(name, when)
            cut.install(monkeypatch)
            assert await running.stop() == 0
        assert cut.is_done
        async with Running(path) as running:
            await running.until_bound()
            running.forget_last_second()
            await app.until_states({"submitted": JOBS})
            assert await running.stop() == 0
        assert await app.value("select count(*) from tocsin.claim") == 0
        assert len({submit.fields["destination_addr"] for submit in smsc.received("submit_sm")}) == JOBS
        assert len(smsc.received("submit_sm")) == JOBS
