"""dispatcher/cli.py: what the command prints and which exit code it ends with.

Exit codes: 0 done (also duplicate, deferred); 1 refused, a finding, unknown, too late; 2 usage or
configuration; 3 database, schema or state directory.
"""

from __future__ import annotations

import io
import json
import secrets
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from dispatcher import cli
from dispatcher.commands import message, terminal
from dispatcher.migrate import shipped
from tests.dispatcher.command import FILE, PRIVATE, TEXT, TO, as_user

if TYPE_CHECKING:
    from pathlib import Path

# ---------------------------------------------------------------- migrate


def test_migrate_applies_what_is_missing_and_says_that_nothing_was_granted(write, empty_database_url):
    """A first installation; a second call finds nothing to do."""
    command = write(empty_database_url)
    assert command("migrate") == 0
    assert command.out.splitlines()[0] == "applied 0001_tables"
    assert "nothing was granted" in command.out
    assert command("migrate", "--json") == 0
    assert json.loads(command.out) == {"applied": [], "granted": False, "roles_made": []}


def test_migrate_with_roles_grants(write, roles_left_as_found, empty_database_url):
    """The daemon's user works only after this."""
    command = write(empty_database_url)
    assert command("migrate", "--roles", "--json") == 0
    assert json.loads(command.out)["applied"] == [migration.name for migration in shipped()]
    assert command.sql("select has_function_privilege('tocsin_daemon', 'tocsin.make_partitions(int)', 'execute')")
    assert command("migrate", "--roles") == 0
    assert "none was missing; rights granted" in command.out


def test_migrate_by_a_user_without_rights_says_which_is_lacking(write, empty_database_url):
    """The commonest first mistake: migrating as the daemon's user."""
    command = write(empty_database_url)
    user = f"test_{secrets.token_hex(6)}"
    command.sql(f"create role {user} login password 'hunter2'")
    try:
        weak = write(as_user(empty_database_url, user))
        assert weak("migrate") == 3
        assert "lacks a privilege" in weak.err
    finally:
        command.sql(f"drop role {user}")


def test_a_schema_of_another_version_is_refused(write, database_url):
    """An applied migration whose text differs: this schema belongs to another version."""
    command = write(database_url)
    command.sql("update tocsin.migration set sha256 = 'x' where version = 1")
    assert command("migrate") == 3
    assert "0001_tables" in command.err
    assert command("apply") == 3


# ---------------------------------------------------------------- apply


def test_apply_says_whether_something_changed(write, database_url):
    """And prints the file's warnings, which are no errors."""
    command = write(database_url, FILE.replace('"secret"', '"longer than eight"'))
    assert command("apply") == 0
    assert command.out == "applied\n"
    assert command.err.startswith("tocsin: warning: ")
    assert command("apply") == 0
    assert command.out == "nothing to change\n"
    assert command("apply", "--json") == 0
    assert json.loads(command.out)["changed"] is False


def test_apply_needs_the_schema(write, empty_database_url):
    """Exit 3 names the command that helps."""
    command = write(empty_database_url)
    assert command("apply") == 3
    assert "tocsin migrate" in command.err


# ---------------------------------------------------------------- enqueue


def test_enqueue_prints_the_job_and_its_outcome(command):
    """A person and a script read the same line."""
    assert command("enqueue", TO, TEXT) == 0
    assert command.out == "1 queued\n"
    assert command.sql("select body from tocsin.ready") == TEXT


def test_enqueue_passes_every_option_on(command):
    """Nothing that a user asked for may be dropped."""
    arguments = ("--category", "staff", "--sender", "Northside", "--flash", "--key", "k1", "--expires-in", "15m")
    assert command("enqueue", TO, TEXT, *arguments, "--json") == 0
    assert json.loads(command.out) == {"job_id": 1, "outcome": "queued", "reason": None}
    row = command.sql(
        "select to_jsonb(r) || jsonb_build_object('life', extract(epoch from expires_at - enqueued_at)) from tocsin.ready r"
    )
    row = json.loads(row)
    assert (row["category"], row["sender"], row["flash"], row["life"]) == ("staff", "Northside", True, 900)


def test_enqueue_for_later_is_deferred(command):
    """Expiry then counts from the due time, or the message would expire before it may go."""
    due = datetime.now(UTC) + timedelta(days=1)
    assert command("enqueue", TO, TEXT, "--not-before", due.isoformat(), "--expires-in", "2h") == 0
    assert command.out == "1 deferred\n"
    assert command.sql("select due_at from tocsin.deferred") == due
    assert command.sql("select expires_at - due_at from tocsin.deferred") == timedelta(hours=2)


