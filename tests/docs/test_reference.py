"""docs/reference: pages made from the code are as the code is now."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click
import pytest

from dispatcher.cli import tocsin

ROOT = Path(__file__).parent.parent.parent
ROOT_CONTEXT = click.Context(tocsin, info_name="tocsin", **tocsin.context_settings)


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


GENERATOR = _generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_a_page_is_as_the_code_is(name):
    """`make docs` writes it anew."""
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert page == GENERATOR.PAGES[name](), "stale: run `make docs`"


def test_every_event_for_apps_is_described():
    """Apps branch on these."""
    told = GENERATOR.told_events()
    assert told
    assert told <= set(GENERATOR.EVENTS)


def test_every_line_of_the_log_is_described_and_none_that_is_gone():
    """Operators search for these."""
    assert set(GENERATOR.logged_events()) == set(GENERATOR.LOGGED)


def test_every_setting_is_on_the_page():
    """The reader of the annotated file misses no key."""
    page = GENERATOR.settings()
    file = (ROOT / "config" / "tocsin.toml").read_text(encoding="utf-8")
    keys = {
        line.lstrip("#: ").partition(" = ")[0]
        for line in file.splitlines()
        if GENERATOR.re.match(r"(#|#: )?[a-z_]+ = ", line)
    }
    assert len(keys) > 40
    assert [key for key in keys if f"| `{key}` |" not in page and key != "key"] == []


@pytest.mark.parametrize("name", tocsin.list_commands(ROOT_CONTEXT))
def test_every_command_shows_an_example(name):
    """The quickest help."""
    command = tocsin.get_command(ROOT_CONTEXT, name)
    assert f"tocsin {name}" in (command.epilog or "")
    assert command.help
