"""dispatcher/commands/carrier_trial.py: ``tocsin check --bind --send-to``, from the question to the table that is pasted."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from config.settings import load
from dispatcher.commands import carrier_trial
from dispatcher.state_directory import StateDirectory
from gateway.smsc import Scenario, SmscSettings
from tests.dispatcher.command import FILE, TO
from tests.fakes.smsc import Answer, Smsc
from tests.journey.running import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dispatcher.command import Command

pytestmark = pytest.mark.usefixtures("logging_restored")

NOWHERE = "postgresql://127.0.0.1:1/x"  # no database is needed
TABLE = re.compile(r"^\[\[link\]\]\n.*?(?=^Compare|^\d+ (?:other|deliver)|^It did not)", re.MULTILINE | re.DOTALL)
QUICK = "bind_timeout_s = 0.5\nresponse_timeout_s = 0.5\nthroughput_per_s = 1000\n"
SECOND = FILE.partition("[[sender]]")[0].partition("[[link]]")[2].replace("carrier-a", "carrier-b")


@contextmanager
def served(smsc) -> Iterator[Smsc]:
    """Run an SMSC on a loop of its own, so that the command may have this thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(smsc.__aenter__(), loop).result(10)
        yield smsc
    finally:
        asyncio.run_coroutine_threadsafe(smsc.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def simulator(**settings):
    return served(Scenario(settings=SmscSettings(**settings)).smsc())


def scripted(**given):
    smsc = Smsc()
    smsc.receipt_delay_s = 0.0
    for name, value in given.items():
        setattr(smsc, name, value)
    return served(smsc)


@pytest.fixture
def at(write):
    """Make a command over a file whose link leads to this port."""

    def make(port: int, file: str = FILE) -> Command:
        return write(NOWHERE, file.replace("port = 1\n", f"port = {port}\n{QUICK}"))

    return make


def tried(command: Command, *arguments: str, to: str = TO) -> int:
    """Exit code of a trial that is confirmed; the number is nowhere."""
    code = command("check", "--bind", "--send-to", to, "--yes", "--wait", "5s", *arguments)
    assert TO.lstrip("+") not in command.out + command.err
    return code


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("--send-to", TO, "--yes"), "--send-to needs --bind"),
            (("--bind", "--link", "carrier-a"), "--link needs --send-to"),
            (("--bind", "--sender", "Northside"), "--sender needs --send-to"),
            (("--bind", "--wait", "5s"), "--wait needs --send-to"),
            (("--yes",), "--yes needs --send-to"),
            (("--bind", "--send-to", "447700900123", "--yes"), "must be an E.164 number"),
            (("--bind", "--send-to", "+0447700900123", "--yes"), "must be an E.164 number"),
            (("--bind", "--send-to", "+44770090012345678", "--yes"), "must be an E.164 number"),
            (("--bind", "--send-to", TO, "--link", "carrier-x", "--yes"), "--link: must be one of carrier-a"),
            (("--bind", "--send-to", TO, "--sender", "Elsewhere", "--yes"), "--sender: must be one of [[sender]]"),
            (("--bind", "--send-to", TO, "--wait", "5", "--yes"), "is no duration"),
            (("--bind", "--send-to"), "--send-to"),
        ],
    )
    def test_wrong_usage_sends_nothing(self, offline, arguments, problem):
        """2, and one line that does not repeat the number."""
        assert offline("check", *arguments) == 2
        assert problem in offline.err
        assert not offline.out

    def test_of_several_links_one_must_be_named(self, write):
        """Nobody pays for the wrong one."""
        command = write(NOWHERE, FILE.replace("[[sender]]", f"[[link]]{SECOND}[[sender]]", 1))
        assert command("check", "--bind", "--send-to", TO, "--yes") == 2
        assert "--link: must name one of carrier-a, carrier-b" in command.err

    @pytest.mark.parametrize(
        ("file", "problem"),
        [
            ('[daemon]\nstate_dir = "state"\n', "no [[link]]"),
            (FILE.partition("[[sender]]")[0], 'no [[sender]] for link "carrier-a"'),
        ],
    )
    def test_a_file_with_nothing_to_send_by(self, write, file, problem):
        """2, as it names what is missing."""
        command = write(NOWHERE, file)
        assert command("check", "--bind", "--send-to", TO, "--yes") == 2
        assert problem in command.err


