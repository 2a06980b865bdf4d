"""What this instance holds in memory and the database has not taken yet; above a bound it claims no more.

Whatever is claimed is in memory until its outcome is committed, so memory is bounded by what may be unwritten and by
the waiting rooms and windows of the links. Lanes 1 to 5 stop first, on outcomes, receipts and replies together. Lane 0
has a bound of its own, and only outcomes count: a carrier that floods us with deliver_sm never stops an emergency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.inbound import InboundDesk
    from dispatcher.intake import Intake
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.settle import Settler

log = structlog.get_logger()

MOST_UNWRITTEN: Final = 4_000  # outcomes, receipts and replies; from here on lanes 1 to 5 claim nothing
MOST_URGENT_UNWRITTEN: Final = 20_000  # outcomes; from here on lane 0 does not either. 1.3 kB each
TELL_AFTER_S: Final = 5.0  # a burst holds claims for less, and often; the metric counts it all
OTHERS: Final = "1-5"
URGENT: Final = "0"


class Backlog:
    """Says whether lanes may claim, and counts for how long they may not, by the part that is slow."""

    def __init__(
        self,
        *,
        settler: Settler,
        receipts: ReceiptDesk,
        intake: Intake,
        inbound: InboundDesk,
        metrics: DispatcherMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._settler = settler
        self._receipts = receipts
        self._intake = intake
        self._inbound = inbound
        self._metrics = metrics
        self._clock = clock
        self._held: dict[str, _Held] = {}  # by lanes

    @property
    def unwritten(self) -> int:
        """Outcomes, receipts and replies that wait to be written."""
        return self._settler.pending + self.deliveries

    @property
    def deliveries(self) -> int:
        """Receipts and replies among them."""
        return self._receipts.pending + self._intake.pending + self._inbound.pending

    def holds_urgent(self) -> bool:
        """Say whether lane 0 must not claim now."""
        return self._note(URGENT, "settle" if self._settler.pending >= MOST_URGENT_UNWRITTEN else None)

    def holds_others(self) -> bool:
        """Say whether lanes 1 to 5 must not claim now."""
        part = None
        if self.unwritten >= MOST_UNWRITTEN:
            part = "settle" if self._settler.pending >= self.deliveries else "receive"
        return self._note(OTHERS, part)

    def _note(self, lanes: str, part: str | None) -> bool:
        """Count what has passed since the last look: it lasted at least until now."""
        held = self._held.get(lanes)
        if held is None and part is None:
            return False
        now = self._clock()
        if held is None:
            assert part is not None
            self._held[lanes] = _Held(part, now, now)
            return True
        if lanes == OTHERS:  # they are held whenever lane 0 is: one second is counted once
            self._metrics.count_claims_held(held.part, max(0.0, now - held.counted_to))
        held.counted_to = now
        if not held.told and now - held.since >= TELL_AFTER_S:
            held.told = True
            log.warning("claims_held", lanes=lanes, part=held.part, unwritten=self.unwritten)
        if part is not None:
            held.part = part
            return True
        del self._held[lanes]
        if held.told:
            log.info("claims_resumed", lanes=lanes, part=held.part, held_s=round(now - held.since, 1))
        return False


@dataclass(slots=True)
class _Held:
    """Some lanes that may not claim."""

    part: str  # that is slow now
    since: float
    counted_to: float
    told: bool = False
