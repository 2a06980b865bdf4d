"""What happens in one run, from its seed alone: the same seed gives the same schedule.

Instants are seconds after the first enqueue. Faults may overlap; two of one target wait for each other.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DAEMON = ("daemon_kill", "daemon_kill_twice", "daemon_drain", "daemon_stop")
DATABASE = ("postgres_crash", "postgres_restart", "postgres_terminate", "postgres_freeze", "postgres_lock")
SMSC = ("smsc_kill", "smsc_drop", "smsc_late", "smsc_silent", "smsc_refuse", "smsc_throttle")
NETWORK = (
    "smsc_cut",
    "smsc_delay",
    "smsc_halfopen",
    "database_cut",
    "database_delay",
    "database_halfopen",
    "client_cut",
)
FAMILIES = (DAEMON, DATABASE, SMSC, NETWORK)
LOCKABLE = ("ready", "claim", "sent", "link", "deferred", "event_log")

FULL_SPAN_S = 7.0
SHORT_SPAN_S = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and what it needs to know."""

    at_s: float
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The shape of one run and its faults, in order."""

    seed: int
    jobs: int
    span_s: float  # the client enqueues for so long
    daemons: int
    links: int
    sessions: int  # of each link
    window_size: int
    throughput_per_s: int  # of each link
    receipts: bool
    takeover_s: float
    time_to_live_s: float
    noise: float  # share of submit_sm that the SMSC answers badly, late or never at any time
    faults: tuple[Fault, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, for the run's folder."""
        return asdict(self)


def schedule(seed: int, jobs: int = 5_000) -> Schedule:
    """Choose shape and faults."""
    chosen = random.Random(seed)
    span_s = FULL_SPAN_S if jobs > 1_000 else SHORT_SPAN_S
    daemons = 2 if chosen.random() < 0.35 else 1
    links = 2 if daemons == 2 or chosen.random() < 0.4 else 1
    weights = [chosen.uniform(0.2, 1.0) for _ in FAMILIES]
    count = chosen.randint(4, 8) if jobs > 1_000 else chosen.randint(2, 4)
    faults = []
    for _ in range(count):
        (family,) = chosen.choices(FAMILIES, weights)
        name = chosen.choice(family)
        at_s = round(chosen.uniform(0.2, span_s), 2)
        faults.append(Fault(at_s, name, _arguments(chosen, name, daemons, links, 1.0 if jobs > 1_000 else 0.4)))
    return Schedule(
        seed=seed,
        jobs=jobs,
        span_s=span_s,
        daemons=daemons,
        links=links,
        sessions=chosen.choice((1, 1, 1, 2)),
        window_size=chosen.choice((25, 50, 50, 200)),
        throughput_per_s=max(500, jobs * 2 // 5) // links,
        receipts=chosen.random() < 0.85,
        takeover_s=chosen.choice((1.5, 2.0)) if daemons == 2 else chosen.choice((2.0, 10.0)),
        time_to_live_s=9.0 if jobs > 1_000 else 4.0,
        noise=chosen.choice((0.0, 0.0, 0.004, 0.02)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
    )


def _arguments(chosen: random.Random, name: str, daemons: int, links: int, longest: float) -> dict[str, Any]:
    def seconds(low: float, high: float) -> float:
        return round(chosen.uniform(low, max(low, high * longest)), 3)

    daemon, link = chosen.randrange(daemons), chosen.randrange(links)
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "daemon_kill": lambda: {"daemon": daemon, "down_s": seconds(0.0, 1.0)},
        "daemon_kill_twice": lambda: {"daemon": daemon, "again_s": seconds(0.2, 1.2)},
        "daemon_drain": lambda: {"daemon": daemon, "down_s": seconds(0.0, 0.5)},
        "daemon_stop": lambda: {"daemon": daemon, "for_s": seconds(0.5, 6.0)},
        "postgres_crash": lambda: {"down_s": seconds(0.0, 1.5)},
        "postgres_restart": lambda: {"down_s": 0.0},
        "postgres_terminate": lambda: {"count": chosen.randint(1, 8), "times": chosen.randint(1, 3)},
        "postgres_freeze": lambda: {"for_s": seconds(0.3, 2.0)},
        "postgres_lock": lambda: {"table": chosen.choice(LOCKABLE), "for_s": seconds(0.5, 2.0)},
        "smsc_kill": lambda: {"down_s": seconds(0.0, 1.5)},
        "smsc_drop": dict,
        "smsc_late": lambda: {"for_s": seconds(0.3, 2.0)},
        "smsc_silent": lambda: {"for_s": seconds(0.3, 2.0)},
        "smsc_refuse": lambda: {"for_s": seconds(0.5, 2.5)},
        "smsc_throttle": lambda: {"for_s": seconds(0.3, 2.0)},
        "smsc_cut": lambda: {"daemon": daemon, "link": link, "for_s": seconds(0.0, 2.0)},
        "smsc_delay": lambda: {
            "daemon": daemon, "link": link, "delay_s": seconds(0.05, 0.5), "for_s": seconds(0.5, 3.0),
        },
        "smsc_halfopen": lambda: {"daemon": daemon, "link": link, "for_s": seconds(1.0, 8.0)},
        "database_cut": lambda: {"daemon": daemon, "for_s": seconds(0.0, 2.0)},
        "database_delay": lambda: {"daemon": daemon, "delay_s": seconds(0.05, 0.5), "for_s": seconds(0.5, 3.0)},
        "database_halfopen": lambda: {"daemon": daemon, "for_s": seconds(1.0, 8.0)},
        "client_cut": lambda: {"times": chosen.randint(1, 5)},
    }  # fmt: skip
    return arguments[name]()
