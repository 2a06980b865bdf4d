"""One bind and one unbind of a link: whether the SMSC is there, and whether it takes the credentials.

Nothing is submitted. A deliver_sm that comes meanwhile is answered with ESME_RX_T_APPN, so that the SMSC keeps it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gateway.gateway import Gateway
from gateway.status import RX_T_APPN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.settings import LinkSettings
    from gateway.messages import Segment, Submission, SubmitResult
    from gateway.observer import Delivery, LinkState

SLACK_S: Final = 1.0  # over the link's own time-outs for connecting and binding
UNBIND_S: Final = 2.0
LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Probed:
    """What one host of a link said."""

    host: str
    problem: str | None  # None: every kind of bind was accepted
    took_s: float


class _Observer:
    """Keeps segments off the wire, and remembers why a session ended."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def may_write(self, link: str) -> bool:  # noqa: ARG002
        return True

    def writing(self, link: str, batch: Sequence[tuple[Submission, Segment]]) -> None:
        raise AssertionError(f"{link}: a probe submits nothing: {len(batch)}")

    def answered(self, link: str, results: Sequence[SubmitResult]) -> None:
        pass

    def repeating(self, link: str, results: Sequence[SubmitResult]) -> None:
        pass

    def recalled(self, link: str, submissions: Sequence[Submission]) -> None:
        pass

    def delivered(self, link: str, deliveries: Sequence[Delivery]) -> None:  # noqa: ARG002
        for delivery in deliveries:
            delivery.answer(RX_T_APPN)

    def undecodable(self, link: str, octets: bytes, command_status: int) -> None:
        pass

    def state_changed(self, link: str, state: LinkState, detail: str) -> None:  # noqa: ARG002
        if state == "waiting":
            self.problem = self.problem or detail

    def capacity_freed(self, link: str) -> None:
        pass


async def probe(settings: LinkSettings, host: str) -> Probed:
    """Bind once to one host of the link, one session of each kind, and unbind. Ends within its time-outs."""
    observer = _Observer()
    gateway = Gateway(observer)
    started = time.monotonic()
    single = replace(settings, hosts=(host,), sessions=1)
    link = gateway.open(single)
    try:
        async with asyncio.timeout(2 * settings.bind_timeout_s + SLACK_S):
            while observer.problem is None and link.sessions_bound < single.binds:  # noqa: ASYNC110  # a receiver that is bound is no event
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        observer.problem = f"{link.sessions_bound} of {single.binds} sessions bound in time"
    took_s = time.monotonic() - started
    await gateway.close_all(UNBIND_S)
    return Probed(host, observer.problem, took_s)
