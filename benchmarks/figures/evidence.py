"""The result files, and the runs in them. A run that several files hold is taken from the newest.

What the small form of the benchmarks kept is left out: it shows that they work, not what the machine can do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.results import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NEEDED: Final = ("bench", "command", "date", "machine", "versions")
NOT_PLAYED: Final = "not played: "


class Unusable(Exception):
    """A result file that figures cannot be taken from; says which one and why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One file."""

    file: str  # its name in results/
    document: dict[str, Any]

    @property
    def bench(self) -> str:
        return str(self.document["bench"])

    @property
    def date(self) -> str:
        return str(self.document["date"])

    @property
    def missing(self) -> list[str]:
        """What was not played, and what to install; bench_peers names each system, bench_queue the reasons alone."""
        told = self.document.get("missing") or ()
        words = [one.removeprefix(NOT_PLAYED) for one in (told.values() if isinstance(told, dict) else told)]
        words += [f"{name} failed" for name in self.document.get("failed") or ()]
        return list(dict.fromkeys(words))

    def runs(self) -> Iterator[Run]:
        """The middles of its rounds first, which stand for them; then its runs."""
        played = self.document.get("runs", ())
        for middle in self.document.get("medians", ()):
            yield Run(self, middle, [run for run in played if run.get("system") == middle.get("system")])
        for run in played:
            yield Run(self, run, [run])


@dataclass(frozen=True, slots=True)
class Run:
    """One run, or the middle of some, and the file that it is from."""

    result: Result
    figures: dict[str, Any]
    played: list[dict[str, Any]]  # what the figures are of

    @property
    def name(self) -> str | None:
        """What it calls itself: a run of the journey, or a system of bench_peers."""
        return self.figures.get("run") or self.figures.get("system")

    def at(self, *path: str | int) -> Any:
        """Give one figure.

        Raises:
            Unusable: the file has no such figure.

        """
        found: Any = self.figures
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                told = " / ".join(str(step) for step in path)
                raise Unusable(f"{self.result.file}: a run lacks {told}") from None
        return found

    @property
    def calibration(self) -> list[float]:
        """Millions of rounds a second while it was played; nothing where it was not measured meanwhile."""
        speeds = [run.get("calibration") or {} for run in self.played]
        return [one["during"] for one in speeds if one.get("during") is not None]

    @property
    def problems(self) -> list[str]:
        """What its account does not explain."""
        return [problem for run in self.played for problem in run.get("account", {}).get("problems", ())]


class Evidence:
    """All result files of a folder, newest first."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = sorted(results, key=lambda result: (result.date, result.file), reverse=True)

    def of(self, bench: str, key: str | None = None) -> Result | None:
        """Give the newest result of a bench, or the newest that has something under ``key``."""
        return next(
            (one for one in self.results if one.bench == bench and (key is None or one.document.get(key))), None
        )

    def runs(self, bench: str, name: str) -> list[Run]:
        """Give every run of that name, the newest first."""
        of_bench = (result for result in self.results if result.bench == bench)
        return [run for result in of_bench for run in result.runs() if run.name == name]

    def run(self, bench: str, name: str) -> Run | None:
        """Give the newest run of that name."""
        return next(iter(self.runs(bench, name)), None)


def read(folder: Path) -> Evidence:
    """Read every result file but those of the small form.

    Raises:
        Unusable: one of them is no JSON, or no result.

    """
    results = []
    for file in sorted(folder.glob("*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise Unusable(f"{file.name}: no JSON: {problem}") from None
        lacking = [key for key in NEEDED if not isinstance(document, dict) or key not in document]
        if lacking:
            raise Unusable(f"{file.name}: no result: lacks {', '.join(lacking)}")
        variant = file.stem.removeprefix(document["bench"]).removeprefix("-")
        if variant.partition("-")[0] != SMALL:
            results.append(Result(file.name, document))
    return Evidence(results)
