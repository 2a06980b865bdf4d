"""Which series a PromQL expression asks for. Syntax is judged by promtool; this only tells names from functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[a-zA-Z_:][\w:]*|\d[\w.]*|=~|!~|!=|==|>=|<=|\S')
NAME = re.compile(r"[a-zA-Z_:][\w:]*")
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
OPERATORS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True, slots=True)
class Selector:
    """One series that is asked for, and by which labels: (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()


def selectors(expression: str) -> list[Selector]:
    """Every selector of the expression, in order."""
    return _read(expression)[0]


def grouped_by(expression: str) -> set[str]:
    """Labels that aggregations and joins name."""
    return _read(expression)[1]


def _read(expression: str) -> tuple[list[Selector], set[str]]:
    tokens = [*TOKEN.findall(expression), ""]
    found: list[Selector] = []
    labels: set[str] = set()
    at = 0
    while tokens[at]:
        token, following = tokens[at], tokens[at + 1]
        at += 1
        if token in GROUPING:
            if following == "(":
                end = tokens.index(")", at)
                labels.update(name for name in tokens[at + 1 : end] if name != ",")
                at = end + 1
        elif NAME.fullmatch(token) and token not in OPERATORS and following != "(" and following not in GROUPING:
            matchers: list[tuple[str, str, str]] = []
            if following == "{":
                end = tokens.index("}", at)
                inside = [token for token in tokens[at + 1 : end] if token != ","]
                for label, operator, value in zip(inside[::3], inside[1::3], inside[2::3], strict=True):
                    matchers.append((label, operator, value[1:-1]))
                at = end + 1
            found.append(Selector(token, tuple(matchers)))
    return found, labels
