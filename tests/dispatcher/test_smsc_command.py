"""``tocsin smsc`` as a process: what it prints, what it obeys, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from dispatcher import cli
from gateway.smsc import ANNOTATED
from tests.fakes.esme import WAIT_S, esme

LISTENS = re.compile(r"SMSC simulator listens on 127\.0\.0\.1:(\d+); (.*)\n")


class Simulator:
    """One process."""

    def __init__(self, process):
        self.process = process
        self.port = 0
        self.said = ""

    async def line(self):
        async with asyncio.timeout(WAIT_S):
            return (await self.process.stdout.readline()).decode()

    async def ask(self, command):
        self.process.stdin.write(f"{command}\n".encode())
        return await self.line()

    async def ended(self):
        async with asyncio.timeout(WAIT_S):
            code = await self.process.wait()
            return code, (await self.process.stderr.read()).decode()


@contextlib.asynccontextmanager
async def simulator(*arguments, environment=None, **streams):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dispatcher.cli", "smsc", "--port", "0"),
        *map(str, arguments),
        **{"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        | streams,
        env={**os.environ, **(environment or {})},
    )
    made = Simulator(process)
    try:
        match = LISTENS.fullmatch(await made.line())
        assert match is not None
        made.port, made.said = int(match[1]), match[2]
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()


def refused(capsys, *arguments):
    """Run the command in this process, where it ends before it listens."""
    code = cli.invoke(["smsc", "--port", "0", *map(str, arguments)])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return code, said.err


class TestRunning:
    """From its first line to its last."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_a_signal_ends_it_in_order(self, number):
        """Exit code 0, and nothing on standard error."""
        async with simulator() as smsc, esme(smsc.port):
            assert smsc.said == "any account may bind"
            smsc.process.send_signal(number)

            assert await smsc.ended() == (0, "")

    async def test_the_end_of_standard_input_is_not_its_end(self):
        """As a service it has none."""
        async with simulator(stdin=asyncio.subprocess.DEVNULL) as smsc, esme(smsc.port) as peer:
            peer.submit()
            assert (await peer.next()).command_status == 0

    async def test_it_obeys_lines(self):
        """A message goes out, the counts are told, faults come and go, and `quit` ends it."""
        async with simulator() as smsc, esme(smsc.port) as peer:
            assert await smsc.ask("mo +447700900123 88222 Я СОГЛАСЕН") == "sent to clinic in 1 deliver_sm\n"
            came = await peer.next()
            assert (came.pdu.source_addr, came.pdu.destination_addr) == (b"447700900123", b"88222")
            assert came.pdu.short_message.decode("utf-16-be") == "Я СОГЛАСЕН"
            peer.acknowledge(came)
            assert await peer.barrier() == []

            assert (await smsc.ask("status")).startswith(
                "1 connections, 1 bound, clinic receives; 0 submit_sm read, 1 "
            )
            assert await smsc.ask("throttle 600") == "throttle for 600 s\n"
            peer.submit()
            assert (await peer.next()).command_status == 0x58
            assert await smsc.ask("faults") == "throttle: 1 occasions, happened 1 times\n"
            assert (await smsc.ask("sing")).startswith("unknown command; one of mo, status, ")
            assert await smsc.ask("drop") == "1 connections reset\n"
            with pytest.raises(ConnectionResetError):
                await peer.next()
            assert await smsc.ask("quit") == "ended\n"

            assert await smsc.ended() == (0, "")

    async def test_at_a_terminal_it_tells_of_help_and_obeys(self):
        """What a person sees who has just typed the command."""
        terminal, other_end = pty.openpty()
        try:
            async with simulator(stdin=other_end) as smsc:
                assert smsc.said == "any account may bind; `help` lists the commands"
                os.write(terminal, b"status\n")
                assert (await smsc.line()).startswith("0 connections, 0 bound, nobody receives; ")
                os.write(terminal, b"quit\n")

                assert await smsc.ended() == (0, "")
        finally:
            os.close(other_end)
            os.close(terminal)

    async def test_a_file_of_commands_is_obeyed_to_its_last_word(self, tmp_path):
        """Without a line feed behind it."""
        file = tmp_path / "commands"
        file.write_text("mo clinic: 447700900123 88222 STOP\nquit")
        with file.open() as commands:
            async with simulator(stdin=commands) as smsc:
                assert await smsc.line() == "sent to clinic in 1 deliver_sm; it waits until the account receives\n"
                assert await smsc.ended() == (0, "")

    async def test_options_say_how_it_behaves(self):
        """Accounts, ids and receipts; the password of the second one comes from the environment."""
        async with simulator(
            *("--account", "clinic:secret", "--account", "ward"),
            *("--message-ids", "hex", "--receipt-ids", "decimal", "--receipts", "text_only"),
            *("--latency", "0.001-0.002", "--receipt-delay", "0.001"),
            environment={"TOCSIN_SMSC_PASSWORD": "hunter2"},
        ) as smsc:
            assert smsc.said == "accounts: clinic, ward"
            async with esme(smsc.port, kind="") as stranger:
                assert (await stranger.bind(system_id="ward", password="secret")).command_status == 0x0E
            async with esme(smsc.port, system_id="ward", password="hunter2") as peer:
                peer.submit()
                answer, receipt = await peer.next(), await peer.next()

                assert f"id:{int(answer.message_id, 16)} " in receipt.text

    async def test_a_scenario_is_played(self, tmp_path):
        """Its test number, its fault and its message."""
        file = tmp_path / "scenario.toml"
        file.write_text(
            """
            [[number]]
            pattern = "4477009001*"
            behaviour = "queue_full"
            [[fault]]
            kind = "double_answer"
            [[mo]]
            source = "+447700900123"
            destination = "88222"
            text = "STOP"
            """
        )
        async with simulator("--scenario", file) as smsc, esme(smsc.port) as peer:
            came = await peer.next_of("deliver_sm")
            assert came.text == "STOP"
            peer.submit("447700900123")

            assert [(await peer.next()).command_status for _ in range(2)] == [0x14, 0x14]


