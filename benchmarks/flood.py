"""A flood of emergencies: so many in one transaction, beside waiting marketing and a trickle of confirmations.

What must hold, judged by the sink's log alone: from their commit on, emergencies take what the link's throughput
allows, all but a twentieth, once the second is over that marketing had filled before; nothing but confirmations goes
between them; and each confirmation leaves within the five minutes of its category.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench_journey import COUNT_S, PRELOAD_S, Run
from benchmarks.measure import percentile
from benchmarks.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.stage import Child

EMERGENCY, REPLY = "8", "7"  # the fourth digit of their recipients (enqueuer.recipient)
LEAST_SHARE: Final = 0.95  # of throughput_per_s
FULL_S: Final = 1.02  # the throttle's sliding second, which may be full when the flood comes
REPLY_LIVES_S: Final = 300.0
REPLIES_PER_S: Final = 1.0
SPARE: Final = 1.25  # the window, in times of what the flood takes by the throttle

Line = tuple[float, str]  # when a submit_sm was read, and its recipient


class Flood(Run):
    """A run in which the window begins with the flood."""

    def __init__(self, *arguments: Any, emergencies: int) -> None:
        super().__init__(*arguments)
        self.emergencies = emergencies

    async def play(self) -> dict[str, Any]:
        """Play it, and judge the sink's log."""
        result = await super().play()
        sent = (await self.replies.hear())["sent"]
        flood = judged(read(self.folder / "sink.txt"), self.emergencies, self.plan.throughput, self.committed, sent)
        result["account"]["problems"] += flood["problems"]
        return result | {"flood": flood}

    async def _preload(self) -> None:
        self.backlogs.append(self._client("backlog", "copies", 7, jobs=self.plan.backlog))
        await self.backlogs[-1].hear(timeout_s=PRELOAD_S)
        await self.control.execute("vacuum (analyze) tocsin.ready", timeout=COUNT_S)
        await self.control.execute("checkpoint", timeout=COUNT_S)

    def _start_clients(self) -> Child | None:
        self.replies = self._client("emergencies-replies", "replies", 98, rate=REPLIES_PER_S)
        return self.replies

    async def _before_window(self) -> None:
        self.backlogs.append(self._client("flood", "flood", 99, jobs=self.emergencies))
        self.committed = (await self.backlogs[-1].hear(timeout_s=PRELOAD_S))["committed"]


def plan_of(emergencies: int, throughput: int, backlog: int, warm_s: float) -> Plan:
    """Give the plan: long enough for the flood to pass, and for marketing to go on after it."""
    return Plan(
        name="flood",
        seconds=emergencies / throughput * SPARE + 5.0,
        warm_s=warm_s,
        clients=0,
        emergencies_per_s=0.0,
        backlog=backlog,
        throughput=throughput,
        drain_s=5.0,
        log=True,
        timed=True,
    )


def read(file: Path) -> list[Line]:
    """Read the sink's log."""
    lines = (line.split() for line in file.read_text().splitlines())
    return [(float(at), recipient) for at, recipient in lines]


def judged(
    log: Sequence[Line], emergencies: int, throughput: int, committed: float, replies: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """What a flood came to; ``replies``: recipient -> when its enqueue was called and when it was known committed."""
    problems = []
    places = [place for place, (_, recipient) in enumerate(log) if recipient[3] == EMERGENCY]
    different = len({log[place][1] for place in places})
    if (different, len(places)) != (emergencies, emergencies):
        problems.append(f"{emergencies} emergencies enqueued, {different} at the sink, in {len(places)} submit_sm")
    if not places:
        return {"problems": problems}
    first, last = log[places[0]][0], log[places[-1]][0]
    allowed_s = FULL_S + len(places) / (LEAST_SHARE * throughput)
    if last - committed > allowed_s:
        problems.append(
            f"the last emergency left {last - committed:.1f} s after the commit, not within {allowed_s:.1f} s"
        )
    between = [recipient[3] for _, recipient in log[places[0] : places[-1]] if recipient[3] != EMERGENCY]
    others = sum(kind != REPLY for kind in between)
    if others:
        problems.append(f"{others} segments that are neither emergency nor reply left between the emergencies")
    left = {recipient: at for at, recipient in reversed(log) if recipient[3] == REPLY}
    took = sorted(left[recipient] - times[0] for recipient, times in replies.items() if recipient in left)
    during = sorted(
        left[recipient] - times[0]
        for recipient, times in replies.items()
        if recipient in left and times[0] < last and left[recipient] >= first
    )
    if len(took) < len(replies):
        problems.append(f"{len(replies) - len(took)} of {len(replies)} replies never left")
    if took and took[-1] > REPLY_LIVES_S:
        problems.append(f"a reply left after {took[-1]:.0f} s")
    return {
        "emergencies": len(places),
        "first_after_s": first - committed,
        "last_after_s": last - committed,
        "allowed_s": allowed_s,
        "share_of_throughput": len(places) / (last - committed) / throughput,
        "others_between": others,
        "replies_between": len(between) - others,
        "replies": len(replies),
        "reply_p50_s": percentile(during, 0.5),
        "reply_most_s": percentile(during, 1.0),
        "problems": problems,
    }


def lines(flood: Mapping[str, Any]) -> Iterator[str]:
    """For people to read."""
    for name, figure in flood.items():
        if name != "problems" and figure is not None:
            yield f"  {name:<26}{f'{figure:,.3f}' if isinstance(figure, float) else f'{figure:,}':>12}"
