"""What a run is measured with: CPU time of processes, percentiles, and the speed of the machine at that moment."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CALIBRATION_LOOPS: Final = 200_000
LEAST_MS: Final = 0.1  # the first bucket of a histogram begins here, and holds all that is less
PER_DECADE: Final = 20  # buckets of a histogram: each 12 % wider than the one before


def calibrate(seconds: float = 0.5) -> float:
    """Millions of rounds a second of a fixed pure-Python loop; the best of what fits, since all else only slows it.

    It stands beside every figure: hosts change their speed, and a figure means nothing without it.
    """
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = time.perf_counter()
        total = 0
        for number in range(CALIBRATION_LOOPS):
            total = (total + number * 7) & 0xFFFF
        best = max(best, CALIBRATION_LOOPS / (time.perf_counter() - before))
    return best / 1e6


def speed_now() -> float:
    """Millions of the same rounds a second of CPU time, from 10 ms of it: what a core gives while the others work too.

    Less than ``calibrate`` where the cores are threads of one, share caches, or are taken away by the host. CPU
    seconds of a run are of such cores.
    """
    rounds, begun = 0, time.thread_time()
    while (used := time.thread_time() - begun) < 0.01:
        total = 0
        for number in range(CALIBRATION_LOOPS // 20):
            total = (total + number * 7) & 0xFFFF
        rounds += CALIBRATION_LOOPS // 20
    return rounds / used / 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, children that it has waited for left out."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def postgres_cpu_s(postmaster: int) -> float:
    """CPU seconds of a postmaster, of its children, and of those that have ended."""
    process = psutil.Process(postmaster)
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            its = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += its.user + its.system
    return float(total)


def rss_mb(pid: int) -> float:
    """Resident megabytes of a process."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def middle(values: Iterable[float | None]) -> float | None:
    """Give the median of what was measured; None when nothing was."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which this share of the ordered values lies."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def histogram(values_ms: Sequence[float]) -> dict[str, Any]:
    """Count times in buckets of a logarithmic axis; bucket n begins at ``least_ms * 10 ** (n / per_decade)``."""
    places = [max(0, math.floor(math.log10(max(value, LEAST_MS) / LEAST_MS) * PER_DECADE)) for value in values_ms]
    counts = [0] * (max(places, default=-1) + 1)
    for place in places:
        counts[place] += 1
    return {"least_ms": LEAST_MS, "per_decade": PER_DECADE, "counts": counts}
