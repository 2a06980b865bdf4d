"""smpp-gateway (Django and Postgres, from PyPI) as a peer: run by a Python that has it, which is not ours."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.peers.peer import SYSTEM, address_of
from benchmarks.peers.rows import DELIVERED
from benchmarks.stage import Child, Failed

if TYPE_CHECKING:
    import asyncpg

    from benchmarks.ledger import Ledger
    from benchmarks.peers.peer import Stage

SMPP_GATEWAY: Final = "smpp-gateway"
VERSION: Final = "1.4.2"  # that was tried
INSTALL: Final = (
    f"not played: smpp-gateway needs a Python of its own (python -m venv DIR; DIR/bin/pip install "
    f"smpp-gateway=={VERSION}; --smpp-gateway DIR/bin/python)"
)
WITHOUT: Final = "not played: the Python of --smpp-gateway does not have it (pip install smpp-gateway)"
ASK: Final = "import importlib.metadata as m, smpp_gateway; print(m.version('smpp_gateway'))"
BACKEND: Final = "sink"
PER_S: Final = 100  # its limit, times its event loop's timeout of 5 s, is what it takes at a NOTIFY; its default is 20
MOST_WAIT: Final = 1_000
MOST_OWED: Final = 1_000  # it sends before it reads: with more it owes them all at the end
MIGRATE_S: Final = 120.0
SETTINGS: Final = """\
SECRET_KEY = "bench"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rapidsms", "smpp_gateway"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", **{database}}}}}
"""
LEFT: Final = "select count(*) from smpp_gateway_mtmessage where status <> 'delivered'"


@dataclass(frozen=True, slots=True)
class SmppGateway:
    """Its one configuration."""

    python: str | None
    name: str = SMPP_GATEWAY
    commits: str = "the message and its status, in Postgres, flushed; a receipt before deliver_sm_resp"
    depth: int = MOST_WAIT
    owed: int = MOST_OWED
    sink: tuple[str, ...] = ("--receipted-message-id",)  # it takes a deliver_sm without for a message
    in_memory: bool = False

    def missing(self) -> str | None:
        """Why it cannot be played, and what to install; None when it can."""
        if self.python is None:
            return INSTALL
        return None if self.version() else WITHOUT

    def version(self) -> str | None:
        """Its version; None where that Python has none."""
        if self.python is None:
            return None
        try:
            asked = subprocess.run(
                [self.python, "-c", ASK], check=False, capture_output=True, text=True, timeout=MIGRATE_S
            )
        except OSError:
            return None
        return asked.stdout.strip() or None

    async def start(self, stage: Stage) -> list[str]:
        """Make its tables and start it; gives the driver and its options.

        Raises:
            Failed: its tables could not be made.

        """
        address = address_of(stage.url)
        (stage.folder / "peer_settings.py").write_text(SETTINGS.format(database=settings_of(address)))
        migrate = self._child("migrate", ["migrate", "--verbosity", "0"], stage)
        if await migrate.ended(MIGRATE_S):
            raise Failed(f"its tables were not made: {migrate.last_words()}")
        stage.held.remove(migrate)
        migrate.kill()
        parameters = {"source_addr": "Northside", "registered_delivery": 1}
        self._child(
            SYSTEM,
            [
                *("smpp_client", BACKEND, "--host", "127.0.0.1", "--port", str(stage.sink_port)),
                *("--system-id", "bench", "--password", "bench", "--mt-messages-per-second", str(PER_S)),
                *("--submit-sm-params", json.dumps(parameters)),
            ],
            stage,
        )
        return ["benchmarks.peers.rows", "--url", stage.url, "--backend", BACKEND]

    def _child(self, name: str, words: list[str], stage: Stage) -> Child:
        assert self.python is not None
        environment = {"DJANGO_SETTINGS_MODULE": "peer_settings", "PYTHONPATH": str(stage.folder)}
        child = Child(name, ["-m", "django", *words], stage.folder, environment, program=self.python)
        stage.held.append(child)
        return child

    async def forwarded(self, control: asyncpg.Connection, ledger: Ledger) -> int:  # noqa: ARG002
        """Messages that its table says are delivered."""
        return int(await control.fetchval(DELIVERED))

    async def left(self, control: asyncpg.Connection) -> int:
        """Messages that its table does not say that of."""
        return int(await control.fetchval(LEFT))


def settings_of(address: dict[str, str]) -> dict[str, str]:
    """Name the parts of an address as Django does."""
    return {name.upper(): part for name, part in address.items()}
