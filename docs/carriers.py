"""Makes docs/reference/carriers.md: what carriers do, what Tocsin does then, and the tests that show it.

The lines stand in tests/conformance/carriers.toml, the meaning of each command_status in gateway/status.py.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gateway.status import VERDICTS, name

ROOT = Path(__file__).parent.parent
FILE = ROOT / "tests" / "conformance" / "carriers.toml"

SUBJECTS = {
    "framing": "Framing, numbers and unknown PDUs",
    "binding": "Binding a session, keeping it, ending it",
    "answers": "Answers to submit_sm",
    "status": "What a command_status means",
    "rate": "Rates, windows and throttles",
    "writing": "What is written: addresses, alphabets, parts, flash, validity",
    "receipts": "Receipts",
    "replies": "Replies",
    "crash": "Crashes, doubt and duplicates",
    "operation": "Emergencies, failover and operation",
}

VERDICT_WORDS = {
    "accepted": "accepted",
    "throttled": "the link waits",
    "retry": "passing",
    "ambiguous": "unclear",
    "rejected": "final",
    "misconfigured": "wrong setting",
    "link_fault": "session",
}

HEAD = """\
# What carriers do, and what Tocsin does then

For whoever asks whether it survives his carrier. The left column is what SMSCs do, and what users of SMPP gateways
meet; beside it stands what Tocsin does, and the tests that show it on every change. What is not done says so.
`tests/conformance/carriers.toml` names each test.
"""

VERDICTS_TOLD = """\
A link may judge any number in its own way (`status_overrides`). Passing: tried again, with growing pauses. Unclear:
three tries, then final. Final: the job fails at once. Wrong setting: it fails, or goes by the next link of its route.
Session: the session is bound anew and the segment goes again.
"""


def page() -> str:
    """The whole page; the line that says how it is made is the caller's."""
    lines: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["line"]
    out = [HEAD, "| subject | held by tests | not done, or not yet |", "|---|---|---|"]
    for subject, title in SUBJECTS.items():
        of_it = [line for line in lines if line["subject"] == subject]
        open_ones = sum("none" in line for line in of_it)
        out.append(f"| [{title}](#{_anchor(title)}) | {len(of_it) - open_ones} | {open_ones} |")
    for subject, title in SUBJECTS.items():
        of_it = [line for line in lines if line["subject"] == subject]
        out.append(f"\n## {title}\n")
        with_status = [line for line in of_it if "status" in line]
        if with_status:
            out += [
                VERDICTS_TOLD,
                "| number | what the SMSC says | taken as | what follows | shown by |",
                "|---|---|---|---|---|",
            ]
            out += [
                f"| {_numbers(line['status'])} | {line['case']} | {_verdicts(line['status'])} | {end(line)} |"
                for line in with_status
            ]
            out.append("")
        out += ["| what happens | what Tocsin does | shown by |", "|---|---|---|"]
        out += [f"| {line['case']} | {end(line)} |" for line in of_it if "status" not in line]
    return "\n".join(out) + "\n"


def end(line: dict[str, Any]) -> str:
    """Give the last two cells of a line: what follows, and what shows it."""
    if "none" in line:
        kind, _, reason = line["none"].partition(": ")
        return f"**{kind[0].upper()}{kind[1:]}**: {reason}. | -"
    files: dict[str, int] = {}
    for test in line["tests"]:
        file = test.partition("::")[0]
        files[file] = files.get(file, 0) + 1
    shown = (
        f"[{Path(file).stem.removeprefix('test_')}](../../{file})" + (f" x {count}" if count > 1 else "")
        for file, count in files.items()
    )
    return f"{line['then']} | {', '.join(shown)}"


def _numbers(numbers: list[int]) -> str:
    return "<br>".join(f"`{_hexadecimal(number)}` {_name(number)}".rstrip() for number in numbers)


def _hexadecimal(number: int) -> str:
    return f"0x{number:02X}" if number < 0x100 else f"0x{number:X}"


def _name(number: int) -> str:
    found = name(number)
    return "" if found.startswith("0x") else found.removeprefix("ESME_")


def _verdicts(numbers: list[int]) -> str:
    """What the table says of them, each word once."""
    found = dict.fromkeys(VERDICT_WORDS[VERDICTS[number]] if number in VERDICTS else "unclear" for number in numbers)
    return ", ".join(found)


def _anchor(title: str) -> str:
    return "".join(each for each in title.lower() if each.isalnum() or each in " _-").replace(" ", "-")
