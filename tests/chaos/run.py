"""One seed from its schedule to its verdict."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from config.settings import SHIPPED_CATEGORIES
from tests.chaos.evidence import Evidence, dump_database, read_files
from tests.chaos.judge import Finding, judge
from tests.chaos.schedule import schedule
from tests.chaos.world import RESPONSE_TIMEOUT_S, world_of

if TYPE_CHECKING:
    from pathlib import Path

RESENT = frozenset(category.name for category in SHIPPED_CATEGORIES if category.on_doubt == "resend")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run showed."""

    seed: int
    jobs: int
    findings: list[Finding]
    states: dict[str, int]
    duplicates: int  # segments written more than once though no refusal was given
    uncertain: int  # jobs that ever were in doubt
    halts: int  # kills, stops and drains of daemons, those of the end included
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def word(self) -> str:
        """``ok``, or the first finding of each rule."""
        first = {finding.rule: finding.what for finding in reversed(self.findings)}
        return "; ".join(f"{rule}: {what}" for rule, what in sorted(first.items())) or "ok"


async def run_seed(seed: int, jobs: int, folder: Path) -> Verdict:
    """Run and judge one seed in a folder of its own."""
    began, cpu = time.monotonic(), _cpu_s()
    plan = schedule(seed, jobs)
    (folder / "schedule.json").write_text(json.dumps(plan.as_json(), indent=1), encoding="ascii")
    async with world_of(folder, plan) as world:
        await world.run()
        await dump_database(world.postgres.url, folder)
        postgres_cpu_s = world.postgres_cpu_s + world.postgres.cpu_s()
    verdict = judge_folder(folder)
    return replace(
        verdict,
        seconds=round(time.monotonic() - began, 1),
        cpu_s=round(_cpu_s() - cpu + postgres_cpu_s, 1),
    )


def judge_folder(folder: Path) -> Verdict:
    """Judge a run by what it left in its folder."""
    plan = json.loads((folder / "schedule.json").read_text(encoding="ascii"))
    evidence = Evidence(
        rate=plan["throughput_per_s"],
        sessions=plan["sessions"],
        window_size=plan["window_size"],
        response_timeout_s=RESPONSE_TIMEOUT_S,
        receipts=plan["receipts"],
        resent=RESENT,
    )
    read_files(folder, evidence)
    findings = judge(evidence)
    (folder / "findings.txt").write_text("".join(f"{rule}: {what}\n" for rule, what in findings), encoding="utf-8")
    open_writes = Counter(write.piece for write in evidence.writes if not write.status)
    return Verdict(
        seed=plan["seed"],
        jobs=plan["jobs"],
        findings=findings,
        states=dict(Counter(evidence.states.values()).most_common()),
        duplicates=sum(count - 1 for count in open_writes.values()),
        uncertain=len({event.job_id for event in evidence.events if event.type == "job.uncertain"}),
        halts=len(evidence.halts),
    )


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
