"""The scenario file: what is read from it, what is refused, and that its annotated form and the manual tell all of it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from config.reader import ConfigError
from config.settings import load as load_settings
from gateway.smsc import (
    ANNOTATED,
    DIALECTS,
    FORMS,
    KINDS,
    OUTCOMES,
    SHIPPED,
    SHIPPED_SCENARIOS,
    Fault,
    NumberRule,
    Scenario,
    Scheduled,
    SmscSettings,
    load,
)
from gateway.smsc.console import COMMANDS
from gateway.smsc.scenario import TABLES
from tests.fakes.esme import esme

TEXT = ANNOTATED.read_text(encoding="utf-8")
MANUAL = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
REPEATED = [name for name in TABLES if name.startswith("[[")]
KEYS = [(table, key) for table, keys in TABLES.items() for key in keys]


@pytest.fixture
def scenario(tmp_path):
    """Read a text as a scenario file."""

    def read(text):
        file = tmp_path / "scenario.toml"
        file.write_text(text, encoding="utf-8")
        return load(file)

    return read


def problem(scenario, text):
    """What is said about a text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        scenario(text)
    line = str(caught.value)
    assert "\n" not in line
    assert "hunter2" not in line
    return line.partition("scenario.toml: ")[2]


class TestReading:
    """From a file to values."""

    def test_an_empty_file_is_no_file(self, scenario):
        """It behaves, and has the shipped numbers."""
        assert scenario("") == Scenario()
        assert Scenario().numbers == SHIPPED

    def test_every_table_is_read(self, scenario, tmp_path):
        """All in one."""
        (tmp_path / "ward.pw").write_text("hunter2\n")
        read = scenario(
            """
            seed = 7
            [smsc]
            system_id = "carrier"
            shipped_numbers = false
            deliver_window = 2
            first_sequence_number = 0xFFFFFFF0
            redelivery_s = 0.5
            held_limit = 9
            [[account]]
            system_id = "clinic"
            password = "secret"
            [[account]]
            system_id = "ward"
            password_file = "ward.pw"
            [answers]
            latency_s = [0.1, 0.4]
            message_ids = "hex"
            [receipts]
            dialect = "short"
            delay_s = 2
            message_ids = "decimal"
            intermediate = "receipt"
            copies = 2
            before_answer = true
            error = "0A1"
            [[number]]
            pattern = "+4477*"
            behaviour = "expired"
            [[mo]]
            source = "+447700900123"
            destination = "88222"
            text = "STOP"
            system_id = "ward"
            after_s = 1
            every_s = 2
            count = 3
            [[fault]]
            kind = "refuse"
            after_s = 1
            for_s = 2
            skip = 3
            every = 4
            share = 0.5
            count = 6
            status = 0x45
            [[fault]]
            kind = "dribble"
            seconds = [0.001, 0.002]
            """
        )

        assert read == Scenario(
            settings=SmscSettings(
                system_id="carrier",
                accounts={"clinic": "secret", "ward": "hunter2"},
                latency_s=(0.1, 0.4),
                receipt_delay_s=(2.0, 2.0),
                deliver_window=2,
                first_sequence_number=0xFFFFFFF0,
                redelivery_s=0.5,
                held_limit=9,
                message_ids="hex",
                receipt_message_ids="decimal",
                receipts="short",
                intermediate="receipt",
                receipt_copies=2,
                receipt_first=True,
                receipt_error="0A1",
            ),
            seed=7,
            numbers=(NumberRule("4477*", "expired"),),
            messages=(Scheduled("+447700900123", "88222", "STOP", "ward", 1.0, 2.0, 3),),
            faults=(
                Fault("refuse", 1.0, 2.0, 3, 4, 0.5, 6, status=0x45),
                Fault("dribble", seconds=(0.001, 0.002)),
            ),
        )

    def test_own_numbers_come_before_the_shipped_ones(self, scenario):
        """So that a shipped one can be changed."""
        read = scenario('[[number]]\npattern = "447700900900"\nbehaviour = "expired"')

        assert read.numbers == (NumberRule("447700900900", "expired"), *SHIPPED)

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_takes_its_own_keys_and_no_others(self, scenario, kind):
        """A key that would do nothing is an error."""
        values = {"seconds": 1.0, "status": 8, "per_s": 1.0, "batch": 2, "octets": 1, "destination": '"88222"'}
        for key, value in values.items():
            text = f'[[fault]]\nkind = "{kind}"\n{key} = {value}\n'
            if key in KINDS[kind].keys:
                (fault,) = scenario(text).faults
                assert fault.kind == kind
            else:
                assert problem(scenario, text) == f"[[fault]] 1: {key}: is not read by a fault of kind {kind}"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("sed = 1", "sed: unknown key; the nearest known key is seed"),
            ("[answer]", "answer: unknown key; the nearest known key is answers"),
            ("[smsc]\nsystemid = 1", "[smsc]: systemid: unknown key; the nearest known key is system_id"),
            ("smsc = 1", "smsc: must be a table, not a number"),
            ("fault = 1", "fault: must be written as [[fault]], once for each"),
            ("[fault]", "fault: must be written as [[fault]], once for each"),
            ("seed = -1", "seed: must be from 0 to 4294967295"),
            ("seed = true", "seed: must be a whole number, not true or false"),
            ("[[fault]]", "[[fault]] 1: kind: is missing"),
            ('[[mo]]\nsource = "1"', "[[mo]] 1: destination: is missing"),
            (
                '[[mo]]\nsource = "mother"\ndestination = "88222"\ntext = "x"',
                "[[mo]] 1: source: must be a number of 3 to 15 digits",
            ),
            (
                f'[[mo]]\nsource = "123"\ndestination = "88222"\ntext = "{"x" * 50_000}"',
                "[[mo]] 1: text: 327 segments, at most 255",
            ),
            ('[[number]]\npattern = "1"', "[[number]] 1: behaviour: is missing"),
            (
                '[[number]]\npattern = "a"\nbehaviour = "expired"',
                "[[number]] 1: pattern: must be digits, with * for any and ? for one of them",
            ),
            ("[answers]\nlatency_s = [2, 1]", "[answers]: latency_s: must be a number of seconds, or [least, most]"),
            ("[answers]\nlatency_s = []", "[answers]: latency_s: must be a number of seconds, or [least, most]"),
            ("[answers]\nlatency_s = [1, 2, 3]", "[answers]: latency_s: must be a number of seconds, or [least, most]"),
            ("[answers]\nlatency_s = -1", "[answers]: latency_s: must be from 0 to 86400"),
            ('[answers]\nlatency_s = ["1"]', "[answers]: latency_s: must be a number, not a text"),
            ("[receipts]\ncopies = 0", "[receipts]: copies: must be from 1 to 100"),
            ('[receipts]\nerror = "a-b"', "[receipts]: error: must be at most 4 letters and digits"),
            ('[[account]]\nsystem_id = "a"', "[[account]] 1: password: or password_file must be set, and not both"),
            (
                '[[account]]\nsystem_id = "a"\npassword = "hunter2"\npassword_file = "x"',
                "[[account]] 1: password: or password_file must be set, and not both",
            ),
            (
                '[[account]]\nsystem_id = "a"\npassword = "hunter2"\n[[account]]\nsystem_id = "a"\npassword = "b"',
                "[[account]] 2: system_id: stands there twice",
            ),
            (
                '[[mo]]\nsource = "123"\ndestination = "1"\ntext = "x"\nsystem_id = "b"\n[[account]]\nsystem_id = "a"\npassword = "p"',
                "[[mo]] 1: system_id: is none of [[account]]",
            ),
            ("x", "not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, scenario, text, said):
        """It names table and key."""
        assert problem(scenario, text) == said

    @pytest.mark.parametrize(
        ("table", "key"), [("[answers]", "message_ids"), ("[receipts]", "dialect"), ("[[fault]]", "kind")]
    )
    def test_a_word_that_is_none_of_a_set_is_answered_with_the_set(self, scenario, table, key):
        """Nobody needs the manual for a spelling."""
        said = problem(scenario, f'{table}\n{key} = "nonsense"')

        assert f"{key}: must be " in said
        assert said.endswith(", not 'nonsense'")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot be read: No such file or directory"),
            (b"", "has 0"),
            ("hunter2é".encode(), "must be printable ASCII"),
            (b"hunter2\nhunter2", "must be printable ASCII"),
            (b"hunter2" * 10, "must have 1 to 64 characters, has 70"),
        ],
    )
    def test_a_password_file_that_is_none(self, scenario, tmp_path, content, said):
        """The password never shows."""
        if content is not None:
            (tmp_path / "pw").write_bytes(content)

        line = problem(scenario, '[[account]]\nsystem_id = "a"\npassword_file = "pw"')
        assert line.startswith("[[account]] 1: password_file: ")
        assert line.endswith(said)

    def test_octets_that_are_no_text(self, tmp_path):
        """UTF-8, as TOML is."""
        file = tmp_path / "scenario.toml"
        file.write_bytes(b"\xff")

        with pytest.raises(ConfigError, match="octet 0 is not UTF-8"):
            load(file)


