"""Sends a carrier's trial texts over one link, and notes what comes back.

It binds as the daemon does, with the link's own session, segmentation and forms, within its rate and window; one text
after the other, each answered before the next. Nothing is put into another form here: a refusal is what is asked for.

A receipt of the trial is answered ESME_ROK. Any other deliver_sm is answered ESME_RX_T_APPN, so that the SMSC keeps it
for the daemon. A receipt that may have come before its answer waits until nothing is unanswered.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gateway import status
from gateway.address import destination_address, source_address
from gateway.binds import Binds, Live
from gateway.forms import body_of
from gateway.learnt import Answer, Came, Observed
from gateway.messages import DeliveryState, Form, Receipt, Segment, ShortMessage, Submission
from gateway.pdu import Tag
from gateway.probe import LOOK_S, SLACK_S, UNBIND_S
from gateway.receipt import MESSAGE_TYPE, id_forms, parse, user_data
from gateway.session import Bound, Closed, CloseReason, Delivered, Event, Responded, Unanswered, Undecodable
from gateway.throttle import Throttle
from gateway.transport import SHORTEST_TIMER_S
from gateway.trials import ALL_RECEIPTS, Trial, trials

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import LinkSettings
    from gateway.observer import LinkState
    from gateway.pdu import DeliverSm

LIFE_S: Final = 3600.0  # validity_period of the trials that have one
THROTTLED_TRIES: Final = 3  # of a segment that is answered ESME_RTHROTTLED
ENQUIRE_S: Final = 0.1  # of silence before the enquire_link at the end
MOST_RECEIPTS: Final = 10  # of one segment that are noted
SHORTEST_NUMBER: Final = 7  # digits; shorter addresses are short codes
MOST_COUNTED: Final = 100_000  # foreign deliver_sm that are told apart


async def carrier_trial(
    settings: LinkSettings,
    *,
    sender: str,
    recipient: str,
    wait_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Observed:
    """Try a carrier: bind to the first host that takes it, send every trial, wait `wait_s` at most for receipts.

    `sender` is as in [[sender]], `recipient` E.164 digits without a plus; `progress` is told how many messages more are
    through. Nothing is raised for what the SMSC does: `Observed.problem` names what kept it from its end.
    """
    found = Observed(trials(settings), "")
    for host in settings.hosts:
        run = _Run(replace(settings, hosts=(host,), sessions=1), sender, recipient, wait_s, progress)
        found = await run.run()
        if found.is_bound:
            break
    return found


@dataclass(slots=True, eq=False)
class _Written:
    """One segment that was written."""

    trial: Trial
    part: int
    is_open: bool = True  # neither answered nor given up
    command_status: int | None = None
    message_id: str = ""
    took_s: float = 0.0
    answered_at: float = 0.0
    receipts: list[DeliveryState] = field(default_factory=list)

    @property
    def answer(self) -> Answer:
        """Give it as an observation."""
        return Answer(self.trial.key, self.part, self.command_status, self.message_id, self.took_s)

    @property
    def awaits_receipt(self) -> bool:
        """Say whether a final receipt was asked for and has not come."""
        return (
            self.command_status == status.OK
            and self.trial.registered_delivery == ALL_RECEIPTS
            and not any(state is not DeliveryState.ENROUTE for state in self.receipts)
        )


class _Run:
    """One trial over one host."""

    def __init__(
        self, settings: LinkSettings, sender: str, recipient: str, wait_s: float, progress: Callable[[int], None]
    ) -> None:
        self._settings = settings
        self._trials = trials(settings)
        self._source = source_address(sender, ton=settings.source_ton, npi=settings.source_npi)
        self._destination = destination_address(recipient, ton=settings.dest_ton, npi=settings.dest_npi)
        self._wait_s = wait_s
        self._progress = progress
        self._throttle = Throttle(settings.throughput_per_s)
        self._throttle.assume_busy(time.monotonic())  # a daemon may have sent until a moment ago
        self._binds = Binds(settings, may_write=lambda: True, on_events=self._take, on_state=self._note_state)
        self._reference = int(time.time())  # of long texts: another one in the next run
        self._changed = asyncio.Event()
        self._is_bound = False
        self._problem = ""
        self._why_not_bound = ""
        self._version: int | None = None
        self._written: list[_Written] = []
        self._by_id: dict[str, list[_Written]] = {}
        self._receipts: list[Came] = []
        self._held: list[tuple[Live, DeliverSm, float]] = []
        self._kept: set[int] = set()
        self._strange: dict[int, Came] = {}
        self._unreadable = 0
        self._throttled = 0
        self._is_silent = False
        self._enquiry_answered: bool | None = None

    async def run(self) -> Observed:
        """Do all of it, and unbind however it ends."""
        keeping = asyncio.create_task(self._binds.run(), name=f"trial of {self._settings.name}")
        try:
            if await self._bound():
                await self._send_all()
                if not self._problem:
                    await self._until(lambda: not any(one.awaits_receipt for one in self._written), self._wait_s)
                await self._enquire()
        finally:
            self._sort(is_last=True)
            await self._binds.stop(UNBIND_S)
            keeping.cancel()
            await asyncio.wait([keeping])
        if not keeping.cancelled():
            keeping.result()  # a fault of ours is raised
        return Observed(
            self._trials,
            self._settings.hosts[0],
            self._problem,
            self._is_bound,
            self._version,
            tuple(one.answer for one in self._written),
            (*self._receipts, *self._strange.values()),
            self._enquiry_answered,
            self._throttled,
            len(self._kept),
            self._unreadable,
            self._wait_s,
        )

    # Binding and sending

    async def _bound(self) -> bool:
        """Wait until each kind of session is bound; False: one was refused, or it took too long."""
        timeout_s = 2 * self._settings.bind_timeout_s + SLACK_S
        try:
            async with asyncio.timeout(timeout_s):
                while not self._why_not_bound and self._binds.bound < self._settings.binds:  # noqa: ASYNC110  # a receiver that is bound is no event
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            self._why_not_bound = f"{self._binds.bound} of {self._settings.binds} sessions bound in time"
        self._is_bound = not self._why_not_bound
        self._problem = self._why_not_bound
        return self._is_bound

    async def _send_all(self) -> None:
        for trial in self._trials:
            segments = trial.segments(self._reference + trial.number)
            for tries in range(1, THROTTLED_TRIES + 1):
                for segment in segments:
                    if not await self._send(trial, segment):
                        return
                ours = self._written[-len(segments) :]
                await self._until(lambda ours=ours: not any(one.is_open for one in ours), None)  # type: ignore[misc]
                again = [one for one in ours if one.command_status == status.THROTTLED]
                if not again or tries == THROTTLED_TRIES:
                    break
                self._written = [one for one in self._written if one not in again]
                segments = tuple(segment for segment in segments if segment.part in {one.part for one in again})
            self._progress(trial.messages)

    async def _send(self, trial: Trial, segment: Segment) -> bool:
        """Write one segment as soon as rate and window allow; False: there is no session, and none comes in time."""
        give_up_at = 0.0
        while True:
            now = time.monotonic()
            live = self._binds.freest()
            if live is not None and self._throttle.allowance(now, lane0=False) and live.session.free(lane0=False):
                if self._write(live, trial, segment, now):
                    return True
                live = None
            if self._binds.can_submit:
                give_up_at = 0.0
            elif not give_up_at:
                give_up_at = now + 2 * self._settings.bind_timeout_s + self._settings.rebind_delay_s + SLACK_S
            elif give_up_at <= now:
                self._problem = self._why_not_bound or "the session was lost"
                return False
            ready_at = self._throttle.ready_at(now, lane0=False)
            await self._change(max(SHORTEST_TIMER_S, ready_at - now) if ready_at > now else LOOK_S)

    def _write(self, live: Live, trial: Trial, segment: Segment, now: float) -> bool:
        settings = replace(self._settings, concatenation=trial.concatenation, validity=trial.validity)
        message = ShortMessage(
            self._source,
            self._destination,
            trial.priority_flag,
            settings.service_type,
            trial.registered_delivery,
            trial.flash != "plain",
        )
        form = Form(flash=trial.flash) if message.flash else None
        submission = Submission(1, message, (segment,), now + LIFE_S, form=form)
        body = body_of(submission, segment, settings, now, time.time())
        written = _Written(trial, segment.part)
        self._written.append(written)
        number = live.session.submit(body, written, now)
        if not live.transport.flush():
            live.session.withdraw(number)
            self._written.remove(written)
            return False
        self._throttle.take(time.monotonic())
        live.submitted += 1
        return True

    async def _enquire(self) -> None:
        """Let a quiet session ask for a sign of life, where none has been asked for yet."""
        if self._enquiry_answered is None and not self._is_silent and self._binds.can_submit:
            self._binds.reconfigure(replace(self._settings, enquire_link_s=ENQUIRE_S))
            wait_s = ENQUIRE_S + self._settings.response_timeout_s + SLACK_S
            await self._until(lambda: self._is_silent or self._has_answered(), wait_s)
            self._enquiry_answered = self._has_answered()

    def _has_answered(self) -> bool:
        return any(live.session.answered_enquiries for live in self._binds.live)

    # What the sessions tell

    def _note_state(self, state: LinkState, detail: str) -> None:
        if state == "waiting":
            self._why_not_bound = detail
        self._changed.set()

    def _take(self, live: Live, events: list[Event]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Responded):
                self._take_answer(event, now)
            elif isinstance(event, Unanswered):
                event.token.is_open = False
            elif isinstance(event, Delivered):
                self._held.append((live, event.pdu, now))
            elif isinstance(event, Undecodable):
                self._unreadable += 1
            else:
                if isinstance(event, Bound):
                    self._version = self._version if event.sc_interface_version is None else event.sc_interface_version
                elif isinstance(event, Closed):
                    self._note_end(live, event)
                self._binds.note(live, event, now)
        self._sort()
        self._changed.set()

    def _note_end(self, live: Live, event: Closed) -> None:
        if live.session.answered_enquiries:
            self._enquiry_answered = True
        elif event.reason is CloseReason.SILENT:
            self._is_silent = True
            self._enquiry_answered = False

    def _take_answer(self, event: Responded, now: float) -> None:
        written: _Written = event.token
        written.is_open = False
        written.command_status, written.message_id = event.command_status, event.message_id
        written.took_s, written.answered_at = now - event.written_at, now
        if event.command_status == status.THROTTLED:
            self._throttled += 1
            self._throttle.throttled(now, event.written_at)
        if event.command_status == status.OK and event.message_id:
            self._by_id.setdefault(event.message_id, []).append(written)

    # Deliveries

    def _sort(self, *, is_last: bool = False) -> None:
        """Answer what has come: what may be about a segment that is not answered yet waits."""
        may_wait = not is_last and any(one.is_open for one in self._written)
        held, self._held = self._held, []
        for live, pdu, came_at in held:
            found = parse(pdu, alphabet=self._settings.default_alphabet, text_receipts=True)
            written = self._about(found) if isinstance(found, Receipt) else None
            if written is not None and isinstance(found, Receipt):
                self._take_receipt(live, pdu, found, written, came_at)
            elif may_wait and isinstance(found, Receipt):
                self._held.append((live, pdu, came_at))
            else:
                self._keep_away(live, pdu, found if isinstance(found, Receipt) else None)

    def _about(self, receipt: Receipt) -> _Written | None:
        """Give the segment that a receipt names; of several of the same id the first that waits for one.

        In another form an id may be another message's, and after weeks an id comes again: a receipt that names another
        number is not ours.
        """
        if not _may_name(receipt, self._destination.value, self._source.value):
            return None
        for form in id_forms(receipt.message_id):
            if form and form in self._by_id:
                same = self._by_id[form]
                return next((one for one in same if one.awaits_receipt), same[0])
        return None

    def _take_receipt(self, live: Live, pdu: DeliverSm, receipt: Receipt, written: _Written, came_at: float) -> None:
        live.answer(pdu.sequence_number, status.OK)
        self._kept.discard(_same(pdu))
        self._strange.pop(_same(pdu), None)
        if len(written.receipts) >= MOST_RECEIPTS:
            return
        written.receipts.append(receipt.state)
        after_s = max(0.0, came_at - written.answered_at)
        self._receipts.append(_came(live, pdu, receipt, written.trial.key, written.message_id, after_s))

    def _keep_away(self, live: Live, pdu: DeliverSm, receipt: Receipt | None) -> None:
        """Leave a delivery that is not the trial's to the SMSC."""
        live.answer(pdu.sequence_number, status.RX_T_APPN)
        same = _same(pdu)
        if len(self._kept) < MOST_COUNTED:
            self._kept.add(same)
        if receipt is not None and len(self._strange) < MOST_COUNTED:
            numbers = {number.lstrip("+") for number in (receipt.source, receipt.destination)}
            if self._destination.value in numbers:
                self._strange[same] = _came(live, pdu, receipt, "", "", 0.0)

    # Waiting

    async def _until(self, holds: Callable[[], bool], timeout_s: float | None) -> None:
        """Wait until it holds, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._change(LOOK_S * 10)
        except TimeoutError:
            return

    async def _change(self, timeout_s: float) -> None:
        """Wait until a session has told something, for so long at most."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return


def _came(live: Live, pdu: DeliverSm, receipt: Receipt, key: str, answer_id: str, after_s: float) -> Came:
    return Came(
        key,
        answer_id,
        receipt.message_id,
        live.kind,
        pdu.esm_class & MESSAGE_TYPE,
        receipt.state,
        has_text=bool(user_data(pdu)),
        has_tlvs=pdu.tlv(Tag.RECEIPTED_MESSAGE_ID) is not None and pdu.tlv(Tag.MESSAGE_STATE) is not None,
        in_payload=not pdu.short_message and bool(user_data(pdu)),
        after_s=after_s,
    )


def _may_name(receipt: Receipt, number: str, sender: str) -> bool:
    """Say whether the number may be what a receipt is about: carriers swap, shorten and omit the addresses."""
    given = [address.lstrip("+0") for address in (receipt.source, receipt.destination) if address != sender]
    told = [address for address in given if len(address) >= SHORTEST_NUMBER and address.isdigit()]
    return not told or any(number.endswith(address) or address.endswith(number) for address in told)


def _same(pdu: DeliverSm) -> int:
    """Tell one delivery from another, however often the SMSC sends it."""
    return hash(pdu._replace(sequence_number=0))
