"""The benchmark of the emergencies plays its conditions, and finds what an emergency must not meet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import bench_emergency
from benchmarks.bench_emergency import CONDITIONS, arguments_of, judge, plans_of
from benchmarks.measure import LEAST_MS, PER_DECADE, histogram
from benchmarks.plan import NO_LIMIT

TINY = (
    "--backlog",
    "2000",
    "--emergencies",
    "8",
    "--emergencies-per-s",
    "8",
    "--seconds",
    "1",
    "--warm",
    "0.5",
    "--json",
)


def judged(run: str = "saturated", *, limit: int = 100, most: int = 90, count: int = 5, never: int = 0) -> list[str]:
    """What is said of such a run."""
    result: dict[str, Any] = {
        "run": run,
        "throughput_per_s": limit,
        "sink": {"most_in_any_second": most},
        "emergencies": {"count": count, "never_arrived": never},
        "account": {"problems": []},
    }
    judge(result)
    return list(result["account"]["problems"])


@pytest.mark.slow
class TestRuns:
    def test_every_condition_is_played_behind_its_backlog(self, database_server, capsys):
        """The maximum first; then each condition, whose emergencies all arrive, with their times and their histogram."""
        code = bench_emergency.main(["--database", database_server.url, "--throughput", "50", *TINY])
        printed = json.loads(capsys.readouterr().out)

        assert code == 0, [run["account"] for run in printed["runs"]]
        assert [run["run"] for run in printed["runs"]] == list(CONDITIONS)
        assert printed["maximum_per_s"] == printed["maximum"]["segments_per_s"] > 0
        limits = [run["throughput_per_s"] for run in printed["runs"]]
        assert limits[0] == int(printed["maximum_per_s"] * 0.75)
        assert limits[2] == 50
        for run in printed["runs"]:
            urgent = run["emergencies"]
            assert run["backlog"] == 2_000
            assert urgent["never_arrived"] == 0
            assert sum(urgent["histogram"]["counts"]) == urgent["count"] > 0
            assert urgent["p50_ms"] <= urgent["p99_ms"] <= urgent["most_ms"]


class TestPlans:
    def test_a_window_lasts_for_as_many_emergencies_as_were_asked_for(self):
        """On the throttled link, where fewer a second may come, it is longer."""
        quarters, saturated, throttled = plans_of(arguments_of(["--emergencies", "1000", "--seconds", "20"]), 8_000.0)

        assert (quarters.throughput, throttled.throughput) == (6_000, 100)
        assert saturated.throughput > 50_000
        for plan in (quarters, saturated, throttled):
            assert plan.seconds * plan.emergencies_per_s >= 1_000
            assert (plan.backlog, plan.owed) == (100_000, NO_LIMIT)
        assert throttled.emergencies_per_s == 5.0

    def test_a_window_is_not_shorter_than_was_asked_for(self):
        """Few emergencies do not make it so."""
        assert [
            plan.seconds for plan in plans_of(arguments_of(["--emergencies", "1", "--seconds", "20"]), 8_000.0)
        ] == [
            20.0,
            20.0,
            20.0,
        ]

    @pytest.mark.parametrize("option", ["--backlog", "--emergencies", "--throughput", "--emergencies-per-s"])
    def test_nothing_of_nothing_is_measured(self, option, capsys):
        """A usage error, exit 2."""
        with pytest.raises(SystemExit) as ended:
            arguments_of([option, "0"])

        assert ended.value.code == 2
        assert option in capsys.readouterr().err


class TestJudge:
    @pytest.mark.parametrize("run", CONDITIONS)
    def test_emergencies_that_arrived_within_the_limit_are_no_problem(self, run):
        """The limit itself may be reached."""
        assert judged(run, most=100) == []

    def test_a_limit_counts_on_the_throttled_link_alone(self):
        """There it is asked for; on saturated cores the sink reads late and finds two seconds in one."""
        assert judged("throttled", most=101) == ["101 segments in one second, on a link of 100"]
        assert judged("three-quarters", most=101) == []

    def test_an_emergency_that_never_arrived_is_told(self):
        """How many."""
        assert judged(never=2) == ["2 emergencies never arrived"]

    def test_no_emergency_is_no_figure(self):
        """A window in which none was committed says nothing of them."""
        assert judged(count=0) == ["no emergency was committed inside the window"]


class TestHistogram:
    def test_a_bucket_holds_its_lower_end_and_not_its_upper(self):
        """Bucket n begins at 0.1 ms x 10 ** (n / 20)."""
        edge = LEAST_MS * 10 ** (7.5 / PER_DECADE)

        assert histogram([edge])["counts"] == [0] * 7 + [1]
        assert histogram([0.15, 1.5])["counts"] == [0] * 3 + [1] + [0] * 19 + [1]

    def test_what_is_less_than_the_least_is_in_the_first(self):
        """A clock read twice in the same tick gives 0, and none is lost."""
        assert histogram([0.0, 0.01, LEAST_MS])["counts"] == [3]

    def test_every_value_is_counted_once(self):
        """Whatever their order."""
        values = [0.3, 47.0, 0.3, 1_000.0, 2.2]

        assert sum(histogram(values)["counts"]) == 5
        assert histogram(values) == histogram(sorted(values))

    def test_nothing_has_no_bucket(self):
        """And says how it would be counted."""
        assert histogram([]) == {"least_ms": LEAST_MS, "per_decade": PER_DECADE, "counts": []}