def test_a_repeated_key_is_a_duplicate_and_done(command):
    """A script that repeats itself after a lost connection must see success."""
    assert command("enqueue", TO, TEXT, "--key", "k1") == 0
    assert command("enqueue", TO, TEXT, "--key", "k1") == 0
    assert command.out == "1 duplicate\n"


def test_a_key_means_the_same_to_sql_and_to_the_command(command):
    """An app that enqueued it by SQL and an operator who repeats it by hand send one message."""
    due = datetime.now(UTC) + timedelta(days=1)
    command.sql("select tocsin.enqueue($1, $2, idempotency_key => 'k1', not_before => $3)", TO, TEXT, due)
    assert command("enqueue", TO, TEXT, "--key", "k1", "--not-before", due.isoformat()) == 0
    assert command.out == "1 duplicate\n"


def test_a_malformed_request_is_refused_with_its_field(command):
    """The database's own words: one judge for every client."""
    for arguments, reason in (
        (("12", TEXT), "recipient: not an E.164 number"),
        ((TO, ""), "body: empty"),
        ((TO, TEXT, "--category", "lunch"), "category: unknown"),
        ((TO, TEXT, "--flash"), "flash: not for this category"),
        ((TO, TEXT, "--sender", "Elsewhere"), "sender: unknown, or not for this category"),
    ):
        assert command("enqueue", *arguments) == 1
        assert (command.out, command.err) == ("", f"tocsin: {reason}\n")
    assert command("enqueue", "--json", TO, "") == 1
    assert json.loads(command.out) == {"job_id": None, "outcome": "invalid", "reason": "body: empty"}
    assert command.err == ""


def test_another_request_under_a_used_key_is_refused(command):
    """Two different messages under one key are a mistake of the caller's."""
    command("enqueue", TO, TEXT, "--key", "k1")
    assert command("enqueue", TO, "another", "--key", "k1") == 1
    assert command.err == "tocsin: idempotency_key: was used with another request\n"


def test_a_refusal_by_policy_leaves_a_job_and_ends_with_1(command):
    """The row is the evidence that the message was asked for and not sent."""
    assert command("enqueue", "+4930123456", TEXT) == 1
    assert command.out == "1 blocked NO_ROUTE\n"


def test_the_text_can_come_from_standard_input(command, monkeypatch):
    """Arguments are visible to every user of the machine."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("first line\nlast\n"))
    assert command("enqueue", TO, "-") == 0
    assert command.sql("select body from tocsin.ready") == "first line\nlast"


@pytest.mark.parametrize("text", ["nul \0 inside", "half a pair \ud83d"], ids=["nul", "surrogate"])
def test_a_text_that_no_database_can_store_is_a_usage_error(offline, text):
    """An argument that is not UTF-8 arrives as lone surrogates."""
    assert offline("enqueue", TO, text) == 2
    assert offline.err == "tocsin: TEXT: not UTF-8, or holds a NUL\n"


def test_standard_input_must_be_utf8(offline, monkeypatch):
    """A wrong guess would damage the text."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8"))
    assert offline("enqueue", TO, "-") == 2


@pytest.mark.parametrize("duration", ["90", "0s", "5w", "1h30m", "-1h", "4000d", "1e3s"])
def test_a_duration_needs_its_unit(offline, duration):
    """Ninety may be seconds or minutes."""
    assert offline("enqueue", TO, TEXT, f"--expires-in={duration}") == 2
    assert "is no duration" in offline.err


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("0.5s", 0.5)]
)
def test_durations(duration, seconds):
    """The four units."""
    assert terminal.read_duration(None, None, duration) == seconds


@pytest.mark.parametrize("instant", ["soon", "2030-13-01", "0001-01-01T00:00", "12:00"])
def test_an_instant_is_iso_8601(offline, instant):
    """Another form could be read as another day."""
    assert offline("enqueue", TO, TEXT, "--not-before", instant) == 2
    assert "is no instant" in offline.err


def test_an_instant_without_offset_is_local_time():
    """What a person at this machine means."""
    assert message._instant(None, None, "2030-12-31T09:00") == datetime(2030, 12, 31, 9).astimezone()
    assert message._instant(None, None, "2030-12-31T09:00:00Z") == datetime(2030, 12, 31, 9, tzinfo=UTC)


# ---------------------------------------------------------------- job, cancel

EVIDENCE = """
insert into tocsin.sent (submitted_at, job_id, part, parts, attempt, link, destination, sender, category, lane, enqueued_at, app,
                         message_id, receipt_state, receipt_error, receipt_at)
values (now(), 9, 1, 1, 1, 'carrier-a', '447700900123', 'Northside', 'staff', 1, now(), session_user, $1, 40, '000', now())
"""


