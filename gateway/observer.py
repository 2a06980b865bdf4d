"""The seam upwards: what a link tells, and whom it asks before it writes.

All calls come from the event loop's thread, are synchronous, and must not raise (`writing` may raise OSError).
They may call `Link.submit` and `Delivery.answer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.messages import Inbound, Receipt, Segment, Submission, SubmitResult
    from gateway.pdu import DeliverSm

LinkState = Literal["binding", "bound", "waiting", "stopped"]


class Delivery:
    """One deliver_sm that waits for its answer."""

    __slots__ = ("_answer", "link", "pdu", "receipt_or_inbound")

    def __init__(
        self, link: str, pdu: DeliverSm, receipt_or_inbound: Receipt | Inbound, answer: Callable[[int, int], bool]
    ) -> None:
        self.link = link
        self.pdu = pdu
        self.receipt_or_inbound = receipt_or_inbound
        self._answer = answer

    def answer(self, command_status: int) -> bool:
        """Put deliver_sm_resp out, at the end of this turn of the loop.

        False when it cannot be: it was answered before, or its session has ended, and the SMSC will send the
        deliver_sm again.
        """
        return self._answer(self.pdu.sequence_number, command_status)


class LinkObserver(Protocol):
    """Whoever hands submissions to links.

    Each submission ends in exactly one of three ways:

    * all its segments have a result ACCEPTED;
    * a segment has another result, and `stopped` is set: no further one is written, and it is over when
      `unanswered` is 0; results of segments that are on the wire still come;
    * it is recalled: the link was lost or is stopping, none of its segments is unanswered, and at least one was
      never accepted. Which ones were is told by the results alone.
    """

    def may_write(self, link: str) -> bool:
        """Say whether this process still owns the link; asked directly before each write to a socket."""

    def writing(self, link: str, batch: Sequence[tuple[Submission, Segment]]) -> None:
        """Record what is about to be written. OSError keeps it from being written."""

    def answered(self, link: str, results: Sequence[SubmitResult]) -> None:
        """Take results.

        A second result for a segment that was UNANSWERED is its late answer; `unanswered` does not count it.
        THROTTLED and LINK_FAULT never come: the link repeats those segments (of a stopped submission, and late
        ones, are told as RETRY).
        """

    def repeating(self, link: str, results: Sequence[SubmitResult]) -> None:
        """Record answers that the link itself acts upon (THROTTLED, LINK_FAULT): these segments go again.

        Nothing ends here; without it, a process killed before the repetition would take them for unanswered.
        """

    def recalled(self, link: str, submissions: Sequence[Submission]) -> None:
        """Take submissions back."""

    def delivered(self, link: str, deliveries: Sequence[Delivery]) -> None:
        """Take receipts and messages, each to be answered once."""

    def undecodable(self, link: str, octets: bytes, command_status: int) -> None:
        """Keep a deliver_sm that nobody can read; it was answered with `command_status`. It may hold a text."""

    def state_changed(self, link: str, state: LinkState, detail: str) -> None:
        """Note what the link is doing; `detail` says why, in a word or two."""

    def capacity_freed(self, link: str) -> None:
        """Note that a lane which was more than half full no longer is, or that the link was bound."""
