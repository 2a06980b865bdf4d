"""How a number, a date and a machine are written in a table: the same everywhere, whatever made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Unit -> digits after the point; "ms" and the rest have three digits in all.
DIGITS: Final = {"/s": 0, "CPU-s": 3, "x": 1, "%": 1, "MB": 0, "s": 2, "segments": 0}
CLOSE: Final = frozenset({"/s"})  # units without a space before them
NOTHING: Final = "-"


def number(value: float | None, unit: str = "") -> str:
    """Write a number with its unit."""
    if value is None:
        return NOTHING
    size = abs(float(f"{value:.3g}"))
    digits = DIGITS.get(unit, 0 if size >= 100 else 1 if size >= 10 else 2)
    return f"{value:,.{digits}f}{'' if unit in CLOSE or not unit else ' '}{unit}"


def plain(value: float, unit: str) -> str:
    """Write a number that was chosen, not measured: without digits that say nothing."""
    return f"{value:,.10g}{'' if unit in CLOSE else ' '}{unit}"


def bare(value: float | None, unit: str) -> str:
    """Write a number as with this unit, where the column's head has the unit."""
    return number(value, unit).removesuffix(unit).rstrip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out a table in Markdown; the first column is text, the others are figures or text as they come."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def aligned(lines: Iterable[str]) -> Iterator[str]:
    """Lay out the same table for a terminal."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (f"{cell:{'<' if place == 0 else '>'}{widths[place]}}" for place, cell in enumerate(row))
        yield "  ".join((first, *others)).rstrip()


def machine(its: dict[str, Any]) -> str:
    """Cores, and the processor where the system names it."""
    return f"{its['cores']} cores" + (f", {its['cpu']}" if its.get("cpu") else "")


def link(file: str) -> str:
    """Point from benchmarks/README.md to a result file."""
    return f"[{file.removesuffix('.json')}](results/{file})"
