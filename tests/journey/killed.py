"""What tests of kill points share: an SMSC, an app, and one daemon after the other on one state directory.

``tests/journey/kill_points.py`` says where each point is.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.settings import load
from dispatcher.apply import apply
from dispatcher.store import connect
from tests.fakes.smsc import Smsc
from tests.journey.running import LINK, ROOT, Child, app_of, until, write_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from tests.journey.running import App

RUNNER = ("-m", "tests.journey.kill_points")
SIGKILLED = -9


@dataclass
class World:
    """Who is there before and after a kill."""

    smsc: Smsc
    app: App
    child: Child
    folder: Path

    async def dies_at(self, point: str, *extra: str) -> None:
        """Run a daemon to its death at this point: by SIGKILL, and nowhere else."""
        await self.start_to_die_at(point, *extra)
        await self.died_at(point)

    async def start_to_die_at(self, point: str, *extra: str) -> None:
        self.child.command = (*RUNNER, "--at", point, "--told", str(self._told(point)), *extra)
        await self.child.start()

    async def died_at(self, point: str) -> None:
        code = await self.child.wait()
        assert code == SIGKILLED, self.child.output
        assert self._told(point).read_text(encoding="ascii") == point
        self._told(point).unlink()
        await self.smsc.until(lambda: not self.smsc.sessions)

    def _told(self, point: str) -> Path:
        return self.folder / f"{point}.told"

    async def start(self) -> None:
        """Run a daemon that lives."""
        self.child.command = RUNNER
        await self.child.start()

    async def restart(self) -> None:
        """Run a daemon that lives, until it has accounted for what the dead ones left."""
        await self.start()
        await self.child.until_logged("link_taken")

    async def until_bound(self) -> None:
        """Wait until the SMSC can deliver."""
        await self.smsc.until(lambda: any(session.receives for session in self.smsc.sessions))

    async def kill(self) -> None:
        """Kill -9 from outside."""
        self.child.kill()
        await self.child.wait()
        await self.smsc.until(lambda: not self.smsc.sessions)

    async def end(self) -> None:
        """SIGTERM; then nothing of the journal is left."""
        self.child.terminate()
        assert await self.child.wait() == 0, self.child.output
        assert await self.app.value("select count(*) from tocsin.claim") == 0

    async def pause(self, *, paused: bool) -> None:
        """Keep the link from sending, as an operator does, or let it."""
        await self.app.value("select tocsin.set_paused('link', $1, $2, '', 'test')", LINK, paused)

    async def states(self, ids: list[int]) -> tuple[str | None, ...]:
        return tuple([await self.app.state(number) for number in ids])

    @staticmethod
    def fit(states: tuple[str | None, ...], wanted: tuple[str, ...]) -> bool:
        """Whether each state is the wanted one, or one of those that a bar divides."""
        return all(state in one.split("|") for state, one in zip(states, wanted, strict=True))

    async def until_states(self, ids: list[int], wanted: tuple[str, ...]) -> None:
        """Wait until each of these jobs is in its state."""

        async def reached() -> bool:
            return self.fit(await self.states(ids), wanted)

        try:
            await until(reached)
        except AssertionError:
            raise AssertionError(f"{await self.states(ids)}, not {wanted}") from None

    async def doubt_is(self, interval: str) -> None:
        """Let everything in doubt have been so for this long."""
        await self.app.connection.execute("update tocsin.uncertain set since = now() - $1::text::interval", interval)


@asynccontextmanager
async def world_of(
    folder: Path,
    queue_url: str,
    *,
    first_port: int | None = None,
    daemon: Mapping[str, object] | None = None,
    tables: Sequence[tuple[str, Mapping[str, object]]] = (),
    **link: object,
) -> AsyncIterator[World]:
    """Bring up the SMSC; the file is applied, so that an app can enqueue before a daemon is there.

    With ``first_port`` a link to there comes first in the route.
    """
    asyncio.get_running_loop().set_debug(False)
    async with Smsc() as smsc, app_of(queue_url) as app:
        smsc.delivers_again = True
        first = {} if first_port is None else {"first": {"port": first_port, **link}}
        path = write_file(folder, queue_url, first | {LINK: {"port": smsc.port, **link}}, daemon=daemon, tables=tables)
        connection = await connect(queue_url)
        await apply(connection, load(path, {}))
        await connection.close()
        child = Child(path)
        try:
            yield World(smsc, app, child, folder)
        finally:
            await child.__aexit__()


async def begin(*arguments: str) -> asyncio.subprocess.Process:
    """Start the runner with these arguments."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *RUNNER, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def command(*arguments: str) -> tuple[int, str]:
    """Run the runner with these arguments; exit code and what it printed."""
    process = await begin(*arguments)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def too_late(number: int) -> str:
    """What `cancel` prints for a job of one part that is out, where no daemon runs that could ask the carrier."""
    return f"part 1, {LINK}: not asked: no daemon has the link\ntocsin: job {number}: too_late\n"


async def command_dies_at(folder: Path, point: str, *arguments: str, nth: int = 1) -> None:
    """Run a command to its death at this point."""
    told = folder / f"{point}.told"
    code, out = await command("--at", point, "--nth", str(nth), "--told", str(told), *arguments)
    assert code == SIGKILLED, out
    assert told.read_text(encoding="ascii") == point
