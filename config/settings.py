"""The configuration file as frozen values: ``load`` reads it, checks all of it, and reads the secrets it names.

Every default stands here, in the dataclasses, and nowhere else; ``tocsin.toml`` beside this file explains
each setting and a test holds it to these values. Nothing is repaired or guessed: the first thing that is
wrong ends the reading with a ``ConfigError``. Passwords and the database URL are in no ``repr``.
"""

import hashlib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from config import code_tables
from config.caps import CapSettings, caps
from config.code_tables import ReceiptReason, Verdict
from config.policy import PolicySettings
from config.reader import Between, ConfigError, Matching, Octets, Table, read
from config.recipients import Prefix
from config.replies import AutoReplySettings, KeywordSettings, keywords, replies
from config.windows import HoursSettings, WindowSettings, hours, windows

DAY_S = 86_400.0
EMBEDDED = "embedded:"  # a database URL that names a directory instead of a server

Name = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "1 to 63 letters, digits, dots, dashes, underscores")
]
CategoryName = Annotated[str, Matching(r"[a-z][a-z0-9_]{0,30}", "1 to 31 lower-case letters, digits, underscores")]
Seconds = Annotated[float, Between(0.001, 3650 * DAY_S)]
Octet = Annotated[int, Between(0, 255)]
NationalTable = Literal[
    "turkish-single", "turkish-locking", "spanish-single", "portuguese-single", "portuguese-locking"
]

