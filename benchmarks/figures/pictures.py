"""The pictures: what each shows, from the result files. One that nothing was measured for is not there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from benchmarks.figures import wanted
from benchmarks.figures.svg import EDGE, WIDTH, Bar, Drawing, bars
from benchmarks.figures.words import number, plain
from benchmarks.plan import LANE_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures.evidence import Evidence, Run

FOLDER: Final = "benchmarks/pictures"
CONDITIONS: Final = {
    "three-quarters": "At 75 % of the measured maximum",
    "saturated": "Both cores saturated",
    "throttled": "A link of {limit:,} segments/s",
}
PANEL: Final = 140.0  # of one condition, its words included
TALL: Final = 84.0  # the tallest bar
LEFT, RIGHT = EDGE + 44, WIDTH - EDGE
LEAST_MOST_MS: Final = 100.0  # the axis goes as far at least
STEPS: Final = (1, 2, 5)  # of a decade, that the axis names
PROCESSES: Final = {"daemon": "daemon", "postgres": "PostgreSQL", "sink": "SMSC sink", "enqueuers": "load"}
FULL_SPEED: Final = ("sustained", "backlog", "three-quarters")  # runs in which the fixed cost of a second is small


def emergency_latency(evidence: Evidence) -> str | None:
    """How long emergencies waited, a histogram a condition on one logarithmic axis."""
    runs = {name: run for name in CONDITIONS if (run := evidence.run("emergency", name)) is not None}
    waited = {name: run for name, run in runs.items() if run.at("emergencies", "count")}
    if not waited:
        return None
    drawing = Drawing(
        "How long emergencies wait behind a backlog",
        "Milliseconds from commit to submit_sm at the SMSC, logarithmic. Orange: past what p99 must be.",
    )
    most_ms = max(LEAST_MOST_MS, *(_end_ms(run.at("emergencies", "histogram")) for run in waited.values()))
    least_ms = min(run.at("emergencies", "histogram", "least_ms") for run in waited.values())
    scale = (RIGHT - LEFT) / math.log10(most_ms / least_ms)

    def x_of(ms: float) -> float:
        return LEFT + math.log10(max(ms, least_ms) / least_ms) * scale

    shares = [max(run.at("emergencies", "histogram", "counts")) / _counted(run) for run in waited.values()]
    tall = math.ceil(max(shares) * 10) * 10  # per cent
    y = drawing.top - 6
    for name, run in waited.items():
        _panel(drawing, y, name, run, x_of, tall)
        y += PANEL
    for ms in _ticks(least_ms, most_ms):
        drawing.line(x_of(ms), y - 8, x_of(ms), y - 3, "rule")
        drawing.words(x_of(ms), y + 10, f"{ms:g}", "quiet", at="middle", size=12)
    drawing.words(LEFT - 36, y + 10, "ms", "quiet", at="end", size=12)
    return drawing.finished(y + 24)


def lane_shares(evidence: Evidence) -> str | None:
    """What lanes 1 to 5 got of a link that is too slow for them, beside their weights."""
    run = evidence.run("journey", "lanes")
    if run is None:
        return None
    rows = [
        Bar(
            f"lane {lane}, weight {weight}",
            (share * 100,),
            f"{number(share * 100, '%')}, by weight {number(wanted_share * 100, '%')}",
            wanted_share * 100,
        )
        for lane, (weight, (share, wanted_share)) in enumerate(
            zip(LANE_WEIGHTS, wanted.lane_shares(run), strict=True), 1
        )
    ]
    limit, took = run.at("throughput_per_s"), run.at("seconds")
    told = f"Of the segments, all five backlogged, {limit:,} segments/s, over {took:.0f} s. Line: the weight."
    return bars("Each lane's share of a link", told, rows)


def cpu_a_message(evidence: Evidence) -> str | None:
    """Who spends the processor's time."""
    rows = []
    for name in FULL_SPEED:
        run = evidence.run("journey", name)
        if run is None or not wanted.delivered(run):
            continue
        cpu = run.at("cpu_s_per_1000")
        parts = tuple(cpu.get(process, 0.0) * 1000 for process in PROCESSES)
        rows.append(
            Bar(name, parts, f"{sum(parts[:2]):,.0f} + {sum(parts[2:]):,.0f} us, at {wanted.delivered(run):,.0f}/s")
        )
    if not rows:
        return None
    told = (
        "Microseconds of processor for a message delivered, with its receipt: daemon and PostgreSQL + the bench's own."
    )
    return bars("Processor time of a message", told, rows, tuple(PROCESSES.values()))


