"""A small writer of SVG: rectangles, lines and words. The same drawing gives the same octets.

A page shows it as an image, so it carries its own ground and colours, and asks for dark ones where the reader does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 860.0
EDGE: Final = 24.0
ROW: Final = 30.0  # of a chart of bars
THICK: Final = 18.0  # a bar
NAMES: Final = 190.0  # room for what the bars are called
LONGEST: Final = 400.0  # a bar; what is said of it comes after it
FILLS: Final = ("first", "second", "third", "fourth")  # told apart by those who do not see red or green, too

COLOURS: Final = {  # class: light, dark
    "ground": ("#ffffff", "#0d1117"),
    "words": ("#1f2328", "#f0f6fc"),
    "quiet": ("#59636e", "#9198a1"),
    "rule": ("#d1d9e0", "#3d444d"),
    "mark": ("#1f2328", "#f0f6fc"),
    "late": ("#bc4c00", "#f0883e"),
    "first": ("#0969da", "#4493f8"),
    "second": ("#bf8700", "#d29922"),
    "third": ("#8c959f", "#656c76"),
    "fourth": ("#cfd6dd", "#424a53"),
}
FONT: Final = 'font-family="-apple-system, Segoe UI, Noto Sans, Helvetica, Arial, sans-serif"'
STROKED: Final = frozenset({"rule", "mark", "late"})


class Drawing:
    """What is drawn so far; from the left and from the top, in pixels."""

    def __init__(self, title: str, told: str = "") -> None:
        self._title = title
        self._parts: list[str] = []
        self.words(EDGE, 32, title, size=16, bold=True)
        if told:
            self.words(EDGE, 53, told, "quiet")
        self.top = 66.0 if told else 46.0  # where the rest may begin

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle."""
        self._parts.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: str, *, dashed: bool = False) -> None:
        """Draw a line."""
        more = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(
            f'<line class="{colour}-line" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"{more}/>'
        )

    def words(
        self,
        x: float,
        y: float,
        told: str,
        colour: str = "words",
        *,
        at: str = "start",
        size: int = 13,
        bold: bool = False,
    ) -> None:
        """Write words; ``at`` says which end of them x is: start, middle, end."""
        weight = 600 if bold else 400
        more = f'text-anchor="{at}" font-weight="{weight}"'
        self._parts.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" {more}>{escape(told)}</text>'
        )

    def finished(self, height: float) -> str:
        """Give the file."""
        light, dark = ("".join(_rules(which)) for which in (0, 1))
        size = f'width="{WIDTH:.0f}" height="{height:.0f}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" {size} role="img" {FONT}>',
            f"<title>{escape(self._title)}</title>",
            f"<style>{light}@media (prefers-color-scheme: dark){{{dark}}}</style>",
            f'<rect class="ground" {size} rx="6"/>',
        ]
        return "\n".join([*head, *self._parts, "</svg>\n"])


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, of one part or of several one after the other."""

    name: str
    parts: tuple[float, ...]
    told: str  # the number and its unit, after the bar
    mark: float | None = None  # a value to hold the bar against


def bars(title: str, told: str, rows: Sequence[Bar], legend: Sequence[str] = ()) -> str:
    """Draw bars from the left, the longest as long as there is room; ``legend`` names their parts."""
    drawing = Drawing(title, told)
    y = drawing.top + 8
    if legend:
        x = EDGE + NAMES
        for name, colour in zip(legend, FILLS, strict=False):
            drawing.box(x, y, 12, 12, colour)
            drawing.words(x + 18, y + 11, name, "quiet")
            x += 18 + 7.5 * len(name) + 20
        y += 28
    most = max((max(sum(row.parts), row.mark or 0.0) for row in rows), default=0.0) or 1.0
    for row in rows:
        x = EDGE + NAMES
        drawing.words(x - 10, y + 14, row.name, at="end")
        for part, colour in zip(row.parts, FILLS, strict=False):
            length = part / most * LONGEST
            drawing.box(x, y, length, THICK, colour)
            x += length
        if row.mark is not None:
            at = EDGE + NAMES + row.mark / most * LONGEST
            drawing.line(at, y - 4, at, y + THICK + 4, "mark")
            x = max(x, at)
        drawing.words(x + 10, y + 14, row.told)
        y += ROW
    return drawing.finished(y + 10)


def _rules(which: int) -> list[str]:
    fills = [f".{name}{{fill:{colours[which]}}}" for name, colours in COLOURS.items()]
    return fills + [f".{name}-line{{stroke:{COLOURS[name][which]};stroke-width:1.5}}" for name in sorted(STROKED)]
