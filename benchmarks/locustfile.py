"""The upstream apps of a hospital as users of locust: they enqueue into a running Tocsin through psycopg 3.

    TOCSIN_DATABASE_URL=URL python -m locust -f benchmarks/locustfile.py --headless --users 20 --run-time 60s

Everything for one run, database and daemon too, is made and removed by ``python -m benchmarks.bench_locust``.

Rows of the statistics, in milliseconds:

    SQL   enqueue CATEGORY, enqueue_many     the client's clock, from before the call until its commit is known
    JOB   enqueue -> submitted CATEGORY      submitted_at - enqueued_at of tocsin.job_status
    JOB   enqueue -> delivered CATEGORY      final_at - enqueued_at of the same

The JOB rows are by the database's clock, so reading late does not change them. One reader follows tocsin.event by
cursor and asks for the status of every delivered job whose id divides by ``--sample``; it keeps nothing of a job,
hence its memory does not grow. A job that was never delivered has no JOB rows: it counts as open, and fails the run.
Nothing else may enqueue into the database meanwhile.

psycopg's wait function is chosen when it is imported: with locust's patched ``select`` it is one in Python, which
yields to gevent's hub; the one in C would stop every user. The file refuses to run with that one.
A user is one connection, closed loop: the rate follows from the users and their pauses.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import gevent
import locust
import psycopg
from locust import between, events, task
from psycopg import waiting

from benchmarks.enqueuer import texts

BATCH: Final = 100  # jobs a call of enqueue_many
PAGE: Final = 1_000  # events a read
LOOK_S: Final = 0.1  # between reads of a cursor that has nothing new
TASK_END_S: Final = 30.0  # a user ends its call before it stops, or its commit would be counted by nobody
BEAT_S: Final = 0.01
ENQUEUE: Final = "select outcome from tocsin.enqueue(%s, %s, category => %s)"
ENQUEUE_MANY: Final = "select outcome from tocsin.enqueue_many(%s::jsonb)"
EVENTS: Final = "select seq, type, subject from tocsin.event where seq > %s order by seq limit %s"
CURSOR: Final = "select coalesce(max(seq), 0) from tocsin.event"
STATUS: Final = """
select s.category, extract(epoch from s.submitted_at - s.enqueued_at)::float8 * 1000,
       extract(epoch from s.final_at - s.enqueued_at)::float8 * 1000
from unnest(%s::bigint[]) as sampled (id), lateral tocsin.job_status(sampled.id) s
where s.submitted_at is not null and s.final_at is not null
"""


class Tally:
    """What the run has enqueued and seen again; numbers only."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()  # events by type
        self.sampled = 0
        self.reads = 0
        self.latest_beat_s = 0.0  # the longest that gevent's hub kept a greenlet waiting past its time
        self.problems: list[str] = []

    @property
    def open(self) -> int:
        """Jobs that were enqueued and of whose delivery no event was seen."""
        return self.outcomes["queued"] - self.ended["job.delivered"]


def fictional(generator: random.Random) -> str:
    """A number of the range that is kept for fiction."""
    return f"+447700900{generator.randrange(1000):03d}"


