"""Locust's users enqueue into a whole Tocsin, every job is accounted for, and the rows mean what they say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks import bench_locust
from tests.test_benchmarks import left_on

if importlib.util.find_spec("locust") is None:  # importing it here would patch the whole suite's sockets
    pytest.skip("locust is not installed: it is in requirements-bench.txt", allow_module_level=True)

pytestmark = pytest.mark.slow

YIELDS = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent, psycopg
connections = [psycopg.connect(sys.argv[1], autocommit=True) for _ in range(2)]
begun = time.monotonic()
gevent.joinall([gevent.spawn(one.execute, "select pg_sleep(2)") for one in connections], raise_error=True)
print(time.monotonic() - begun)
for one in connections:
    one.close()
"""


def test_a_short_run_accounts_for_every_job(database_server, capsys):
    """Locust, the database and the sink count the same jobs, and each row counts what it names."""
    words = ["--database", database_server.url, "--seconds", "3", "--users", "10", "--sample", "1", "--json"]
    code = bench_locust.main(words)
    result = json.loads(capsys.readouterr().out)

    account, rows = result["account"], result["rows"]
    assert code == 0, account
    calls = [row for row in rows if row["type"] == "SQL"]
    assert account["enqueued"] == account["delivered"] == account["segments"] == sum(row["jobs"] for row in calls) > 0
    assert all(row["jobs"] == row["requests"] * (100 if row["name"] == "enqueue_many" else 1) for row in calls)
    for what in ("submitted", "delivered"):
        times = [row for row in rows if row["name"].startswith(f"enqueue -> {what} ")]
        assert sum(row["requests"] for row in times) == result["sampled"] == account["delivered"]
    # the sink sends no receipt before 55 ms, and locust rounds to milliseconds
    assert all(row["p50_ms"] >= 50 for row in rows if "-> delivered" in row["name"])
    assert not left_on(database_server)


def test_psycopg_yields_to_gevents_hub(database_server):
    """Two calls of two seconds overlap when gevent has patched select before psycopg was imported."""
    words = [sys.executable, "-c", YIELDS, database_server.url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)

    assert 2.0 <= float(done.stdout) < 3.9
