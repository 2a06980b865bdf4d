"""Reads one TOML table against one dataclass: its annotations are the rules, its defaults the defaults.

A field annotated ``Annotated[int, Between(1, 65535)]`` takes a whole number in that range and nothing
else. Every departure is one ``ConfigError`` that names file, table and key. No message repeats a text
from the file, except a wrong word where a closed set of words is allowed: a password never shows.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints


class ConfigError(Exception):
    """A setting is wrong. One line, made from where it stands and what is wrong with it."""

    def __init__(self, file: str, table: str, key: str, problem: str) -> None:
        self.file = file  # path as it was given
        self.table = table  # [database], [[link]] "carrier-a"; "" for the file itself
        self.key = key  # "" when it is the table that is wrong
        self.problem = problem
        super().__init__(": ".join(part for part in (file, table, key, problem) if part))


class Check(Protocol):
    """A rule beyond the type."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with the value, or None."""


@dataclass(frozen=True, slots=True)
class Between:
    """A number from low to high, both included."""

    low: float
    high: float

    def problem(self, value: Any) -> str | None:
        """Say that the number is out of range, or nothing."""
        return None if self.low <= value <= self.high else f"must be from {self.low:g} to {self.high:.15g}"


@dataclass(frozen=True, slots=True)
class Octets:
    """Printable ASCII of low to high octets, as SMPP's C-octet strings carry it (the closing NUL not counted)."""

    low: int
    high: int

    def problem(self, value: Any) -> str | None:
        """Say that the text has other characters or too many, or nothing."""
        if not (value.isascii() and (value.isprintable() or not value)):
            return "must be printable ASCII"
        if self.low <= len(value) <= self.high:
            return None
        return f"must have {self.low} to {self.high} characters, has {len(value)}"


@dataclass(frozen=True, slots=True)
class Matching:
    """A text of a given form; ``form`` describes it to a person."""

    pattern: str
    form: str

    def problem(self, value: Any) -> str | None:
        """Say which form the text lacks, or nothing."""
        return None if re.fullmatch(self.pattern, value, re.ASCII) else f"must be {self.form}"


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file, and what to call it in an error."""

    file: str
    label: str
    entries: Mapping[str, Any]

    def error(self, key: str, problem: str) -> ConfigError:
        """Give the error for a key of this table, to be raised."""
        return ConfigError(self.file, self.label, key, problem)

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys that nobody reads: a misspelt setting must not fall back to its default in silence."""
        known = sorted(known)
        for key in self.entries:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                hint = f"the nearest known key is {near[0]}" if near else "no key is known here"
                raise self.error(key, f"unknown key; {hint}")

    def value(self, key: str, hint: Any) -> Any:
        """Give the checked value of a key that is there."""
        value, problem = _checked(self.entries[key], hint)
        if problem is not None:
            raise self.error(key, problem)
        return value

    def inner(self, key: str, label: str) -> "Table":
        """Give the table under a key that is there."""
        entries = self.entries[key]
        if not isinstance(entries, dict):
            raise self.error(key, f"must be a table, not {_kind(entries)}")
        return Table(self.file, label, entries)


def read(table: Table, shape: type[Any], *, special: Iterable[str] = (), without: Iterable[str] = ()) -> dict[str, Any]:
    """Give the values that the table has for the dataclass ``shape``, by field name; absent ones are left out.

    Args:
        table: the table of the file.
        shape: the dataclass; its annotations say what is allowed.
        special: keys that the caller reads himself.
        without: fields of ``shape`` that no key of the same name sets.

    Raises:
        ConfigError: unknown key, wrong type, out of range, or a field without default is missing.

    """
    special = set(special)
    plain: dict[str, Field[Any]] = {item.name: item for item in fields(shape) if item.name not in {*without, *special}}
    table.only(plain.keys() | special)
    hints = get_type_hints(shape, include_extras=True)
    values = {}
    for name, item in plain.items():
        if name in table.entries:
            values[name] = table.value(name, hints[name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise table.error(name, "is missing")
    return values


def _checked(value: Any, hint: Any) -> tuple[Any, str | None]:
    """Give the value in its target type, or the problem with it."""
    checks: tuple[Check, ...] = ()
    if get_origin(hint) in {Union, UnionType}:  # `int | None`: TOML has no null, only the absent key
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is Annotated:
        hint, *rules = get_args(hint)
        checks = tuple(rules)
    if get_origin(hint) is Literal:
        words = get_args(hint)
        wrong = f", not {value[:40]!r}" if isinstance(value, str) else f", not {_kind(value)}"
        return value, None if value in words and isinstance(value, str) else f"must be {_one_of(words)}{wrong}"
    if get_origin(hint) is tuple:
        return _checked_list(value, get_args(hint)[0])
    value, problem = _typed(value, hint)
    for check in checks:
        problem = problem or check.problem(value)
    return value, problem


def _checked_list(value: Any, hint: Any) -> tuple[Any, str | None]:
    if not isinstance(value, list):
        return value, f"must be a list, not {_kind(value)}"
    if not value:
        return value, "must not be empty"
    items = []
    for number, entry in enumerate(value, start=1):
        item, problem = _checked(entry, hint)
        if problem is not None:
            return value, f"item {number} {problem}"
        if item in items:
            return value, f"item {number} stands there twice"
        items.append(item)
    return tuple(items), None


def _typed(value: Any, kind: type) -> tuple[Any, str | None]:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), None if math.isfinite(value) else "must be a finite number"
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value, None
    wanted = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
    return value, f"must be {wanted[kind]}, not {_kind(value)}"


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number with a fraction", str: "a text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date or time")


def _one_of(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
