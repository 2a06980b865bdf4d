"""What a person sees of the demonstration: a live view in a terminal, else plain lines, and the summary after it.

The live view fits 80 columns and 24 rows. Without a terminal there are no control sequences, whatever the environment
asks for, and a line a second. Nothing shown holds a text or a number of anybody.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import RenderableType

    from dispatcher.demo_evidence import Judgement
    from dispatcher.demo_watch import Now

PLAIN_WIDTH: Final = 100  # columns of tables where there is no terminal
ROWS_BUT_MOMENTS: Final = 19  # of the live view, the line of the cursor included
MOMENTS: Final = 5  # rows kept for them from the beginning
COLUMN: Final = 9
LINK_BAR: Final = 16
LANE_BAR: Final = 30
LANE_STYLES: Final = ("bold red", "yellow", "cyan", "green", "blue", "magenta")


class Moment(NamedTuple):
    """Something that happened."""

    seconds: float  # since the load was enqueued
    text: str
    is_urgent: bool


class View:
    """Shows what it is told; entered while it may use the terminal."""

    def __init__(self, stream: TextIO) -> None:
        """Write to this stream, live if it is a terminal."""
        terminal = stream.isatty()
        self._console = Console(
            file=stream,
            force_terminal=terminal,
            color_system="auto" if terminal else None,
            width=None if terminal else PLAIN_WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self.is_live = terminal and not self._console.is_dumb_terminal
        self._live: Live | None = None
        self._page_url = ""
        self._moments: dict[str, Moment] = {}
        self._second = 0

    def say(self, line: str = "", style: str | None = None) -> None:
        """Print a line."""
        self._console.print(line, style=style, soft_wrap=True)

    def tell(self, what: str, fact: str) -> None:
        """Print a fact about something."""
        self._console.print(Text.assemble("  ", (f"{what:{COLUMN}} ", "bold"), fact), soft_wrap=True)

    def watch(self, page_url: str) -> Self:
        """Say where the daemon's own page is; enter what this gives, and show moments."""
        self._page_url = page_url
        return self

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self.is_live:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back; the last view stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def moment(self, key: str, seconds: float, text: str, *, is_urgent: bool = False) -> None:
        """Keep something that happened in sight; the same key again replaces it."""
        self._moments[key] = Moment(seconds, text, is_urgent)
        if self._live is None:
            self.say(f"  {seconds:5.1f} s  {text}")

    def show(self, now: Now) -> None:
        """Show how it stands: at once in a terminal, else once a second."""
        if self._live is not None:
            self._live.update(self._picture(now), refresh=True)
        elif int(now.seconds) > self._second:
            self._second = int(now.seconds)
            self.say(_line(now))

    def summarize(self, judgement: Judgement) -> None:
        """Print what became of it all, and whether it is what was to be shown."""
        self.say()
        self._console.print(_category_table(judgement))
        self.say("p50, p99: from the commit of the enqueue to the last segment in the SMSC's log", "dim")
        self.say()
        self._console.print(_emergency_table(judgement))
        self.say()
        for check in judgement.checks:
            verdict = ("FAILED", "bold red") if check.problems else ("ok    ", "green")
            heading = f"  {check.name:{COLUMN}}  "
            said = check.problem or check.fact
            if self._console.is_terminal:
                indent = " " * (len(verdict[0]) + len(heading))
                said = textwrap.fill(said, self._console.width - len(indent)).replace("\n", "\n" + indent)
            self._console.print(Text.assemble(verdict, heading, said), soft_wrap=True)
        self.say()

    # The live view

    def _picture(self, now: Now) -> RenderableType:
        spare = self._console.height - ROWS_BUT_MOMENTS
        blank = [Text()] if spare > MOMENTS + 1 else []
        room = max(1, spare - 2 * len(blank))
        moments = [
            Text.assemble(
                ("! ", "bold red") if moment.is_urgent else "- ",
                (f"{moment.seconds:4.1f} s  ", "dim"),
                (moment.text, "bold" if moment.is_urgent else ""),
                no_wrap=True,
                overflow="ellipsis",
            )
            for moment in list(self._moments.values())[-room:]
        ]
        return Group(
            Text.assemble(
                ("tocsin demo ", "bold"), f" {now.seconds:4.1f} s   ", ("status page ", "dim"), self._page_url
            ),
            _progress(now),
            Text(),
            _links(now),
            *blank,
            _lanes(now),
            Text(),
            _jobs(now),
            _replies(now),
            *blank,
            *moments,
            *[Text()] * (min(room, MOMENTS) - len(moments)),
        )


