"""What we want to show: each figure with what it must reach, what it should, and what was measured.

A figure that misses what it must is missed, under whatever conditions. One that reaches it counts only when the run
was what the row asks for: long enough, with enough waiting, and with an account that has no problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.figures.words import number, plain
from benchmarks.peers.kannel import EASED
from benchmarks.plan import LANE_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures.evidence import Evidence, Run

NOT_MEASURED: Final = "not measured"
MILLION: Final = 1_000_000
GROWTH: Final = 0.01  # of what was delivered: a closed loop's depth moves by less
NEARLY: Final = 0.98  # of an offered rate: what comes by chance is now and then a little less
LINK: Final = 100  # throughput_per_s of the throttled link
MISSED, MUST, GOAL = "**missed**", "must", "goal"


@dataclass(frozen=True, slots=True)
class Bound:
    """One number of a row."""

    bench: str
    run: str
    figure: Callable[[Run], float | None]
    unit: str
    must: float
    goal: float | None = None
    at_most: bool = True  # less is better
    label: str = ""  # within its row

    def reaches(self, value: float, wanted: float) -> bool:
        return value <= wanted if self.at_most else value >= wanted

    def told(self, value: float | None) -> str:
        """Write it down with its label and its unit."""
        return f"{self.label} {NOT_MEASURED if value is None else number(value, self.unit)}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; ``asks`` give what a run falls short of, or nothing."""

    what: str
    bounds: tuple[Bound, ...]
    asks: tuple[Callable[[Run], str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One row with what was measured."""

    row: Row
    measured: str
    met: str
    runs: tuple[Run, ...]


def seconds(least: float) -> Callable[[Run], str | None]:
    """Ask for a window of that length."""

    def short(run: Run) -> str | None:
        took = run.at("seconds")
        return f"{took:.0f} s of {least:.0f} s" if took < least else None

    return short


def waiting(least: int) -> Callable[[Run], str | None]:
    """Ask for so many marketing jobs before the daemon starts."""

    def short(run: Run) -> str | None:
        had = run.at("backlog")
        return f"{had:,} of {least:,} waiting" if had < least else None

    return short


def emergencies(least: int) -> Callable[[Run], str | None]:
    """Ask for so many emergencies inside the window."""

    def short(run: Run) -> str | None:
        had = run.at("emergencies", "count")
        return f"{had:,} of {least:,} emergencies" if had < least else None

    return short


def rounds(least: int) -> Callable[[Run], str | None]:
    """Ask for so many rounds, in turns with ours: the host's speed changes meanwhile."""

    def short(run: Run) -> str | None:
        had = len(run.played)
        return f"{had} of {least} rounds" if had < least else None

    return short


def throttle(limit: int) -> Callable[[Run], str | None]:
    """Ask for a link of that throughput."""

    def short(run: Run) -> str | None:
        had = run.at("throughput_per_s")
        return f"a link of {had:,}/s, not {limit:,}/s" if had != limit else None

    return short


def rate(least: float) -> Callable[[Run], str | None]:
    """Ask for so many jobs a second: a cost is less at a higher rate, so it is promised for one."""

    def short(run: Run) -> str | None:
        return f"at {delivered(run):,.0f}/s, not {least:,.0f}/s" if delivered(run) < least else None

    return short


def beside(texts: float, messages: float) -> Callable[[Run], str | None]:
    """Ask for so many texts from handsets a second, and so many messages sent."""

    def short(run: Run) -> str | None:
        pairs = (("texts", run.at("inbound", "per_s"), texts), ("messages", run.at("submitted_per_s"), messages))
        told = [f"{had:,.0f} {what}/s, not {least:,.0f}/s" for what, had, least in pairs if had < NEARLY * least]
        return ", ".join(told) or None

    return short


def delivered(run: Run) -> float:
    """Jobs a second, as the sink counts them or as the database does: the fewer."""
    return float(min(run.at("delivered_per_s"), run.at("from_database", "delivered_per_s")))


def steady(run: Run) -> str | None:
    """Ask that what waits, and what receipts are owed, is no more at the end: else it was not sustained."""
    ends = (run.at("waiting"), run.at("receipts_owed"))
    grew = sum(one["end"] - one["begin"] for one in ends)
    return f"the queue grew by {grew:,}" if grew > GROWTH * delivered(run) * run.at("seconds") else None


def cpu_a_thousand(run: Run) -> float | None:
    """CPU seconds of daemon and PostgreSQL for 1,000 delivered; None with a server elsewhere."""
    cpu = run.at("cpu_s_per_1000")
    return cpu["daemon"] + cpu["postgres"] if "postgres" in cpu else None


def lane_shares(run: Run) -> list[tuple[float, float]]:
    """Each of lanes 1 to 5: its share of their segments, and of their weights."""
    segments = run.at("segments_by_lane")[1:]
    total, weight = max(1, sum(segments)), sum(LANE_WEIGHTS)
    return [(one / total, wanted / weight) for one, wanted in zip(segments, LANE_WEIGHTS, strict=True)]


def furthest_share(run: Run) -> float:
    """How far the lane that is furthest from its weight is from it, in per cent of the weight."""
    return max(abs(share / wanted - 1) for share, wanted in lane_shares(run)) * 100


def of_window(run: Run) -> float:
    """Per cent of (window - k) / latency."""
    return float(run.at("segments_per_s") / run.at("window_allows_per_s") * 100)


def first_submit(number_of_start: int) -> Callable[[Run], float | None]:
    """Seconds from a start of the daemon to its first submit_sm; None when there was none."""

    def figure(run: Run) -> float | None:
        starts = run.at("first_submit_after_s")
        return starts[number_of_start] if len(starts) > number_of_start else None

    return figure


def fullest_second(run: Run) -> float:
    """Segments of the fullest sliding second."""
    return float(run.at("sink", "most_in_any_second"))


def latency(percentile: str) -> Callable[[Run], float | None]:
    """Milliseconds from the commit of an emergency to its submit_sm; None when there was no emergency."""
    return lambda run: run.at("emergencies", f"{percentile}_ms")


def _latency(run: str, percentile: str, must: float, goal: float) -> Bound:
    return Bound("emergency", run, latency(percentile), "ms", must, goal, label=percentile)


def _peer(what: str, system: str, must: float, goal: float) -> Row:
    bound = Bound("peers", system, lambda run: run.at("ours_is"), "x", must, goal, at_most=False)
    return Row(what, (bound,), (rounds(2),))


def _kannel(what: str, system: str, must: float, goal: float) -> tuple[Row, Row]:
    """Under the load that all have, and as it goes fastest, which has to reach no less."""
    return (
        _peer(f"messages/s against Kannel, {what}", system, must, goal),
        _peer("the same, eased: short queues, a spool in memory", system + EASED, must, goal),
    )


MILLION_WAIT: Final = (waiting(MILLION), emergencies(1_000))
ROWS: Final = (
    Row(
        "sustained: enqueue -> submitted -> delivered, all durable, 60 s; jobs/s",
        (Bound("journey", "sustained", delivered, "/s", 15_000, 20_000, at_most=False),),
        (seconds(60), steady),
    ),
    Row(
        "CPU of daemon + PostgreSQL for 1,000 messages with receipts, at 10,000/s and above",
        (Bound("journey", "sustained", cpu_a_thousand, "CPU-s", 0.10, 0.075),),
        (rate(10_000),),
    ),
    *_kannel("spool, receipts in PostgreSQL", "kannel-postgres", 12, 18),
    *_kannel("spool, receipts in memory", "kannel-spool", 5, 7),
    *_kannel("no store, receipts in memory", "kannel-memory", 3.5, 5),
    _peer("messages/s against smpp-gateway with receipts, the only durable peer", "smpp-gateway", 75, 100),
    Row(
        "emergencies, commit -> submit_sm, 1,000,000 waiting, at 75 % of the measured maximum",
        (_latency("three-quarters", "p50", 5, 2), _latency("three-quarters", "p99", 25, 10)),
        MILLION_WAIT,
    ),
    Row("the same, both cores saturated", (_latency("saturated", "p99", 50, 25),), MILLION_WAIT),
    Row(
        "the same on a link of 100 segments/s, and the limit in every sliding second",
        (
            _latency("throttled", "p99", 10, 5),
            Bound("emergency", "throttled", fullest_second, "segments", LINK, LINK, label="any second"),
        ),
        (*MILLION_WAIT, throttle(LINK)),
    ),
    Row(
        "each backlogged lane's share of segments over 10 s, furthest from its weight",
        (Bound("journey", "lanes", furthest_share, "%", 10),),
        (seconds(10),),
    ),
    Row(
        "SMSC answers after 20 ms, windows of 10 and 100: of (window - k) / latency",
        tuple(
            Bound("journey", f"window-{size}", of_window, "%", 90, 97, at_most=False, label=f"{size}:")
            for size in (10, 100)
        ),
        (seconds(10),),
    ),
    Row(
        "receipts/s of a session, deliver windows of 1, 10 and 100",
        tuple(
            Bound(
                "journey",
                f"receipts-{n}",
                lambda run: run.at("receipts_per_s"),
                "/s",
                must,
                at_most=False,
                label=f"{n}:",
            )
            for n, must in ((1, 150), (10, 1_500), (100, 10_000))
        ),
        (seconds(10),),
    ),
    Row(
        "a text from a handset, written by the SMSC -> its event committed; 500/s while 5,000/s go out",
        (Bound("inbound", "inbound", lambda run: run.at("inbound", "committed", "p99_ms"), "ms", 50, label="p99"),),
        (seconds(60), beside(500, 5_000), steady),
    ),
    Row(
        "RSS of the daemon, 1,000,000 waiting, window 1,000",
        (Bound("emergency", "saturated", lambda run: run.at("rss_mb"), "MB", 80, 60),),
        (waiting(MILLION),),
    ),
    Row(
        "idle daemon, of a core",
        (Bound("journey", "idle", lambda run: run.at("cores", "daemon") * 100, "%", 1),),
        (seconds(10),),
    ),
    Row(
        "start to first submit_sm on a migrated database, and again in place after kill -9",
        tuple(
            Bound("journey", "start", first_submit(n), "s", 1, 0.5, label=label)
            for n, label in enumerate(("start", "after kill -9"))
        ),
    ),
)


def side(bounds: tuple[Bound, ...], *, goal: bool) -> str:
    """Write down what a row must reach, or what it should."""
    values = [(bound, bound.goal if goal else bound.must) for bound in bounds]
    return ", ".join(
        f"{bound.label} {plain(value, bound.unit)}".strip() for bound, value in values if value is not None
    )


def found(evidence: Evidence) -> Iterator[Found]:
    """Hold each row against what was measured."""
    for row in ROWS:
        runs = [evidence.run(bound.bench, bound.run) for bound in row.bounds]
        values = [None if run is None else bound.figure(run) for bound, run in zip(row.bounds, runs, strict=True)]
        there = tuple({id(run.figures): run for run in runs if run is not None}.values())
        if all(value is None for value in values):
            yield Found(row, NOT_MEASURED, NOT_MEASURED, there)
            continue
        measured = ", ".join(bound.told(value) for bound, value in zip(row.bounds, values, strict=True))
        yield Found(row, measured, _met(row, values, there), there)


def _met(row: Row, values: list[float | None], runs: tuple[Run, ...]) -> str:
    """Judge a row by its worst number."""
    pairs = [(bound, value) for bound, value in zip(row.bounds, values, strict=True) if value is not None]
    short = dict.fromkeys(told for run in runs for ask in row.asks if (told := ask(run)))
    short |= dict.fromkeys("PROBLEM in its account" for run in runs if run.problems)
    why = f" ({'; '.join(short)})" if short else ""
    if not all(bound.reaches(value, bound.must) for bound, value in pairs):
        return MISSED + why
    if why:
        return f"not shown{why}"
    if len(pairs) < len(values):
        return "not all measured"
    reached = all(bound.goal is not None and bound.reaches(value, bound.goal) for bound, value in pairs)
    return GOAL if reached else MUST
