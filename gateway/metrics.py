"""What the gateway shows to Prometheus.

The hot path counts into plain numbers, a read's worth at a time; they are turned into samples when Prometheus
asks. Labels are link names, command_status names of the specification, and numbers of others, at most
``MOST_UNKNOWN_STATUSES`` of them a link: nothing a peer sends makes more.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway import status
from gateway.held import HeldBack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from config.settings import LinkSettings

RESPONSE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECORD_BUCKETS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
UNANSWERED: Final = -1  # in place of a command_status: no answer came
OTHER: Final = -2  # in place of a command_status without a name, once there are too many of them
MOST_UNKNOWN_STATUSES: Final = 64  # command_status without a name that a link counts by number; a carrier has a dozen
Failing = Literal["submit_sm_resp", "deliver_sm", "other", "observer"]
FAILING: Final[tuple[Failing, ...]] = ("submit_sm_resp", "deliver_sm", "other", "observer")


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
    def is_failing(self) -> bool:
        """Say whether lanes 1 to 5 are held back because the SMSC refuses."""

    @property
    def settings(self) -> LinkSettings:
        """What the file says."""


class Buckets:
    """One histogram as plain numbers: a tenth of the cost of the library's own."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds  # upper ones, rising; +Inf is not among them
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Give the samples under these labels."""
        bounds = (*map(str, self._bounds), "+Inf")
        family.add_metric(labels, list(zip(bounds, accumulate(self._counts), strict=True)), self.sum)


class LinkMetrics:
    """Counts of one link since the process began; they outlive the link."""

    __slots__ = ("_unknown", "failures", "gauges", "held", "records", "responses", "statuses")

    def __init__(self) -> None:
        self.gauges: LinkGauges | None = None  # None while the link is not open here
        self.statuses: dict[int, int] = {}  # command_status, UNANSWERED or OTHER -> segments
        self._unknown = 0  # of these, command_status without a name
        self.failures: dict[Failing, int] = dict.fromkeys(FAILING, 0)
        self.responses = Buckets(RESPONSE_BUCKETS_S)
        self.records = Buckets(RECORD_BUCKETS_S)
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
        if command_status not in self.statuses:
            command_status = self._counted_as(command_status)
        self.statuses[command_status] = self.statuses.get(command_status, 0) + 1
        self.responses.observe(waited_s)

    def _counted_as(self, command_status: int) -> int:
        """Give a number that was not seen before its place, or OTHER where no place is left."""
        if status.is_named(command_status):
            return command_status
        if self._unknown >= MOST_UNKNOWN_STATUSES:
            return OTHER
        self._unknown += 1
        return command_status

    def unanswered(self) -> None:
        """Count one segment that was written and not answered."""
        self.statuses[UNANSWERED] = self.statuses.get(UNANSWERED, 0) + 1

    def recorded(self, took_s: float) -> None:
        """Count one write of the local record, which every segment of the link waited for."""
        self.records.observe(took_s)
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
            "Segments written, by what came back: a name of the specification, else the number, 64 of them a link, the"
            " rest as other. A rise of anything but ESME_ROK is the carrier refusing; of unanswered, doubt.",
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
        failures = CounterMetricFamily(
            "tocsin_events_failed",
            "Events of the link that met a fault of Tocsin's own, each at the cost of itself alone: a deliver_sm stays"
            " with the SMSC (ESME_RX_T_APPN), a segment is in doubt. A rise is a bug: report event_failed of the log.",
            labels=("link", "what"),
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
                ("link_failing", "1 while lanes 1 to 5 are held back, since the carrier refuses half of what it gets."),
            )
        }
        for link, counts in self._links.items():
            for command_status, segments in counts.statuses.items():
                submits.add_metric((link, _status_label(command_status)), segments)
            for what, events in counts.failures.items():
                failures.add_metric((link, what), events)
            counts.responses.add_to(responses, (link,))
            counts.records.add_to(records, (link,))
            for part, seconds in counts.held.seconds(now).items():
                held_back.add_metric((link, part), seconds)
            open_link = counts.gauges
            gauges["link_bound"].add_metric((link,), bool(open_link and open_link.is_bound))
            gauges["link_sessions"].add_metric((link,), open_link.sessions_bound if open_link else 0)
            gauges["window_in_use"].add_metric((link,), open_link.window_in_use if open_link else 0)
            gauges["throughput_limit"].add_metric((link,), open_link.throughput_limit if open_link else 0)
            gauges["window_limit"].add_metric((link,), open_link.window_limit if open_link else 0)
            gauges["link_paused"].add_metric((link,), bool(open_link and open_link.is_paused))
            gauges["link_failing"].add_metric((link,), bool(open_link and open_link.is_failing))
            if open_link:
                gauges["throughput_configured"].add_metric((link,), open_link.settings.throughput_per_s)
                gauges["sessions_configured"].add_metric((link,), open_link.settings.binds)
        yield submits
        yield responses
        yield records
        yield held_back
        yield failures
        yield from gauges.values()


def _status_label(command_status: int) -> str:
    if command_status == UNANSWERED:
        return "unanswered"
    return "other" if command_status == OTHER else status.name(command_status)
