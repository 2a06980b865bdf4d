"""cases.toml: what goes wrong in healthcare stands beside a test that exists, or says why there is none."""

import re

from tests.conformance.carriers import CASES, SUBJECTS_OF_CASES, known_tests, lines, problems


def test_every_case_stands():
    """Each from 1 to 40 has tests that exist, or a reason."""
    found = lines(CASES.read_text(encoding="utf-8"))

    assert problems(found, known_tests(), set(), SUBJECTS_OF_CASES) == []
    assert [line["id"] for line in found] == [str(number) for number in range(1, 41)]
    assert {line["subject"] for line in found} == SUBJECTS_OF_CASES
    assert not [line["id"] for line in found for test in line.get("tests", []) if "[" in test]  # whole tests alone


def test_a_test_that_is_named_for_a_case_stands_beside_it():
    """Or one of them does, where several are; a number in a name that means another case would mislead."""
    beside = {line["id"]: set(line.get("tests", [])) for line in lines(CASES.read_text(encoding="utf-8"))}
    named: dict[str, set[str]] = {}
    for test in known_tests():
        if found := re.search(r"::test_case_(\d+)_", test):
            named.setdefault(found[1], set()).add(test)

    assert len(named) >= 15
    assert not [number for number, tests in named.items() if not tests & beside.get(number, set())]
