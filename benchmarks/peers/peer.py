"""What a peer is to the benchmark: one configuration of one system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from benchmarks.ledger import Ledger
    from benchmarks.stage import Child

SYSTEM: Final = "system"  # the name of the peer's own process


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
        """Messages waiting that suit it: no more than these are given."""

    @property
    def owed(self) -> int:
        """Receipts owed that suit it."""

    @property
    def sink(self) -> tuple[str, ...]:
        """What it needs of the sink: options."""

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
