"""The state directory: one process at a time, and an owner's name that outlives it."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.errors import StateDirectoryHeld
from dispatcher.state_directory import StateDirectory

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from dispatcher.state_directory import StateDirectory
print(StateDirectory.open(Path(sys.argv[1]), "one").owner, flush=True)
sys.stdin.read()
"""


def owner_of(path: Path, instance: str = "one") -> str:
    state = StateDirectory.open(path, instance)
    state.close()
    return state.owner


def test_a_new_directory_is_private_and_so_is_what_is_in_it(tmp_path):
    """Nobody else may hold the lock or read the owner's id."""
    path = tmp_path / "parent" / "one"
    state = StateDirectory.open(path, "one")
    assert state.path == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    assert {file.name for file in path.iterdir()} == {"lock", "owner"}
    state.close()


def test_the_owner_is_the_instance_and_an_id_made_once(tmp_path):
    """A restarted daemon must find exactly its own name in a link's row."""
    first = owner_of(tmp_path)
    assert re.fullmatch(r"one:[0-9a-f]{32}", first)
    assert owner_of(tmp_path) == first
    assert owner_of(tmp_path / "other") != first


def test_another_instance_name_keeps_the_id(tmp_path):
    """The id belongs to the directory, the name to the configuration."""
    first = owner_of(tmp_path)
    assert owner_of(tmp_path, "a:b\n") == f"a:b\n:{first.removeprefix('one:')}"
    assert owner_of(tmp_path) == first


def test_an_id_made_under_an_odd_name_is_read_again(tmp_path):
    """Whatever an instance is called, its id is found."""
    first = owner_of(tmp_path, "a:b\n")
    assert owner_of(tmp_path, "a:b\n") == first


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"one:123\n", b"\xff" * 40 + b"\n", b"one:" + b"G" * 32 + b"\n"])
def test_a_damaged_owner_is_replaced(tmp_path, content):
    """A new id costs one wait for the link's row; a guessed one could take a link from a living owner."""
    owner_of(tmp_path)
    (tmp_path / "owner").write_bytes(content)
    replaced = owner_of(tmp_path)
    assert re.fullmatch(r"one:[0-9a-f]{32}", replaced)
    assert owner_of(tmp_path) == replaced


def test_a_held_directory_is_refused_and_keeps_its_owner(tmp_path):
    """Two daemons with one record would each take the other's entries for its own."""
    state = StateDirectory.open(tmp_path, "one")
    with pytest.raises(StateDirectoryHeld) as refused:
        StateDirectory.open(tmp_path, "two")
    assert refused.value.path == str(tmp_path)
    state.close()
    state.close()
    assert owner_of(tmp_path) == state.owner


def test_a_killed_holder_frees_the_directory(tmp_path):
    """Holding the lock proves that the predecessor is dead, however it died."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        owner = holder.stdout.readline().strip()
        with pytest.raises(StateDirectoryHeld):
            StateDirectory.open(tmp_path, "one")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert owner_of(tmp_path) == owner


def test_what_cannot_be_made_is_an_os_error(tmp_path):
    """The operator is told the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        StateDirectory.open(tmp_path / "file", "one")
    (tmp_path / "owner").mkdir()
    with pytest.raises(IsADirectoryError):
        StateDirectory.open(tmp_path, "one")
    (tmp_path / "owner").rmdir()
    owner_of(tmp_path)  # the failed opening holds no lock
