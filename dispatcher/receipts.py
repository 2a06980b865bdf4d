"""Brings receipts home: each raises the state of one segment, or is parked.

A receipt is matched by its link's account and message id. First by the id exactly as it came, among the
segments of the last hours, a batch in one update. What that leaves goes the slow way: segments of any age, every
reading of the id (hex, decimal, without zeros), the exact one first, and the job's destination against the receipt's
addresses, which carriers swap or leave out. Two candidates are none: nothing is guessed, and what a link has shown of
its ids (``receipt_ids.py``) narrows the readings. What nobody can match is parked, in the table and in memory: a
receipt may be earlier than its own submit_sm_resp. One whose answer was read but is not yet committed waits for that
commit. All of them were kept and answered by ``intake.py`` before; the row that keeps them goes when each of them is
applied or parked.

States only rise: unknown < undelivered < delivered. A repetition changes nothing but a counter.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dispatcher import doubt
from dispatcher.errors import StoreUnavailable
from dispatcher.receipt_ids import Learnt, Relation, relation, still_tried
from dispatcher.store import EMPTY, array, texts
from gateway import RETRY, DeliveryState, IdFormat, id_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from config.settings import LinkSettings
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.store import Connection, Record

log = structlog.get_logger()

MOST_AT_ONCE = 1_000  # as many events apply_receipts numbers by their receipts
DROP_AT_ONCE = 20  # rows of receipt_taken, while more receipts wait: a statement costs as much as 15 receipts
MOST_PARKED = 10_000  # in memory; the table keeps them all
TELL_UNMATCHED_AFTER_S = 30.0  # an early receipt finds its segment within the answer's own latency
RECENT_S = 2 * 3600.0  # most receipts come within minutes, and the segments of two hours stand in one partition
SETTLED_WITHIN_S = 10.0  # past its time-out, an unanswered request stands in the database
RANK = {DeliveryState.UNKNOWN: 20, DeliveryState.UNDELIVERED: 30, DeliveryState.DELIVERED: 40}
DELIVERED = RANK[DeliveryState.DELIVERED]
STATE = {rank: state.value for state, rank in RANK.items()}
AMBIGUOUS = "TC300"  # SQLSTATE of apply_receipts


@dataclass(slots=True, eq=False)
class Taken:
    """A row of receipts that were answered; it goes when none of them is outstanding."""

    id: int
    outstanding: int


class Item:
    """A receipt on its way to its segment."""

    __slots__ = (
        *("destination", "error", "id_format", "link", "message_id", "parked_at", "parked_id", "rank", "reason"),
        *("source", "submitted_on", "taken", "told"),
    )

    # written out for the same reason as a job's
    def __init__(
        self,
        link: str,
        message_id: str,
        id_format: IdFormat,
        rank: int,
        error: str,
        source: str,
        destination: str,
        submitted_on: str,
        reason: str,
        parked_id: int = 0,
        parked_at: float = 0.0,
        *,
        told: bool = False,
    ) -> None:
        self.link = link
        self.message_id = message_id
        self.id_format = id_format
        self.rank = rank
        self.error = error
        self.source = source
        self.destination = destination
        self.submitted_on = submitted_on
        self.reason = reason  # of RETRY; "" where there is nothing to say
        self.taken: Taken | None = None  # None: applied, or parked
        self.parked_id = parked_id
        self.parked_at = parked_at  # monotonic
        self.told = told  # as unmatched

    @property
    def forms(self) -> tuple[str, ...]:
        """Every reading of the id, the exact one first."""
        return id_forms(self.message_id, self.id_format)

    @property
    def addresses(self) -> tuple[str, str]:
        """Last 8 digits of the two numbers; "" for what is no number."""
        return last_digits(self.source), last_digits(self.destination)


def last_digits(address: str) -> str:
    """The last 8 digits of a number; "" for short codes and texts, which several jobs share."""
    digits = address.lstrip("+")
    return digits[-8:] if len(digits) >= 8 and digits.isascii() and digits.isdigit() else ""


def known(reason: str) -> str:
    """The reason as it was kept, "" where it is none that this version knows."""
    return reason if reason in RETRY else ""


def pick(item: Item, candidates: Sequence[Record]) -> Record | None:
    """The one candidate that a receipt can mean, or None: the best reading of its id, and its addresses agree."""
    one, other = item.addresses
    fitting = [
        row
        for row in candidates
        if (not one and not other)
        or row["destination"][-8:] in (one, other)
        or ((not one or not other) and row["sender"][-8:] in (one, other))
    ]
    best = min((row["rank"] for row in fitting), default=0)
    fitting = [row for row in fitting if row["rank"] == best]
    return fitting[0] if len(fitting) == 1 else None


class ReceiptDesk:
    """Receipts that wait for the next flush, and those that wait for their segment."""

    def __init__(
        self,
        *,
        links: Mapping[str, LinkSettings],
        horizon_s: float,
        wait_s: float,
        metrics: DispatcherMetrics,
        clock: Callable[[], float],
        wake: Callable[[], None],
        unsettled: AbstractSet[tuple[str, str]],
    ) -> None:
        self._links = links
        self._accounts: dict[str, list[str]] = {}
        self._learnt = Learnt()
        self.links_changed()
        self._horizon_s = horizon_s  # how far back a receipt's segment can lie
        self._wait_s = wait_s
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._unsettled = unsettled  # link and message id of answers that were read and are not yet committed
        self._waiting: deque[Item] = deque()
        self._flushing = 0  # of the flush in flight
        self._early_items = 0
        self._early: dict[tuple[str, str], list[Item]] = {}  # until their segment's answer is committed
        self._taken: set[int] = set()  # rows that keep what is here
        self._over: list[int] = []  # those of them that may go
        self._parked_items = 0
        self._parked: dict[tuple[str, str], list[Item]] = {}  # by link and each form of the id; ids share forms
        self._meanwhile: set[tuple[str, str]] | None = None  # link and message id, committed during the flush in flight

    @property
    def pending(self) -> int:
        """Receipts not yet applied; those that wait for a settle are not among them."""
        return len(self._waiting) + self._flushing

    @property
    def held(self) -> int:
        """Receipts in memory that are not applied, those that wait for a settle included."""
        return self.pending + self._early_items

    @property
    def taken(self) -> set[int]:
        """Ids of the rows that keep what is here."""
        return self._taken

    def look_back(self, horizon_s: float) -> None:
        """Look for a receipt's segment at least that far back."""
        self._horizon_s = max(self._horizon_s, horizon_s)

    def links_changed(self) -> None:
        """Learn anew which links share an account, and forget what links showed that are gone."""
        self._learnt.keep(self._links)
        self._accounts = {
            name: [other for other, its in self._links.items() if its.account == settings.account]
            for name, settings in self._links.items()
        }

    def account_of(self, link: str) -> list[str]:
        """The links that share the link's carrier account: a receipt may come over any of them."""
        return self._accounts.get(link) or [link]

    def put(self, items: Sequence[Item], taken: Taken) -> None:
        """Apply receipts that one row keeps."""
        self._taken.add(taken.id)
        for item in items:
            item.taken = taken
        self._waiting.extend(items)
        self._wake()

    def accepted(self, link: str, message_id: str) -> None:
        """A segment with this id was committed: a receipt may have come before it."""
        if self._meanwhile is not None:
            self._meanwhile.add((link, message_id))
        if self._early:
            items = self._early.pop((link, message_id), ())
            self._early_items -= len(items)
            self._waiting.extend(items)
            self._wake()
        if not self._parked:
            return
        for other in self.account_of(link):
            for item in list(self._parked.get((other, message_id), ())):
                self._unpark(item)
                self._waiting.append(item)
                self._wake()

    async def flush(self, connection: Connection) -> int:
        """Apply what waits; returns how many.

        Raises:
            StoreUnavailable: it waits for the next flush. What of it took place changes nothing when it is repeated.

        """
        items: list[Item] = []
        while self._waiting and len(items) < MOST_AT_ONCE:
            item = self._waiting.popleft()
            key = (item.link, item.message_id)
            if key in self._unsettled:
                self._early.setdefault(key, []).append(item)
                self._early_items += 1
            else:
                items.append(item)
        if items:
            self._meanwhile = set()
            self._flushing = len(items)
            try:
                await self._apply(connection, items)
            except StoreUnavailable:
                self._waiting.extendleft(reversed(items))
                raise
            finally:
                self._meanwhile = None
                self._flushing = 0
            for item in items:
                self._let_go(item)
        if self._over and (len(self._over) >= DROP_AT_ONCE or not self._waiting):
            over, self._over = self._over, []
            try:
                await connection.fetch("drop_taken", array(over))
            except StoreUnavailable:
                self._over = over
                raise
            self._taken.difference_update(over)
        return len(items)

    def _let_go(self, item: Item) -> None:
        taken, item.taken = item.taken, None
        if taken is not None:
            taken.outstanding -= 1
            if not taken.outstanding:
                self._over.append(taken.id)

    async def _apply(self, connection: Connection, items: list[Item]) -> None:
        best: dict[tuple[str, ...], int] = {}
        twins: list[tuple[tuple[str, ...], Item]] = []  # each beside a better one, or the first, of the same segment
        for n, item in enumerate(items):
            key: tuple[str, ...] = (item.link, item.message_id)
            if key in best and items[best[key]].addresses != item.addresses:
                key += item.addresses  # an SMSC that gives several messages one id: their numbers tell them apart
            if key in best and items[best[key]].rank >= item.rank:
                twins.append((key, item))
                continue
            if key in best:
                twins.append((key, items[best[key]]))
            best[key] = n
        exact = [
            (n, link, items[n].message_id)
            for n in best.values()
            if items[n].message_id
            for link in self.account_of(items[n].link)
        ]
        try:
            rows = await self._raise_states(connection, items, exact, min(RECENT_S, self._horizon_s))
        except StoreUnavailable as error:
            if error.sqlstate != AMBIGUOUS:
                raise
            rows = []  # one of them fits two segments: look closer at all
        by: Counter[tuple[str, Relation]] = Counter()  # matches by link and relation of the ids
        for row in rows:
            if row["numbers"]:
                by[row["link"], "exact"] += len(row["numbers"])
        hits = {n for row in rows for n in row["numbers"]}
        left = [n for n in best.values() if n not in hits]
        found = set(hits)
        repeated = [item for _, item in twins]
        if left:
            targets, again, unmatched = await self._look_closer(connection, items, left, by)
            repeated += again
            rows += await self._raise_states(connection, items, targets, self._horizon_s)
            await self._park_all(connection, unmatched)
            found.update(n for n in left if items[n] not in unmatched)
        parked = [items[n].parked_id for n in found if items[n].parked_id]
        parked += [item.parked_id for key, item in twins if item.parked_id and best[key] in found]
        if parked:
            await connection.fetch("receipts_matched", array(parked))
        self._count(items, rows, repeated, by)

    def _count(
        self, items: list[Item], rows: list[Record], repeated: list[Item], by: Counter[tuple[str, Relation]]
    ) -> None:
        for numbers, ages, category, link, rank, jobs in rows:
            if numbers:
                self._metrics.count_receipt(link, STATE[rank], len(numbers))
                self._metrics.observe_receipts(category, link, ages)
                if rank < DELIVERED:
                    for n in numbers:
                        self._metrics.count_receipt_error(link, items[n].reason)
            if jobs:
                self._metrics.count_job(category, STATE[rank], jobs)
        for item in repeated:
            self._metrics.count_receipt(item.link, "repeated")
        for (link, form), receipts in by.items():
            self._metrics.count_receipt_ids(link, form, receipts)
            its = self._links.get(link)  # it may have gone meanwhile
            if its is not None and its.message_id_format == "auto":
                told = self._learnt.matched(link, form, receipts)
                if told == "learnt":
                    log.info("receipt_ids_learnt", link=link, form=self._learnt.of(link))
                elif told == "forgotten":
                    self._try_again(link)

    async def _raise_states(
        self, connection: Connection, items: list[Item], targets: list[tuple[int, str, str]], age_s: float
    ) -> list[Record]:
        if not targets:
            return []
        most = targets[0][1]  # the receipts of a flush are of one link, or of a few
        usual: list[tuple[int, str, str, str, str]] = []
        rare: list[tuple[int, str, str, str, str]] = []  # what has more to say than the defaults of the statement
        for n, link, message_id in targets:
            item = items[n]
            one, other = item.addresses
            is_usual = item.rank == DELIVERED and not item.reason and not other and link == most
            (usual if is_usual else rare).append((n, link, message_id, one or EMPTY, other or EMPTY))
        ordered = rare + usual
        return await connection.fetch(
            "apply_receipts",
            array([n for n, _, _, _, _ in ordered]),
            texts([message_id for _, _, message_id, _, _ in ordered]),
            texts([items[n].error for n, _, _, _, _ in ordered]),
            array([one for _, _, _, one, _ in ordered]),
            most,
            texts([link for _, link, _, _, _ in rare]),
            array([items[n].rank for n, _, _, _, _ in rare]),
            array([other for _, _, _, _, other in rare]),
            array([items[n].reason or EMPTY for n, _, _, _, _ in rare]),
            age_s,
            self._horizon_s,
        )

    async def _look_closer(
        self, connection: Connection, items: list[Item], left: list[int], by: Counter[tuple[str, Relation]]
    ) -> tuple[list[tuple[int, str, str]], list[Item], list[Item]]:
        """What to raise after all, what only repeats, and what nobody can match; counts in `by` what was found."""
        probes = [
            (n, link, form, rank)
            for n in left
            for link in self.account_of(items[n].link)
            for rank, form in self._readings(items[n], link)
        ]
        candidates = await self._find(connection, probes)
        targets: list[tuple[int, str, str]] = []
        repeated: list[Item] = []
        unmatched: list[Item] = []
        for n in left:
            chosen = pick(items[n], candidates.get(n, []))
            if chosen is None:
                (repeated if self._waits_already(items[n]) else unmatched).append(items[n])
                continue
            by[chosen["link"], relation(items[n].message_id, chosen["message_id"])] += 1
            if chosen["receipt_state"] >= items[n].rank:
                repeated.append(items[n])
            else:
                targets.append((n, chosen["link"], chosen["message_id"]))
        return targets, repeated, unmatched

    def _readings(self, item: Item, link: str) -> list[tuple[int, str]]:
        """Readings of the receipt's id that are tried on the link, each with its rank among all of them."""
        readings = [(rank, form) for rank, form in enumerate(item.forms) if form]
        learnt = self._learnt.of(link)
        if learnt is not None and item.id_format == "auto":
            tried = still_tried(item.message_id, item.forms, learnt)
            readings = [(rank, form) for rank, form in readings if form in tried]
        return readings

    async def _find(self, connection: Connection, probes: list[tuple[int, str, str, int]]) -> dict[int, list[Record]]:
        """Segments by n of (n, link, form of the id, rank)."""
        rows = await connection.fetch(
            "find_receipts",
            array([n for n, _, _, _ in probes]),
            texts([link for _, link, _, _ in probes]),
            texts([form for _, _, form, _ in probes]),
            array([rank for _, _, _, rank in probes]),
            self._horizon_s,
        )
        candidates: dict[int, list[Record]] = {}
        for row in rows:
            candidates.setdefault(row["n"], []).append(row)
        return candidates

    async def _park_all(self, connection: Connection, unmatched: list[Item]) -> None:
        """Keep what nobody can match, in the table and in memory."""
        fresh = [item for item in unmatched if not item.parked_id]
        if fresh:
            rows = await connection.fetch(
                "park_receipts",
                texts([item.link for item in fresh]),
                texts([item.message_id for item in fresh]),
                texts([texts(item.forms) for item in fresh]),
                array([item.rank for item in fresh]),
                texts([item.error for item in fresh]),
                texts([item.source for item in fresh]),
                texts([item.destination for item in fresh]),
                texts([item.submitted_on for item in fresh]),
                texts([item.reason for item in fresh]),
            )
            for item, parked_id in zip(fresh, sorted(row["id"] for row in rows), strict=True):
                item.parked_id, item.parked_at = parked_id, self._clock()
        for item in unmatched:
            if self._meanwhile and any(
                (link, form) in self._meanwhile for link in self.account_of(item.link) for form in item.forms
            ):
                self._waiting.append(item)  # its segment came between the look and now
                self._wake()
            else:
                self._park(item)

    # ------------------------------------------------------------------ waiting for a segment

    def _park(self, item: Item) -> None:
        if self._parked_items < MOST_PARKED:
            self._parked_items += 1
            for form in item.forms:
                self._parked.setdefault((item.link, form), []).append(item)

    def _waits_already(self, item: Item) -> bool:
        """Whether the same receipt is parked: the SMSC sent it again."""
        return not item.parked_id and any(
            (other.message_id, other.rank, other.error, other.addresses, other.submitted_on)
            == (item.message_id, item.rank, item.error, item.addresses, item.submitted_on)
            for other in self._parked.get((item.link, item.message_id), ())
        )

    def _unpark(self, item: Item) -> None:
        """Let go of one that is parked in memory; one that is not stays uncounted."""
        was_parked = False
        for form in item.forms:
            sharing = self._parked.get((item.link, form), [])
            if item in sharing:
                was_parked = True
                sharing.remove(item)
                if not sharing:
                    del self._parked[item.link, form]
        self._parked_items -= was_parked

    async def restore(self, connection: Connection, links: Iterable[str]) -> None:
        """Take up receipts that an earlier process parked; each is tried once more."""
        for row in await connection.fetch("parked_receipts", texts(links), self._wait_s):
            self._waiting.append(
                Item(
                    link=row["link"],
                    message_id=row["message_id"],
                    id_format=self._links[row["link"]].message_id_format,
                    rank=row["state"],
                    error=row["error"],
                    source=row["source"],
                    destination=row["destination"],
                    submitted_on=row["submitted_on"],
                    reason=known(row["reason"]),
                    parked_id=row["id"],
                    parked_at=self._clock() - row["age"],
                    told=row["counted"],
                )
            )
        if self._waiting:
            self._wake()

    async def tell_unmatched(self, connection: Connection) -> None:
        """Count receipts that found no segment in time, and let go of those that waited long enough."""
        now = self._clock()
        items = {item for sharing in self._parked.values() for item in sharing}
        late = [item for item in items if not item.told and now - item.parked_at >= self._tell_after_s(item.link)]
        if late:
            late = await self._try_doubt(connection, late)
            await connection.fetch("receipts_unmatched", array(item.parked_id for item in late))
        for item in late:
            item.told = True
            self._metrics.count_receipt(item.link, "unmatched")
            self._metrics.count_receipt_ids(item.link, "none")
            log.warning("receipt_unmatched", link=item.link, parked_id=item.parked_id)
        await self._doubt_learnt(connection, late)
        for item in items:
            if now - item.parked_at >= self._wait_s:
                self._unpark(item)

    async def _doubt_learnt(self, connection: Connection, unmatched: list[Item]) -> None:
        """Look whether receipts that nobody could match contradict what was learnt of their links' ids."""
        doubted = {
            n: [link for link in self.account_of(item.link) if self._learnt.of(link) is not None]
            for n, item in enumerate(unmatched)
            if item.id_format == "auto"
        }
        probes = [
            (n, link, form, rank)
            for n, links in doubted.items()
            for link in links
            for rank, form in enumerate(unmatched[n].forms)
            if form
        ]
        if not probes:
            return
        candidates = await self._find(connection, probes)
        for n, links in doubted.items():
            chosen = pick(unmatched[n], candidates.get(n, []))
            if chosen is not None and self._learnt.unmatched(chosen["link"], contradicts=True):
                self._try_again(chosen["link"])
            for link in links:
                if self._learnt.unmatched(link):
                    self._try_again(link)

    def _try_again(self, link: str) -> None:
        """Try what is parked by the readings that were left out, now that what was learnt of the link is forgotten."""
        log.warning("receipt_ids_forgotten", link=link)
        account = set(self.account_of(link))
        for item in {item for sharing in self._parked.values() for item in sharing if item.link in account}:
            self._unpark(item)
            self._waiting.append(item)
        self._wake()

    def _tell_after_s(self, link: str) -> float:
        """Until then each request that was written before the receipt came was answered, or is known to be in doubt."""
        slowest_s = max((self._links[name].response_timeout_s for name in self.account_of(link)), default=0.0)
        return max(TELL_UNMATCHED_AFTER_S, slowest_s + SETTLED_WITHIN_S)

    async def _try_doubt(self, connection: Connection, late: list[Item]) -> list[Item]:
        """Let receipts resolve doubt by their addresses; returns those that did not."""
        by_id = {item.parked_id: item for item in late}
        for row in await doubt.receipts(connection, self._metrics, by_id, self._horizon_s):
            item = by_id.pop(row["parked_id"])
            self._unpark(item)
            self._metrics.count_receipt(row["link"], STATE[row["rank"]])
            self._metrics.count_receipt_error(row["link"], item.reason)
            if row["job_rank"] in STATE:
                self._metrics.count_job(row["category"], STATE[row["job_rank"]])
        return list(by_id.values())
