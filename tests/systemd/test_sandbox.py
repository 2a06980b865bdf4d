"""The daemon delivers a message under the unit's own restrictions, as far as they can be had without systemd.

Every directive is read out of the unit file. Those in ``APPLIED`` are in force during the test; those in
``NOT_APPLIED`` are printed with the reason. A directive in neither list fails the test.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from gateway.smsc import Smsc, SmscSettings
from tests.journey.database import queue_url, shared_database_url  # noqa: F401
from tests.journey.running import Relay, app_of, write_file
from tests.systemd.unit import DAEMON, service_section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INSTANCE = "1"
ROOT = Path(__file__).parent.parent.parent
NOBODY = 65_534
PASSWORD = "secret-7"
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/var/lib")  # by ProtectHome and PrivateTmp, or to be filled
TOOLS = ("bwrap", "systemd-analyze")

APPLIED = {
    "Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "User", "Group",
    "StateDirectory", "UMask", "LoadCredential", "LimitCORE", "LimitNOFILE", "CapabilityBoundingSet", "AmbientCapabilities",
    "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectProc",
    "ProtectHostname", "ProtectKernelTunables", "ProtectControlGroups", "RestrictAddressFamilies", "LockPersonality",
    "RestrictRealtime", "MemoryDenyWriteExecute", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber",
}  # fmt: skip
NOT_APPLIED = {
    "WatchdogSignal": "the service manager kills",
    "Restart": "the service manager starts again",
    "RestartSec": "the service manager starts again",
    "RestartPreventExitStatus": "the service manager starts again",
    "KillMode": "the service manager kills",
    "StateDirectoryMode": "the service manager makes the directory",
    "MemoryHigh": "needs a control group",
    "MemoryMax": "needs a control group",
    "MemorySwapMax": "needs a control group",
    "TasksMax": "needs a control group",
    "OOMScoreAdjust": "a lower score needs a capability",
    "PrivateUsers": "a user namespace of one user leaves none to change to",
    "DevicePolicy": "needs a control group",
    "ProtectClock": "no capability and no system call is left for it; its device filter needs a control group",
    "ProtectKernelModules": "no capability and no system call is left for it; /usr/lib/modules stays readable",
    "ProtectKernelLogs": "no capability and no system call is left for it",
    "RestrictNamespaces": "the filter of clone's flags is systemd's own",
    "RestrictSUIDSGID": "the filter of chmod's modes is systemd's own",
    "RemoveIPC": "the service manager clears up",
    "KeyringMode": "the service manager makes the keyring",
}


def needs(*tools: str) -> None:
    """Skip where a tool is missing; on CI that is a failure."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI lacks {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def system_calls(filters: list[str]) -> list[str]:
    """The calls that are left when each line adds its sets, or with `~` takes them away."""
    allowed = _expanded("@default")
    for line in filters:
        names = [call for word in line.removeprefix("~").split() for call in _expanded(word)]
        allowed = [call for call in allowed if call not in names] if line.startswith("~") else [*allowed, *names]
    assert len(set(allowed)) > 100
    return sorted(set(allowed) | {"execve"})


