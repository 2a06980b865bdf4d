"""Measures one outage of the database: ``python -m tests.journey.outage --seconds 60 --rate 1000``.

A cluster of its own is stopped in order for so long, while an app goes on offering so many jobs a second; the app keeps
what it could not enqueue, and repeats it with the same idempotency keys. An SMSC, a process of its own, answers after
20 ms, sends receipts and replies, and sends them again when they are refused. One line of JSON tells what the SMSC's
record and the tables say, and how much memory the daemon took. It ends with 0 if each job went once, all were delivered,
and each reply is there once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import asyncpg

from tests.fakes.postgres import Cluster, once
from tests.journey.running import LINK, ROOT, Child, free_port, write_file

AROUND_S = 10.0  # of load before and after the outage
STEP_S = 0.1  # between calls of the app
REPLY_EVERY_S = 0.02
REPLIES = "select count(distinct text) from tocsin.inbound"
STORED = "select count(*) from tocsin.inbound"
DELIVERED = "select count(*) from tocsin.sent where receipt_state = 40"
MOST_RSS_MB = 200


class Client:
    """An app that loses nothing: what it could not enqueue waits in its own memory."""

    def __init__(self, url: str, rate: int) -> None:
        self.url = url
        self.rate = rate
        self.waiting: deque[list[dict[str, Any]]] = deque()
        self.offered = 0

    async def offer(self, until: float) -> None:
        """Make jobs at the rate, whether they can be enqueued or not."""
        began = time.monotonic()
        while (now := time.monotonic()) < until:
            due = round((now - began) * self.rate)
            jobs = [
                {"recipient": f"4477{n:08d}", "body": "Hello", "idempotency_key": str(n)}
                for n in range(self.offered, due)
            ]
            if jobs:
                self.waiting.append(jobs)
            self.offered = due
            await asyncio.sleep(STEP_S)

    async def enqueue(self) -> None:
        """Enqueue what waits, over connection after connection."""
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self.url)
                try:
                    while True:
                        while self.waiting:
                            sql = "select count(job_id) from tocsin.enqueue_many($1)"
                            taken = await connection.fetchval(sql, json.dumps(self.waiting[0]))
                            assert taken == len(self.waiting[0])
                            self.waiting.popleft()
                        await asyncio.sleep(STEP_S / 2)
                finally:
                    connection.terminate()
            await asyncio.sleep(STEP_S)


def rss_mb(pid: int) -> float:
    """What the process holds of the machine's memory."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


async def watch(pid: int, seen: list[float]) -> None:
    while True:
        seen.append(rss_mb(pid))
        await asyncio.sleep(0.25)


async def measure(folder: Path, seconds: float, rate: int) -> dict[str, Any]:
    cluster = await asyncio.to_thread(Cluster.make, free_port())
    log = folder / "smsc.jsonl"
    options = ["--log", str(log), "--answer-delay-s", "0.02", "--receipt-delay-s", "0.1", "--repeat-after-s", "1"]
    replies = int((seconds + 2 * AROUND_S) / REPLY_EVERY_S)
    options += ["--replies", str(replies), "--reply-every-s", str(REPLY_EVERY_S)]
    smsc = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.smsc", *options, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        await asyncio.to_thread(cluster.start)
        url = await asyncio.to_thread(cluster.migrated)
        assert smsc.stdout is not None
        port = json.loads(await smsc.stdout.readline())["port"]
        link = {"port": port, "window_size": 100, "throughput_per_s": 2 * rate}
        async with Child(write_file(folder, url, {LINK: link})) as child:
            await child.until_logged("session_bound")
            return await _outage(cluster, child, Client(url, rate), log, seconds, replies)
    finally:
        smsc.terminate()
        await smsc.wait()
        await asyncio.to_thread(cluster.remove)


async def _outage(
    cluster: Cluster, child: Child, client: Client, log: Path, seconds: float, replies: int
) -> dict[str, Any]:
    memory: list[float] = []
    assert child._process is not None
    enqueuing = asyncio.create_task(client.enqueue())
    watching = asyncio.create_task(watch(child._process.pid, memory))
    offering = asyncio.create_task(client.offer(time.monotonic() + seconds + 2 * AROUND_S))
    await asyncio.sleep(AROUND_S)
    await asyncio.to_thread(cluster.stop)
    before = await asyncio.to_thread(submits, log)
    await asyncio.sleep(seconds)
    away = await asyncio.to_thread(submits, log)
    await asyncio.to_thread(cluster.start)
    back_at = time.monotonic()
    await offering
    delivered = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(300):
            while (delivered := await once(client.url, DELIVERED)) < client.offered:
                await asyncio.sleep(0.5)
            while await once(client.url, REPLIES) < replies:
                await asyncio.sleep(0.5)
    drained_s = time.monotonic() - back_at
    for task in (enqueuing, watching):
        task.cancel()
    after = await asyncio.to_thread(submits, log)
    first = min((at for number, at in after[1].items() if number not in away[1]), default=back_at)
    return {
        "seconds": seconds,
        "rate": client.rate,
        "jobs": client.offered,
        "submitted": sum(after[0].values()),
        "twice": sum(times > 1 for times in after[0].values()),
        "delivered": delivered,
        "replies": replies,
        "replies_stored": await once(client.url, STORED),
        "replies_different": await once(client.url, REPLIES),
        "submitted_while_away": sum(away[0].values()) - sum(before[0].values()),
        "first_submit_after_s": round(first - back_at, 2),
        "all_delivered_after_s": round(drained_s, 1),
        "most_rss_mb": round(max(memory), 1),
    }


def submits(log: Path) -> tuple[Counter[str], dict[str, float]]:
    """How often each recipient was written to, and when first, by the SMSC's record."""
    times: Counter[str] = Counter()
    first: dict[str, float] = {}
    with log.open(encoding="ascii") as lines:
        for line in lines:
            if '"command": "submit_sm"' in line and line.endswith("\n"):
                pdu = json.loads(line)
                recipient = pdu["fields"]["destination_addr"]
                times[recipient] += 1
                first.setdefault(recipient, pdu["at"])
    return times, first


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="One outage of the database under load.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the server is stopped")
    parser.add_argument("--rate", type=int, default=1000, help="jobs a second that the app offers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tocsin-outage-") as folder:
        found = asyncio.run(measure(Path(folder), arguments.seconds, arguments.rate))
    print(json.dumps(found))
    all_once = found["submitted"] == found["delivered"] == found["jobs"] and not found["twice"]
    all_once = all_once and found["replies"] == found["replies_stored"] == found["replies_different"]
    sys.exit(0 if all_once and found["most_rss_mb"] <= MOST_RSS_MB else 1)


if __name__ == "__main__":
    main()
