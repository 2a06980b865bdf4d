"""The files under config/prometheus and config/grafana, and Debian's tools that judge them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "config" / "prometheus"
GRAFANA = ROOT / "config" / "grafana"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
PROMTOOL_TESTS = sorted(PROMETHEUS.glob("*.test.yml"))
DASHBOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GRAFANA.glob("*.json"))}


def _rules(file: str, kind: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    named = {rule[kind]: rule for rule in rules}
    assert len(named) == len(rules), f"{file} has a name twice"
    return named


ALERTS = _rules("tocsin.alerts.yml", "alert")
RECORDED = _rules("tocsin.rules.yml", "record")


def panels(dashboard: str) -> Iterator[dict[str, Any]]:
    """The panels that show something; rows are headings."""
    yield from (panel for panel in DASHBOARDS[dashboard]["panels"] if panel["type"] != "row")


def shown() -> Iterator[tuple[str, str]]:
    """Each expression of each dashboard, with the place where it stands."""
    for name in DASHBOARDS:
        for panel in panels(name):
            yield from ((f"{name}: {panel['title']}", target["expr"]) for target in panel["targets"])


def filled_in(expression: str) -> str:
    """A dashboard's expression as Grafana sends it with every variable at "All"."""
    for variable, value in {"$__rate_interval": "1m", "$job": ".*", "$link": ".*", "$category": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable that nobody fills in: {expression}"
    return expression


def tool(name: str) -> str:
    """Where `promtool` or `prometheus` is; without it the test is skipped, and fails under CI."""
    path = shutil.which(name)
    if path is None:
        missing = f"{name} is missing; on Debian: apt-get install --no-install-recommends prometheus"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path