def peers(evidence: Evidence) -> str | None:
    """Messages a second of ours and of others."""
    result = evidence.of("peers", "medians")
    if result is None:
        return None
    rows = [
        Bar(row["system"], (row["delivered_per_s"],), number(row["delivered_per_s"], "/s"))
        for row in result.document["medians"]
        if row.get("delivered_per_s") is not None
    ]
    return bars("Messages delivered a second, beside other systems", "The same sink, texts and window, in turns.", rows)


PICTURES: Final[dict[str, Callable[[Evidence], str | None]]] = {
    "emergency-latency": emergency_latency,
    "lane-shares": lane_shares,
    "cpu-a-message": cpu_a_message,
    "peers": peers,
}


def shown(name: str, alternative: str, evidence: Evidence, folder: str = "pictures") -> Iterator[str]:
    """Give the line that shows a picture, if there is one; ``folder`` is the way to it from the page."""
    if PICTURES[name](evidence) is not None:
        yield f"![{alternative}]({folder}/{name}.svg)"
        yield ""


def _panel(drawing: Drawing, top: float, name: str, run: Run, x_of: Callable[[float], float], tall: float) -> None:
    """One condition: its bars, its p50 and p99, and the p99 that is asked for."""
    urgent = run.at("emergencies")
    histogram = urgent["histogram"]
    floor = top + PANEL - 14
    title = CONDITIONS[name].format(limit=run.at("throughput_per_s"))
    p50, p99 = urgent["p50_ms"], urgent["p99_ms"]
    must = next(
        bound.must
        for row in wanted.ROWS
        for bound in row.bounds
        if (bound.bench, bound.run, bound.label) == ("emergency", name, "p99")
    )
    drawing.words(LEFT, top + 26, title, bold=True)
    told = f"{urgent['count']:,} emergencies, {run.at('backlog'):,} waiting: p50 {number(p50)}, p99 {number(p99, 'ms')}"
    drawing.words(RIGHT, top + 26, told, at="end")
    for share in (0.0, tall / 2, tall):
        y = floor - share / tall * TALL
        drawing.line(LEFT, y, RIGHT, y, "rule")
        drawing.words(LEFT - 8, y + 4, f"{share:g} %", "quiet", at="end", size=11)
    for place, count in enumerate(histogram["counts"]):
        if count:
            begin, end = _edges(histogram, place)
            height = count / _counted(run) * 100 / tall * TALL
            colour = "late" if begin >= must else "first"
            drawing.box(x_of(begin) + 0.5, floor - height, x_of(end) - x_of(begin) - 1, height, colour)
    for label, ms in (("p50", p50), ("p99", p99)):
        drawing.line(x_of(ms), floor - TALL - 4, x_of(ms), floor, "mark")
        drawing.words(x_of(ms) + 4, floor - TALL + 9, label, size=11)
    drawing.line(x_of(must), floor - TALL - 4, x_of(must), floor, "late", dashed=True)
    aside, at = (4, "start") if p99 < must else (-4, "end")  # the side where p99 is not
    drawing.words(x_of(must) + aside, floor - TALL + 23, f"must {plain(must, 'ms')}", "late", at=at, size=11)


def _counted(run: Run) -> int:
    return max(1, int(sum(run.at("emergencies", "histogram", "counts"))))


def _edges(histogram: dict[str, Any], place: int) -> tuple[float, float]:
    """A bucket's ends, in ms."""
    begin, end = (histogram["least_ms"] * 10 ** (edge / histogram["per_decade"]) for edge in (place, place + 1))
    return begin, end


def _end_ms(histogram: dict[str, Any]) -> float:
    return _edges(histogram, len(histogram["counts"]) - 1)[1]


def _ticks(least_ms: float, most_ms: float) -> Iterator[float]:
    """What the axis names: 1, 2 and 5 of each decade."""
    decade = math.floor(math.log10(least_ms))
    while 10.0**decade <= most_ms * 1.001:
        for step in STEPS:
            ms = step * 10.0**decade
            if least_ms * 0.999 <= ms <= most_ms * 1.001:
                yield round(ms, 6)
        decade += 1
