"""Where a message's processor time goes, and how little it may take where a figure is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.figures import wanted
from benchmarks.figures.origin import note
from benchmarks.figures.wanted import NOT_MEASURED
from benchmarks.figures.words import NOTHING, bare, number, plain, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures.evidence import Evidence, Run

RUNNING: Final = ": running"
LEAST: Final = 0.01  # of PostgreSQL's time; what takes less is told together
BY_APPS: Final = {  # how statements of the load begin
    "select item, job_id, outcome, reason fro": "enqueue_many, 100 jobs a call",
    "select job_id, outcome, reason from tocs": "enqueue, single emergencies",
}


def costs(evidence: Evidence) -> Iterator[str]:
    """A row for each part of a message's way, and a line for each peer that is not outrun as it must be."""
    run = evidence.run("journey", "inside")
    if run is None:
        yield NOT_MEASURED
        return
    cpu = run.at("cpu_s_per_1000")
    both = cpu["daemon"] + cpu["postgres"]
    rows = [("daemon", cpu["daemon"], NOTHING), *_statements(run, cpu["postgres"])]
    yield from table(
        ("part", "us a message", "of both", "jobs or receipts a call"),
        ((what, bare(took * 1000, "us"), number(took / both * 100, "%"), items) for what, took, items in rows),
    )
    yield from note(run.result)
    yield ""
    yield from _budgets(evidence)


def _statements(run: Run, postgres: float) -> Iterator[tuple[str, float, str]]:
    """PostgreSQL's time, shared out as its sessions were found running."""
    running = {
        name.removesuffix(RUNNING): sessions
        for name, sessions in run.at("inside", "sessions").items()
        if name.endswith(RUNNING)
    }
    items = {name: one["items"] for name, one in run.at("statements").items()}
    in_all = sum(running.values())
    rest = 0.0
    for name, sessions in sorted(running.items(), key=lambda item: -item[1]):
        if sessions / in_all < LEAST:
            rest += sessions
        else:
            calls = number(items[name]) if items.get(name, 0.0) > 1.0 else NOTHING
            yield f"PostgreSQL: {BY_APPS.get(name, name)}", postgres * sessions / in_all, calls
    if rest:
        yield "PostgreSQL: all else", postgres * rest / in_all, NOTHING


def _budgets(evidence: Evidence) -> Iterator[str]:
    ours = evidence.run("peers", "tocsin")
    for row in wanted.ROWS:
        (bound, *_) = row.bounds
        peer = evidence.run("peers", bound.run) if bound.bench == "peers" else None
        if ours is None or peer is None or bound.reaches(peer.at("ours_is"), bound.must):
            continue
        rate = bound.must * peer.at("delivered_per_s")
        cores = ours.result.document["machine"]["cores"]
        may, takes = cores / rate * 1e6, (ours.at("cpu_system") + ours.at("cpu_postgres")) * 1000
        yield (
            f"* {plain(bound.must, 'x')} of {bound.run} is {number(rate, '/s')} here: {number(may, 'us')} of {cores} "
            f"cores a message, SMSC and load included. Daemon and PostgreSQL take {number(takes, 'us')}."
        )
