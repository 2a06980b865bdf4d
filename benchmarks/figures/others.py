"""The tables of the benches that do not play the runs of the journey, each of the newest file that has it."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench_backlog import CONDITIONS, FIGURES
from benchmarks.bench_inbound import NAME, STAGES
from benchmarks.figures.origin import note
from benchmarks.figures.pictures import shown
from benchmarks.figures.wanted import NOT_MEASURED
from benchmarks.figures.words import NOTHING, bare, number, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Document = dict[str, Any]

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


def newest(
    bench: str, key: str
) -> Callable[[Callable[[Document], Iterator[str]]], Callable[[Evidence], Iterator[str]]]:
    """Make a section of a bench's newest result that has something under ``key``, and say where it is from."""

    def of(table_of: Callable[[Document], Iterator[str]]) -> Callable[[Evidence], Iterator[str]]:
        @wraps(table_of)
        def section(evidence: Evidence) -> Iterator[str]:
            result = evidence.of(bench, key)
            if result is None:
                yield NOT_MEASURED
                return
            yield from table_of(result.document)
            yield from note(result)

        return section

    return of


def peers(evidence: Evidence) -> Iterator[str]:
    """Ours beside the systems that a team would pick today."""
    yield from shown("peers", "Messages delivered a second, beside other systems", evidence)
    yield from beside(evidence)


@newest("peers", "medians")
def beside(document: Document) -> Iterator[str]:
    """Medians of the rounds."""
    commits = {run.get("system"): run.get("commits", NOTHING) for run in document.get("runs", ())}
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
            for row in document["medians"]
        ),
    )


def backlog(evidence: Evidence) -> Iterator[str]:
    """Each condition beside its neighbour without it, of the newest result that played it."""
    of_bench = [result for result in evidence.results if result.bench == "backlog"]
    found = {
        comparison["condition"]: (comparison, result)
        for result in reversed(of_bench)
        for comparison in result.document.get("comparisons", ())
    }
    comparisons = [found[condition] for condition in CONDITIONS if condition in found]
    if not comparisons:
        yield NOT_MEASURED
        return
    names = [name for name in FIGURES if any(name in comparison["figures"] for comparison, _ in comparisons)]
    yield from table(
        ("figure: A -> B, B / A", *(comparison["condition"] for comparison, _ in comparisons)),
        ((name, *(_a_and_b(comparison, name) for comparison, _ in comparisons)) for name in names),
    )
    for result in {result.file: result for _, result in comparisons}.values():
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


@newest("policy", "comparison")
def policy(document: Document) -> Iterator[str]:
    """The load with rules beside the same load without."""
    ruled = [run for run in document["runs"] if run["run"] == "ruled"]
    rows = ruled[0]["account"]["rows"]
    share = sum(run["account"]["blocked"] for run in ruled) / sum(run["account"]["enqueued"] for run in ruled)
    told = f"{rows['suppression']:,} suppressions, {rows['consent']:,} consents, windows"
    yield f"{told}; {share:.1%} of the jobs blocked."
    yield ""
    yield from table(
        ("figure", "without", "with", "with / without", "each pair"),
        (
            (
                name,
                f"{one['a']:,.3f}",
                f"{one['b']:,.3f}",
                f"{one['ratio']:.2f}",
                ", ".join(f"{ratio:.2f}" for ratio in one["ratios"]),
            )
            for name, one in document["comparison"].items()
        ),
    )


@newest(NAME, "runs")
def inbound(document: Document) -> Iterator[str]:
    """Texts from handsets: how long until each stage, and beside what."""
    for run in document["runs"]:
        replies = run[NAME]
        yield from table(
            ("from when the SMSC writes it, ms", "p50", "p90", "p99", "most"),
            (
                (words, *(number(replies[stage][name]) for name in ("p50_ms", "p90_ms", "p99_ms", "most_ms")))
                for stage, words in STAGES.items()
            ),
        )
        yield ""
        cpu, load = run["cpu_s_per_1000"], run["load_average"]
        yield (
            f"{run['seconds']:.0f} s: {number(replies['per_s'], '/s')} texts of {run['mo_per_s']:,.0f}/s offered, "
            f"{number(run['submitted_per_s'], '/s')} messages sent of {run['offered_per_s']:,.0f}/s; "
            f"CPU-s for 1,000 delivered: {bare(cpu['daemon'], 'CPU-s')} + {bare(cpu.get('postgres'), 'CPU-s')}; "
            f"load average {number(load['begin'])} to {number(load['end'])}; the row of a text was looked for every "
            f"{number(replies['from_read_to_read']['p50_ms'], 'ms')}."
        )


@newest("queue", "medians")
def queue(document: Document) -> Iterator[str]:
    """The queue alone beside others."""
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
            for row in document["medians"]
        ),
    )  # fmt: skip


@newest("codec", "cases")
def codec(document: Document) -> Iterator[str]:
    """The codec beside smpplib."""
    yield from table(
        ("case", "us", "smpplib, us", "smpplib takes"),
        (
            (row["case"], number(row["us"]), number(row["smpplib_us"]), number(row["ratio"], "x"))
            for row in document["cases"]
        ),
    )


@newest("locust", "rows")
def locust(document: Document) -> Iterator[str]:
    """Upstream apps, by locust."""
    yield from table(
        ("request", "requests", "failures", "p50, ms", "p95, ms", "p99, ms"),
        (
            (
                f"{row['type']} {row['name']}",
                f"{row['requests']:,}",
                f"{row['failures']:,}",
                *(f"{row[f'p{share}_ms']:,.0f}" for share in (50, 95, 99)),
            )
            for row in document["rows"]
        ),
    )


def _a_and_b(comparison: dict[str, Any], name: str) -> str:
    figure = comparison["figures"].get(name)
    if figure is None:
        return NOTHING
    mark = " **worse**" if name in comparison["worse"] else ""
    return f"{number(figure['a'])} -> {number(figure['b'])}, {figure['ratio']:.2f}{mark}"
