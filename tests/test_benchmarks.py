"""The benchmarks run, end by themselves, and account for every job; their figures mean what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from benchmarks import bench_codec, bench_journey, enqueuer
from benchmarks import ledger as cell
from benchmarks.ledger import Ledger
from benchmarks.measure import calibrate, percentile
from benchmarks.plan import OFFICIAL, RUNS, arguments_of, plans
from benchmarks.stage import Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import DatabaseServer

QUICK = ("--seconds", "1", "--warm", "0.5", "--depth", "200", "--drain", "30", "--json")


def play(database_server: DatabaseServer, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Play one short run on the tests' server, and give its figures."""
    code = bench_journey.main(["--database", database_server.url, *QUICK, *words])
    printed = json.loads(capsys.readouterr().out)

    assert code == 0, printed["runs"][0]["account"]
    return dict(printed["runs"][0])


def command_of(process: psutil.Process) -> str:
    """Its command line; "" when it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def left_on(server: DatabaseServer, pid: int | None = None) -> list[str]:
    """Databases of a benchmark's process, by default of this one, that are still there; others may share the server."""
    rows = server.run(server._connection.fetch("select datname from pg_database"))
    return [row["datname"] for row in rows if row["datname"].startswith(f"tocsin_bench_{pid or os.getpid()}_")]


