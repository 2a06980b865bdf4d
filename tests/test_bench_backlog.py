"""The benchmark of the backlog plays each condition, and compares like with like."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import bench_backlog, copies
from benchmarks.bench_backlog import CONDITIONS, arguments_of, compared, plan_of
from benchmarks.enqueuer import Load
from benchmarks.flood import judged
from tests.store.seed import seeded

TINY = (
    "--rounds", "1", "--seconds", "1", "--warm", "0.5", "--held", "0.5", "--throughput", "300", "--small", "200",
    "--backlog", "1500", "--deferred", "300", "--bulk", "400", "--drain", "3", "--json",
)  # fmt: skip

SHAPE = """
select distinct to_jsonb(r) - array['id', 'recipient', 'body', 'enqueued_at', 'due_at', 'expires_at', 'parts'] as rest
from tocsin.{table} r
"""
WRONG = """
select id from tocsin.{table}
where parts <> tocsin.count_parts(body, 'gsm7', 'udh8') or recipient !~ '^4479[0-9]{{8}}$' or id > (select last_value from tocsin.job_id)
   or enqueued_at > clock_timestamp() or expires_at - due_at <> (select time_to_live from tocsin.category where name = 'marketing')
   or {due}
"""
DUE = {
    "ready": "due_at <> enqueued_at",
    "deferred": "due_at - enqueued_at not between interval '59 min' and interval '26 h'",
}


def played(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Play it, and give what it printed; later words win."""
    code = bench_backlog.main([*TINY, *words])
    printed = json.loads(capsys.readouterr().out)

    assert code == 0, [run["account"] for run in printed["runs"]]
    return dict(printed)


@pytest.mark.slow
class TestRuns:
    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_every_condition_is_played_beside_a_run_without_it(self, database_server, capsys, condition):
        """Every job is accounted for, and there is a ratio for each figure that both runs have."""
        printed = played(capsys, "--database", database_server.url, "--conditions", condition)

        (comparison,) = printed["comparisons"]
        assert [run["run"] for run in printed["runs"]] == ["small", condition]
        assert {"delivered_per_s", "daemon_cpu_s_per_1000", "rss_mb"} <= set(comparison["figures"])
        # On a busy machine a second may see no claim.
        are_claims = all("claim" in run["statements"] for run in printed["runs"])
        assert ("claim_p50_ms" in comparison["figures"]) == are_claims
        for run in printed["runs"]:
            assert run["account"]["lost"] == 0

    def test_as_much_waits_at_the_end_of_a_window_as_at_its_beginning(self, database_server, capsys):
        """What goes out of the backlog is filled up again: one run has its few, the other its many all the time."""
        printed = played(capsys, "--database", database_server.url, "--conditions", "waiting")

        small, waiting = (run["ready_rows"] for run in printed["runs"])
        assert max(small.values()) < 1_200 <= min(waiting.values())


class TestCopies:
    @pytest.mark.parametrize("table", copies.TABLES)
    async def test_a_copy_is_the_row_that_enqueue_leaves(self, database_url, monkeypatch, table):
        """In every column, a later one too: all but id, recipient and instants are a model's, and those fit together."""
        monkeypatch.setattr(copies, "MODELS", 50)
        monkeypatch.setattr(copies, "AT_ONCE", 130)
        async with seeded(database_url) as connection:
            outcomes = await copies.fill(connection, Load(random.Random(7)), 400, table, lambda: False)

            assert outcomes == {"queued" if table == "ready" else "deferred": 400}
            shape = SHAPE.format(table=table)
            models = await connection.fetch(f"{shape} where id <= 50 order by 1")
            assert await connection.fetch(f"{shape} where id > 50 order by 1") == models != []
            assert await connection.fetch(WRONG.format(table=table, due=DUE[table])) == []
            assert await connection.fetchval(f"select count(distinct id) from tocsin.{table}") == 400
            assert await connection.fetchval("select count(*) from tocsin.event_log") == 0


