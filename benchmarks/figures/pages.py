"""The sections of a page that are made from result files: between ``<!-- figures: NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTION: Final = re.compile(r"^<!-- figures: ([a-z-]+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)


class WrongPage(Exception):
    """A page that lacks a section, or has one twice, or one that nobody makes."""


def sections(text: str) -> dict[str, str]:
    """Give what stands in each section.

    Raises:
        WrongPage: a section is there twice.

    """
    found: dict[str, str] = {}
    for name, content in SECTION.findall(text):
        if name in found:
            raise WrongPage(f"section {name} is there twice")
        found[name] = content
    return found


def filled(text: str, made: Mapping[str, str]) -> str:
    """Give the page with what was made in its sections.

    Raises:
        WrongPage: its sections are not those that were made.

    """
    there = sections(text)
    if lacking := [name for name in made if name not in there]:
        raise WrongPage(f"no section {', '.join(lacking)}: <!-- figures: {lacking[0]} --> ... <!-- end -->")
    if unknown := [name for name in there if name not in made]:
        raise WrongPage(f"nothing makes the section {', '.join(unknown)}")
    return SECTION.sub(lambda match: f"<!-- figures: {match[1]} -->\n{made[match[1]]}<!-- end -->", text)
