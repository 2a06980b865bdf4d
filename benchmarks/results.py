"""What a benchmark found, kept: a file of ``results/`` for each bench and variant, overwritten by its next run.

A file says what is needed to repeat it and to doubt it: the machine, the date, the versions, the command line, and all
figures with their calibration. It names no host and no path; the history is git's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from dispatcher.version import COMPILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULTS: Final = Path(__file__).parent / "results"
ROOT: Final = Path(__file__).parent.parent
PRODUCT: Final = ("config", "dispatcher", "gateway")
PACKAGES: Final = ("tocsin", "asyncpg", "uvloop")
PRIVATE: Final = {
    "--database": "URL",
    "--profile": "FILE",
    "--spool": "FOLDER",
    "--smpp-gateway": "PYTHON",
}  # values that name a host or a path
SMALL: Final = "small"  # what the variants of the small form begin with; no figure is taken from them
VARIANT: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what each bench takes for its result."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--save",
        nargs="?",
        const="",
        type=_variant,
        metavar="VARIANT",
        help="keep the result in benchmarks/results/, under the bench's name and this one",
    )


def at_least_one(word: str) -> int:
    """Read a count."""
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number


def document(bench: str, words: Sequence[str], figures: dict[str, Any], packages: Iterable[str] = ()) -> dict[str, Any]:
    """Give figures with all that belongs to them; ``packages`` are those measured beside ours."""
    return {
        "bench": bench,
        "command": command(bench, words),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(packages, figures),
        **figures,
    }


def save(result: dict[str, Any], variant: str, folder: Path | None = None) -> Path:
    """Write the file, the same for the same result."""
    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    file = folder / f"{result['bench']}{f'-{variant}' if variant else ''}.json"
    file.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return file


def keep(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print the result as JSON, or its heading, and write its file: what ``add_options`` let the user ask for."""
    print(json.dumps(result, indent=1) if arguments.json else f"\n{heading(result)}", flush=True)
    if arguments.save is not None:
        file = save(result, arguments.save)
        print(f"kept: {file.name} of benchmarks/results", file=sys.stderr)


def command(bench: str, words: Sequence[str]) -> str:
    """Give the command line that makes the result again, without the host and the paths of this machine."""
    told: list[str] = []
    for word in words:
        option, mark, _ = word.partition("=")
        if mark and option in PRIVATE:
            told.append(f"{option}={PRIVATE[option]}")
        elif told and told[-1] in PRIVATE:
            told.append(PRIVATE[told[-1]])
        else:
            told.append(word)
    return f"python -m benchmarks.bench_{bench} {shlex.join(told)}".rstrip()


def machine() -> dict[str, Any]:
    """What the figures were made on; the processor is None where the system does not name it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "cpu": names[0] if names else None,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }


def versions(packages: Iterable[str], figures: dict[str, Any]) -> dict[str, str | None]:
    """Versions of what took part; the server's is in the figures of the runs, which were connected to it."""
    servers = [run["postgresql"] for run in (figures, *figures.get("runs", ())) if "postgresql" in run]
    return {
        "python": platform.python_version(),
        "modules": "compiled" if COMPILED else "python",
        "commit": _commit(),
        **({"postgresql": servers[0]} if servers else {}),
        **{name: importlib.metadata.version(name) for name in (*PACKAGES, *packages)},
    }


def heading(result: dict[str, Any]) -> str:
    """Date, Python and machine in a line for people."""
    its, python = result["machine"], result["versions"]["python"]
    cpu = f" of {its['cpu']}" if its["cpu"] else ""
    return f"{result['date']}, Python {python}, {its['cores']} cores{cpu}, {its['memory_gb']} GB"


def _commit() -> str | None:
    """The product's commit; with "-dirty" when the product's own files differ from it; None outside of git."""
    try:
        shown, differs = (
            subprocess.run(["git", *words], check=False, cwd=ROOT, capture_output=True, text=True)
            for words in (("rev-parse", "--short=12", "HEAD"), ("diff", "--quiet", "HEAD", "--", *PRODUCT))
        )
    except OSError:
        return None
    if shown.returncode:
        return None
    return shown.stdout.strip() + ("-dirty" if differs.returncode else "")


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError:
        return ""


def _variant(word: str) -> str:
    if word and not VARIANT.fullmatch(word):
        raise ValueError(word)
    return word