class TestAnnotated:
    """The file that ships."""

    def test_as_it_stands_it_changes_nothing(self):
        """Every key is a comment."""
        assert load(ANNOTATED) == Scenario()

    @pytest.mark.parametrize(("table", "key"), KEYS)
    def test_every_key_is_there_and_explained(self, table, key):
        """A comment stands right before it."""
        lines = section(table).splitlines()
        (place,) = [number for number, line in enumerate(lines) if re.match(rf"#(: )?{key} = ", line)]

        assert re.fullmatch(r"# .*\.", lines[place - 1])

    @pytest.mark.parametrize("table", [name for name in TABLES if name and name not in REPEATED])
    def test_defaults_of_a_table_are_the_defaults(self, scenario, table):
        """Set to what it says there, nothing changes."""
        stated = written(table, "#")
        if table == "[answers]":
            stated = stated.replace("latency_s = 0.0\n", "")  # as a number and as a span it is written differently

        assert scenario(f"{table}\n{stated}") == Scenario()

    @pytest.mark.parametrize(("table", "shape"), [("[[mo]]", Scheduled), ("[[fault]]", Fault)])
    def test_defaults_of_a_repeated_table_are_the_defaults(self, table, shape):
        """Those of the value that the table becomes."""
        for key, value in tomllib.loads(written(table, "#")).items():
            assert shape.__dataclass_fields__[key].default in {value, (value, value)}, key

    @pytest.mark.parametrize("table", REPEATED)
    def test_its_examples_are_valid(self, scenario, table):
        """A table of all that is commented out, as far as its keys go together."""
        values = tomllib.loads(written(table, "#(?:: )?"))
        values.pop("password_file", None)
        if table == "[[fault]]":
            own = set().union(*(form.keys for form in KINDS.values()))
            values = {key: value for key, value in values.items() if key not in own - KINDS[values["kind"]].keys}

        scenario(f"{table}\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items()))

    @pytest.mark.parametrize("word", [*FORMS, *DIALECTS, *OUTCOMES, *KINDS])
    def test_every_word_is_named(self, word):
        """Whoever writes a scenario has this file open."""
        assert re.search(rf"\b{word}\b", TEXT)


def section(table):
    """The part of the annotated file that is about one table."""
    if not table:
        return TEXT.split("\n[smsc]\n", 1)[0]
    marker = f"\n#: {table}\n" if table in REPEATED else f"\n{table}\n"
    return re.split(r"^(?:#: )?\[", TEXT.split(marker, 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def written(table, marker):
    """The keys of one table that stand behind a marker: "#" default, "#: " example."""
    return "".join(f"{line}\n" for line in re.findall(rf"^{marker}([a-z_]+ = .*)$", section(table), re.MULTILINE))


SHIPPED_FILES = sorted(SHIPPED_SCENARIOS.iterdir())


class TestShippedScenarios:
    """Those that are installed with the package."""

    @pytest.mark.parametrize("file", SHIPPED_FILES, ids=lambda file: file.stem)
    def test_each_changes_something_and_the_manual_says_what(self, file):
        """Its first line is its row in the manual."""
        first, second, *_ = file.read_text(encoding="utf-8").splitlines()

        assert f"| `{file.stem}` | {first.removeprefix('# ')} |" in MANUAL
        assert second.startswith(f"# tocsin smsc --scenario {file.stem};")
        assert load(file) != Scenario()

    def test_the_manual_names_no_other(self):
        """A row for each file."""
        part = MANUAL.split("\n## Shipped scenarios\n", 1)[1].split("\n## ", 1)[0]

        assert re.findall(r"^\| `(.+?)` \|", part, re.MULTILINE) == [file.stem for file in SHIPPED_FILES]

    def test_a_name_is_a_shipped_one_unless_a_file_here_has_it(self, tmp_path, monkeypatch):
        """So nobody has to know where the package is installed."""
        monkeypatch.chdir(tmp_path)
        assert load("throttled") == load(SHIPPED_SCENARIOS / "throttled.toml")

        (tmp_path / "throttled").write_text("seed = 5")
        assert load("throttled") == Scenario(seed=5)

    @pytest.mark.parametrize("name", ["throttle", "throttled.toml", "../scenarios/throttled", ""])
    def test_another_name_is_a_file_that_is_not_there(self, tmp_path, monkeypatch, name):
        """The message is that of any missing file."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match="cannot be read: "):
            load(name)


class TestManual:
    """docs/simulator.md tells all of it."""

    @pytest.mark.parametrize("number", SHIPPED, ids=lambda number: number.behaviour)
    def test_every_test_number(self, number):
        """With its behaviour and what that means."""
        row = f"| +{number.pattern} | `{number.behaviour}` | {OUTCOMES[number.behaviour].meaning} |"
        assert row in MANUAL  # and a journey holds the rest of the row to what the daemon does

    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_of_ids(self, form):
        """With its description."""
        assert re.search(rf"^\| `{form}` \| .* \| {re.escape(FORMS[form])} \|$", MANUAL, re.MULTILINE)

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_every_dialect(self, dialect):
        """With its description."""
        assert f"| `{dialect}` | {DIALECTS[dialect].meaning} |" in MANUAL

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_fault(self, kind):
        """With its occasion, its meaning and its keys."""
        form = KINDS[kind]
        keys = ", ".join(f"`{key}`" for key in sorted(form.keys)) or "-"
        assert f"| `{kind}` | {form.occasion} | {form.meaning} | {keys} |" in MANUAL

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command(self, command):
        """With what it does."""
        assert f"| `{command}` | {COMMANDS[command]} |" in MANUAL

    @pytest.mark.parametrize(("table", "key"), KEYS)
    def test_every_key(self, table, key):
        """In the part of its table."""
        part = MANUAL.split(f"\n### {table or 'Top of the file'}\n", 1)[1].split("\n### ", 1)[0]
        assert f"| `{key}` |" in part

    def test_its_link_is_one(self, tmp_path):
        """What a reader copies into his configuration."""
        (example,) = re.findall(r"```toml\n(\[\[link\]\].*?)```", MANUAL, re.DOTALL)
        rest = """
            [[sender]]
            address = "Northside"
            categories = ["staff"]
            [[route]]
            prefix = ""
            links = ["simulator"]
        """
        (tmp_path / "tocsin.toml").write_text(example + rest)

        (link,) = load_settings(tmp_path / "tocsin.toml", {}).links
        assert (link.name, link.port) == ("simulator", 2775)

    def test_its_example_is_valid(self, scenario):
        """Copied and run."""
        (example,) = re.findall(r"```toml\n(seed = .*?)```", MANUAL, re.DOTALL)

        assert [fault.kind for fault in scenario(example).faults] == ["lose_answer", "throttle", "reset"]


async def test_a_scheduled_message_comes_by_itself(scenario):
    """It waits for a session that receives, and comes as often as it says."""
    read = scenario(
        '[[mo]]\nsource = "+447700900123"\ndestination = "88222"\ntext = "STOP"\nevery_s = 0.01\ncount = 2\n'
    )
    async with read.smsc() as smsc:
        async with esme(smsc.port, kind="transmitter"):
            pass
        async with esme(smsc.port, kind="receiver") as peer:
            came = [await peer.next() for _ in range(2)]

    assert {(one.text, one.pdu.source_addr) for one in came} == {("STOP", b"447700900123")}


async def test_the_same_seed_gives_the_same_run(scenario):
    """Ids and refusals again; another seed, others."""

    async def run(seed):
        read = scenario(f'seed = {seed}\n[[fault]]\nkind = "refuse"\nshare = 0.5\n')
        async with read.smsc() as smsc, esme(smsc.port) as peer:
            for _ in range(40):
                peer.submit(registered_delivery=0)
            return [(await peer.next()).octets for _ in range(40)]

    assert await run(7) == await run(7) != await run(8)
