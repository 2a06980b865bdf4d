"""Every page of the documentation holds: its commands run, its output is theirs, its sources are files that tests run."""

from __future__ import annotations

import pytest

from tests.docs import run_docs


@pytest.mark.slow
@pytest.mark.timeout(run_docs.PAGE_S + 60)
@pytest.mark.parametrize("page", run_docs.pages())
def test_the_page_holds(page):
    """In a folder of its own with the files that git knows, as a stranger has them."""
    run_docs.check(page)
