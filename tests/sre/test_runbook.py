"""docs/runbook.md: a section for each alert, and what it tells to type is there."""

from __future__ import annotations

import re

import asyncpg
import pytest

from dispatcher.cli import tocsin
from tests.sre.shipped import ALERTS, RECORDED, RUNBOOK

SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
PARTS = ("**The clinic notices**", "**First look**", "**Causes", "**Do**", "**Over when**")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
METRIC = re.compile(r"\b(?:tocsin_[a-z_]+|process_[a-z_]+|tocsin:[a-z_:0-9]+)\b")


def test_each_alert_has_its_section_and_each_section_its_alert():
    """In the order of the rules, too: whoever reads both finds the place."""
    assert list(SECTIONS) == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_s_link_leads_to_its_section(alert):
    """The anchor is the heading in lower case."""
    assert ALERTS[alert]["annotations"]["runbook"] == f"docs/runbook.md#{alert.lower()}"


@pytest.mark.parametrize("alert", ALERTS)
def test_a_section_answers_every_question_in_the_same_order(alert):
    """Who was just woken reads from the top: severity, what is noticed, where to look, why, what to do, when it is over."""
    text = SECTIONS[alert]
    places = [text.index(part) for part in PARTS]
    assert places == sorted(places)
    assert text.lstrip().startswith(f"**{ALERTS[alert]['labels']['severity'].capitalize()}.**")


def test_links_lead_to_headings_that_are_there():
    """A dead link at night is the worst."""
    anchors = {name.lower() for name in SECTIONS} | set(re.findall(r'<a id="([\w-]+)">', RUNBOOK))
    linked = set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK))
    assert "another-link" in linked
    assert linked <= anchors


def test_metrics_that_a_section_names_are_known(metric_names):
    """A metric that is not exported cannot rise."""
    named = {name for name in METRIC.findall(RUNBOOK) if not name.startswith("process_")}
    assert named
    assert named <= metric_names | set(RECORDED)


def test_commands_are_those_of_the_command_line():
    """Each `tocsin X` exists."""
    typed = set(re.findall(r"^tocsin (\w+)|`tocsin (\w+)", RUNBOOK, re.MULTILINE))
    commands = {first or second for first, second in typed}
    assert commands
    assert commands <= set(tocsin.commands)


async def test_queries_run(database_url):
    """Against the schema as it is now; none shows a text or a number."""
    statements = [
        statement
        for language, block in BLOCK.findall(RUNBOOK)
        if language == "sql"
        for statement in block.split(";")
        if statement.strip()
    ]
    assert len(statements) > 15
    connection = await asyncpg.connect(database_url)
    try:
        for statement in statements:
            shown = [column.name for column in (await connection.prepare(statement)).get_attributes()]
            assert not {"recipient", "destination", "source", "body", "text", "query"} & set(shown), statement
            await connection.fetch(statement)
    finally:
        await connection.close()
