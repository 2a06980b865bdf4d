"""The cases that are kept, a short hunt from them, and a hunt that must find what was broken on purpose."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.hunt import attempt, hunt
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
KEPT = [(kind, name) for kind in TARGETS for name in corpus.kept(kind)]


@pytest.mark.parametrize(("kind", "name"), KEPT)
def test_a_case_that_is_kept_breaks_nothing(kind, name):
    """What was found once is not found again."""
    TARGETS[kind](corpus.kept(kind)[name])


@pytest.mark.parametrize("kind", TARGETS)
def test_every_seed_breaks_nothing(kind):
    """PDUs, texts and receipts of other projects' tests; every kind has some, and cases of its own."""
    seeds = corpus.seeds(kind)

    assert len(seeds) > len(corpus.kept(kind)) >= 4
    for case in seeds:
        TARGETS[kind](case)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_short_hunt_finds_nothing(kind, tmp_path):
    """A few hundred mutations of the kept cases, the same ones on each run; ``make fuzz`` has the time for more."""
    for name, case in corpus.kept(kind).items():
        corpus.keep(kind, case, name, tmp_path)

    found = hunt(kind, TARGETS[kind], seed=20_261_126, cases=len(corpus.seeds(kind)) + 400, folder=tmp_path)

    assert found.findings == {}
    assert found.signatures > 10


@pytest.mark.parametrize(
    ("kind", "breaks"),
    [("codec", lambda octets: octets[-1:] == b"\0"), ("receipts", lambda octets: b"\x1b" in octets)],
)
def test_what_breaks_is_found_shortened_and_kept_once(kind, breaks, tmp_path):
    """A hunt that could find nothing would hold for nothing."""

    def target(octets):
        assert not breaks(octets), "planted"
        return TARGETS[kind](octets)

    found = hunt(kind, target, seed=1, cases=3_000, folder=tmp_path)

    ((broke, path),) = found.findings.items()
    assert "planted" in broke
    assert len(corpus.read(path)) == 1
    assert corpus.kept(kind, tmp_path) == {path.name: corpus.read(path)}
    assert attempt(target, corpus.read(path))[0] == broke


def test_a_case_that_does_not_come_to_its_end_is_a_finding(monkeypatch, tmp_path):
    """A regular expression can take for ever, and nothing would be raised."""
    monkeypatch.setattr("tests.fuzz.hunt.CASE_S", 0.05)

    def target(_):
        while True:
            pass

    assert attempt(target, b"")[0].startswith("TooSlow")


def test_the_same_seed_tries_the_same_cases(tmp_path):
    """A run can be seen again."""
    tried = [[], []]
    for run in tried:
        hunt("codec", lambda octets, run=run: run.append(octets) or (len(octets),), seed=7, cases=600, folder=tmp_path)

    assert tried[0] == tried[1]
    assert len(set(tried[0])) > 300


def test_the_command_tells_its_seed_and_ends_with_0_or_1():
    """Whoever runs it for a night reads the last lines and the exit code."""
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "0.3", "--kinds"]
    run = subprocess.run([*command, "receipts", "--seed", "5"], cwd=ROOT, capture_output=True, text=True, check=False)
    wrong = subprocess.run([*command, "weather"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("receipts: seed 5\nreceipts: ")
    assert "0 findings" in run.stdout
    assert wrong.returncode == 2