def test_job_shows_the_state(command):
    """An open job has no evidence yet."""
    command("enqueue", TO, TEXT)
    assert command("job", "1") == 0
    lines = dict(line.split(maxsplit=1) for line in command.out.splitlines())
    assert (lines["job_id"], lines["state"], lines["category"], lines["final_at"]) == (
        "1",
        "queued",
        "transactional",
        "-",
    )
    assert not any(word in command.out for word in PRIVATE)


def test_job_shows_the_evidence_of_each_part(command):
    """What the SMSC called it and what its receipt said; of the number two digits."""
    command.sql(EVIDENCE, "5f2a")
    assert command("job", "9", "--json") == 0
    shown = json.loads(command.out)
    (part,) = shown["evidence"]
    assert (shown["job_id"], shown["state"]) == (9, "delivered")
    assert (part["part"], part["attempt"], part["link"], part["message_id"]) == (1, 1, "carrier-a", "5f2a")
    assert (part["receipt"], part["receipt_error"], part["destination"]) == ("delivered", "000", "***23")
    assert datetime.fromisoformat(part["receipt_at"]).tzinfo is not None
    assert command("job", "9") == 0
    assert "message_id 5f2a" in command.out
    assert not any(word in command.out for word in PRIVATE)


def test_job_shows_that_it_may_have_come_twice(command):
    """How often it was tried and sent again, and the mark, of the job and of the part that went again."""
    command.sql(EVIDENCE, "5f2a")
    command.sql("update tocsin.sent set attempt = 2, resends = 1, reason = 'POSSIBLE_DUPLICATE' where job_id = 9")
    assert command("job", "9") == 0
    lines = dict(line.split(maxsplit=1) for line in command.out.splitlines() if not line.startswith(" "))
    assert (lines["state"], lines["reason"], lines["attempts"], lines["resends"]) == (
        "delivered",
        "POSSIBLE_DUPLICATE",
        "2",
        "1",
    )
    (part,) = [line for line in command.out.splitlines() if "part_submitted" in line]
    assert "reason POSSIBLE_DUPLICATE, " in part
    assert ", resends 1" in part


def test_job_shows_no_control_characters(command):
    """A message_id is whatever the SMSC wrote, and a terminal obeys it."""
    command.sql(EVIDENCE, "\x1b[2Jgone")
    assert command("job", "9") == 0
    assert "\x1b" not in command.out
    assert "?[2Jgone" in command.out


def test_an_app_sees_the_state_without_the_evidence(command, write):
    """Apps may not read the table; that is no error."""
    assert command("migrate", "--roles") == 0
    user = f"test_{secrets.token_hex(6)}"
    command.sql(f"create role {user} login in role tocsin_app password 'hunter2'")
    try:
        app = write(as_user(command.url, user))
        assert app("enqueue", TO, TEXT) == 0
        assert app("job", "1", "--json") == 0
        assert json.loads(app.out)["evidence"] is None
        command.sql(
            EVIDENCE.replace("session_user", f"'{user}'").replace("40, '000', now()", "null, null, null"), "5f2a"
        )
        assert app("cancel", "9") == 1
        assert app.err == "tocsin: job 9: too_late\n"
        assert command.sql("select count(*) from tocsin.inquiry") == 0
        assert app("apply") == 3
        assert "lacks a privilege" in app.err
    finally:
        command.sql(f"drop role {user}")


def test_an_unknown_job_ends_with_1(command):
    """Nobody knows it, or it belongs to another app."""
    assert command("job", "77") == 1
    assert command.err == "tocsin: job 77: unknown\n"


def test_cancel_ends_a_waiting_job(command):
    """A second time it is still cancelled."""
    command("enqueue", TO, TEXT)
    assert command("cancel", "1") == 0
    assert command.out == "cancelled\n"
    assert command("cancel", "1") == 0


def test_cancel_that_comes_too_late_ends_with_1(command):
    """The SMSC has it."""
    command.sql(EVIDENCE, "5f2a")
    assert command("cancel", "9") == 1
    assert command.err == "tocsin: job 9: too_late\n"
    assert command("cancel", "77", "--json") == 1
    assert json.loads(command.out) == {"job_id": 77, "outcome": "unknown"}


@pytest.mark.parametrize("job_id", ["0", "-1", "x", "9223372036854775808"])
def test_an_id_is_a_positive_number(offline, job_id):
    """Usage, not unknown."""
    assert offline("job", "--", job_id) == 2


# ---------------------------------------------------------------- what can go wrong for every command


def test_a_missing_file_is_exit_2(write, tmp_path):
    """The error names the file."""
    command = write("postgresql://127.0.0.1/x")
    command.path = tmp_path / "absent.toml"
    assert command("apply") == 2
    assert "absent.toml" in command.err


