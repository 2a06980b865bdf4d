"""What people refuse, in memory: from the moment a STOP is read until every claim sees it in the database.

A STOP blocks before it is committed, and is committed before its deliver_sm_resp: so what comes after that answer is
nothing of what it names. What waits in the links' rooms is taken back, and goes through ``policy`` once more when it
is claimed again; a segment that is on the wire already stays what it is. What other instances are told, and what apps
suppress by SQL, comes by the notification ``tocsin_suppressed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dispatcher.recogniser import Recognised, Wish, recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import Settings
    from dispatcher.job import Job
    from gateway import Gateway, Submission

KEPT_S = 60.0  # a claim that began before the commit is dispatched long before that


class Block(NamedTuple):
    """Nothing of this scope goes to the number; ``value`` is a category, or a sender without plus."""

    number: str
    scope: str  # everything, category, sender
    value: str


class Stops:
    """The blocks of the last minute."""

    def __init__(self, settings: Settings, gateway: Callable[[], Gateway], clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._blocks: dict[Block, tuple[float, str]] = {}  # until when, and the reason; the oldest first
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take the senders of the file."""
        self._senders = {sender.address.lstrip("+") for sender in settings.senders}

    def heed(self, source: str, destination: str, text: str) -> Recognised:
        """Say what a text between these numbers asks for, and block what it refuses. What is no text comes as ""."""
        found = recognise(text)
        number, sender = source.lstrip("+"), destination.lstrip("+")
        own = Block(number, *(("sender", sender) if sender in self._senders else ("everything", "")))
        if found.wish is Wish.STOP:
            self.block(own, "OPT_OUT")
        elif found.wish is Wish.WRONG_PERSON:
            self.block(Block(number, "everything", ""), "WRONG_PERSON")
        elif found.wish is Wish.START:
            self._lift(own, "OPT_OUT")
            self._lift(Block(number, "category", "marketing"), "SOFT_HOLD")
        return found

    def notified(self, payload: str) -> None:
        """Block what another instance, or an app, says is refused, or no more: number, scope, value, reason, what."""
        number, scope, value, reason, what = payload.split("|")
        block = Block(number, scope, value)
        if what == "added":
            self.block(block, reason)
        else:
            self._lift(block, reason)

    def _lift(self, block: Block, reason: str) -> None:
        if self._blocks.get(block, (0.0, ""))[1] == reason:
            del self._blocks[block]

    def block(self, block: Block, reason: str) -> None:
        """Let nothing of this go any more, and take back what waits."""
        now = self._clock()
        while self._blocks and self._blocks[oldest := next(iter(self._blocks))][0] <= now:
            del self._blocks[oldest]
        self._blocks.pop(block, None)
        self._blocks[block] = now + KEPT_S, reason

        def is_refused(submission: Submission) -> bool:
            job: Job = submission.context  # type: ignore[assignment]
            return job.recipient == block.number and block in _scopes(job)  # of thousands that wait, few are theirs

        for link in self._gateway().links.values():
            link.withdraw(is_refused)

    def reason(self, job: Job) -> str:
        """Why a job may not go, by what was refused within the last minute; "" where nothing says so."""
        if not self._blocks:
            return ""
        now = self._clock()
        reasons = [kept[1] for block in _scopes(job) if (kept := self._blocks.get(block)) is not None and kept[0] > now]
        return reasons[0] if reasons else ""


def _scopes(job: Job) -> tuple[Block, Block, Block]:
    """Every block that would hold the job."""
    return (
        Block(job.recipient, "everything", ""),
        Block(job.recipient, "sender", job.sender.lstrip("+")),
        Block(job.recipient, "category", job.category),
    )
