"""The page of codes and reasons is complete, and names nothing that is not there."""

from __future__ import annotations

import re

import pytest

from tests.docs import reasons

TEXT = reasons.PAGE.read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", TEXT))


@pytest.mark.parametrize(
    ("kind", "known"), [("reasons", "EXPIRED"), ("sqlstates", "TC400"), ("complaints", "body: empty")]
)
def test_every_code_in_the_sources_is_on_the_page(kind, known):
    """An app that meets a code must find out what to do about it."""
    found = getattr(reasons, kind)()

    assert known in found, "the search finds nothing any more"
    assert {code + "..." if code.endswith("_") else code for code in found} - NAMED == set()


def test_the_page_names_no_reason_that_is_not_there():
    """What was renamed or dropped must not be waited for."""
    codes = {name.removesuffix("...") for name in NAMED if reasons.CODE.fullmatch(name.removesuffix("..."))}
    texts = {name for name in NAMED if re.match(r"[a-z_]+: ", name)} - {"cancel: "}

    assert {code for code in codes if not code.startswith("ESME_")} - reasons.reasons() == set()
    assert texts - reasons.complaints() == set()


@pytest.mark.parametrize("name", reasons.TABLES)
def test_the_tables_are_as_the_gateway_s_own(name):
    """Every command_status, and every reason of a receipt with its codes, is on the page."""
    assert reasons.written(name) == reasons.TABLES[name](), "run python -m tests.docs.reasons"
