"""The one shape for every writer of ``ready`` but the claim: take rows, and put back those that a journal names.

A claim commits its journal before anything is written to a wire. Whoever takes a row in one statement and asks the
journals in the next one therefore sees each claim that came first; a row that one names may be on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatcher.store import array

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from dispatcher.store import Connection, Record


class _Named(Exception):
    """A journal names rows that were about to be taken: put them back."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        super().__init__(len(ids))


async def take_unjournalled(
    connection: Connection,
    link: str,
    lane: int,
    leave: Iterable[int],
    take: Callable[[str], Awaitable[Record | None]],
) -> Record | None:
    """Run ``take`` in a transaction of its own and give its row; None: it took nothing.

    ``take`` gets the ids to leave alone and its row tells the ids taken, ``ids``, both as array literals. While a
    journal names one of them all is rolled back, and it is run again without those.

    Raises:
        StoreUnavailable: nothing was taken, or after a failed commit nobody knows.

    """
    left = list(leave)
    while True:
        try:
            async with connection.transaction():
                row = await take(array(left))
                if row is not None and row["ids"] != "{}":
                    named = await connection.fetch("named", link, lane, row["ids"])
                    if named:
                        raise _Named([found["id"] for found in named])
                return row
        except _Named as found:
            left += found.ids
