"""Every page of the documentation holds: its commands run, its output is theirs, its sources are files that tests run."""

from __future__ import annotations

import pytest

from dispatcher.cli import tocsin
from tests.docs import run_docs

NEEDS = {  # commands that are not there yet
    "README.md": "status",
}


@pytest.mark.slow
@pytest.mark.timeout(run_docs.PAGE_S + 60)
@pytest.mark.parametrize("page", run_docs.pages())
def test_the_page_holds(page):
    """In a folder of its own with the files that git knows, as a stranger has them."""
    if NEEDS.get(page, "run") not in tocsin.commands:
        pytest.skip(f"`tocsin {NEEDS[page]}` is not there yet")
    run_docs.check(page)
