"""What a person may tell a running simulator: one command a line, one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.errors import LocalError
from gateway.smsc.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.smsc.smsc import Smsc

COMMANDS: Final[dict[str, str]] = {  # how it is written: what it does
    "mo FROM TO TEXT": "send a message from a handset; \\n in the text is a line feed",
    "mo ACCOUNT: FROM TO TEXT": "the same, where several accounts receive",
    "status": "tell connections, accounts and counts",
    "faults": "tell each fault, how often it met its occasion and how often it happened",
    "drop": "reset all connections (TCP RST)",
    "unbind": "unbind all sessions",
    "throttle SECONDS": "answer submit_sm with ESME_RTHROTTLED for so long",
    "silence SECONDS": "ignore all that bound sessions write for so long",
    "help": "tell these commands",
    "quit": "end the simulator",
}
LONGEST_S: Final = 86_400.0
LONGEST_ADDRESS: Final = 20  # octets, SMPP v3.4 section 4.6.1


class CommandRefused(Exception):
    """The line is no command, or cannot be done now; its text is the reply."""


class Console:
    """Obeys lines."""

    def __init__(self, smsc: Smsc) -> None:
        self.is_over = False  # `quit` was said
        self._smsc = smsc
        self._commands: dict[str, Callable[[str], str]] = {
            "mo": self._mo,
            "status": self._status,
            "faults": self._faults,
            "drop": self._drop,
            "unbind": self._unbind,
            "throttle": lambda rest: self._for_a_while("throttle", rest),
            "silence": lambda rest: self._for_a_while("silence", rest),
            "help": self._help,
            "quit": self._quit,
        }

    def obey(self, line: str) -> str:
        """Do what a line says and give the reply; "" for an empty line."""
        word, _, rest = line.strip().partition(" ")
        if not word:
            return ""
        command = self._commands.get(word)
        if command is None:
            return f"unknown command; one of {', '.join(self._commands)}"
        try:
            return command(rest.strip())
        except CommandRefused as error:
            return str(error)

    def _mo(self, rest: str) -> str:
        first, _, others = rest.partition(" ")
        account = ""
        if first.endswith(":"):
            account, rest = first[:-1], others
        words = rest.split(maxsplit=2)
        if len(words) < 3:
            raise CommandRefused("mo needs FROM TO TEXT")
        source, destination, text = words
        digits = source.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
            raise CommandRefused("FROM must be a number of at most 15 digits")
        if not (destination.isascii() and len(destination) <= LONGEST_ADDRESS):
            raise CommandRefused(f"TO must be at most {LONGEST_ADDRESS} ASCII characters")
        accounts = self._smsc.settings.accounts
        if account and accounts is not None and account not in accounts:
            raise CommandRefused(f"unknown account; one of {', '.join(sorted(accounts))}")
        account = account or self._only_receiver()
        before = self._smsc.held
        try:
            self._smsc.send(digits, destination, text.replace("\\n", "\n"), system_id=account)
        except LocalError as error:
            raise CommandRefused(f"cannot be sent: {error}") from None
        waits = "" if account in self._smsc.receivers() else "; it waits until the account receives"
        return f"sent to {account} in {self._smsc.held - before} deliver_sm{waits}"

    def _only_receiver(self) -> str:
        """Give the account that a message without one goes to."""
        accounts = self._smsc.receivers() or sorted(self._smsc.settings.accounts or ())
        if len(accounts) == 1:
            return accounts[0]
        if accounts:
            raise CommandRefused(f"say which account: mo ACCOUNT: FROM TO TEXT, with one of {', '.join(accounts)}")
        raise CommandRefused("no account receives; bind first, or say which: mo ACCOUNT: FROM TO TEXT")

    def _status(self, _: str) -> str:
        smsc = self._smsc
        receivers = ", ".join(smsc.receivers()) or "nobody"
        return (
            f"{len(smsc.connections)} connections, {smsc.bound} bound, {receivers} receives;"
            f" {smsc.submitted} submit_sm read, {smsc.delivered} deliver_sm taken, {smsc.dropped} refused for good,"
            f" {smsc.held} messages still due"
        )

    def _faults(self, _: str) -> str:
        lines = [f"{one.fault.kind}: {one.met} occasions, happened {one.struck} times" for one in self._smsc.plan or ()]
        return "\n".join(lines) or "no faults"

    def _drop(self, _: str) -> str:
        connections = self._smsc.connections
        for connection in connections:
            connection.reset()
        return f"{len(connections)} connections reset"

    def _unbind(self, _: str) -> str:
        bound = self._smsc.bound
        for connection in self._smsc.connections:
            connection.unbind()
        return f"{bound} sessions unbound"

    def _for_a_while(self, kind: str, rest: str) -> str:
        try:
            seconds = float(rest)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= LONGEST_S:
            raise CommandRefused(f"{kind} needs SECONDS, above 0 and up to {LONGEST_S:.0f}")
        if self._smsc.plan is None:
            raise CommandRefused("this simulator was started without a plan")
        assert kind in {"throttle", "silence"}
        fault = Fault("throttle" if kind == "throttle" else "silence", self._smsc.elapsed_s, seconds)
        self._smsc.plan.add(fault)
        return f"{kind} for {seconds:g} s"

    def _help(self, _: str) -> str:
        width = max(map(len, COMMANDS))
        return "\n".join(f"{form:{width}}  {meaning}" for form, meaning in COMMANDS.items())

    def _quit(self, _: str) -> str:
        self.is_over = True
        return "ended"
