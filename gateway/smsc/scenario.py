"""The scenario file as values: how the simulator behaves, what goes wrong, what it sends by itself.

``config/scenario.toml`` explains every key and states its default. The reading is strict: an unknown key, a
wrong type or an impossible value is a ``ConfigError`` of one line that names file, table and key.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import config
from config.reader import Between, ConfigError, Matching, Octets, Table
from gateway.errors import LocalError
from gateway.segment import count as count_segments
from gateway.smsc.deliveries import Dialect
from gateway.smsc.faults import KINDS, Fault, Kind, Plan
from gateway.smsc.ids import IdForm, ReceiptIdForm
from gateway.smsc.numbers import SHIPPED, Behaviour, NumberRule
from gateway.smsc.settings import Intermediate, SmscSettings
from gateway.smsc.smsc import Smsc
from gateway.smsc.traffic import Scheduled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.smsc.pdulog import PduLog

ANNOTATED: Final = Path(config.__file__).parent / "scenario.toml"  # explains every key
SHIPPED_SCENARIOS: Final = ANNOTATED.parent / "scenarios"
DAY_S: Final = 86_400.0

Seconds = Annotated[float, Between(0, DAY_S)]
Pause = Annotated[float, Between(0.001, DAY_S)]
SystemId = Annotated[str, Octets(1, 15)]  # SMPP v3.4 section 5.2.1
Password = Annotated[str, Octets(0, 64)]  # the specification's limit is 8, carriers exceed it
Handset = Annotated[str, Matching(r"\+?\d{3,15}", "a number of 3 to 15 digits")]
Address = Annotated[str, Octets(1, 20)]
Count = Annotated[int, Between(1, 1_000_000)]
SPAN: Final = "span"  # a number of seconds, or a list of two: evenly between these

TABLES: Final[Mapping[str, Mapping[str, Any]]] = {  # every key that is known, and what it may be
    "": {"seed": Annotated[int, Between(0, 0xFFFF_FFFF)]},
    "[smsc]": {
        "system_id": SystemId,
        "shipped_numbers": bool,
        "deliver_window": Annotated[int, Between(1, 10_000)],
        "first_sequence_number": Annotated[int, Between(0, 0xFFFF_FFFF)],
        "redelivery_s": Pause,
        "held_limit": Count,
    },
    "[[account]]": {"system_id": SystemId, "password": Password, "password_file": str},
    "[answers]": {"latency_s": SPAN, "message_ids": IdForm},
    "[receipts]": {
        "dialect": Dialect,
        "delay_s": SPAN,
        "message_ids": ReceiptIdForm,
        "intermediate": Intermediate,
        "copies": Annotated[int, Between(1, 100)],
        "before_answer": bool,
        "error": Annotated[str, Matching(r"[0-9A-Za-z]{0,4}", "at most 4 letters and digits")],
    },
    "[[number]]": {
        "pattern": Annotated[str, Matching(r"\+?[0-9*?]{1,20}", "digits, with * for any and ? for one of them")],
        "behaviour": Behaviour,
    },
    "[[mo]]": {
        "source": Handset,
        "destination": Address,
        "text": str,
        "system_id": SystemId,
        "after_s": Seconds,
        "every_s": Pause,
        "count": Count,
    },
    "[[fault]]": {
        "kind": Kind,
        "after_s": Seconds,
        "for_s": Pause,
        "skip": Annotated[int, Between(0, 1_000_000)],
        "every": Count,
        "share": Annotated[float, Between(0, 1)],
        "count": Count,
        "seconds": SPAN,
        "status": Annotated[int, Between(1, 0xFFFF_FFFF)],
        "per_s": Annotated[float, Between(0.01, 10_000)],
        "batch": Annotated[int, Between(2, 10_000)],
        "octets": Annotated[int, Between(1, 65_536)],
        "destination": Address,
    },
}
NEEDED: Final = {
    "[[account]]": ("system_id",),
    "[[number]]": ("pattern", "behaviour"),
    "[[mo]]": ("source", "destination", "text"),
    "[[fault]]": ("kind",),
}
SETTING_OF_KEY: Final = {  # keys that set a field of another name
    "[answers]": {},
    "[receipts]": {
        "dialect": "receipts",
        "delay_s": "receipt_delay_s",
        "message_ids": "receipt_message_ids",
        "copies": "receipt_copies",
        "before_answer": "receipt_first",
        "error": "receipt_error",
    },
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file, read; without one, a simulator that behaves well and has the shipped test numbers."""

    settings: SmscSettings = field(default_factory=SmscSettings)
    seed: int | None = None  # None: another run, other chances
    numbers: tuple[NumberRule, ...] = SHIPPED
    messages: tuple[Scheduled, ...] = ()
    faults: tuple[Fault, ...] = ()

    def smsc(self, pdu_log: PduLog | None = None) -> Smsc:
        """Make the simulator."""
        chance, plans = random.Random(self.seed), random.Random(self.seed)  # noqa: S311  # no secret
        plan = Plan(self.faults, self.numbers, chance=plans)
        return Smsc(self.settings, chance=chance, plan=plan, pdu_log=pdu_log, messages=self.messages)


