"""What the gateway shows to Prometheus.

The hot path counts into plain numbers, a read's worth at a time; they are turned into samples when Prometheus
asks. Labels are link names and command_status names of the specification: nothing a peer sends makes a new one.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway import status
from gateway.held import HeldBack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from config.settings import LinkSettings

RESPONSE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECORD_BUCKETS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
UNANSWERED: Final = -1  # in place of a command_status: no answer came
VENDOR_STATUSES: Final = range(0x400, 0x500)  # SMPP v3.4 section 5.1.3: reserved for SMSC vendors


class LinkGauges(Protocol):
    """What a link tells when it is asked."""

    @property
    def name(self) -> str:
        """Name of the link."""

    @property
    def is_bound(self) -> bool:
        """Say whether segments can leave."""

    @property
    def sessions_bound(self) -> int:
        """Sessions that are bound, of any kind."""

    @property
    def window_in_use(self) -> int:
        """Unanswered segments over all sessions."""

    @property
    def window_limit(self) -> int:
        """Segments that may be unanswered over the sessions that are bound now."""

    @property
    def throughput_limit(self) -> int:
        """Segments a second that the throttle allows now."""

    @property
    def is_paused(self) -> bool:
        """Say whether an operator paused it."""

    @property
    def settings(self) -> LinkSettings:
        """What the file says."""


class LinkMetrics:
    """Counts of one link since the process began; they outlive the link."""

    __slots__ = (
        "gauges", "held", "record_buckets", "record_sum_s", "response_buckets", "response_sum_s", "statuses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.gauges: LinkGauges | None = None  # None while the link is not open here
        self.statuses: dict[int, int] = {}  # command_status or UNANSWERED -> segments
        self.response_buckets = [0] * (len(RESPONSE_BUCKETS_S) + 1)
        self.response_sum_s = 0.0
        self.record_buckets = [0] * (len(RECORD_BUCKETS_S) + 1)
        self.record_sum_s = 0.0
        self.held = HeldBack()

    @property
    def throttled(self) -> int:
        """Answers ESME_RTHROTTLED."""
        return self.statuses.get(status.THROTTLED, 0)

    @property
    def timed_out(self) -> int:
        """Segments that were written and not answered in time."""
        return self.statuses.get(UNANSWERED, 0)

    def answered(self, command_status: int, waited_s: float) -> None:
        """Count one answer in time."""
        self.statuses[command_status] = self.statuses.get(command_status, 0) + 1
        self.response_buckets[bisect_left(RESPONSE_BUCKETS_S, waited_s)] += 1
        self.response_sum_s += waited_s

    def unanswered(self) -> None:
        """Count one segment that was written and not answered."""
        self.statuses[UNANSWERED] = self.statuses.get(UNANSWERED, 0) + 1

    def recorded(self, took_s: float) -> None:
        """Count one write of the local record, which every segment of the link waited for."""
        self.record_buckets[bisect_left(RECORD_BUCKETS_S, took_s)] += 1
        self.record_sum_s += took_s
        self.held.add("record", took_s)


class GatewayMetrics(Collector):
    """All links, for a prometheus_client registry."""

    def __init__(self) -> None:
        self._links: dict[str, LinkMetrics] = {}

    def link(self, name: str) -> LinkMetrics:
        """Counts of the link of this name, the same object each time."""
        return self._links.setdefault(name, LinkMetrics())

    def forget(self, name: str) -> None:
        """Show the link no more: the file does not name it."""
        self._links.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """Give the samples."""
        submits = CounterMetricFamily(
            "tocsin_submit_sm",
            "Segments written, by what came back. A rise of anything but ESME_ROK is the carrier refusing; "
            "of unanswered, doubt.",
            labels=("link", "command_status"),
        )
        responses = HistogramMetricFamily(
            "tocsin_submit_response_seconds",
            "From writing submit_sm to reading its answer. A rise means a slow carrier or a full path to it.",
            labels=("link",),
        )
        records = HistogramMetricFamily(
            "tocsin_record_write_seconds",
            "Writing up to 32 segments of the link to the local record, before they go to the socket. A rise means a"
            " slow disk under state_dir, which holds every link of the instance.",
            labels=("link",),
        )
        held_back = CounterMetricFamily(
            "tocsin_held_back_seconds",
            "Time for which segments waited, by what they waited for. A rise of record is a slow or full disk, of"
            " socket a slow path to the carrier, of window a carrier that answers slowly, of throttle the agreed rate.",
            labels=("link", "part"),
        )
        now = time.monotonic()
        gauges = {
            name: GaugeMetricFamily(f"tocsin_{name}", text, labels=("link",))
            for name, text in (
                ("link_bound", "1 while segments can leave over the link, else 0."),
                ("link_sessions", "Sessions bound. Fewer than configured means a carrier that ends or refuses binds."),
                ("window_in_use", "Unanswered segments. At its limit the carrier answers slower than we send."),
                ("window_limit", "Segments that may be unanswered over the sessions that are bound now."),
                ("throughput_limit", "Segments a second allowed now; below the setting after ESME_RTHROTTLED."),
                ("throughput_configured", "Segments a second that the file allows."),
                ("sessions_configured", "Sessions that the file asks for."),
                ("link_paused", "1 while an operator keeps segments from leaving."),
            )
        }
        for link, counts in self._links.items():
            by_label: dict[str, int] = {}
            for command_status, segments in counts.statuses.items():
                label = _status_label(command_status)
                by_label[label] = by_label.get(label, 0) + segments
            for label, segments in by_label.items():
                submits.add_metric((link, label), segments)
            responses.add_metric(
                (link,), _cumulated(RESPONSE_BUCKETS_S, counts.response_buckets), counts.response_sum_s
            )
            records.add_metric((link,), _cumulated(RECORD_BUCKETS_S, counts.record_buckets), counts.record_sum_s)
            for part, seconds in counts.held.seconds(now).items():
                held_back.add_metric((link, part), seconds)
            open_link = counts.gauges
            gauges["link_bound"].add_metric((link,), bool(open_link and open_link.is_bound))
            gauges["link_sessions"].add_metric((link,), open_link.sessions_bound if open_link else 0)
            gauges["window_in_use"].add_metric((link,), open_link.window_in_use if open_link else 0)
            gauges["throughput_limit"].add_metric((link,), open_link.throughput_limit if open_link else 0)
            gauges["window_limit"].add_metric((link,), open_link.window_limit if open_link else 0)
            gauges["link_paused"].add_metric((link,), bool(open_link and open_link.is_paused))
            if open_link:
                gauges["throughput_configured"].add_metric((link,), open_link.settings.throughput_per_s)
                gauges["sessions_configured"].add_metric((link,), open_link.settings.binds)
        yield submits
        yield responses
        yield records
        yield held_back
        yield from gauges.values()


def _status_label(command_status: int) -> str:
    """Name out of a closed set."""
    if command_status == UNANSWERED:
        return "unanswered"
    if command_status in VENDOR_STATUSES:
        return "vendor"
    name = status.name(command_status)
    return "reserved" if name.startswith("0x") else name


def _cumulated(bounds: tuple[float, ...], buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    samples: list[tuple[str, float]] = []
    for bound, number in zip((*map(str, bounds), "+Inf"), buckets, strict=True):
        total += number
        samples.append((bound, total))
    return samples
