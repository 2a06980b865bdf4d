"""config/grafana: dashboards that any Grafana can import, with expressions that Prometheus can read."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.sre.promql import selectors
from tests.sre.shipped import DASHBOARDS, RECORDED, filled_in, panels, shown, tool

SCHEMA_VERSION = 41  # Grafana 12; older ones import it, too
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {"datasource", "job", "link", "category"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_belongs_to_no_machine(name):
    """No numeric id, no data source but the variable."""
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == name
    assert dashboard["schemaVersion"] == SCHEMA_VERSION
    assert "id" not in dashboard
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert set(variables) == VARIABLES
    assert variables["datasource"]["type"] == "datasource"
    queries = [variable for variable in variables.values() if variable["type"] == "query"]
    targets = [target for panel in panels(name) for target in panel["targets"]]
    for reader in [*queries, *panels(name), *targets]:
        assert reader["datasource"] == SOURCE


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_side_by_side_and_say_what_they_show(name):
    """An overlap hides a panel; a panel without a text is read wrongly."""
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels(name):
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_obeys_the_variables(name):
    """Whoever chooses one installation must not see the sum of two. ALERTS has what the rule leaves of the labels."""
    for panel in panels(name):
        for target in panel["targets"]:
            for selector in selectors(target["expr"].replace("$__rate_interval", "1m")):
                if selector.name != "ALERTS":
                    assert ("job", "=~", "$job") in selector.matchers, target["expr"]


def test_recorded_series_of_dashboards_are_recorded():
    """A misspelt name is an empty panel and not an error."""
    used = {selector.name for _, expression in shown() for selector in selectors(filled_in(expression))}
    assert {name for name in used if ":" in name} <= set(RECORDED)


def test_expressions_are_promql(tmp_path):
    """As promtool reads them, with every variable filled in."""
    rules = [
        {"record": f"panel:{number}", "expr": filled_in(expression)} for number, (_, expression) in enumerate(shown())
    ]
    file = tmp_path / "panels.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
