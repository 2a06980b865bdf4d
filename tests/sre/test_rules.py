"""config/prometheus: the rules are valid, each alert has its tests, and the tests pass."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.sre.promql import selectors
from tests.sre.shipped import ALERTS, PROMETHEUS, PROMTOOL_TESTS, RECORDED, filled_in, shown, tool

CASES = {
    case["name"]: case["promql_expr_test"]
    for file in PROMTOOL_TESTS
    for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
}
LABEL = re.compile(r"\$labels\.(\w+)")
TEMPLATE = re.compile(r"\{\{ (.*?) \}\}")
ALLOWED = re.compile(
    r"\$labels\.(link|lane|category|state|command_status|instance|part|what|form)|\$value \| humanize\w*"
)


def run(*arguments: object) -> None:
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def fired(alert: str) -> list[str]:
    """The label sets with which it fires in its promtool test."""
    return [sample["labels"] for check in CASES[alert] for sample in check["exp_samples"]]


def test_the_example_loads_with_its_rules():
    """What people copy first: scrape configuration, recording rules, alerts."""
    run("check", "config", "prometheus.yml")


@pytest.mark.slow
@pytest.mark.parametrize("file", PROMTOOL_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_resolve(file):
    """And stay silent just on the good side of the threshold."""
    run("test", "rules", file.name)


def test_each_alert_has_a_test_and_each_test_an_alert():
    """An alert that never fired is a guess."""
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_silent_then_firing_then_resolved(alert):
    """In this order, and about itself."""
    checks = CASES[alert]
    assert [bool(check["exp_samples"]) for check in checks] == [False, True, False]
    assert all(f'alertname="{alert}", alertstate="firing"' in check["expr"] for check in checks)
    assert {label for labels in fired(alert) for label in re.findall(r'severity="(\w+)"', labels)} == {
        ALERTS[alert]["labels"]["severity"]
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_and_where_to_read_on_and_nothing_private(alert):
    """Templates hold names from closed sets and the value; a label that the alert lacks would print nothing."""
    its = ALERTS[alert]
    assert re.fullmatch(r"Tocsin[A-Z]\w+", alert)
    assert its["labels"]["severity"] in {"page", "ticket"}
    assert set(its["annotations"]) == {"summary", "description", "runbook"}
    for text in its["annotations"].values():
        for template in TEMPLATE.findall(text):
            assert ALLOWED.fullmatch(template), template
        for label in LABEL.findall(text):
            assert any(f'{label}="' in labels for labels in fired(alert)), label


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDED])
def test_what_a_rule_reads_from_other_rules_is_recorded(rule):
    """A misspelt name is an empty answer and not an error."""
    expression = (ALERTS.get(rule) or RECORDED[rule])["expr"]
    used = {selector.name for selector in selectors(expression)}
    assert {name for name in used if ":" in name} <= set(RECORDED)


def test_each_recorded_series_is_read():
    """What nobody reads costs every Prometheus that loads it."""
    expressions = [rule["expr"] for rule in ALERTS.values()] + [filled_in(expression) for _, expression in shown()]
    read = {selector.name for expression in expressions for selector in selectors(expression)}
    assert set(RECORDED) <= read
