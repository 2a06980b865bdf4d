"""One command plays a small form of every benchmark, and says what it did not play."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import __main__ as small
from benchmarks import bench_locust, results


def listed(monkeypatch: pytest.MonkeyPatch, *benches: small.Small) -> None:
    """Let these be all that there are."""
    monkeypatch.setattr(small, "SMALL", benches)


QUICK = small.Small("codec", "--turns 1 --seconds 0.001", server=False)


class TestSmall:
    def test_every_benchmark_has_a_small_form(self):
        """A new one is played with the others."""
        files = {file.stem.removeprefix("bench_") for file in small.FOLDER.glob("bench_*.py")}

        assert files <= {one.bench for one in small.SMALL}

    @pytest.mark.parametrize("one", [one for one in small.SMALL if one.file.exists()], ids=lambda one: one.name)
    def test_a_small_form_is_what_its_bench_takes(self, one):
        """Options that were renamed are found here, not after five minutes."""
        arguments = importlib.import_module(f"benchmarks.bench_{one.bench}").arguments_of(
            [*one.words.split(), "--json"]
        )

        assert arguments.json is True

    def test_two_small_forms_are_not_kept_in_one_file(self):
        """The second would overwrite the first."""
        names = [one.name for one in small.SMALL]

        assert len(set(names)) == len(names)

    def test_what_was_played_is_said(self, capsys, monkeypatch):
        """And ended well."""
        listed(monkeypatch, QUICK)

        assert small.main([]) == 0
        printed = capsys.readouterr()
        assert [line.split()[::2] for line in printed.out.splitlines() if line.startswith("codec")] == [["codec", "ok"]]
        assert "codec: python -m benchmarks.bench_codec --turns 1" in printed.err

    def test_a_failed_one_is_told_and_the_others_are_played(self, capsys, monkeypatch):
        """Exit 1, with the code of the one that failed."""
        listed(monkeypatch, small.Small("codec", "--turns many", "broken", server=False), QUICK)

        assert small.main([]) == 1
        told = capsys.readouterr().out
        assert "FAILED, exit 2" in told
        assert " ok" in told

    def test_what_cannot_be_played_says_why_and_is_no_failure(self, capsys, monkeypatch):
        """A library that is not installed, or a bench that is not there."""
        monkeypatch.setattr(bench_locust.importlib.util, "find_spec", lambda _name: None)
        listed(monkeypatch, small.Small("locust", "", missing=bench_locust.missing), small.Small("tides", ""))

        assert small.main([]) == 0
        told = capsys.readouterr().out
        assert "not played: locust is not installed: pip install --require-hashes -r requirements-bench.txt" in told
        assert "not played: there is no bench_tides.py" in told

    def test_where_the_machine_stands_is_told(self):
        """Tables of what was measured, in columns, and what it must reach; nothing of what was not."""
        runs = [{"run": "receipts-10", "receipts_per_s": 2_000.0, "seconds": 4.0, "account": {"problems": []}}]
        cases = [{"case": "encode submit_sm", "us": 1.5, "smpplib_us": 30.0, "ratio": 20.0}]
        kept = (
            {"bench": "journey", "date": "2026-11-26", "runs": runs, "missing": ["oars: not installed"]},
            {"bench": "codec", "date": "2026-11-26", "cases": cases},
        )
        played = [small.Played(small.Small(one["bench"], ""), result=one) for one in kept]
        told = "\n".join(line.rstrip() for line in small.lines(played))

        assert "not played: oars: not installed" in told
        assert (
            "case                us  smpplib, us  smpplib takes\nencode submit_sm  1.50         30.0         20.0 x"
            in told
        )
        assert "10: 2,000/s, 100: not measured; must: 1: 150/s, 10: 1,500/s, 100: 10,000/s" in told
        assert "emergencies" not in told

    def test_json_is_all_of_it(self, capsys, monkeypatch):
        """Nothing else is on standard output."""
        listed(monkeypatch, QUICK, small.Small("tides", ""))
        small.main(["--json"])
        played, missing = json.loads(capsys.readouterr().out)["benches"]

        assert (played["bench"], played["code"], played["result"]["bench"]) == ("codec", 0, "codec")
        assert (missing["why"], missing["result"]) == ("there is no bench_tides.py", None)

    def test_only_those_that_are_named_are_played(self, capsys, monkeypatch):
        """And a wrong name is a usage error that lists the right ones."""
        listed(monkeypatch, QUICK, small.Small("tides", ""))
        small.main(["tides"])
        assert "codec" not in capsys.readouterr().out

        with pytest.raises(SystemExit) as ended:
            small.main(["moon"])
        assert ended.value.code == 2
        assert "no bench moon; there are codec, tides" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("save", "variant", "kept"), [("", "", "small"), ("x", "", "small-x"), ("x", "flood", "small-x-flood")]
    )
    def test_what_it_keeps_is_no_figure(self, monkeypatch, save, variant, kept):
        """Its name begins with the word by which figures leave it out."""
        words: list[list[str]] = []

        class Child:
            returncode = 0

            def __init__(self, command: list[str], **_options: object) -> None:
                words.append(command)

            def communicate(self) -> tuple[bytes, None]:
                return b"", None

        monkeypatch.setattr(small.subprocess, "Popen", Child)
        listed(monkeypatch, small.Small("codec", "", variant, server=False))
        small.main(["--save", *([save] if save else [])])

        assert words[0][-2:] == ["--save", kept]
        assert kept.partition("-")[0] == results.SMALL

    @pytest.mark.slow
    @pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_the_bench_that_is_played(self, told):
        """Exit 130, and no process left."""
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "queue"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        process.stderr.readline()
        children: list[psutil.Process] = []
        until = time.monotonic() + 60
        while len(children) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
            children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(told)

        assert process.wait(timeout=60) == 130
        process.stderr.close()
        assert not psutil.wait_procs(children, timeout=30)[1]
