"""Kannel's bearerbox, from Debian, as a peer: its three configurations, and how it is started."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks import ledger as cell
from benchmarks.peers.peer import MEMORY, SYSTEM, address_of
from benchmarks.plan import NO_LIMIT
from benchmarks.stage import READY_S, Child, Failed

if TYPE_CHECKING:
    from benchmarks.ledger import Ledger
    from benchmarks.peers.peer import Stage

PROGRAM: Final = "bearerbox"
INSTALL: Final = "not played: kannel is not installed (Debian: apt-get install kannel)"
WITHOUT: Final = "not played: this kannel has no PostgreSQL, so receipts cannot be kept there (bearerbox --version)"
NO_MEMORY: Final = f"not played: {MEMORY} cannot be written, and an eased kannel has its spool there"
ERRORS: Final = "4"  # -v: log errors alone. Its default writes each PDU down, which takes half of its speed
BOX_WINDOW: Final = 1_000  # messages of the driver unanswered
EASED: Final = "-eased"  # of a name: the load and the disk are spared it
MOST_WAIT: Final = 1_000
MOST_OWED: Final = 2_000  # what awaits a receipt in memory is a list that each receipt is looked for in, from its head

CONFIGURATION: Final = """\
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = bench
smsbox-port = {box}
smsbox-interface = 127.0.0.1
smsbox-max-pending = {window}
box-deny-ip = "*.*.*.*"
box-allow-ip = "127.0.0.1"
dlr-storage = {receipts}
{store}
group = smsc
smsc = smpp
smsc-id = sink
host = 127.0.0.1
port = {sink}
transceiver-mode = true
smsc-username = bench
smsc-password = bench
system-type = ""
max-pending-submits = {window}

group = smsbox
bearerbox-host = 127.0.0.1
{database}"""
SPOOL: Final = 'store-type = spool\nstore-location = "{folder}"\n'
DATABASE: Final = """
group = pgsql-connection
id = receipts
host = "{host}"
port = {port}
username = "{user}"
password = "{password}"
database = "{name}"
max-connections = 10

group = dlr-db
id = receipts
table = dlr
field-smsc = smsc
field-timestamp = ts
field-source = source
field-destination = destination
field-service = service
field-url = url
field-mask = mask
field-boxc-id = boxc
field-status = status
"""
# Kannel deletes by oid, which PostgreSQL 12 and later have no more: a column of that name stands in for it.
TABLE: Final = """
create table dlr (
    oid bigserial primary key, smsc text, ts text, source text, destination text, service text, url text,
    mask int, boxc text, status int
);
create index on dlr (smsc, ts);
"""
LEFT: Final = "select count(*) from dlr"


@dataclass(frozen=True, slots=True)
class Kannel:
    """One configuration."""

    name: str
    spool: bool
    postgres: bool
    commits: str  # before it answers
    depth: int = NO_LIMIT
    owed: int = NO_LIMIT
    sink: tuple[str, ...] = ()
    in_memory: bool = False

    def eased(self) -> Kannel:
        """Give the same as it goes fastest: of few messages and receipts at once, its spool in memory."""
        return replace(self, name=self.name + EASED, depth=MOST_WAIT, owed=MOST_OWED, in_memory=True)

    def missing(self) -> str | None:
        """Why it cannot be played, and what to install; None when it can."""
        if _program() is None:
            return INSTALL
        if self.postgres and b"Compiled with PostgreSQL" not in _version():
            return WITHOUT
        if self.in_memory and not os.access(MEMORY, os.W_OK):
            return NO_MEMORY
        return None

    def version(self) -> str | None:
        """What it says of itself; None when it is not installed."""
        if _program() is None:
            return None
        return _version().decode(errors="replace").partition("`")[2].partition("'")[0]

    def configuration(self, stage: Stage, admin: int, box: int) -> str:
        """Write kannel.conf, with two ports of its own."""
        return CONFIGURATION.format(
            sink=stage.sink_port,
            admin=admin,
            box=box,
            window=stage.window,
            receipts="pgsql" if self.postgres else "internal",
            store=SPOOL.format(folder=stage.spool) if self.spool else "",
            database=DATABASE.format(**address_of(stage.url)) if self.postgres else "",
        )

    async def start(self, stage: Stage) -> list[str]:
        """Start it; gives the driver and its options.

        Raises:
            Failed: it ended, or does not listen.

        """
        if self.postgres:
            connection = await asyncpg.connect(stage.url)
            try:
                await connection.execute(TABLE)
            finally:
                await connection.close()
        admin, box = _free_ports(2)
        file = stage.folder / "kannel.conf"
        file.write_text(self.configuration(stage, admin, box))
        path = _program()
        assert path is not None
        child = Child(SYSTEM, ["-v", ERRORS, str(file)], stage.folder, program=path)
        stage.held.append(child)
        await _listens(child, box)
        return ["benchmarks.peers.box", "--port", str(box), "--window", str(BOX_WINDOW)]

    async def forwarded(self, control: asyncpg.Connection, ledger: Ledger) -> int:  # noqa: ARG002
        """Receipts that it has given the app, which is the driver."""
        return ledger[cell.FORWARDED]

    async def left(self, control: asyncpg.Connection) -> int:
        """Receipts that it still waits for in its table."""
        return int(await control.fetchval(LEFT)) if self.postgres else 0


CONFIGURATIONS: Final = (
    Kannel("kannel-memory", spool=False, postgres=False, commits="nothing"),
    Kannel("kannel-spool", spool=True, postgres=False, commits="a file in the spool, never flushed"),
    Kannel(
        "kannel-postgres",
        spool=True,
        postgres=True,
        commits="a file in the spool, never flushed; the receipt's row after submit_sm_resp",
    ),
)


def _program() -> str | None:
    """Where it is; Debian's place for it is in the PATH of root alone."""
    return shutil.which(PROGRAM, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def _version() -> bytes:
    path = _program()
    assert path is not None
    return subprocess.run([path, "--version"], capture_output=True, check=False, timeout=30).stdout


def _free_ports(count: int) -> list[int]:
    """Ports that nobody holds at this moment: Kannel does not take 0 for any."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def _listens(child: Child, port: int) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if child.process.poll() is not None or time.monotonic() > until:
                told = _panic(child) or child.last_words()
                raise Failed(f"{child.name} does not listen: exit {child.process.poll()}; {told}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def _panic(child: Child) -> str | None:
    """Why it gave up: the first line of its PANIC, which a trace of its calls follows."""
    lines = child.log.read_text(errors="replace").splitlines()
    return next((line.partition("PANIC: ")[2] for line in lines if "PANIC: " in line), None)
