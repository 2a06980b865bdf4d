"""The guide's commands, word for word: as root, in a sandbox with its own /etc, /opt, /run and /var/lib.

Postgres is the embedded one and trusts every name, so that `peer` is not proved; the roles and their grants are.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from dispatcher import embedded
from tests.systemd.test_sandbox import ROOT, UnixRelay, mount, needs
from tests.systemd.unit import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^<!-- (?P<marker>[^\n]+) -->\n```\n(?P<text>.+?)^```$", re.MULTILINE | re.DOTALL)
MARKERS = {"run", "run: last", "by hand", "needs systemd"}
OWN = ("/opt", "/root", "/home", "/tmp", "/run", "/var/lib")

# What `LoadCredential=` would do, then what the guide leads up to: the daemon's login applies its file, an app enqueues.
CHECKS = """
for instance in 1 2; do
    mkdir -p /run/credentials/$instance
    for file in /etc/tocsin/credentials/$instance/*; do
        install -o tocsin -m 400 $file /run/credentials/$instance/secret_$(basename $file)
    done
    runuser -u tocsin -- env CREDENTIALS_DIRECTORY=/run/credentials/$instance \
        /opt/tocsin/bin/tocsin apply --config /etc/tocsin/$instance.toml
done
psql -h /run/postgresql -U ward-app -d tocsin -Atc "select outcome from tocsin.enqueue('+447700900123', 'Hello')"
if runuser -u tocsin-owner -- cat /etc/tocsin/1.toml; then exit 1; fi
if runuser -u tocsin -- ls /etc/tocsin/credentials/1; then exit 1; fi
"""


def blocks(*markers: str) -> list[str]:
    return [found["text"] for found in BLOCK.finditer(GUIDE) if found["marker"] in markers]


def test_every_block_says_whether_it_is_tested():
    """A command that nobody ran must not look like one that was."""
    fences = re.findall(r"^```$", GUIDE, re.MULTILINE)
    toml = re.findall(r"^```toml$", GUIDE, re.MULTILINE)

    assert len(fences) == 2 * len(BLOCK.findall(GUIDE)) + len(toml)
    assert {found["marker"] for found in BLOCK.finditer(GUIDE)} == MARKERS
    for command in ("systemctl", "journalctl", "systemd-creds"):
        assert not any(command in text for text in blocks("run", "run: last"))


@pytest.mark.slow
async def test_the_guide_leads_to_an_instance_and_back(tmp_path: Path):
    """Whoever types it gets users, directories, roles, two instances whose files load, and an app that may enqueue."""
    needs("bwrap", "psql", "runuser", "systemd-sysusers", "systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("the guide is for root")
    scratch = tmp_path / "etc"
    shutil.copytree("/etc", scratch, symlinks=True, ignore_dangling_symlinks=True)
    bin_folder = tmp_path / "opt/tocsin-0.1.0/bin"
    bin_folder.mkdir(parents=True)
    (bin_folder.parent.parent / "tocsin").symlink_to("tocsin-0.1.0")
    program = bin_folder / "tocsin"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom dispatcher.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    sockets = tmp_path / "postgresql"
    sockets.mkdir()
    script = tmp_path / "guide.sh"
    last = "test ! -e /opt/tocsin\ntest ! -e /etc/systemd/system/tocsin@.service\n"
    script.write_text("set -eux\n" + "\n".join([*blocks("run"), CHECKS, *blocks("run: last"), last]), encoding="utf-8")

    with embedded.start(tmp_path / "server", durable=False) as server:
        async with UnixRelay(server.dsn(), sockets) as relay:
            await relay.open()
            process = await asyncio.create_subprocess_exec(
                "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
                *(word for place in OWN for word in ("--tmpfs", place)),
                "--bind", str(scratch), "/etc", "--bind", str(tmp_path / "opt"), "/opt",
                *mount("--ro-bind", *((place, place) for place in (sys.base_prefix, sys.prefix, str(ROOT), str(script)))),
                *mount("--bind", (str(sockets), "/run/postgresql")),
                "--die-with-parent", "--cap-add", "ALL", "--chdir", str(ROOT), "--clearenv", "--setenv", "PATH", os.defpath + ":/usr/sbin:/sbin",
                "bash", str(script),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = (each.decode() for each in await asyncio.wait_for(process.communicate(), 100))

    assert process.returncode == 0, out + err
    assert "applied 0001" in out
    assert "queued" in out.splitlines()
    users = (scratch / "passwd").read_text(encoding="utf-8")
    assert {"tocsin", "tocsin-owner"} <= {line.partition(":")[0] for line in users.splitlines()}
    assert (scratch / "tocsin/credentials/1").stat().st_mode & 0o777 == 0o700
