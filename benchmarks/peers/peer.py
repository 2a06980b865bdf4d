"""What a peer is to the benchmark: one configuration of one system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import asyncpg

    from benchmarks.ledger import Ledger
    from benchmarks.stage import Child

MEMORY: Final = Path("/dev/shm")
SYSTEM: Final = "system"  # the name of the peer's own process
NO_PASSWORD: Final = "none"  # Kannel insists on one; a server that trusts its sockets does not look at it


@dataclass(frozen=True, slots=True)
class Stage:
    """What a peer is started on."""

    url: str  # of its database
    folder: Path  # of the run
    spool: Path  # for files of a queue that are never flushed
    sink_port: int
    window: int  # submit_sm unanswered
    held: list[Child]  # those that end with the run


class Peer(Protocol):
    """One that can be played."""

    @property
    def name(self) -> str:
        """As the command line has it."""

    @property
    def commits(self) -> str:
        """What it has committed before it answers."""

    @property
    def depth(self) -> int:
        """Messages waiting: no more than these are given, where the load would give more."""

    @property
    def owed(self) -> int:
        """Receipts owed, likewise."""

    @property
    def sink(self) -> tuple[str, ...]:
        """What it needs of the sink: options."""

    @property
    def in_memory(self) -> bool:
        """Whether its spool is in ``MEMORY``."""

    def missing(self) -> str | None:
        """Why it cannot be played, and what to install; None when it can."""

    def version(self) -> str | None:
        """Its version; None when it is not installed."""

    async def start(self, stage: Stage) -> list[str]:
        """Start it, as the child ``SYSTEM``; gives the module of its driver and its options."""

    async def forwarded(self, control: asyncpg.Connection, ledger: Ledger) -> int:
        """Receipts that its app has, or can see."""

    async def left(self, control: asyncpg.Connection) -> int:
        """Rows that say a receipt is awaited."""


def address_of(url: str) -> dict[str, str]:
    """Take the address of a database apart; the host may be the folder of a socket."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    password = unquote(parts.password) if parts.password else query.get("password")
    return {
        "host": parts.hostname or query.get("host", "127.0.0.1"),
        "port": str(parts.port or query.get("port", 5432)),
        "user": unquote(parts.username) if parts.username else query.get("user", "postgres"),
        "password": password or NO_PASSWORD,
        "name": unquote(parts.path.lstrip("/")),
    }
