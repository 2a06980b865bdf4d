"""What Prometheus sees of the gateway."""

import time

from prometheus_client import CollectorRegistry, generate_latest

from config.settings import LinkSettings
from gateway.metrics import MOST_UNKNOWN_STATUSES, GatewayMetrics


class Gauges:
    name = "carrier-a"
    is_bound = True
    sessions_bound = 2
    window_in_use = 7
    window_limit = 20
    throughput_limit = 50
    is_paused = True
    is_failing = True
    settings = LinkSettings(
        name="carrier-a",
        hosts=("127.0.0.1",),
        system_id="clinic",
        password="",
        bind_type="transmitter+receiver",
        sessions=3,
        throughput_per_s=80,
    )


def shown(metrics: GatewayMetrics) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def counted(samples: dict[str, float]) -> dict[str, float]:
    """Segments by command_status."""
    wanted = 'tocsin_submit_sm_total{command_status="'
    return {name.removeprefix(wanted).partition('"')[0]: each for name, each in samples.items() if wanted in name}


def test_segments_are_counted_by_what_came_back():
    """Names of the specification; numbers where it has none."""
    metrics = GatewayMetrics()
    link = metrics.link("carrier-a")
    for command_status in (0, 0, 0x58, 0x104, 0x401, 0x402, 0x402, 0x99, 0xFFFFFFFF):
        link.answered(command_status, 0.003)
    link.unanswered()

    assert counted(shown(metrics)) == {
        "ESME_ROK": 2,
        "ESME_RTHROTTLED": 1,
        "ESME_RINVDCS": 1,
        "0x00000401": 1,
        "0x00000402": 2,
        "0x00000099": 1,
        "0xFFFFFFFF": 1,
        "unanswered": 1,
    }


def test_a_hostile_smsc_makes_only_so_many_labels():
    """A number for each answer: the first of them keep theirs, names are always told, and memory stays small."""
    metrics = GatewayMetrics()
    link = metrics.link("carrier-a")
    for number in range(10_000):
        link.answered(0x10000 + number, 0.003)
    link.answered(0x10000, 0.003)
    link.answered(0x14, 0.003)

    samples = counted(shown(metrics))

    assert len(samples) == len(link.statuses) == MOST_UNKNOWN_STATUSES + 2
    assert (samples["0x00010000"], samples["ESME_RMSGQFUL"]) == (2, 1)
    assert samples["other"] == 10_000 - MOST_UNKNOWN_STATUSES


def test_faults_of_our_own_are_counted_by_what_met_them():
    """All at zero from the start, so that the first is seen as a rise."""
    metrics = GatewayMetrics()
    metrics.link("carrier-a").failures["deliver_sm"] += 1

    samples = shown(metrics)

    assert {name: value for name, value in samples.items() if "tocsin_events_failed" in name} == {
        f'tocsin_events_failed_total{{link="carrier-a",what="{what}"}}': value
        for what, value in (("submit_sm_resp", 0), ("deliver_sm", 1), ("other", 0), ("observer", 0))
    }


def test_response_times_are_a_histogram():
    """Cumulative buckets, a sum and a count."""
    metrics = GatewayMetrics()
    link = metrics.link("carrier-a")
    for waited_s in (0.0005, 0.001, 0.02, 99.0):
        link.answered(0, waited_s)

    samples = shown(metrics)

    def bucket(bound: str) -> float:
        return samples[f'tocsin_submit_response_seconds_bucket{{le="{bound}",link="carrier-a"}}']

    assert [bucket(bound) for bound in ("0.001", "0.01", "0.025", "30.0", "+Inf")] == [2, 2, 3, 3, 4]
    assert samples['tocsin_submit_response_seconds_count{link="carrier-a"}'] == 4
    assert abs(samples['tocsin_submit_response_seconds_sum{link="carrier-a"}'] - 99.0215) < 1e-9


def test_gauges_are_read_when_asked_and_zero_when_the_link_is_not_here():
    """Another instance may own it."""
    metrics = GatewayMetrics()
    metrics.link("carrier-a").gauges = Gauges()
    metrics.link("carrier-b")

    samples = shown(metrics)

    for name, here in (
        ("link_bound", 1),
        ("link_sessions", 2),
        ("link_paused", 1),
        ("link_failing", 1),
        ("window_in_use", 7),
        ("window_limit", 20),
        ("throughput_limit", 50),
    ):
        assert samples[f'tocsin_{name}{{link="carrier-a"}}'] == here
        assert samples[f'tocsin_{name}{{link="carrier-b"}}'] == 0
    assert samples['tocsin_throughput_configured{link="carrier-a"}'] == 80
    assert samples['tocsin_sessions_configured{link="carrier-a"}'] == 6
    assert 'tocsin_sessions_configured{link="carrier-b"}' not in samples


def test_what_holds_segments_back_is_a_counter_by_part():
    """All parts from the start, so that a first rise is seen; a wait that lasts is in it."""
    metrics = GatewayMetrics()
    link = metrics.link("carrier-a")
    link.held.by("window", time.monotonic() - 60.0)
    link.held.add("socket", 2.0)

    samples = shown(metrics)

    def seconds(part: str) -> float:
        return samples[f'tocsin_held_back_seconds_total{{link="carrier-a",part="{part}"}}']

    assert seconds("window") >= 60.0
    assert [seconds(part) for part in ("socket", "record", "throttle")] == [2.0, 0.0, 0.0]


def test_writes_of_the_record_are_a_histogram_and_count_as_waiting():
    """Every segment of the link waits for the disk."""
    metrics = GatewayMetrics()
    link = metrics.link("carrier-a")
    for took_s in (0.00005, 0.002, 7.0):
        link.recorded(took_s)

    samples = shown(metrics)

    assert [
        samples[f'tocsin_record_write_seconds_bucket{{le="{bound}",link="carrier-a"}}']
        for bound in ("0.0001", "0.001", "0.005", "5.0", "+Inf")
    ] == [1, 1, 2, 2, 3]
    assert abs(samples['tocsin_record_write_seconds_sum{link="carrier-a"}'] - 7.00205) < 1e-9
    assert abs(samples['tocsin_held_back_seconds_total{link="carrier-a",part="record"}'] - 7.00205) < 1e-9
