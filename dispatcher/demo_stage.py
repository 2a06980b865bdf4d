"""What the demonstration runs on: a Postgres that is thrown away, a simulated SMSC, a daemon as its own process.

Each is a context manager that leaves nothing behind, also when it is cancelled halfway. Ctrl-C in a terminal
reaches every process of the group; the ones here are kept from it, and are stopped in order by us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher import embedded
from dispatcher.errors import DispatcherError
from gateway.smsc import Smsc, SmscSettings

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterable, Iterator

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that end a demonstration

SEGMENTS_PER_S: Final = 150  # of the link
WINDOW: Final = 20
LATENCY_S: Final = 0.1  # from submit_sm to its answer: with this window it spreads a second's segments over 0.75 s
RECEIPT_DELAY_S: Final = (0.1, 0.6)
BOUND_WITHIN_S: Final = 10.0
DRAIN_S: Final = 5

ACCOUNT: Final = "clinic"
PASSWORD: Final = "demo"  # noqa: S105  # of the simulator
SHORT_CODE: Final = "88222"  # patients can answer it

CONFIGURATION: Final = """\
[daemon]
instance = "demo"
state_dir = "state"
drain_timeout_s = {drain_s}

[database]
url = "{url}"

[http]
listen = "127.0.0.1:0"

[[link]]
name = "simulator"
host = "127.0.0.1"
port = {port}
system_id = "{account}"
password = "{password}"
window_size = {window}
throughput_per_s = {segments_per_s}

[[sender]]
address = "{short_code}"
categories = ["emergency", "staff", "transactional", "informational"]

[[sender]]
address = "Northside"
categories = ["marketing"]

[[route]]
prefix = ""
links = ["simulator"]
"""


class DemoFailed(DispatcherError):
    """The demonstration did not show what it should. One line that says why."""


def folder() -> Path:
    """Make a folder that root's Postgres, which runs as another user, can reach its own directory in."""
    made = Path(tempfile.mkdtemp(prefix="tocsin-demo-"))
    made.chmod(0o711)
    return made


@contextlib.asynccontextmanager
async def postgres(directory: Path) -> AsyncIterator[str]:
    """Have a database, and take it away with all its data; gives its URL."""
    starting = asyncio.create_task(asyncio.to_thread(_started, directory))
    try:
        server = await asyncio.shield(starting)
    except asyncio.CancelledError:  # a thread cannot be interrupted: what it started is ours to stop
        with contextlib.suppress(DispatcherError):
            _remove(await starting)
        raise
    try:
        with _undisturbed():
            url = server.create_database("tocsin")
        yield url
    finally:
        _remove(server)


def _started(directory: Path) -> embedded.EmbeddedServer:
    with _undisturbed():
        return embedded.start(directory, durable=False)


def _remove(server: embedded.EmbeddedServer) -> None:
    with _undisturbed():
        server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Run programs that Ctrl-C does not reach: a pg_ctl that it ends leaves a server behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def simulator() -> Smsc:
    """Make the SMSC; it listens once it is entered."""
    return Smsc(SmscSettings(accounts={ACCOUNT: PASSWORD}, latency_s=LATENCY_S, receipt_delay_s=RECEIPT_DELAY_S))


def configuration(url: str, port: int) -> str:
    """Give the text of the daemon's file, for this database and this port of the SMSC."""
    return CONFIGURATION.format(
        url=url,
        port=port,
        account=ACCOUNT,
        password=PASSWORD,
        window=WINDOW,
        segments_per_s=SEGMENTS_PER_S,
        short_code=SHORT_CODE,
        drain_s=DRAIN_S,
    )


@contextlib.asynccontextmanager
async def daemon(file: Path, log: Path) -> AsyncIterator[Process]:
    """Have a daemon, which is not there any more afterwards."""
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "dispatcher.cli", "run", "--config", str(file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(os.environ.items()),
            start_new_session=True,  # Ctrl-C is for us: we stop it in order
        )
    try:
        yield process
    finally:
        with contextlib.suppress(DemoFailed):
            await drained(process)
        if process.returncode is None:
            process.kill()
            await process.wait()


def environment(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Leave out what would lead the daemon to a database or a secret of the user's own."""
    return {
        name: value
        for name, value in given
        if not name.startswith(("TOCSIN_", "PG")) and name != "CREDENTIALS_DIRECTORY"
    }


async def bound(smsc: Smsc, process: Process) -> None:
    """Wait until the daemon has bound."""
    tasks = [asyncio.create_task(smsc.until(lambda: smsc.bound)), asyncio.create_task(process.wait())]
    try:
        await asyncio.wait(tasks, timeout=BOUND_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if process.returncode is not None:
        raise DemoFailed(f"the daemon ended with code {process.returncode}")
    if not smsc.bound:
        raise DemoFailed(f"the daemon did not bind within {BOUND_WITHIN_S:.0f} s")


async def drained(process: Process) -> None:
    """Tell the daemon to drain, and wait for its end."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S + 2):
                await process.wait()
    if process.returncode is None:
        raise DemoFailed("the daemon did not drain")
    if process.returncode != 0:
        raise DemoFailed(f"the daemon ended with code {process.returncode}")
