"""The configuration file: what it may say, and the one line that tells what is wrong with it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from config.settings import SHIPPED_CATEGORIES, HttpSettings, LinkSettings, Settings, load

SMALL = """
[[link]]
name = "a"
host = "127.0.0.1"
system_id = "clinic"
password = "secret"
{link}
[[sender]]
address = "Northside"
categories = ["emergency"]
{sender}
[[route]]
prefix = ""
links = ["a"]
{rest}
"""


class Folder:
    """A configuration directory that tests write to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str, **environ: str) -> Settings:
        file = self.path / "tocsin.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, environ)

    def small(self, *, link: str = "", sender: str = "", rest: str = "", **environ: str) -> Settings:
        return self.load(SMALL.format(link=link, sender=sender, rest=rest), **environ)

    def problem(self, text: str, **environ: str) -> str:
        """The line that the user gets, without the folder."""
        with pytest.raises(Exception) as caught:
            self.load(text, **environ)
        line = str(caught.value)
        assert type(caught.value).__name__ == "ConfigError"
        assert "\n" not in line
        return line.replace(f"{self.path}/", "")

    def small_problem(self, *, link: str = "", sender: str = "", rest: str = "", **environ: str) -> str:
        return self.problem(SMALL.format(link=link, sender=sender, rest=rest), **environ)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_small_file_gets_the_defaults(folder):
    """What is not said is as the dataclasses say, and only there."""
    settings = folder.small()

    assert settings.links == (LinkSettings(name="a", hosts=("127.0.0.1",), system_id="clinic", password="secret"),)
    assert settings.links[0].account == "a"
    assert settings.http == HttpSettings()
    assert settings.categories == SHIPPED_CATEGORIES
    assert settings.senders[0].links == ()
    assert settings.warnings == ()


def test_an_empty_file_is_a_configuration(folder):
    """`tocsin migrate` needs a database and no link."""
    settings = folder.load("")

    assert settings.database.url == "postgresql://tocsin@127.0.0.1/tocsin"
    assert settings.links == settings.senders == settings.routes == ()


def test_the_file_and_its_hash_are_kept(folder):
    """The hash goes into the database beside what was applied, as evidence of which file it was."""
    settings = folder.small()

    octets = settings.path.read_bytes()
    assert settings.sha256 == hashlib.sha256(octets).hexdigest()
    assert settings.path == folder.path / "tocsin.toml"


def test_settings_cannot_be_changed(folder):
    """A running daemon's settings change by reading the file again and in no other way."""
    settings = folder.small(link='status_overrides = { "0x58" = "retry" }')

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.links[0].port = 1
    with pytest.raises(TypeError):
        settings.links[0].status_overrides[0x58] = "accepted"
    assert not hasattr(settings.links[0], "__dict__")


def test_equal_files_give_equal_links(folder):
    """SIGHUP rebinds a link only when its settings differ, the password included."""
    first = folder.small(link='status_overrides = { "0x58" = "retry" }').links[0]
    second = folder.small(link='status_overrides = { "88" = "retry" }').links[0]

    assert first == second
    assert hash(first) == hash(second)
    assert first != dataclasses.replace(second, password="other")


def test_every_link_key_arrives(folder):
    """Each key of the table has its attribute."""
    link = folder.small(
        link="""
        port = 3550
        bind_type = "transmitter+receiver"
        sessions = 2
        window_size = 10
        throughput_per_s = 40
        enquire_link_s = 15
        response_timeout_s = 5.5
        bind_timeout_s = 4.0
        rebind_delay_s = 0.5
        interface_version = "5.0"
        default_alphabet = "latin1"
        substitute = true
        concatenation = "sar"
        flash = "group_f"
        flash_fallback = ["group_f"]
        receipts = "failures"
        message_id_format = "hex"
        text_receipts = true
        validity = "absolute"
        system_type = "SMPP"
        service_type = "CMT"
        address_range = "^49"
        source_ton = 5
        source_npi = 0
        dest_ton = 1
        dest_npi = 1
        priority_flag = 3
        local_address = "::1"
        tlv = { "0x1400" = "00fF", "5121" = "" }
        status_overrides = { "0x00000400" = "retry", "69" = "misconfigured" }
        receipt_errors = { "0061" = "ABSENT", "a1" = "OPTED_OUT", "*" = "UNDELIVERED_SMSC" }
        account = "shared"
        """
    ).links[0]

    assert (link.port, link.sessions, link.window_size, link.throughput_per_s) == (3550, 2, 10, 40)
    assert link.enquire_link_s == 15.0
    assert isinstance(link.enquire_link_s, float)
    assert link.tlv == ((0x1400, b"\x00\xff"), (0x1401, b""))
    assert dict(link.status_overrides) == {0x400: "retry", 69: "misconfigured"}
    assert dict(link.receipt_errors) == {"61": "ABSENT", "A1": "OPTED_OUT", "*": "UNDELIVERED_SMSC"}
    assert (link.source_ton, link.source_npi, link.dest_ton, link.dest_npi, link.priority_flag) == (5, 0, 1, 1, 3)
    assert (link.account, link.local_address, link.bind_type) == ("shared", "::1", "transmitter+receiver")
    given = {item.name for item in dataclasses.fields(link) if getattr(link, item.name) != _default(item)}
    assert {item.name for item in dataclasses.fields(link)} - given == {
        "plaintext_acknowledged",
        "tls",
        "national_tables",
    }


