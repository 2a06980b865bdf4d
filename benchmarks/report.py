"""One run's figures for people to read."""

from __future__ import annotations

from typing import Any

from benchmarks.plan import LANE_WEIGHTS


def table(result: dict[str, Any]) -> str:
    """Lay the figures out, one a line."""
    rows = [*_rates(result), *_costs(result), *_queues(result), *_emergencies(result), *_particulars(result)]
    rows += _account(result)
    if "inside" in result:
        rows += _inside(result)
    head = f"\n{result['run']} ({result['seconds']:.0f} s)"
    return "\n".join([head, *(f"  {name:<34} {value}" for name, value in rows)])


def _rates(result: dict[str, Any]) -> list[tuple[str, str]]:
    database, sink, limit = result["from_database"], result["sink"], result["throughput_per_s"]
    return [
        ("jobs/s enqueued", f"{result['enqueued_per_s']:,.0f}"),
        *(
            (
                f"jobs/s {what}",
                f"{result[f'{what}_per_s']:,.0f} at the sink, {database[f'{what}_per_s']:,.0f} in the database",
            )
            for what in ("submitted", "delivered")
        ),
        (
            "segments/s",
            f"{result['segments_per_s']:,.0f} mean; any second {sink['most_in_any_second']:,} at most, limit {limit:,}",
        ),
        (
            "slowest second, longest gap",
            f"{sink['least_second']:,} segments, {sink['longest_gap_s'] * 1000:,.0f} ms",
        ),
    ]


def _costs(result: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, cores, calibration = result["cpu_s_per_1000"], result["cores"], result["calibration"]
    both = cpu["daemon"] + cpu["postgres"] if "postgres" in cpu else None
    return [
        ("CPU-s per 1,000 delivered", ", ".join(f"{name} {used:.4f}" for name, used in cpu.items())),
        ("  daemon + postgres", "not measured: the server is elsewhere" if both is None else f"{both:.4f}"),
        ("cores", ", ".join(f"{name} {used:.3f}" for name, used in cores.items())),
        ("calibration, M rounds/s", ", ".join(f"{figure:.1f} {when}" for when, figure in calibration.items())),
        ("RSS of the daemon", f"{result['rss_mb']:.0f} MB"),
        ("WAL a job", f"{result['wal_bytes_per_job']:,.0f} bytes"),
        (
            "jobs a claim, a receipt flush",
            f"{result['jobs_per_claim']:.0f}, {result['from_database']['jobs_per_receipt_flush']:.0f}",
        ),
    ]


def _queues(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("waiting, not on the wire", result["waiting"]),
        ("rows in ready", result["ready_rows"]),
        ("receipts owed by the sink", result["receipts_owed"]),
    ]
    if result["backlog_rows"]["begin"]:
        rows.append(("of the backlog", result["backlog_rows"]))
    return [(name, f"{ends['begin']:,} -> {ends['end']:,}") for name, ends in rows]


def _emergencies(result: dict[str, Any]) -> list[tuple[str, str]]:
    urgent = result["emergencies"]
    if not urgent["count"]:
        return []
    p50, p99, most, count = (urgent[name] for name in ("p50_ms", "p99_ms", "most_ms", "count"))
    return [
        ("emergencies, commit to submit_sm", f"p50 {p50:.1f}, p99 {p99:.1f}, most {most:.1f} ms ({count:,})"),
        (
            "  from the call of enqueue",
            f"p50 {urgent['from_call_p50_ms']:.1f}, p99 {urgent['from_call_p99_ms']:.1f} ms",
        ),
    ]


def _particulars(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if result["run"] == "lanes":
        shares = result["segments_by_lane"][1:]
        total, weight = max(1, sum(shares)), sum(LANE_WEIGHTS)
        parts = (
            f"{n}: {share / total:.1%} of {wanted / weight:.1%}"
            for n, (share, wanted) in enumerate(zip(shares, LANE_WEIGHTS, strict=True), 1)
        )
        rows.append(("share of each lane, of its weight", ", ".join(parts)))
    if result["run"].startswith("window-"):
        rows.append(("of (window - k) / latency", f"{result['segments_per_s'] / result['window_allows_per_s']:.1%}"))
    if result["run"].startswith("receipts-"):
        rows.append(("receipts/s", f"{result['receipts_per_s']:,.0f}"))
    rows.append(("start to bound", f"{result['bound_after_s']:.2f} s"))
    if result["first_submit_after_s"]:
        rows.append(("start to first submit_sm", ", ".join(f"{s:.2f} s" for s in result["first_submit_after_s"])))
    return rows


def _account(result: dict[str, Any]) -> list[tuple[str, str]]:
    account, drained = result["account"], result["drained_s"]
    enqueued, delivered, still, ended, lost = (
        f"{account[name]:,}" for name in ("enqueued", "delivered", "open", "ended", "lost")
    )
    return [
        ("drained", "not in time" if drained is None else f"in {drained:.1f} s"),
        ("account", f"{enqueued} enqueued = {delivered} delivered + {still} open + {ended} other; lost {lost}"),
        *(("PROBLEM", problem) for problem in account["problems"]),
    ]


def _inside(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, one in result["statements"].items():
        if one["calls"] > 2:
            calls, mean, most, items = (one[figure] for figure in ("calls", "mean_ms", "most_ms", "items"))
            rows.append(
                (f"  {name}", f"{calls:,} calls, {mean:.1f} ms mean, {most:.0f} ms most, {items:.1f} items a call")
            )
    rows += [(f"  {name}", f"{mean:,.0f} mean") for name, mean in result["inside"]["gauges"].items()]
    rows += [(f"  {name}", f"{mean:.3f} sessions") for name, mean in result["inside"]["sessions"].items()]
    return rows
