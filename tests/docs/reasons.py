"""Finds every code and reason in the sources, and writes the page's two tables: ``python -m tests.docs.reasons``."""

from __future__ import annotations

import ast
import re

from dispatcher.job import MOST_AMBIGUOUS_ATTEMPTS, MOST_ATTEMPTS
from gateway import RETRY, Verdict, status_name
from gateway.receipt_reason import GSM_ERRORS
from gateway.status import VERDICTS
from tests.docs.run_docs import ROOT

PAGE = ROOT / "docs" / "reference" / "reasons.md"
BEGIN = "<!-- {}: written by `python -m tests.docs.reasons` -->\n"
END = "<!-- end of {} -->"

CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+_?|[A-Z]{5,}")
NO_REASONS = {"YYYYMMDD"}  # literals that look alike
NOT_OF_JOBS = re.compile(r"demo\w*|embedded|unprivileged|cli|systemd|recogniser|stop_words")  # files that settle no job

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

WHY = {
    "EXPIRED_SMSC": "EXPIRED: the SMSC tried for as long as the message was to live, whatever its last attempt met",
    "DELETED_SMSC": "DELETED: it was taken back at the SMSC, by `tocsin cancel` or by the carrier",
    "REJECTED_SMSC": "REJECTD, and no code says more: the carrier will not carry it",
    "UNKNOWN_SUBSCRIBER": "the number is nobody's, or no longer",
    "ILLEGAL_SUBSCRIBER": "the network does not admit the subscriber, or the device",
    "BARRED": "the subscriber may not, or will not, get messages of this kind",
    "UNSUPPORTED": "the handset or its network cannot take this kind of message",
    "OPTED_OUT": "the person has told the carrier to stop: only where `receipt_errors` of the link names its code, or `status_overrides` that of an answer (a job that `failed`). The number is suppressed for this sender then, as `CARRIER_BLOCK`",
    "BUSY": "the handset or its network was busy, or broke off",
    "NETWORK_FAILURE": "a failure in the network",
    "MEMORY_FULL": "the handset or the SIM has no room",
    "ABSENT": "the handset is off, or out of reach",
    "UNDELIVERED_SMSC": "the receipt does not say why, or in a code that no table has",
    "UNKNOWN_SMSC": "the receipt does not say whether it arrived: state unknown",
}


def table_of_receipts() -> str:
    """What each reason of a receipt means and which codes come to it, as rows of the page."""
    rows = ["| reason | retry | codes | meaning |", "|---|---|---|---|"]
    for reason, retry in RETRY.items():
        codes = ", ".join(code for code, its in GSM_ERRORS.items() if its == reason) or "-"
        rows.append(f"| `{reason}` | {retry} | {codes} | {WHY[reason]} |")
    return "\n".join([*rows, ""])


def table() -> str:
    """What each command_status comes to, as rows of the page."""
    rows = ["| command_status | name | attempts | meaning |", "|---|---|---|---|"]
    for status, verdict in sorted(VERDICTS.items()):
        if verdict is not Verdict.ACCEPTED:
            attempts, meaning = FATE[Verdict.MISCONFIGURED if status == OUT_OF_STEP else verdict]
            rows.append(f"| 0x{status:02X} | `{status_name(status)}` | {attempts} | {meaning} |")
    return "\n".join([*rows, ""])


TABLES = {"command_status": table, "receipts": table_of_receipts}


def written(name: str) -> str:
    """The part of the page under this name, which is written by this module."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN.format(name))[2].partition(END.format(name))[0]


def sql() -> str:
    """All SQL that the product ships, without comments."""
    files = sorted((ROOT / "dispatcher").rglob("*.sql"))
    return "\n".join(re.sub(r"--.*", "", file.read_text(encoding="utf-8")) for file in files)


def reasons() -> set[str]:
    """Reasons of receipts, and literals in SQL and in the dispatcher; an f-string counts with its fixed beginning."""
    found = set(re.findall(rf"'({CODE.pattern})'", sql())) | set(RETRY)
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
    """Write the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, made in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, after = text.partition(begin)
        text = before + begin + made() + end + after.partition(end)[2]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
