"""Many jobs at once, of every length that matters, against a server that shares no code with us."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.fakes.smpp34_smsc import Smpp34Smsc
from tests.journey.handset import Taken, messages
from tests.journey.running import LINK, Running, app_of, write_file

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
