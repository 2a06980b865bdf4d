"""The files that ship: the annotated one states every key and exactly the defaults, and all of them load."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

import config
from config.settings import SHIPPED_CATEGORIES, TABLES, DaemonSettings, HttpSettings, load

FOLDER = Path(config.__file__).parent
ANNOTATED = (FOLDER / "tocsin.toml").read_text(encoding="utf-8")


# Keys that set a field of another name, and the fields that have no key of their own name
OTHER_KEYS = {
    "[http]": ({"listen"}, {"host", "port"}),
    "[[link]]": ({"host", "password_file"}, {"tls"}),
}


def stated(table: str, marker: str) -> dict[str, object]:
    """The keys of one table that stand behind a marker: "" set, "#" default, "#: " example."""
    section = ANNOTATED.split(f"\n{table}\n", 1)[1]
    section = re.split(r"^\[", section, maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(rf"^{re.escape(marker)}([a-z_]+ = .*)$", section, re.MULTILINE)
    return tomllib.loads("\n".join(lines))


def defaults(shape: type) -> dict[str, object]:
    found = {}
    for item in dataclasses.fields(shape):
        if item.default_factory is not dataclasses.MISSING:
            found[item.name] = item.default_factory()
        elif item.default is not dataclasses.MISSING:
            found[item.name] = item.default
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_mentioned(table):
    """A setting that is not described is not there."""
    keys, unnamed = OTHER_KEYS.get(table, (set(), set()))
    known = {item.name for item in dataclasses.fields(TABLES[table])} - unnamed | keys
    mentioned = [key for marker in ("", "#", "#: ") for key in stated(table, marker)]

    assert sorted(mentioned) == sorted(known)


@pytest.mark.parametrize("table", TABLES)
def test_defaults_are_the_dataclasses(table):
    """A number in a comment that is not the number in the code is worse than none."""
    expected = {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in defaults(TABLES[table]).items()
        if value not in (None, (), {}, "") or (value == "" and key in {"system_type", "service_type", "address_range"})
    }
    if table == "[http]":
        expected = {"listen": f"{HttpSettings().host}:{HttpSettings().port}"}

    assert stated(table, "#") == expected
    for key, value in stated(table, "#").items():
        assert type(value) is type(expected[key]), key


@pytest.mark.parametrize("table", TABLES)
def test_what_has_no_default_is_an_example(table):
    """An example must not be taken for a default."""
    without = defaults(TABLES[table])

    for key in stated(table, "#: "):
        assert key in {"hosts", "password"} or without[key] in (None, (), {}, ""), key


def test_the_annotated_file_loads_as_it_is_and_with_every_key(tmp_path):
    """Each default and each example is allowed where it stands."""
    everything = re.sub(r"^#(?:: )?(?=[a-z_]+ = )", "", ANNOTATED, flags=re.MULTILINE)
    everything = re.sub(r"^(host|password_file) = .*$", "", everything, flags=re.MULTILINE)
    for name in ("carrier-a", "database", "carrier-a-ca.pem", "clinic.pem", "clinic-key.pem"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "as_it_is.toml").write_text(ANNOTATED, encoding="utf-8")
    (tmp_path / "everything.toml").write_text(everything, encoding="utf-8")

    as_it_is = load(tmp_path / "as_it_is.toml", {})
    with_all = load(tmp_path / "everything.toml", {})

    assert as_it_is.daemon == with_all.daemon == DaemonSettings()
    assert as_it_is.links[0].port == with_all.links[0].port
    assert len(with_all.links[0].hosts) == 2
    assert with_all.categories[-1].name == "lab_result"


def test_the_annotated_file_shows_the_shipped_categories():
    """The table in its comment is what ships."""
    rows = re.findall(r"^#   (\w+) +(\d) +(\d+) +(resend|hold) +(true|false) +(yes|no|never)$", ANNOTATED, re.MULTILINE)

    assert rows == [
        (each.name, str(each.lane), f"{each.time_to_live_s:.0f}", each.on_doubt, str(each.stop).lower(), each.flash)
        for each in SHIPPED_CATEGORIES
    ]


def test_the_minimal_file_loads(tmp_path):
    """It is what people copy."""
    (tmp_path / "carrier-a.password").write_text("secret\n")
    (tmp_path / "minimal.toml").write_bytes((FOLDER / "minimal.toml").read_bytes())

    settings = load(tmp_path / "minimal.toml", {})

    assert [link.name for link in settings.links] == ["carrier-a"]
    assert settings.warnings == ()


def test_the_quickstart_file_loads_and_stays_on_this_machine():
    """The tutorial copies it: no carrier, no server, no warning."""
    settings = load(FOLDER / "quickstart.toml", {})

    assert settings.warnings == ()
    assert [link.hosts for link in settings.links] == [("127.0.0.1",)]
    assert settings.database.embedded_directory == FOLDER / "var" / "postgres"
