"""``tocsin status``: the daemon's document, or what the database knows, and the exit code that says which."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys

import pytest
from rich.console import Console

from dispatcher import cli
from dispatcher.commands.status_view import duration, number, view
from dispatcher.status import EmergencyStatus, EventStatus
from tests.dispatcher.documents import document, lane, link
from tests.fakes.smsc import Smsc
from tests.journey.running import LINK, ROOT, Running, app_of, free_port, until, write_file

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
COMMAND = (sys.executable, "-c", "from dispatcher.cli import main; main()", "status", "--config")


def file_with_port(tmp_path, url, smsc_port, port):
    """A file that names the port to listen on."""
    path = write_file(tmp_path, url, {LINK: {"port": smsc_port}})
    path.write_text(path.read_text(encoding="utf-8").replace("127.0.0.1:0", f"127.0.0.1:{port}"), encoding="utf-8")
    return path


async def invoked(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``tocsin status``; the loop goes on meanwhile."""
    capsys.readouterr()  # what the daemon in this process logged
    code = await asyncio.to_thread(cli.invoke, ["status", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


async def test_the_daemon_that_listens_where_the_file_says_is_asked(tmp_path, queue_url, capsys):
    """Exit code 0, and what it says of itself."""
    async with Smsc() as smsc:
        path = file_with_port(tmp_path, queue_url, smsc.port, free_port())
        async with Running(path) as daemon:
            await daemon.until_bound()
            code, out, err = await invoked(capsys, "--config", str(path))
            assert (code, err) == (0, "")
            assert out.startswith("✓ emergencies flow\n")
            assert "1 of 1 links bound" in out
            code, out, err = await invoked(capsys, "--config", str(path), "--json")
            assert (code, err) == (0, "")
            status = json.loads(out)
            assert (status["source"], status["links"][0]["state"]) == ("daemon", "bound")


async def test_without_the_daemon_the_database_is_shown_with_code_1(tmp_path, queue_url, capsys):
    """A line says that the daemon does not answer; what only it knows is left open."""
    async with Smsc() as smsc, app_of(queue_url) as app:
        port = free_port()
        path = file_with_port(tmp_path, queue_url, smsc.port, port)
        async with Running(path) as daemon:
            await daemon.until_bound()
        await app.enqueue()
        code, out, err = await invoked(capsys, "--config", str(path))
        place = f"tocsin: {path}: [http] listen: 127.0.0.1:{port}"
        assert (code, err) == (
            1,
            f"{place}: the daemon does not answer: Connection refused: this is what the database knows\n",
        )
        assert out.startswith("✕ emergencies are stopped  no instance owns a link\n")
        assert "epoch 2, beat" in out  # it rises when a link is given back, too
        code, out, _ = await invoked(capsys, "--config", str(path), "--json")
        status = json.loads(out)
        assert (code, status["source"], status["ready"]) == (1, "database", None)
        assert (status["lanes"][3]["jobs"], status["links"][0]["owner"], status["links"][0]["segments_per_s"]) == (
            1,
            "nobody",
            None,
        )


async def test_port_0_is_no_address_to_ask(tmp_path, queue_url, capsys):
    """The system chose the port, and only the daemon's log tells it; the database is shown, with code 0."""
    path = write_file(tmp_path, queue_url, {LINK: {"port": 1}})
    code, _, err = await invoked(capsys, "--config", str(path))
    assert code == 0
    assert err.count("\n") == 1
    assert "the system chose the port" in err


async def test_neither_daemon_nor_database_is_one_line_and_code_3(tmp_path, capsys):
    """Both reasons stand in it."""
    path = file_with_port(tmp_path, NOWHERE, 1, free_port())
    for more in ([], ["--watch"], ["--json"]):
        code, out, err = await invoked(capsys, "--config", str(path), *more)
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "the daemon does not answer" in err
        assert "[database] url" in err


async def test_an_older_schema_is_named(tmp_path, empty_database_url, capsys):
    """The database is there, and has nothing of ours."""
    path = write_file(tmp_path, empty_database_url, {LINK: {"port": 1}})
    code, out, err = await invoked(capsys, "--config", str(path))
    assert (code, out) == (3, "")
    assert "run `tocsin migrate`" in err


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\n\r\n404",
        b"HTTP/1.1 200 OK\r\n\r\n\xff[",
    ],
)
async def test_something_else_that_listens_there_is_told_from_a_daemon(tmp_path, queue_url, capsys, answer):
    """An older version, another service, or one that hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        path = file_with_port(tmp_path, queue_url, 1, server.sockets[0].getsockname()[1])
        code, _, err = await invoked(capsys, "--config", str(path))
    assert code == 1
    assert err.count("\n") == 1
    assert "something else than a daemon of this version answers" in err


async def test_a_daemon_that_hangs_up_does_not_answer(tmp_path, queue_url, capsys):
    """It was killed while it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        path = file_with_port(tmp_path, queue_url, 1, server.sockets[0].getsockname()[1])
        code, _, err = await invoked(capsys, "--config", str(path))
    assert (code, err.count("\n")) == (1, 1)
    assert "the daemon does not answer" in err


