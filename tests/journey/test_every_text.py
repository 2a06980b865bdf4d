"""Many jobs at once, of every length that matters, against a server that shares no code with us."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.smsc import Scenario
from tests.fakes.smpp34_smsc import Smpp34Smsc
from tests.fakes.smsc import Smsc
from tests.fakes.wire_tap import Wire
from tests.journey.handset import Taken, messages
from tests.journey.running import LINK, Running, app_of, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

JOBS = 5_000
LENGTHS = (1, 69, 70, 71, 134, 153, 159, 160, 161, 306, 307)  # around every limit of one, two and three segments
LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def texts(count: int, seed: int) -> list[str]:
    """Texts of these lengths: plain, with a euro sign (two septets) and with an emoji (two code units) at and next to every limit."""
    chosen = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        for length in LENGTHS:
            plain = "".join(chosen.choices(LETTERS, k=length))
            made.append(plain)
            for limit in (69, 70, 133, 134, 152, 153, 159, 160, 305, 306, length):
                if limit <= length:
                    made += [plain[: limit - 1] + wide + plain[limit:] for wide in ("€", "🙂")]
    return made[:count]


@pytest.mark.slow
async def test_every_enqueued_text_arrives_once_and_is_delivered(tmp_path, queue_url):
    """What an independent SMSC took, joined as a handset joins it, is what was enqueued: nothing lost, doubled or damaged."""
    asyncio.get_running_loop().set_debug(False)
    jobs = [
        {"recipient": f"4477{n:08d}", "body": body, "category": "transactional"}
        for n, body in enumerate(texts(JOBS, seed=1))
    ]
    async with Smpp34Smsc() as smsc, app_of(queue_url) as app:
        link = {"port": smsc.port, "window_size": 100, "throughput_per_s": 10_000}
        async with Running(write_file(tmp_path, queue_url, {LINK: link})) as daemon:
            await daemon.until_bound()
            began = time.monotonic()
            await app.enqueue_many(jobs)
            enqueued = time.monotonic()
            await app.until_states({"delivered": JOBS}, timeout_s=60)
            ended = time.monotonic()
            assert await daemon.stop() == 0

        taken = messages(Taken(s.destination, s.data_coding, s.esm_class, s.octets) for s in smsc.submits)
        assert taken == Counter((job["recipient"], job["body"]) for job in jobs)
        assert {len(job["body"]) for job in jobs} >= set(LENGTHS)
        assert await app.value(
            "select count(*) from tocsin.sent where receipt_state = 40 and receipt_at is not null and message_id is not null"
        ) == len(smsc.submits)
        assert await app.value("select count(*) from tocsin.sent") == len(smsc.submits)
        assert await app.value("select count(*) from tocsin.claim") == 0
        assert set(smsc.receipt_statuses) == {0}
    print(
        f"\n{JOBS} jobs, {len(smsc.submits)} segments: enqueued in {enqueued - began:.2f} s, all delivered after {ended - began:.2f} s"
    )


MIXED = 2_000


def mixed(count: int) -> list[dict[str, object]]:
    """All alphabets, every length of ``texts``, flash and lanes."""
    chosen = random.Random(2)
    others = (
        "Ваша запись на {n}: приходите",
        "检查结果 {n} 可以查看 🙂",
        "Ñandú {n} àéîõü ~ [€]",
        "مرحبا {n}",
        "{n} Grüße, Ωmega",
    )
    made: list[dict[str, object]] = []
    for n, text in enumerate(texts(count, seed=3)):
        category = chosen.choice(("emergency", "staff", "transactional", "informational", "marketing"))
        made.append(
            {
                "recipient": f"4477{n:08d}",
                "body": others[n % len(others)].format(n=n) * chosen.randint(1, 5) if n % 3 == 0 else text,
                "category": category,
                "flash": category in ("emergency", "staff") and chosen.random() < 0.5,
            }
        )
    return made


@asynccontextmanager
async def carrier(kind: str) -> AsyncIterator[tuple[int, Callable[[], list[Taken]]]]:
    """An SMSC that accepts everything and sends receipts: its port, and what it took."""
    if kind == "smpp34":
        async with Smpp34Smsc() as other:
            yield (
                other.port,
                lambda: [Taken(s.destination, s.data_coding, s.esm_class, s.octets) for s in other.submits],
            )
    elif kind == "smpplib":
        async with Smsc() as scripted:
            scripted.receipt_delay_s = 0.0
            yield scripted.port, lambda: [taken_of(submit.fields) for submit in scripted.received("submit_sm")]
    else:
        async with Scenario().smsc() as simulator, Wire(simulator.port) as wire:
            yield wire.port, lambda: [taken_of(vars(read)) for _, _, read, _ in wire.submits()]


def taken_of(fields: Mapping[str, object]) -> Taken:
    """A submit_sm as smpplib read it."""
    to, octets = fields["destination_addr"], fields["short_message"]
    return Taken(
        to.decode() if isinstance(to, bytes) else str(to),
        int(str(fields["data_coding"])),
        int(str(fields["esm_class"])),
        octets if isinstance(octets, bytes) else b"",
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smpp34", "smpplib", "simulator"])
async def test_mixed_jobs_come_out_delivered_once_with_equal_texts(tmp_path, queue_url, kind):
    """Against three SMSCs that share no line with one another: flash where it was asked for, and only there."""
    asyncio.get_running_loop().set_debug(False)
    jobs = mixed(MIXED)
    async with carrier(kind) as (port, taken), app_of(queue_url) as app:
        link = {"port": port, "window_size": 50, "throughput_per_s": 2_000}
        async with Running(write_file(tmp_path, queue_url, {LINK: link})) as daemon:
            await daemon.until_bound()
            await app.enqueue_many(jobs)
            await app.until_states({"delivered": MIXED}, timeout_s=90)
            assert await daemon.stop() == 0
        segments = taken()

    assert messages(segments) == Counter((job["recipient"], job["body"]) for job in jobs)
    flash = {job["recipient"] for job in jobs if job["flash"]}
    assert {one.destination for one in segments if one.data_coding & 0x10} == flash
    assert len(flash) > MIXED / 10
    assert {one.data_coding for one in segments} == {0x00, 0x08, 0x10, 0x18}


async def test_a_link_s_alphabet_settings_reach_the_wire_and_a_category_may_forbid_them(tmp_path, queue_url):
    """National tables and plain characters where both say so; enqueue counts the parts that leave."""
    turkish = "Sağlık için randevunuz: 10:15. " * 10
    typed = "“Don’t be late” – 5\u00a0p.m."
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.receipt_delay_s = 0.0
        link = {"port": smsc.port, "national_tables": ["turkish-single", "turkish-locking"], "substitute": True}
        categories = [{"name": "informational", "substitute": False}, {"name": "transactional", "max_parts": 3}]
        async with Running(write_file(tmp_path, queue_url, {LINK: link}, categories=categories)) as daemon:
            await daemon.until_bound()
            ids = [
                await app.enqueue("447700900001", turkish),
                await app.enqueue("447700900002", typed),
                await app.enqueue("447700900003", typed, category="informational"),
            ]
            for number in ids:
                await app.until_state(number, "delivered")

    by_number: dict[str, list[bytes]] = {}
    for submit in smsc.received("submit_sm"):
        by_number.setdefault(submit.fields["destination_addr"], []).append(submit.fields["short_message"])
    first = by_number["447700900001"]
    assert [octets[:9].hex() for octets in first] == [
        f"08000300030{part}250101".replace("0003000", "0003" + first[0][3:4].hex() + "0") for part in (1, 2, 3)
    ]
    assert by_number["447700900002"] == [b'"Don\'t be late" - 5 p.m.']
    assert by_number["447700900003"] == [typed.encode("utf-16-be")]