class TestConfirmation:
    def test_nothing_is_sent_where_nobody_can_be_asked(self, at):
        """How many, over which link, and that they cost money; then --yes is asked for."""
        with scripted() as smsc:
            command = at(smsc.port)
            code = command("check", "--bind", "--send-to", TO)
            assert code == 1
            assert not smsc.log
        assert "17 texts go over link carrier-a from Northside to +***23" in command.err
        assert "the carrier charges for 21 messages: repeat with --yes" in command.err

    @pytest.mark.parametrize(("typed", "submits"), [("n", 0), ("y", 20)])
    def test_a_person_is_asked(self, at, typed, submits):
        """On a real terminal, by a real process."""
        with scripted() as smsc:
            command = at(smsc.port)
            ours, theirs = pty.openpty()
            os.write(ours, f"{typed}\n".encode())
            words = ("check", "--config", str(command.path), "--bind", "--send-to", TO, "--wait", "5s")
            done = subprocess.run(
                [sys.executable, "-m", "dispatcher.cli", *words],
                check=False,
                cwd=ROOT,
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=60,
            )
            os.close(ours)
            os.close(theirs)
            assert len(smsc.received("submit_sm")) == submits
        assert "the carrier charges for 21 messages. Go on?" in done.stderr
        assert done.returncode == (0 if submits else 1)
        assert ("nothing was sent" in done.stderr) == (not submits)
        assert TO.lstrip("+") not in done.stdout + done.stderr

    @pytest.mark.parametrize("as_json", [True, False])
    def test_what_is_sent_is_told_with_yes_too(self, at, as_json):
        """It stands in whatever keeps the output, and before anything else."""
        with scripted() as smsc:
            command = at(smsc.port)
            assert tried(command, *(["--json"] if as_json else [])) == 0
        told = command.err if as_json else command.out
        assert told.partition("\n")[0].endswith("and the carrier charges for 21 messages")

    def test_a_running_daemon_keeps_its_binds(self, at):
        """1, and nothing is bound."""
        with scripted() as smsc:
            command = at(smsc.port)
            state = StateDirectory.open(command.path.parent / "state", "1")
            try:
                assert tried(command) == 1
            finally:
                state.close()
            assert not smsc.log
        assert "the daemon that runs now holds these binds" in command.err

    def test_no_daemon_can_start_meanwhile(self, at):
        """The state directory is held until the sessions have ended."""
        held = []

        def answer(_):
            try:
                StateDirectory.open(command.path.parent / "state", "1").close()
            except Exception as error:
                held.append(type(error).__name__)
            return Answer()

        with scripted(on_submit=answer) as smsc:
            command = at(smsc.port)
            assert tried(command) == 0
        assert held == ["StateDirectoryHeld"] * 20
        StateDirectory.open(command.path.parent / "state", "1").close()


def test_an_interrupt_unbinds(at):
    """A session that is left bound would refuse the daemon; what was sent stays sent."""
    with scripted(receipt_delay_s=None) as smsc:
        command = at(smsc.port)
        words = ("check", "--config", str(command.path), "--bind", "--send-to", TO, "--yes")
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher.cli", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # a shell that has the tests in the background lets them ignore it, and their children inherit that
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one call, no lock
        )
        wait_for(lambda: len(smsc.received("submit_sm")) == 20)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        wait_for(lambda: smsc.received("unbind"))
    assert process.returncode == 130
    assert "Traceback" not in said