async def test_watch_in_a_pipe_gives_a_line_a_look_and_ctrl_c_ends_it_with_130(tmp_path, queue_url):
    """A script reads JSON lines for as long as it likes."""
    async with Smsc() as smsc:
        path = file_with_port(tmp_path, queue_url, smsc.port, free_port())
        async with Running(path) as daemon:
            await daemon.until_bound()
            process = await asyncio.create_subprocess_exec(
                *COMMAND, str(path), "--watch", "--json", cwd=ROOT, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            looks = [json.loads(await asyncio.wait_for(process.stdout.readline(), 30)) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            await process.stdout.read()
            assert await asyncio.wait_for(process.wait(), 30) == 130
    assert looks[0]["at"] < looks[1]["at"]


async def test_a_reader_that_has_seen_enough_ends_the_watch_quietly(tmp_path, queue_url):
    """As in ``tocsin status --watch | head``."""
    async with Smsc() as smsc:
        path = file_with_port(tmp_path, queue_url, smsc.port, free_port())
        async with Running(path) as daemon:
            await daemon.until_bound()
            process = await asyncio.create_subprocess_shell(
                f"{sys.executable} -c 'from dispatcher.cli import main; main()' status --config {path} --watch | head -n 1; "
                'echo "${PIPESTATUS[0]}"',
                executable="/bin/bash",
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().splitlines() == ["✓ emergencies flow", "0"]


async def test_watch_on_a_terminal_is_redrawn_and_gives_the_screen_back(tmp_path, queue_url):
    """Links and lanes appear, Ctrl-C ends it, and what was on the screen before is there again."""
    async with Smsc() as smsc:
        path = file_with_port(tmp_path, queue_url, smsc.port, free_port())
        async with Running(path) as daemon:
            await daemon.until_bound()
            ours, its = pty.openpty()
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                str(path),
                "--watch",
                cwd=ROOT,
                stdin=its,
                stdout=its,
                stderr=its,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "132", "LINES": "40"},
            )
            os.close(its)
            os.set_blocking(ours, False)
            seen = b""

            async def drawn_twice() -> bool:
                nonlocal seen
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(ours, 65536)
                return seen.count("✓ emergencies flow".encode()) >= 2

            await until(drawn_twice, 30.0)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 30) == 130
            with contextlib.suppress(OSError):  # the other end is closed
                while octets := os.read(ours, 65536):
                    seen += octets
            os.close(ours)
    assert LINK.encode() in seen
    assert b"\x1b[?1049l" in seen  # xterm: leave the other screen
    assert b"\x1b[?25h" in seen  # and show the cursor


def drawn(status) -> str:
    console = Console(width=300, color_system=None)
    with console.capture() as text:
        console.print(view(status, None))
    return text.get()


def test_a_peers_words_cannot_drive_the_terminal():
    """What an SMSC wrote is shown, its control characters are not, and its brackets are no markup."""
    hostile = "\x1b]0;owned\x07[bold]"
    status = document(
        database=hostile,
        emergencies=EmergencyStatus("stopped", (hostile,)),
        links=(link(state="waiting", state_detail=hostile, owner="another", owner_instance=hostile),),
        events=(EventStatus(hostile, hostile, hostile, 1, 0.0, hostile),),
    )
    text = drawn(status)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]") == 8


def test_what_is_bounded_and_what_is_unknown_is_said():
    """10,000 and more is no exact figure, and null is not 0."""
    text = drawn(
        document(
            read_age_s=None,
            links=(link(limit_per_s=50, held_for_s=0.7),),
            lanes=(lane(0, jobs=10_000, at_least=True, oldest_s=75.0), lane(1, jobs=None, oldest_s=None)),
        )
    )
    assert ">= 10,000" in text
    assert "75 s" in text
    assert "50 of 50" in text
    assert "configured 100" in text
    assert "held 0.7 s" in text
    assert "(not read yet)" in text
    assert number(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (119, "119 s"), (120, "2 min"), (7260, "2 h 1 min"), (200_000, "2 days")],
)
def test_durations_read_as_people_say_them(seconds, words):
    """Seconds while they matter."""
    assert duration(seconds) == words
