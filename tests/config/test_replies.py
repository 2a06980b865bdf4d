"""``[[auto_reply]]`` and ``[[keyword]]``: which texts may be sent, and what is said of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.test_settings import Folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def at(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def tables(reply: str = "", keyword: str = "") -> str:
    """A file's two tables with these texts."""
    escaped = ["".join(f"\\U{ord(character):08X}" for character in text) for text in (reply, keyword)]
    return (
        f'[[auto_reply]]\nkind = "help"\nlanguage = "xx"\ntext = "{escaped[0]}"\n'
        f'[[keyword]]\nname = "way"\nwords = ["way"]\nreply = "{escaped[1]}"\n'
    )


@pytest.mark.parametrize(
    "text",
    ["", "x" * 612, "Hill Street 1\r\nCall {{ 911 }}", "\u200fמועד\u200e 14:30", "می\u200cخواهم", "👩\u200d⚕\ufe0f"],
)
def test_what_an_app_may_send_may_be_answered(at, text):
    """Lines, braces, marks of direction, joiners and variation selectors are parts of honest texts."""
    settings = at.small(rest=tables(text, text))

    assert [reply.text for reply in settings.auto_replies if reply.language == "xx"] == [text]
    assert [keyword.reply for keyword in settings.keywords] == [text]


@pytest.mark.parametrize(
    ("character", "name"),
    [("\0", "U+0000"), ("\f", "U+000C"), ("\x7f", "U+007F"), ("\x85", "U+0085"), ("\u202e", "U+202E")],
)
def test_a_control_character_is_refused_by_its_name(at, character, name):
    """As in a body at enqueue; nobody sees one in an editor, and no text is repeated."""
    text = f"Call 911{character}"
    problem = f"has the control character {name}"

    assert at.small_problem(rest=tables(reply=text)) == f'tocsin.toml: [[auto_reply]] "help": text: {problem}'
    assert at.small_problem(rest=tables(keyword=text)) == f'tocsin.toml: [[keyword]] "way": reply: {problem}'


def test_a_text_too_long_is_refused(at):
    """Four segments."""
    assert at.small_problem(rest=tables("x" * 613)).endswith(
        "text: must be at most 612 characters, none of them a control character"
    )
