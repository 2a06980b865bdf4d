"""The tables, each as lines of Markdown: what is measured, and "not measured" for what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench_backlog import FIGURES
from benchmarks.bench_emergency import CONDITIONS
from benchmarks.figures import wanted
from benchmarks.figures.pictures import shown
from benchmarks.figures.wanted import NOT_MEASURED, cpu_a_thousand, delivered, lane_shares, of_window
from benchmarks.figures.words import NOTHING, bare, link, machine, number, table
from benchmarks.plan import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.figures.evidence import Evidence, Result, Run

ABOUT_RUN: Final = ("result", "calibration")
FLOOD: Final = {
    "emergencies": ("emergencies, in one transaction", "segments"),
    "first_after_s": ("the first left after the commit", "s"),
    "last_after_s": ("the last left after the commit", "s"),
    "allowed_s": ("allowed for the last", "s"),
    "others_between": ("neither emergency nor confirmation between them", "segments"),
    "replies_between": ("confirmations between them", "segments"),
    "reply_p50_s": ("a confirmation during the flood took, p50", "s"),
    "reply_most_s": ("a confirmation during the flood took, at most", "s"),
}


def what_we_want(evidence: Evidence) -> Iterator[str]:
    """Each figure with what it must reach, what it should, and what it was."""
    yield from table(
        ("figure", "must", "goal", "measured", "met", *ABOUT_RUN),
        (
            (
                found.row.what,
                wanted.side(found.row.bounds, goal=False),
                wanted.side(found.row.bounds, goal=True),
                found.measured,
                found.met,
                *_about(found.runs),
            )
            for found in wanted.found(evidence)
        ),
    )


def results(evidence: Evidence) -> Iterator[str]:
    """Where the figures are from: a row for each file."""
    if not evidence.results:
        yield NOT_MEASURED
        return
    yield from table(
        ("result", "date", "commit", "machine", "versions", "calibration", "command"),
        (
            (
                link(result.file),
                result.date,
                str(result.document["versions"].get("commit") or "unknown"),
                machine(result.document["machine"]),
                _versions(result),
                _span(_speeds(result.document)),
                f"`{result.document['command']}`",
            )
            for result in evidence.results
        ),
    )


def journey(evidence: Evidence) -> Iterator[str]:
    """Every run of the journey."""
    yield from shown("cpu-a-message", "Processor time of a message, by process", evidence)
    yield from shown("lane-shares", "Each backlogged lane's share of a link, beside its weight", evidence)
    head = (
        "run", "window, s", "delivered, jobs/s", "submitted, segments/s", "fullest second, of the limit",
        "CPU-s for 1,000 delivered: daemon + PostgreSQL", "RSS, MB", "jobs a claim, a receipt flush",
        "waiting, begin -> end", "what it shows", *ABOUT_RUN,
    )  # fmt: skip
    yield from table(head, _each(evidence, "journey", RUNS, _journey, head))


def emergency(evidence: Evidence) -> Iterator[str]:
    """The conditions of bench_emergency."""
    yield from shown("emergency-latency", "Histogram of the emergencies' latency, a condition each", evidence)
    head = (
        "condition", "waiting: at first, in the window", "emergencies", "p50, ms", "p90, ms", "p99, ms", "most, ms",
        "from the call: p50, p99, ms", "enqueue and commit: p50, p99, ms", "fullest second, of the limit", "RSS, MB",
        *ABOUT_RUN,
    )  # fmt: skip
    yield from table(head, _each(evidence, "emergency", CONDITIONS, _emergency, head))


def peers(evidence: Evidence) -> Iterator[str]:
    """Ours beside the systems that a team would pick today; medians of the rounds."""
    result = evidence.of("peers", "medians")
    if result is None:
        yield NOT_MEASURED
        return
    yield from shown("peers", "Messages delivered a second, beside other systems", evidence)
    commits = {run.get("system"): run.get("commits", NOTHING) for run in result.document.get("runs", ())}
    head = (
        "system", "delivered/s", "receipts to the app/s", "CPU-s for 1,000: its own", "of PostgreSQL", "RSS, MB",
        "Tocsin delivers", "commits before it answers",
    )  # fmt: skip
    yield from table(
        head,
        (
            (
                row["system"],
                bare(row.get("delivered_per_s"), "/s"),
                bare(row.get("forwarded_per_s"), "/s"),
                bare(row.get("cpu_system"), "CPU-s"),
                bare(row.get("cpu_postgres"), "CPU-s"),
                bare(row.get("rss_mb"), "MB"),
                number(row.get("ours_is"), "x"),
                commits.get(row["system"], NOTHING),
            )
            for row in result.document["medians"]
        ),
    )
    yield from _note(result)


def backlog(evidence: Evidence) -> Iterator[str]:
    """Each condition beside its neighbour without it."""
    result = evidence.of("backlog", "comparisons")
    if result is None:
        yield NOT_MEASURED
        return
    comparisons = result.document["comparisons"]
    names = [name for name in FIGURES if any(name in comparison["figures"] for comparison in comparisons)]
    yield from table(
        ("figure: A -> B, B / A", *(comparison["condition"] for comparison in comparisons)),
        ((name, *(_beside(comparison, name) for comparison in comparisons)) for name in names),
    )
    yield from _note(result)


def flood(evidence: Evidence) -> Iterator[str]:
    """The flood of emergencies, a column for each throughput that it was played at."""
    runs = {run.at("throughput_per_s"): run for run in reversed(evidence.runs("backlog", "flood"))}
    if not runs:
        yield NOT_MEASURED
        return
    runs = dict(sorted(runs.items()))
    yield from table(
        ("flood of emergencies", *(f"link of {limit:,} segments/s" for limit in runs)),
        [
            *(
                (words, *(number(run.at("flood").get(name), unit) for run in runs.values()))
                for name, (words, unit) in FLOOD.items()
            ),
            ("problems", *("; ".join(run.problems) or "none" for run in runs.values())),
        ],
    )
    for result in {run.result.file: run.result for run in runs.values()}.values():
        yield from _note(result)


def queue(evidence: Evidence) -> Iterator[str]:
    """The queue alone beside others."""
    result = evidence.of("queue", "medians")
    if result is None:
        yield NOT_MEASURED
        return
    yield from table(
        (
            "queue", "backlog", "jobs/s", "CPU-s for 1,000: client", "of PostgreSQL", "WAL, bytes a job", "rounds",
        ),
        (
            (
                row["queue"],
                f"{row['backlog']:,}",
                bare(row["jobs_per_s"], "/s"),
                bare(row["client_cpu_s_per_1000"], "CPU-s"),
                bare(row["postgres_cpu_s_per_1000"], "CPU-s"),
                f"{row['wal_bytes_per_job']:,.0f}",
                str(row["rounds"]),
            )
            for row in result.document["medians"]
        ),
    )  # fmt: skip
    yield from _note(result)


def codec(evidence: Evidence) -> Iterator[str]:
    """The codec beside smpplib."""
    result = evidence.of("codec", "cases")
    if result is None:
        yield NOT_MEASURED
        return
    yield from table(
        ("case", "us", "smpplib, us", "smpplib takes"),
        (
            (row["case"], number(row["us"]), number(row["smpplib_us"]), number(row["ratio"], "x"))
            for row in result.document["cases"]
        ),
    )
    yield from _note(result)


def locust(evidence: Evidence) -> Iterator[str]:
    """Upstream apps, by locust."""
    result = evidence.of("locust", "rows")
    if result is None:
        yield NOT_MEASURED
        return
    yield from table(
        ("request", "requests", "failures", "p50, ms", "p95, ms", "p99, ms"),
        (
            (
                f"{row['type']} {row['name']}",
                f"{row['requests']:,}",
                f"{row['failures']:,}",
                *(f"{row[f'p{share}_ms']:,.0f}" for share in (50, 95, 99)),
            )
            for row in result.document["rows"]
        ),
    )
    yield from _note(result)


def capacity(evidence: Evidence) -> Iterator[str]:
    """The few figures of the README, with what they were made on."""
    rows, runs = [], []
    for what, bench, name, figure in CAPACITY:
        run = evidence.run(bench, name)
        rows.append((what, NOT_MEASURED if run is None else figure(run)))
        if run is not None:
            runs.append(run)
    if runs:
        documents = [run.result.document for run in runs]
        days = sorted({document["date"][:10] for document in documents})
        commits = sorted({str(document["versions"].get("commit")) for document in documents})
        speeds = [speed for run in runs for speed in run.calibration]
        yield (
            f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, commit {', '.join(commits)}, "
            f"{'; '.join(sorted({machine(document['machine']) for document in documents}))}, "
            f"calibration {_span(speeds)} M rounds/s:"
        )
        yield ""
    yield from table(("", ""), rows)


def _sustained(run: Run) -> str:
    return (
        f"{delivered(run):,.0f} messages/s, {run.at('segments_per_s'):,.0f} segments/s, over {run.at('seconds'):.0f} s"
    )


def _waits(run: Run) -> str:
    p50, p99 = (number(run.at("emergencies", name), "ms") for name in ("p50_ms", "p99_ms"))
    return f"p50 {p50}, p99 {p99}, of {run.at('emergencies', 'count'):,}; {run.at('backlog'):,} waiting at first"


def _throttled(run: Run) -> str:
    return f"{_waits(run)}; {run.at('sink', 'most_in_any_second'):,} segments in any second at most"


def _starts(run: Run) -> str:
    return ", ".join(number(seconds, "s") for seconds in run.at("first_submit_after_s")) or NOT_MEASURED


CAPACITY: Final = (
    ("enqueue -> submitted -> delivered, all of it durable, 10 % of two parts", "journey", "sustained", _sustained),
    (
        "CPU of daemon + PostgreSQL for 1,000 messages with receipts",
        "journey",
        "sustained",
        lambda run: number(cpu_a_thousand(run), "CPU-s"),
    ),
    ("emergency, commit -> submit_sm at the SMSC, at 75 % of the maximum", "emergency", "three-quarters", _waits),
    ("the same, both cores saturated", "emergency", "saturated", _waits),
    ("the same on a link of 100 segments/s", "emergency", "throttled", _throttled),
    (
        "memory of the daemon",
        "emergency",
        "saturated",
        lambda run: f"{number(run.at('rss_mb'), 'MB')}, {run.at('backlog'):,} waiting",
    ),
    ("idle daemon, of a core", "journey", "idle", lambda run: number(run.at("cores", "daemon") * 100, "%")),
    ("start to the first submit_sm; again after kill -9", "journey", "start", _starts),
)


def _each(
    evidence: Evidence, bench: str, names: Iterable[str], row: Any, head: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """A row for each run that there could be."""
    for name in names:
        run = evidence.run(bench, name)
        if run is None:
            yield (name, NOT_MEASURED, *[""] * (len(head) - 2))
        else:
            yield (name, *row(run), *_about((run,)))


def _journey(run: Run) -> tuple[str, ...]:
    cpu = run.at("cpu_s_per_1000")
    return (
        f"{run.at('seconds'):.0f}",
        f"{delivered(run):,.0f}",
        f"{run.at('segments_per_s'):,.0f}",
        _any_second(run),
        f"{bare(cpu['daemon'], 'CPU-s')} + {bare(cpu.get('postgres'), 'CPU-s')}" if delivered(run) else NOTHING,
        bare(run.at("rss_mb"), "MB"),
        f"{run.at('jobs_per_claim'):,.0f}, {run.at('from_database', 'jobs_per_receipt_flush'):,.0f}",
        _ready(run),
        _purpose(run),
    )


def _purpose(run: Run) -> str:
    """What a run shows that others do not."""
    name = run.at("run")
    if name == "lanes":
        return "lanes 1 to 5: " + ", ".join(
            f"{share * 100:.1f} of {wanted_share * 100:.1f} %" for share, wanted_share in lane_shares(run)
        )
    if name.startswith("window-"):
        return f"{number(of_window(run), '%')} of (window - k) / latency"
    if name.startswith("receipts-"):
        return f"{bare(run.at('receipts_per_s'), '/s')} receipts/s"
    if name == "idle":
        return f"{number(run.at('cores', 'daemon') * 100, '%')} of a core"
    if name == "start":
        return f"first submit_sm after {_starts(run)}"
    if run.at("emergencies", "count"):
        p50, p99 = (number(run.at("emergencies", one)) for one in ("p50_ms", "p99_ms"))
        return f"emergencies p50 {p50}, p99 {p99} ms"
    return NOTHING


def _emergency(run: Run) -> tuple[str, ...]:
    urgent = run.at("emergencies")
    return (
        f"{run.at('backlog'):,}, {_ready(run)}",
        f"{urgent['count']:,}",
        *(number(urgent[name]) for name in ("p50_ms", "p90_ms", "p99_ms", "most_ms")),
        f"{number(urgent['from_call_p50_ms'])}, {number(urgent['from_call_p99_ms'])}",
        f"{number(urgent['enqueue_p50_ms'])}, {number(urgent['enqueue_p99_ms'])}",
        _any_second(run),
        bare(run.at("rss_mb"), "MB"),
    )


def _ready(run: Run) -> str:
    """What waits in the database, at the window's two ends."""
    return f"{run.at('ready_rows', 'begin'):,} -> {run.at('ready_rows', 'end'):,}"


