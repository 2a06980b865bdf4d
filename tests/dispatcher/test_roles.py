"""dispatcher/roles.py: who may do what in the schema.

The roles belong to the cluster: those that these tests had to make are dropped at the end.
"""

from __future__ import annotations

import contextlib
import re
import secrets

import asyncpg
import pytest

from dispatcher.roles import grant_roles
from dispatcher.store import QUERIES, connect
from tests.events import visible
from tests.store.seed import partitions_of_today

pytestmark = pytest.mark.usefixtures("roles_left_as_found")

ROLES = {"tocsin_app", "tocsin_daemon", "tocsin_auditor", "tocsin_owner"}
DENIED = asyncpg.InsufficientPrivilegeError
SETUP = """
insert into tocsin.link (name, account) values ('a', 'a');
insert into tocsin.category values ('transactional', 3, '1 day', 'hold', 'applies', 'no', 10, 0, false);
insert into tocsin.sender values ('Northside', 0, '{transactional}', null);
insert into tocsin.route values ('', '{a}');
insert into tocsin.inbound values (now(), 1, 'a', '1', '2', 'a reply', 'text', null, 0, 0, '');
"""


@contextlib.asynccontextmanager
async def granted(url):
    """A database with roles and grants; its superuser connection, and a way to connect as a new member of a role."""
    connection = await connect(url)
    users: list[str] = []
    sessions: list[asyncpg.Connection] = []

    async def member(role: str) -> asyncpg.Connection:
        user = f"test_{secrets.token_hex(6)}"
        await connection.raw.execute(f"create role {user} login in role {role}")
        users.append(user)
        own = await asyncpg.connect(url)
        sessions.append(own)
        await own.execute(f"set session authorization {user}")
        return own

    try:
        await grant_roles(connection)
        await connection.execute(SETUP)
        yield connection.raw, member
    finally:
        for own in sessions:
            await own.close()
        for user in users:
            await connection.raw.execute(f"drop role {user}")
        await connection.close()


async def enqueue(session) -> int:
    return await session.fetchval("select job_id from tocsin.enqueue('+447700900123', 'hello')")


async def test_the_roles_exist_afterwards_without_login(database_url):
    """A group that could log in would be an account without an owner."""
    async with granted(database_url) as (root, _):
        rows = await root.fetch("select rolname, rolcanlogin, rolsuper from pg_roles where rolname ~ '^tocsin_'")
        assert {row["rolname"] for row in rows} == ROLES
        assert not any(row["rolcanlogin"] or row["rolsuper"] for row in rows)


async def test_a_second_run_makes_nothing_and_changes_nothing(database_url):
    """It is run after each migration."""
    acl = (
        "select relname::text, relacl::text from pg_class where relnamespace = 'tocsin'::regnamespace order by relname"
    )
    connection = await connect(database_url)
    await grant_roles(connection)
    before = await connection.raw.fetch(acl)
    assert await grant_roles(connection) == []
    assert await connection.raw.fetch(acl) == before
    await connection.close()


async def test_what_was_granted_beyond_the_need_is_taken_back(database_url):
    """The grants are what this version says, whatever a person tried meanwhile."""
    async with granted(database_url) as (root, member):
        await root.execute("grant select on tocsin.ready to tocsin_app, public")
        connection = await connect(database_url)
        await grant_roles(connection)
        await connection.close()
        with pytest.raises(DENIED):
            await (await member("tocsin_app")).fetch("select body from tocsin.ready")


async def test_an_app_uses_the_functions_and_the_views(database_url):
    """That is the whole interface of upstream apps."""
    async with granted(database_url) as (_, member):
        app = await member("tocsin_app")
        job_id = await enqueue(app)
        many = await app.fetch("""select * from tocsin.enqueue_many('[{"recipient": "+447700900123", "body": "x"}]')""")
        assert many[0]["outcome"] == "queued"
        assert await app.fetchval("select state from tocsin.job_status($1)", job_id) == "queued"
        assert await app.fetchval("select count(*) from tocsin.job_status") == 2
        assert await app.fetchval("select text from tocsin.inbox") == "a reply"
        assert await app.fetchval("select tocsin.cancel($1)", job_id) == "cancelled"
        await visible(app)
        assert await app.fetchval("select type from tocsin.event where subject = $1", str(job_id)) == "job.cancelled"


async def test_an_app_sees_its_own_jobs_alone(database_url):
    """Another app's job is unknown to it, not forbidden."""
    async with granted(database_url) as (_, member):
        job_id = await enqueue(await member("tocsin_app"))
        other = await member("tocsin_app")
        assert await other.fetchval("select count(*) from tocsin.job_status") == 0
        assert await other.fetchval("select tocsin.cancel($1)", job_id) == "unknown"


