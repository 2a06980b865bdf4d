"""The layers, read from the syntax trees: who may import whom, and where SQL stands."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("config", "dispatcher", "gateway")
LINES = 600  # ceiling of a source file; 300 are already worth a thought

PURE = {
    *(
        f"gateway/{name}.py"
        for name in (
            "gsm7",
            "handset",
            "lookalike",
            "reassembly",
            "segment",
            "pdu",
            "breaker",
            "codec",
            "forms",
            "status",
            "throttle",
            "window",
            "session",
            "held",
            "trials",
            "learnt",
        )
    ),
    *(f"gateway/{name}.py" for name in ("receipt", "receipt_reason", "messages", "errors", "address", "backoff")),
    *(f"dispatcher/{name}.py" for name in ("job", "policy", "windows", "errors")),
}
IMPURE = {"asyncio", "socket", "ssl", "time", "random", "logging", "structlog", "prometheus_client"}

ONLY_IN = {
    "smpplib": {"gateway/codec.py"},
    "asyncpg": {"dispatcher/store.py", "dispatcher/migrate.py", "dispatcher/daemon.py"},
    "prometheus_client": {"gateway/metrics.py", "dispatcher/metrics.py", "dispatcher/http.py"},
    "uvloop": {"dispatcher/commands/service.py"},
    "aiohttp": {"dispatcher/http.py"},
}

LOADED_BY_NEED = {"holidays", "phonenumbers"}

SQL = re.compile(r"\b(select\s.+\sfrom|insert\s+into|update\s+\S+\s+set|delete\s+from)\s", re.IGNORECASE | re.DOTALL)
SQL_IN = {"dispatcher/migrate.py", "dispatcher/store.py"}


def sources() -> dict[str, ast.Module]:
    """Every source file of the product, by its path from the root."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"), path)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


SOURCES = sources()


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that one import statement names, ``from package import name`` as ``package.name``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the layer"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(tree: ast.Module) -> set[str]:
    return {name for node in ast.walk(tree) for name in imported(node)}


def loaded(tree: ast.Module) -> set[str]:
    """The same without ``if TYPE_CHECKING``: what is there names types and loads nothing."""
    for_types_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return {name for node in ast.walk(tree) if node not in for_types_only for name in imported(node)}


def package_of(name: str) -> str:
    return name.partition(".")[0]


def module_of(name: str) -> str | None:
    """The source file behind an imported name: the module itself, or the one that defines it."""
    for candidate in (name, name.rpartition(".")[0]):
        path = candidate.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in SOURCES:
                return file
    return None


def test_every_package_is_looked_at():
    """A rule over no files holds for nothing."""
    for package in PACKAGES:
        assert any(file.startswith(f"{package}/") for file in SOURCES), package
    for file in {*PURE, *(file for files in ONLY_IN.values() for file in files), *SQL_IN}:
        assert file in SOURCES, f"{file} is named in a rule and is not there"


@pytest.mark.parametrize("file", SOURCES)
def test_the_gateway_knows_no_job_and_no_database(file):
    """The SMPP side can be used and tested without the other."""
    found = {package_of(name) for name in imports(SOURCES[file])}

    if file.startswith("gateway/"):
        assert not found & {"dispatcher", "asyncpg"}
    if file.startswith("config/"):
        assert not found & {"dispatcher", "gateway", "asyncpg"}


@pytest.mark.parametrize("file", SOURCES)
def test_the_dispatcher_uses_the_gateway_through_its_root(file):
    """What the package root names is the seam; the rest may change."""
    if file.startswith("dispatcher/"):
        deeper = {
            name
            for node in ast.walk(SOURCES[file])
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else imported(node))
            if name is not None and name.startswith("gateway.")
        }

        assert not deeper - {"gateway.smsc"}


@pytest.mark.parametrize("file", sorted(PURE & SOURCES.keys()))
def test_pure_modules_receive_the_time_and_touch_nothing(file):
    """Their tests move a number instead of waiting, and a replay gives the same again."""
    found = {package_of(name) for name in loaded(SOURCES[file])}

    assert not found & IMPURE


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_library_has_its_place(library):
    """Whoever replaces it has these files to read and no other."""
    users = {file for file, tree in SOURCES.items() if library in {package_of(name) for name in loaded(tree)}}

    assert users <= ONLY_IN[library]


@pytest.mark.parametrize("file", SOURCES)
def test_nothing_is_imported_inside_a_function(file):
    """A hidden import is a hidden cycle, and fails in the middle of the night instead of at the start.

    Excepted are libraries of some megabytes that only files with windows or caps need.
    """
    functions = [node for node in ast.walk(SOURCES[file]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    hidden = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if {package_of(name) for name in imported(node)} - LOADED_BY_NEED
    ]

    assert hidden == []


@pytest.mark.parametrize("file", SOURCES)
def test_the_product_does_not_import_its_tests(file):
    """They are not installed."""
    assert not {package_of(name) for name in imports(SOURCES[file])} & {"tests", "benchmarks"}


def test_there_are_no_cycles():
    """Files can be read from the bottom up."""
    graph = {
        file: {target for name in loaded(tree) if (target := module_of(name)) is not None and target != file}
        for file, tree in SOURCES.items()
    }

    assert any(graph.values())
    while leaves := {file for file, targets in graph.items() if not targets}:
        graph = {file: targets - leaves for file, targets in graph.items() if file not in leaves}
    assert graph == {}


@pytest.mark.parametrize("file", SOURCES)
def test_sql_stands_in_sql_files(file):
    """There it has a name, a comment on its locks and indexes, and a test that prepares it."""
    if file not in SQL_IN:
        texts = [
            (node.lineno, node.value)
            for node in ast.walk(SOURCES[file])
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]

        assert [line for line, text in texts if SQL.search(text)] == []


@pytest.mark.parametrize("file", SOURCES)
def test_files_are_short_enough_to_be_read(file):
    """One file, one story."""
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= LINES
