"""The demonstration: what it concludes from the SMSC's log, and that it runs and leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from config.settings import load
from dispatcher import demo, demo_stage
from dispatcher.demo_load import EMERGENCY_NUMBER, EMERGENCY_TEXT, KINDS, requests
from gateway import count

ROOT = Path(__file__).parent.parent
ENDS_WITHIN_S = 60.0
CLEANS_UP_WITHIN_S = 20.0


def test_an_emergency_that_came_before_what_waited_is_what_it_wants_to_see():
    """100 were on the wire, two came in front of it, 97 after it."""
    place = demo.Place(before=100, number=103, total=200)

    assert (place.in_front, place.overtaken) == (2, 97)
    assert place.problem() is None


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (demo.Place(before=150, number=151, total=200), "overtook 49 segments"),
        (demo.Place(before=100, number=122, total=200), "21 segments went before"),
        (demo.Place(before=100, number=200, total=200), "overtook 0 segments"),
    ],
)
def test_an_emergency_that_waited_is_a_failure(place, problem):
    """An exit code that cannot be 1 shows nothing."""
    assert problem in place.problem()


def test_a_percentile_is_a_value_that_was_measured():
    """Nearest rank, and no number at all of nothing."""
    values = [float(value) for value in range(1, 11)]

    assert [demo.percentile(values, percent) for percent in (1, 50, 51, 99, 100)] == [1.0, 5.0, 6.0, 10.0, 10.0]
    assert math.isnan(demo.percentile([], 50))


def test_the_load_has_five_hundred_jobs_of_every_kind():
    """Lanes, alphabets, one part and several; nobody is written to who exists."""
    load = requests()

    assert len(load) == 500
    assert Counter(request.category for request in load) == {
        "transactional": 310,
        "marketing": 120,
        "informational": 40,
        "staff": 30,
    }
    assert {request.flash for request in load if request.category == "staff"} == {True}
    assert {count(request.body) for request in load} == {("gsm7", 1), ("gsm7", 3), ("ucs2", 1), ("ucs2", 2)}
    numbers = {request.recipient for request in load} | {EMERGENCY_NUMBER}
    assert len(numbers) == 501
    assert all(re.fullmatch(r"447700900\d{3}", number) for number in numbers)


def test_the_daemon_is_kept_away_from_the_users_own_database():
    """A developer's environment names one, and the demonstration must not enqueue there."""
    given = {"TOCSIN_DATABASE_URL": "x", "PGHOST": "x", "CREDENTIALS_DIRECTORY": "x", "PATH": "/bin"}

    assert demo_stage.environment(given.items()) == {"PATH": "/bin"}


def test_its_configuration_is_one_that_the_daemon_takes(tmp_path):
    """It is written by hand, not by the reader of it."""
    path = tmp_path / "tocsin.toml"
    path.write_text(demo_stage.configuration("postgresql://postgres@/tocsin?host=/tmp/x&port=5432", 4711))

    settings = load(path, {})

    assert not settings.warnings
    (link,) = settings.links
    assert (link.port, link.throughput_per_s) == (4711, demo_stage.SEGMENTS_PER_S)
    allowed = {category for sender in settings.senders for category in sender.categories}
    assert allowed >= {kind.category for kind in KINDS} | {"emergency"}


async def started(temporary):
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dispatcher.cli", "demo"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env=environment | {"PATH": "/nonexistent", "TMPDIR": str(temporary)},
        start_new_session=True,
    )


@pytest.fixture
def temporary(tmp_path):
    """A temporary directory that another user may enter, as /tmp is."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o711)
    return tmp_path


def processes_of(temporary):
    """Those whose command line names something in the directory: the daemon and Postgres."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(temporary) in argument for argument in process.info["cmdline"] or ())
    ]


def text_of(path):
    return Path(path).read_text()


@pytest.mark.slow
async def test_all_is_delivered_and_the_emergency_comes_first(temporary):
    """Twice in a row, without a home, without a Postgres on the PATH; and nothing is left."""
    for _ in range(2):
        process = await started(temporary)
        async with asyncio.timeout(ENDS_WITHIN_S):
            output = (await process.communicate())[0].decode()

        assert process.returncode == 0, output
        assert re.search(r"emergency +1 +1 +1 ", output)
        assert re.search(r"0 queued, +0 submitted, +501 delivered", output)
        before = int(re.search(r"on the wire when the emergency was enqueued: (\d+)", output)[1])
        number, total, in_front, overtaken = map(
            int, re.search(r"number (\d+) of (\d+); (\d+) segments overtook it, and it overtook (\d+)", output).groups()
        )
        assert (in_front, overtaken) == (number - before - 1, total - number)
        assert overtaken >= demo.FEWEST_OVERTAKEN
        assert not re.search(r"\d{7}", output), "a number"
        assert not [text for text in (EMERGENCY_TEXT, *(request.body for request in requests())) if text in output]
        assert processes_of(temporary) == []
        assert [path.name for path in temporary.iterdir() if path.name.startswith("tocsin-demo-")] == []


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["tocsin demo:", "Postgres", "SMSC", "load", " 2 s"])
async def test_it_cleans_up_after_ctrl_c_at_any_time(temporary, seen):
    """A terminal sends it to every process of the group, and a person presses it twice."""
    process = await started(temporary)
    output = ""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while seen not in output:
            line = await process.stdout.readline()
            assert line, output
            output += line.decode()
    os.killpg(process.pid, signal.SIGINT)
    await asyncio.sleep(0.02)  # the second one comes while the first is obeyed
    os.killpg(process.pid, signal.SIGINT)
    async with asyncio.timeout(CLEANS_UP_WITHIN_S):
        output += (await process.communicate())[0].decode()

    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert processes_of(temporary) == []
    assert [path.name for path in temporary.iterdir() if path.name.startswith("tocsin-demo-")] == []


@pytest.mark.slow
async def test_a_daemon_that_dies_is_a_failure_with_a_reason_and_a_log(temporary):
    """Whoever looks for the cause is told where."""
    process = await started(temporary)
    output = ""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while " 1 s" not in output:
            output += (await process.stdout.readline()).decode()
        os.kill(int(re.search(r"process (\d+), bound", output)[1]), signal.SIGKILL)
        output += (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert "FAILED: the daemon ended with code -9" in output
    assert "session_bound" in text_of(re.search(r"the daemon's log: (.+)", output)[1])
    assert processes_of(temporary) == []