def _any_second(run: Run) -> str:
    return f"{run.at('sink', 'most_in_any_second'):,} of {run.at('throughput_per_s'):,}"


def _about(runs: Iterable[Run]) -> tuple[str, str]:
    """The files, and the speed of the machine while the runs were played; what is wrong with them too."""
    files = dict.fromkeys(run.result.file for run in runs)
    problems = sum(len(run.problems) for run in runs)
    told = ", ".join(link(file) for file in files) + (f"; PROBLEM: {problems}" if problems else "")
    return told, _span([speed for run in runs for speed in run.calibration])


def _beside(comparison: dict[str, Any], name: str) -> str:
    figure = comparison["figures"].get(name)
    if figure is None:
        return NOTHING
    mark = " **worse**" if name in comparison["worse"] else ""
    return f"{number(figure['a'])} -> {number(figure['b'])}, {figure['ratio']:.2f}{mark}"


def _note(result: Result) -> Iterator[str]:
    """What a table that is of one file was made on."""
    yield ""
    yield f"{link(result.file)}, {result.date[:10]}, calibration {_span(_speeds(result.document))}."
    for told in result.missing:
        yield f"Not played: {told}."


def _versions(result: Result) -> str:
    its = result.document["versions"]
    names = (("python", "Python"), ("postgresql", "PostgreSQL"))
    return ", ".join(f"{name} {its[key]}" for key, name in names if its.get(key))


def _speeds(document: dict[str, Any]) -> list[float]:
    """Every calibration of a document that was taken during a run, or else around it."""
    speeds: list[float] = []
    for part in (document, *document.get("runs", ())):
        its = part.get("calibration", ())
        if isinstance(its, dict):
            its = [its["during"]] if its.get("during") is not None else [its[key] for key in ("before", "after")]
        speeds += its
    return speeds


def _span(speeds: Sequence[float]) -> str:
    """From the slowest to the fastest, M rounds/s."""
    told = dict.fromkeys(f"{speed:.1f}" for speed in ((min(speeds), max(speeds)) if speeds else ()))
    return " to ".join(told) or NOTHING
