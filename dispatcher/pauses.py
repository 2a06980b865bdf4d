"""What operators have paused, as the database says: links, and lanes whose every category is paused.

A paused link keeps its sessions, so that receipts and replies come in; what waits for it goes back to the queue. From a
lane that is paused as a whole nothing is claimed. Of a lane that is paused in part, jobs of the paused categories are
claimed and put off (``policy.PAUSED``), so that they do not stand before the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from gateway import Gateway, Link

log = structlog.get_logger()


class Pauses:
    """The pauses that are in force in this daemon."""

    def __init__(self, gateway: Callable[[], Gateway], wake_claimer: Callable[[], None]) -> None:
        self._gateway = gateway
        self._wake_claimer = wake_claimer
        self.links: AbstractSet[str] = frozenset()
        self.lanes: AbstractSet[int] = frozenset()

    def tell(self, links: AbstractSet[str], lanes: AbstractSet[int]) -> None:
        """Put in force what the database says now."""
        if (links, lanes) == (self.links, self.lanes):
            return
        log.info("pauses_changed", links=sorted(links), lanes=sorted(lanes))
        self.links, self.lanes = links, lanes
        for link in self._gateway().links.values():
            self.apply(link)
        self._wake_claimer()

    def apply(self, link: Link) -> None:
        """Pause or resume one link: a new one, or after a change."""
        if link.name in self.links:
            link.pause()
        else:
            link.resume()
