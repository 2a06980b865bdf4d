"""Finds every code and reason in the sources, and writes the table of command_status: ``python -m tests.docs.reasons``."""

from __future__ import annotations

import ast
import re

from dispatcher.job import MOST_AMBIGUOUS_ATTEMPTS, MOST_ATTEMPTS
from gateway import Verdict, status_name
from gateway.status import VERDICTS
from tests.docs.run_docs import ROOT

PAGE = ROOT / "docs" / "reference" / "reasons.md"
BEGIN = "<!-- command_status: written by `python -m tests.docs.reasons` -->\n"
END = "<!-- end of command_status -->"

CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+_?|[A-Z]{5,}")
NO_REASONS = {"YYYYMMDD"}  # literals that look alike
NOT_OF_JOBS = re.compile(r"demo\w*|embedded|unprivileged|cli|systemd")  # files that settle no job

OUT_OF_STEP = 0x02  # a wrong command_length is a link fault once, and our own fault the second time
FATE = {
    Verdict.RETRY: (str(MOST_ATTEMPTS), "the SMSC cannot take it now"),
    Verdict.AMBIGUOUS: (str(MOST_AMBIGUOUS_ATTEMPTS), "the SMSC does not say why"),
    Verdict.REJECTED: ("1", "the SMSC will never take this message"),
    Verdict.MISCONFIGURED: ("1", "for the operator: the link's settings do not fit this carrier"),
    Verdict.LINK_FAULT: (
        str(MOST_ATTEMPTS),
        "for the operator: the session, not the message; counts from its second time",
    ),
    Verdict.THROTTLED: ("no limit", "the link waits and sends it again; never a reason"),
}


def table() -> str:
    """What each command_status comes to, as rows of the page."""
    rows = ["| command_status | name | attempts | meaning |", "|---|---|---|---|"]
    for status, verdict in sorted(VERDICTS.items()):
        if verdict is not Verdict.ACCEPTED:
            attempts, meaning = FATE[Verdict.MISCONFIGURED if status == OUT_OF_STEP else verdict]
            rows.append(f"| 0x{status:02X} | `{status_name(status)}` | {attempts} | {meaning} |")
    return "\n".join([*rows, ""])


def written() -> str:
    """The part of the page that is written by this module."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def sql() -> str:
    """All SQL that the product ships, without comments."""
    files = sorted((ROOT / "dispatcher").rglob("*.sql"))
    return "\n".join(re.sub(r"--.*", "", file.read_text(encoding="utf-8")) for file in files)


def reasons() -> set[str]:
    """Literals in SQL and in the dispatcher that name a reason; an f-string counts with its fixed beginning."""
    found = set(re.findall(rf"'({CODE.pattern})'", sql()))
    for file in sorted((ROOT / "dispatcher").glob("*.py")):
        if NOT_OF_JOBS.fullmatch(file.stem):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found - NO_REASONS


def sqlstates() -> set[str]:
    """What the SQL raises or catches."""
    return set(re.findall(r"(?:errcode = |sqlstate )'(\w{5})'", sql()))


def complaints() -> set[str]:
    """Texts of malformed requests: a name, a colon, and what is wrong."""
    return {text.rstrip() for text in re.findall(r"'([a-z_]+: [^']+)'", sql()) if not text.startswith("cancel: ")}


def main() -> None:
    """Write the table into the page."""
    before, _, after = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + after.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
