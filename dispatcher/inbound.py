"""Stores what patients and staff send us, and only then answers it.

The deliver_sm_resp goes out after the commit; when the database is away, or another process has taken the link over, it
says 0x64, and the SMSC keeps the message.
SMPP gives an MO message no id, so a repetition is told by its octets, and only when we know that it must be one: the
same link, addresses, coding and octets within 120 s, *and* the earlier deliver_sm_resp was never written. Two honest
"YES" survive. Whether a response was written survives the process in the local record.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.store import array, texts
from gateway import Inbound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.record import Record
    from dispatcher.store import Connection
    from gateway import Delivery

log = structlog.get_logger()

MOST_AT_ONCE = 500
MOST_UNWRITTEN = 10_000  # a session's own bound forgets what came before it was bound anew
REPEATED_WITHIN_S = 120.0
OK = 0x00
THROTTLED = 0x58  # ESME_RTHROTTLED: the SMSC keeps it and sends it again
TEMPORARY = 0x64  # ESME_RX_T_APPN: the SMSC keeps it and sends it again


def digest(link: str, message: Inbound) -> str:
    """What makes two MO messages the same, in hexadecimal."""
    parts = (
        link,
        message.source.value,
        message.destination.value,
        str(message.data_coding),
        str(message.esm_class),
        "",
    )
    head = "\x00".join(parts)
    return hashlib.sha256(head.encode("utf-8", "replace") + message.octets).hexdigest()


class InboundDesk:
    """MO messages that wait for the next flush."""

    def __init__(
        self,
        *,
        epochs: Mapping[str, int],
        record: Record,
        metrics: DispatcherMetrics,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._epochs = epochs
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._waiting: deque[tuple[str, Inbound, Delivery]] = deque()
        self._flushing = 0  # of the flush in flight
        self._is_full = False
        self._undecodable: deque[tuple[str, bytes]] = deque(maxlen=1_000)  # a flood of garbage is bounded
        self._unanswered: dict[str, float] = {}  # digest -> when it was stored: its response was never written

    @property
    def pending(self) -> int:
        """Messages not yet stored."""
        return len(self._waiting) + self._flushing + len(self._undecodable)

    def take(self, link: str, deliveries: Iterable[Delivery]) -> None:
        """Queue the MO messages among these."""
        for delivery in deliveries:
            message = delivery.receipt_or_inbound
            if not isinstance(message, Inbound):
                continue
            if len(self._waiting) + self._flushing >= MOST_UNWRITTEN:
                self._tell_full(link)
                delivery.answer(THROTTLED)
            else:
                self._waiting.append((link, message, delivery))
        if self._waiting:
            self._wake()

    def _tell_full(self, link: str) -> None:
        if not self._is_full:  # told again once half of it was written
            self._is_full = True
            log.warning("deliveries_refused", link=link, kind="replies", waiting=MOST_UNWRITTEN)

    def take_undecodable(self, link: str, octets: bytes) -> None:
        """Queue a deliver_sm that nobody can read; it was refused already."""
        self._undecodable.append((link, octets))
        self._wake()

    async def restore(self, connection: Connection, links: Iterable[str]) -> None:
        """Learn which recent messages were stored by an earlier process and never answered."""
        now = self._clock()
        for row in await connection.fetch("recent_inbound", texts(links), REPEATED_WITHIN_S):
            if row["inbound_id"] not in self._record.replay.acknowledged:
                self._unanswered[row["digest"]] = now - row["age"]

    def refuse(self) -> None:
        """The database is away: what waits is answered 0x64, and the SMSC sends it again."""
        while self._waiting:
            _, _, delivery = self._waiting.popleft()
            delivery.answer(TEMPORARY)

    async def flush(self, connection: Connection) -> int:
        """Store what waits, then answer it; returns how many.

        Raises:
            StoreUnavailable: what waited was answered 0x64, and the SMSC sends it again.

        """
        await self._flush_undecodable(connection)
        items = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
        if not items:
            return 0
        if 2 * len(self._waiting) < MOST_UNWRITTEN:
            self._is_full = False
        now = self._clock()
        self._unanswered = {key: at for key, at in self._unanswered.items() if now - at < REPEATED_WITHIN_S}
        fresh = []
        for link, message, delivery in items:
            key = digest(link, message)
            if self._unanswered.pop(key, None) is not None:
                self._metrics.count_inbound(link, "repeated")
                delivery.answer(OK)
            else:
                fresh.append((link, message, delivery, key))
        if not fresh:
            return len(items)
        self._flushing = len(fresh)
        try:
            rows = await connection.fetch(
                "store_inbound",
                texts([link for link, _, _, _ in fresh]),
                texts([message.source.value for _, message, _, _ in fresh]),
                texts([message.destination.value for _, message, _, _ in fresh]),
                texts([message.text for _, message, _, _ in fresh]),
                texts([_kind(message) for _, message, _, _ in fresh]),
                texts([message.octets.hex() for _, message, _, _ in fresh]),
                array([message.data_coding for _, message, _, _ in fresh]),
                array([message.esm_class for _, message, _, _ in fresh]),
                texts([key for _, _, _, key in fresh]),
                *self._fence(),
            )
        except StoreUnavailable:
            for _, _, delivery, _ in fresh:
                delivery.answer(TEMPORARY)
            raise
        finally:
            self._flushing = 0
        answer = OK
        try:
            self._record.acknowledged([row["inbound_id"] for row in rows], now)
        except OSError as error:
            # Stored, but nobody would know after a kill that it was answered: the SMSC sends it again, as a repetition.
            log.error("record_failed", error=error.strerror)
            answer = TEMPORARY
        owned = {row["link"] for row in rows}
        for link, message, delivery, key in fresh:
            if link not in owned:
                delivery.answer(TEMPORARY)
                continue
            self._metrics.count_inbound(link, _kind(message))
            if not delivery.answer(answer) or answer != OK:
                self._unanswered[key] = now
        return len(items)

    def _fence(self) -> tuple[str, str]:
        """The owned links and their epochs."""
        return texts(self._epochs), array(self._epochs.values())

    async def _flush_undecodable(self, connection: Connection) -> None:
        while self._undecodable:
            link, octets = self._undecodable[0]
            key = hashlib.sha256(link.encode() + octets).hexdigest()
            await connection.fetch(
                "store_inbound",
                texts([link]),
                *(texts([""]),) * 3,  # no source, destination, text
                texts(["undecodable"]),
                texts([octets.hex()]),
                *(array([0]),) * 2,  # no data_coding, esm_class
                texts([key]),
                *self._fence(),
            )
            self._undecodable.popleft()
            self._metrics.count_inbound(link, "undecodable")
            log.warning("deliver_sm_undecodable", link=link, octets=len(octets))


def _kind(message: Inbound) -> str:
    return "text" if message.is_text else "binary"
