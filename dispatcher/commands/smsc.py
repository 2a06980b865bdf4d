"""``tocsin smsc``: the SMSC simulator, for trying an application or a configuration against.

It needs no configuration file and no database. It listens on the loopback interface only, obeys lines on standard
input while it runs, and ends with code 0 on SIGINT, SIGTERM or ``quit``. A log that cannot be written any more ends
it with code 1: evidence with a hole in it is worse than none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dispatcher.commands.terminal import DONE, REFUSED, USAGE, Stopped, check_text, shown
from gateway.smsc import ANNOTATED, DIALECTS, FORMS, Console, PduLog, Scenario, load, read_password

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.smsc import Smsc

PORT: Final = 2775  # SMPP's, as registered
PASSWORD_VARIABLE: Final = "TOCSIN_SMSC_PASSWORD"  # noqa: S105  # its name
STDIN, STDOUT, STDERR = 0, 1, 2
LONGEST_LINE: Final = 65_536  # octets of one command
LONGEST_SYSTEM_ID: Final = 15  # SMPP v3.4 section 5.2.1
LONGEST_PASSWORD: Final = 64
LONGEST_S: Final = 86_400.0


def _span(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Read seconds, or two numbers of them with a dash between: evenly from the one to the other."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*)(?:-(\d+\.?\d*))?", value, re.ASCII)
    least, most = (float(match[1]), float(match[2] or match[1])) if match is not None else (1.0, 0.0)
    if not least <= most <= LONGEST_S:
        raise click.BadParameter("must be seconds, or LEAST-MOST seconds")
    return least, most


@click.command("smsc", epilog="Example: tocsin smsc --account clinic:secret --receipt-delay 2-10")
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0 takes any free one.")
@click.option(
    "--scenario", metavar="FILE", help="What goes wrong, test numbers, accounts, MO messages; or a shipped one's name."
)
@click.option("--print-scenario", is_flag=True, help="Print a scenario file that explains every key, and end.")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="ID[:PASSWORD]",
    help=f"Who may bind; may be repeated. Without the password, it is taken from {PASSWORD_VARIABLE}.",
)
@click.option("--password-file", metavar="FILE", help="Password of every --account that has none.")
@click.option("--latency", callback=_span, metavar="SECONDS[-SECONDS]", help="From a submit_sm to its answer.")
@click.option("--receipt-delay", callback=_span, metavar="SECONDS[-SECONDS]", help="From the answer to the receipt.")
@click.option("--message-ids", type=click.Choice(list(FORMS)), help="Form of the message ids in answers.")
@click.option("--receipt-ids", type=click.Choice(["same", *FORMS]), help="Their form in receipts.")
@click.option("--receipts", type=click.Choice(list(DIALECTS)), help="Dialect of the receipts.")
@click.option("--seed", type=click.IntRange(0, 0xFFFF_FFFF), help="Repeat the chances of another run with this seed.")
@click.option("--log", "log_file", metavar="FILE", help="Append every PDU as a line of JSON; - is standard output.")
@click.option(
    "--log-texts", is_flag=True, help="Show whole numbers and texts in the log. They are private: mind the file."
)
def smsc_command(
    *,
    port: int,
    scenario: str | None,
    print_scenario: bool,
    accounts: tuple[str, ...],
    password_file: str | None,
    seed: int | None,
    log_file: str | None,
    log_texts: bool,
    **behaviour: Any,
) -> int:
    """Simulate an SMSC on 127.0.0.1, to test applications and configurations against.

    Everybody may bind unless accounts are given. It reads commands from standard input; `help` lists them. The
    options replace what a scenario file says.
    """
    if print_scenario:
        click.echo(ANNOTATED.read_text(encoding="utf-8"), nl=False)
        return DONE
    if log_texts and log_file is None:
        raise click.UsageError("--log-texts needs --log")
    for name, value in (("--scenario", scenario), ("--log", log_file), ("--password-file", password_file)):
        check_text(name, value)
    played = Scenario() if scenario is None else load(scenario)
    names = {"latency": "latency_s", "receipt_delay": "receipt_delay_s", "receipt_ids": "receipt_message_ids"}
    changes = {names.get(key, key): value for key, value in behaviour.items() if value is not None}
    if accounts:
        changes["accounts"] = _accounts(accounts, password_file)
    elif password_file is not None:
        raise click.UsageError("--password-file needs --account")
    played = replace(
        played,
        settings=replace(played.settings, port=port, **changes),
        seed=played.seed if seed is None else seed,
    )
    return asyncio.run(_run(played, log_file, texts=log_texts))


def _accounts(given: tuple[str, ...], password_file: str | None) -> dict[str, str]:
    """Give the passwords by system_id. No error repeats a password."""
    accounts: dict[str, str] = {}
    for account in given:
        system_id, colon, password = account.partition(":")
        if not (0 < len(system_id) <= LONGEST_SYSTEM_ID and system_id.isascii() and system_id.isprintable()):
            raise Stopped(USAGE, f"--account: a system_id has 1 to {LONGEST_SYSTEM_ID} printable ASCII characters")
        if system_id in accounts:
            raise Stopped(USAGE, f"--account {system_id}: stands there twice")
        if not colon:
            password = _common_password(system_id, password_file)
        if not (len(password) <= LONGEST_PASSWORD and password.isascii() and (not password or password.isprintable())):
            raise Stopped(
                USAGE,
                f"--account {system_id}: the password must be printable ASCII, at most {LONGEST_PASSWORD} characters",
            )
        accounts[system_id] = password
    return accounts


def _common_password(system_id: str, password_file: str | None) -> str:
    if password_file is not None:
        try:
            return read_password(Path(password_file))
        except ValueError as error:
            raise Stopped(USAGE, f"--password-file: {error}") from None
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        raise Stopped(USAGE, f"--account {system_id}: add :PASSWORD, --password-file or {PASSWORD_VARIABLE}")
    return password


async def _run(scenario: Scenario, log_file: str | None, *, texts: bool) -> int:
    """Simulate until somebody says to stop."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    with contextlib.ExitStack() as stack:
        log = None
        if log_file is not None:
            log = stack.enter_context(contextlib.closing(_LogFile(log_file, over.set)))
        smsc = scenario.smsc(PduLog(log.write, texts=texts) if log is not None else None)
        try:
            await smsc.start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error.strerror  # asyncio's own words are longer
            raise Stopped(USAGE, f"--port {scenario.settings.port}: {reason}") from None
        try:
            say = STDERR if log_file == "-" else STDOUT
            _tell_where(smsc, say)
            console = Console(smsc)
            _listen(lambda line: _obey(console, line, say, over), loop)
            await over.wait()
        finally:
            await smsc.stop()
        if log is not None and log.failure is not None:
            raise Stopped(REFUSED, f"--log {log_file}: {log.failure}; the log is not complete, the simulator has ended")
    return DONE


