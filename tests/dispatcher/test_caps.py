"""dispatcher/caps.py: what stays within its cap, whoever counts, and in which day."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.caps import CapSettings
from config.recipients import known_zones
from dispatcher.caps import Caps, days_at, free_at
from dispatcher.errors import StoreUnavailable
from dispatcher.job import RELEASED, SUBMITTED, Batch, closed
from dispatcher.policy import Defer, Send, Stop
from dispatcher.store import PINNED, connect
from dispatcher.windows import Windows
from tests.dispatcher.instance import Unseen
from tests.dispatcher.test_job import job
from tests.dispatcher.test_windows import (
    BERLIN,
    CHANGING,
    FICTIONAL,
    INSTANTS,
    LOS_ANGELES,
    NEW_YORK,
    OFFICE,
    at,
    is_within,
)
from tests.dispatcher.test_windows import windows as some_windows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from dispatcher.job import Job
    from dispatcher.store import Connection

NOON = at("2026-03-04 12:00")  # a Wednesday
DAY_S = 86_400.0
NOW = 1_000.0  # monotonic
ONE_A_DAY = CapSettings(("transactional",), per_day=1)


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[Connection]:
    """One instance's connection; the counts are empty."""
    connection = await connect(url, PINNED)
    try:
        await connection.raw.execute("delete from tocsin.cap_count")
        yield connection
    finally:
        await connection.close()


def one(number: int, batch: int = 1, **its: object) -> Job:
    made = job(**{"recipient": FICTIONAL, "expires_at": NOW + 30 * DAY_S, **its})
    made.id, made.batch, made.cap, made.settled, made.done, made.doubt = number, Batch(batch, 1), None, None, 0, 0
    return made


async def take(
    connection: Connection, caps: Caps, jobs: Iterable[Job], utc_now: float = NOON, hours: Windows | None = None
) -> list[bool]:
    """Count these, and say which may go."""
    jobs = list(jobs)
    await caps.take(connection, jobs, hours or Windows([]), NOW, utc_now)
    return [isinstance(job.cap, Send) for job in jobs]


async def test_of_one_batch_as_many_go_as_the_cap_says_and_the_others_the_next_day(shared_url):
    """The first ones; each number and category by itself."""
    async with counting(shared_url) as connection:
        caps = Caps([CapSettings(("transactional", "marketing"), per_day=2)])
        jobs = [one(n) for n in (1, 2, 3)] + [one(4, recipient="447700900124"), one(5, category="marketing")]

        assert await take(connection, caps, jobs) == [True, True, False, True, True]
        assert jobs[2].cap == Defer("FREQ_CAP", DAY_S / 2)
        assert jobs[0].cap == Send(day_until=NOW + DAY_S / 2)
        assert await take(connection, caps, [one(6), one(7), one(8)], NOON + DAY_S) == [True, True, False]


async def test_a_week_begins_on_monday(shared_url):
    """And a day's cap holds within it."""
    async with counting(shared_url) as connection:
        caps = Caps([CapSettings(("transactional",), per_day=1, per_week=2)])
        monday = at("2026-03-02 00:00")

        assert await take(connection, caps, [one(1)], monday - 1) == [True]
        assert await take(connection, caps, [one(2)], monday) == [True]
        assert await take(connection, caps, [one(3)], monday + DAY_S) == [True]
        late = one(4)
        assert await take(connection, caps, [late], monday + 2 * DAY_S) == [False]
        assert late.cap == Defer("FREQ_CAP", 5 * DAY_S)
        assert await take(connection, caps, [one(4)], monday + 7 * DAY_S) == [True]


async def test_the_day_is_the_recipient_s_and_the_app_s_word_goes_first(shared_url):
    """In Los Angeles it is still yesterday."""
    async with counting(shared_url) as connection:
        caps = Caps([replace(ONE_A_DAY, zone=LOS_ANGELES)])
        evening, morning = at("2026-03-03 20:00", LOS_ANGELES), at("2026-03-04 00:00", LOS_ANGELES)
        there = json.dumps({"tz": "Etc/UTC"})

        assert await take(connection, caps, [one(1)], evening) == [True]
        assert await take(connection, caps, [one(2)], morning - 1) == [False]
        assert await take(connection, caps, [one(3, options=there)], morning - 1) == [False], "the same day in UTC, too"
        assert await take(connection, caps, [one(4)], morning) == [True]