class TestLog:
    """The file of evidence."""

    async def test_it_tells_every_pdu_and_no_secret(self, tmp_path):
        """Both directions, in order; it is appended to and private."""
        file = tmp_path / "pdus.jsonl"
        file.write_text("{}\n")
        async with simulator("--log", file) as smsc:
            async with esme(smsc.port) as peer:
                peer.submit("447700900001", b"see me at nine", registered_delivery=0)
                await peer.next()
            await smsc.ask("quit")
            await smsc.ended()

        text = file.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        told = [(line.get("direction"), line.get("command") or line.get("event")) for line in lines[1:]]
        assert told == [
            (None, "listening"),
            (None, "connected"),
            ("in", "bind_transceiver"),
            ("out", "bind_transceiver_resp"),
            ("in", "submit_sm"),
            ("out", "submit_sm_resp"),
            (None, "closed"),
        ]
        assert not any(private in text for private in ("secret", "447700900001", "see me", b"see me".hex()))

    async def test_on_standard_output_it_is_alone(self):
        """The line for people goes to standard error, so that a program can read the log."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatcher.cli", "smsc", "--port", "0", "--log", "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate(b"status\nquit\n")

        assert process.returncode == 0
        assert [json.loads(line)["event"] for line in out.splitlines()] == ["listening"]
        assert LISTENS.match(err.decode())
        assert err.endswith(b"ended\n")

    async def test_texts_are_shown_where_they_are_asked_for(self, tmp_path):
        """A developer's own file, readable by nobody else."""
        file = tmp_path / "pdus.jsonl"
        async with simulator("--log", file, "--log-texts") as smsc, esme(smsc.port) as peer:
            peer.submit("447700900001", b"see me at nine")
            await peer.next()
            text = file.read_text()

        assert "447700900001" in text
        assert "see me at nine" in text
        assert "secret" not in text
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    async def test_a_reader_that_goes_away_ends_it(self):
        """As on a full disk."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatcher.cli", "smsc", "--port", "0", "--log", "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            port = json.loads(await process.stdout.readline())["port"]
            pipe = process._transport.get_pipe_transport(1)
            pipe.close()
            while pipe._pipe is not None:  # closed in a later turn of the loop; a connection may be made in this one
                await asyncio.sleep(0)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            code, said = await process.wait(), (await process.stderr.read()).decode()
            writer.close()

        assert code == 1
        assert said.splitlines()[1:] == [
            "tocsin: --log -: Broken pipe; the log is not complete, the simulator has ended"
        ]
        process._transport.close()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    async def test_a_full_disk_ends_it(self):
        """Evidence with a hole in it is worse than none: one line, exit code 1."""
        async with simulator("--log", "/dev/full") as smsc:
            code, said = await smsc.ended()

        assert code == 1
        assert said == (
            "tocsin: --log /dev/full: No space left on device; the log is not complete, the simulator has ended\n"
        )


class TestRefused:
    """What a user can get wrong is one line, and exit code 2."""

    def test_a_port_that_is_taken(self, capsys):
        """It says which."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            assert refused(capsys, "--port", port) == (2, f"tocsin: --port {port}: Address already in use\n")

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--scenario", "nowhere.toml"], "nowhere.toml: cannot be read: No such file or directory"),
            (["--log", "/nowhere/log"], "--log /nowhere/log: No such file or directory"),
            (["--log", "/"], "--log /: Is a directory"),
            (["--log-texts"], "--log-texts needs --log"),
            (["--account", "clinic"], "--account clinic: add :PASSWORD, --password-file or TOCSIN_SMSC_PASSWORD"),
            (["--account", ":secret"], "--account: a system_id has 1 to 15 printable ASCII characters"),
            (["--account", "a:b", "--account", "a:c"], "--account a: stands there twice"),
            (["--account", "a:é"], "--account a: the password must be printable ASCII, at most 64 characters"),
            (["--password-file", "x"], "--password-file needs --account"),
            (
                ["--account", "a", "--password-file", "nowhere"],
                "--password-file: nowhere cannot be read: No such file or directory",
            ),
            (["--latency", "2-1"], "Invalid value for '--latency': must be seconds, or LEAST-MOST seconds"),
            (
                ["--receipt-delay", "soon"],
                "Invalid value for '--receipt-delay': must be seconds, or LEAST-MOST seconds",
            ),
        ],
    )
    def test_what_an_option_says(self, capsys, monkeypatch, arguments, problem):
        """The line names the option."""
        monkeypatch.delenv("TOCSIN_SMSC_PASSWORD", raising=False)

        assert refused(capsys, *arguments) == (2, f"tocsin: {problem}\n")

    def test_what_a_scenario_says(self, capsys, tmp_path):
        """The line names file, table and key, and the nearest known key."""
        file = tmp_path / "scenario.toml"
        file.write_text('[[fault]]\nkind = "throttle"\nafter = 3\n')

        assert refused(capsys, "--scenario", file) == (
            2,
            f"tocsin: {file}: [[fault]] 1: after: unknown key; the nearest known key is after_s\n",
        )


def test_the_annotated_scenario_can_be_had(capsys):
    """Whoever installed the package has no source tree at hand."""
    assert cli.invoke(["smsc", "--print-scenario"]) == 0
    assert capsys.readouterr().out == ANNOTATED.read_text()
