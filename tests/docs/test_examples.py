"""The examples for apps do what their pages say, each in its language, all with the same outcome."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.docs.app import EXAMPLES, owned_by, tool
from tests.docs.run_docs import PSQL
from tests.events import visible
from tests.journey.running import Relay, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JDBC = "/usr/share/java/postgresql.jar"  # Debian's libpostgresql-jdbc-java
PRINTED = """\
booked: deferred
booked again: duplicate {true}
abroad: blocked NO_ROUTE
malformed: TC400 recipient
another request: TC409 idempotency_key
many: queued, invalid (body: empty)
cancel: cancelled
cancel above read committed: TC425
reply: 3 characters
event: blocked NO_ROUTE
event: cancelled CANCELLED
"""
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("roles_left_as_found")]


async def run(*command: str, **environment: str) -> str:
    """What a program prints; it must end with 0."""
    program = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(program.communicate(), 60)
    except TimeoutError:
        program.kill()
        await program.wait()
        raise
    assert program.returncode == 0, printed.decode()
    return printed.decode()


async def stored_reply(database_url: str) -> None:
    """A reply of a patient, as the daemon stores it."""
    root = await asyncpg.connect(database_url)
    await root.execute(
        "insert into tocsin.inbound (received_at, inbound_id, link, source, destination, text, class, data_coding, esm_class, digest)"
        " values (now(), 1, 'simulator', '447700900123', '88222', 'YES', 'text', 0, 0, '');"
        "select tocsin.tell('', 'inbound.received', 1, null, null, null)"
    )
    await visible(root)
    await root.close()


async def after(database_url: str) -> Mapping[str, object]:
    """What the app has in its own tables afterwards."""
    root = await asyncpg.connect(database_url)
    rows = await root.fetch("select id, outcome, reason from frontdesk.appointment order by id")
    found = {
        "appointments": [tuple(row) for row in rows],
        "replies": await root.fetchval("select count(*) from frontdesk.reply"),
        "unread": await root.fetchval(
            "select count(*) from tocsin.event where seq > (select seq from frontdesk.progress)"
        ),
    }
    await root.close()
    return found


AFTER = {
    "appointments": [(1, "cancelled", "CANCELLED"), (2, "blocked", "NO_ROUTE")],
    "replies": 1,
    "unread": 0,
}


@pytest.mark.parametrize("file", ["with_asyncpg.py", "with_psycopg.py", "with_sqlalchemy.py"])
async def test_python(database_url, file):
    """asyncpg, psycopg 3 and SQLAlchemy 2."""
    async with owned_by("frontdesk", "sql/setup.sql", database_url) as url:
        await stored_reply(database_url)

        printed = await run(sys.executable, "-W", "error", str(EXAMPLES / "python" / file), DATABASE_URL=url)

        assert printed == PRINTED.format(true="True")
        assert await after(database_url) == AFTER


async def test_java(database_url):
    """Debian's JDBC driver, which speaks TCP alone."""
    java = tool("java")
    tool(JDBC)
    async with owned_by("frontdesk", "sql/setup.sql", database_url) as url, Relay(url) as relay:
        await relay.open()
        await stored_reply(database_url)
        jdbc = f"jdbc:{relay.url.replace('frontdesk@', '')}?user=frontdesk"

        printed = await run(java, "-cp", JDBC, str(EXAMPLES / "java" / "FrontDesk.java"), JDBC_URL=jdbc)

        assert printed == PRINTED.format(true="true")
        assert await after(database_url) == AFTER


async def install_pg(npm: str, folder: Path) -> None:
    """Fetch the locked packages; a machine without a registry of npm's skips, CI must have one."""
    try:
        await run(
            npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts",
            "--fetch-retries=1", "--fetch-timeout=10000", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000",
        )  # fmt: skip
    except (AssertionError, TimeoutError):
        if "CI" in os.environ:
            raise
        pytest.skip("npm reaches no registry")


async def test_node(database_url, tmp_path):
    """The package pg, as package-lock.json has it."""
    node, npm = tool("node"), tool("npm")
    for file in (EXAMPLES / "node").glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    await install_pg(npm, tmp_path)
    async with owned_by("frontdesk", "sql/setup.sql", database_url) as url:
        await stored_reply(database_url)

        printed = await run(node, str(tmp_path / "front_desk.mjs"), DATABASE_URL=url)

        assert printed == PRINTED.format(true="true")
        assert await after(database_url) == AFTER


def test_the_locked_packages_are_those_of_any_registry():
    """Their hashes are locked; where they come from is the reader's affair."""
    text = (EXAMPLES / "node" / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}

    assert "node_modules/pg" in packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "://" not in text


async def test_sql(database_url, tmp_path):
    """The statements of apps.md, typed by the app's own user."""
    async with owned_by("frontdesk", "sql/setup.sql", database_url) as url:
        await stored_reply(database_url)

        psql = (str(PSQL), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        printed = await run(*psql, "-f", str(EXAMPLES / "sql" / "app.sql"), url)
        text = (EXAMPLES / "sql" / "app.sql").read_text(encoding="utf-8")
        again = tmp_path / "read.sql"
        again.write_text(text.partition("-- [read\n")[2].partition("-- read]")[0], encoding="utf-8")

        async def read() -> bool:
            """Read on by the cursor: what others have open on this server delays an event."""
            nonlocal printed
            printed += await run(*psql, "-f", str(again), url)
            return "job.cancelled" in printed

        assert "job.cancelled" in printed or await until(read, 30)
        lines = printed.splitlines()
        for expected in (
            "1|duplicate",
            "1|3|queued|",
            "2|4|blocked|NO_ROUTE",
            "3||invalid|body: empty",
            "cancelled|CANCELLED||1|0|",
            "|job_cancelled||simulator|CANCELLED|",
            "inbound.received|1|",
            "job.cancelled|1|",
        ):
            assert any(expected in line for line in lines), (expected, printed)
        assert await after(database_url) == {"appointments": [(1, "deferred", None)], "replies": 1, "unread": 0}


async def test_a_key_in_another_open_transaction_is_asked_for_again(database_url):
    """55P03: after two seconds the example asks again, and is told that the job is there."""
    async with owned_by("frontdesk", "sql/setup.sql", database_url) as url:
        await stored_reply(database_url)
        other = await asyncpg.connect(url)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select * from tocsin.enqueue('+447700900123', 'Hello', idempotency_key => 'reminder-2')")
        running = asyncio.create_task(
            run(sys.executable, str(EXAMPLES / "python" / "with_psycopg.py"), DATABASE_URL=url)
        )
        root = await asyncpg.connect(database_url)

        async def waits() -> Any:
            """Since when the example's statement waits for the key."""
            return await root.fetchval(
                "select max(query_start) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'frontdesk'"
            )

        async def waits_again() -> bool:
            return (await waits() or first) > first

        first = await until(waits)
        await until(waits_again)
        await transaction.rollback()

        assert "abroad: blocked NO_ROUTE" in await running
        await root.close()
        await other.close()