def told_to_end(bench: str, words: list[str], once: str) -> tuple[int, list[psutil.Process], int]:
    """Its exit code after SIGTERM, sent once a process with this in its command runs; those that outlive it; its id."""
    command = [sys.executable, "-m", f"benchmarks.{bench}", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    until = time.monotonic() + 30
    while not any(once in command_of(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    return process.wait(timeout=30), psutil.wait_procs(children, timeout=10)[1], process.pid


@pytest.mark.slow
class TestJourney:
    def test_a_sustained_run_delivers_what_was_enqueued(self, database_server, capsys):
        """Sink and database count the same, nothing is lost, and the queue is empty at the end."""
        result = play(database_server, capsys, "--runs", "sustained", "--emergencies-per-s", "20")

        account = result["account"]
        assert account["enqueued"] == account["delivered"] > 0
        assert account["lost"] == account["open"] == 0
        assert result["emergencies"]["count"] > 0
        assert result["emergencies"]["never_arrived"] == 0
        assert result["emergencies"]["p50_ms"] <= result["emergencies"]["from_call_p50_ms"]
        assert result["from_database"]["delivered_per_s"] > 0
        assert result["cpu_s_per_1000"]["daemon"] > 0

    def test_a_throttled_run_holds_its_limit_in_any_second(self, database_server, capsys):
        """At the sink's clock, wherever the second begins."""
        result = play(database_server, capsys, "--throughput", "50", "--depth", "60")

        assert 0 < result["sink"]["most_in_any_second"] <= 50

    def test_a_killed_daemon_loses_nothing(self, database_server, capsys):
        """The run of the starts kills it with SIGKILL in the middle, and counts two first segments."""
        result = play(database_server, capsys, "--runs", "start")

        assert result["account"]["lost"] == 0
        assert len(result["first_submit_after_s"]) == 2

    def test_a_run_leaves_no_database_and_no_process(self, database_server, capsys):
        """Whatever the run made on somebody's server is gone afterwards."""
        play(database_server, capsys, "--runs", "idle")

        assert not left_on(database_server)
        children = psutil.Process(os.getpid()).children(recursive=True)
        assert not [child for child in children if "benchmarks." in command_of(child)]

    def test_sigterm_ends_a_run_and_all_that_it_made(self, database_server):
        """Exit 130, no process and no database left."""
        words = ["--database", database_server.url, "--runs", "sustained"]
        code, alive, pid = told_to_end("bench_journey", words, once="enqueuer")

        assert code == 130
        assert not alive
        assert not left_on(database_server, pid)


class TestPlans:
    def test_the_default_is_the_four_official_runs(self):
        """In their order: three-quarters needs the maximum that sustained found."""
        assert [plan.name for plan in plans(arguments_of([]))] == list(OFFICIAL)

    def test_a_throughput_alone_is_the_throttled_run(self):
        """Emergencies stay at the reserve of that rate, and the queue small enough to drain."""
        (plan,) = plans(arguments_of(["--throughput", "100"]))

        assert (plan.name, plan.throughput, plan.most_emergencies) == ("throttled", 100, 10)
        assert plan.emergencies_per_s <= 10
        assert plan.depth <= 500

    def test_rounds_are_in_turns_and_the_least_disturbed_of_a_run_comes_first(self):
        """By the sink's time alone, whatever ours was; the runs stay in the order that was asked for."""
        arguments = arguments_of(["--runs", "sustained", "inside", "--rounds", "2"])
        played = [
            {"run": plan.name, "cpu_s_per_1000": {"daemon": ours, "sink": sink}}
            for plan, ours, sink in zip(
                plans(arguments), (0.04, 0.04, 0.05, 0.05), (0.010, 0.009, 0.008, 0.011), strict=True
            )
        ]

        assert [result["run"] for result in played] == ["sustained", "inside", "sustained", "inside"]
        assert bench_journey.by_disturbance(arguments, played) == [played[2], played[0], played[1], played[3]]

    @pytest.mark.parametrize("name", RUNS)
    def test_every_run_has_a_plan(self, name):
        """And its name."""
        (plan,) = plans(arguments_of(["--runs", name]))

        assert plan.name == name


class TestParts:
    def test_percentiles_are_values_that_were_measured(self):
        """No interpolation; none of nothing."""
        assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
        assert percentile([1.0], 0.99) == 1.0
        assert percentile([], 0.5) is None

    def test_the_calibration_says_something(self):
        """Millions of rounds a second: between a very slow and a very fast machine."""
        assert 0.5 < calibrate(0.05) < 1000

    def test_the_ledger_is_shared_between_its_readers(self, tmp_path: Path):
        """What one mapping writes the other reads; what waits is what was enqueued and not seen at the sink."""
        one = Ledger(tmp_path / "ledger", create=True)
        other = Ledger(tmp_path / "ledger")
        one[cell.CLIENTS] = 70
        one[cell.CLIENTS + 1] = 50
        one[cell.SUBMITTED] = 100

        assert (other.enqueued, other.waiting) == (120, 20)
        one.close()
        other.close()

    @pytest.mark.parametrize(
        ("url", "wanted"),
        [
            (
                "postgresql://me@db.example:5433/postgres?sslmode=disable",
                "postgresql://me@db.example:5433/x?sslmode=disable",
            ),
            (
                "postgresql://postgres@/postgres?host=/run/pg&port=5432",
                "postgresql://postgres@/x?host=/run/pg&port=5432",
            ),
            ("postgresql://127.0.0.1", "postgresql://127.0.0.1/x"),
        ],
    )
    def test_the_runs_database_is_on_the_same_server(self, url, wanted):
        """Only the database differs."""
        assert Server(url).database_url("x") == wanted

    def test_the_load_is_what_is_promised(self):
        """GSM-7 texts of 100 to 160 characters, a tenth of two parts, about one per cent of lane 0."""
        load = enqueuer.Load(enqueuer.random.Random(7))
        jobs = [job for _ in range(200) for job in json.loads(load.call(100))]
        long = [job for job in jobs if len(job["body"]) > 160]

        assert {len(job["recipient"]) for job in jobs} == {12}
        assert all(100 <= len(job["body"]) <= 306 for job in jobs)
        assert 0.07 < len(long) / len(jobs) < 0.13
        assert 0.005 < sum(job["category"] == "emergency" for job in jobs) / len(jobs) < 0.015

    def test_the_codec_benchmark_compares_like_with_like(self, capsys):
        """Both make the same submit_sm, and every case runs."""
        assert bench_codec.ours_encode() == bench_codec.theirs_encode()
        assert bench_codec.main(["--turns", "1", "--seconds", "0.001"]) == 0
        assert "encode submit_sm" in capsys.readouterr().out
