"""The tables of the benches that do not play the runs of the journey, each of the newest file that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench_backlog import FIGURES
from benchmarks.figures.origin import note
from benchmarks.figures.pictures import shown
from benchmarks.figures.wanted import NOT_MEASURED
from benchmarks.figures.words import NOTHING, bare, number, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures.evidence import Evidence

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
    yield from note(result)


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
    yield from note(result)


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
        yield from note(result)


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
    yield from note(result)


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
    yield from note(result)


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
    yield from note(result)


def _beside(comparison: dict[str, Any], name: str) -> str:
    figure = comparison["figures"].get(name)
    if figure is None:
        return NOTHING
    mark = " **worse**" if name in comparison["worse"] else ""
    return f"{number(figure['a'])} -> {number(figure['b'])}, {figure['ratio']:.2f}{mark}"