@pytest.mark.parametrize(
    ("link", "line"),
    [
        (
            'concatenation = "sar"',
            "concatenation: needs optional parameters, which interface_version 3.3 does not have",
        ),
        ('concatenation = "payload"', "concatenation: needs optional parameters, which interface"),
        ('flash = "dest_addr_subunit"', "flash: needs optional parameters, which interface_version 3.3 does not have"),
        ('tlv = { "0x1400" = "00" }', "tlv: needs optional parameters, which interface_version 3.3 does not have"),
        ('flash_fallback = ["dest_addr_subunit"]', "flash_fallback: dest_addr_subunit needs interface_version 3.4 or"),
    ],
)
def test_smpp_3_3_has_no_optional_parameters(folder, link, line):
    """An SMSC of 3.3 would take them for the next PDU, or refuse each message."""
    assert line in folder.small_problem(link=f'interface_version = "3.3"\n{link}')


def test_smpp_3_3_goes_without_what_it_lacks(folder):
    """Flash falls back to what it has; that it has no transceiver is said."""
    settings = folder.small(link='interface_version = "3.3"')

    assert settings.links[0].flash_fallback == ("class0", "group_f")
    assert any("transceiver" in warning for warning in settings.warnings)


@pytest.mark.parametrize(
    ("link", "line"),
    [
        ('default_alphabet = "latin1"', "national_tables: needs default_alphabet gsm7"),
        ('concatenation = "sar"', "national_tables: needs a header in each segment: concatenation udh8 or udh16"),
        ('concatenation = "payload"', "national_tables: needs a header in each segment: concatenation udh8 or udh16"),
    ],
)
def test_national_tables_need_gsm7_and_a_header(folder, link, line):
    """A table that no segment names would be read as another."""
    assert line in folder.small_problem(link=f'national_tables = ["turkish-single"]\n{link}')


def test_a_category_may_have_tlvs_of_its_own(folder):
    """A shipped one and an added one."""
    tables = """
        [[category]]
        name = "marketing"
        tlv = { "0x1401" = "31" }
        [[category]]
        name = "lab_result"
        lane = 3
        tlv = { "0x1401" = "32" }
        """
    found = {category.name: category.tlv for category in folder.small(rest=tables).categories}

    assert (found["marketing"], found["lab_result"], found["staff"]) == (((0x1401, b"1"),), ((0x1401, b"2"),), ())


def _default(item: dataclasses.Field) -> object:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


