"""What has to happen by the clock: due jobs promoted, expired ones ended, partitions made ahead; doubt.py has its own.

Each chore is one statement with its own period; a chore that fails is logged and tried at its next turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from dispatcher.errors import StoreUnavailable
from dispatcher.inquiries import Inquiries
from dispatcher.intake import LEFT_AFTER_S, Intake
from dispatcher.policy import CategoryRules
from dispatcher.retention import Retention
from dispatcher.store import array, texts
from dispatcher.unjournalled import take_unjournalled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from config.settings import DaemonSettings, LinkSettings
    from dispatcher.claim import Claimer
    from dispatcher.doubt import Doubt
    from dispatcher.metrics import DispatcherMetrics
    from dispatcher.next_link import NextLink
    from dispatcher.pauses import Pauses
    from dispatcher.receipts import ReceiptDesk
    from dispatcher.store import Connection
    from gateway import Gateway

log = structlog.get_logger()

PROMOTE_AT_ONCE = 1_000
EXPECTATIONS_AT_ONCE = 1_000
REPEATED_AT_ONCE = 10_000  # calls that were refused something
SLICE = 20_000  # rows of a lane looked at for expiry in one statement
SLICE_URGENT = 100_000  # lanes 0 and 1 are swept whole


class Upkeep:
    """The chores of one instance, for the links it owns."""

    def __init__(
        self,
        *,
        settings: DaemonSettings,
        epochs: Mapping[str, int],
        claimer: Claimer,
        receipts: ReceiptDesk,
        intake: Intake,
        doubt: Doubt,
        metrics: DispatcherMetrics,
        categories: dict[str, CategoryRules],
        longest_s: float,
        pauses: Pauses,
        next_link: NextLink,
        look_for_stale: Callable[[], None],
        links: Mapping[str, LinkSettings],
        gateway: Callable[[], Gateway],
        wake_claimer: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._epochs = epochs
        self._claimer = claimer
        self._receipts = receipts
        self._intake = intake
        self._doubt = doubt
        self._metrics = metrics
        self._categories = categories
        self._longest_s = longest_s  # the longest time to live of a category
        self._pauses = pauses
        self._next_link = next_link
        self._look_for_stale = look_for_stale
        self._inquiries = Inquiries(epochs=epochs, links=links, gateway=gateway, answered=self._inquiry_answered)
        self._wake_claimer = wake_claimer
        self._clock = clock
        self.retention = Retention(settings.retention_days, metrics)
        self._swept: dict[tuple[str, int], int] = {}  # link, lane -> id up to which the sweep has come
        self._due: dict[str, float] = {}

    def look_back(self, longest_s: float) -> None:
        """Reckon with this time to live, too; what was enqueued under a longer one still has it."""
        self._longest_s = max(self._longest_s, longest_s)

    async def run(self, connection: Connection) -> None:
        """Do every chore whose time has come.

        Raises:
            StoreUnavailable: the connection is gone.

        """
        for name, every_s, chore in self._chores():
            now = self._clock()
            if now < self._due.get(name, 0.0):
                continue
            self._due[name] = now + every_s
            try:
                await chore(connection)
            except StoreUnavailable as error:
                if connection.is_closed:
                    raise
                log.warning("chore_failed", chore=name, problem=str(error))

    def _chores(self) -> list[tuple[str, float, Callable[[Connection], Coroutine[None, None, None]]]]:
        give_up_s = min(3600.0, max(2.0, self._settings.unknown_after_s / 48))  # once an hour at the default of 48 h
        return [
            ("promote", 0.2, self._promote),
            ("next_link", 0.5, self._next_link.take_waiting),
            ("read_rules", 1.0, self.read_rules),
            ("expire_urgent", 5.0, self._expire_urgent),
            ("expire_slice", 5.0, self._expire_slice),
            ("send_doubt_again", 1.0, self._doubt.send_again),
            ("give_up_doubt", 5.0, self._doubt.give_up),
            ("tell_unmatched", 5.0, self._receipts.tell_unmatched),
            ("find_receipts_left", LEFT_AFTER_S, self._find_receipts_left),
            ("give_up_receipts", give_up_s, self._give_up_receipts),
            ("incomplete", 5.0, self._incomplete),
            ("inquiries", 1.0, self._inquiries.serve),
            ("prune_inquiries", 3600.0, self._prune_inquiries),
            ("measure", 15.0, self._measure),
            ("take_repeated", 15.0, self._take_repeated),
            ("measure_doubt", 15.0, self._doubt.measure),
            ("forget_resent", 3600.0, self._forget_resent),
            ("make_partitions", 3600.0, self.retention.make),
            ("drop_partitions", 60.0, self.retention.drop),
            ("end_expectations", 1.0, self._end_expectations),
            ("prune_keys", 60.0, self._prune_keys),
            ("prune_journal", 60.0, self._prune_journal),
        ]

    async def _promote(self, connection: Connection) -> None:
        if not self._epochs:
            return
        rows = await connection.fetch("promote", texts(self._epochs), array(self._epochs.values()), PROMOTE_AT_ONCE)
        for link, lane, number, requeued in rows:
            self._claimer.arrived(link, lane, (number,))
            if requeued:
                self._metrics.count_doubt_ended(link, "requeued")
        if rows:
            self._wake_claimer()
        if len(rows) == PROMOTE_AT_ONCE:
            self._due["promote"] = 0.0

    async def _incomplete(self, _connection: Connection) -> None:
        """Have messages handed over that wait too long for a part: by the loop that joins them."""
        self._look_for_stale()

    def emergency_enqueued(self, link: str) -> None:
        """Look at the next turn whether another link has to take it."""
        if not self._next_link.carries(link):
            self._due["next_link"] = 0.0

    def refused(self) -> None:
        """Look at the next turn whether another link takes what its own link refused."""
        self._due["next_link"] = 0.0

    def _inquiry_answered(self) -> None:
        """Write at the next turn what SMSCs answered: somebody waits for it."""
        self._due["inquiries"] = 0.0

    def rules_changed(self) -> None:
        """Read the rules at the next turn: an operator changed them."""
        self._due["read_rules"] = 0.0

    async def read_rules(self, connection: Connection) -> None:
        """Learn what an operator may have changed; also read once before anything is claimed."""
        lanes: dict[int, bool] = {}  # whether every category of the lane is paused
        rows = await connection.fetch("categories")
        self._claimer.consent_for = frozenset(row["name"] for row in rows if row["consent"])
        for row in rows:
            self._categories[row["name"]] = CategoryRules(row["max_parts"], row["stop_applies"], row["paused"])
            lanes[row["lane"]] = lanes.get(row["lane"], True) and row["paused"]
        links = {row["name"] for row in await connection.fetch("paused_links")}
        self._pauses.tell(links, {lane for lane, paused in lanes.items() if paused})

    async def _expire_urgent(self, connection: Connection) -> None:
        for link in list(self._epochs):
            for lane in (0, 1):
                await self._expire(connection, link, lane, self._claimer.lane(link, lane).begin, SLICE_URGENT)

    async def _expire_slice(self, connection: Connection) -> None:
        """Every row of the other lanes is seen once in a round of slices; a million take four minutes."""
        for link in list(self._epochs):
            for lane in (2, 3, 4, 5):
                after = max(self._swept.get((link, lane), 0), self._claimer.lane(link, lane).begin)
                self._swept[link, lane] = await self._expire(connection, link, lane, after, SLICE)

    async def _expire(self, connection: Connection, link: str, lane: int, after: int, rows: int) -> int:
        """End expired rows of a slice; returns where the next one starts."""
        row = await take_unjournalled(
            connection,
            link,
            lane,
            self._claimer.lane(link, lane).held,
            lambda leave: connection.fetchrow("expire", link, lane, after, rows, leave),
        )
        assert row is not None
        for category in row["categories"][1:-1].split(","):
            if category:
                self._metrics.count_job(category.strip('"'), "expired")
        return row["upto"] if row["looked"] == rows else 0

    async def _forget_resent(self, connection: Connection) -> None:
        await connection.fetch("forget_resent", self._longest_s + self._settings.unknown_after_s)

    async def _find_receipts_left(self, connection: Connection) -> None:
        if self._epochs:
            await self._intake.restore(connection, list(self._epochs), LEFT_AFTER_S)

    async def _give_up_receipts(self, connection: Connection) -> None:
        for row in await connection.fetch(
            "give_up_receipts", texts(self._epochs), self._settings.unknown_after_s, self._longest_s, 100_000
        ):
            self._metrics.count_job(row["category"], "unknown")

    async def _measure(self, connection: Connection) -> None:
        jobs = [0] * 6
        oldest_s = [0.0] * 6
        for link in list(self._epochs):  # another one may be taken or lost meanwhile
            begins = [self._claimer.lane(link, lane).begin for lane in range(6)]
            for lane, waiting, waited_s in await connection.fetch("depth", link, array(begins)):
                before = [job for job in self._claimer.lane(link, lane).held.values() if job.id <= begins[lane]]
                ages = [self._clock() - job.due_at for job in before]
                jobs[lane] += waiting + len(before)
                oldest_s[lane] = max(oldest_s[lane], waited_s, *ages)
        for lane in range(6):
            self._metrics.set_queue(lane, jobs[lane], oldest_s[lane])

    async def _take_repeated(self, connection: Connection) -> None:
        """Count what enqueues refused as repeated since the last look, by whatever app and for whatever link."""
        rows = await connection.fetch("take_repeated", REPEATED_AT_ONCE)
        for category, repeated, _ in rows:
            self._metrics.count_repeated_texts(category, repeated)
        if sum(row["rows"] for row in rows) == REPEATED_AT_ONCE:
            self._due["take_repeated"] = 0.0

    async def _prune_keys(self, connection: Connection) -> None:
        await connection.fetch("prune_keys")
        await connection.fetch("prune_automatic_replies")

    async def _end_expectations(self, connection: Connection) -> None:
        await connection.fetch("end_expectations", EXPECTATIONS_AT_ONCE)

    async def _prune_inquiries(self, connection: Connection) -> None:
        await self._inquiries.prune(connection, self._settings.retention_days)

    async def _prune_journal(self, connection: Connection) -> None:
        """Drop journals of claims whose commit was never seen: nobody holds their jobs."""
        await connection.fetch(
            "prune_journal", texts(self._epochs), array(self._epochs.values()), array(self._claimer.batches())
        )
