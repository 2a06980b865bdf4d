"""The benchmark of refusals, consent and hours plays, and its account finds what does not add up."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_policy
from benchmarks.bench_policy import compared


@pytest.mark.slow
def test_a_tiny_one_is_played_and_only_suppressed_numbers_are_blocked(capsys, database_server):
    words = ["--rounds", "1", "--seconds", "2", "--warm", "1", "--numbers", "100", "--json"]
    assert bench_policy.main([*words, "--database", database_server.url]) == 0
    printed = json.loads(capsys.readouterr().out)
    free, ruled = printed["runs"]
    assert free["account"]["blocked"] == 0 < ruled["account"]["blocked"]
    assert ruled["account"]["rows"] == {"suppression": 60, "consent": 200}
    share = ruled["account"]["blocked"] / ruled["account"]["enqueued"]
    assert 0.05 < share < 0.15


def test_the_middle_of_the_pairs_ratios_is_told_and_the_blocked_count_as_decided():
    def run(rate: float, blocked: int) -> dict[str, object]:
        account = {"enqueued": 100, "blocked": blocked}
        return {"submitted_per_s": rate, "account": account, "cpu_s_per_1000": {"daemon": 0.1, "postgres": 0.2}}

    told = compared([(run(100, 0), run(90, 10)), (run(100, 0), run(45, 10)), (run(50, 0), run(50, 0))])
    assert told["submitted_per_s"]["ratio"] == 0.9
    assert told["decided_per_s"]["ratios"] == [1.0, 0.5, 1.0]
