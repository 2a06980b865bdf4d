"""``python -m benchmarks.figures``: write the tables and pictures anew from the result files, or ``--check`` them.

Exit 0; 1: --check found something that the result files do not give; 2: a result file or a page cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import results
from benchmarks.figures import costs, evidence, others, pictures, tables
from benchmarks.figures.evidence import Evidence, Unusable
from benchmarks.figures.pages import WrongPage, filled, sections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

AGAIN: Final = "python -m benchmarks.figures"
PAGES: Final[dict[str, dict[str, Callable[[Evidence], Iterable[str]]]]] = {
    "README.md": {"capacity": tables.capacity},
    "benchmarks/README.md": {
        "wanted": tables.what_we_want,
        "results": tables.results,
        "journey": tables.journey,
        "rounds": tables.rounds,
        "costs": costs.costs,
        "emergency": tables.emergency,
        "peers": others.peers,
        "backlog": others.backlog,
        "flood": others.flood,
        "policy": others.policy,
        "inbound": others.inbound,
        "queue": others.queue,
        "codec": others.codec,
        "locust": others.locust,
    },
}


@dataclass(frozen=True, slots=True)
class Made:
    """A file as the result files give it; None: it should not be there."""

    file: str  # from the root of the repository
    text: str | None
    differs: str  # what of it is not as it should be; "" when all is


def made(root: Path) -> Iterator[Made]:
    """Make everything.

    Raises:
        Unusable: a result file lacks what a figure is taken from.
        WrongPage: a page lacks a section.

    """
    found = evidence.read(root / "benchmarks" / "results")
    for page, makers in PAGES.items():
        before = (root / page).read_text(encoding="utf-8")
        tables_of = {name: "".join(f"{line}\n" for line in maker(found)) for name, maker in makers.items()}
        try:
            after, there = filled(before, tables_of), sections(before)
        except WrongPage as wrong:
            raise WrongPage(f"{page}: {wrong}") from None
        wrong_ones = [name for name, text in tables_of.items() if there[name] != text]
        yield Made(page, after, f"section {', '.join(wrong_ones)}" if wrong_ones else "")
    yield from _pictures(root, found)


def _pictures(root: Path, found: Evidence) -> Iterator[Made]:
    """The pictures, and those that nothing gives any more."""
    for name, maker in pictures.PICTURES.items():
        file = root / pictures.FOLDER / f"{name}.svg"
        drawn = maker(found)
        there = file.read_text(encoding="utf-8") if file.exists() else None
        yield Made(f"{pictures.FOLDER}/{file.name}", drawn, "" if drawn == there else "picture")
    for file in sorted((root / pictures.FOLDER).glob("*")):
        if file.stem not in pictures.PICTURES or file.suffix != ".svg":
            yield Made(f"{pictures.FOLDER}/{file.name}", None, "picture")


def main(words: list[str] | None = None, root: Path = results.ROOT) -> int:
    """Write or check; gives the exit code."""
    parser = argparse.ArgumentParser(prog=AGAIN, description="Tables and pictures from benchmarks/results.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something would be written")
    arguments = parser.parse_args(words)
    try:
        differing = [one for one in made(root) if one.differs]
    except (Unusable, WrongPage, OSError) as problem:
        print(f"figures: {problem}", file=sys.stderr)
        return 2
    for one in differing:
        if arguments.check:
            print(f"{one.file}: {one.differs}: not what the result files give ({AGAIN})", file=sys.stderr)
            continue
        file = root / one.file
        if one.text is None:
            file.unlink()
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(one.text, encoding="utf-8")
        print(f"written: {one.file}")
    return 1 if arguments.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
