"""Reads carriers.toml and cases.toml, and says which of their lines cannot stand."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FILE = Path(__file__).parent / "carriers.toml"
CASES = Path(__file__).parent / "cases.toml"

Line = dict[str, Any]

SUBJECTS = frozenset(
    {
        "framing",
        "binding",
        "answers",
        "status",
        "rate",
        "writing",
        "receipts",
        "replies",
        "crash",
        "operation",
    }
)
SUBJECTS_OF_CASES = frozenset({"refusals", "replies", "time", "queue", "receipts", "privacy"})
REQUIRED = frozenset({"id", "subject", "case"})
KEYS = REQUIRED | {"status", "then", "tests", "none"}


def lines(text: str) -> list[Line]:
    """Every line, in the order of the file."""
    found: list[Line] = tomllib.loads(text)["line"]
    return found


def known_tests(root: Path = ROOT) -> set[str]:
    """Ids of all tests that pytest would collect, without their parameters."""
    found = set()
    for path in (root / "tests").rglob("test_*.py"):
        file = path.relative_to(root).as_posix()
        module = ast.parse(path.read_text(encoding="utf-8"))
        found |= {f"{file}::{name}" for name in _functions(module)}
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                found |= {f"{file}::{node.name}::{name}" for name in _functions(node)}
    return found


def _functions(node: ast.Module | ast.ClassDef) -> list[str]:
    return [
        inner.name
        for inner in node.body
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test_")
    ]


def problems(found: list[Line], tests: set[str], statuses: set[int], subjects: frozenset[str] = SUBJECTS) -> list[str]:
    """What is wrong with these lines, one sentence each."""
    told = []
    ids: set[str] = set()
    numbers: set[int] = set()
    for line in found:
        name = line.get("id", "?")
        if name in ids:
            told.append(f"{name}: a second line of this id")
        ids.add(name)
        if missing := REQUIRED - set(line):
            told.append(f"{name}: lacks {', '.join(sorted(missing))}")
        if unknown := set(line) - KEYS:
            told.append(f"{name}: unknown {', '.join(sorted(unknown))}")
        if line.get("subject") not in subjects:
            told.append(f"{name}: no such subject")
        if bool(line.get("tests")) == bool(line.get("none")):
            told.append(f"{name}: either tests or none")
        if bool(line.get("tests")) != bool(line.get("then")):
            told.append(f"{name}: what Tocsin does stands beside the tests that show it")
        if not str(line.get("none", "not done: ")).startswith(("not done", "not yet: ")):
            told.append(f"{name}: none begins with `not done` or `not yet: `")
        told += [f"{name}: no test {test}" for test in line.get("tests", []) if test.partition("[")[0] not in tests]
        for number in line.get("status", []):
            if number in numbers:
                told.append(f"{name}: 0x{number:X} has a line already")
            numbers.add(number)
    told += [f"0x{number:X} has no line" for number in sorted(statuses - numbers)]
    return told