def _tell_where(smsc: Smsc, say: int) -> None:
    accounts = smsc.settings.accounts
    who = "any account may bind" if accounts is None else f"accounts: {', '.join(sorted(accounts))}"
    hint = "; `help` lists the commands" if sys.stdin is not None and sys.stdin.isatty() else ""
    if smsc.pdu_log is not None:
        smsc.pdu_log.event("listening", port=smsc.port)
    try:
        _write(say, f"SMSC simulator listens on 127.0.0.1:{smsc.port}; {who}{hint}\n".encode())
    except OSError as error:
        raise Stopped(REFUSED, f"standard output: {error.strerror}") from None


def _obey(console: Console, line: str, say: int, over: asyncio.Event) -> None:
    reply = "\n".join(map(shown, console.obey(line).splitlines()))
    if reply:
        with contextlib.suppress(OSError):  # whoever typed has gone
            _write(say, f"{reply}\n".encode())
    if console.is_over:
        over.set()


class _LogFile:
    """Writes lines at once, up to the first that cannot be written."""

    def __init__(self, path: str, on_failure: Callable[[], None]) -> None:
        self.failure: str | None = None  # what the system said
        self._on_failure = on_failure
        self._is_ours = path != "-"
        try:
            # private: it may hold numbers and texts
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if self._is_ours else STDOUT
        except OSError as error:
            raise Stopped(USAGE, f"--log {path}: {error.strerror}") from None

    def write(self, line: str) -> None:
        """Write a line, or remember why not."""
        if self.failure is None:
            try:
                _write(self._file, line.encode())
            except OSError as error:
                self.failure = error.strerror or "cannot be written"
                self._on_failure()

    def close(self) -> None:
        """Let the file go."""
        if self._is_ours:
            with contextlib.suppress(OSError):
                os.close(self._file)


def _write(file: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(file, octets) :]


def _listen(obey: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
    """Have every line of standard input obeyed, in the loop; its end changes nothing."""
    if sys.stdin is None:
        return
    with contextlib.suppress(OSError, ValueError):
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background of a shell: an error instead of a stop
    threading.Thread(target=_read_lines, args=(obey, loop), name="standard input", daemon=True).start()


def _read_lines(obey: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
    """Read until the end. Not through sys.stdin: its lock would be held at the interpreter's end."""
    rest = b""
    with contextlib.suppress(OSError, RuntimeError):  # no terminal any more; the loop has ended
        while octets := os.read(STDIN, LONGEST_LINE):
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(obey, line.decode(errors="replace"))
            rest = rest[:LONGEST_LINE]
        if rest:
            loop.call_soon_threadsafe(obey, rest.decode(errors="replace"))
