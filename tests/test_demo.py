"""The demonstration: its load, what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len

from config.settings import SHIPPED_CATEGORIES, HttpSettings, load
from dispatcher import demo, demo_stage
from dispatcher.cli import invoke
from dispatcher.demo_evidence import FEWEST_OVERTAKEN, judge
from dispatcher.demo_load import ANSWERS, EMERGENCIES, LANE_OF
from dispatcher.demo_load import load as load_of_the_day
from dispatcher.demo_stage import DemoFailed
from dispatcher.demo_view import View, as_json
from dispatcher.demo_watch import LaneNow, LinkNow, Now, Turns, http_port, metrics
from dispatcher.http import HttpListener, Readiness
from dispatcher.metrics import DispatcherMetrics, new_registry
from gateway import count
from tests.demo_day import changed, evidence_of_a_good_day

ROOT = Path(__file__).parent.parent
ENDS_WITHIN_S = 60.0
CLEANS_UP_WITHIN_S = 20.0
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


async def test_a_read_is_known_not_to_have_come_before_the_loop_turned():
    """One turn that found nothing lies between."""
    turns = Turns()
    watching = asyncio.create_task(turns.watch())
    while len(turns.turned_at) < 3:
        await asyncio.sleep(0.001)
    watching.cancel()
    first, second, third = turns.turned_at[:3]

    assert turns.since(third) == first
    assert turns.since(third + 0.0001) == second
    assert turns.since(second) == second


class TestLoad:
    def test_it_has_two_thousand_jobs_of_every_category_that_an_app_uses(self):
        """`reply` is left to answers that the product would send itself."""
        requests = [*load_of_the_day().requests, *EMERGENCIES]

        assert len(requests) == 2_000
        assert {request.category for request in requests} == {one.name for one in SHIPPED_CATEGORIES} - {"reply"}
        assert len({request.body for request in requests}) == 2_000

    def test_it_has_every_alphabet_and_length_and_flash_where_it_is_allowed(self):
        """GSM-7 with its extension, UCS-2 with pairs; one part and several."""
        requests = [*load_of_the_day().requests, *EMERGENCIES]

        assert {count(request.body)[:2] for request in requests} == {
            ("gsm7", 1), ("gsm7", 2), ("gsm7", 3), ("ucs2", 1), ("ucs2", 2), ("ucs2", 3),
        }  # fmt: skip
        assert {request.category for request in requests if request.flash} == {"staff", "emergency"}
        joined = "".join(request.body for request in requests)
        assert all(sign in joined for sign in ("€", "[", "👩🏽‍⚕️", "تذكير", "Напоминание"))

    def test_nobody_is_written_to_who_exists(self):
        """Numbers kept free for fiction; no more than three messages each, of one lane; an emergency's is its own."""
        load = load_of_the_day()
        numbers = Counter(request.recipient for request in load.requests)

        assert all(re.fullmatch(r"447700900\d{3}", number) for number in numbers)
        assert max(numbers.values()) <= 3
        assert not numbers.keys() & {request.recipient for request in EMERGENCIES}
        assert len({(request.recipient, LANE_OF[request.category]) for request in load.requests}) == len(numbers)
        assert load.unreachable <= numbers.keys()

    def test_patients_answer_what_they_can_answer(self):
        """One answer each, a long one and a STOP among them; nobody can answer an alphanumeric sender."""
        load = load_of_the_day()
        category_of = {request.recipient: request.category for request in load.requests}

        assert len({answer.source for answer in load.answers}) == len(load.answers) == sum(len(t) for _, t in ANSWERS)
        assert "marketing" not in {category_of[answer.source] for answer in load.answers}
        assert "STOP" in {answer.text for answer in load.answers}
        assert max(count(answer.text)[1] for answer in load.answers) > 1

    def test_it_is_the_same_every_time(self):
        """Two runs can be compared."""
        assert load_of_the_day() == load_of_the_day()


def test_the_daemon_is_kept_away_from_the_users_own_database():
    """A developer's environment names one, and the demonstration must not enqueue there."""
    given = {"TOCSIN_DATABASE_URL": "x", "PGHOST": "x", "CREDENTIALS_DIRECTORY": "x", "PATH": "/bin"}

    assert demo_stage.environment(given.items()) == {"PATH": "/bin"}


