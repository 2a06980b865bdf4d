"""carriers.toml: what carriers do stands beside a test that exists, or says why there is none."""

import subprocess
import sys

import pytest

from gateway.status import VERDICTS
from tests.conformance.carriers import FILE, ROOT, SUBJECTS, known_tests, lines, problems

TEST = "tests/conformance/test_carriers.py::test_every_line_stands"
GOOD = {"id": "a", "subject": "framing", "case": "c", "then": "t", "tests": [TEST]}


def test_every_line_stands():
    """Each has a test that exists, or a reason; each command_status that has a verdict has a line."""
    found = lines(FILE.read_text(encoding="utf-8"))

    assert problems(found, known_tests(), set(VERDICTS)) == []
    assert {line["subject"] for line in found} == SUBJECTS


def test_every_parameter_of_a_test_is_one():
    """Pytest says which there are; only files of which a line names a parameter are asked."""
    named = {test for line in lines(FILE.read_text(encoding="utf-8")) for test in line.get("tests", []) if "[" in test}
    files = {test.partition("::")[0] for test in named}
    command = [sys.executable, "-m", "pytest", "--override-ini=addopts=", "--collect-only", "-q", *sorted(files)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert named
    assert named - set(run.stdout.splitlines()) == set()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tests": [TEST.replace("stands", "sits")]}, "a: no test"),
        ({"tests": ["tests/conformance/test_carriers.py::TestNone::test_every_line_stands"]}, "a: no test"),
        ({"tests": []}, "a: either tests or none"),
        ({"none": "not done: no"}, "a: either tests or none"),
        ({"then": ""}, "a: what Tocsin does"),
        ({"tests": [], "then": "", "none": "because"}, "a: none begins with"),
        ({"subject": "weather"}, "a: no such subject"),
        ({"case": None}, "a: lacks case"),
        ({"note": "x"}, "a: unknown note"),
    ],
)
def test_a_line_that_cannot_stand_is_told(change, problem):
    """A check that finds nothing wrong with anything would hold for nothing."""
    line = {key: value for key, value in (GOOD | change).items() if value is not None}

    assert any(told.startswith(problem) for told in problems([line], known_tests(), set()))
    assert problems([GOOD], known_tests(), set()) == []


def test_an_id_and_a_status_stand_once_and_a_status_without_a_line_is_told():
    """Two lines about one number would say two things."""
    with_status = GOOD | {"status": [0x58]}

    assert problems([GOOD, GOOD], known_tests(), set()) == ["a: a second line of this id"]
    assert problems([with_status, with_status | {"id": "b"}], known_tests(), {0x58}) == ["b: 0x58 has a line already"]
    assert problems([with_status], known_tests(), {0x58, 0x14}) == ["0x14 has no line"]


def test_tests_are_found_in_modules_and_classes_alone():
    """As pytest collects them: a helper within a test is none, nor is a method of another class."""
    found = known_tests()

    assert TEST in found
    assert "tests/gateway/test_session.py::TestBinding::test_an_accepted_bind_is_bound" in found
    assert not [test for test in found if not test.rsplit("::", 1)[1].startswith("test_")]
    assert len(found) > 1_500