def _line(now: Now) -> str:
    rates = ", ".join(f"{link.name} {link.last_second}/s of {link.limit_per_s}" for link in now.links)
    states = ", ".join(f"{number:,} {state}" for state, number in now.states.items())
    sent = f"{now.sent:5,} of {now.segments:,} segments sent"
    return f"  {now.seconds:5.1f} s  {sent};  {rates};  {states or 'no end yet'}"


def _progress(now: Now) -> Table:
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    row.add_row(
        ProgressBar(total=now.segments, completed=now.sent, complete_style="green", finished_style="green"),
        f"{now.sent:,} of {now.segments:,} segments sent",
    )
    return row


def _table(*columns: tuple[str, str]) -> Table:
    """Make a table with these headings, each left or right, that fits 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    return table


def _bar(part: float, whole: float, style: str, width: int) -> ProgressBar:
    return ProgressBar(
        total=max(whole, 1), completed=min(part, whole), width=width, complete_style=style, finished_style=style
    )


def _links(now: Now) -> Table:
    table = _table(
        ("link", "left"),
        ("state", "left"),
        ("sessions", "right"),
        ("window", "right"),
        ("sent", "right"),
        ("last second", "right"),
        ("", "left"),
    )
    for link in now.links:
        table.add_row(
            link.name,
            Text("bound", "green") if link.is_bound else Text("unbound", "bold red"),
            str(link.sessions),
            f"{link.window_in_use} of {link.window}",
            f"{link.sent:,}",
            f"{link.last_second:3d} of {link.limit_per_s}",
            _bar(link.last_second, link.limit_per_s, "cyan", LINK_BAR),
        )
    return table


def _lanes(now: Now) -> Table:
    table = _table(("lane", "left"), ("waiting", "right"), ("sent", "right"), ("", "left"))
    for lane in now.lanes:
        style = LANE_STYLES[lane.number]
        table.add_row(
            Text(f"{lane.number} {lane.categories}", style),
            f"{lane.waiting:,}",
            f"{lane.sent:,}",
            _bar(lane.sent, lane.sent + lane.waiting, style, LANE_BAR),
        )
    return table


def _jobs(now: Now) -> Text:
    opened = now.jobs - sum(now.states.values())
    line = Text.assemble(("jobs     ", "bold"), f"{now.jobs:,} enqueued, {opened:,} open")
    for state, number in now.states.items():
        line.append(", ")
        line.append(f"{number:,} {state}", "green" if state == "delivered" else "yellow")
    return line


def _replies(now: Now) -> Text:
    return Text.assemble(("replies  ", "bold"), f"{now.replies_sent} sent by patients, {now.replies} rows in the inbox")


# The summary


def _category_table(judgement: Judgement) -> Table:
    names = ("jobs", "segments", "delivered", "undelivered", "p50", "p99")
    table = _table(("lane, category", "left"), *((name, "right") for name in names))
    for row in judgement.categories:
        numbers = (row.jobs, row.segments, row.delivered, row.undelivered)
        times = (_seconds(row.p50_s), _seconds(row.p99_s))
        table.add_row(f"{row.lane} {row.name}", *(f"{number:,}" for number in numbers), *times)
    table.add_section()
    totals = (sum(getattr(row, name) for row in judgement.categories) for name in names[:4])
    table.add_row("all", *(f"{total:,}" for total in totals))
    return table


def _emergency_table(judgement: Judgement) -> Table:
    table = _table(
        ("emergency", "left"),
        ("link", "left"),
        ("waited", "right"),
        ("its place", "right"),
        ("overtook", "right"),
        ("overtaken by", "right"),
    )
    for number, place in enumerate(judgement.emergencies, start=1):
        table.add_row(
            str(number),
            place.link,
            _seconds(place.waited_s),
            f"segment {place.number:,} of {place.total:,}",
            f"{place.overtook:,}",
            f"{place.overtaken_by:,}",
        )
    return table


def as_json(judgement: Judgement, seconds: float) -> dict[str, Any]:
    """Give the summary to a machine; durations in seconds, null where nothing was measured."""
    checks = [
        {"name": check.name, "holds": not check.problems, "says": check.problem or check.fact}
        for check in judgement.checks
    ]
    summary_of = {name: value for name, value in asdict(judgement).items() if name != "checks"}
    found: dict[str, Any] = _finite(
        {"holds": judgement.holds, "seconds": round(seconds, 3), **summary_of, "checks": checks}
    )
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _seconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