def test_its_configuration_is_one_that_the_daemon_takes(tmp_path):
    """It is written by hand, not by the reader of it."""
    path = tmp_path / "tocsin.toml"
    url = "postgresql://postgres@/tocsin?host=/tmp/x&port=5432"
    path.write_text(demo_stage.configuration(url, [4711, 4712], 9464))

    settings = load(path, {})

    assert not settings.warnings
    assert settings.http.port == 9464
    assert [(link.name, link.port, link.throughput_per_s) for link in settings.links] == [
        (carrier.name, port, carrier.segments_per_s)
        for carrier, port in zip(demo_stage.CARRIERS, (4711, 4712), strict=True)
    ]
    allowed = {category for sender in settings.senders for category in sender.categories}
    assert allowed == {request.category for request in (*load_of_the_day().requests, *EMERGENCIES)}


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def small_screen(monkeypatch):
    """80 columns and 24 rows."""
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


NOW = Now(
    seconds=12.3,
    links=(
        LinkNow("carrier-a", True, 1, 15, 16, 108, 120, 11_111),
        LinkNow("carrier-b", False, 0, 0, 12, 0, 60, 0),
    ),
    lanes=tuple(LaneNow(lane, "auth, conversational", 1_000, 11_111) for lane in range(6)),
    jobs=2_000,
    states={"delivered": 1_800, "undelivered": 20},
    replies_sent=14,
    replies=15,
)


class TestView:
    def test_the_live_view_fits_a_small_terminal(self, small_screen):
        """A taller one would scroll, a wider one would wrap: both ruin it."""
        view = View(small_screen)
        with view.watch("http://127.0.0.1:54321/"):
            for number in range(9):
                view.moment(
                    f"{number}", 1.0, "emergency 1 on carrier-a 3 ms after its commit; 1,721 segments waited, " * 2
                )
            small_screen.truncate(0)
            small_screen.seek(0)
            view.show(NOW)
            painted = CONTROL.sub(b"", small_screen.getvalue().encode()).decode().strip("\r").split("\n")

        assert view.is_live
        assert len(painted) == 23
        assert max(map(cell_len, painted)) <= 80
        for part in (
            "54321",
            "carrier-b  unbound",
            "108 of 120",
            "5 auth",
            "180 open, 1,800 delivered",
            "14 sent by",
        ):
            assert part in "\n".join(painted)

    def test_without_a_terminal_it_is_plain_lines(self, monkeypatch):
        """One a second, and no control sequence even where the environment asks for colours."""
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        stream = io.StringIO()
        view = View(stream)
        with view.watch("http://127.0.0.1:54321/"):
            for seconds in (0.25, 1.0, 1.25, 1.9, 2.1):
                view.show(replace(NOW, seconds=seconds))
            view.moment("emergency 1", 2.2, "committed", is_urgent=True)
        view.summarize(judge(evidence_of_a_good_day()))

        assert not view.is_live
        assert "\x1b" not in stream.getvalue()
        lines = stream.getvalue().splitlines()
        assert [line.split()[0] for line in lines if "segments sent" in line] == ["1.0", "2.1"]
        assert "    2.2 s  committed" in lines

    def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch, small_screen):
        """It cannot move its cursor."""
        monkeypatch.setenv("TERM", "dumb")

        assert not View(small_screen).is_live

    def test_the_summary_fits_eighty_columns_and_marks_what_failed(self, small_screen):
        """Of a good day and of a bad one."""
        view = View(small_screen)
        view.summarize(judge(evidence_of_a_good_day()))
        good = CONTROL.sub(b"", small_screen.getvalue().encode()).decode()
        assert max(map(cell_len, good.splitlines())) <= 80
        assert "FAILED" not in good

        bad_evidence = changed(replace(evidence_of_a_good_day(), inbox=[]), lambda log: log.clear())
        view.summarize(judge(bad_evidence))
        bad = CONTROL.sub(b"", small_screen.getvalue().encode()).decode()
        assert max(map(cell_len, bad.splitlines())) <= 80
        assert {name for name, _ in re.findall(r"FAILED  (\w+) +(.*)", bad)} == {
            "texts",
            "once",
            "emergency",
            "replies",
        }
        assert "FAILED  replies    2 of 2 are not in the inbox as they were sent\n" in bad

    def test_json_has_no_number_that_is_none(self):
        """Nothing came: there are no percentiles, and NaN is no JSON."""
        judgement = judge(changed(evidence_of_a_good_day(), lambda log: log.clear()))

        summary = json.loads(json.dumps(as_json(judgement, 1.0), allow_nan=False))

        assert summary["holds"] is False
        assert {row["p99_s"] for row in summary["categories"]} == {None}
        assert {check["name"] for check in summary["checks"] if not check["holds"]} >= {"texts", "once", "emergency"}


