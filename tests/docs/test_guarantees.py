"""docs/guarantees.md names what exists: metrics, log events, alerts, reasons of states, chapters of the runbook."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generate import EVENTS, LOGGED

ROOT = Path(__file__).parent.parent.parent

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`([a-z][a-z0-9_.]+)`", PAGE))
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
# terms of SQL and of the command line, and states: they are held to the code by the reference pages
OTHER = {
    "tocsin.claim", "tocsin.receipt_taken", "tocsin.receipt_wait", "sent", "closed", "deferred", "uncertain", "unknown", "emergency", "staff", "job_status.reason",
    "query_sm", "idempotency_key", "duplicate", "cancelled", "too_late",
}  # fmt: skip


def test_what_the_page_says_one_will_see_can_be_seen():
    """A person on duty searches the log and the dashboards for these words."""
    known = set(LOGGED) | set(EVENTS) | OTHER
    for word in WORDS - known:
        assert f"`{word}`" in METRICS or f"`{word}`" in SETTINGS, word
    for metric in re.findall(r"tocsin_[a-z_]+", PAGE):
        assert f"`{metric}`" in METRICS, metric


def test_alerts_and_chapters_exist():
    """A link that leads nowhere costs a minute at night."""
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", runbook, re.MULTILINE)
    }
    anchors |= set(re.findall(r'<a id="([^"]+)"', runbook))
    for anchor in re.findall(r"runbook\.md#([a-z0-9-]+)", PAGE):
        assert anchor in anchors, anchor
    alerts = (ROOT / "config" / "prometheus" / "tocsin.alerts.yml").read_text(encoding="utf-8")
    for alert in re.findall(r"Tocsin[A-Z][A-Za-z]+", PAGE):
        assert f"alert: {alert}\n" in alerts, alert
