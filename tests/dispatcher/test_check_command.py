"""dispatcher/commands/check.py and dispatcher/check.py: what an operator is told before anything runs."""

from __future__ import annotations

import asyncio
import json
import os
import resource

import asyncpg
import pytest

from dispatcher.check import Grade, log_leaks
from dispatcher.state_directory import StateDirectory
from dispatcher.store import QUERIES
from tests.dispatcher.command import as_user
from tests.fakes.smsc import Smsc

pytestmark = pytest.mark.usefixtures("logging_restored")

SAFE = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": 0.0,
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "auto_explain_log_min_duration": None,
}
LEAKS = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_duration_sample": "250",
    "log_transaction_sample_rate": 0.01,
    "log_parameter_max_length_on_error": "-1",
    "log_min_error_statement": "error",
    "log_error_verbosity": "default",
    "auto_explain_log_min_duration": "0",
}


def findings(command, *arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """Exit code, and by subject the grades and texts."""
    code = command("check", "--json", *arguments)
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(command.out):
        found.setdefault(one["subject"], []).append((one["grade"], one["text"]))
    return code, found


def test_settings_that_keep_texts_out_of_the_servers_log_have_no_leak():
    """The embedded server has these."""
    assert list(log_leaks(SAFE)) == []


@pytest.mark.parametrize("name", LEAKS)
def test_each_setting_that_would_write_texts_is_named(name):
    """By its own name, with what to set."""
    (leak,) = log_leaks(SAFE | {name: LEAKS[name]})
    assert leak.startswith(name.replace("explain_log", "explain.log"))
    assert "set it to" in leak


def test_a_good_installation_has_no_problem_but_what_the_server_has(command):
    """File, state directory, database, schema, log: each is looked at."""
    command.sql(f"alter database {database(command)} set log_statement = 'none'")
    _, found = findings(command)
    assert found[str(command.path)][0] == ("ok", "1 links, 1 senders")
    assert found["state directory"][0][0] == "ok"
    assert found["schema"] == [("ok", "current")]
    assert found["database"][0][1].startswith("PostgreSQL 1")


def test_what_the_server_would_log_is_a_problem(command):
    """Exit 1, and the setting is named."""
    command.sql(f"alter database {database(command)} set log_statement = 'all'")
    try:
        code, found = findings(command)
        assert command("check") == 1
    finally:
        command.sql(f"alter database {database(command)} reset log_statement")
    assert code == 1
    assert any("log_statement" in text for _, text in found["server log"])
    assert "problem   server log: log_statement" in command.out


def test_no_database_is_exit_3_and_the_rest_is_still_told(offline):
    """An operator mends all of it in one go."""
    code, found = findings(offline)
    assert code == 3
    assert [grade for grade, _ in found["database"]] == ["unusable"]
    assert found["state directory"][0][0] == "ok"


def test_no_schema_is_exit_3(write, empty_database_url):
    """And names the command that makes it."""
    code, found = findings(write(empty_database_url))
    assert code == 3
    assert "tocsin migrate" in found["schema"][0][1]


def test_a_user_without_rights_is_told_so(write, shared_url, command):
    """The daemon would start, and fail at its first claim."""
    user = f"test_check_{os.getpid()}"
    command.sql(f"create role {user} login password 'hunter2'")
    try:
        command.sql(f"grant usage on schema tocsin to {user}")
        command.sql(f"grant select on tocsin.migration to {user}")
        code, found = findings(write(as_user(shared_url, user)))
    finally:
        command.sql(f"drop owned by {user}")
        command.sql(f"drop role {user}")
    assert code in {1, 3}
    assert any("rights" in text or "privilege" in text for _, text in found.get("schema", []) + found["database"])


def test_an_applied_file_that_was_changed_since_is_noted(command):
    """A restart would change something."""
    _, found = findings(command)
    assert len(found["schema"]) == 1
    command.path.write_text(command.path.read_text() + "\n# changed\n")
    _, found = findings(command)
    assert found["schema"][1][0] == "note"


def test_what_leads_nowhere_is_told(write):
    """Each of them makes an app's first message fail."""
    command = write("postgresql://127.0.0.1:1/x", '[daemon]\nstate_dir = "state"\n')
    _, found = findings(command)
    texts = [text for grade, text in found[str(command.path)] if grade == "problem"]
    assert [text.split(":")[0] for text in texts] == ["no [[link]]", "no [[sender]]", "no [[route]]"]


def test_a_held_state_directory_is_a_running_daemon(offline):
    """Its binds are not disturbed."""
    state = StateDirectory.open(offline.path.parent / "state", "1")
    try:
        code, found = findings(offline, "--bind")
    finally:
        state.close()
    assert code == 3  # of the database
    assert "a daemon holds it now" in found["state directory"][0][1]
    assert found["links"] == [("problem", "not tried: the daemon that runs now holds these binds")]


def test_a_state_directory_on_a_full_disk_is_exit_3(offline):
    """The local record could not be written."""
    (offline.path.parent / "state").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, found = findings(offline)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 3
    assert found["state directory"][0] == ("unusable", f"{offline.path.parent / 'state'}: File too large")


@pytest.mark.parametrize(("bind_status", "grade"), [(0, Grade.OK), (0x0E, Grade.PROBLEM)])
def test_each_link_is_bound_once(write, bind_status, grade):
    """The carrier's own answer."""

    async def serve() -> tuple[int, dict[str, list[tuple[str, str]]], int]:
        async with Smsc() as smsc:
            smsc.bind_statuses.append(bind_status)
            command = write("postgresql://127.0.0.1:1/x")
            command.path.write_text(command.path.read_text().replace("port = 1\n", f"port = {smsc.port}\n"))
            code, found = await asyncio.to_thread(findings, command, "--bind")
            return code, found, len(smsc.received("bind_transceiver"))

    code, found, binds = asyncio.run(serve())
    assert code == 3  # of the database
    assert found["link carrier-a"][0][0] == grade
    assert binds == 1


def database(command) -> str:
    return f'"{command.sql("select current_database()")}"'


def test_leaks_are_read_from_a_real_server(command):
    """The query and the judgement fit together: names are those of the server."""

    async def read() -> set[str]:
        connection = await asyncpg.connect(command.url)
        try:
            return set((await connection.fetchrow(QUERIES["log_settings"])).keys())
        finally:
            await connection.close()

    assert asyncio.run(read()) == set(SAFE)
