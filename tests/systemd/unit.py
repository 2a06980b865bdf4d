"""Reads a unit file as systemd does: repeated keys add up, an empty value is a value, `%i` is the instance."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "systemd"
DAEMON = FOLDER / "tocsin@.service"


def service_section(path: Path, instance: str) -> dict[str, list[str]]:
    """Every directive of [Service] with its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value.replace("%i", instance))
    return found