@pytest.mark.parametrize(
    ("link", "line"),
    [
        ("windowsize = 3", "windowsize: unknown key; the nearest known key is window_size"),
        ("zzz = 3", "zzz: unknown key; the nearest known key is "),
        ("port = true", "port: must be a whole number, not true or false"),
        ("port = 0", "port: must be from 1 to 65535"),
        ("port = 2775.0", "port: must be a whole number, not a number with a fraction"),
        ('sessions = "1"', "sessions: must be a whole number, not a text"),
        ("window_size = 0", "window_size: must be from 1 to 10000"),
        ("enquire_link_s = true", "enquire_link_s: must be a number, not true or false"),
        ("enquire_link_s = 0", "enquire_link_s: must be from 0.1 to 3600"),
        ("response_timeout_s = -1.0", "response_timeout_s: must be from 0.1 to 3600"),
        ("response_timeout_s = inf", "response_timeout_s: must be a finite number"),
        ("bind_timeout_s = nan", "bind_timeout_s: must be a finite number"),
        ('receipts = "some"', "receipts: must be all, failures or none, not 'some'"),
        ('bind_type = "receiver"', "bind_type: must be transceiver or transmitter+receiver, not 'receiver'"),
        ("interface_version = 3.4", "interface_version: must be 3.3, 3.4 or 5.0, not a number with a fraction"),
        ("priority_flag = 4", "priority_flag: must be from 0 to 3"),
        ("dest_ton = 256", "dest_ton: must be from 0 to 255"),
        ('service_type = "TOOLONG"', "service_type: must have 0 to 5 characters, has 7"),
        ('system_type = "ä"', "system_type: must be printable ASCII"),
        ('hosts = ["b"]', "host: and hosts exclude each other"),
        ('local_address = "localhost"', "local_address: must be an IP address of this host"),
        ('account = ""', "account: must be 1 to 63 characters, none of them a control character"),
        ('tlv = "0x1400"', "tlv: must be a table, not a text"),
        ('tlv = { "x" = "00" }', 'tlv: tag "x" must be a number from 0x0000 to 0xFFFF'),
        ('tlv = { "0x10000" = "00" }', 'tlv: tag "0x10000" must be a number from 0x0000 to 0xFFFF'),
        ('tlv = { "0x1400" = "0" }', "tlv: the value of tag 0x1400 must be hexadecimal, at most 255 octets"),
        ('tlv = { "0x1400" = "00", "5120" = "00" }', "tlv: tag 0x1400 stands there twice"),
        ('tlv = { "0x0424" = "00" }', "tlv: tag 0x0424 is written by the gateway itself"),
        (
            'status_overrides = { "0" = "retry" }',
            "status_overrides: 0: must be a command_status from 0x1 to 0xFFFFFFFF",
        ),
        ('status_overrides = { "8" = "retry", "0x8" = "retry" }', "status_overrides: 0x8: stands there twice"),
        (
            'status_overrides = { "8" = "unanswered" }',
            "status_overrides: 8: must be accepted, throttled, retry, ambiguous, rejected, opted_out, misconfigured or link_fault, not 'unanswered'",
        ),
        (
            'receipt_errors = { "61" = "absnt" }',
            "receipt_errors: 61: is no reason of receipts; the nearest known is ABSENT",
        ),
        (
            'receipt_errors = { "61" = 1 }',
            "receipt_errors: 61: is no reason of receipts; the nearest known is ",
        ),
        ('receipt_errors = { "61" = "BUSY", "0061" = "BUSY" }', "receipt_errors: 0061: stands there twice"),
        ('receipt_errors = { "a1" = "BUSY", "A1" = "BUSY" }', "receipt_errors: A1: stands there twice"),
        (
            'receipt_errors = { "000" = "BUSY" }',
            "receipt_errors: 000: must be a code of 1 to 8 letters and digits, not all 0, or * for any other",
        ),
        (
            'receipt_errors = { "no code" = "BUSY" }',
            "receipt_errors: no code: must be a code of 1 to 8 letters and digits, not all 0, or * for any other",
        ),
        ('receipt_errors = "ABSENT"', "receipt_errors: must be a table, not a text"),
        ("plaintext_acknowledged = 1", "plaintext_acknowledged: must be true or false, not a number"),
        ("receipts = 2026-01-01", "receipts: must be all, failures or none, not a date or time"),
        ("tls = 1", "tls: must be a table, not a number"),
    ],
)
def test_a_wrong_link_setting_is_named(folder, link, line):
    """File, table, key and what is allowed: enough to mend it without a manual."""
    told = folder.small_problem(link=link)
    for key in ("status_overrides", "receipt_errors"):
        told = told.replace(f'"a" {key}', f'"a": {key}')

    assert told.startswith(f'tocsin.toml: [[link]] "a": {line}')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[link]]\nname = "a"', '[[link]] "a": system_id: is missing'),
        ('[[link]]\nsystem_id = "x"', "[[link]] 1: name: is missing"),
        ('[[link]]\nname = "a"\nsystem_id = "x"', '[[link]] "a": host: is missing'),
        ('[[link]]\nname = "a"\nsystem_id = "x"\nhosts = []', '[[link]] "a": hosts: must not be empty'),
        ('[[link]]\nname = "a"\nsystem_id = "x"\nhosts = ["b", "b"]', '[[link]] "a": hosts: item 2 stands there twice'),
        (
            '[[link]]\nname = "a"\nsystem_id = "x"\nhost = "b:2775"',
            '[[link]] "a": host: must be a host name or an IP address, without port',
        ),
        ('[[link]]\nname = "a"\nsystem_id = "x"\nhost = "::1"', '[[link]] "a": password_file: is missing'),
        (
            '[[link]]\nname = "a b"\nsystem_id = "x"',
            '[[link]] "a b": name: must be 1 to 63 letters, digits, dots, dashes, underscores',
        ),
        ('[link]\nname = "a"', "link: must be written as [[link]], once for each"),
        ("link = 1", "link: must be written as [[link]], once for each"),
        ("[[daemon]]", "daemon: must be a table, not a list"),
        ("[demon]", "demon: unknown key; the nearest known key is daemon"),
        ("[daemon]\nstate_dir = 1", "[daemon]: state_dir: must be a text in quotes, not a number"),
        ('[daemon]\nstate_dir = ""', "[daemon]: state_dir: must not be empty"),
        (
            '[daemon]\ninstance = ""',
            "[daemon]: instance: must be 1 to 63 letters, digits, dots, dashes, underscores",
        ),
        ("[daemon]\ndrain_timeout_s = -1", "[daemon]: drain_timeout_s: must be from 0 to 3600"),
        ("[daemon]\nreceipt_wait_s = 0", "[daemon]: receipt_wait_s: must be from 0.001 to 315360000"),
        (
            '[database]\nurl = "mysql://x"',
            "[database]: url: must be postgresql://user@host/database or embedded:DIRECTORY",
        ),
        ('[database]\nurl = "embedded:"', "[database]: url: must name a directory after embedded:"),
        (
            '[http]\nlisten = "9464"',
            "[http]: listen: must be host:port or [address]:port, with a port from 0 to 65535",
        ),
        (
            '[http]\nlisten = "::1:9464"',
            "[http]: listen: must be host:port or [address]:port, with a port from 0 to 65535",
        ),
        (
            '[http]\nlisten = "a:65536"',
            "[http]: listen: must be host:port or [address]:port, with a port from 0 to 65535",
        ),
        ('[http]\nlisten = "[1:2]:80"', "[http]: listen: has no IPv6 address in its brackets"),
        ("[http]\nport = 1", "[http]: port: unknown key; the nearest known key is listen"),
        ('[[category]]\nname = "x"', '[[category]] "x": lane: is missing'),
        ('[[category]]\nname = "x"\nlane = 6', '[[category]] "x": lane: must be from 0 to 5'),
        ("[[category]]\nlane = 3", "[[category]] 1: name: is missing"),
        (
            '[[category]]\nname = "X"\nlane = 3',
            '[[category]] "X": name: must be 1 to 31 lower-case letters, digits, underscores',
        ),
        ('[[category]]\nname = "emergency"\nlane = 1', '[[category]] "emergency": lane: of emergency must stay 0'),
        ('[[category]]\nname = "marketing"\nlane = 0', '[[category]] "marketing": lane: 0 is not for this category'),
        (
            '[[category]]\nname = "marketing"\nflash = "yes"',
            '[[category]] "marketing": flash: of marketing is never, and no file can change it',
        ),
        (
            '[[category]]\nname = "auth"\n[[category]]\nname = "auth"',
            '[[category]] "auth": name: stands there twice',
        ),
        ('[[category]]\nname = "auth"\nttl = 1', '[[category]] "auth": ttl: unknown key; the nearest known key is '),
        ("[[category]]\nname = 7", "[[category]] 1: name: must be a text in quotes, not a number"),
        ("x = [", "not TOML: "),
    ],
)
def test_a_wrong_file_is_one_line(folder, text, line):
    """No traceback for anything a user can cause."""
    assert folder.problem(text).startswith(f"tocsin.toml: {line}")


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            {"rest": '[[link]]\nname = "a"\nhost = "::1"\nsystem_id = "y"\npassword = "x"'},
            '[[link]] "a": name: stands there twice',
        ),
        (
            {"rest": '[[sender]]\naddress = "Northside"\ncategories = ["auth"]'},
            '[[sender]] "Northside": address: stands there twice',
        ),
        ({"rest": '[[route]]\nprefix = ""\nlinks = ["a"]'}, '[[route]] "": prefix: stands there twice'),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\n[[route]]\nprefix = "+49"\nlinks = ["a"]'},
            '[[route]] "49": prefix: stands there twice',
        ),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a", "b"]'},
            '[[route]] "49": links: there is no link "b"; known are a',
        ),
        ({"rest": '[[route]]\nprefix = "49"\nlinks = []'}, '[[route]] "49": links: must not be empty'),
        (
            {"rest": '[[route]]\nprefix = "049"\nlinks = ["a"]'},
            '[[route]] "049": prefix: must be the first digits of an E.164 number, or empty for all',
        ),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\ncategories = ["urgent"]'},
            '[[route]] "49": categories: there is no category "urgent"; known are auth, ',
        ),
        (
            {
                "rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\ncategories = ["auth", "staff"]\n'
                '[[route]]\nprefix = "+49"\nlinks = ["a"]\ncategories = ["staff"]'
            },
            '[[route]] "49": prefix, for staff: stands there twice',
        ),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\nweights = [1, 2]'},
            '[[route]] "49": weights: must be as many as links',
        ),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\nweights = [0]'},
            '[[route]] "49": weights: must not all be 0',
        ),
        (
            {"rest": '[[route]]\nprefix = "49"\nlinks = ["a"]\nweights = [-1]'},
            '[[route]] "49": weights: item 1 must be from 0 to 1000',
        ),
        ({"sender": 'links = ["b"]'}, '[[sender]] "Northside": links: there is no link "b"; known are a'),
        (
            {"rest": '[[sender]]\naddress = "12345"\ncategories = ["urgent"]'},
            '[[sender]] "12345": categories: there is no category "urgent"; known are auth, ',
        ),
        (
            {"rest": '[[sender]]\naddress = "12345"\ncategories = ["auth", 1]'},
            '[[sender]] "12345": categories: item 2 must be a text in quotes, not a number',
        ),
        (
            {"rest": '[[sender]]\naddress = "Northside Clinic"\ncategories = ["auth"]'},
            '[[sender]] "Northside Clinic": address: must be +E.164, a short code of 3 or more digits, or 1 to 11 characters with a letter',
        ),
    ],
)
def test_names_that_do_not_fit_together_are_found(folder, parts, line):
    """A route to a link that is not there would strand jobs at three in the morning."""
    assert folder.small_problem(**parts).startswith(f"tocsin.toml: {line}")


