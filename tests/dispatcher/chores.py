"""The upkeep of an instance, jobs in doubt, and rows made older."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.settings import DaemonSettings
from dispatcher.doubt import Doubt
from dispatcher.next_link import NextLink
from dispatcher.pauses import Pauses
from dispatcher.upkeep import Upkeep
from gateway import Gateway, Verdict
from tests.fakes.observer import Recorder

if TYPE_CHECKING:
    from dispatcher.policy import CategoryRules
    from tests.dispatcher.instance import Instance

DAY_S = 86_400.0

PARTITIONS_OF_OLD = """
do $$
declare day date;
begin
    for n in 2 .. 5 loop
        day := (now() at time zone 'UTC')::date - n;
        if to_regclass('tocsin.sent_' || to_char(day, 'YYYYMMDD')) is null then
            execute format('create table tocsin.%I partition of tocsin.sent for values from (%L) to (%L)', 'sent_' || to_char(day, 'YYYYMMDD'),
                           day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
        end if;
    end loop;
end $$
"""


class Chores:
    """The upkeep of an instance; `run` does every chore at once."""

    def __init__(self, one: Instance, settings: DaemonSettings | None = None) -> None:
        self.one = one
        self.woken = 0
        self.categories: dict[str, CategoryRules] = {}
        gateway = Gateway(Recorder())
        self.pauses = Pauses(lambda: gateway, self._wake)
        self.upkeep = Upkeep(
            settings=settings or DaemonSettings(),
            epochs=one.epochs,
            claimer=one.claimer,
            receipts=one.receipts,
            intake=one.intake,
            doubt=Doubt(
                settings=settings or DaemonSettings(),
                links=one.links,
                epochs=one.epochs,
                metrics=one.metrics,
                answered_late=one.settler.answered_late,
            ),
            metrics=one.metrics,
            categories=self.categories,
            longest_s=3 * DAY_S,
            pauses=self.pauses,
            links=one.links,
            gateway=lambda: gateway,
            look_for_stale=one.inbound.look_for_stale,
            next_link=NextLink(
                epochs=one.epochs,
                gateway=lambda: gateway,
                claimer=one.claimer,
                metrics=one.metrics,
                after_s=30.0,
                after_urgent_s=3.0,
                beat_s=2.0,
                wake_claimer=self._wake,
                clock=one.clock,
            ),
            wake_claimer=self._wake,
            clock=one.clock,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def run(self) -> None:
        self.upkeep._due.clear()
        await self.upkeep.run(self.one.claiming)


async def doubtful(
    one: Instance, body: str = "x", parts: tuple[int, ...] = (1,), *, session_over: bool = False, **named: object
) -> int:
    """A job of which these parts were never answered, and the others accepted."""
    number = await one.app.enqueue(body=body, **named)  # type: ignore[arg-type]
    (job,) = [job for link in one.epochs for job in await one.claim(link=link) if job.id == number]
    every = range(1, job.parts + 1)
    one.submit(job)
    one.answered(
        job,
        [(p, Verdict.ACCEPTED, 0, f"m{p}") for p in every if p not in parts]
        + [(p, Verdict.UNANSWERED, 0, "") for p in parts],
        session_over=session_over,
    )
    await one.flush()
    assert await one.app.state(number) == "uncertain"
    return number


async def age(one: Instance, table: str, column: str, interval: str) -> None:
    """Move the clock of these rows back."""
    await one.app.connection.execute(f"update tocsin.{table} set {column} = {column} - interval '{interval}'")
