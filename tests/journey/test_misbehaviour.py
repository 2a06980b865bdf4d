"""A daemon against every shipped scenario at once, an SMSC each: every message arrives once, or is in doubt by rule.

What was sent is read from the octets between daemon and SMSC, by smpplib's codec; texts are joined as a handset joins
them (``handset.py``). Window and rate are those that the SMSC sees.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gateway.metrics import FAILING
from gateway.smsc import SHIPPED_SCENARIOS, load
from tests.fakes.tshark import assert_dissected
from tests.fakes.wire_tap import Ticks, Wire, Written
from tests.journey.handset import Taken, messages, piece_of, text_of
from tests.journey.running import App, Running, app_of, until, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

SCENARIOS = sorted(SHIPPED_SCENARIOS.glob("*.toml"))
JOBS = 30  # of each
WINDOW, RATE = 8, 25
LINK = {
    "window_size": WINDOW,
    "throughput_per_s": RATE,
    "response_timeout_s": 10.0,  # no answer of an SMSC that answers is late, however busy the machine is
    "enquire_link_s": 0.4,
    "bind_timeout_s": 2.0,
    "rebind_delay_s": 0.05,
}

# In these some requests are never answered, or nobody can read their answers: such a segment is in doubt, and what follows is
# the rule of its category. In all others nothing may be in doubt, and no segment may be written twice.
TROUBLE = {
    "answers-missing", "bad-lengths", "enquire-link-unanswered", "length-too-large", "length-too-small",
    "nack-in-place-of-an-answer", "reset", "reset-inside-a-pdu", "silence", "unbind-mid-window",
}  # fmt: skip
IMPATIENT = {"response_timeout_s": 1.0}  # for those
NO_RECEIPT = {
    "answers-without-a-body",
    "answers-without-an-id",
    "answers-with-one-id",
}  # none can be matched, or not all
OTHER_LINKS: dict[str, dict[str, object]] = {  # so receipts also come on another session than the answers
    "answers-reordered": {"sessions": 3},
    "receipts-again-and-again": {"sessions": 2},
    "receipts-early": {"bind_type": "transmitter+receiver"},
    "reset": {"bind_type": "transmitter+receiver"},
    "unbind-mid-window": {"sessions": 2},
}
RESEND = {"emergency", "staff"}  # in doubt they go again, twice at most; all else never does

TEXTS = (
    "Your appointment is on Thursday at 10:15.",
    "Take {0} tablets of 500 mg [daily] ~ 5 €. " * 5,
    "Ваша запись подтверждена: {0}",
    "检查结果 {0} 已经可以查看 🙂 " * 8,
    "x" * 160,
    "x" * 161,
)


class Job(NamedTuple):
    """One that is sent; its client_ref is its recipient."""

    recipient: str
    body: str
    category: str
    flash: bool


def prefix_of(place: int) -> str:
    """Where all recipients of one scenario begin."""
    return f"4477{place:03d}"


def jobs_of(place: int) -> list[Job]:
    """A mix of lanes, alphabets, lengths and flash, to one prefix."""
    chance = random.Random(place)
    categories = ("emergency", "staff", "transactional", "informational", "marketing")
    made = []
    for number in range(JOBS):
        category = categories[number % len(categories)]
        text = chance.choice(TEXTS).format(number)
        flash = category in RESEND and chance.random() < 0.5
        made.append(Job(f"{prefix_of(place)}{number:05d}", text, category, flash))
    return made


async def ended_of(app: App, place: int) -> dict[str, asyncpg.Record]:
    """What the apps are told of each job, by recipient."""
    rows = await app.fetch(
        "select client_ref, state, reason, resends from tocsin.job_status where left(client_ref, 7) = $1",
        prefix_of(place),
    )
    return {row["client_ref"]: row for row in rows}


def taken_of(written: Iterable[Written]) -> list[Taken]:
    return [
        Taken(
            one.fields.destination_addr.decode(), one.fields.data_coding, one.fields.esm_class, one.fields.short_message
        )
        for one in written
    ]


def assert_once(jobs: Sequence[Job], submits: Sequence[Written], ended: dict[str, asyncpg.Record], name: str) -> None:
    """Every text came once and whole; nothing was in doubt; it is told as far as receipts can tell it."""
    accepted = [one for one in submits if one.status == 0]
    assert [one.status for one in submits if one.status is None] == []
    assert messages(taken_of(accepted)) == Counter((job.recipient, job.body) for job in jobs)
    parts = Counter(one.destination for one in taken_of(accepted))
    # with one id for all the numbers tell messages apart, but not the parts of one
    told = {"answers-with-one-id": {to for to, count in parts.items() if count == 1}}
    known = told.get(name, set() if name in NO_RECEIPT else {job.recipient for job in jobs})
    assert {to: row["state"] for to, row in ended.items()} == {
        job.recipient: "delivered" if job.recipient in known else "submitted" for job in jobs
    }
    assert {(row["reason"], row["resends"] or 0) for row in ended.values()} == {(None, 0)}


def assert_doubt_by_rule(jobs: Sequence[Job], submits: Sequence[Written], ended: dict[str, asyncpg.Record]) -> None:
    """What was accepted is never written again, what was in doubt only by its category's rule, and that is told."""
    segments: dict[str, dict[bytes, list[Written]]] = {job.recipient: {} for job in jobs}
    for one in sorted(submits, key=lambda one: one.at):
        if not one.status:  # accepted, or never answered
            of_job = segments[one.fields.destination_addr.decode()]
            of_job.setdefault(one.fields.short_message, []).append(one)
    for job in jobs:
        row, writes = ended[job.recipient], segments[job.recipient]
        for same in writes.values():
            assert len(same) <= (3 if job.category in RESEND else 1)
            assert {one.status for one in same[:-1]} <= {None}, "what was accepted was written again"
        if any(len(same) > 1 for same in writes.values()):
            assert row["resends"]
            assert row["state"] != "delivered" or row["reason"] == "POSSIBLE_DUPLICATE"
        pieces = taken_of(same[0] for same in writes.values())
        if row["state"] == "delivered":
            assert messages(pieces) == Counter({(job.recipient, job.body): 1})
        else:
            assert row["state"] == "uncertain"
            # what was written into a connection that had ended is in doubt, and nobody has seen it
            accepted = taken_of(same[-1] for same in writes.values() if same[-1].status == 0)
            assert len(accepted) < max((piece_of(piece).parts for piece in pieces), default=1), "all was accepted"
            for piece in pieces:
                header = piece.octets[0] + 1 if piece.esm_class & 0x40 else 0
                assert text_of(piece.data_coding, piece.octets[header:]) in job.body
    assert sum(row["state"] == "delivered" for row in ended.values()) >= JOBS / 2


