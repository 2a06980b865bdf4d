"""dispatcher/commands/estimate.py: what a text would take on the wire."""

from __future__ import annotations

import io
import json
import sys

import pytest

from dispatcher import cli

LONG = "x" * 161


@pytest.fixture
def nowhere(tmp_path, monkeypatch, capsys):
    """A folder without a configuration file."""
    monkeypatch.chdir(tmp_path)
    return capsys


def test_without_a_file_it_is_said_for_default_settings(nowhere):
    """The first thing that somebody tries."""
    assert cli.invoke(["estimate", "Costs 5 €"]) == 0
    assert nowhere.readouterr().out == "any link: gsm7, 1 segment, data_coding 0x00, 10 octets\n"


def test_what_forces_ucs2_is_named(nowhere):
    """One curly quote can double a bill."""
    assert cli.invoke(["estimate", "Don\u2019t eat \u0430 \U0001f600" + "x" * 70]) == 0
    first, second = nowhere.readouterr().out.splitlines()
    assert first == "any link: ucs2, 2 segments by udh8, data_coding 0x08, 140+40 octets"
    assert second == (
        "  gsm7 lacks U+2019 RIGHT SINGLE QUOTATION MARK, U+0430 CYRILLIC SMALL LETTER A, U+1F600 GRINNING FACE"
    )


def test_each_link_of_the_file_has_its_own_answer(write, tmp_path):
    """Alphabets and forms of joining differ."""
    command = write("postgresql://127.0.0.1:1/x")
    with command.path.open("a") as file:
        file.write(
            '[[link]]\nname = "b"\nhost = "127.0.0.1"\nsystem_id = "c"\npassword = "p"\ndefault_alphabet = "latin1"\n'
            'concatenation = "payload"\n'
        )
    assert command("estimate", LONG, "--json") == 0
    first, second = json.loads(command.out)
    assert (first["link"], first["alphabet"], first["segments"], first["octets"]) == ("carrier-a", "gsm7", 2, [159, 14])
    assert (second["link"], second["alphabet"], second["segments"], second["octets"]) == ("b", "latin1", 1, [161])


def test_what_no_link_can_send_is_refused(nowhere):
    """More than 255 parts."""
    assert cli.invoke(["estimate", "x" * 60_000]) == 1
    assert nowhere.readouterr().out == "any link: 393 segments, at most 255\n"


def test_flash_has_its_own_data_coding(nowhere, monkeypatch):
    """Class 0 by default; the text comes from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("Code blue\n"))
    assert cli.invoke(["estimate", "-", "--flash"]) == 0
    assert nowhere.readouterr().out == "any link: gsm7, 1 segment, data_coding 0x10, 9 octets\n"


def test_a_file_that_is_named_must_be_there(nowhere):
    """And an empty text is a mistake."""
    assert cli.invoke(["estimate", "--config", "missing.toml", "x"]) == 2
    assert "missing.toml" in nowhere.readouterr().err
    assert cli.invoke(["estimate", ""]) == 2
    assert nowhere.readouterr().err == "tocsin: TEXT: empty\n"
