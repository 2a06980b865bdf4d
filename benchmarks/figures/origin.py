"""Where a figure is from: the file, and how fast the machine was meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.figures.words import NOTHING, link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.figures.evidence import Result, Run

ABOUT_RUN: Final = ("result", "calibration")  # the heads of the two cells


def about(runs: Iterable[Run]) -> tuple[str, str]:
    """The files, and the speed of the machine while the runs were played; what is wrong with them too."""
    files = dict.fromkeys(run.result.file for run in runs)
    problems = sum(len(run.problems) for run in runs)
    told = ", ".join(link(file) for file in files) + (f"; PROBLEM: {problems}" if problems else "")
    return told, span([speed for run in runs for speed in run.calibration])


def note(result: Result) -> Iterator[str]:
    """What a table that is of one file was made on."""
    yield ""
    yield f"{link(result.file)}, {result.date[:10]}, calibration {span(speeds_of(result.document))}."
    for told in result.missing:
        yield f"Not played: {told}."


def versions(result: Result) -> str:
    """Python's, and the server's where there was one."""
    its = result.document["versions"]
    names = (("python", "Python"), ("postgresql", "PostgreSQL"))
    return ", ".join(f"{name} {its[key]}" for key, name in names if its.get(key))


def speeds_of(document: dict[str, Any]) -> list[float]:
    """Every calibration of a document that was taken during a run, or else around it."""
    speeds: list[float] = []
    for part in (document, *document.get("runs", ())):
        its = part.get("calibration", ())
        if isinstance(its, dict):
            its = [its["during"]] if its.get("during") is not None else [its[key] for key in ("before", "after")]
        speeds += its
    return speeds


def span(speeds: Sequence[float]) -> str:
    """From the slowest to the fastest, M rounds/s."""
    told = dict.fromkeys(f"{speed:.1f}" for speed in ((min(speeds), max(speeds)) if speeds else ()))
    return " to ".join(told) or NOTHING
