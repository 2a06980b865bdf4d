"""The status document for a terminal: a verdict, then links, lanes and events as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dispatcher.commands.terminal import shown
from dispatcher.status import LATE_AFTER_S

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dispatcher.status import LaneStatus, LinkStatus, Status

VERDICTS: Final = {
    "flowing": ("✓ emergencies flow", "bold green"),
    "late": ("! emergencies are late", "bold yellow"),
    "stopped": ("✕ emergencies are stopped", "bold red"),
    "unknown": ("? not known", "bold"),
}
LEVELS: Final = {True: "", False: "bold red"}
BAR: Final = 10  # cells


def view(status: Status, problem: str | None) -> RenderableType:
    """Lay out the document; ``problem`` is what to say above it."""
    pieces: list[RenderableType] = [Text(shown(problem), "bold red")] if problem is not None else []
    pieces += [_verdict(status), _about(status), Text(""), _links(status), Text(""), _lanes(status)]
    if status.events:
        pieces += [Text(""), _events(status)]
    return Group(*pieces)


def _verdict(status: Status) -> Text:
    words, style = VERDICTS[status.emergencies.state]
    text = Text(words, style)
    for reason in status.emergencies.reasons:
        text.append(f"  {shown(reason)}", "default")
    return text


def _about(status: Status) -> Text:
    bound = sum(link.state == "bound" for link in status.links)
    pieces = [
        f"instance {status.instance}",
        f"version {status.version}",
        "" if status.up_for_s is None else f"up for {duration(status.up_for_s)}",
        "" if status.ready is None else "ready" if status.ready else f"not ready: {'; '.join(status.missing)}",
        f"database {status.database}, schema {status.schema}",
        f"{bound} of {len(status.links)} links bound",
        f"in doubt: {number(status.uncertain_segments)} segments",
        "" if status.unsettled is None else f"to write: {number(status.unsettled)} outcomes",
        f"paused: {', '.join(status.paused_categories)}" if status.paused_categories else "",
    ]
    return Text(", ".join(shown(piece) for piece in pieces if piece))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        name = column.lstrip(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """Add a row, every cell as it is: rich would take brackets in a plain str for markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _links(status: Status) -> Table:
    table = _table(
        "link",
        "state",
        "owner",
        ">sessions",
        ">window",
        "segments/s",
        ">throttled",
        ">unanswered",
        ">doubt",
        "receipts",
    )
    for link in status.links:
        _add(
            table,
            Text(shown(link.name), "bold"),
            _state(link),
            _owner(link),
            f"{number(link.sessions_bound)}/{number(link.sessions_configured)}",
            f"{number(link.window_in_use)}/{number(link.window_size)}",
            _rate(link),
            number(link.throttled_total),
            number(link.unanswered_total),
            number(link.uncertain_segments),
            _receipts(link),
        )
    return table


def _state(link: LinkStatus) -> Text:
    carries = link.state == "bound" and not link.paused
    text = Text(f"{shown(link.state)}{', paused' if link.paused else ''} {duration(link.state_for_s)}", LEVELS[carries])
    if link.state_detail and link.state != "bound":
        text.append(f" ({shown(link.state_detail)})")
    if link.held_for_s:
        text.append(f" held {duration(link.held_for_s)}", "yellow")
    if link.sessions_bound is None and link.beat is not None:  # whether the owner lives shows in the next look
        text.append(f" (epoch {link.epoch}, beat {link.beat})", "dim")
    return text


def _owner(link: LinkStatus) -> str:
    if link.owner != "another":
        return link.owner
    age = "" if link.beat_age_s is None else f", alive {duration(link.beat_age_s)} ago"
    return f"instance {shown(link.owner_instance)}{age}"


def _rate(link: LinkStatus) -> Text:
    if link.segments_per_s is None or link.configured_per_s is None:
        return Text("-")
    filled = min(BAR, round(BAR * link.segments_per_s / link.configured_per_s))
    text = Text("█" * filled, "cyan").append("░" * (BAR - filled), "dim")
    text.append(f" {number(link.segments_per_s)} of {number(link.limit_per_s)}", "default")
    if link.limit_per_s != link.configured_per_s:
        text.append(f"\nconfigured {number(link.configured_per_s)}", "yellow")
    return text


def _receipts(link: LinkStatus) -> str:
    if link.receipts_matched_total is None:
        return "-"
    rate = "" if link.receipts_per_s is None else f", {number(link.receipts_per_s)}/s"
    return f"{number(link.receipts_matched_total)}{rate}; {number(link.receipts_unmatched_total)} unmatched"


def _lanes(status: Status) -> Table:
    age = "not read yet" if status.read_age_s is None else f"read {duration(status.read_age_s)} ago"
    table = _table("lane", "categories", ">waiting", ">oldest", f"({age})")
    for lane in status.lanes:
        names = [f"{name} (paused)" if name in lane.paused else name for name in lane.categories]
        is_late = lane.lane == 0 and (lane.oldest_s or 0.0) > LATE_AFTER_S
        _add(
            table, str(lane.lane), shown(", ".join(names)), _waiting(lane), Text(_oldest(lane), LEVELS[not is_late]), ""
        )
    return table


def _waiting(lane: LaneStatus) -> str:
    return f"{'>= ' if lane.at_least else ''}{number(lane.jobs)}"


def _oldest(lane: LaneStatus) -> str:
    return "-" if not lane.jobs or lane.oldest_s is None else duration(lane.oldest_s)


def _events(status: Status) -> Table:
    table = _table("last events", "category", "reason", ">times", ">latest", "subject")
    for event in status.events:
        times, age = number(event.events), f"{duration(max(0.0, event.age_s))} ago"
        _add(table, shown(event.type), shown(event.category), shown(event.reason), times, age, shown(event.subject))
    return table


def number(value: float | None) -> str:
    """Write a count or a rate; "-" where nobody here knows."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """Write seconds as a person says them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86_400:.0f} days"
