"""One carrier account: its sessions, its throttle, its waiting rooms.

Submissions wait in one room a lane until throttle and window let their segments go. The pump, a plain
function, is run when something is submitted, answered, or due: it takes up to 64 segments, encodes them, has
them recorded, and writes them in one piece, directly after the fence has said yes. There is no task, future or
timer per segment.

What an answer means is told to the observer, but for three: ESME_RTHROTTLED holds the link, a link fault makes the
session bind again, a refused form gives way to the next (``forms.py``). Then the segment goes back to the head of its
lane. When no session is left to transmit, written segments without an answer are UNANSWERED and everything that waits
is recalled.

No event costs another: one at which an exception comes up is counted and logged, a delivery is answered
ESME_RX_T_APPN, a segment whose answer it was is UNANSWERED, and the rest of the read is handled.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gateway import status
from gateway.answers import Answers
from gateway.asking import Asking, replied
from gateway.binds import Binds, Live
from gateway.errors import LocalError
from gateway.failures import Failures
from gateway.forms import body_of
from gateway.inquiry import Ended
from gateway.messages import SubmitResult, Verdict
from gateway.metrics import LinkMetrics
from gateway.observer import Delivery
from gateway.receipt import parse
from gateway.rooms import LANES, WaitingRooms, room_size
from gateway.session import Bound, Delivered, Event, Failed, Responded, Unanswered, Undecodable
from gateway.throttle import Throttle
from gateway.transport import SHORTEST_TIMER_S
from gateway.window import reserve_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config.settings import LinkSettings
    from gateway.held import Part
    from gateway.inquiry import Inquiry, Reply
    from gateway.messages import ShortMessage, Submission
    from gateway.observer import LinkObserver, LinkState
    from gateway.rooms import Token

SLICE: Final = 32  # segments a turn of the loop: well under a millisecond, so nothing else waits long
RECORD_PAUSE_S: Final = 1.0  # after the local record could not be written
_ACCEPTED: Final = Verdict.ACCEPTED
_REPEATABLE: Final = frozenset({Verdict.THROTTLED, Verdict.LINK_FAULT})

log = structlog.get_logger(__name__)


class Link:
    """One carrier account."""

    def __init__(
        self,
        settings: LinkSettings,
        observer: LinkObserver,
        *,
        metrics: LinkMetrics | None = None,
        sent_at: Sequence[float] | None = None,
    ) -> None:
        """Make a link that does nothing until `run`.

        `sent_at` are the monotonic instants of segments written in the last second by a predecessor in the same
        place; None says that nothing is known, so the last second is taken to have been full.
        """
        self.settings = settings
        self.name = settings.name
        self.state: LinkState = "stopped"
        self.state_detail = ""  # why, in a word or two
        self.state_since = time.monotonic()
        self._observer = observer
        self._metrics = LinkMetrics() if metrics is None else metrics
        self._throttle = Throttle(settings.throughput_per_s)
        self._answers = Answers(
            settings,
            throttle=self._throttle,
            metrics=self._metrics,
            repeat=self._repeat,
            held=self._hold_others,
            released=self._release_others,
        )
        self._failures = Failures(settings.name, self._metrics)
        now = time.monotonic()
        if sent_at is None:
            self._throttle.assume_busy(now)
        else:
            self._throttle.restore(sent_at, now)
        self._rooms = WaitingRooms(room_size(settings.throughput_per_s))
        self._leaving: dict[int, Submission] = {}  # recalled once what they have on the wire is answered
        self._refused: list[Submission] = []  # submitted while nothing can leave; recalled in the next turn
        self._binds = Binds(
            settings,
            may_write=partial(observer.may_write, settings.name),
            on_events=self._take,
            on_state=self._set_state,
        )
        self._asking = Asking(self._binds, self._throttle)
        self._loop: asyncio.AbstractEventLoop
        self._is_stopping = False
        self._is_paused = False
        self._quiet = asyncio.Event()
        self._over = asyncio.Event()
        self._over.set()
        self._is_pumping = False
        self._pump_is_due = False
        self._pump_timer: asyncio.TimerHandle | None = None
        self._paused_until = 0.0  # the local record could not be written
        self._pump_timer_at = 0.0

    # What others may ask

    @property
    def is_bound(self) -> bool:
        """Say whether segments can leave."""
        return self._binds.can_submit

    @property
    def sessions_bound(self) -> int:
        """Sessions that are bound, of any kind."""
        return self._binds.bound

    @property
    def window_in_use(self) -> int:
        """Unanswered segments over all sessions, those past their time included."""
        return self._binds.window_in_use

    @property
    def window_limit(self) -> int:
        """Segments that may be unanswered over the sessions that are bound now."""
        return self.settings.window_size * self._binds.submitting

    @property
    def is_paused(self) -> bool:
        """Say whether an operator paused it."""
        return self._is_paused

    @property
    def throughput_limit(self) -> int:
        """Segments a second that the throttle allows now."""
        return self._throttle.effective_rate(time.monotonic())

    @property
    def throughput_reserve(self) -> int:
        """Of the throughput limit, the segments a second that only lane 0 may take."""
        return reserve_of(self.throughput_limit)

    @property
    def segments_last_second(self) -> int:
        """Segments written in the last 1.02 s, which is the throttle's second."""
        return self._throttle.written(time.monotonic())

    @property
    def sent_at(self) -> list[float]:
        """Monotonic instants of the segments of the last second: what a successor on this account must count."""
        return self._throttle.sent_at(time.monotonic())

    @property
    def held_for_s(self) -> float:
        """Seconds for which nothing is written yet, because the SMSC answered ESME_RTHROTTLED."""
        return self._throttle.held_for_s(time.monotonic())

    @property
    def can_send(self) -> bool:
        """Say whether segments may leave: it is bound, and neither paused nor stopping."""
        return self.is_bound and not self._is_paused and not self._is_stopping

    @property
    def is_failing(self) -> bool:
        """Say whether the SMSC refused half of what it was sent, and has accepted nothing since."""
        return self._answers.breaker.is_open

    @property
    def _holds_others(self) -> bool:
        """Say whether nothing of lanes 1 to 5 may go, not even the one segment that is tried now and then."""
        return self._answers.breaker.until > time.monotonic()

    def room(self, lane: int) -> int:
        """Submissions that the lane's waiting room can still take; none while nothing can leave."""
        if not self.can_send or (lane and self._holds_others):
            return 0
        room = self._rooms.room(lane)
        return min(room, 1) if lane and self.is_failing else room

    def held_back(self, message: ShortMessage) -> tuple[str, float]:
        """Say which of the message's addresses the SMSC refuses for now, and for how many seconds; ("", 0.0): none."""
        breaker = self._answers.breaker
        if breaker.is_wary:
            now = time.monotonic()
            if (for_s := breaker.destinations.held_s(message.destination.value, now)) > 0.0:
                return "destination", for_s
            if (for_s := breaker.senders.held_s(message.source.value, now)) > 0.0:
                return "sender", for_s
        return "", 0.0

    # What others may do

    def submit(self, submissions: Iterable[Submission]) -> None:
        """Let submissions wait for their turn, and write what may go at once.

        What comes while nothing can leave is recalled in the next turn of the loop.
        """
        if not self.can_send:
            self._refused.extend(submissions)
            if self._refused:
                asyncio.get_running_loop().call_soon(self._recall)
            return
        now = time.monotonic()
        held = self._holds_others
        for submission in submissions:
            if submission.message.flash and submission.form is None:
                submission.form = self._answers.forms.first(submission, now)
            if held and submission.lane:
                self._refused.append(submission)
            else:
                self._rooms.put(submission)
        if self._refused:
            asyncio.get_running_loop().call_soon(self._recall)
        self._pump()

    def inquire(self, inquiry: Inquiry) -> asyncio.Future[Reply]:
        """Ask the SMSC about a message, or to cancel it. Raises LocalError for a field that does not fit."""
        asked = self._asking.put(inquiry, self.settings.response_timeout_s)
        self._pump()
        return asked

    def expect_urgent(self, for_s: float) -> None:
        """Keep lanes 1 to 5 waiting while more of lane 0 comes, at most for so long; 0.0: no more of it comes now.

        Lane 1's one segment in 50 goes all the same.
        """
        before = self._rooms.lane_0_until
        self._rooms.lane_0_until = time.monotonic() + for_s if for_s else 0.0
        if before and not for_s:
            self._pump()

    def reconfigure(self, settings: LinkSettings) -> None:
        """Take settings without a new bind: rate, window, deadlines, and what is looked up for each segment.

        What the sessions were bound with, and what texts were cut for, must be as before.
        """
        self.settings = settings
        self._answers.configure(settings)
        self._throttle.set_rate(settings.throughput_per_s)
        self._rooms.size = room_size(settings.throughput_per_s)
        self._binds.reconfigure(settings)
        self._observer.capacity_freed(self.name)
        self._pump()

    def pause(self) -> None:
        """Write no more segments, and give back those that wait; the sessions stay, receipts and replies come in."""
        if not self._is_paused:
            self._is_paused = True
            self._recall()

    def resume(self) -> None:
        """Take segments again."""
        if self._is_paused:
            self._is_paused = False
            self._observer.capacity_freed(self.name)

    async def run(self) -> None:
        """Keep the sessions bound until `stop` is through, or this is cancelled: then the sockets close at once."""
        self._loop = asyncio.get_running_loop()
        self._over.clear()
        self._metrics.gauges = self
        try:
            await self._binds.run()
        finally:
            self._cancel_timer()
            self._recall()
            self._metrics.gauges = None
            self._set_state("stopped", "")
            self._over.set()

    async def stop(self, timeout_s: float) -> None:
        """Give back what waits, wait for answers, unbind; then `run` is over.

        Sessions with something still unanswered after `timeout_s` are unbound nevertheless. The SMSC has what
        is left of that time, and at least a second, to answer the unbind.
        """
        ends_at = time.monotonic() + timeout_s
        self._is_stopping = True
        self._recall()
        self._look_whether_quiet()
        try:
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()
        except TimeoutError:
            log.warning("link_stop_timed_out", link=self.name, unanswered=self.window_in_use)
        await self._binds.stop(max(1.0, ends_at - time.monotonic()))
        await self._over.wait()

    def _set_state(self, state: LinkState, detail: str) -> None:
        if state != self.state and (state == "stopped" or not self._is_stopping):
            self.state, self.state_detail, self.state_since = state, detail, time.monotonic()
            self._observer.state_changed(self.name, state, detail)

    # What sessions tell

    def _take(self, live: Live, events: list[Event]) -> None:
        now = time.monotonic()
        results: list[SubmitResult] = []
        repeats: list[SubmitResult] = []
        deliveries: list[Delivery] = []
        for event in events:
            try:
                if isinstance(event, Responded):
                    self._take_answer(live, event, now, results, repeats)
                elif isinstance(event, Delivered):
                    self._take_delivery(live, event, deliveries)
                elif isinstance(event, Unanswered):
                    self._take_unanswered(event, now, results)
                elif isinstance(event, Ended):
                    replied(live, event)
                else:
                    self._take_change(live, event, now)
            except Exception as error:  # whatever it is, the other events are good
                results += self._failures.take(live, event, error, now)
        if repeats:
            self._failures.guard(self._observer.repeating, repeats, now)
        if results:
            if results[-1].verdict is _ACCEPTED:
                self._binds.proven()
            self._failures.guard(self._observer.answered, results, now)
        if deliveries and not self._failures.guard(self._observer.delivered, deliveries, now):
            for delivery in deliveries:
                delivery.answer(status.RX_T_APPN)
        if self.state == "bound" and not self.is_bound:
            self._set_state("waiting", live.why or "unbinding")
        if self._leaving:
            self._recall()
        self._pump()
        if self._is_stopping:
            self._look_whether_quiet()

    def _take_answer(
        self, live: Live, event: Responded, now: float, results: list[SubmitResult], repeats: list[SubmitResult]
    ) -> None:
        submission, segment = event.token
        command_status = event.command_status
        verdict: Verdict | None  # None: the link repeats the segment itself
        if event.late:
            verdict = self._answers.meaning(command_status)
            if verdict in _REPEATABLE:
                verdict = Verdict.RETRY  # it was refused for certain, so it may go again
        else:
            submission.unanswered -= 1  # before all that could fail: `Failures.take` relies on it
            verdict = meaning = self._answers.meaning(command_status)
            if event.congestion >= 0:
                self._answers.congestion(event.congestion, now)
            self._metrics.answered(command_status, now - event.written_at)
            if verdict is not _ACCEPTED:
                verdict = self._answers.refused(live, event, meaning, now)
                if verdict is None:
                    repeats.append(
                        SubmitResult(
                            submission, segment, meaning, command_status, event.message_id, event.written_at, now
                        )
                    )
                    return
                submission.stopped = True
            elif submission.formed_at or self._answers.breaker.is_wary:
                self._answers.accepted(submission, now)
        assert verdict is not None
        told = submission, segment, verdict, command_status, event.message_id, event.written_at, now, False
        results.append(tuple.__new__(SubmitResult, told))

    def _repeat(self, token: Token) -> Verdict | None:
        """Let a refused segment go again: then there is nothing to tell (None)."""
        submission = token[0]
        if submission.stopped:
            return Verdict.RETRY  # nothing of it is written any more, and that it is over must be told
        if id(submission) not in self._leaving:
            self._rooms.repeat(token)
        return None

    def _take_unanswered(self, event: Unanswered, now: float, results: list[SubmitResult]) -> None:
        submission, segment = event.token
        submission.unanswered -= 1
        submission.stopped = True
        self._metrics.unanswered()
        if not event.session_over:
            self._answers.fault(now, "unanswered")
        results.append(
            SubmitResult(
                submission, segment, Verdict.UNANSWERED, 0, "", event.written_at, now, session_over=event.session_over
            )
        )

    def _take_delivery(self, live: Live, event: Delivered, deliveries: list[Delivery]) -> None:
        its = self.settings
        found = parse(
            event.pdu, alphabet=its.default_alphabet, text_receipts=its.text_receipts, errors=its.receipt_errors
        )
        if found is None:
            live.answer(event.sequence_number, status.OK)  # USSD: acknowledged and left alone
        else:
            deliveries.append(Delivery(self.name, event.pdu, found, live.answer))

    def _take_change(self, live: Live, event: Event, now: float) -> None:
        if isinstance(event, Failed):
            self._failures.take(live, event, event.error, now)
        elif isinstance(event, Undecodable):
            log.warning("delivery_undecodable", link=self.name, problem=event.problem, octets=len(event.octets))
            self._observer.undecodable(self.name, event.octets, event.command_status)
        else:
            self._binds.note(live, event, now)
            if isinstance(event, Bound) and live.kind != "receiver":
                self._observer.capacity_freed(self.name)

    # Taking back what waits

    def _recall(self) -> None:
        """Give back what was refused; and all that waits, when nothing can leave."""
        recalled, self._refused = self._refused, []
        if not self.can_send:
            self._metrics.held.by(None, time.monotonic())
            self._asking.recall()
            self._leaving |= {id(submission): submission for submission in self._rooms.drain()}
        elif self._holds_others:
            self._leaving |= {id(submission): submission for submission in self._rooms.drain(LANES[1:])}
        for key, submission in list(self._leaving.items()):
            if submission.stopped or not submission.unanswered:
                del self._leaving[key]
                if not submission.stopped:
                    recalled.append(submission)
        if recalled:
            self._observer.recalled(self.name, recalled)

    def withdraw(self, is_wanted: Callable[[Submission], bool]) -> None:
        """Write nothing more of these; they are recalled, those with segments on the wire once these are answered."""
        self._leaving |= {id(submission): submission for submission in self._rooms.withdraw(is_wanted)}
        self._loop.call_soon(self._recall)

    def _hold_others(self, for_s: float) -> None:
        """Give back what waits in lanes 1 to 5, and ask for one of them when the hold is over."""
        self._loop.call_later(for_s + SHORTEST_TIMER_S, self._observer.capacity_freed, self.name)
        self._loop.call_soon(self._recall)

    def _release_others(self) -> None:
        self._loop.call_soon(self._observer.capacity_freed, self.name)

    def _look_whether_quiet(self) -> None:
        if self._binds.is_quiet:
            self._quiet.set()

    # The pump

    def _pump(self) -> None:
        """Write what throttle and windows allow, a slice at a time; see to it that it is called again."""
        if self._is_pumping:
            return
        if not self.can_send:
            if self._rooms or self._leaving or self._asking:
                self._recall()
            return
        self._is_pumping = True
        try:
            now = time.monotonic()
            if self._asking and not self._rooms.waits(0) and now >= self._rooms.lane_0_until:
                self._asking.write(now)
            written = self._write_slice(now)
        finally:
            self._is_pumping = False
        if self._rooms.expired:
            self._tell_expired()
        waits = bool(self._rooms)
        self._metrics.held.by(self._holding_part(now) if waits and not written else None, now)
        if waits or self._asking:
            if written:
                self._pump_soon()
            else:
                self._pump_later(now)
        if self._rooms.has_sunk():
            self._observer.capacity_freed(self.name)

    def _write_slice(self, now: float) -> int:
        """Write up to a slice of segments to the session with the most room; give their number."""
        live = self._binds.freest()
        if live is None or now < self._paused_until:
            return 0
        session, throttle, rooms, settings = live.session, self._throttle, self._rooms, self.settings
        unix_now = time.time()
        most = min(SLICE, session.free(lane0=True), throttle.allowance(now, lane0=True))
        others = min(session.free(lane0=False), throttle.allowance(now, lane0=False))
        breaker = self._answers.breaker
        if breaker.is_open:
            others = min(others, breaker.others(now))
        batch: list[Token] = []
        bodies: list[bytes] = []
        while len(batch) < most:
            token = rooms.take(now, others=len(batch) < others)
            if token is None:
                break
            try:
                bodies.append(body_of(*token, settings, now, unix_now))
                batch.append(token)
            except LocalError as error:
                self._tell_unencodable(token, error, now)
        if not batch:
            return 0
        encoded_at = time.monotonic()
        try:
            self._observer.writing(self.name, batch)
        except OSError as error:
            log.warning("local_record_failed", link=self.name, error=type(error).__name__)
            rooms.put_back(batch)
            self._paused_until = time.monotonic() + RECORD_PAUSE_S
            return 0
        now = time.monotonic()  # a slow disk must not make the throttle believe that these left long ago
        self._metrics.recorded(now - encoded_at)
        numbers = []
        for token, body in zip(batch, bodies, strict=True):
            numbers.append(session.submit(body, token, now))
            token[0].unanswered += 1
        if not live.transport.flush():
            for token, number in zip(batch, numbers, strict=True):
                session.withdraw(number)
                token[0].unanswered -= 1
            rooms.put_back(batch)
            return 0
        # they may have left later than `now`: the record is a file, and the process may have stood still
        throttle.take(time.monotonic(), len(batch))
        if breaker.is_open and any(token[0].lane for token in batch):
            breaker.probing(now)
        live.submitted += len(batch)
        return len(batch)

    def _holding_part(self, now: float) -> Part | None:
        """Name what keeps the segments waiting, once none could be written; None: they wait for more of lane 0."""
        if now < self._rooms.lane_0_until and not self._rooms.waits(0):
            return None
        if now < self._paused_until:
            return "record"
        live = self._binds.freest()
        if live is None:
            return "socket" if self._binds.is_blocked else "window"
        return "throttle" if live.session.free(lane0=self._rooms.waits(0)) else "window"

    def _tell_unencodable(self, token: Token, error: LocalError, now: float) -> None:
        submission, segment = token
        submission.stopped = True
        log.error("segment_unencodable", link=self.name, error=str(error))
        self._observer.answered(self.name, [SubmitResult(submission, segment, Verdict.MISCONFIGURED, 0, "", 0.0, now)])

    def _tell_expired(self) -> None:
        now = time.monotonic()
        expired, self._rooms.expired = self._rooms.expired, []
        self._observer.answered(
            self.name,
            [SubmitResult(submission, segment, Verdict.EXPIRED, 0, "", 0.0, now) for submission, segment in expired],
        )

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump_due)

    def _pump_due(self) -> None:
        self._pump_is_due = False
        self._pump()

    def _pump_later(self, now: float) -> None:
        """Come back when the throttle allows; if it is a window that is full, an answer brings us back.

        `now` is the instant at which nothing could be written: at a later one the throttle may just have come free,
        and then neither a timer nor an answer would bring us back.
        """
        lane0 = self._rooms.waits(0)
        ready_at = max(self._throttle.ready_at(now, lane0=lane0), self._paused_until)
        if not lane0:
            ready_at = max(ready_at, self._rooms.lane_0_until, self._answers.breaker.until)
        if ready_at <= now or (self._pump_timer is not None and self._pump_timer_at <= ready_at):
            return
        self._cancel_timer()
        self._pump_timer_at = ready_at
        self._pump_timer = self._loop.call_later(max(SHORTEST_TIMER_S, ready_at - now), self._pump_timer_due)

    def _pump_timer_due(self) -> None:
        self._pump_timer = None
        self._pump()

    def _cancel_timer(self) -> None:
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