class App(locust.User):
    """An app of the hospital: a connection of its own, and texts of one segment."""

    abstract = True

    def on_start(self) -> None:
        self.generator = random.Random()
        self.texts = texts(self.generator, 60, 150, 50)
        self.connection = psycopg.connect(database_of(self.environment), autocommit=True)
        self.calling = gevent.spawn(lambda: None)

    def on_stop(self) -> None:
        self.calling.join()
        self.connection.close()

    def one(self, category: str) -> None:
        """Enqueue one row in a transaction of its own."""
        words = (fictional(self.generator), self.generator.choice(self.texts), category)
        self._call_whole(f"enqueue {category}", ENQUEUE, words, 1)

    def many(self, *categories: str) -> None:
        """Enqueue a batch of mixed categories in one call."""
        jobs = [
            {
                "recipient": fictional(self.generator),
                "body": self.generator.choice(self.texts),
                "category": self.generator.choice(categories),
            }
            for _ in range(BATCH)
        ]
        self._call_whole("enqueue_many", ENQUEUE_MANY, (json.dumps(jobs),), BATCH)

    def _call_whole(self, *words: Any) -> None:
        """Call in a greenlet of its own: locust kills users that had just woken, and a commit must be counted."""
        self.calling = gevent.spawn(self._call, *words)
        self.calling.join()

    def _call(self, name: str, statement: str, values: tuple[str, ...], jobs: int) -> None:
        before = time.perf_counter()
        failure: Exception | None = None
        outcomes: Counter[str] = Counter()
        try:
            outcomes.update(row[0] for row in self.connection.execute(statement, values))
        except psycopg.Error as error:
            failure = RuntimeError(f"SQLSTATE {error.sqlstate}")  # the server's text may quote a row
        took_ms = (time.perf_counter() - before) * 1000
        self.environment.tally.outcomes += outcomes
        if failure is None and outcomes["queued"] != jobs:
            failure = RuntimeError(f"not every job was queued: {dict(outcomes)}")
        self.environment.events.request.fire(
            request_type="SQL", name=name, response_time=took_ms, response_length=jobs, exception=failure, context={}
        )


class Scheduling(App):
    """Appointments: reminders by the hundred, and a confirmation now and then."""

    weight = 3
    wait_time = between(0.5, 1.5)

    @task(3)
    def reminders(self) -> None:
        self.many("transactional", "informational", "marketing")

    @task(1)
    def confirmation(self) -> None:
        self.one("transactional")


class Records(App):
    """The EHR: results and answers one at a time, and a batch of notices now and then."""

    weight = 4
    wait_time = between(0.1, 0.5)

    @task(10)
    def result(self) -> None:
        self.one("transactional")

    @task(5)
    def answer(self) -> None:
        self.one("conversational")

    @task(1)
    def notices(self) -> None:
        self.many("conversational", "transactional", "informational")


class Paging(App):
    """The switchboard: emergencies and calls to staff, always single."""

    weight = 3
    wait_time = between(0.1, 0.5)

    @task(1)
    def emergency(self) -> None:
        self.one("emergency")

    @task(2)
    def staff(self) -> None:
        self.one("staff")


class Reader:
    """Follows tocsin.event by cursor in a greenlet of its own, and tells locust how long sampled jobs took."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._tally: Tally = environment.tally
        self._sample: int = environment.parsed_options.sample
        self._connection = psycopg.connect(database_of(environment), autocommit=True)
        ((self._cursor,),) = self._connection.execute(CURSOR)
        self._greenlet = gevent.spawn(self._follow)
        self._beating = gevent.spawn(_beat, self._tally)

    def end(self, drain_s: float) -> None:
        """Read on until every job's end was seen, or the time is out."""
        until = time.monotonic() + drain_s
        while self._tally.open > 0 and time.monotonic() < until and not self._greenlet.dead:
            gevent.sleep(LOOK_S)
        if self._greenlet.dead:
            self._tally.problems.append("the reader of tocsin.event ended early")
        gevent.killall([self._greenlet, self._beating])
        self._connection.close()

    def _follow(self) -> None:
        while True:
            rows = self._connection.execute(EVENTS, (self._cursor, PAGE)).fetchall()
            self._tally.reads += 1
            if rows:
                self._cursor = rows[-1][0]
                self._report([int(row[2]) for row in rows if row[1] == "job.delivered"])
                self._tally.ended.update(row[1] for row in rows)
            if len(rows) < PAGE:
                gevent.sleep(LOOK_S)

    def _report(self, delivered: list[int]) -> None:
        sampled = [job_id for job_id in delivered if job_id % self._sample == 0]
        if not sampled:
            return
        found = self._connection.execute(STATUS, (sampled,)).fetchall()
        self._tally.sampled += len(found)
        if len(found) != len(sampled):
            self._tally.problems.append(f"{len(sampled) - len(found)} delivered jobs had no times in tocsin.job_status")
        for category, submitted_ms, delivered_ms in found:
            for what, took_ms in (("submitted", submitted_ms), ("delivered", delivered_ms)):
                self._environment.events.request.fire(
                    request_type="JOB",
                    name=f"enqueue -> {what} {category}",
                    response_time=took_ms,
                    response_length=1,
                    exception=None,
                    context={},
                )


