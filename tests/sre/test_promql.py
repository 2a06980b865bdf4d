"""The reader of PromQL: a metric that it overlooks is a metric that nobody checks."""

from __future__ import annotations

import pytest

from tests.sre.promql import Selector, grouped_by, selectors


@pytest.mark.parametrize(
    ("expression", "found", "labels"),
    [
        ("up == 0", [Selector("up")], set()),
        ("absent(tocsin_database_up)", [Selector("tocsin_database_up")], set()),
        ('a{b="x, {y}", c!~"z|\\"q"}', [Selector("a", (("b", "=", "x, {y}"), ("c", "!~", 'z|\\"q')))], set()),
        ("sum by (job, le) (rate(a_bucket[5m] offset 30m))", [Selector("a_bucket")], {"job", "le"}),
        ("sum(a) by (job) / on (job) group_left b", [Selector("a"), Selector("b")], {"job"}),
        ("max by (job) (r:a:max) unless on (job) b > 200e6", [Selector("r:a:max"), Selector("b")], {"job"}),
        ("time() - a{} and b or 0 * c", [Selector("a"), Selector("b"), Selector("c")], set()),
    ],
)
def test_names_matchers_and_labels_are_told_from_functions_and_words(expression, found, labels):
    """Strings may hold anything; by, on and group_left bring labels; the rest is a series."""
    assert selectors(expression) == found
    assert grouped_by(expression) == labels
