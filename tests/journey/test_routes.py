"""Routes by category and by weight, on the wire of two SMSCs; and what happens to their messages when a link goes."""

from __future__ import annotations

from collections import Counter

from tests.fakes.smsc import Smsc
from tests.journey.running import Running, app_of, write_file

ROUTES = """
[[route]]
prefix = "4477"
links = ["first", "second"]
weights = [3, 1]

[[route]]
prefix = "4477"
links = ["second", "first"]
categories = ["marketing", "staff"]
"""
JOBS = 200
SOON = {"failover_after_s": 0.6, "failover_after_urgent_s": 0.2}


def recipients(smsc: Smsc) -> Counter[str]:
    return Counter(submit.fields["destination_addr"] for submit in smsc.received("submit_sm"))


async def test_a_category_goes_by_its_own_route_and_weights_share_the_numbers(tmp_path, queue_url):
    """Every message of a number by the same link; when that goes, its numbers go by the next one."""
    async with Smsc() as first, Smsc() as second, app_of(queue_url) as app:
        links = {name: {"port": smsc.port, "receipts": "none"} for name, smsc in (("first", first), ("second", second))}
        path = write_file(tmp_path, queue_url, links, routes={"": ["first"]}, daemon=SOON)
        path.write_text(path.read_text() + ROUTES)
        async with Running(path) as running:
            await running.until_bound("first")
            await running.until_bound("second")
            numbers = [f"4477{n:08d}" for n in range(JOBS)]
            for _ in range(2):
                await app.enqueue_many([{"recipient": number, "body": "Hello"} for number in numbers])
            await app.enqueue("447700900123", category="staff")
            await app.enqueue(
                "491700900123", category="staff"
            )  # the longer prefix has a route for it; this one has not
            await app.until_states({"submitted": 2 * JOBS + 2})

            by_first, by_second = recipients(first), recipients(second)
            assert by_second.pop("447700900123") == 1
            assert by_first.pop("491700900123") == 1
            assert set(by_first.values()) == set(by_second.values()) == {2}
            assert not by_first.keys() & by_second.keys()
            assert sorted([*by_first, *by_second]) == numbers
            assert JOBS // 8 <= len(by_second) <= JOBS * 3 // 8

            second.answers_binds = False
            second.drop()
            await app.enqueue_many([{"recipient": number, "body": "Hello"} for number in by_second])
            await app.enqueue("447700900123", category="staff")
            await app.until_states({"submitted": 2 * JOBS + 2 + len(by_second) + 1})
            after = recipients(first)
            assert {number: after[number] for number in by_second} == dict.fromkeys(by_second, 1)
            assert after["447700900123"] == 1
            assert await running.stop() == 0