def test_the_longest_prefix_wins_and_what_has_no_cap_or_has_begun_is_not_asked_for():
    """A message is counted with its first segment."""
    caps = Caps([replace(ONE_A_DAY, prefix="44"), replace(ONE_A_DAY, prefix="4477", per_day=9)])

    assert caps.cap(one(1, recipient="447700900123")).per_day == 9
    assert caps.cap(one(1, recipient="447800900123")).per_day == 1
    assert caps.cap(one(1, recipient="33612345678")) is None
    assert caps.cap(one(1, category="auth")) is None
    begun = one(1, recipient="447700900123")
    begun.done = 1
    assert caps.cap(begun) is None


async def test_two_instances_at_the_same_time_never_exceed_it(shared_url):
    """They count one after the other, whatever the order of their jobs."""
    async with counting(shared_url) as connection:
        numbers = [f"4477009001{n:02}" for n in range(30)]
        held = [await connect(shared_url, PINNED) for _ in range(4)]

        async def claim_all(k: int) -> list[bool]:
            caps = Caps([CapSettings(("transactional",), per_day=3)])
            mine = numbers[7 * k :] + numbers[: 7 * k]
            jobs = [one(1000 * k + n, k, recipient=number) for n, number in enumerate(mine)]
            return await take(held[k], caps, jobs)

        try:
            taken = await asyncio.gather(*map(claim_all, range(len(held))))
        finally:
            for each in held:
                await each.close()
        assert sum(map(sum, taken)) == 3 * len(numbers)
        rows = await connection.raw.fetch("select recipient, cardinality(uses) from tocsin.cap_count")
        assert dict(rows) == dict.fromkeys(numbers, 3)


async def test_after_a_kill_a_job_that_is_claimed_again_finds_itself_counted(shared_url):
    """Once, by the claim that has it now; another day is that day's."""
    async with counting(shared_url) as connection:
        caps = Caps([ONE_A_DAY])
        assert await take(connection, caps, [one(1, batch=1)]) == [True]

        assert await take(connection, Caps([ONE_A_DAY]), [one(1, batch=2), one(2, batch=2)]) == [True, False]
        assert await take(connection, Caps([ONE_A_DAY]), [one(1, batch=3)], NOON + DAY_S) == [True]
        assert await connection.raw.fetchval("select cardinality(uses) from tocsin.cap_count") == 1


@pytest.mark.parametrize(
    ("outcome", "done", "doubt", "is_given_back"),
    [
        (closed(one(1), "failed", "ESME_RINVDSTADR"), 0, 0, True),
        (closed(one(1), "expired", "EXPIRED"), 0, 0, True),
        (RELEASED, 0, 0, True),
        (None, 0, 0, False),  # still in memory
        (SUBMITTED, 1, 0, False),
        (closed(one(1), "failed", "PARTIAL"), 1, 0, False),
        (replace(SUBMITTED), 0, 1, False),  # in doubt
    ],
)
async def test_what_left_memory_unsent_is_given_back(shared_url, outcome, done, doubt, is_given_back):
    """And nothing else."""
    async with counting(shared_url) as connection:
        caps = Caps([ONE_A_DAY])
        job = one(1)
        await take(connection, caps, [job])
        job.settled, job.done, job.doubt = outcome, done, doubt

        await caps.give_back(connection, NOW)

        assert await take(connection, caps, [one(2)]) == [is_given_back]