def _expanded(word: str) -> list[str]:
    if not word.startswith("@"):
        return [word]
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], check=True, capture_output=True, text=True
    ).stdout
    words = [line.strip() for line in told.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return [call for inner in words for call in _expanded(inner)]


class UnixRelay(Relay):
    """A way to the database over a Unix socket that the sandbox shows."""

    def __init__(self, database_url: str, folder: Path) -> None:
        super().__init__(database_url)
        self._folder = folder

    @property
    def url(self) -> str:
        target = urlsplit(self._target)
        return f"postgresql://{target.username}@{target.path}?host={self._folder}"

    async def open(self) -> None:
        path = self._folder / ".s.PGSQL.5432"
        self._server = await asyncio.start_unix_server(self._accepted, path)
        path.chmod(0o777)


class Manager:
    """What systemd is to the daemon: hears its notifications, sends signals, reads /proc."""

    def __init__(self, pid: int, process: asyncio.subprocess.Process, notify: socket.socket, log: Path) -> None:
        self.pid = pid
        self.process = process
        self._notify = notify
        self._log = log

    async def until_told(self, wanted: str, timeout_s: float) -> list[str]:
        """All datagrams up to the first that begins like this."""
        told: list[str] = []
        ended = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(timeout_s):
                while not told or not told[-1].startswith(wanted):
                    hearing = asyncio.create_task(asyncio.get_running_loop().sock_recv(self._notify, 65536))
                    done, _ = await asyncio.wait({hearing, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if hearing not in done:
                        hearing.cancel()
                        raise AssertionError(f"it ended; told: {told}; log: {self.log}")
                    told.append(hearing.result().decode())
        except TimeoutError:
            raise AssertionError(f"no {wanted}; told: {told}; log: {self.log}") from None
        finally:
            ended.cancel()
        return told

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def status(self) -> dict[str, str]:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def limit(self, name: str) -> tuple[str, str]:
        text = Path(f"/proc/{self.pid}/limits").read_text(encoding="ascii")
        found = re.search(rf"^{name} +(\S+) +(\S+)", text, re.MULTILINE)
        assert found is not None
        return found[1], found[2]


@asynccontextmanager
async def service(folder: Path, unit: dict[str, list[str]], configuration: Path) -> AsyncIterator[Manager]:
    """Start what the unit says, confined as the unit says."""
    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    credential, secrets = unit["LoadCredential"][0].split(":")
    assert secrets == f"/etc/tocsin/credentials/{INSTANCE}"
    given = folder / "credentials"
    given.mkdir()
    (given / f"{credential}_carrier-a").write_text(PASSWORD)
    state = folder / "state"
    state.mkdir()
    for path in (given, given / f"{credential}_carrier-a", state):
        os.chown(path, uid, uid if uid == NOBODY else -1)
        path.chmod(0o500 if path == given else 0o400 if path.is_file() else 0o700)
    state_directory = f"/var/lib/{unit['StateDirectory'][0]}"
    credentials = f"/run/credentials/tocsin@{INSTANCE}.service"

    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(folder / "notify"))
    notify.setblocking(False)
    (folder / "notify").chmod(0o777)

    started = unit["ExecStart"][0].split()
    assert started == ["/opt/tocsin/bin/tocsin", "run", "--config", f"/etc/tocsin/{INSTANCE}.toml"]
    main = "import sys; sys.argv[0] = 'tocsin'; from dispatcher.cli import main; main()"
    families = [int(getattr(socket, name)) for name in unit["RestrictAddressFamilies"][0].split()]
    assert unit["SystemCallErrorNumber"] == [errno.errorcode[errno.EPERM]]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    wanted = {
        "uid": uid,
        "umask": unit["UMask"][0],
        "limits": {
            name.removeprefix("Limit"): int(value[0]) for name, value in unit.items() if name.startswith("Limit")
        },
        "deny_write_execute": unit["MemoryDenyWriteExecute"] == ["yes"],
        "address_families": families,
        "system_calls": system_calls(unit["SystemCallFilter"]),
        "command": [sys.executable, "-c", main, "run", "--config", str(configuration)],
        "environment": {
            "PATH": "/usr/bin:/bin",
            "HOME": "/",
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(int(unit["WatchdogSec"][0]) * 1_000_000),
            "CREDENTIALS_DIRECTORY": credentials,
        },
    }
    rights = ["--cap-drop", "ALL"]
    if os.geteuid() == 0:  # confine.py needs these to become nobody, and drops them
        rights += [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    shown = [sys.base_prefix, sys.prefix, str(ROOT), str(folder)]
    reader, writer = os.pipe()
    log = folder / "service.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            "bwrap", "--ro-bind", "/", "/", "--dev", "/dev",
            *(word for place in HIDDEN for word in ("--tmpfs", place)),
            *mount("--ro-bind", *((place, place) for place in shown)),
            *mount("--bind", (str(state), state_directory)), *mount("--ro-bind", (str(given), credentials)),
            "--unshare-pid", "--unshare-uts", "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys",
            "--as-pid-1", "--new-session", "--die-with-parent", "--info-fd", str(writer), *rights, "--chdir", "/",
            sys.executable, str(ROOT / "tests/systemd/confine.py"), json.dumps(wanted),
            stdout=out, stderr=out, pass_fds=[writer],
        )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as told:
        answer = await asyncio.to_thread(told.read)
    assert answer, log.read_text(encoding="utf-8")
    pid = json.loads(answer)["child-pid"]
    try:
        yield Manager(pid, process, notify, log)
    finally:
        if process.returncode is None:
            os.kill(pid, signal.SIGKILL)  # becoming another user, it left the death of its parent behind
            await process.wait()
        notify.close()


def mount(how: str, *places: tuple[str, str]) -> list[str]:
    """Arguments that mount each source at its place; the folders above, where hidden, can be entered by all."""
    words = []
    for source, place in places:
        for above in reversed(Path(place).parents):
            if any(above.is_relative_to(hidden) for hidden in HIDDEN):
                words += ["--dir", str(above)]
        words += [how, source, place]
    return words


def seconds(unit: dict[str, list[str]], name: str) -> float:
    return float(unit[name][0])


@pytest.mark.slow
async def test_the_daemon_delivers_a_message_under_the_unit_s_restrictions(tmp_path, queue_url):  # noqa: F811
    """Each restriction that the unit names and the daemon cannot bear would show here first."""
    needs(*TOOLS)
    unit = service_section(DAEMON, INSTANCE)
    assert unit.keys() == APPLIED | NOT_APPLIED.keys(), "each directive is in exactly one of the lists"
    assert not APPLIED & NOT_APPLIED.keys()
    for name, why in NOT_APPLIED.items():
        print(f"not applied: {name}={' '.join(unit[name])} ({why})")

    tmp_path.chmod(0o711)
    async with Smsc(SmscSettings(accounts={"clinic": PASSWORD})) as smsc, UnixRelay(queue_url, tmp_path) as relay:
        link: dict[str, Any] = {"port": smsc.port, "password_file": "secret_carrier-a"}
        path = write_file(tmp_path, relay.url, {"carrier-a": link}, daemon={"state_dir": "/var/lib/tocsin/1"})
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('password = "secret"\n', ""), encoding="utf-8")
        async with service(tmp_path, unit, path) as daemon:
            told = await daemon.until_told("READY=1", seconds(unit, "TimeoutStartSec"))
            assert told == ["READY=1"]
            (status,) = await daemon.until_told("STATUS=", 10)
            assert status.startswith("STATUS=not ready; ")  # up, and waits for its database
            assert "WATCHDOG=1" in await daemon.until_told("WATCHDOG=1", seconds(unit, "WatchdogSec"))

            await relay.open()
            await daemon.until_told("STATUS=ready", 30)
            async with app_of(queue_url) as app:
                number = await app.enqueue(category="emergency")
                await app.until_state(number, "delivered", timeout_s=20)
            assert [each.system_id for each in smsc.log] == ["clinic"]

            facts = daemon.status()
            assert {facts[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
            assert facts["Uid"].split() == [str(NOBODY if os.geteuid() == 0 else os.getuid())] * 4
            assert (facts["NoNewPrivs"], facts["Seccomp"], facts["Umask"]) == ("1", "2", unit["UMask"][0])
            assert int(facts["Seccomp_filters"]) >= 2
            assert daemon.limit("Max open files") == (unit["LimitNOFILE"][0],) * 2
            assert daemon.limit("Max core file size") == (unit["LimitCORE"][0],) * 2
            print(f"threads {facts['Threads']} (TasksMax={unit['TasksMax'][0]}), most memory {facts['VmHWM']}")
            assert int(facts["Threads"]) < int(unit["TasksMax"][0])

            assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
            os.kill(daemon.pid, signal.SIGHUP)
            await daemon.until_told("RELOADING=1\n", 10)
            await daemon.until_told("READY=1", 10)
            assert '"reload_applied"' in daemon.log

            os.kill(daemon.pid, signal.SIGTERM)
            await daemon.until_told("STOPPING=1\n", 10)
            assert await asyncio.wait_for(daemon.process.wait(), seconds(unit, "TimeoutStopSec")) == 0, daemon.log
            assert "record_failed" not in daemon.log
            if "not applied: MemoryDenyWriteExecute" in daemon.log:
                print("not applied: MemoryDenyWriteExecute=yes (this kernel has no PR_SET_MDWE)")
