"""Every command, with what an operator may find missing or wrong: one line, the right exit code, no traceback.

Real processes: what the interpreter itself might print counts, too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from dispatcher.cli import tocsin
from tests.dispatcher.command import FILE
from tests.journey.running import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WITH_DATABASE = {
    "apply": (),
    "cancel": ("1",),
    "check": (),
    "enqueue": ("+447700900123", "Hello"),
    "job": ("1",),
    "migrate": (),
    "pause": ("category", "marketing"),
    "requeue": ("1", "--yes"),
    "resume": ("category", "marketing"),
    "status": (),
}
WITHOUT = {"demo": (), "estimate": ("Hello",), "run": (), "smsc": ()}  # rows below, and test_demo, test_smsc_command
WITH_FILE = {**WITH_DATABASE, "run": (), "estimate": ("Hello",)}
NOWHERE = "postgresql://somebody:hunter2@127.0.0.1:1/x"


class Ended:
    """A process that has ended: its code and what it wrote."""

    def __init__(self, *words: str, limit: int | None = None, **environment: str) -> None:
        prefix = () if limit is None else ("prlimit", f"--fsize={limit}")
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "dispatcher.cli", *words],
            check=False,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def says(self, *words: str) -> None:
        """See that one line says all of this, and that nothing secret or of Python's own is with it."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("tocsin: ")
        assert [word for word in words if word not in self.err] == [], self.err
        assert "Traceback" not in self.err + self.out
        assert "hunter2" not in self.err + self.out


def file_at(folder: Path, url: str = NOWHERE, text: str = FILE) -> Path:
    path = folder / "tocsin.toml"
    path.write_text(f'[database]\nurl = "{url}"\n{text}')
    return path


def test_every_command_is_tried():
    """A new one has to be put into the tables above."""
    assert set(tocsin.list_commands(click.Context(tocsin))) == {*WITH_DATABASE, *WITHOUT}


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_without_a_database(tmp_path, name):
    """3, and where it was looked for; `check` tells it as one of its findings."""
    path = file_at(tmp_path)
    ended = Ended(name, "--config", str(path), *WITH_DATABASE[name])
    assert ended.code == 3, ended.err
    if name == "check":
        assert "unusable  database: " in ended.out
        assert "Connection refused" in ended.out
        assert not ended.err
        assert "hunter2" not in ended.out
    else:
        ended.says(str(path), "[database] url", "127.0.0.1:1/x", "Connection refused")


@pytest.mark.parametrize("name", WITH_FILE)
def test_a_file_that_is_missing(tmp_path, name):
    """2, with its name."""
    path = tmp_path / "absent.toml"
    ended = Ended(name, "--config", str(path), *WITH_FILE[name])
    assert ended.code == 2, ended.err
    ended.says(str(path), "cannot be read", "No such file")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run", "[[link]\n", ("not TOML",)),
        ("check", FILE.replace("port = 1", "window = 5"), ('[[link]] "carrier-a"', "window")),
        ("estimate", FILE.replace('prefix = "44"', 'prefix = "abc"'), ("[[route]]", "prefix")),
    ],
)
def test_a_file_that_is_wrong(tmp_path, name, text, words):
    """2, with file, table and key."""
    path = file_at(tmp_path, text=text)
    ended = Ended(name, "--config", str(path), *WITH_FILE[name])
    assert ended.code == 2, ended.err
    ended.says(str(path), *words)


@pytest.mark.parametrize("name", [*WITH_DATABASE, *WITHOUT])
def test_a_wrong_flag(name):
    """2; nothing is done."""
    ended = Ended(name, "--colour")
    assert ended.code == 2
    ended.says("--colour")


def test_run_on_a_full_disk(tmp_path):
    """3: first there is no room for the owner's name, then none for the local record."""
    path = file_at(tmp_path)
    for limit, place in ((10, "state: File too large"), (40, "record: File too large")):
        ended = Ended("run", "--config", str(path), limit=limit)
        assert ended.code == 3
        ended.says("[daemon] state_dir", place)


def test_run_where_another_daemon_runs_already(tmp_path):
    """3: the lock is held."""
    path = file_at(tmp_path)
    first = subprocess.Popen(
        [sys.executable, "-m", "dispatcher.cli", "run", "--config", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert json.loads(first.stdout.readline())["event"] == "daemon_started"
        ended = Ended("run", "--config", str(path))
        assert ended.code == 3
        ended.says("state_dir", "another daemon holds")
    finally:
        first.terminate()
        first.communicate(timeout=30)
    assert first.returncode == 0  # without a database, and without an SMSC


def test_run_on_a_port_that_is_taken(tmp_path):
    """2: the file names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = FILE.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
        ended = Ended("run", "--config", str(file_at(tmp_path, text=text)))
    assert ended.code == 2
    ended.says("[http] listen", "in use")


@pytest.mark.parametrize("state_dir", ["/proc/nowhere/state", "/dev/null/state"])
def test_run_with_a_state_directory_that_cannot_be(tmp_path, state_dir):
    """3, for root too."""
    ended = Ended("run", "--config", str(file_at(tmp_path, text=FILE.replace('"state"', f'"{state_dir}"'))))
    assert ended.code == 3
    ended.says("[daemon] state_dir", state_dir)


def test_check_without_an_smsc(tmp_path):
    """Each link that cannot be bound is a finding, and no secret is shown."""
    ended = Ended("check", "--bind", "--json", "--config", str(file_at(tmp_path)))
    assert ended.code == 3  # of the database
    assert not ended.err
    assert {"subject": "link carrier-a", "grade": "problem", "text": "127.0.0.1:1: connect_failed"} in json.loads(
        ended.out
    )