@pytest.mark.parametrize("json_wanted", [False, True])
def test_what_does_not_hold_is_a_failure(monkeypatch, capsys, tmp_path, json_wanted):
    """One last line names what, the exit code is 1, and the daemon's log is kept."""
    bad = changed(evidence_of_a_good_day(), lambda log: log.pop(5))
    monkeypatch.setattr(demo_stage, "folder", lambda: tmp_path)

    async def demonstrate(_folder, log, _began, view, _port):
        log.write_text("")
        judgement = judge(bad)
        view.summarize(judgement)
        return judgement

    monkeypatch.setattr(demo, "_demonstrate", demonstrate)

    assert invoke(["demo", *["--json"] * json_wanted]) == 1

    captured = capsys.readouterr()
    told = captured.err if json_wanted else captured.out
    assert told.endswith(f"FAILED: not all of it held: texts, once\nthe daemon's log: {tmp_path / 'daemon.log'}\n")
    assert "FAILED  texts      job 5 did not come as it was enqueued" in told
    assert (json.loads(captured.out)["holds"] if json_wanted else captured.err) in {False, ""}


def test_a_port_that_is_taken_is_a_wrong_option(capsys):
    """Before anything is started, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert invoke(["demo", "--http", str(port)]) == 2

    captured = capsys.readouterr()
    assert captured.err == f"tocsin: --http {port}: Address already in use\n"
    assert captured.out == ""


async def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    """Its events are for machines; what it says to a person is the reason."""
    log = tmp_path / "daemon.log"
    log.write_text('{"event": "daemon_started", "http_port": 4711}\ntocsin: [http] listen: in use\n')
    async with demo_stage.simulator(demo_stage.CARRIERS[0], lambda _: 2) as smsc:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(2)")

        with pytest.raises(DemoFailed, match=r"^the daemon ended with code 2: tocsin: \[http\] listen: in use$"):
            await demo_stage.bound([smsc], process, log)

    assert http_port(log) == 4711
    log.write_text("")
    with pytest.raises(DemoFailed, match="does not say where"):
        http_port(log)


async def test_the_daemons_metrics_are_read_as_prometheus_spells_them():
    """Its own listener, over a socket."""
    registry = new_registry()
    DispatcherMetrics(registry).prepare(["carrier-a"], [])

    async def unasked():
        raise AssertionError("only /metrics is read")

    listener = HttpListener(HttpSettings(port=0), registry, lambda: Readiness(ready=True), unasked)
    await listener.start()
    try:
        samples = await metrics(listener.port)
    finally:
        await listener.stop()

    assert samples['tocsin_uncertain_segments{link="carrier-a"}'] == 0
    assert samples["tocsin_database_up"] == 0


async def started(temporary, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, **more):
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dispatcher.cli", "demo", *arguments),
        stdout=stdout,
        stderr=stderr,
        cwd=ROOT,
        env=environment | {"PATH": "/nonexistent", "TMPDIR": str(temporary)} | more,
        start_new_session=True,
    )


@pytest.fixture
def temporary():
    """A temporary directory that another user may enter, as /tmp is; pytest's own are closed by its next run."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(temporary):
    """Those whose command line names something in the directory: the daemon and Postgres."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(temporary) in argument for argument in process.info["cmdline"] or ())
    ]


def assert_nothing_is_left(temporary):
    assert processes_of(temporary) == []
    assert [path.name for path in temporary.iterdir() if path.name.startswith("tocsin-demo-")] == []


def assert_private(output):
    """No number, no text; the login codes have six digits."""
    load = load_of_the_day()
    assert not re.search(r"\d{7}", output), "a number"
    texts = [request.body for request in (*load.requests, *EMERGENCIES)] + [
        answer.text for answer in load.answers if len(answer.text) > len("STOP")
    ]
    assert not [text for text in texts if text in output]


@pytest.mark.slow
async def test_in_a_pipe_all_of_it_holds_and_the_summary_is_json(temporary):
    """Without a home, without a Postgres on the PATH; standard output is for the machine alone, and nothing is left."""
    process = await started(temporary, "--json", stderr=asyncio.subprocess.PIPE, FORCE_COLOR="1")
    async with asyncio.timeout(ENDS_WITHIN_S):
        stdout, stderr = (stream.decode() for stream in await process.communicate())

    assert process.returncode == 0, stderr
    summary = json.loads(stdout)
    assert summary["holds"] is True
    assert summary["seconds"] < ENDS_WITHIN_S
    assert [check["name"] for check in summary["checks"] if check["holds"]] == [
        "texts", "once", "flash", "emergency", "rate", "receipts", "replies", "stop",
    ]  # fmt: skip
    assert {row["name"]: row["jobs"] for row in summary["categories"]} == Counter(
        request.category for request in (*load_of_the_day().requests, *EMERGENCIES)
    )
    assert sum(row["delivered"] + row["undelivered"] for row in summary["categories"]) in {
        1_998,  # who sent STOP has two more messages in the queue
        1_999,
        2_000,
    }
    assert sum(row["undelivered"] for row in summary["categories"]) == 20
    assert [place["link"] for place in summary["emergencies"]] == ["carrier-a", "carrier-b", "carrier-a"]
    assert min(place["overtook"] for place in summary["emergencies"]) >= FEWEST_OVERTAKEN
    for link, carrier in zip(summary["links"], demo_stage.CARRIERS, strict=True):
        assert carrier.segments_per_s // 4 < link["surely"] <= carrier.segments_per_s
        assert link["surely"] <= link["busiest_second"]
    assert "\x1b" not in stdout + stderr
    assert re.search(r"^ok +receipts +(1,99[89]|2,000) states", stderr, re.MULTILINE)
    assert re.search(r"^ok +stop +1 sent STOP: [012] messages held back, each confirmed once", stderr, re.MULTILINE)
    assert re.search(r"^ +\d+\.\d s +[\d,]+ of 2,4\d\d segments sent", stderr, re.MULTILINE)
    assert "emergency 3 on carrier-a" in stderr
    assert_private(stdout + stderr)
    assert_nothing_is_left(temporary)


async def read_all(descriptor):
    """What comes out of a pseudo-terminal until its other side is closed."""
    loop = asyncio.get_running_loop()
    chunks, ended = [], asyncio.Event()

    def readable():
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # Linux says EIO at the end
            chunk = b""
        chunks.append(chunk)
        if not chunk:
            loop.remove_reader(descriptor)
            ended.set()

    loop.add_reader(descriptor, readable)
    await ended.wait()
    return b"".join(chunks)


@pytest.mark.slow
async def test_in_a_small_terminal_it_is_live(temporary):
    """80 columns and 24 rows: painted in place, no row wrapped, the cursor given back, and the summary below it."""
    ours, its = os.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = await started(temporary, stdout=its, stderr=its, TERM="xterm-256color", COLUMNS="", LINES="")
        os.close(its)
        async with asyncio.timeout(ENDS_WITHIN_S):
            octets = await read_all(ours)
            await process.wait()
    finally:
        os.close(ours)
    output = CONTROL.sub(b"", octets).decode()

    assert process.returncode == 0, output
    assert b"\x1b[32m" in octets, "colours"
    frames = re.findall(rb"(?:\x1b\[1A\x1b\[2K)+", octets)
    assert len(frames) > 20
    assert max(frame.count(b"\x1b[1A") for frame in frames) <= 22
    assert octets.count(b"\x1b[?25l") == octets.count(b"\x1b[?25h") == 1, "the cursor"
    assert [line for line in re.split(r"[\r\n]+", output) if cell_len(line) > 80] == []
    assert "carrier-a  bound" in output
    assert "all of it held, and no emergency waited" in output
    assert "Traceback" not in output
    assert_private(output)
    assert_nothing_is_left(temporary)


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["tocsin demo:", "Postgres", "SMSC", "load", "segments sent"])
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
    assert_nothing_is_left(temporary)


@pytest.mark.slow
async def test_a_daemon_that_dies_is_a_failure_with_a_reason_and_a_log(temporary):
    """Whoever looks for the cause is told where."""
    process = await started(temporary)
    output = ""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while "segments sent" not in output:
            output += (await process.stdout.readline()).decode()
        os.kill(int(re.search(r"process (\d+), bound", output)[1]), signal.SIGKILL)
        output += (await process.communicate())[0].decode()

    assert process.returncode == 1
    assert "FAILED: the daemon ended with code -9" in output
    log = Path(re.search(r"the daemon's log: (.+)", output)[1])
    assert "session_bound" in await asyncio.to_thread(log.read_text)
    assert processes_of(temporary) == []
