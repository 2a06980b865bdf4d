"""The dispatcher's metrics: jobs, queue, receipts, replies, doubt, database. Names and meanings are public.

Labels come from closed sets: category, state, link, lane, class; never a number, a text or an id. The
children of ``labels()`` are kept in dictionaries, since looking one up costs more than counting; what is observed
for each job is counted into plain numbers, which become samples when Prometheus asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prometheus_client import CollectorRegistry as CollectorRegistry
from prometheus_client import Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from dispatcher.receipt_ids import FORMS
from dispatcher.recogniser import Wish
from gateway import RETRY, Buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0,
)  # fmt: skip
LANES = range(6)
JOB_STATES = (
    "deferred", "uncertain", "submitted", "blocked", "cancelled", "expired", "failed",
    "unknown", "undelivered", "delivered",
)  # fmt: skip
RECEIPT_STATES = ("delivered", "undelivered", "unknown", "enroute", "repeated", "unmatched")
RECEIPT_REASONS = tuple(RETRY)
DOUBT_ENDS = ("answer", "receipt", "resent", "requeued", "unknown", "expired")
INBOUND_CLASSES = ("text", *(wish.value for wish in Wish if wish is not Wish.NONE), "binary", "undecodable", "repeated")

CLAIM_PARTS = ("settle", "receive")

M = TypeVar("M", Counter, Gauge)


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """The children of one metric by their label values, made when first asked for."""

    def __init__(self, metric: M) -> None:
        self.metric: M = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child: M = self.metric.labels(*labels)
        self[labels] = child
        return child

    def forget(self, place: int, value: str) -> None:
        """Drop the children that have this value in this place among their labels."""
        for labels in [labels for labels in self if labels[place] == value]:
            del self[labels]
            self.metric.remove(*labels)


class _Histograms(Collector):
    """One histogram by its label values, each made when first asked for."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._buckets: dict[tuple[str, ...], Buckets] = {}
        registry.register(self)

    def __getitem__(self, labels: tuple[str, ...]) -> Buckets:
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = Buckets(BUCKETS_S)
        return buckets

    def observe(self, labels: tuple[str, ...], seconds: Iterable[float]) -> None:
        """Count waits of one set of label values; one below 0 is none."""
        observe = self[labels].observe
        for waited_s in seconds:
            observe(max(0.0, waited_s))

    def forget(self, place: int, value: str) -> None:
        """Drop those that have this value in this place among their labels."""
        for labels in [labels for labels in self._buckets if labels[place] == value]:
            del self._buckets[labels]

    def collect(self) -> Iterator[Metric]:
        """Give the samples."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, buckets in self._buckets.items():
            buckets.add_to(family, labels)
        yield family


def new_registry() -> CollectorRegistry:
    """A registry of its own, with the process's CPU, memory and start: the library's global one would mix daemons."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class DispatcherMetrics:
    """What the dispatcher counts. ``settle_pending`` and ``database_up`` are set directly."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody asks for
        self._jobs = _Children(
            Counter(
                "tocsin_jobs_total",
                "Jobs that this daemon saw reach a state. A rise of failed, expired, undelivered or uncertain:"
                " a carrier refuses, delays or does not answer.",
                ("category", "state"),
                registry=registry,
            )
        )
        self._repeated_texts = _Children(
            Counter(
                "tocsin_repeated_texts_total",
                "Texts that were refused at enqueue because the same had been asked for (DUP_CONTENT); read every 15 s,"
                " each by one instance. A rise: an app runs in a loop, or repeats itself without a key.",
                ("category",),
                registry=registry,
            )
        )
        self._queue_jobs = _Children(
            Gauge(
                "tocsin_queue_jobs",
                "Jobs that wait and may go now; exact up to 10,000, estimated above. A rise: more comes in than"
                " the links' rates let out, or a link is down.",
                ("lane",),
                registry=registry,
            )
        )
        self._queue_oldest = _Children(
            Gauge(
                "tocsin_queue_oldest_seconds",
                "Age of the oldest job that waits and may go now. A rise: this lane is not being served.",
                ("lane",),
                registry=registry,
            )
        )
        self._enqueue_to_submit = _Histograms(
            "tocsin_enqueue_to_submit_seconds",
            "From the later of enqueue and due time to the first submit_sm. A rise: a lane waits for throttle,"
            " window or a lost link.",
            ("category", "link"),
            registry,
        )
        self._submit_to_receipt = _Histograms(
            "tocsin_submit_to_receipt_seconds",
            "From the SMSC's acceptance of a part to its final receipt (DLR). A rise: the carrier delivers"
            " late, or handsets are off.",
            ("category", "link"),
            registry,
        )
        self._receipts = _Children(
            Counter(
                "tocsin_receipts_total",
                "Delivery receipts (DLR) by what they said. A rise of unmatched: receipts come that belong to no"
                " message we know; look at message_id_format of the link.",
                ("link", "state"),
                registry=registry,
            )
        )
        self._receipt_errors = _Children(
            Counter(
                "tocsin_receipt_errors_total",
                "Receipts (DLR) of parts that were not delivered, by reason. A rise of ABSENT, BUSY, MEMORY_FULL or"
                " EXPIRED_SMSC: handsets are off or full; of NETWORK_FAILURE, BARRED, UNSUPPORTED or REJECTED_SMSC: a"
                " network refuses; of UNKNOWN_SUBSCRIBER: an app has old numbers; of UNDELIVERED_SMSC: the carrier does"
                " not say, or receipt_errors of the link lacks its codes.",
                ("link", "reason"),
                registry=registry,
            )
        )
        self._receipt_ids = _Children(
            Counter(
                "tocsin_receipt_ids_total",
                "Receipts by how their id relates to the one of the answer: the same, but for capitals or zeros, in"
                " hexadecimal or in decimal where the answer has the other; none: nobody could match it. A rise of"
                " another form than the usual one: the carrier spells ids in a new way.",
                ("link", "form"),
                registry=registry,
            )
        )
        self._inbound = _Children(
            Counter(
                "tocsin_inbound_total",
                "Messages from handsets (MO). A rise: people answer, or somebody floods the number.",
                ("link", "class"),
                registry=registry,
            )
        )
        self._uncertain = _Children(
            Gauge(
                "tocsin_uncertain_segments",
                "Segments that were written and never answered, still in doubt. A rise: sessions break, or the"
                " SMSC accepts and does not answer.",
                ("link",),
                registry=registry,
            )
        )
        self._doubt_ended = _Children(
            Counter(
                "tocsin_doubt_ended_total",
                "Jobs whose doubt ended, by what ended it: a late answer, a receipt, sending it again by rule or by an"
                " operator, or nothing in time (unknown; expired: its time was over before it could be sent again). A"
                " rise of resent: people may get a message twice; of unknown: nobody will know whether they got one.",
                ("link", "how"),
                registry=registry,
            )
        )
        self._fenced = _Children(
            Counter(
                "tocsin_fenced_total",
                "Answers that came after their job had been settled otherwise, or after the link had another"
                " owner. A rise: instances lose links to each other.",
                ("link",),
                registry=registry,
            )
        )
        self._failed_over = _Children(
            Counter(
                "tocsin_failed_over_jobs_total",
                "Waiting jobs that went from a link which could not send to the next one of their route. A rise: it is"
                " down, refused or paused.",
                ("link",),
                registry=registry,
            )
        )
        self._claims_held = _Children(
            Counter(
                "tocsin_claims_held_seconds_total",
                "Time for which lanes 1 to 5 claimed nothing, by what was slow. A rise of settle: outcomes are written"
                " back slower than they come; of receive: receipts and replies are.",
                ("part",),
                registry=registry,
            )
        )
        for part in CLAIM_PARTS:
            self._claims_held[(part,)].inc(0)
        self.settle_pending = Gauge(
            "tocsin_settle_pending",
            "Outcomes that are known here and not yet in the database. A rise: the database is slow or away.",
            registry=registry,
        )
        self.database_up = Gauge(
            "tocsin_database_up",
            "1 while the database answers. 0: nothing is claimed; what was accepted is kept in the local record.",
            registry=registry,
        )

        self.partitions_ahead = Gauge(
            "tocsin_partitions_ahead_days",
            "Days ahead for which every table has its partition; made 14 ahead, hourly. A fall: they cannot be"
            " made, and at 0 nothing can be settled after midnight UTC.",
            registry=registry,
        )
        self.partitions_kept = Gauge(
            "tocsin_partitions_kept_days",
            "Age of the oldest partition. A rise above retention_days: old days cannot be dropped,"
            " something holds a table.",
            registry=registry,
        )

        # and the place of the link among their labels
        self._of_links: tuple[tuple[_Children[Any] | _Histograms, int], ...] = (
            (self._enqueue_to_submit, 1), (self._submit_to_receipt, 1), (self._receipts, 0), (self._receipt_errors, 0),
            (self._inbound, 0), (self._receipt_ids, 0), (self._uncertain, 0), (self._doubt_ended, 0), (self._fenced, 0),
            (self._failed_over, 0),
        )  # fmt: skip

    def prepare(self, links: Iterable[str], categories: Iterable[str]) -> None:
        """Show every counter of these links and categories at zero, so that its first rise is seen as one."""
        for category in categories:
            self._repeated_texts[(category,)].inc(0)
            for state in JOB_STATES:
                self._jobs[category, state].inc(0)
        for link in links:
            self._enqueue_to_submit[
                "emergency", link
            ]  # few, and judged by each of them; the others' first is not missed
            for state in RECEIPT_STATES:
                self._receipts[link, state].inc(0)
            for reason in RECEIPT_REASONS:
                self._receipt_errors[link, reason].inc(0)
            for form in FORMS:
                self._receipt_ids[link, form].inc(0)
            for kind in INBOUND_CLASSES:
                self._inbound[link, kind].inc(0)
            for how in DOUBT_ENDS:
                self._doubt_ended[link, how].inc(0)
            self._uncertain[(link,)].inc(0)
            self._fenced[(link,)].inc(0)
            self._failed_over[(link,)].inc(0)

    def forget_link(self, link: str) -> None:
        """Show the link no more: the file does not name it."""
        for children, place in self._of_links:
            children.forget(place, link)

    def count_job(self, category: str, state: str, jobs: int = 1) -> None:
        """Count jobs that reached a state, spelled as ``job_status`` spells it."""
        self._jobs[category, state].inc(jobs)

    def count_repeated_texts(self, category: str, texts: int) -> None:
        """Count texts that enqueue refused as repeated."""
        self._repeated_texts[(category,)].inc(texts)

    def observe_submits(self, category: str, link: str, seconds: Iterable[float]) -> None:
        """Record how long accepted jobs had waited, once they were due, for their first submit_sm."""
        self._enqueue_to_submit.observe((category, link), seconds)

    def observe_receipts(self, category: str, link: str, seconds: Iterable[float]) -> None:
        """Record how long after their acceptance the final receipts of parts came."""
        self._submit_to_receipt.observe((category, link), seconds)

    def count_receipt(self, link: str, state: str, receipts: int = 1) -> None:
        """Count receipts by one of ``RECEIPT_STATES``."""
        self._receipts[link, state].inc(receipts)

    def count_receipt_error(self, link: str, reason: str) -> None:
        """Count a receipt of a part that was not delivered by one of ``RECEIPT_REASONS``; "" is none."""
        if reason:
            self._receipt_errors[link, reason].inc()

    def count_receipt_ids(self, link: str, form: str, receipts: int = 1) -> None:
        """Count receipts by one of ``FORMS``."""
        self._receipt_ids[link, form].inc(receipts)

    def receipts(self, link: str, state: str) -> float:
        """How many receipts of one of ``RECEIPT_STATES`` were counted."""
        (metric,) = self._receipts[link, state].collect()
        return metric.samples[0].value

    def count_inbound(self, link: str, kind: str, messages: int = 1) -> None:
        """Count messages from handsets by class."""
        self._inbound[link, kind].inc(messages)

    def count_fenced(self, link: str, answers: int = 1) -> None:
        """Count answers that were kept as FENCED."""
        self._fenced[(link,)].inc(answers)

    def count_doubt_ended(self, link: str, how: str) -> None:
        """Count a job whose doubt ended by one of ``DOUBT_ENDS``."""
        self._doubt_ended[link, how].inc()

    def count_failed_over(self, link: str, jobs: int) -> None:
        """Count waiting jobs that the next link took from this one."""
        self._failed_over[(link,)].inc(jobs)

    def count_claims_held(self, part: str, seconds: float) -> None:
        """Count a time without claims, by one of ``CLAIM_PARTS``."""
        self._claims_held[(part,)].inc(seconds)

    def set_queue(self, lane: int, jobs: float, oldest_s: float) -> None:
        """Show what waits in a lane."""
        self._queue_jobs[(str(lane),)].set(jobs)
        self._queue_oldest[(str(lane),)].set(oldest_s)

    def clear_queue(self) -> None:
        """Show no lanes: another instance reads them now."""
        for children in (self._queue_jobs, self._queue_oldest):
            children.clear()
            children.metric.clear()

    def set_uncertain(self, link: str, segments: int) -> None:
        """Show how many segments of a link are in doubt."""
        self._uncertain[(link,)].set(segments)
