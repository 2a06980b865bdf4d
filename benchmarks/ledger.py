"""Counters that the processes of one run share: 64-bit numbers in a mapped file, each with one writer.

The sink writes what it has seen, each client what it has enqueued; everybody reads. So a client knows how deep
the queue is without asking the database, whose work is what is measured.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

STOP: Final = 0  # set by the bench: clients end
BOUND: Final = 1  # sessions bound at the sink
SUBMITTED: Final = 2  # jobs of the load whose every segment reached the sink; backlog and single emergencies left out
SEGMENTS: Final = 3  # submit_sm of every kind
JOBS: Final = 4  # jobs of every kind, every segment at the sink
OWED: Final = 5  # receipts that the sink still has to send, or to see answered
RECEIPTS: Final = 6  # receipts answered with ESME_ROK
DELIVERED: Final = 7  # jobs whose every segment's receipt was answered so
REFUSED: Final = 8  # receipts answered otherwise; they are sent again
BACKLOG: Final = 9  # jobs of the preloaded backlog at the sink
LANES: Final = 10  # and the five after it: segments of the load and the backlog by lane
FORWARDED: Final = 16  # receipts that a peer has given its app (bench_peers)
CLIENTS: Final = 17  # one a client: jobs of the load that it has enqueued
MOST_CLIENTS: Final = 16
SIZE: Final = CLIENTS + MOST_CLIENTS


class Ledger:
    """The counters of one run; index it with the names above."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(8 * SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * SIZE)
        self.cells = memoryview(self._map).cast("q")

    def __getitem__(self, cell: int) -> int:
        return self.cells[cell]

    def __setitem__(self, cell: int, value: int) -> None:
        self.cells[cell] = value

    @property
    def enqueued(self) -> int:
        """Jobs of the load that were enqueued."""
        return sum(self.cells[CLIENTS:SIZE])

    @property
    def waiting(self) -> int:
        """Jobs of the load that were enqueued and are not yet on the wire: in the table or in the daemon."""
        return self.enqueued - self.cells[SUBMITTED]

    def close(self) -> None:
        """Let go of the file."""
        self.cells.release()
        self._map.close()
