"""What a link does about an answer that refuses a segment.

    verdict                       what follows
    THROTTLED                     the link holds, its rate is halved, the segment goes again
    LINK_FAULT                    the session binds anew, the segment goes again; a second time it is told
    MISCONFIGURED, of a form      the segment goes again in the next form (``forms.py``)
    RETRY, ESME_RMSGQFUL          the destination is held, or the link where it is not this destination alone
    MISCONFIGURED, of the sender  the sender is held once it repeats
    any other but REJECTED        a fault: where half the answers are one, lanes 1 to 5 of the link are held

What is told goes to the observer; what is held, and for how long, is in ``breaker.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from gateway import status
from gateway.breaker import INVALID_SOURCE, MESSAGE_QUEUE_FULL, Breaker
from gateway.forms import REFUSES_A_FORM, Forms, change
from gateway.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import LinkSettings
    from gateway.binds import Live
    from gateway.messages import Submission
    from gateway.metrics import LinkMetrics
    from gateway.rooms import Token
    from gateway.session import Responded
    from gateway.throttle import Throttle

FAULTS_KEPT: Final = 1_000  # segments remembered for having met a link fault
_MISCONFIGURED, _RETRY = Verdict.MISCONFIGURED, Verdict.RETRY
_FINAL: Final = frozenset({Verdict.REJECTED, Verdict.OPTED_OUT})

log = structlog.get_logger(__name__)


class Answers:
    """What was learnt from the answers of one link."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        throttle: Throttle,
        metrics: LinkMetrics,
        repeat: Callable[[Token], Verdict | None],
        held: Callable[[float], None],
        released: Callable[[], None],
    ) -> None:
        """Begin with nothing learnt.

        `repeat` lets a segment go again (None), or gives the verdict to tell; `held` is told for how long lanes 1 to 5
        are held, `released` that they are no more.
        """
        self.name = settings.name
        self.forms = Forms(settings)
        self.breaker = Breaker()
        self._overrides: dict[int, Verdict] = {}
        self._faulted: dict[int, None] = {}  # segments that met a link fault, by hash, oldest first
        self._throttle = throttle
        self._metrics = metrics
        self._repeat = repeat
        self._held = held
        self._released = released
        self.configure(settings)

    def configure(self, settings: LinkSettings) -> None:
        """Take the settings."""
        self._overrides = {number: Verdict(verdict) for number, verdict in settings.status_overrides.items()}
        self.forms.configure(settings)

    def meaning(self, command_status: int) -> Verdict:
        """What the status means on this link."""
        return status.verdict(command_status, self._overrides)

    def accepted(self, submission: Submission, now: float) -> None:
        """Take an accepted segment, where something was refused before."""
        if submission.formed_at:
            self.forms.accepted(submission, now)
        message = submission.message
        if self.breaker.is_wary and self.breaker.accepted(message.source.value, message.destination.value):
            log.info("link_recovered", link=self.name)
            self._released()

    def congestion(self, per_cent: int, now: float) -> None:
        """Take what the SMSC says of its own load."""
        if self._throttle.congested(now, per_cent):
            log.info("link_congested", link=self.name, per_cent=per_cent, rate=self._throttle.effective_rate(now))

    def refused(self, live: Live, event: Responded, meaning: Verdict, now: float) -> Verdict | None:
        """Act upon a refusal that came in time; gives what to tell of it, None when the segment goes again."""
        command_status = event.command_status
        if meaning is Verdict.THROTTLED:
            return self._throttled(event, now)
        if meaning is Verdict.LINK_FAULT:
            return self._link_fault(live, event, now)
        if meaning is _MISCONFIGURED and command_status in REFUSES_A_FORM:
            form_goes_on, verdict = self._refused_form(event, now)
            if form_goes_on:
                return verdict
        message = event.token[0].message
        if command_status == MESSAGE_QUEUE_FULL and meaning is _RETRY:
            if self.breaker.full(message.destination.value, now, self._accepted):
                return self._throttled(event, now)
        elif command_status == INVALID_SOURCE and meaning is _MISCONFIGURED:
            for_s = self.breaker.sender_refused(message.source.value, now)
            if for_s:
                log.error("sender_held", link=self.name, for_s=round(for_s))
        elif meaning not in _FINAL:
            self.fault(now, status.name(command_status))
        return meaning

    def fault(self, now: float, why: str) -> None:
        """Take a fault: a refusal that another link might not make, or no answer."""
        for_s = self.breaker.fault(now, self._accepted)
        if for_s:
            log.error("link_failing", link=self.name, last=why, for_s=round(for_s))
            self._held(for_s)

    @property
    def _accepted(self) -> int:
        return self._metrics.statuses.get(status.OK, 0)

    def _throttled(self, event: Responded, now: float) -> Verdict | None:
        if self._throttle.throttled(now, event.written_at):
            log.warning("link_throttled", link=self.name, rate=self._throttle.effective_rate(now))
        return self._repeat(event.token)

    def _link_fault(self, live: Live, event: Responded, now: float) -> Verdict | None:
        """Bind again, and repeat the segment; once. A segment that meets a second fault may be the cause."""
        if not live.why:
            log.warning("link_fault", link=self.name, command_status=status.name(event.command_status))
            live.why = "link_fault"
            live.session.unbind(now)
        submission, segment = event.token
        fault = hash((submission.message.destination.value, segment.octets))
        if fault in self._faulted:
            del self._faulted[fault]
            return status.verdict(event.command_status, self._overrides, repeated=True)
        self._faulted[fault] = None
        if len(self._faulted) > FAULTS_KEPT:
            del self._faulted[next(iter(self._faulted))]
        return self._repeat(event.token)

    def _refused_form(self, event: Responded, now: float) -> tuple[bool, Verdict | None]:
        """Let the segment go again in the next form; says whether there was one, and what is to be told then."""
        submission, segment = event.token
        if event.written_at >= submission.formed_at:
            form = self.forms.following(submission, event.command_status)
            if form is None:
                return False, None
            given_up, goes_on = change(submission.form, form)
            log.warning(
                "form_refused",
                link=self.name,
                command_status=status.name(event.command_status),
                form=given_up,
                next=goes_on,
                part=segment.part,
            )
            submission.form, submission.formed_at = form, now
        return True, self._repeat(event.token)