def _beat(tally: Tally) -> None:
    """Measure how late the hub wakes a greenlet: a call that does not yield shows here with its whole length."""
    while True:
        before = time.perf_counter()
        gevent.sleep(BEAT_S)
        tally.latest_beat_s = max(tally.latest_beat_s, time.perf_counter() - before - BEAT_S)


def database_of(environment: Any) -> str:
    """The database's address: the option's, else that of the environment; a command line is seen by everybody."""
    return str(environment.parsed_options.database or os.environ.get("TOCSIN_DATABASE_URL", ""))


def report(environment: Any) -> dict[str, Any]:
    """The figures. Percentiles are locust's: rounded to two digits from 100 ms on, to a millisecond below."""
    tally: Tally = environment.tally
    rows = [
        {
            "type": entry.method,
            "name": entry.name,
            "requests": entry.num_requests,
            "failures": entry.num_failures,
            "jobs": entry.total_content_length,
            **{f"p{share}_ms": entry.get_response_time_percentile(share / 100) for share in (50, 95, 99)},
        }
        for entry in sorted(environment.stats.entries.values(), key=lambda one: (one.method != "SQL", one.name))
    ]
    return {
        "rows": rows,
        "outcomes": dict(tally.outcomes),
        "events": dict(tally.ended),
        "open": tally.open,
        "sample": environment.parsed_options.sample,
        "sampled": tally.sampled,
        "hub_latest_ms": tally.latest_beat_s * 1000,
        "errors": [f"{one.name}: {one.error} ({one.occurrences})" for one in environment.stats.errors.values()],
        "problems": tally.problems,
    }


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument("--database", default="", include_in_web_ui=False, help="its URL; default: TOCSIN_DATABASE_URL")
    parser.add_argument("--sample", type=int, default=10, help="one job in so many has JOB rows (10)")
    parser.add_argument("--drain", type=float, default=60.0, help="seconds to wait for what is still open (60)")
    parser.add_argument("--report", type=Path, include_in_web_ui=False, help="write the figures to this file, as JSON")


@events.init.add_listener
def check(environment: Any, **_: Any) -> None:
    if waiting.wait is getattr(waiting, "wait_c", None):
        raise SystemExit("psycopg was imported before gevent had patched select: its calls would stop every user")
    if not database_of(environment):
        raise SystemExit("no database: give --database or TOCSIN_DATABASE_URL")
    try:
        psycopg.connect(database_of(environment)).close()
    except psycopg.Error as error:
        raise SystemExit(f"the database cannot be reached: {type(error).__name__}") from None
    environment.stop_timeout = max(environment.stop_timeout or 0.0, TASK_END_S)


@events.test_start.add_listener
def start_reader(environment: Any, **_: Any) -> None:
    environment.tally = Tally()
    environment.tocsin_reader = Reader(environment)


@events.test_stop.add_listener
def stop_reader(environment: Any, **_: Any) -> None:
    options, tally = environment.parsed_options, environment.tally
    environment.tocsin_reader.end(options.drain)
    if tally.open:
        tally.problems.append(f"{tally.open} jobs without a job.delivered after {options.drain:.0f} s")
    figures = report(environment)
    print(
        f"enqueued {sum(tally.outcomes.values()):,}, delivered {tally.ended['job.delivered']:,}, open {tally.open:,}; "
        f"JOB rows are of one job in {options.sample}; the hub was {figures['hub_latest_ms']:.0f} ms late at most"
    )
    if tally.problems:
        environment.process_exit_code = 1
        for problem in tally.problems:
            print(f"PROBLEM {problem}")
    if options.report:
        options.report.write_text(json.dumps(figures))