class TestComparison:
    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_neighbours_have_the_same_plan_but_for_the_backlog(self, condition):
        """And the name; where a transaction is held, the neighbour without it waits as long before its window."""
        arguments = arguments_of(["--held", "30"])
        a, b = (plan_of(arguments, condition, is_b=is_b) for is_b in (False, True))

        assert replace(a, name="", backlog=0) == replace(b, name="", backlog=0)
        assert (a.backlog, b.backlog) == (1_000, 200_000 if condition == "waiting" else 1_000)
        assert a.warm_s == (30.0 if condition in {"snapshot", "writer"} else 5.0)

    def test_ratios_are_of_neighbours_in_time(self):
        """A machine that grows slower from pair to pair is no difference between the two."""
        pairs = [({"claim_p50_ms": slow}, {"claim_p50_ms": slow * 1.1}) for slow in (1.0, 2.0, 4.0)]
        (figure,) = compared("waiting", pairs)["figures"].values()

        assert figure["ratio"] == pytest.approx(1.1)
        assert (figure["a"], figure["b"]) == (2.0, 2.2)

    def test_only_a_change_for_the_worse_is_told(self):
        """Less of a rate, more of a cost, past what neighbours differ by anyhow."""
        worse = compared(
            "waiting", [({"delivered_per_s": 100.0, "rss_mb": 60.0}, {"delivered_per_s": 80.0, "rss_mb": 61.0})]
        )
        better = compared(
            "waiting", [({"delivered_per_s": 80.0, "rss_mb": 90.0}, {"delivered_per_s": 100.0, "rss_mb": 60.0})]
        )

        assert worse["worse"] == ["delivered_per_s"]
        assert better["worse"] == []

    def test_a_figure_that_a_run_lacks_is_left_out(self):
        """A server elsewhere tells no CPU time."""
        assert compared("waiting", [({"rss_mb": None}, {"rss_mb": None})])["figures"] == {}


def log_of(*segments: tuple[float, str]) -> list[tuple[float, str]]:
    """A sink's log: instants, and recipients by the digit that tells their kind."""
    return [(at, f"447{kind}{place:08d}") for place, (at, kind) in enumerate(segments)]


class TestFlood:
    @pytest.mark.slow
    def test_emergencies_take_the_link_and_confirmations_still_leave(self, database_server, capsys):
        """A thousand at 400 a second, judged at the sink: in time, nothing between them but a confirmation now and then."""
        printed = played(
            capsys, "--database", database_server.url, "--flood", "1000", "--throughput", "400", "--backlog", "4000"
        )

        flood = printed["runs"][0]["flood"]
        assert (flood["emergencies"], flood["others_between"]) == (1_000, 0)
        assert flood["last_after_s"] <= flood["allowed_s"]
        assert flood["replies"] > 0

    def test_a_flood_in_good_order_has_no_problem(self):
        """A confirmation between two emergencies is none."""
        log = log_of((0.9, "9"), (1.1, "8"), (1.2, "7"), (1.3, "8"), (1.4, "9"))
        found = judged(log, 2, 100, 1.0, {log[2][1]: [1.0, 1.1]})

        assert found["problems"] == []
        assert (found["replies_between"], found["others_between"]) == (1, 0)
        assert found["reply_most_s"] == pytest.approx(0.2)

    def test_what_goes_wrong_is_told(self):
        """Marketing between emergencies, a late last one, one twice, one not at all, a late confirmation, a lost one."""
        fine = log_of((1.1, "8"), (1.2, "8"))
        late = log_of((1.1, "8"), (400.0, "7"))
        cases = {
            "neither emergency nor reply": judged(log_of((1.1, "8"), (1.2, "3"), (1.3, "8")), 2, 100, 1.0, {}),
            "not within": judged(log_of((1.1, "8"), (2.2, "8")), 2, 100, 1.0, {}),
            "2 at the sink, in 3": judged([*fine, fine[0]], 2, 100, 1.0, {}),
            "0 at the sink": judged([], 2, 100, 1.0, {}),
            "left after 399 s": judged(late, 1, 100, 1.0, {late[1][1]: [1.0, 1.1]}),
            "1 of 1 replies never left": judged(fine, 2, 100, 1.0, {"44770000": [1.0, 1.1]}),
        }

        for words, found in cases.items():
            assert [words in problem for problem in found["problems"]] == [True], found
