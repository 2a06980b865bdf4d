"""The unit files, judged by systemd's own tools on a root of their own."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from config.settings import DaemonSettings
from dispatcher.daemon import STOP_GRACE_S
from tests.systemd.test_sandbox import needs
from tests.systemd.unit import DAEMON, FOLDER, service_section

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"tocsin@1.service": "tocsin@.service", "tocsin-migrate.service": "tocsin-migrate.service"}
MOST_EXPOSURE = 2.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with our units, the targets that every unit needs, and the programs that ours start."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in set(UNITS.values()):
        (units / name).write_bytes((FOLDER / name).read_bytes())
    for name in ("sysinit", "basic", "shutdown", "network", "multi-user"):
        (units / f"{name}.target").write_text("[Unit]\nDescription=stub\nDefaultDependencies=no\n")
    for name in ("opt/tocsin/bin/tocsin", "bin/kill"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    needs(str(command[0]))
    return subprocess.run(command, check=False, capture_output=True, text=True)


def verify(root: Path, unit: str) -> str:
    """What systemd has to say against it; nothing when it is well."""
    done = run("systemd-analyze", "verify", "--man=no", f"--root={root}", unit)
    found = [line for line in (done.stdout + done.stderr).splitlines() if "stub" not in line]
    return "\n".join(found) + (f"\nexit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_the_unit(root, unit):
    """A misspelt directive is a warning in a log that nobody reads, and a restriction that is not there."""
    assert verify(root, unit) == ""

    path = root / "etc/systemd/system" / UNITS[unit]
    path.write_text(path.read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHomes="), encoding="utf-8")
    assert "ProtectHomes" in verify(root, unit), "the check sees nothing"


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_s_exposure_is_low(root, unit):
    """By systemd's own reckoning: 0 is nothing, 10 is everything."""
    done = run(
        "systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSURE * 10:.0f}",
        f"--root={root}", unit,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)

    assert found is not None, done.stderr
    print(f"{unit}: {found[1]}")
    assert float(found[1]) <= MOST_EXPOSURE
    assert done.returncode == 0


def test_the_service_waits_longer_than_a_drain():
    """A kill in the middle of a drain leaves in doubt what would have been known a second later."""
    stop_s = float(service_section(DAEMON, "1")["TimeoutStopSec"][0])

    assert stop_s > DaemonSettings().drain_timeout_s + STOP_GRACE_S


def test_a_frozen_daemon_is_dead_before_another_may_write():
    """An owner writes for 7 of the 10 s of takeover_s after its last beat; from there on others may."""
    unit = service_section(DAEMON, "1")

    assert float(unit["WatchdogSec"][0]) < 0.7 * DaemonSettings().takeover_s
    assert unit["WatchdogSignal"] == ["SIGKILL"]


def test_a_wrong_file_is_not_tried_again_and_all_else_is():
    """Exit code 2 is the file's fault; a missing schema or a held lock ends by itself."""
    unit = service_section(DAEMON, "1")

    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == (["always"], ["2"])
    assert "StartLimitIntervalSec=0" in DAEMON.read_text(encoding="utf-8")


def test_users_and_directories_are_made(tmp_path):
    """By the tools that a package's installation calls."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", FOLDER / "tocsin.sysusers")
    assert (done.returncode, "warning" in done.stderr.lower()) == (0, False), done.stderr
    users = (tmp_path / "etc/passwd").read_text(encoding="utf-8")
    assert {line.partition(":")[0] for line in users.splitlines()} == {"tocsin", "tocsin-owner"}
    assert users.count("nologin") == 2

    done = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", FOLDER / "tocsin.tmpfiles")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "etc/tocsin/credentials").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "var/lib/tocsin").is_dir()
