"""The command with a file and a database of its own, called in this process."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from dispatcher import cli

FILE = """
[daemon]
state_dir = "state"

[http]
listen = "127.0.0.1:0"

[[link]]
name = "carrier-a"
host = "127.0.0.1"
port = 1
system_id = "clinic"
password = "secret"

[[sender]]
address = "Northside"
categories = ["emergency", "staff", "transactional"]

[[route]]
prefix = "44"
links = ["carrier-a"]
"""
TO = "+447700900123"
TEXT = "Your appointment is at nine"
PRIVATE = ("447700900123", "appointment", "secret", "hunter2")
EMPTIED = """
do $$ begin
    delete from tocsin.ready; delete from tocsin.deferred; delete from tocsin.closed; delete from tocsin.sent;
    delete from tocsin.uncertain; delete from tocsin.idempotency; alter sequence tocsin.job_id restart;
end $$
"""


class Command:
    """The command with a file of its own; ``out`` and ``err`` are what the last call printed."""

    def __init__(self, path, capsys, url: str) -> None:
        self.path = path
        self.url = url
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, name: str, *arguments: str) -> int:
        self._capsys.readouterr()
        code = cli.invoke([name, "--config", str(self.path), *arguments])
        self.out, self.err = self._capsys.readouterr()
        assert self.err.count("\n") <= 1, self.err
        assert not any(word in self.err for word in PRIVATE)
        return code

    def job(self, **named: str) -> int:
        """A message to `TO` through the command; gives its id."""
        assert self("enqueue", TO, TEXT, *(f"--{name}={value}" for name, value in named.items())) == 0
        return int(self.out.split()[0])

    def sql(self, sql: str, *arguments: object):
        """Run SQL as the superuser; gives the first value."""

        async def work():
            connection = await asyncpg.connect(self.url, server_settings={"timezone": "UTC"})
            try:
                return await connection.fetchval(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(work())


def as_user(url: str, user: str) -> str:
    """The same database for another user, whose password is hunter2."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:hunter2@{parts.netloc.rpartition('@')[2]}").geturl()


@pytest.fixture
def write(tmp_path, capsys):
    """Make a command over a file that names the given database."""

    def make(url: str, file: str = FILE) -> Command:
        path = tmp_path / "tocsin.toml"
        path.write_text(f'[database]\nurl = "{url}"\n{file}')
        return Command(path, capsys, url)

    return make


@pytest.fixture(scope="module")
def shared_url(database_server, template_database, roles_left_as_found):
    """One migrated database for the tests that only enqueue, look and cancel."""
    name = database_server.create(template_database)
    yield database_server.database_url(name)
    database_server.drop(name)


@pytest.fixture
def command(write, shared_url):
    """A command whose file is applied, over a queue without jobs."""
    made = write(shared_url)
    assert made("apply") == 0
    made.sql(EMPTIED)
    return made


@pytest.fixture
def offline(write):
    """A command that ends before it would need its database."""
    return write("postgresql://127.0.0.1:1/x")