async def tables(root) -> list[str]:
    rows = await root.fetch(
        "select relname from pg_class where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p')"
    )
    return [row["relname"] for row in rows]


async def test_an_app_reaches_no_table(database_url):
    """Partitions included: a text must not be readable through a child of its table."""
    async with granted(database_url) as (root, member):
        app = await member("tocsin_app")
        for table in await tables(root):
            with pytest.raises(DENIED):
                await app.fetch(f"select 1 from tocsin.{table}")


async def test_an_app_calls_no_function_of_the_daemon(database_url):
    """Settling or making partitions is not an app's business."""
    async with granted(database_url) as (_, member):
        app = await member("tocsin_app")
        for call in ("make_partitions(1)", "event_seq(1)", "find_ready(1)", "admit('[]')"):
            with pytest.raises(DENIED):
                await app.fetch(f"select tocsin.{call}")


async def test_an_auditor_reads_evidence_of_every_app(database_url):
    """What was sent, what was closed, what was told, and by which file."""
    async with granted(database_url) as (_, member):
        await enqueue(await member("tocsin_app"))
        auditor = await member("tocsin_auditor")
        assert await auditor.fetchval("select count(*) from tocsin.job_status") == 1
        for table in ("sent", "closed", "event_log", "event", "receipt_wait", "applied", "claim", "link"):
            await auditor.fetch(f"select * from tocsin.{table}")
        assert await auditor.fetchval("select class from tocsin.inbox") == "text"
        assert await auditor.fetch("select recipient from tocsin.suppression") == []
        assert await auditor.fetch("select recipient, doubt from tocsin.uncertain") == []


async def test_an_auditor_reads_no_text_anywhere(database_url):
    """Judged from the catalogue, so that a column added later is judged too."""
    async with granted(database_url) as (root, _):
        readable = await root.fetch("""
            select c.relname || '.' || a.attname as place
            from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p', 'v')
              and a.attname in ('body', 'text', 'octets', 'options', 'evidence')
              and has_column_privilege('tocsin_auditor', c.oid, a.attnum, 'select')""")
        assert readable == []


async def test_an_auditor_changes_nothing(database_url):
    """Neither rows nor, through a function, jobs."""
    async with granted(database_url) as (root, member):
        auditor = await member("tocsin_auditor")
        for statement in ("delete from tocsin.sent", "update tocsin.link set paused = true", "select tocsin.cancel(1)"):
            with pytest.raises(DENIED):
                await auditor.execute(statement)
        writable = await root.fetchval("""
            select count(*) from pg_class c where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p', 'v')
              and has_table_privilege('tocsin_auditor', c.oid, 'insert, update, delete, truncate')""")
        assert writable == 0


async def test_a_daemon_may_run_every_query(database_url):
    """Preparing checks nothing, so each is planned and started with parameters that match no row."""
    async with granted(database_url) as (_, member):
        daemon = await member("tocsin_daemon")
        ours = re.compile("role|lock|apply_")
        for name, sql in QUERIES.items():
            if ours.search(name):
                continue
            statement = await daemon.prepare(sql)
            arguments = ["{}" if p.name == "text" else nothing(p.name) for p in statement.get_parameters()]
            transaction = daemon.transaction()
            await transaction.start()
            try:
                await statement.fetch(*arguments)
            except DENIED as error:
                pytest.fail(f"{name}: {error}")
            except asyncpg.PostgresError:
                pass  # refused for what was asked, not for who asked
            finally:
                await transaction.rollback()


def nothing(kind: str) -> object:
    return {"bool": False, "float8": 1.0, "timestamptz": None}.get(kind, 1)


async def test_a_daemon_makes_partitions_and_defines_nothing(database_url):
    """A daemon that is taken over must not be able to change the schema or its history."""
    async with granted(database_url) as (root, member):
        await partitions_of_today(root)
        daemon = await member("tocsin_daemon")
        assert await daemon.fetchval("select tocsin.make_partitions(16)") == 14
        for statement in (
            "create table tocsin.mine (a int)",
            "alter table tocsin.ready add column mine int",
            "drop table tocsin.sent",
            "truncate tocsin.sent",
            "delete from tocsin.migration",
        ):
            with pytest.raises(DENIED):
                await daemon.execute(statement)


async def test_an_owner_may_change_every_row(database_url):
    """The role for repairs by hand."""
    async with granted(database_url) as (_, member):
        owner = await member("tocsin_owner")
        await owner.execute("delete from tocsin.sender")
        assert await owner.fetchval("select tocsin.sees_all()")


async def test_everybody_else_gets_nothing(database_url):
    """A database may serve others too."""
    async with granted(database_url) as (_, member):
        stranger = await member("pg_monitor")
        for statement in ("select * from tocsin.job_status", "select tocsin.cancel(1)", "select * from tocsin.link"):
            with pytest.raises(DENIED):
                await stranger.fetch(statement)