def load(path: str | Path) -> Scenario:
    """Read and check a scenario file, or the shipped one of this name where there is no such file.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.

    """
    shipped = SHIPPED_SCENARIOS / f"{path}.toml"
    is_name = Path(path).name == str(path) and not Path(path).exists() and shipped.is_file()
    return _Reading(shipped if is_name else Path(path)).scenario()


class _Reading:
    """One reading of one file."""

    def __init__(self, path: Path) -> None:
        self._file = str(path)
        self._folder = path.absolute().parent  # what relative paths are relative to
        self._root = Table(self._file, "", _parsed(path))

    def scenario(self) -> Scenario:
        """Read it all."""
        names = [name.strip("[]") for name in TABLES if name]
        self._root.only([*TABLES[""], *names])
        values = self._values(Table(self._file, "", {k: v for k, v in self._root.entries.items() if k not in names}))
        smsc = self._table("[smsc]")
        has_shipped = smsc.pop("shipped_numbers", True)
        numbers = tuple(NumberRule(**self._values(table, "[[number]]")) for table in self._tables("[[number]]"))
        settings = SmscSettings(accounts=self._accounts(), **smsc, **self._table("[answers]"))
        return Scenario(
            settings=replace(settings, **self._table("[receipts]")),
            numbers=tuple(number._replace(pattern=number.pattern.removeprefix("+")) for number in numbers)
            + (SHIPPED if has_shipped else ()),
            messages=tuple(self._message(table, settings.accounts) for table in self._tables("[[mo]]")),
            faults=tuple(self._fault(table) for table in self._tables("[[fault]]")),
            **values,
        )

    def _table(self, name: str) -> dict[str, Any]:
        key = name.strip("[]")
        if key not in self._root.entries:
            return {}
        values = self._values(self._root.inner(key, name), name)
        fields = SETTING_OF_KEY.get(name, {})
        return {fields.get(key, key): value for key, value in values.items()}

    def _tables(self, name: str) -> list[Table]:
        entries = self._root.entries.get(name.strip("[]"), [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._root.error(name.strip("[]"), f"must be written as {name}, once for each")
        return [Table(self._file, f"{name} {number}", entry) for number, entry in enumerate(entries, start=1)]

    def _values(self, table: Table, name: str = "") -> dict[str, Any]:
        """Give the checked values of one table, by key; absent ones are left out."""
        known = TABLES[name]
        table.only(known)
        for key in NEEDED.get(name, ()):
            if key not in table.entries:
                raise table.error(key, "is missing")
        return {
            key: _span(table, key) if hint is SPAN else table.value(key, hint)
            for key, hint in known.items()
            if key in table.entries
        }

    def _accounts(self) -> dict[str, str] | None:
        accounts: dict[str, str] = {}
        for table in self._tables("[[account]]"):
            values = self._values(table, "[[account]]")
            if ("password" in values) == ("password_file" in values):
                raise table.error("password", "or password_file must be set, and not both")
            if values["system_id"] in accounts:
                raise table.error("system_id", "stands there twice")
            accounts[values["system_id"]] = values.get("password") or self._password(table, values)
        return accounts or None

    def _password(self, table: Table, values: dict[str, Any]) -> str:
        if "password_file" not in values:
            return ""
        try:
            return read_password(self._folder / values["password_file"])
        except ValueError as error:
            raise table.error("password_file", str(error)) from None

    def _message(self, table: Table, accounts: Mapping[str, str] | None) -> Scheduled:
        message = Scheduled(**self._values(table, "[[mo]]"))
        if message.system_id and accounts is not None and message.system_id not in accounts:
            raise table.error("system_id", "is none of [[account]]")
        try:
            count_segments(message.text)
        except LocalError as error:
            raise table.error("text", str(error)) from None
        return message

    def _fault(self, table: Table) -> Fault:
        values = self._values(table, "[[fault]]")
        own = {key for form in KINDS.values() for key in form.keys}
        for key in values:
            if key in own and key not in KINDS[values["kind"]].keys:
                raise table.error(key, f"is not read by a fault of kind {values['kind']}")
        return Fault(**values)


def read_password(path: Path) -> str:
    """Give the one line of a file. Raises ValueError, with a text that does not repeat it."""
    try:
        password = path.read_bytes().decode("ascii").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be printable ASCII") from None
    problem = Octets(1, 64).problem(password)
    if problem is not None:
        raise ValueError(f"the content of {path} {problem}")
    return password


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(str(path), "", "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", "", f"octet {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "", "", f"not TOML: {' '.join(str(error).split())}") from None


def _span(table: Table, key: str) -> tuple[float, float]:
    """Give a span of seconds: one number, or the least and the most."""
    given = table.entries[key]
    ends = given if isinstance(given, list) else [given]
    span = [Table(table.file, table.label, {key: end}).value(key, Seconds) for end in ends]
    if len(span) not in {1, 2} or span[0] > span[-1]:
        raise table.error(key, "must be a number of seconds, or [least, most]")
    return span[0], span[-1]
