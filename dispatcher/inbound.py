"""Stores what patients and staff send us, and only then answers it.

The deliver_sm_resp goes out after the commit; when the database is away, or another process has taken the link over, it
says 0x64, and the SMSC keeps the message.
SMPP gives an MO message no id, so a repetition is told by its octets, and only when we know that it must be one: the
same link, addresses, coding and octets within 120 s, *and* the earlier deliver_sm_resp was never written. Two honest
"YES" survive. Whether a response was written survives the process in the local record. Parts of a long message are
``parts.py``'s.

When the connection breaks under a statement nobody knows whether it was committed. The messages are answered 0x64, so
they come again; what then stands in the table unacknowledged is theirs, and is not stored twice.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.parts import OK, REFUSED_REPEATED_WITHIN_S, REPEATED_WITHIN_S, TEMPORARY, PartsDesk, kind_of, wishes
from dispatcher.recogniser import NOTHING, Recognised
from dispatcher.store import array, texts
from dispatcher.windows import OpeningHours
from gateway import Inbound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from config.settings import LinkSettings, Settings
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.record import Record
    from dispatcher.stops import Stops
    from dispatcher.store import Connection
    from gateway import Delivery

log = structlog.get_logger()

MOST_AT_ONCE = 500
MOST_UNWRITTEN = 10_000  # a session's own bound forgets what came before it was bound anew
FLUSH_S = 60.0  # more than a flush takes until it fails
THROTTLED = 0x58  # ESME_RTHROTTLED: the SMSC keeps it and sends it again


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
        links: Mapping[str, LinkSettings],
        reassembly_wait_s: float,
        stops: Stops,
        settings: Settings,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._wall_clock = wall_clock  # seconds since 1970, for [hours] alone
        self.configure(settings)
        self._epochs = epochs
        self._parts = PartsDesk(
            links=links, record=record, metrics=metrics, clock=clock, wait_s=reassembly_wait_s, stops=stops
        )
        self._stops = stops
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._waiting: deque[tuple[str, Inbound, Delivery, Recognised]] = deque()
        self._flushing = 0  # of the flush in flight
        self._is_full = False
        self._undecodable: deque[tuple[str, bytes]] = deque(maxlen=1_000)  # a flood of garbage is bounded
        # digest -> until when each of its repetitions is awaited: they are stored, and their response was never written
        self._unanswered: dict[str, list[float]] = {}
        self._acknowledged: dict[int, float] = {}  # inbound ids of the last 120 s, answered by this process
        self._unsure: dict[str, tuple[str, float]] = {}  # digest -> link, since when: their commit may have taken place

        self._forget_at = 0.0

    def configure(self, settings: Settings) -> None:
        """Take the hours of the file."""
        self._hours = OpeningHours(settings.hours)

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
                asked = NOTHING  # of parts, once they are joined
                if message.parts == 1:
                    asked = self._stops.heed(message.source.value, message.destination.value, message.text)
                self._waiting.append((link, message, delivery, asked))
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
            if not self._is_acknowledged(row["inbound_id"]):
                self._unanswered.setdefault(row["digest"], []).append(now - row["age"] + REPEATED_WITHIN_S)

    def _is_acknowledged(self, inbound_id: int) -> bool:
        return inbound_id in self._acknowledged or inbound_id in self._record.replay.acknowledged

    async def _look_for_unsure(self, connection: Connection) -> None:
        """Find what a flush whose commit was not seen has stored: it was refused, and will come again."""
        now = self._clock()
        since = min(at for _, at in self._unsure.values())
        links = {link for link, _ in self._unsure.values()}
        for row in await connection.fetch("recent_inbound", texts(links), now - since + FLUSH_S):
            if row["digest"] in self._unsure and not self._is_acknowledged(row["inbound_id"]):
                self._unanswered.setdefault(row["digest"], []).append(now + REFUSED_REPEATED_WITHIN_S)
        self._unsure.clear()

    def _is_repeated(self, key: str) -> bool:
        awaited = self._unanswered.get(key)
        if awaited is None:
            return False
        awaited.pop()
        if not awaited:
            del self._unanswered[key]
        return True

    def _forget(self, now: float) -> None:
        """Let go of what is past its time; once a second, since it looks through all."""
        if now < self._forget_at:
            return
        self._forget_at = now + 1.0
        self._acknowledged = {key: at for key, at in self._acknowledged.items() if now - at < REPEATED_WITHIN_S}
        kept = {key: [until for until in awaited if until > now] for key, awaited in self._unanswered.items()}
        self._unanswered = {key: awaited for key, awaited in kept.items() if awaited}

    def refuse(self) -> None:
        """The database is away: what waits is answered 0x64, and the SMSC sends it again."""
        while self._waiting:
            self._waiting.popleft()[2].answer(TEMPORARY)

    def look_for_stale(self) -> None:
        """Hand over, with the next flush, messages that wait too long for one of their parts."""
        self._parts.look_for_stale = True
        self._wake()

    async def flush(self, connection: Connection) -> int:
        """Store what waits, then answer it; returns how many.

        Raises:
            StoreUnavailable: what waited was answered 0x64, and the SMSC sends it again.

        """
        await self._flush_undecodable(connection)
        stale = 0
        if self._parts.look_for_stale:
            stale = await self._parts.hand_over_stale(connection, self._fence(), self._opening())
        items = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
        if 2 * len(self._waiting) < MOST_UNWRITTEN:
            self._is_full = False
        parts = [item[:3] for item in items if item[1].parts > 1]
        whole = [item for item in items if item[1].parts == 1]
        self._flushing = len(items)
        try:
            if parts:
                try:
                    await self._parts.store(connection, parts, self._fence(), self._opening())
                except StoreUnavailable:
                    _refuse(delivery for _, _, delivery, _ in whole)
                    raise
            if whole:
                await self._store(connection, whole)
        finally:
            self._flushing = 0
        return len(items) + stale

    async def _store(self, connection: Connection, items: list[tuple[str, Inbound, Delivery, Recognised]]) -> None:
        now = self._clock()
        if self._unsure:
            try:
                await self._look_for_unsure(connection)
            except StoreUnavailable:
                _refuse(delivery for _, _, delivery, _ in items)
                raise
        self._forget(now)
        fresh = []
        for link, message, delivery, asked in items:
            key = digest(link, message)
            if self._is_repeated(key):
                self._metrics.count_inbound(link, "repeated")
                delivery.answer(OK)
            else:
                fresh.append((link, message, delivery, key, asked))
        if not fresh:
            return
        try:
            rows = await connection.fetch(
                "store_inbound",
                texts([link for link, *_ in fresh]),
                texts([message.source.value for _, message, *_ in fresh]),
                texts([message.destination.value for _, message, *_ in fresh]),
                texts([message.text for _, message, *_ in fresh]),
                texts([kind_of(is_text=message.is_text, asked=asked) for _, message, _, _, asked in fresh]),
                texts([message.octets.hex() for _, message, *_ in fresh]),
                array([message.data_coding for _, message, *_ in fresh]),
                array([message.esm_class for _, message, *_ in fresh]),
                texts([key for _, _, _, key, _ in fresh]),
                *self._fence(),
                array([1] * len(fresh)),
                texts([None] * len(fresh)),
                *wishes([asked for *_, asked in fresh]),
                self._opening(),
            )
        except StoreUnavailable:
            for link, _, delivery, key, _ in fresh:
                self._unsure[key] = link, self._clock()
                delivery.answer(TEMPORARY)
            raise
        answer = OK
        try:
            self._record.acknowledged([row["inbound_id"] for row in rows], now)
        except OSError as error:
            # Stored, but nobody would know after a kill that it was answered: the SMSC sends it again, as a repetition.
            log.error("record_failed", error=error.strerror)
            answer = TEMPORARY
        else:
            self._acknowledged.update((row["inbound_id"], now) for row in rows)
        owned = {row["link"] for row in rows}
        for row in rows:
            self._metrics.count_inbound(row["link"], row["class"])
        for link, _, delivery, key, _ in fresh:
            if link not in owned:
                delivery.answer(TEMPORARY)
                continue
            if not delivery.answer(answer) or answer != OK:
                self._unanswered.setdefault(key, []).append(now + REPEATED_WITHIN_S)

    def _opening(self) -> str | None:
        """When we open next, as ``OpeningHours`` says it; None: it is open."""
        return self._hours.opening(self._wall_clock())

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
                array([1]),
                *(texts([None]),) * 4,  # nothing is missing, nothing asked for
                None,
            )
            self._undecodable.popleft()
            self._metrics.count_inbound(link, "undecodable")
            log.warning("deliver_sm_undecodable", link=link, octets=len(octets))


def _refuse(deliveries: Iterable[Delivery]) -> None:
    """Let the SMSC keep them."""
    for delivery in deliveries:
        delivery.answer(TEMPORARY)