async def test_what_was_counted_again_meanwhile_is_not_given_back(shared_url):
    """The claim that has it now may have written it."""
    async with counting(shared_url) as connection:
        caps = Caps([ONE_A_DAY])
        earlier, later = one(1, batch=1), one(1, batch=2)
        await take(connection, caps, [earlier])
        earlier.settled = RELEASED
        await take(connection, caps, [later])

        await caps.give_back(connection, NOW)

        assert await take(connection, caps, [one(2)]) == [False]


async def test_a_lost_answer_neither_sends_nor_counts_twice(shared_url):
    """What may be counted is claimed again, and what may be given back is given back again."""
    async with counting(shared_url) as connection:
        caps = Caps([ONE_A_DAY])
        unseen = Unseen(connection)
        first = one(1)
        with pytest.raises(StoreUnavailable):
            await take(unseen, caps, [first])
        assert first.cap is None
        again = one(1, batch=2)
        assert await take(connection, caps, [again]) == [True]
        again.settled = RELEASED
        with pytest.raises(StoreUnavailable):
            await caps.give_back(unseen, NOW)
        await caps.give_back(connection, NOW + 10)
        assert await take(connection, caps, [one(2)]) == [True]


async def test_what_would_expire_before_its_next_day_ends_and_hours_count(shared_url):
    """The first instant at which it may go decides."""
    async with counting(shared_url) as connection:
        caps = Caps([ONE_A_DAY])
        office = Windows([OFFICE])
        assert await take(connection, caps, [one(1)]) == [True]
        lives = [one(2, expires_at=NOW + DAY_S / 2), one(3, expires_at=NOW + DAY_S / 2 + 2)]
        await take(connection, caps, lives)
        assert [job.cap for job in lives] == [Stop("blocked", "FREQ_CAP"), Defer("FREQ_CAP", DAY_S / 2)]
        lives = [one(4, expires_at=NOW + DAY_S / 2 + 2), one(5)]
        await take(connection, caps, lives, hours=office)
        assert [job.cap for job in lives] == [Stop("blocked", "FREQ_CAP"), Defer("FREQ_CAP", DAY_S / 2 + 8 * 3600)]


async def test_counts_are_dropped_once_nothing_of_them_counts(shared_url):
    """No list of numbers grows without end."""
    async with counting(shared_url) as connection:
        caps = Caps([CapSettings(("transactional",), per_week=3)])
        now = datetime.now(ZoneInfo("UTC")).timestamp()
        await take(connection, caps, [one(1, recipient="447700900124")], now - 10 * DAY_S)
        await take(connection, caps, [one(2)], now - 8 * DAY_S)
        await connection.fetch("prune_keys")
        assert await connection.raw.fetchval("select array_agg(recipient) from tocsin.cap_count") == [FICTIONAL]


# ---------------------------------------------------------------- days


def test_of_several_zones_the_cap_holds_in_each():
    """Nobody gets two on one day, wherever the phone is."""
    both = (NEW_YORK, LOS_ANGELES)
    noon = at("2026-07-06 12:00", LOS_ANGELES)  # a Monday

    assert days_at(both, noon) == (
        at("2026-07-06 00:00", NEW_YORK),
        at("2026-07-06 00:00", NEW_YORK),
        at("2026-07-07 00:00", NEW_YORK),
    )
    assert days_at(both, at("2026-07-06 01:00", NEW_YORK)).week_since == at("2026-06-29 00:00", LOS_ANGELES)
    assert free_at(both, noon, None) == at("2026-07-07 00:00", LOS_ANGELES)
    assert free_at(both, None, noon) == at("2026-07-13 00:00", LOS_ANGELES)


def test_a_day_of_25_hours_is_one_day():
    """On 25 October 2026 Berlin goes from 03:00 back to 02:00."""
    found = days_at([BERLIN], at("2026-10-25 12:00", BERLIN))

    assert found.until - found.day_since == 25 * 3600
    assert free_at([BERLIN], at("2026-10-25 00:30", BERLIN), None) == found.until


