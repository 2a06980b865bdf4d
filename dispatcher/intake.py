"""Takes receipts from the SMSC: each is kept, then answered, then given to the desk that applies it.

An SMSC leaves only so many deliver_sm unanswered, so receipts come home as fast as that window is turned around. What
came is therefore kept as it is, one row a link and flush in ``receipt_taken``; the deliver_sm_resp goes out after that
commit, and ``receipts.py`` finds the segments in batches of its own size. When the database is away the answer is 0x64,
and the SMSC keeps the receipt. What a process left in the table, or a commit that nobody saw, is found by the link's
owner and applied again, which changes nothing.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.receipts import RANK, Item, Taken, known
from dispatcher.store import array, texts
from gateway import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from config.settings import LinkSettings
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.store import Connection
    from gateway import Delivery

log = structlog.get_logger()

MOST_AT_ONCE = 1_000
MOST_UNWRITTEN = 20_000  # 1.2 kB each. A session's own bound forgets what came before it was bound anew
LEFT_AFTER_S = 10.0  # a row that old which memory does not hold belongs to a commit that nobody saw
OK = 0x00
THROTTLED = 0x58  # ESME_RTHROTTLED: the SMSC keeps it and sends it again
TEMPORARY = 0x64  # ESME_RX_T_APPN: the SMSC keeps it and sends it again


class Intake:
    """Receipts that came and are not yet answered."""

    def __init__(
        self,
        *,
        links: Mapping[str, LinkSettings],
        desk: ReceiptDesk,
        metrics: DispatcherMetrics,
        wake: Callable[[], None],
    ) -> None:
        self._links = links
        self._desk = desk
        self._metrics = metrics
        self._wake = wake
        self._arrived: deque[tuple[Item, Delivery]] = deque()
        self._keeping = 0  # of the flush in flight
        self._is_full = False

    @property
    def pending(self) -> int:
        """Receipts not yet answered."""
        return len(self._arrived) + self._keeping

    def take(self, link: str, deliveries: Iterable[Delivery]) -> None:
        """Queue the receipts among these; states that are not final are answered and counted."""
        settings = self._links[link]
        for delivery in deliveries:
            receipt = delivery.receipt_or_inbound
            if not isinstance(receipt, Receipt):
                continue
            rank = RANK.get(receipt.state)
            if rank is None:
                self._metrics.count_receipt(link, receipt.state.value)
                delivery.answer(OK)
                continue
            if self.pending + self._desk.held >= MOST_UNWRITTEN:
                self._tell_full(link)
                delivery.answer(THROTTLED)
                continue
            item = Item(
                link=link,
                message_id=receipt.message_id,
                id_format=settings.message_id_format,
                rank=rank,
                error=receipt.error,
                source=receipt.source,
                destination=receipt.destination,
                submitted_on=receipt.submitted_on,
                reason=receipt.reason,
            )
            self._arrived.append((item, delivery))
        if self._arrived:
            self._wake()

    def _tell_full(self, link: str) -> None:
        if not self._is_full:  # told again once half of it was written
            self._is_full = True
            log.warning("deliveries_refused", link=link, kind="receipts", waiting=MOST_UNWRITTEN)

    def refuse(self) -> None:
        """The database is away: what waits is answered 0x64, and the SMSC sends it again."""
        while self._arrived:
            self._arrived.popleft()[1].answer(TEMPORARY)

    async def keep(self, connection: Connection) -> None:
        """Keep what waits, then answer it.

        Raises:
            StoreUnavailable: what waited was answered 0x64, and the SMSC sends it again.

        """
        arrived = [self._arrived.popleft() for _ in range(min(len(self._arrived), MOST_AT_ONCE))]
        if 2 * (len(self._arrived) + self._desk.held) < MOST_UNWRITTEN:
            self._is_full = False
        if not arrived:
            return
        by_link: dict[str, list[Item]] = {}
        for item, _ in arrived:
            by_link.setdefault(item.link, []).append(item)
        self._keeping = len(arrived)
        try:
            rows = await connection.fetch(
                "keep_receipts",
                texts(by_link),
                texts([json.dumps(list(map(_kept, items))) for items in by_link.values()]),
            )
        except StoreUnavailable:
            for _, delivery in arrived:
                delivery.answer(TEMPORARY)
            raise
        finally:
            self._keeping = 0
        for _, delivery in arrived:
            delivery.answer(OK)
        for row, items in zip(rows, by_link.values(), strict=True):
            self._desk.put(items, Taken(row["id"], len(items)))

    async def restore(self, connection: Connection, links: Iterable[str], age_s: float = 0.0) -> None:
        """Take up what was kept for these links at least so long ago, and is in nobody's memory here."""
        for row in await connection.fetch("taken_receipts", texts(links), age_s, array(self._desk.taken)):
            link = row["link"]
            id_format = self._links[link].message_id_format
            items = [
                Item(
                    link, message_id, id_format, rank, error, source, destination, submitted_on, known("".join(reason))
                )
                for message_id, rank, error, source, destination, submitted_on, *reason in json.loads(row["receipts"])
            ]
            self._desk.put(items, Taken(row["id"], len(items)))


def _kept(item: Item) -> tuple[str | int, ...]:
    """What one receipt is kept as; its reason comes last, where it has one."""
    kept = item.message_id, item.rank, item.error, item.source, item.destination, item.submitted_on
    return (*kept, item.reason) if item.reason else kept
