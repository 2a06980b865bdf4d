"""The tables of what we want to show and of the runs of the journey, each as lines of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench_emergency import CONDITIONS
from benchmarks.figures import wanted
from benchmarks.figures.origin import ABOUT_RUN, about, note, span, speeds_of, versions
from benchmarks.figures.pictures import FOLDER, shown
from benchmarks.figures.wanted import NOT_MEASURED, cpu_a_thousand, delivered, lane_shares, of_window
from benchmarks.figures.words import NOTHING, bare, link, machine, number, table
from benchmarks.plan import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.figures.evidence import Evidence, Run

LATENCY: Final = "Histogram of the emergencies' latency, a condition each"  # instead of the picture


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
                *about(found.runs),
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
                versions(result),
                span(speeds_of(result.document)),
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


def rounds(evidence: Evidence) -> Iterator[str]:
    """Every round of the run that the figures of ``sustained`` are taken from."""
    run = evidence.run("journey", "sustained")
    if run is None:
        yield NOT_MEASURED
        return
    yield from table(
        ("window, s", "delivered, jobs/s", "CPU-s for 1,000: daemon + PostgreSQL", "of the sink", "ours / the sink's",
         "emergencies p99, ms", "calibration"),
        (_round(one) for one in run.result.runs() if one.name == run.name),
    )  # fmt: skip
    yield from note(run.result)


def emergency(evidence: Evidence) -> Iterator[str]:
    """The conditions of bench_emergency."""
    yield from shown("emergency-latency", LATENCY, evidence)
    head = (
        "condition", "waiting: at first, in the window", "emergencies", "p50, ms", "p90, ms", "p99, ms", "most, ms",
        "from the call: p50, p99, ms", "enqueue and commit: p50, p99, ms", "fullest second, of the limit", "RSS, MB",
        *ABOUT_RUN,
    )  # fmt: skip
    yield from table(head, _each(evidence, "emergency", CONDITIONS, _emergency, head))


def capacity(evidence: Evidence) -> Iterator[str]:
    """The few figures of the README, with what they were made on."""
    yield from shown("emergency-latency", LATENCY, evidence, FOLDER)
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
            f"calibration {span(speeds)} M rounds/s:"
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
            yield (name, *row(run), *about((run,)))


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


def _round(run: Run) -> tuple[str, ...]:
    ours, sink = cpu_a_thousand(run), run.at("cpu_s_per_1000", "sink")
    return (
        f"{run.at('seconds'):.0f}",
        f"{delivered(run):,.0f}",
        bare(ours, "CPU-s"),
        f"{sink:.4f}",
        bare(ours / sink if ours is not None and sink else None, "x"),
        number(run.at("emergencies", "p99_ms")),
        span(run.calibration),
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
