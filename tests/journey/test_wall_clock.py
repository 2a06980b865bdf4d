"""A wall clock that jumps by an hour changes nothing: what we decide by the clock is monotonic, or the database's.

The daemons run under libfaketime with only their wall clocks faked; the database and the SMSCs keep the true time.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.smsc import Answer, Smsc
from tests.journey.instances import world
from tests.journey.running import LINK, Child, app_of, until, write_file
from tests.journey.test_instances import shared_out

if TYPE_CHECKING:
    from tests.fakes.smsc import Logged

HOUR = timedelta(hours=1)
TIME_TO_LIVE_S = 300  # of the category auth
RETRY_S = 5.0  # the first one of its lane
QUEUE_FULL = 0x14
JUMPS = (("+1h", "-1h"), ("-1h", "+1h"), ("+0", "+0"))


class WallClock:
    """The wall clock of one process, which may be moved while it runs."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor CLOCK_BOOTTIME
        }

    def set(self, offset: str) -> None:
        """Move it to this offset from the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n", encoding="ascii")
        fresh.replace(self._file)  # at no instant is there half a file


@pytest.fixture
def library() -> Path:
    """The library libfaketime, for programs with threads."""
    found = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Debian's package libfaketime is missing")
        pytest.skip("Debian's package libfaketime is missing")
    return found


async def wall_clock_of(child: Child) -> timedelta:
    """How far the wall clock of a daemon is ahead, by what it logs."""
    before = len(child.events("reload_applied"))
    child.reload()

    async def logged() -> bool:
        return len(child.events("reload_applied")) > before

    await until(logged)
    return datetime.fromisoformat(child.events("reload_applied")[-1]["at"]) - datetime.now(UTC)


@pytest.mark.slow
async def test_a_wall_clock_that_jumps_by_an_hour_changes_nothing(tmp_path, queue_url, library):
    """No expiry, no take-over, no second segment, no receipt without its message; a retry comes when it is due."""
    refused: dict[str, float] = {}
    retried: dict[str, float] = {}

    def answer(submit: Logged) -> Answer:
        number = submit.fields["destination_addr"]
        if number in refused:
            retried[number] = submit.at
        elif number.endswith("7"):
            refused[number] = submit.at
            return Answer(status=QUEUE_FULL)
        return Answer()

    async with world(tmp_path, queue_url, takeover_s=4.0, rate=100, receipts="all") as made:
        for smsc in made.smscs.values():
            smsc.receipt_delay_s = 0.3
            smsc.on_submit = answer
        clocks = {name: WallClock(library, tmp_path / f"wall-{name}") for name in made.files}
        children = {name: Child(path, **clocks[name].environment) for name, path in made.files.items()}
        async with children["a"], children["b"]:
            await until(lambda: shared_out(made), 40)
            binds = sum(len(smsc.received("bind_transceiver")) for smsc in made.smscs.values())
            epochs = await made.app.fetch("select name, owner, epoch from tocsin.link order by name")
            for jump in JUMPS:
                await made.enqueue(200, category="auth")
                await made.until_read(60)
                for name, offset in zip(clocks, jump, strict=True):
                    clocks[name].set(offset)
                    ahead = await wall_clock_of(children[name])
                    assert abs(ahead - {"+1h": HOUR, "-1h": -HOUR, "+0": timedelta()}[offset]) < timedelta(minutes=1)
                await made.until_read(60)
            await made.app.until_states({"delivered": 600}, 60)

            assert await made.app.fetch("select name, owner, epoch from tocsin.link order by name") == epochs
            assert sum(len(smsc.received("bind_transceiver")) for smsc in made.smscs.values()) == binds
            read = Counter(
                submit.fields["destination_addr"]
                for smsc in made.smscs.values()
                for submit in smsc.received("submit_sm")
            )
            assert read == {number: 1 + (number in refused) for number in made.jobs}
            assert await made.app.value("select count(*) from tocsin.receipt_wait where matched_at is null") == 0
            waited = [retried[number] - at for number, at in refused.items()]
            assert len(waited) == 60
            assert RETRY_S - 0.1 <= min(waited)
            assert max(waited) < RETRY_S + 10
            validity = {
                submit.fields["validity_period"]
                for smsc in made.smscs.values()
                for submit in smsc.received("submit_sm")
            }
            assert all(f"0000000004{0:02}000R" <= period <= "000000000500000R" for period in validity), validity
            for name in clocks:
                children[name].terminate()
                assert await children[name].wait(40) == 0


@pytest.mark.slow
async def test_an_absolute_validity_period_is_off_by_what_the_wall_clock_is_off(tmp_path, queue_url, library):
    """The one thing that is told by the wall clock, to those SMSCs that know no other form."""
    asyncio.get_running_loop().set_debug(False)
    clock = WallClock(library, tmp_path / "wall")
    async with Smsc() as smsc, app_of(queue_url) as app:
        path = write_file(tmp_path, queue_url, {LINK: {"port": smsc.port, "validity": "absolute", "receipts": "none"}})
        async with Child(path, **clock.environment) as child:
            await smsc.seen("bind_transceiver", timeout_s=15)
            off = defaultdict(timedelta)
            for n, offset in enumerate(("+0", "+1h", "-1h")):
                clock.set(offset)
                await app.enqueue(f"4477009{n:05d}", category="auth")
                (*_, submit) = await smsc.seen("submit_sm", n + 1)
                ends_at = datetime.strptime(f"{submit.fields['validity_period'][:12]}+0000", "%y%m%d%H%M%S%z")
                off[offset] = ends_at - datetime.now(UTC) - timedelta(seconds=TIME_TO_LIVE_S)
            assert all(
                abs(off[offset] - true) < timedelta(minutes=1)
                for offset, true in (("+0", timedelta()), ("+1h", HOUR), ("-1h", -HOUR))
            ), off
            await app.until_states({"submitted": 3})
            child.terminate()
            assert await child.wait() == 0
