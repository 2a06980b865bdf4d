"""What the demonstration runs on: a Postgres that is thrown away, simulated SMSCs, a daemon as its own process.

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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher import embedded
from dispatcher.errors import DispatcherError
from gateway.smsc import Smsc, SmscSettings

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from gateway.smsc import Submitted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that end a demonstration

RECEIPT_DELAY_S: Final = (0.1, 0.6)
BOUND_WITHIN_S: Final = 10.0
DRAIN_S: Final = 5

PASSWORD: Final = "demo"  # noqa: S105  # of the simulators
SHORT_CODE: Final = "88222"  # patients can answer it


@dataclass(frozen=True, slots=True)
class Carrier:
    """One simulated SMSC, and the link to it."""

    name: str  # also of the account
    segments_per_s: int
    window: int
    latency_s: float  # from submit_sm to its answer: with this window it spreads a second's segments over 0.6 s


# The first one carries most; marketing, and numbers that begin with 447700900 9, go over the second, slower one.
CARRIERS: Final = (Carrier("carrier-a", 120, 20, 0.1), Carrier("carrier-b", 60, 12, 0.15))

CONFIGURATION: Final = """\
[daemon]
instance = "demo"
state_dir = "state"
drain_timeout_s = {drain_s}

[database]
url = "{url}"

[http]
listen = "127.0.0.1:{http_port}"
{links}
[[sender]]
address = "{short_code}"
categories = ["emergency", "staff", "auth", "conversational", "transactional", "informational"]

[[sender]]
address = "Northside"
categories = ["marketing"]
links = ["carrier-b"]

[[route]]
prefix = ""
links = ["carrier-a", "carrier-b"]

[[route]]
prefix = "4477009009"
links = ["carrier-b"]
"""

LINK: Final = """
[[link]]
name = "{name}"
host = "127.0.0.1"
port = {port}
system_id = "{name}"
password = "{password}"
window_size = {window}
throughput_per_s = {segments_per_s}
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


def simulator(carrier: Carrier, outcome: Callable[[Submitted], int]) -> Smsc:
    """Make an SMSC; it listens once it is entered. `outcome` gives the message_state that a receipt says."""
    settings = SmscSettings(
        accounts={carrier.name: PASSWORD}, latency_s=carrier.latency_s, receipt_delay_s=RECEIPT_DELAY_S
    )
    return Smsc(settings, outcome=outcome)


def configuration(url: str, ports: Sequence[int], http_port: int = 0) -> str:
    """Give the text of the daemon's file, for this database and these ports of the SMSCs."""
    links = (
        LINK.format(
            name=carrier.name,
            port=port,
            password=PASSWORD,
            window=carrier.window,
            segments_per_s=carrier.segments_per_s,
        )
        for carrier, port in zip(CARRIERS, ports, strict=True)
    )
    return CONFIGURATION.format(
        url=url, http_port=http_port, links="".join(links), short_code=SHORT_CODE, drain_s=DRAIN_S
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


async def bound(smscs: Iterable[Smsc], process: Process, log: Path) -> None:
    """Wait until the daemon has bound to each."""
    binding = [asyncio.create_task(smsc.until(partial(_is_bound, smsc))) for smsc in smscs]
    ending = asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(BOUND_WITHIN_S):
            while not all(task.done() for task in binding):
                unbound = [task for task in binding if not task.done()]
                await asyncio.wait((*unbound, ending), return_when=asyncio.FIRST_COMPLETED)
                check_runs(process, log)
    except TimeoutError:
        raise DemoFailed(f"the daemon did not bind within {BOUND_WITHIN_S:.0f} s") from None
    finally:
        for task in (*binding, ending):
            task.cancel()


def check_runs(process: Process, log: Path) -> None:
    """Raise DemoFailed, with what the daemon said last to a person, if it has ended."""
    if process.returncode is not None:
        said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("tocsin: ")]
        raise DemoFailed(": ".join([f"the daemon ended with code {process.returncode}", *said[-1:]]))


def _is_bound(smsc: Smsc) -> bool:
    return smsc.bound > 0


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