def test_a_midnight_that_does_not_exist_is_the_end_of_the_gap():
    """On 4 November 2018 São Paulo goes from midnight to 01:00; in 2011 Samoa left out 30 December."""
    noon = at("2018-11-04 12:00", "America/Sao_Paulo")
    assert days_at(["America/Sao_Paulo"], noon).day_since == at("2018-11-04 01:00", "America/Sao_Paulo")
    eve = at("2011-12-29 12:00", "Pacific/Apia")
    assert days_at(["Pacific/Apia"], eve).until == at("2011-12-31 00:00", "Pacific/Apia")


# ---------------------------------------------------------------- properties

ZONES = st.sampled_from(sorted(known_zones())) | CHANGING


@pytest.fixture(scope="module")
def loop_and_connection(shared_url: str) -> Iterator[tuple[asyncio.AbstractEventLoop, Connection]]:
    """A connection that outlives an example."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(connect(shared_url, PINNED))
    yield loop, connection
    loop.run_until_complete(connection.close())
    loop.close()


async def sent_at(
    connection: Connection, caps: Caps, hours: Windows, due: list[tuple[float, int]], until: float
) -> list[float]:
    """Let jobs (due at, number) go as the daemon does: what waits is looked at again when it says so. Returns when."""
    await connection.raw.execute("delete from tocsin.cap_count")
    wire = []
    heapq.heapify(due)
    while due and due[0][0] < until:
        now, number = heapq.heappop(due)
        waiting = one(number, expires_at=NOW + 90 * DAY_S)
        found = hours.hours(waiting, now, 1.0)
        if found is not None and not found.is_open:
            heapq.heappush(due, (found.until, number))
            continue
        await caps.take(connection, [waiting], hours, NOW, now)
        if isinstance(waiting.cap, Send):
            assert waiting.cap.day_until > NOW
            wire.append(now)
        elif isinstance(waiting.cap, Defer):
            assert waiting.cap.delay_s > 0
            heapq.heappush(due, (now + waiting.cap.delay_s, number))
    return wire


@settings(max_examples=100, deadline=None)
@given(
    some_windows() | st.none(),
    st.lists(ZONES, min_size=1, max_size=2, unique=True),
    INSTANTS,
    st.lists(st.integers(0, 30 * 3600), min_size=1, max_size=15),
    st.integers(1, 3),
    st.integers(1, 5) | st.none(),
)
def test_whenever_messages_come_none_goes_outside_of_its_window_or_over_its_cap(
    loop_and_connection, window, zones, start, gaps, per_day, per_week
):
    """In any zone that its recipient can be in; and without a window all of them go in the end."""
    loop, connection = loop_and_connection
    hours, caps = Windows([window] if window else []), Caps([CapSettings(("transactional",), per_day, per_week)])
    due = [(float(instant), number) for number, instant in enumerate(itertools.accumulate(gaps, initial=start))]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("dispatcher.caps", "dispatcher.windows"):
            patch.setattr(f"{module}.zones_of_job", lambda *_: tuple(zones))
        wire = loop.run_until_complete(sent_at(connection, caps, hours, list(due), start + 150 * DAY_S))
    for zone in zones:
        dates = [datetime.fromtimestamp(instant, ZoneInfo(zone)).date() for instant in wire]
        weeks = [date - timedelta(days=date.weekday()) for date in dates]
        assert max(Counter(dates).values(), default=0) <= per_day
        assert per_week is None or max(Counter(weeks).values(), default=0) <= per_week
        assert window is None or all(is_within(window, zone, instant) for instant in wire)
    if window is None:
        assert len(wire) == len(due)


def test_no_day_is_longer_than_tocsin_check_takes_it_to_be():
    """27 hours: from one noon to the next no clock is put back by more than three. Nobody knows the rules to come."""
    most = timedelta()
    for zone in map(ZoneInfo, known_zones()):
        noons = [datetime(2015, 1, 1, 12, tzinfo=zone) + timedelta(days=n) for n in range(16 * 366)]
        offsets = [noon.utcoffset() or timedelta() for noon in noons]
        most = max(most, *(before - after for before, after in itertools.pairwise(offsets)))
    assert most == timedelta(hours=3)