@pytest.mark.parametrize("address", ["+4915112345678", "12345", "116117", "Eastside", "A&E Ward-1", "N"])
def test_sender_addresses_of_each_kind_are_taken(folder, address):
    """International number, short code, alphanumeric."""
    settings = folder.small(rest=f'[[sender]]\naddress = "{address}"\ncategories = ["auth"]')

    assert settings.senders[-1].address == address


@pytest.mark.parametrize("address", ["", "12", "+0151", "Nörd", "twelve chars", "a\\tb", "+49 151 1"])
def test_sender_addresses_that_no_carrier_takes_are_refused(folder, address):
    """A wrong address would be found out by the first emergency."""
    assert "address: must be" in folder.small_problem(rest=f'[[sender]]\naddress = "{address}"\ncategories = ["auth"]')


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    """Missing, a directory, or not UTF-8."""
    (tmp_path / "latin").write_bytes(b"# \xe4\n")

    for name, problem in (("none", "cannot be read: "), (".", "cannot be read: "), ("latin", "octet 2 is not UTF-8")):
        with pytest.raises(Exception, match=problem) as caught:
            load(tmp_path / name, {})
        assert "\n" not in str(caught.value)


class TestPassword:
    """Passwords come from files, and are seen nowhere."""

    LINK = '[[link]]\nname = "a"\nhost = "127.0.0.1"\nsystem_id = "clinic"\n'

    def test_it_is_read_from_the_credentials_directory_first(self, folder, tmp_path):
        """The service manager puts it there, readable by the service alone."""
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "a").write_text("first\n")
        (tmp_path / "a").write_text("second\n")
        text = self.LINK + 'password_file = "a"'

        assert folder.load(text, CREDENTIALS_DIRECTORY=str(tmp_path / "credentials")).links[0].password == "first"
        assert folder.load(text).links[0].password == "second"

    def test_it_is_read_beside_the_file_when_there_are_no_such_credentials(self, folder, tmp_path):
        """The same file then works with and without systemd."""
        (tmp_path / "credentials").mkdir()
        (tmp_path / "a").write_text("second")

        settings = folder.load(self.LINK + 'password_file = "a"', CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"))

        assert settings.links[0].password == "second"

    @pytest.mark.parametrize(("content", "password"), [("p\n", "p"), ("p\r\n", "p"), ("p\n\n", None), (" p ", " p ")])
    def test_one_newline_at_its_end_is_ignored(self, folder, tmp_path, content, password):
        """Editors add it; blanks may belong to the password."""
        (tmp_path / "a").write_text(content, newline="")
        text = self.LINK + 'password_file = "a"'

        if password is None:
            assert "printable ASCII" in folder.problem(text)
        else:
            assert folder.load(text).links[0].password == password

    def test_a_missing_or_empty_file_is_named(self, folder, tmp_path):
        """Binding without a password would only show as a refusal by the carrier."""
        (tmp_path / "empty").write_text("\n")

        assert folder.problem(self.LINK + 'password_file = "none"') == (
            'tocsin.toml: [[link]] "a": password_file: none cannot be read: No such file or directory'
        )
        assert folder.problem(self.LINK + 'password_file = "empty"') == (
            'tocsin.toml: [[link]] "a": password_file: empty is empty'
        )
        assert folder.problem(self.LINK + 'password_file = ""').endswith("password_file: must not be empty")

    def test_two_of_them_are_refused(self, folder):
        """Nobody could tell which one was used."""
        text = self.LINK + 'password_file = "a"\npassword = "b"'

        assert folder.problem(text) == 'tocsin.toml: [[link]] "a": password: and password_file exclude each other'

    @pytest.mark.parametrize("password", ["sécret-7", "secret\\u0007", "s" * 65, "secret-7\\nx"])
    def test_it_is_in_no_error(self, folder, password):
        """Errors are logged."""
        told = folder.problem(self.LINK + f'password = "{password}"')

        assert "password: must" in told
        assert "cret" not in told
        assert "sss" not in told

    def test_it_is_in_no_repr(self, folder):
        """Tracebacks and debug output show reprs."""
        settings = folder.load(self.LINK + 'password = "secret-7"', TOCSIN_DATABASE_URL="postgresql://x:secret-8@h/d")

        assert "secret-" not in repr(settings)
        assert "secret-" not in str(settings)

    def test_a_long_one_is_allowed_with_a_warning(self, folder):
        """The specification ends at 8 characters, carriers do not."""
        settings = folder.load(self.LINK + 'password = "nine-char"')

        assert settings.warnings == (
            f'{settings.path}: [[link]] "a": the password has more than the 8 characters of SMPP v3.4; it is sent as it is',
        )


class TestPlaintext:
    """Texts cross a network unencrypted only when somebody signed for it."""

    LINK = '[[link]]\nname = "a"\nsystem_id = "clinic"\npassword = "x"\n'

    @pytest.mark.parametrize(
        "host", ["smsc.example.net", "192.0.2.1", "2001:db8::1", "localhost.example.net", "0.0.0.0"]
    )
    def test_other_hosts_need_tls_or_an_acknowledgement(self, folder, host):
        """Neither a name that resembles loopback nor a private network is loopback."""
        text = self.LINK + f'host = "{host}"\n'

        assert "plaintext_acknowledged: must be true" in folder.problem(text)
        assert "plaintext_acknowledged: must be true" in folder.problem(text + "plaintext_acknowledged = false")
        assert folder.load(text + "plaintext_acknowledged = true").links[0].plaintext_acknowledged
        assert folder.load(text + "[link.tls]").links[0].tls is not None

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
    def test_loopback_needs_none(self, folder, host):
        """The simulator and local stunnels."""
        assert folder.load(self.LINK + f'host = "{host}"').links[0].hosts == (host,)

    def test_one_remote_host_among_several_is_enough(self, folder):
        """The fail-over must not be the unencrypted one."""
        assert "must be true" in folder.problem(self.LINK + 'hosts = ["127.0.0.1", "192.0.2.1"]')


class TestTls:
    """[link.tls] names files, which must be there."""

    LINK = '[[link]]\nname = "a"\nhost = "192.0.2.1"\nsystem_id = "clinic"\npassword = "x"\n[link.tls]\n'

    def test_files_are_found_like_secrets(self, folder, tmp_path):
        """In the credentials directory, else beside the file."""
        (tmp_path / "credentials").mkdir()
        for name in ("ca.pem", "cert.pem", "credentials/key.pem"):
            (tmp_path / name).write_text("pem")

        tls = (
            folder.load(
                self.LINK + 'ca_file = "ca.pem"\ncert_file = "cert.pem"\nkey_file = "key.pem"\nserver_name = "smsc"',
                CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"),
            )
            .links[0]
            .tls
        )

        assert (tls.ca_file, tls.cert_file) == (tmp_path / "ca.pem", tmp_path / "cert.pem")
        assert (tls.key_file, tls.server_name) == (tmp_path / "credentials" / "key.pem", "smsc")

    @pytest.mark.parametrize(
        ("tls", "line"),
        [
            ('ca_file = "none.pem"', "ca_file: none.pem cannot be read"),
            ('cert_file = "tocsin.toml"', "key_file: is missing: cert_file needs it"),
            ('key_file = "tocsin.toml"', "cert_file: is missing: key_file needs it"),
            ('server_name = ""', "server_name: must not be empty"),
            ('ca = "x"', "ca: unknown key; the nearest known key is ca_file"),
        ],
    )
    def test_what_is_wrong_is_named(self, folder, tls, line):
        """TLS that fails at the first bind fails when nobody looks."""
        assert folder.problem(self.LINK + tls) == f'tocsin.toml: [[link]] "a" [link.tls]: {line}'


class TestPlaces:
    """Relative paths start at the file's folder, wherever the daemon was started."""

    def test_the_state_directory_follows_the_instance(self, folder):
        """Two instances on one host never share a local record by leaving a key out."""
        assert folder.load("").daemon.state_dir == Path("/var/lib/tocsin/1")
        assert folder.load('[daemon]\ninstance = "2"').daemon.state_dir == Path("/var/lib/tocsin/2")
        assert folder.load('[daemon]\nstate_dir = "x"').daemon.state_dir == folder.path / "x"
        assert folder.load('[daemon]\nstate_dir = "/x"').daemon.state_dir == Path("/x")

    def test_a_credentials_directory_that_cannot_be_searched_is_named(self, folder, tmp_path):
        """One line, where somebody's sandbox went wrong: here by a name that no file can have."""
        text = f'[database]\nurl = "postgresql://a@h/d"\npassword_file = "{"x" * 300}"'
        problem = folder.problem(text, CREDENTIALS_DIRECTORY=str(tmp_path))

        assert problem.endswith(f"[database]: password_file: {tmp_path} cannot be searched: File name too long")

    def test_a_database_password_may_stand_in_a_file(self, folder, tmp_path):
        """A secret that systemd hands over need not be written into the URL."""
        (tmp_path / "database").write_text("p@ss/:% 7\n")
        text = (
            '[database]\nurl = "postgresql://tocsin@db.example.net:5433/t?sslmode=require"\npassword_file = "database"'
        )
        database = folder.load(text).database

        assert database.url == "postgresql://tocsin:p%40ss%2F%3A%25%207@db.example.net:5433/t?sslmode=require"
        assert "p%40" not in repr(database)
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "database").write_text("other")
        credentials = str(tmp_path / "credentials")
        url = folder.load(text, TOCSIN_DATABASE_URL="postgres://x@/d?host=/run", CREDENTIALS_DIRECTORY=credentials)
        assert url.database.url == "postgres://x:other@/d?host=/run"

    @pytest.mark.parametrize(
        ("url", "file", "problem"),
        [
            ("postgresql://a:b@h/d", "s", "url: must name a user and no password, as password_file is set"),
            ("postgresql://h/d", "s", "url: must name a user and no password, as password_file is set"),
            ("postgresql://a@h/d", "", "is empty"),
        ],
    )
    def test_a_database_password_that_cannot_be_placed_is_named(self, folder, tmp_path, url, file, problem):
        """Two passwords, or one for nobody."""
        (tmp_path / "database").write_text(file)
        text = f'[database]\nurl = "{url}"\npassword_file = "database"'

        assert folder.problem(text).endswith(problem)

    def test_a_url_may_name_a_primary_and_its_standbys(self, folder, tmp_path):
        """The driver takes the first one that takes writes; each port is looked at."""
        places = "[::1]:5433,db-1:5432,db-3"  # an address in brackets stands first: the driver's URL parser asks for it
        (tmp_path / "database").write_text("secret")
        url = f"postgresql://tocsin@{places}/d?target_session_attrs=primary"

        assert folder.load(f'[database]\nurl = "{url}"').database.url == url
        named = folder.load(f'[database]\nurl = "{url}"\npassword_file = "database"').database.url
        assert named == f"postgresql://tocsin:secret@{places}/d?target_session_attrs=primary"
        assert "must be postgresql://" in folder.problem('[database]\nurl = "postgresql://tocsin@db-1:5432,db-2:x/d"')

    def test_an_embedded_database_lies_beside_the_file(self, folder, tmp_path):
        """Also when the environment names it."""
        inside = folder.load('[database]\nurl = "embedded:./var/postgres"').database
        outside = folder.load("", TOCSIN_DATABASE_URL="embedded:/srv/x/../y").database

        assert inside.embedded_directory == tmp_path / "var" / "postgres"
        assert inside.url == f"embedded:{tmp_path}/var/postgres"
        assert outside.embedded_directory == Path("/srv/y")
        assert folder.load("").database.embedded_directory is None

    def test_the_environment_overrides_the_url(self, folder):
        """Secrets in URLs stay out of files; an empty variable is none."""
        text = '[database]\nurl = "postgresql://file@h/d"'

        assert folder.load(text, TOCSIN_DATABASE_URL="postgres://env@h/d").database.url == "postgres://env@h/d"
        assert folder.load(text, TOCSIN_DATABASE_URL="").database.url == "postgresql://file@h/d"

    def test_a_wrong_url_in_the_environment_is_named_and_not_shown(self, folder):
        """It may hold a password."""
        assert folder.problem("", TOCSIN_DATABASE_URL="host=h password=secret") == (
            "environment: TOCSIN_DATABASE_URL: must be postgresql://user@host/database or embedded:DIRECTORY"
        )

    @pytest.mark.parametrize(
        ("listen", "host", "port"),
        [("127.0.0.1:9464", "127.0.0.1", 9464), ("[::1]:9464", "::1", 9464), ("metrics.local:0", "metrics.local", 0)],
    )
    def test_listen_is_host_and_port(self, folder, listen, host, port):
        """IPv6 stands in brackets; port 0 lets the system choose."""
        assert folder.load(f'[http]\nlisten = "{listen}"').http == HttpSettings(host, port)


