"""Makes docs/reference/cases.md: what goes wrong between a clinic and its patients, and what Tocsin does then.

The lines stand in tests/conformance/cases.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from docs.carriers import end

FILE = Path(__file__).parent.parent / "tests" / "conformance" / "cases.toml"

SUBJECTS = {
    "refusals": "What people refuse",
    "replies": "What they answer and ask",
    "time": "Hours",
    "queue": "The queue and its apps",
    "receipts": "Receipts and crashes",
    "privacy": "Content and privacy",
}

HEAD = """\
# Hard cases of healthcare, and what Tocsin does then

For whoever asks whether a hospital may use it. On the left stands what patients, staff, apps and carriers do, or have
done to them; beside it what Tocsin does, and the tests that show it on every change. What is not done says so. The
numbers are those of `tests/conformance/cases.toml`, which names each test.
"""


def page() -> str:
    """The whole page; the line that says how it is made is the caller's."""
    lines: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["line"]
    out = [HEAD]
    for subject, title in SUBJECTS.items():
        out += [f"## {title}\n", "| no. | what happens | what Tocsin does | shown by |", "|---|---|---|---|"]
        out += [f"| {line['id']} | {line['case']} | {end(line)} |" for line in lines if line["subject"] == subject]
        out.append("")
    return "\n".join(out)
