"""How this folder treats a machine without Debian's Prometheus, and variables of dashboards."""

from __future__ import annotations

import pytest

from tests.sre.shipped import filled_in, tool


def test_a_missing_tool_skips_a_test_and_fails_it_under_ci(monkeypatch, tmp_path):
    """A test that CI leaves out without a word guards nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install"):
        tool("promtool")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="promtool is missing"):
        tool("promtool")


def test_a_variable_that_nobody_fills_in_is_told():
    """Prometheus would take `$` for a fault of the expression, Grafana for text."""
    assert filled_in('a{job=~"$job"}[$__rate_interval]') == 'a{job=~".*"}[1m]'
    with pytest.raises(AssertionError, match="nobody fills in"):
        filled_in('a{host="$host"}')
