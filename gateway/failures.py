"""What a link does about a fault of Tocsin's own: the event at which an exception came up costs itself alone.

It is counted, and logged by type and place; the exception's text may quote the PDU and is never looked at. A delivery
is answered ESME_RX_T_APPN, so that the SMSC keeps it. The segment whose answer it was is UNANSWERED: it may have been
accepted, so it is in doubt as any other without an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.messages import SubmitResult, Verdict
from gateway.pdu import CommandId
from gateway.session import DATA_SM, Delivered, Event, Failed, Responded, Unanswered, Undecodable
from gateway.status import RX_T_APPN

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.binds import Live
    from gateway.metrics import Failing, LinkMetrics

LOGGED_EVERY_S: Final = 1.0  # what a peer can bring about again and again must not fill the log

log = structlog.get_logger(__name__)


class Failures:
    """The faults of one link."""

    def __init__(self, link: str, metrics: LinkMetrics) -> None:
        self._link = link
        self._metrics = metrics
        self._logged_at = -LOGGED_EVERY_S

    def take(self, live: Live, event: Event, error: Exception, now: float) -> list[SubmitResult]:
        """Let the event cost itself alone; gives what is to be told of a segment whose outcome it was."""
        self._note(_what(event), error, now)
        if isinstance(event, Delivered):
            live.answer(event.sequence_number, RX_T_APPN)
        elif isinstance(event, Unanswered) or (isinstance(event, Responded) and not event.late):
            submission, segment = event.token
            submission.stopped = True
            return [SubmitResult(submission, segment, Verdict.UNANSWERED, 0, "", event.written_at, now)]
        return []

    def guard(self, call: Callable[[str, list[Any]], None], told: list[Any], now: float) -> bool:
        """Tell the observer; False when it raised, which it must not: what else came is still to be told."""
        try:
            call(self._link, told)
        except Exception as error:
            self._note("observer", error, now)
            return False
        return True

    def _note(self, what: Failing, error: Exception, now: float) -> None:
        self._metrics.failures[what] += 1
        if now - self._logged_at >= LOGGED_EVERY_S:
            self._logged_at = now
            log.error("event_failed", link=self._link, what=what, failures=self._metrics.failures[what], exc_info=error)


def _what(event: Event) -> Failing:
    """Name the event as the metric does."""
    if isinstance(event, Failed):
        if event.command_id == CommandId.SUBMIT_SM_RESP:
            return "submit_sm_resp"
        return "deliver_sm" if event.command_id in {CommandId.DELIVER_SM, DATA_SM} else "other"
    if isinstance(event, Responded | Unanswered):
        return "submit_sm_resp"
    return "deliver_sm" if isinstance(event, Delivered | Undecodable) else "other"
