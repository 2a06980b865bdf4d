"""A daemon against thirty-two SMSCs at once, each of which misbehaves in its own way: every message arrives once.

What was sent is read from the octets between daemon and SMSC, by smpplib's codec; texts are joined as a handset joins
them (``handset.py``). Window and rate are those that the SMSC sees.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from gateway.smsc import load
from tests.fakes.tshark import assert_dissected
from tests.fakes.wire_tap import Wire
from tests.journey.handset import Taken, messages
from tests.journey.running import ROOT, App, Running, app_of, until, write_file

SCENARIOS = sorted((ROOT / "config" / "scenarios").glob("*.toml"))
JOBS = 30  # of each
WINDOW, RATE = 8, 120
LINK = {
    "window_size": WINDOW,
    "throughput_per_s": RATE,
    "response_timeout_s": 1.0,
    "enquire_link_s": 0.4,
    "bind_timeout_s": 2.0,
    "rebind_delay_s": 0.05,
}

# After these some requests were never answered, or their answers never read: such a job is in doubt, and its end is the
# category's rule. After those no receipt can be matched.
DOUBT = {
    "answers-missing", "unbind-mid-window", "reset", "reset-inside-a-pdu", "bad-lengths", "silence",
    "enquire-link-unanswered", "enquire-link-flood",
}  # fmt: skip
NO_RECEIPT = {"answers-without-an-id", "answers-with-one-id"}

TEXTS = (
    "Your appointment is on Thursday at 10:15.",
    "Take {0} tablets of 500 mg [daily] ~ 5 €. " * 5,
    "Ваша запись подтверждена: {0}",
    "检查结果 {0} 已经可以查看 🙂 " * 8,
    "x" * 160,
    "x" * 161,
)


def jobs_of(place: int) -> list[dict[str, object]]:
    """A mix of lanes, alphabets, lengths and flash, to one prefix."""
    chance = random.Random(place)
    categories = ("emergency", "staff", "transactional", "informational", "marketing")
    made = []
    for number in range(JOBS):
        category = categories[number % len(categories)]
        text = chance.choice(TEXTS).format(number)
        made.append(
            {
                "recipient": f"4477{place:03d}{number:05d}",
                "body": text,
                "category": category,
                "flash": category in ("emergency", "staff") and chance.random() < 0.5,
            }
        )
    return made


async def states(app: App, place: int) -> Counter[str]:
    rows = await app.fetch(
        "select state, count(*) as jobs from tocsin.job_status where client_ref = $1 group by 1", str(place)
    )
    return Counter({row["state"]: row["jobs"] for row in rows})


@pytest.mark.slow
async def test_every_message_arrives_once_whatever_its_smsc_does(tmp_path, queue_url):
    """And no link feels what another one's SMSC does: all are carried by one daemon."""
    asyncio.get_running_loop().set_debug(False)
    async with AsyncExitStack() as stack:
        wires: list[Wire] = []
        faults = {}
        for path in SCENARIOS:
            smsc = await stack.enter_async_context(load(path).smsc())
            faults[path.stem] = list(smsc.plan or ())
            wires.append(await stack.enter_async_context(Wire(smsc.port)))
        names = [path.stem for path in SCENARIOS]
        links = {name: {"port": wire.port, **LINK} for name, wire in zip(names, wires, strict=True)}
        routes = {f"4477{place:03d}": [name] for place, name in enumerate(names)}
        app = await stack.enter_async_context(app_of(queue_url))
        daemon = await stack.enter_async_context(Running(write_file(tmp_path, queue_url, links, routes=routes)))
        jobs = {place: [job | {"client_ref": str(place)} for job in jobs_of(place)] for place in range(len(names))}
        await daemon.until_bound("answers-doubled")
        for some in jobs.values():
            await app.enqueue_many(some)

        async def over() -> bool:
            await app.hurry()
            daemon.hurry()
            left = await app.value(
                "select (select count(*) from tocsin.ready) + (select count(*) from tocsin.deferred)"
            )
            submitted = await app.value(
                "select count(*) from tocsin.job_status where state = 'submitted' and client_ref <> all ($1)",
                [str(names.index(name)) for name in NO_RECEIPT],
            )
            return left == 0 and submitted == 0

        await until(over, 60, poll_s=0.5)
        ended = {name: await states(app, place) for place, name in enumerate(names)}
        assert await daemon.stop() == 0

        assert [name for name, armed in faults.items() if not all(one.struck for one in armed)] == []
        for place, (name, wire) in enumerate(zip(names, wires, strict=True)):
            wanted = Counter((job["recipient"], job["body"]) for job in jobs[place])
            submits = wire.submits()
            taken = [
                Taken(read.destination_addr.decode(), read.data_coding, read.esm_class, read.short_message)
                for _, _, read, refused in submits
                if not refused
            ]
            assert wire.most_unanswered() <= WINDOW, name
            assert wire.most_in_a_second() <= RATE, name
            if name not in DOUBT:
                assert messages(taken) == wanted, name
                parts = Counter(one.destination for one in taken)
                # with one id for all the numbers tell messages apart, but not the parts of one
                known = {"answers-without-an-id": 0, "answers-with-one-id": sum(n == 1 for n in parts.values())}
                delivered = known.get(name, JOBS)
                assert ended[name] == +Counter(delivered=delivered, submitted=JOBS - delivered), (name, ended[name])
                continue
            assert set(ended[name]) <= {"delivered", "uncertain"}, (name, ended[name])
            assert ended[name]["delivered"] >= JOBS / 2, (name, ended[name])
            # in doubt: emergencies and staff go again, at most twice, and everything else never does
            times = Counter((one.destination, one.octets) for one in taken)
            again = [job for job in jobs[place] if max(n for (to, _), n in times.items() if to == job["recipient"]) > 1]
            assert {job["category"] for job in again} <= {"emergency", "staff"}, name
            assert max(times.values()) <= 3, name
            assert {to for to, _ in times} == {job["recipient"] for job in jobs[place]}, name
        sent = [b"".join(octets for _, octets in kept["sent"]) for wire in wires for kept in wire.connections]
        assert_dissected(tmp_path / "sent.pcap", sent, submits=sum(len(wire.submits()) for wire in wires))
