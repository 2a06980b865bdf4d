"""kill -9 at exactly named points of a job's way out, and what must be true after a restart, point by point.

Three jobs go out in one claim, one write and one settle, and the SMSC answers their four segments in one write:

    held     one segment, rule `hold`: once in doubt it is never sent again
    long     two segments, rule `hold`
    resent   one segment, rule `resend`: in doubt it is sent again, which is the only way to a second copy

The SMSC's own log says what was on the wire. Before the last start an operator pauses the link, so that what the
daemon makes of its predecessors' work can be seen before anything more goes out.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from tests.fakes.smsc import Answer
from tests.journey.handset import piece_of
from tests.journey.killed import world_of
from tests.journey.test_kill import taken_of

pytestmark = pytest.mark.slow

MESSAGES = {
    "held": {"recipient": "447700900001", "body": "held", "category": "transactional"},
    "long": {"recipient": "447700900002", "body": "long " * 40, "category": "transactional"},
    "resent": {"recipient": "447700900003", "body": "resent", "category": "staff"},
}
JOBS = {str(message["recipient"]): name for name, message in MESSAGES.items()}
SEGMENTS = (("held", 1), ("long", 1), ("long", 2), ("resent", 1))
HAD_BEFORE = "update tocsin.link set epoch = 1"  # so that the last second may have been full: what is claimed waits
NEVER = len(SEGMENTS) + 1  # answers that wait for one more than there are


class Expected(NamedTuple):
    """Of the jobs held, long and resent: what must hold after the kills, and after what follows."""

    killed: tuple[str, ...]  # states while nobody runs; "a|b" is either
    recovered: tuple[str, ...]  # once a daemon has taken the link over, and before anything goes out
    ended: tuple[str, ...]
    wire: tuple[int, ...]  # how often the SMSC read each of their segments
    sent: tuple[int, ...]  # rows of evidence: one a segment that was accepted, by what we know
    events: tuple[list[str], ...]


class Case(NamedTuple):
    """The points at which one daemon after the other dies, and what is special before."""

    points: tuple[str, ...]
    expected: Expected
    drain_at: str = ""  # the last of them gets SIGTERM here
    scheduled: bool = False  # the jobs come from deferred
    answers: int = len(SEGMENTS)  # of the SMSC, in one write
    withheld: tuple[str, int] = ("", 0)  # the segment that it never answers

    def __str__(self) -> str:
        return "-then-".join(self.points) + (f"-draining-at-{self.drain_at}" if self.drain_at else "")


def all_of(state: str) -> tuple[str, ...]:
    return (state,) * 3


IN_QUEUE = Expected(
    all_of("queued"), all_of("queued"), all_of("submitted"), (1, 1, 1), (1, 2, 1), (["job.submitted"],) * 3
)
ANSWERED = IN_QUEUE._replace(recovered=all_of("submitted"))
COMMITTED = ANSWERED._replace(killed=all_of("submitted"))
DOUBTED = Expected(  # written and not answered, by all that the local record can tell
    all_of("queued"),
    ("uncertain", "uncertain", "uncertain|deferred|queued"),  # its session is over, so it is due again at once
    ("uncertain", "uncertain", "submitted"),
    (1, 1, 2),
    (0, 0, 1),
    (["job.uncertain"], ["job.uncertain"], ["job.uncertain", "job.resent", "job.submitted"]),
)
NOT_WRITTEN = DOUBTED._replace(wire=(0, 0, 1))  # recorded, and then not written: nobody can know
SETTLED_DOUBT = DOUBTED._replace(killed=DOUBTED.recovered)
DOUBTED_OR_NOT_YET = DOUBTED._replace(killed=("queued|uncertain",) * 2 + ("uncertain|deferred|queued",))
HALF_ANSWERED = Expected(
    all_of("queued"),
    ("submitted", "uncertain", "submitted"),
    ("submitted", "uncertain", "submitted"),
    (1, 1, 1),
    (1, 1, 1),
    (["job.submitted"], ["job.uncertain"], ["job.submitted"]),
)
TO_BE_RESENT = SETTLED_DOUBT._replace(
    killed=("uncertain", "uncertain", "deferred"), recovered=("uncertain", "uncertain", "queued|deferred")
)

CASES = [
    Case(("claim-unsent",), IN_QUEUE),
    Case(("claim-committed",), IN_QUEUE),
    Case(("written-recorded",), NOT_WRITTEN),
    Case(("written",), DOUBTED),
    Case(("answer-unrecorded",), DOUBTED),
    Case(("answer-recorded",), ANSWERED),
    Case(("answer-recorded",), HALF_ANSWERED, answers=len(SEGMENTS) - 1, withheld=("long", 2)),
    Case(("settle-unsent",), ANSWERED),
    Case(("settle-committed",), COMMITTED),
    # again, while the next one takes the link over
    Case(("written", "owner-unsent"), DOUBTED),
    Case(("written", "owner-uncommitted"), DOUBTED),
    Case(("written", "owner-committed"), DOUBTED),
    Case(("written", "settle-unsent"), DOUBTED),
    Case(("written", "settle-committed"), SETTLED_DOUBT),
    Case(("written", "journal-kept"), SETTLED_DOUBT),
    Case(("written", "journal-forgotten"), SETTLED_DOUBT),
    Case(("written", "recovery-unrecorded"), SETTLED_DOUBT),
    Case(("written", "recovery-recorded"), SETTLED_DOUBT),
    Case(("written-recorded", "owner-committed"), NOT_WRITTEN),
    Case(("claim-committed", "owner-committed"), IN_QUEUE),
    Case(("claim-committed", "journal-kept"), IN_QUEUE),
    Case(("claim-committed", "journal-forgotten"), IN_QUEUE),
    Case(("claim-committed", "claim-committed", "claim-committed"), IN_QUEUE),
    Case(("answer-recorded", "owner-committed"), ANSWERED),
    Case(("answer-recorded", "settle-committed"), COMMITTED),
    Case(("answer-recorded", "journal-kept"), COMMITTED),
    Case(("settle-committed", "owner-committed"), COMMITTED),
    # doubt that is due to be sent again
    Case(("written", "resend-unsent"), DOUBTED_OR_NOT_YET),
    Case(("written", "resend-committed"), TO_BE_RESENT),
    # promotion
    Case(("promotion-unsent",), IN_QUEUE._replace(killed=all_of("deferred")), scheduled=True),
    Case(("promotion-committed",), IN_QUEUE, scheduled=True),
    # the drain
    Case(("drain-begun",), IN_QUEUE, drain_at="claim-unsent"),
    Case(("release-unsent",), IN_QUEUE, drain_at="claim-committed"),
    Case(("release-committed",), IN_QUEUE, drain_at="claim-committed"),
    Case(("drain-begun",), DOUBTED, drain_at="written", answers=NEVER),
    Case(("settle-unsent",), ANSWERED, drain_at="written"),
    Case(("settle-committed",), COMMITTED, drain_at="written"),
    Case(("disown-unsent",), COMMITTED, drain_at="written"),
    Case(("disown-committed",), COMMITTED, drain_at="written"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_a_kill_leaves_of_a_job_on_its_way_out(tmp_path, queue_url, case):
    """Nothing is lost; what was answered is never written again; what may have been written is said to be in doubt."""
    expected = case.expected
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        smsc, app = world.smsc, world.app
        smsc.answers_at_once = case.answers
        smsc.on_submit = lambda submit: Answer(withhold=_segment(submit) == case.withheld)
        schedule = {"not_before": "2099-01-01T00:00:00Z"} if case.scheduled else {}
        ids = await app.enqueue_many([message | schedule for message in MESSAGES.values()])
        await app.hurry()
        await app.connection.execute(HAD_BEFORE)
        for point in case.points:
            await world.doubt_is("1 hour")
            extra = ("--drain-at", case.drain_at) if case.drain_at and point == case.points[-1] else ()
            await world.dies_at(point, *extra)
        assert world.fit(await world.states(ids), expected.killed)

        await world.doubt_is("0 s")
        await world.pause(paused=True)
        await world.restart()
        await world.until_states(ids, expected.recovered)

        smsc.answers_at_once = 1
        await world.doubt_is("1 hour")
        await world.pause(paused=False)
        await world.until_states(ids, expected.ended)
        await world.end()
        assert await world.states(ids) == expected.ended
        wire = Counter(map(_segment, smsc.received("submit_sm")))
        names = list(MESSAGES)
        assert wire == Counter({(name, part): expected.wire[names.index(name)] for name, part in SEGMENTS})
        assert tuple([len(await app.sent(number)) for number in ids]) == expected.sent
        assert tuple([await app.events(number) for number in ids]) == expected.events
        taken = {answer.fields["message_id"] for answer in smsc.answers()}
        assert {row["message_id"] for number in ids for row in await app.sent(number)} <= taken


EXPIRY = {"expiry-unsent": "queued", "expiry-uncommitted": "queued", "expiry-committed": "expired"}


@pytest.mark.parametrize(("point", "killed"), EXPIRY.items(), ids=EXPIRY)
async def test_a_job_that_expires_while_its_daemon_dies_expires_once_and_is_never_written(
    tmp_path, queue_url, point, killed
):
    """Nobody claims it, since the link is paused; the sweep ends it."""
    async with world_of(tmp_path, queue_url, receipts="none") as world:
        await world.pause(paused=True)
        number = await world.app.enqueue()
        await world.app.connection.execute("update tocsin.ready set expires_at = now()")
        await world.dies_at(point)
        assert await world.app.state(number) == killed

        await world.restart()
        await world.app.until_state(number, "expired")
        await world.pause(paused=False)
        other = await world.app.enqueue()
        await world.app.until_state(other, "submitted")
        await world.end()

        assert await world.app.events(number) == ["job.expired"]
        assert len(world.smsc.received("submit_sm")) == 1


def _segment(submit):
    piece = piece_of(taken_of(submit))
    return JOBS[piece.destination], piece.part