class TestResult:
    def test_the_table_loads_where_it_is_pasted(self, at, tmp_path):
        """Every key that it has is one of [[link]], with a value that the file may have."""
        with simulator(message_ids="hex", receipt_message_ids="decimal") as smsc:
            command = at(smsc.port)
            assert tried(command) == 0
        table = TABLE.search(command.out)[0]
        (link,) = tomllib.loads(table)["link"]
        assert link == {
            "name": "carrier-a",
            "interface_version": "3.4",
            "concatenation": "udh8",
            "flash": "class0",
            "flash_fallback": ["class0", "dest_addr_subunit", "group_f"],
            "validity": "relative",
            "receipts": "all",
            "message_id_format": "decimal",
            "window_size": link["window_size"],
        }
        loaded = pasted(command, table, tmp_path)
        assert (loaded.flash, loaded.message_id_format, loaded.validity) == ("class0", "decimal", "relative")
        assert loaded.flash_fallback == ("class0", "dest_addr_subunit", "group_f")
        lines = table.splitlines()
        for key in link.keys() - {"name"}:
            assert lines[next(n for n, line in enumerate(lines) if line.startswith(f"{key} = ")) - 1].startswith("#")

    def test_refusals_are_in_the_table_and_it_still_loads(self, at, tmp_path):
        """The worst carrier that takes something: only the plain text."""

        def answer(submit):
            fields = submit.fields
            odd = fields["esm_class"] | fields["data_coding"] | fields["priority_flag"] | len(fields["validity_period"])
            tlvs = fields.keys() & {"sar_msg_ref_num", "message_payload", "dest_addr_subunit"}
            return Answer(status=0x43 if odd or tlvs else 0)

        with scripted(on_submit=answer) as smsc:
            command = at(smsc.port)
            assert tried(command) == 0
        table = TABLE.search(command.out)[0]
        (link,) = tomllib.loads(table)["link"]
        assert (link["flash_fallback"], link["validity"], link["priority_flag"]) == (["class0"], "none", 0)
        assert not link.keys() & {"flash", "concatenation"}
        assert pasted(command, table, tmp_path).priority_flag == 0
        assert "# concatenation was not learnt: udh8, udh16, sar, payload refused with ESME_RINVESMCLASS" in table
        assert "refused   ESME_RINVESMCLASS" in command.out

    def test_what_only_a_handset_shows_is_a_numbered_list(self, at):
        """With the texts as they were sent, but for those that were refused."""
        with scripted(on_submit=lambda s: Answer(status=0x104 if s.fields["data_coding"] == 0xF0 else 0)) as smsc:
            command = at(smsc.port)
            assert tried(command) == 0
        listed = command.out.partition("Compare on the handset")[2].splitlines()[1:]
        assert [int(line.partition(".")[0]) for line in listed] == [n for n in range(1, 18) if n != 12]
        assert " 2. text: Tocsin test 2 of 17: extension characters: € [ ] { } \\ ^ ~ |" in listed
        assert sum(" flash: shown at once" in line for line in listed) == 3

    def test_all_refused_is_exit_1(self, at):
        """And said of each."""
        with scripted(on_submit=lambda _: Answer(status=0x0B)) as smsc:
            command = at(smsc.port)
            assert tried(command) == 1
        assert command.out.count("refused   ESME_RINVDSTADR") == 17

    @pytest.mark.parametrize("as_json", [True, False])
    def test_not_bound_is_exit_1(self, at, as_json):
        """The carrier's own answer, with its place."""
        with scripted() as smsc:
            smsc.bind_statuses.append(0x0D)
            command = at(smsc.port)
            assert tried(command, *(["--json"] if as_json else [])) == 1
            assert not smsc.received("submit_sm")
        if as_json:
            document = json.loads(command.out)
            assert (document["bound"], document["problem"]) == (False, "bind_refused ESME_RBINDFAIL")
        else:
            assert f'[[link]] "carrier-a": 127.0.0.1:{smsc.port}: bind_refused ESME_RBINDFAIL' in command.err

    def test_the_same_for_a_machine(self, at):
        """One document, and nothing else on standard output."""
        with simulator() as smsc:
            command = at(smsc.port)
            assert tried(command, "--json", "--link", "carrier-a", "--sender", "Northside") == 0
        document = json.loads(command.out)
        assert (document["link"], document["to"], document["bound"]) == ("carrier-a", "+***23", True)
        assert (document["accepted"], document["problem"], document["left_to_smsc"]) == (17, None, 0)
        assert [text["number"] for text in document["texts"]] == list(range(1, 18))
        assert document["texts"][5]["receipts"][1]["state"] == "delivered"
        assert len(document["texts"][5]["answer_s"]) == 2
        assert document["settings"]["message_id_format"]["value"] == "text"
        assert document["settings"].keys() == tomllib.loads(document["table"])["link"][0].keys() - {"name"}
        assert "default_alphabet" in document["not_learnt"]

    def test_no_receipts_and_messages_of_others_are_told(self, at):
        """What was left to the SMSC, by number."""

        def answer(_):
            if not smsc.answers("deliver_sm"):
                smsc.deliver(short_message=b"not for you")
            return Answer()

        with scripted(receipt_delay_s=None, on_submit=answer) as smsc:
            command = at(smsc.port)
            assert command("check", "--bind", "--send-to", TO, "--yes", "--wait", "0.3s") == 0
            (answered,) = smsc.received("deliver_sm_resp")
        assert answered.status == 0x64
        assert "1 other receipts and messages came; they were left to the SMSC (ESME_RX_T_APPN)." in command.out
        assert "not for you" not in command.out
        assert "# receipts was not learnt: none came within 0.3 s" in command.out
        assert "receipts =" not in re.sub(r"^#.*$", "", TABLE.search(command.out)[0], flags=re.MULTILINE)

    def test_a_number_as_sender_is_masked_too(self, at):
        """It is a person's number in some clinics."""
        with scripted() as smsc:
            command = at(smsc.port, FILE.replace('"Northside"', '"+447700900999"'))
            assert tried(command) == 0
            assert smsc.received("submit_sm")[0].fields["source_addr"] == "447700900999"
        assert "from +***99 to +***23" in command.out
        assert "447700900999" not in command.out + command.err

    def test_a_terminal_without_utf_8_is_told_the_rest(self, monkeypatch):
        """The texts are sent and paid for by then."""
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "iso8859-1"))
        assert carrier_trial._printable("é € Ж 🙂") == "é ? ? ?"


def wait_for(condition, timeout_s: float = 20.0) -> None:
    """Wait until something holds that another thread brings about."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def pasted(command: Command, table: str, folder):
    """The link of a file into whose [[link]] the lines below the name were pasted."""
    lines = table.partition("\n")[2].partition("\n")[2]
    path = folder / "pasted.toml"
    file = command.path.read_text()
    path.write_text(file.replace('name = "carrier-a"\n', f'name = "carrier-a"\n{lines}', 1))
    (link,) = load(path).links
    return link
