"""A link's observer that notes everything, and submissions to give it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gateway import Address, ShortMessage, Submission, segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway import Delivery, LinkState, Segment, SubmitResult, Verdict


class Recorder:
    """Says yes to every write unless told otherwise."""

    def __init__(self) -> None:
        self.owns = True
        self.fence: Callable[[], bool] = lambda: self.owns
        self.record: Callable[[Sequence[tuple[Submission, Segment]]], None] = lambda _: None
        self.written: list[tuple[Submission, Segment]] = []
        self.results: list[SubmitResult] = []
        self.repeats: list[SubmitResult] = []
        self.returned: list[Submission] = []
        self.deliveries: list[Delivery] = []
        self.unread: list[tuple[bytes, int]] = []
        self.states: list[tuple[str, str]] = []
        self.freed = 0
        self.calls: list[str] = []
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait until something holds that one of the calls, or whoever calls `wake`, brings about."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()

    def verdicts(self) -> list[Verdict]:
        return [result.verdict for result in self.results]

    def may_write(self, link: str) -> bool:
        self._note("may_write")
        return self.fence()

    def writing(self, link: str, batch: Sequence[tuple[Submission, Segment]]) -> None:
        self.record(batch)
        self.written += batch
        self._note("writing")

    def answered(self, link: str, results: Sequence[SubmitResult]) -> None:
        self.results += results
        self._note("answered")

    def repeating(self, link: str, results: Sequence[SubmitResult]) -> None:
        self.repeats += results
        self._note("repeating")

    def recalled(self, link: str, submissions: Sequence[Submission]) -> None:
        self.returned += submissions
        self._note("recalled")

    def delivered(self, link: str, deliveries: Sequence[Delivery]) -> None:
        self.deliveries += deliveries
        self._note("delivered")

    def undecodable(self, link: str, octets: bytes, command_status: int) -> None:
        self.unread.append((octets, command_status))
        self._note("undecodable")

    def state_changed(self, link: str, state: LinkState, detail: str) -> None:
        self.states.append((state, detail))
        self._note("state_changed")

    def capacity_freed(self, link: str) -> None:
        self.freed += 1
        self._note("capacity_freed")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()


def submission(
    lane: int = 3, text: str = "Your appointment is tomorrow.", *, to: str = "4915112345678", within_s: float = 60.0
) -> Submission:
    """One message, cut as a link with the usual settings would have it."""
    message = ShortMessage(Address("Northside", 5, 0), Address(to))
    return Submission(lane, message, segment(text, reference=7), time.monotonic() + within_s)