def test_a_wrong_key_is_exit_2(write):
    """With table and key."""
    command = write("postgresql://127.0.0.1/x", FILE.replace("listen", "lisden"))
    assert command("run") == 2
    assert "[http]" in command.err
    assert "lisden" in command.err


@pytest.mark.parametrize("name", ["migrate", "apply", "job", "cancel", "enqueue"])
def test_a_database_that_is_away_is_exit_3(write, name):
    """The line names host and database and keeps user and password to itself."""
    command = write("postgresql://admin:hunter2@127.0.0.1:1/clinic")
    arguments = {"job": ["1"], "cancel": ["1"], "enqueue": [TO, TEXT]}.get(name, [])
    assert command(name, *arguments) == 3
    assert "[database] url: 127.0.0.1:1/clinic: " in command.err
    assert "admin" not in command.err


def test_a_database_that_does_not_exist_is_exit_3(write, database_url):
    """Said in words, with the SQLSTATE to look up."""
    head, _, name = database_url.partition("?")[0].rpartition("/")
    command = write(database_url.replace(f"/{name}", f"/{name}_gone", 1) if head else database_url)
    assert command("migrate") == 3
    assert "there is no such database (SQLSTATE 3D000)" in command.err


def test_a_url_that_is_none_is_exit_2(write):
    """A configuration error, though only the driver finds it."""
    assert write("postgresql://127.0.0.1:port/x")("migrate") == 2


def test_an_embedded_database_runs_while_the_command_does(write, shared_url, monkeypatch):
    """A single machine needs no server of its own; its directory is beside the file."""
    seen = []

    class Server:
        def __init__(self, directory: Path) -> None:
            seen.append(directory)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append("stopped")

        def create_database(self, name: str) -> str:
            seen.append(name)
            return shared_url

    monkeypatch.setattr(terminal.embedded, "start", Server)
    command = write("embedded:./var")
    assert command("job", "99") == 1
    assert seen == [command.path.parent / "var", "tocsin", "stopped"]


def test_an_embedded_database_that_cannot_run_is_exit_3(write, tmp_path):
    """A directory that is something else's."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "letter.txt").write_text("hello")
    command = write("embedded:./var")
    assert command("job", "1") == 3
    assert str(tmp_path / "var") in command.err


def test_enqueue_without_a_schema_is_exit_3(write, empty_database_url):
    """And names the command that helps."""
    command = write(empty_database_url)
    assert command("enqueue", TO, TEXT) == 3
    assert "tocsin migrate" in command.err
    assert command("job", "1") == 3


@pytest.mark.usefixtures("logging_restored")
def test_run_never_migrates(write, empty_database_url):
    """A missing schema is exit 3, for a person to decide when it changes."""
    command = write(empty_database_url)
    assert cli.invoke(["run", "--config", str(command.path)]) == 3
    assert command.sql("select to_regnamespace('tocsin') is null")


def test_usage_errors_are_one_line(offline):
    """Scripts log stderr line by line."""
    assert offline("enqueue") == 2
    assert offline.err == "tocsin: Missing argument 'TO'.\n"
    assert offline("job", "1", "--colour") == 2
    assert offline("nonsense") == 2


def test_help_is_done_and_no_command_is_usage(capsys):
    """Help is asked for; a script that lost its arguments must not look successful."""
    assert cli.invoke(["--help"]) == 0
    assert "migrate" in capsys.readouterr().out
    assert cli.invoke([]) == 2
    assert capsys.readouterr().err == "tocsin: Missing command.\n"


def test_the_file_comes_from_the_environment(command, monkeypatch, capsys):
    """A service sets TOCSIN_CONFIG once."""
    monkeypatch.setenv("TOCSIN_CONFIG", str(command.path))
    assert cli.invoke(["apply"]) == 0
    capsys.readouterr()
    assert cli.invoke(["enqueue", TO, TEXT]) == 0


def test_a_fault_of_ours_tells_type_and_place_and_no_text(offline, monkeypatch):
    """The message of an unforeseen error may quote anything."""

    def broken(*_args, **_kwargs):
        raise KeyError(TEXT)

    monkeypatch.setattr(message, "load", broken)
    assert offline("job", "1") == 1
    assert offline.err.startswith("tocsin: a fault of ours: KeyError at test_cli.py:")


def test_an_interrupt_ends_quietly(offline, monkeypatch):
    """130, as shells report it."""

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(message, "load", interrupted)
    assert offline("job", "1") == 130


def test_main_ends_the_process_with_the_code(capsys):
    """The entry point of the package."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["nonsense"])
    assert stopped.value.code == 2
    capsys.readouterr()