class TestCategories:
    """Shipped categories stand unless the file changes them."""

    def test_a_changed_one_keeps_what_is_not_named(self, folder):
        """And its place."""
        changed = folder.load('[[category]]\nname = "staff"\ntime_to_live_s = 60').categories

        assert changed[1] == dataclasses.replace(SHIPPED_CATEGORIES[1], time_to_live_s=60.0)
        assert changed[:1] + changed[2:] == SHIPPED_CATEGORIES[:1] + SHIPPED_CATEGORIES[2:]

    def test_an_added_one_comes_last_and_may_be_an_emergency(self, folder):
        """A hospital's own alarm may go before everything."""
        added = folder.load('[[category]]\nname = "code_blue"\nlane = 0\non_doubt = "resend"').categories[-1]

        assert (added.name, added.lane, added.on_doubt, added.max_parts) == ("code_blue", 0, "resend", 10)

    def test_a_sender_may_serve_an_added_one(self, folder):
        """In any order of tables."""
        text = '[[sender]]\naddress = "x"\ncategories = ["lab"]\n[[category]]\nname = "lab"\nlane = 3'

        assert folder.load(text).senders[0].categories == ("lab",)

    def test_the_shipped_ones_are_those_of_the_documents(self):
        """Lane, time to live, doubt, STOP, flash: promises to apps."""
        assert [
            (each.name, each.lane, each.time_to_live_s, each.on_doubt, each.stop, each.flash)
            for each in SHIPPED_CATEGORIES
        ] == [
            ("emergency", 0, 3600.0, "resend", True, "yes"),
            ("staff", 1, 1800.0, "resend", False, "yes"),
            ("reply", 1, 300.0, "hold", False, "no"),
            ("auth", 2, 300.0, "hold", False, "no"),
            ("conversational", 2, 86400.0, "hold", True, "no"),
            ("transactional", 3, 86400.0, "hold", True, "no"),
            ("informational", 4, 259200.0, "hold", True, "no"),
            ("marketing", 5, 259200.0, "hold", True, "never"),
        ]
        assert {each.max_parts for each in SHIPPED_CATEGORIES} == {10}
        assert {each.keep_text_days for each in SHIPPED_CATEGORIES} == {0}
