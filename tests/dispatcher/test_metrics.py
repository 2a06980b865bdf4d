"""dispatcher/metrics.py: the public names, their labels and what they count."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dispatcher.metrics import (
    BUCKETS_S,
    DOUBT_ENDS,
    INBOUND_CLASSES,
    JOB_STATES,
    RECEIPT_REASONS,
    RECEIPT_STATES,
    DispatcherMetrics,
)

PUBLIC = {
    "tocsin_jobs": ("counter", {"category", "state"}),
    "tocsin_repeated_texts": ("counter", {"category"}),
    "tocsin_queue_jobs": ("gauge", {"lane"}),
    "tocsin_queue_oldest_seconds": ("gauge", {"lane"}),
    "tocsin_enqueue_to_submit_seconds": ("histogram", {"category", "link"}),
    "tocsin_submit_to_receipt_seconds": ("histogram", {"category", "link"}),
    "tocsin_receipts": ("counter", {"link", "state"}),
    "tocsin_receipt_errors": ("counter", {"link", "reason"}),
    "tocsin_receipt_ids": ("counter", {"link", "form"}),
    "tocsin_inbound": ("counter", {"link", "class"}),
    "tocsin_uncertain_segments": ("gauge", {"link"}),
    "tocsin_doubt_ended": ("counter", {"link", "how"}),
    "tocsin_fenced": ("counter", {"link"}),
    "tocsin_failed_over_jobs": ("counter", {"link"}),
    "tocsin_claims_held_seconds": ("counter", {"part"}),
    "tocsin_settle_pending": ("gauge", set()),
    "tocsin_database_up": ("gauge", set()),
    "tocsin_partitions_ahead_days": ("gauge", set()),
    "tocsin_partitions_kept_days": ("gauge", set()),
}


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return DispatcherMetrics(registry)


WORSE = {"tocsin_database_up": "0:", "tocsin_partitions_ahead_days": "A fall"}  # where a rise is good news


def used(metrics: DispatcherMetrics) -> None:
    """Touch each metric once."""
    metrics.count_job("staff", "submitted")
    metrics.count_repeated_texts("staff", 499)
    metrics.set_queue(0, 3, 1.5)
    metrics.observe_submits("staff", "carrier-a", [0.004])
    metrics.observe_receipts("staff", "carrier-a", [2.0])
    metrics.count_receipt("carrier-a", "unmatched")
    metrics.count_receipt_error("carrier-a", "ABSENT")
    metrics.count_receipt_ids("carrier-a", "none")
    metrics.count_inbound("carrier-a", "text")
    metrics.set_uncertain("carrier-a", 2)
    metrics.count_doubt_ended("carrier-a", "receipt")
    metrics.count_fenced("carrier-a")
    metrics.count_failed_over("carrier-a", 1)
    metrics.count_claims_held("settle", 2.5)
    metrics.settle_pending.set(7)
    metrics.database_up.set(1)


def test_names_types_and_labels_are_the_public_ones(registry, metrics):
    """Dashboards and alerts of operators depend on each of them."""
    used(metrics)
    found = {
        metric.name: (metric.type, {label for sample in metric.samples for label in sample.labels if label != "le"})
        for metric in registry.collect()
    }
    assert found == PUBLIC


def test_each_method_moves_its_metric(registry, metrics):
    """The value an operator reads is the one that was told."""
    used(metrics)
    value = registry.get_sample_value
    assert value("tocsin_jobs_total", {"category": "staff", "state": "submitted"}) == 1
    assert value("tocsin_repeated_texts_total", {"category": "staff"}) == 499
    assert value("tocsin_queue_jobs", {"lane": "0"}) == 3
    assert value("tocsin_queue_oldest_seconds", {"lane": "0"}) == 1.5
    assert value("tocsin_enqueue_to_submit_seconds_sum", {"category": "staff", "link": "carrier-a"}) == 0.004
    assert value("tocsin_submit_to_receipt_seconds_count", {"category": "staff", "link": "carrier-a"}) == 1
    assert value("tocsin_receipts_total", {"link": "carrier-a", "state": "unmatched"}) == 1
    assert value("tocsin_receipt_errors_total", {"link": "carrier-a", "reason": "ABSENT"}) == 1
    assert value("tocsin_receipt_ids_total", {"link": "carrier-a", "form": "none"}) == 1
    assert value("tocsin_inbound_total", {"link": "carrier-a", "class": "text"}) == 1
    assert value("tocsin_uncertain_segments", {"link": "carrier-a"}) == 2
    assert value("tocsin_doubt_ended_total", {"link": "carrier-a", "how": "receipt"}) == 1
    assert value("tocsin_fenced_total", {"link": "carrier-a"}) == 1
    assert value("tocsin_claims_held_seconds_total", {"part": "settle"}) == 2.5
    assert value("tocsin_settle_pending") == 7
    assert value("tocsin_database_up") == 1


def test_counts_come_in_batches(registry, metrics):
    """A flush tells a state once for all its jobs."""
    metrics.count_job("staff", "expired", 40)
    metrics.count_job("staff", "expired", 2)
    assert registry.get_sample_value("tocsin_jobs_total", {"category": "staff", "state": "expired"}) == 42


def test_help_texts_say_what_a_rise_means(registry, metrics):
    """Who is woken by an alert reads this first."""
    used(metrics)
    for metric in registry.collect():
        assert WORSE.get(metric.name, "A rise") in metric.documentation


def test_buckets_reach_from_a_millisecond_to_an_hour():
    """Lane 0 is judged in milliseconds, receipts in minutes."""
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 3600.0)
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


def test_prepared_counters_stand_at_zero(registry, metrics):
    """increase() misses the first rise of a series that was not there before."""
    metrics.prepare(["carrier-a"], ["staff"])
    for state in JOB_STATES:
        assert registry.get_sample_value("tocsin_jobs_total", {"category": "staff", "state": state}) == 0
    for state in RECEIPT_STATES:
        assert registry.get_sample_value("tocsin_receipts_total", {"link": "carrier-a", "state": state}) == 0
    for reason in RECEIPT_REASONS:
        labels = {"link": "carrier-a", "reason": reason}
        assert registry.get_sample_value("tocsin_receipt_errors_total", labels) == 0
    for kind in INBOUND_CLASSES:
        assert registry.get_sample_value("tocsin_inbound_total", {"link": "carrier-a", "class": kind}) == 0
    for how in DOUBT_ENDS:
        assert registry.get_sample_value("tocsin_doubt_ended_total", {"link": "carrier-a", "how": how}) == 0
    assert registry.get_sample_value("tocsin_uncertain_segments", {"link": "carrier-a"}) == 0
    assert registry.get_sample_value("tocsin_fenced_total", {"link": "carrier-a"}) == 0


def test_the_first_emergency_after_a_start_has_a_rate(registry, metrics):
    """They are few: the objective must not miss one because its series was not there before."""
    metrics.prepare(["carrier-a"], ["emergency", "staff"])
    of_emergencies = {"category": "emergency", "link": "carrier-a"}
    assert registry.get_sample_value("tocsin_enqueue_to_submit_seconds_count", of_emergencies) == 0
    assert registry.get_sample_value("tocsin_enqueue_to_submit_seconds_bucket", of_emergencies | {"le": "1.0"}) == 0


def test_a_cleared_queue_is_absent_until_it_is_read_again(registry, metrics):
    """Only one instance reads the lanes; an old value would be added to the new reader's."""
    metrics.set_queue(3, 10, 4.0)
    metrics.clear_queue()
    assert registry.get_sample_value("tocsin_queue_jobs", {"lane": "3"}) is None
    metrics.set_queue(3, 11, 5.0)
    assert registry.get_sample_value("tocsin_queue_jobs", {"lane": "3"}) == 11
    assert registry.get_sample_value("tocsin_queue_oldest_seconds", {"lane": "3"}) == 5.0


def test_no_series_tells_when_it_was_made(registry, metrics):
    """They double the exposition and nobody reads them."""
    used(metrics)
    assert b"_created" not in generate_latest(registry)
