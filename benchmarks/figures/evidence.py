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
NAMED_BY: Final = ("run", "system")  # what a run calls itself, and a row of bench_peers


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
        return list(dict.fromkeys(told.values() if isinstance(told, dict) else told))

    def parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Its runs by name, those of the middle of several rounds last, which stand for them."""
        for part in (*self.document.get("runs", ()), *self.document.get("medians", ())):
            for key in NAMED_BY:
                if key in part:
                    yield part[key], part


@dataclass(frozen=True, slots=True)
class Run:
    """One run, and the file that it is from."""

    result: Result
    figures: dict[str, Any]

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
    def played(self) -> list[dict[str, Any]]:
        """What these are the figures of: the run itself, or the rounds that it is the middle of."""
        if "rounds" not in self.figures:
            return [self.figures]
        return [run for run in self.result.document.get("runs", ()) if run.get("system") == self.figures["system"]]

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
        """Give every run of that name, the newest first; of one file, the middle of its rounds before these."""
        return [
            Run(result, figures)
            for result in self.results
            if result.bench == bench
            for found, figures in reversed(list(result.parts()))
            if found == name
        ]

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