SENDER_FORM = re.compile(r"\+[1-9]\d{6,14}|\d{3,15}|(?=.*[A-Za-z])[ -Z_a-z]{1,11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """``[daemon]``: this instance and its deadlines."""

    instance: Name = "1"
    state_dir: Path = Path("/var/lib/tocsin/1")  # the last part follows `instance`
    drain_timeout_s: Annotated[float, Between(0, 3600)] = 30.0
    receipt_wait_s: Seconds = 3600.0  # an unmatched receipt is kept open this long
    reassembly_wait_s: Annotated[float, Between(1, 86_400)] = 600.0
    unknown_after_s: Seconds = 2 * DAY_S  # beyond the validity period
    doubt_resend_s: Seconds = 60.0
    takeover_s: Annotated[float, Between(1, 3600)] = 10.0
    failover_after_s: Seconds = 30.0
    failover_after_urgent_s: Seconds = 3.0
    retention_days: Annotated[int, Between(8, 400)] = 45


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """``[database]``: a PostgreSQL URL, or ``embedded:`` and an absolute directory."""

    url: str = field(default="postgresql://tocsin@127.0.0.1/tocsin", repr=False)
    password_file: str | None = None  # its content is in `url` after reading

    @property
    def embedded_directory(self) -> Path | None:
        """Where the embedded server keeps its data; None for a server of the user's own."""
        return Path(self.url.removeprefix(EMBEDDED)) if self.url.startswith(EMBEDDED) else None


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``[http]``: key ``listen`` is host and port. Port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 9464


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``[link.tls]``: without ``ca_file`` the system's authorities are trusted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None  # the name in the certificate; None: the host
    min_version: Literal["1.2", "1.3"] = "1.2"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """``[[link]]``: one carrier account."""

    name: Name
    hosts: tuple[str, ...]  # tried in this order
    system_id: Annotated[str, Octets(1, 15)]  # SMPP v3.4 section 5.2.1
    password: Annotated[str, Octets(0, 64)] = field(repr=False)  # the specification's limit is 8, carriers exceed it
    port: Annotated[int, Between(1, 65_535)] = 2775
    bind_type: Literal["transceiver", "transmitter+receiver"] = "transceiver"
    sessions: Annotated[int, Between(1, 64)] = 1
    window_size: Annotated[int, Between(1, 10_000)] = 50
    throughput_per_s: Annotated[int, Between(1, 100_000)] = 100
    enquire_link_s: Annotated[float, Between(0.1, 3600)] = 30.0
    response_timeout_s: Annotated[float, Between(0.1, 3600)] = 10.0
    bind_timeout_s: Annotated[float, Between(0.1, 3600)] = 10.0
    rebind_delay_s: Annotated[float, Between(0.05, 3600)] = 1.0  # the first wait; it doubles with each failure
    interface_version: Literal["3.3", "3.4", "5.0"] = "3.4"
    default_alphabet: Literal["gsm7", "latin1", "ascii"] = "gsm7"
    national_tables: tuple[NationalTable, ...] = ()
    substitute: bool = False  # typographic characters by plain ones, where the category allows it, too
    concatenation: Literal["udh8", "udh16", "sar", "payload"] = "udh8"
    flash: Literal["class0", "group_f", "dest_addr_subunit"] = "class0"
    flash_fallback: tuple[Literal["class0", "group_f", "dest_addr_subunit"], ...] = (
        "class0",
        "dest_addr_subunit",
        "group_f",
    )
    receipts: Literal["all", "failures", "none"] = "all"
    message_id_format: Literal["auto", "text", "hex", "decimal"] = "auto"
    text_receipts: bool = False  # also with esm_class 0 and without TLVs
    validity: Literal["relative", "absolute", "none"] = "relative"
    system_type: Annotated[str, Octets(0, 12)] = ""
    service_type: Annotated[str, Octets(0, 5)] = ""
    address_range: Annotated[str, Octets(0, 40)] = ""
    source_ton: Octet | None = None  # None: from the form of the address
    source_npi: Octet | None = None
    dest_ton: Octet | None = None
    dest_npi: Octet | None = None
    priority_flag: Annotated[int, Between(0, 3)] | None = None  # None: from the lane
    local_address: str | None = None
    tlv: tuple[tuple[int, bytes], ...] = ()  # tag, value: added to every submit_sm
    status_overrides: Mapping[int, Verdict] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    receipt_errors: Mapping[str, ReceiptReason] = field(  # code without zeros in front, upper case; "*": any other
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    account: str = ""  # links that share receipts; filled with the name when not given
    plaintext_acknowledged: bool = False
    tls: TlsSettings | None = None

    @property
    def binds(self) -> int:
        """Sessions that are held when all of the link is bound: with transmitter+receiver each is two."""
        return self.sessions if self.bind_type == "transceiver" else 2 * self.sessions

    def __post_init__(self) -> None:
        """Let a link without a named account be an account of its own."""
        if not self.account:
            object.__setattr__(self, "account", self.name)


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """``[[sender]]``: an address that messages may come from."""

    address: str
    categories: tuple[CategoryName, ...]
    links: tuple[Name, ...] = ()  # empty: provisioned on every link


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """``[[route]]``: which links carry recipients that begin with these digits."""

    prefix: Prefix  # digits of an E.164 number, no plus; "" matches all
    links: tuple[Name, ...]  # in order of preference
    categories: tuple[CategoryName, ...] = ()  # empty: every one that has no route of its own at the prefix
    weights: tuple[
        Annotated[int, Between(0, 1000)], ...
    ] = ()  # shares of the numbers, one a link; empty: the first takes all


@dataclass(frozen=True, slots=True)
class CategorySettings:
    """``[[category]]``: what is promised to one kind of message."""

    name: CategoryName
    lane: Annotated[int, Between(0, 5)]
    time_to_live_s: Seconds = DAY_S
    on_doubt: Literal["resend", "hold"] = "hold"
    stop: bool = True
    consent: bool = False
    flash: Literal["yes", "no", "never"] = "no"
    max_parts: Annotated[int, Between(1, 255)] = 10
    keep_text_days: Annotated[int, Between(0, 3650)] = 0
    substitute: bool = True  # where a link does it
    job_states: bool = False  # apps hear of each state
    tlv: tuple[tuple[int, bytes], ...] = ()  # tag, value: added to its submit_sm, before the link's of the same tag


SHIPPED_CATEGORIES: tuple[CategorySettings, ...] = (
    CategorySettings("emergency", 0, time_to_live_s=3600.0, on_doubt="resend", flash="yes"),
    CategorySettings("staff", 1, time_to_live_s=1800.0, on_doubt="resend", stop=False, flash="yes"),
    CategorySettings("reply", 1, time_to_live_s=300.0, stop=False),
    CategorySettings("auth", 2, time_to_live_s=300.0, stop=False),
    CategorySettings("conversational", 2, time_to_live_s=DAY_S),
    CategorySettings("transactional", 3, time_to_live_s=DAY_S),
    CategorySettings("informational", 4, time_to_live_s=3 * DAY_S),
    CategorySettings("marketing", 5, time_to_live_s=3 * DAY_S, flash="never"),
)


TABLES = {  # of the file, by their heads, in its order
    "[daemon]": DaemonSettings,
    "[database]": DatabaseSettings,
    "[http]": HttpSettings,
    "[[link]]": LinkSettings,
    "[link.tls]": TlsSettings,
    "[[sender]]": SenderSettings,
    "[[route]]": RouteSettings,
    "[[category]]": CategorySettings,
    "[[auto_reply]]": AutoReplySettings,
    "[hours]": HoursSettings,
    "[[keyword]]": KeywordSettings,
    "[policy]": PolicySettings,
    "[[window]]": WindowSettings,
    "[[cap]]": CapSettings,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the file says. ``sha256`` is of its octets, in hexadecimal."""

    daemon: DaemonSettings
    database: DatabaseSettings
    http: HttpSettings
    links: tuple[LinkSettings, ...]
    senders: tuple[SenderSettings, ...]
    routes: tuple[RouteSettings, ...]
    categories: tuple[CategorySettings, ...]  # the shipped ones, changed or not, then the added ones
    auto_replies: tuple[AutoReplySettings, ...]  # likewise
    policy: PolicySettings
    windows: tuple[WindowSettings, ...]
    hours: HoursSettings | None  # None: always open
    keywords: tuple[KeywordSettings, ...]
    caps: tuple[CapSettings, ...]
    path: Path
    sha256: str
    warnings: tuple[str, ...] = ()  # one line each: allowed, but a person should know


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the file, with ``TOCSIN_DATABASE_URL`` and ``CREDENTIALS_DIRECTORY`` from the environment.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.

    """
    return _Reading(Path(path), environ).settings()


class _Reading:
    """One reading of one file. Names in errors are as the user wrote them."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.file = str(path)
        self.environ = environ
        self.folder = path.absolute().parent  # what relative paths are relative to
        self.warnings: list[str] = []

    def settings(self) -> Settings:
        """Read it all."""
        octets, root = self._parse()
        root.only(head.strip("[]") for head in TABLES if "." not in head)
        links = tuple(self._link(table) for table in self._tables(root, "link", "name"))
        categories = self._categories(self._tables(root, "category", "name"))
        link_names = self._unique(root, "link", "name", [link.name for link in links])
        senders = self._senders(root, link_names, {category.name for category in categories})
        addresses = {sender.address for sender in senders}
        lanes = {category.name: category.lane for category in categories}
        return Settings(
            daemon=self._daemon(self._table(root, "daemon"), max(each.time_to_live_s for each in categories)),
            database=self._database(self._table(root, "database")),
            http=self._http(self._table(root, "http")),
            links=links,
            senders=senders,
            routes=self._routes(root, link_names, {category.name for category in categories}),
            categories=categories,
            auto_replies=replies(self._tables(root, "auto_reply", "kind"), addresses, closes="hours" in root.entries),
            keywords=keywords(self._tables(root, "keyword", "name"), addresses),
            policy=PolicySettings(**read(self._table(root, "policy"), PolicySettings)),
            windows=windows(self._tables(root, "window", ""), lanes),
            hours=hours(self._table(root, "hours")) if "hours" in root.entries else None,
            caps=caps(self._tables(root, "cap", ""), lanes),
            path=self.path,
            sha256=hashlib.sha256(octets).hexdigest(),
            warnings=tuple(self.warnings),
        )

    def _parse(self) -> tuple[bytes, Table]:
        try:
            octets = self.path.read_bytes()
        except OSError as error:
            raise ConfigError(self.file, "", "", f"cannot be read: {error.strerror}") from None
        try:
            return octets, Table(self.file, "", tomllib.loads(octets.decode()))
        except UnicodeDecodeError as error:
            raise ConfigError(self.file, "", "", f"octet {error.start} is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(self.file, "", "", f"not TOML: {' '.join(str(error).split())}") from None

    def _table(self, root: Table, name: str) -> Table:
        return root.inner(name, f"[{name}]") if name in root.entries else Table(self.file, f"[{name}]", {})

    def _tables(self, root: Table, name: str, key: str) -> list[Table]:
        """Give each ``[[name]]``, called by its key where it has one, else by its number."""
        entries = root.entries.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise root.error(name, f"must be written as [[{name}]], once for each")
        return [
            Table(
                self.file, f'[[{name}]] "{entry[key]}"' if _is_word(entry.get(key)) else f"[[{name}]] {number}", entry
            )
            for number, entry in enumerate(entries, start=1)
        ]

    def _unique(self, root: Table, table: str, key: str, names: Iterable[str]) -> set[str]:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ConfigError(root.file, f'[[{table}]] "{name}"', key, "stands there twice")
            seen.add(name)
        return seen

    def _daemon(self, table: Table, longest_s: float) -> DaemonSettings:
        values = read(table, DaemonSettings, special=["state_dir"])
        daemon = DaemonSettings(**values)
        needed = math.ceil((longest_s + daemon.unknown_after_s) / DAY_S) + 1
        if daemon.retention_days < needed:
            raise table.error(
                "retention_days",
                f"must be {needed} or more: the longest time_to_live_s, unknown_after_s, and a day"
                f" (a receipt would miss its message)",
            )
        if "state_dir" in table.entries:
            state_dir = self.folder / self._filled(table, "state_dir")
        else:
            state_dir = daemon.state_dir.parent / daemon.instance
        return replace(daemon, state_dir=state_dir)

    def _database(self, table: Table) -> DatabaseSettings:
        values = read(table, DatabaseSettings)
        named = table
        if self.environ.get("TOCSIN_DATABASE_URL"):
            table = Table("environment", "", {})
            url, key = self.environ["TOCSIN_DATABASE_URL"], "TOCSIN_DATABASE_URL"
        else:
            url, key = DatabaseSettings(**values).url, "url"
        if url.startswith(EMBEDDED):
            directory = url.removeprefix(EMBEDDED)
            if not directory:
                raise table.error(key, "must name a directory after embedded:")
            return DatabaseSettings(EMBEDDED + os.path.normpath(self.folder / directory))
        try:
            parts = urlsplit(url)
            scheme = parts.scheme
            for place in parts.netloc.rpartition("@")[2].split(","):  # several hosts: a primary and its standbys
                _ = urlsplit(f"//{place}").port  # a port that is none raises here
        except ValueError:
            scheme = ""
        if scheme not in {"postgresql", "postgres"} or not url.startswith(f"{scheme}://"):
            raise table.error(key, "must be postgresql://user@host/database or embedded:DIRECTORY")
        if "password_file" not in values:
            return DatabaseSettings(url)
        user, at, place = parts.netloc.rpartition("@")
        if not user or ":" in user:
            raise table.error(key, "must name a user and no password, as password_file is set")
        password = quote(self._secret(named, "password_file"), safe="")
        return DatabaseSettings(
            parts._replace(netloc=f"{user}:{password}{at}{place}").geturl(), values["password_file"]
        )

    def _http(self, table: Table) -> HttpSettings:
        table.only(["listen"])
        if "listen" not in table.entries:
            return HttpSettings()
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]]+)):(\d{1,5})", table.value("listen", str), re.ASCII)
        if match is None or int(match[3]) > 65_535:
            raise table.error("listen", "must be host:port or [address]:port, with a port from 0 to 65535")
        if match[1] and not _is_address(match[1]):
            raise table.error("listen", "has no IPv6 address in its brackets")
        return HttpSettings(match[1] or match[2], int(match[3]))

    def _link(self, table: Table) -> LinkSettings:
        special = ("host", "hosts", "password", "password_file", "tlv", "status_overrides", "receipt_errors", "tls")
        values = read(table, LinkSettings, special=special)
        values["hosts"] = _hosts(table)
        values["tls"] = self._tls(table)
        loopback = all(map(_is_loopback, values["hosts"]))
        if values["tls"] is None and not loopback and not values.get("plaintext_acknowledged"):
            problem = "must be true to send passwords, numbers and texts unencrypted; or add [link.tls]"
            raise table.error("plaintext_acknowledged", problem)
        if not _is_address(values.get("local_address", "127.0.0.1")):
            raise table.error("local_address", "must be an IP address of this host")
        if "account" in values and not _is_word(values["account"]):
            raise table.error("account", "must be 1 to 63 characters, none of them a control character")
        if "national_tables" in values:
            if values.get("default_alphabet", "gsm7") != "gsm7":
                raise table.error("national_tables", "needs default_alphabet gsm7")
            if values.get("concatenation", "udh8") not in ("udh8", "udh16"):
                raise table.error("national_tables", "needs a header in each segment: concatenation udh8 or udh16")
        if values.get("interface_version") == "3.3":
            self._check_3_3(table, values)
        values["password"] = self._password(table)
        values["tlv"] = code_tables.tlv(table)
        values["status_overrides"] = code_tables.status_overrides(table)
        values["receipt_errors"] = code_tables.receipt_errors(table)
        if len(values["password"]) > 8:
            self.warnings.append(
                f"{self.file}: {table.label}: the password has more than the 8 characters of SMPP v3.4;"
                " it is sent as it is"
            )
        return LinkSettings(**values)

    def _check_3_3(self, table: Table, values: dict[str, Any]) -> None:
        """Refuse what SMPP v3.3 does not have: optional parameters, and a bind for both directions."""
        for key, allowed in (("concatenation", ("udh8", "udh16")), ("flash", ("class0", "group_f")), ("tlv", ())):
            if key in table.entries and (key == "tlv" or values[key] not in allowed):
                raise table.error(key, "needs optional parameters, which interface_version 3.3 does not have")
        if "dest_addr_subunit" in values.setdefault("flash_fallback", ("class0", "group_f")):
            raise table.error("flash_fallback", "dest_addr_subunit needs interface_version 3.4 or newer")
        if values.get("bind_type", "transceiver") == "transceiver":
            self.warnings.append(
                f'{self.file}: {table.label}: SMPP v3.3 has no transceiver; most such SMSCs want "transmitter+receiver"'
            )

    def _password(self, table: Table) -> str:
        entries = table.entries
        if "password" in entries and "password_file" in entries:
            raise table.error("password", "and password_file exclude each other")
        if "password" in entries:
            return str(table.value("password", Annotated[str, Octets(0, 64)]))
        if "password_file" not in entries:
            raise table.error("password_file", "is missing")
        password = self._secret(table, "password_file")
        problem = Octets(1, 64).problem(password)
        if problem is not None:
            path = self._secret_path(table, "password_file")
            raise table.error("password_file", f"the content of {path} {problem}")
        return password

    def _secret(self, table: Table, key: str) -> str:
        """Give the content of the file that the key names, without the newline at its end."""
        path = self._secret_path(table, key)
        try:
            secret = path.read_bytes().decode("ascii").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise table.error(key, f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise table.error(key, f"{path} must be printable ASCII") from None
        if not secret:
            raise table.error(key, f"{path} is empty")
        return secret

    def _secret_path(self, table: Table, key: str) -> Path:
        """Give the file that the key names: as it is, in $CREDENTIALS_DIRECTORY, or beside the configuration."""
        name = self._filled(table, key)
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        if credentials:
            try:
                if (Path(credentials) / name).is_file():
                    return Path(credentials) / name
            except OSError as error:
                raise table.error(key, f"{credentials} cannot be searched: {error.strerror}") from None
        return self.folder / name

    def _filled(self, table: Table, key: str) -> str:
        value: str = table.value(key, str)
        if not value or "\0" in value:
            raise table.error(key, "must not be empty")
        return value

    def _tls(self, link: Table) -> TlsSettings | None:
        if "tls" not in link.entries:
            return None
        table = link.inner("tls", f"{link.label} [link.tls]")
        files = ("ca_file", "cert_file", "key_file")
        values: dict[str, Any] = read(table, TlsSettings, special=files)
        for key in files:
            if key in table.entries:
                values[key] = self._secret_path(table, key)
                if not os.access(values[key], os.R_OK) or not values[key].is_file():
                    raise table.error(key, f"{values[key]} cannot be read")
        if "cert_file" in values and "key_file" not in values:
            raise table.error("key_file", "is missing: cert_file needs it")
        if "key_file" in values and "cert_file" not in values:
            raise table.error("cert_file", "is missing: key_file needs it")
        if not values.get("server_name", "x").strip():
            raise table.error("server_name", "must not be empty")
        return TlsSettings(**values)

    def _senders(self, root: Table, links: set[str], categories: set[str]) -> tuple[SenderSettings, ...]:
        senders = []
        for table in self._tables(root, "sender", "address"):
            sender = SenderSettings(**read(table, SenderSettings))
            if SENDER_FORM.fullmatch(sender.address) is None:
                problem = "must be +E.164, a short code of 3 or more digits, or 1 to 11 characters with a letter"
                raise table.error("address", problem)
            _known(table, "categories", "category", sender.categories, categories)
            _known(table, "links", "link", sender.links, links)
            senders.append(sender)
        self._unique(root, "sender", "address", [sender.address for sender in senders])
        return tuple(senders)

    def _routes(self, root: Table, links: set[str], categories: set[str]) -> tuple[RouteSettings, ...]:
        routes = []
        for table in self._tables(root, "route", "prefix"):
            route = RouteSettings(**read(table, RouteSettings))
            _known(table, "links", "link", route.links, links)
            _known(table, "categories", "category", route.categories, categories)
            if route.weights and len(route.weights) != len(route.links):
                raise table.error("weights", "must be as many as links")
            if route.weights and not any(route.weights):
                raise table.error("weights", "must not all be 0")
            routes.append(replace(route, prefix=route.prefix.removeprefix("+")))
        self._unique(root, "route", "prefix", [route.prefix for route in routes if not route.categories])
        for category in sorted(categories):
            of_category = [route.prefix for route in routes if category in route.categories]
            self._unique(root, "route", f"prefix, for {category}", of_category)
        return tuple(routes)

    def _categories(self, tables: list[Table]) -> tuple[CategorySettings, ...]:
        shipped = {category.name: category for category in SHIPPED_CATEGORIES}
        result = dict(shipped)
        given: set[str] = set()
        for table in tables:
            name = table.value("name", CategoryName) if "name" in table.entries else None
            if name in given:
                raise table.error("name", "stands there twice")
            if name not in shipped:
                category = CategorySettings(
                    **read(table, CategorySettings, special=["tlv"]), tlv=code_tables.tlv(table)
                )
            else:
                category = _changed(table, shipped[name])
            given.add(category.name)
            result[category.name] = category
        return tuple(result.values())


def _changed(table: Table, shipped: CategorySettings) -> CategorySettings:
    """Apply the keys that are there to a shipped category."""
    kept = {item.name: getattr(shipped, item.name) for item in fields(CategorySettings)}
    absent = [key for key in kept if key not in table.entries]
    values = read(table, CategorySettings, special=[*absent, "tlv"])
    category = replace(shipped, **values, tlv=code_tables.tlv(table))
    if (category.lane == 0) != (shipped.lane == 0):
        raise table.error("lane", "of emergency must stay 0" if shipped.lane == 0 else "0 is not for this category")
    if shipped.flash == "never" and category.flash != "never":
        raise table.error("flash", f"of {shipped.name} is never, and no file can change it")
    return category


def _known(table: Table, key: str, what: str, names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            there = f"known are {', '.join(sorted(known))}" if known else f"the file has no [[{what}]]"
            raise table.error(key, f'there is no {what} "{name}"; {there}')


def _hosts(table: Table) -> tuple[str, ...]:
    if "host" in table.entries and "hosts" in table.entries:
        raise table.error("host", "and hosts exclude each other")
    if "hosts" in table.entries:
        key, hosts = "hosts", table.value("hosts", tuple[str, ...])
    elif "host" in table.entries:
        key, hosts = "host", (table.value("host", str),)
    else:
        raise table.error("host", "is missing")
    for host in hosts:
        name = re.fullmatch(
            r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?", host, re.ASCII
        )
        if name is None and not _is_address(host):
            raise table.error(key, "must be a host name or an IP address, without port")
    return tuple(hosts)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) < 64 and value.isprintable()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