@pytest.mark.slow
async def test_every_message_arrives_once_whatever_its_smsc_does(tmp_path, queue_url):
    """And no link feels what another one's SMSC does: all are carried by one daemon."""
    asyncio.get_running_loop().set_debug(False)
    names = [path.stem for path in SCENARIOS]
    assert set(names) >= TROUBLE | NO_RECEIPT | OTHER_LINKS.keys()
    jobs = [jobs_of(place) for place in range(len(names))]
    async with AsyncExitStack() as stack:
        wires: list[Wire] = []
        faults = {}
        links = {}
        for path in SCENARIOS:
            smsc = await stack.enter_async_context(load(path).smsc())
            faults[path.stem] = list(smsc.plan or ())
            wires.append(await stack.enter_async_context(Wire(smsc.port)))
            its = (IMPATIENT if path.stem in TROUBLE else {}) | OTHER_LINKS.get(path.stem, {})
            links[path.stem] = {"port": wires[-1].port, **LINK, **its}
        routes = {prefix_of(place): [name] for place, name in enumerate(names)}
        ticks = await stack.enter_async_context(Ticks())
        app = await stack.enter_async_context(app_of(queue_url))
        daemon = await stack.enter_async_context(Running(write_file(tmp_path, queue_url, links, routes=routes)))
        await daemon.until_bound("answers-doubled")
        for some in jobs:
            await app.enqueue_many([job._asdict() | {"client_ref": job.recipient} for job in some])

        async def over() -> bool:
            await app.hurry()
            daemon.hurry()
            left = await app.value(
                "select (select count(*) from tocsin.ready) + (select count(*) from tocsin.deferred)"
            )
            submitted = await app.value(
                "select count(*) from tocsin.job_status where state = 'submitted' and left(client_ref, 7) <> all ($1)",
                [prefix_of(names.index(name)) for name in NO_RECEIPT],
            )
            return left == 0 and submitted == 0

        await until(over, 60, poll_s=0.5)
        ended = [await ended_of(app, place) for place in range(len(names))]
        failed = {
            (name, what): times
            for name in names
            for what in FAILING
            if (times := daemon.counter("tocsin_events_failed_total", link=name, what=what))
        }
        assert await daemon.stop() == 0
    assert failed == {}

    assert [name for name, armed in faults.items() if not all(one.struck for one in armed)] == []
    written = [wire.submits() for wire in wires]
    wrong: dict[str, AssertionError] = {}
    unanswered: dict[str, int] = {}
    in_a_second: dict[str, int] = {}
    for place, (name, wire) in enumerate(zip(names, wires, strict=True)):
        unanswered[name], in_a_second[name] = wire.most_unanswered(), wire.most_in_a_second(ticks)
        try:
            assert unanswered[name] <= WINDOW
            assert in_a_second[name] <= RATE
            if name in TROUBLE:
                assert_doubt_by_rule(jobs[place], written[place], ended[place])
            else:
                assert_once(jobs[place], written[place], ended[place], name)
        except AssertionError as error:
            wrong[name] = error
    assert wrong == {}
    assert max(unanswered.values()) >= WINDOW - 1, "no window was ever full but for the slot of lane 0"
    assert max(in_a_second.values()) > 0.7 * RATE, "no link came near its rate"
    sent = [b"".join(octets for _, octets in kept["sent"]) for wire in wires for kept in wire.connections]
    assert_dissected(tmp_path / "sent.pcap", sent, submits=sum(len(submits) for submits in written))
