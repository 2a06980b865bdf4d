"""Joins the parts of long messages from handsets; each part is kept and committed before it is answered.

Parts belong together when link, source, destination, reference, its width and the count agree: never by the reference
alone, which one handset in 256 shares. They come in any order, twice, or never:

    all there                                  the whole is stored, in the same transaction as its last part
    another part under a number that is there  the reference was used again: what came before it is handed over
    one does not come for ``wait_s``           what came is handed over
    the same part again                        counted, and not kept: it waits still, or its answer was never written

What is handed over with gaps says so in its text and in ``missing``. A repetition is told as that of a whole message is
(``inbound.py``): by its octets, and, once its message is closed, only when the earlier deliver_sm_resp was never
written, so that a handset may use a reference and a text twice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.recogniser import Recognised, Wish
from dispatcher.store import array, texts
from gateway import Joined, Part, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from config.settings import LinkSettings
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.record import Record
    from dispatcher.stops import Stops
    from dispatcher.store import Connection
    from dispatcher.store import Record as Row
    from gateway import Delivery, Inbound

log = structlog.get_logger()

REPEATED_WITHIN_S = 120.0
REFUSED_REPEATED_WITHIN_S = 86_400.0  # what was answered 0x64 comes again when the SMSC's own schedule says so
OK = 0x00
TEMPORARY = 0x64  # ESME_RX_T_APPN: the SMSC keeps it and sends it again

Item = tuple[str, "Inbound", "Delivery"]  # link first


class Key(NamedTuple):
    """What parts of one message have in common."""

    link: str
    source: str
    destination: str
    reference: int
    reference_bits: int
    parts: int


class Whole(NamedTuple):
    """A message to be handed over, and the parts that it is made of."""

    key: Key
    part_ids: tuple[int, ...]
    octets: bytes
    data_coding: int
    esm_class: int
    joined: Joined
    asked: Recognised
    kind: str = ""  # its class in the inbox, once stored


def key_of(link: str, message: Inbound) -> Key:
    """What the parts of the message that this one belongs to have in common."""
    return Key(
        link,
        message.source.value,
        message.destination.value,
        message.reference,
        message.reference_bits,
        message.parts,
    )


def digest(link: str, message: Inbound) -> str:
    """What makes two parts the same, in hexadecimal."""
    head = "\x00".join(map(str, (*key_of(link, message), message.part, message.data_coding, message.esm_class, "")))
    return hashlib.sha256(head.encode("utf-8", "replace") + message.octets).hexdigest()


class PartsDesk:
    """Parts that wait for the others stand in the table alone; here is what was answered of them."""

    def __init__(
        self,
        *,
        links: Mapping[str, LinkSettings],
        record: Record,
        metrics: DispatcherMetrics,
        clock: Callable[[], float],
        wait_s: float,
        stops: Stops,
    ) -> None:
        self._stops = stops
        self._links = links
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._wait_s = wait_s
        self._acknowledged: dict[int, float] = {}  # part ids of the last 120 s, answered by this process
        self._refused: dict[str, float] = {}  # digest -> until when it may come again: its commit may have taken place
        self.look_for_stale = False  # at the next flush

    async def store(
        self, connection: Connection, items: Sequence[Item], fence: tuple[str, str], opening: str | None
    ) -> None:
        """Keep parts, hand over what they complete, then answer them. ``opening``: as ``OpeningHours`` says it.

        Raises:
            StoreUnavailable: they were answered 0x64, and the SMSC sends them again.

        """
        now = self._clock()
        self._forget(now)
        digests = [digest(link, message) for link, message, _ in items]
        wholes: list[Whole] = []
        ids: dict[int, int] = {}  # n of a fresh one -> its part id
        try:
            async with connection.transaction():
                repeated = await self._repeated(connection, items, digests)
                fresh = [n for n in range(len(items)) if n not in repeated]
                rows = await self._keep(connection, [items[n] for n in fresh], [digests[n] for n in fresh], fence)
                owned = {row["link"] for row in rows}
                fresh = [n for n in fresh if items[n][0] in owned]
                ids = {n: row["part_id"] for n, row in zip(fresh, rows, strict=True)}
                if ids:
                    keys = dict.fromkeys(key_of(items[n][0], items[n][1]) for n in ids)
                    wholes = await self._hand_over(connection, list(keys), fence, opening)
        except StoreUnavailable:
            for (_, _, delivery), its in zip(items, digests, strict=True):
                self._refused[its] = now + REFUSED_REPEATED_WITHIN_S
                delivery.answer(TEMPORARY)
            raise
        self._answer(items, repeated, ids, now)
        self._count(wholes)

    async def hand_over_stale(self, connection: Connection, fence: tuple[str, str], opening: str | None) -> int:
        """Hand over what waits too long for a part; returns how many messages.

        Raises:
            StoreUnavailable: to be called again.

        """
        self.look_for_stale = False
        wholes: list[Whole] = []
        try:
            async with connection.transaction():
                rows = await connection.fetch("stale_parts", fence[0], self._wait_s)
                if rows:
                    wholes = await self._hand_over(connection, [Key(*row) for row in rows], fence, opening)
        except StoreUnavailable:
            self.look_for_stale = True
            raise
        self._count(wholes)
        return len(wholes)

    async def _repeated(self, connection: Connection, items: Sequence[Item], digests: Sequence[str]) -> set[int]:
        """Find the parts that are kept already, or stand twice among these."""
        columns = _columns([key_of(link, message) for link, message, _ in items])
        within = [REFUSED_REPEATED_WITHIN_S if its in self._refused else REPEATED_WITHIN_S for its in digests]
        rows = await connection.fetch(
            "known_parts",
            *columns,
            array([message.part for _, message, _ in items]),
            texts(digests),
            array(within),
        )
        repeated = {row["n"] - 1 for row in rows if row["is_open"] or not self._is_acknowledged(row["part_id"])}
        seen: set[str] = set()
        for n, its in enumerate(digests):
            if its in seen:
                repeated.add(n)
            seen.add(its)
        return repeated

    def _is_acknowledged(self, part_id: int) -> bool:
        return part_id in self._acknowledged or -part_id in self._record.replay.acknowledged

    async def _keep(
        self, connection: Connection, items: Sequence[Item], digests: Sequence[str], fence: tuple[str, str]
    ) -> list[Row]:
        if not items:
            return []
        messages = [message for _, message, _ in items]
        return await connection.fetch(
            "store_parts",
            *_columns([key_of(link, message) for link, message, _ in items]),
            array([message.part for message in messages]),
            texts([message.octets.hex() for message in messages]),
            array([message.data_coding for message in messages]),
            array([message.esm_class for message in messages]),
            texts(digests),
            *fence,
        )

    async def _hand_over(
        self, connection: Connection, keys: Sequence[Key], fence: tuple[str, str], opening: str | None
    ) -> list[Whole]:
        """Store what is whole, or will never be, of these messages."""
        rows = await connection.fetch("open_parts", *_columns(keys))
        of_key: dict[int, list[Row]] = {}
        for row in rows:
            of_key.setdefault(row["n"], []).append(row)
        wholes = [whole for n, its in of_key.items() for whole in self._gathered(keys[n - 1], its)]
        if not wholes:
            return []
        stored = await connection.fetch(
            "store_inbound",
            texts([whole.key.link for whole in wholes]),
            texts([whole.key.source for whole in wholes]),
            texts([whole.key.destination for whole in wholes]),
            texts([whole.joined.text for whole in wholes]),
            texts([kind_of(is_text=whole.joined.is_text, asked=whole.asked) for whole in wholes]),
            texts([whole.octets.hex() for whole in wholes]),
            array([whole.data_coding for whole in wholes]),
            array([whole.esm_class for whole in wholes]),
            texts([hashlib.sha256(repr(whole.part_ids).encode()).hexdigest() for whole in wholes]),
            *fence,
            array([whole.key.parts for whole in wholes]),
            texts([array(whole.joined.missing) if whole.joined.missing else None for whole in wholes]),
            *wishes([whole.asked for whole in wholes]),
            opening,
        )
        if len(stored) < len(wholes):
            raise StoreUnavailable("a link was lost while its parts were joined")
        pairs = [(part_id, row[0]) for whole, row in zip(wholes, stored, strict=True) for part_id in whole.part_ids]
        await connection.fetch(
            "close_parts", array([part_id for part_id, _ in pairs]), array([inbound_id for _, inbound_id in pairs])
        )
        return [whole._replace(kind=row["class"]) for whole, row in zip(wholes, stored, strict=True)]

    def _gathered(self, key: Key, rows: Iterable[Row]) -> list[Whole]:
        """Sort the open parts of one key into messages, in the order in which they came; the open rest is left."""
        wholes: list[Whole] = []
        group: dict[int, Row] = {}
        for row in rows:
            if row["part"] in group or (group and _oldest_s(group) - float(row["age"]) > self._wait_s):
                wholes.append(self._whole(key, group))
                group = {}
            group[row["part"]] = row
            if len(group) == key.parts:
                wholes.append(self._whole(key, group))
                group = {}
        if group and _oldest_s(group) > self._wait_s:
            wholes.append(self._whole(key, group))
        return wholes

    def _whole(self, key: Key, group: Mapping[int, Row]) -> Whole:
        rows = [group[part] for part in sorted(group)]
        parts = [Part(row["part"], row["octets"], row["data_coding"], row["esm_class"]) for row in rows]
        settings = self._links.get(key.link)
        joined = join(parts, key.parts, alphabet="gsm7" if settings is None else settings.default_alphabet)
        return Whole(
            key,
            tuple(row["part_id"] for row in rows),
            b"".join(part.octets for part in parts),
            parts[0].data_coding,
            parts[0].esm_class,
            joined,
            self._stops.heed(key.source, key.destination, joined.text),
        )

    def _answer(self, items: Sequence[Item], repeated: set[int], ids: Mapping[int, int], now: float) -> None:
        """Answer what is committed; what its owner may not keep any more is left to the SMSC."""
        answer = OK
        try:
            self._record.acknowledged([-part_id for part_id in ids.values()], now)
        except OSError as error:
            # kept, but nobody would know after a kill that it was answered: the SMSC sends it again, as a repetition
            log.error("record_failed", error=error.strerror)
            answer = TEMPORARY
        for n, (link, _, delivery) in enumerate(items):
            if n in repeated:
                self._metrics.count_inbound(link, "repeated")
                delivery.answer(OK)
            elif n not in ids:
                delivery.answer(TEMPORARY)
            else:
                self._metrics.count_inbound(link, "part")
                if delivery.answer(answer) and answer == OK:
                    self._acknowledged[ids[n]] = now

    def _count(self, wholes: Iterable[Whole]) -> None:
        for whole in wholes:
            kind = "incomplete" if whole.joined.missing else whole.kind
            self._metrics.count_inbound(whole.key.link, kind)
            if whole.joined.missing:
                log.warning(
                    "inbound_incomplete", link=whole.key.link, parts=whole.key.parts, missing=len(whole.joined.missing)
                )

    def _forget(self, now: float) -> None:
        if len(self._acknowledged) > 1_000:
            kept = {part: at for part, at in self._acknowledged.items() if now - at < REPEATED_WITHIN_S}
            self._acknowledged = kept
        if self._refused:
            self._refused = {its: until for its, until in self._refused.items() if until > now}


def _oldest_s(group: Mapping[int, Row]) -> float:
    return max(float(row["age"]) for row in group.values())


def kind_of(*, is_text: bool, asked: Recognised) -> str:
    """Class of a whole message: what it asks for, else what it is."""
    if not is_text:
        return "binary"
    return "text" if asked.wish is Wish.NONE else asked.wish.value


def wishes(asked: Sequence[Recognised]) -> tuple[str, str, str]:
    """What messages ask for, as columns: the wish, its language, and the language of words of emergency."""
    return (
        texts([None if one.wish is Wish.NONE else one.wish.value for one in asked]),
        texts([one.language for one in asked]),
        texts([one.emergency for one in asked]),
    )


def _columns(keys: Sequence[Key]) -> tuple[str, str, str, str, str, str]:
    """Keys as array literals, a column each."""
    return (
        texts([key.link for key in keys]),
        texts([key.source for key in keys]),
        texts([key.destination for key in keys]),
        array([key.reference for key in keys]),
        array([key.reference_bits for key in keys]),
        array([key.parts for key in keys]),
    )
