"""The queue benchmark runs, ends by itself, and accounts for every job of every queue."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_queue, queue_peers
from benchmarks.queues import Account
from tests.journey.running import free_port

TINY = ("--backlog", "60", "--jobs", "40", "--rounds", "1", "--batch", "15", "--concurrency", "3", "--json")


@pytest.mark.slow
class TestRuns:
    @pytest.mark.parametrize("name", ["ours", "status", "one-by-one"])
    def test_every_job_is_sent_once_or_still_waits(self, database_server, capsys, name):
        """Fewer are worked than wait, in batches that do not divide them."""
        code = bench_queue.main(["--database", database_server.url, "--queues", name, *TINY])

        (result,) = json.loads(capsys.readouterr().out)["runs"]
        assert (code, result["problems"]) == (0, [])
        assert (result["backlog"], result["worked"]) == (60, 40)
        assert result["wal_bytes_per_job"] > 0

    @pytest.mark.parametrize("name", bench_queue.PEERS)
    def test_every_job_of_a_library_is_sent_once_or_still_waits(self, database_server, capsys, name):
        """It finishes what it has taken when it is told to end, so somewhat more may be worked."""
        if told := queue_peers.missing(name):
            pytest.skip(told)
        code = bench_queue.main(["--database", database_server.url, "--queues", name, *TINY])

        (result,) = json.loads(capsys.readouterr().out)["runs"]
        assert (code, result["problems"]) == (0, [])
        assert 40 <= result["worked"] <= 60

    def test_a_library_that_is_not_installed_is_named_and_left_out(self, database_server, capsys, monkeypatch):
        """With the version that was tested; the others are played."""
        monkeypatch.setitem(queue_peers.NEEDS, "pgqueuer", ("no_such_module",))
        words = ["--database", database_server.url, "--queues", "status", "pgqueuer", *TINY]
        code = bench_queue.main(words)

        printed = capsys.readouterr()
        assert code == 0
        assert printed.err.splitlines() == ["pgqueuer: not installed (pip install pgqueuer==1.6.0)"]
        assert [result["queue"] for result in json.loads(printed.out)["runs"]] == ["status column"]

    def test_a_queue_that_sends_a_job_twice_is_found_out(self, database_server, capsys, monkeypatch):
        """The account is of the tables, not of what the queue says of itself."""
        status = bench_queue.QUEUES["status"]

        class Twice(status):  # type: ignore[misc, valid-type]
            async def work(self, jobs: int) -> int:
                done = await super().work(jobs)
                await self._app.execute("insert into sent select * from sent limit 1")
                return int(done)

        monkeypatch.setitem(bench_queue.QUEUES, "status", Twice)
        code = bench_queue.main(["--database", database_server.url, "--queues", "status", *TINY])

        printed = capsys.readouterr()
        assert code == 1
        assert "PROBLEM: status column: 41 rows in sent for 40 jobs" in printed.err


class TestParts:
    def test_a_server_that_cannot_be_reached_is_one_line_and_leaves_nothing(self, tmp_path, capsys, monkeypatch):
        """Exit 3, and the folder of the run is gone although the database could not be dropped."""
        monkeypatch.setattr(bench_queue.tempfile, "tempdir", str(tmp_path))
        code = bench_queue.main(
            ["--database", f"postgresql://127.0.0.1:{free_port()}/x", "--queues", "status", "--json"]
        )

        assert code == 3
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("account", "told"),
        [
            (Account(rows=40, done=40, waiting=20, astray=0), []),
            (Account(rows=40, done=40, waiting=19, astray=0), ["60 enqueued, 40 sent and 19 waiting"]),
            (Account(rows=40, done=40, waiting=20, astray=1), ["1 jobs neither sent nor waiting, or both"]),
            (
                Account(rows=41, done=40, waiting=20, astray=0),
                ["41 rows in sent for 40 jobs with their own message id"],
            ),
        ],
    )
    def test_what_does_not_add_up_is_told(self, account, told):
        """One line each; nothing when each job has one end or waits."""
        assert account.problems(60, 40) == told

    def test_every_queue_of_a_round_gets_the_same_jobs(self):
        """And another round others."""
        assert list(bench_queue.calls(6_000, 1)) == list(bench_queue.calls(6_000, 1))
        assert [len(call) for call in bench_queue.calls(6_000, 1)] == [5_000, 1_000]
        assert list(bench_queue.calls(10, 1)) != list(bench_queue.calls(10, 2))
