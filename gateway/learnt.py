"""What the answers and receipts of a carrier's trial say about the settings of its link: observations in, settings out.

A setting is given only where something was seen that shows it, with what was seen. What nothing shows is told apart,
with the reason. No number, text or message id is in anything here but the observations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway import status
from gateway.binds import INTERFACE_VERSIONS
from gateway.messages import DeliveryState, Verdict
from gateway.receipt import IdFormat, id_forms
from gateway.session import BindKind
from gateway.trials import ALL_RECEIPTS, PLAIN, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config.settings import LinkSettings

Outcome = Literal["accepted", "refused", "unclear"]
Value = str | int | tuple[str, ...]  # a bool is an int

WINDOW_MARGIN: Final = 2  # over throughput x median answer time: answers are not even
SMALLEST_WINDOW: Final = 10
LARGEST_WINDOW: Final = 10_000  # of the setting
CONCATENATIONS: Final = ("udh8", "udh16", "sar", "payload")
FLASH_WAYS: Final = ("class0", "dest_addr_subunit", "group_f")
OPTIONAL: Final = ("sar", "payload", "dest_addr_subunit")  # forms with optional parameters
ID_FORMATS: Final[tuple[IdFormat, ...]] = ("text", "hex", "decimal")
# Refusals that speak of the moment or of the session, not of what was written
_PASSING: Final = frozenset({Verdict.THROTTLED, Verdict.RETRY, Verdict.LINK_FAULT})


class Answer(NamedTuple):
    """What became of one segment."""

    key: str  # of its trial
    part: int
    command_status: int | None  # None: it was written, and no answer came
    message_id: str = ""
    took_s: float = 0.0  # from the write to the answer


class Came(NamedTuple):
    """One receipt, as it was written."""

    key: str  # of the trial whose segment it is about; "": of none by its id, though it names the test number
    answer_id: str  # "" where key is
    receipt_id: str
    kind: BindKind  # of the session that it came on
    message_type: int  # bits 5 to 2 of esm_class, SMPP v3.4 section 5.2.12
    state: DeliveryState
    has_text: bool
    has_tlvs: bool  # receipted_message_id and message_state
    in_payload: bool
    after_s: float  # after the answer; 0.0 where it came before


@dataclass(frozen=True, slots=True)
class Observed:
    """What a trial saw of a link."""

    trials: tuple[Trial, ...]
    host: str
    problem: str = ""  # why it was not bound, or did not come to its end
    is_bound: bool = False
    sc_interface_version: int | None = None  # as bind_resp tells it
    answers: tuple[Answer, ...] = ()
    receipts: tuple[Came, ...] = ()
    enquiry_answered: bool | None = None  # None: not tried
    throttled: int = 0  # answers ESME_RTHROTTLED
    kept: int = 0  # deliver_sm that were not of the trial, and were answered ESME_RX_T_APPN
    unreadable: int = 0  # deliver_sm that nobody can read
    wait_s: float = 0.0

    @property
    def accepted(self) -> int:
        """Texts of which every segment was accepted."""
        return sum(self.outcome(trial.key)[0] == "accepted" for trial in self.trials)

    def outcome(self, key: str) -> tuple[Outcome, str]:
        """Say what became of a trial, and in a word or two why; of several segments the first that was refused."""
        answers = [answer for answer in self.answers if answer.key == key]
        if not answers:
            return "unclear", "not sent"
        for answer in answers:
            if answer.command_status is None:
                return "unclear", "not answered"
            if answer.command_status:
                return "refused", status.name(answer.command_status)
        return "accepted", status.name(status.OK)


class Setting(NamedTuple):
    """One key of [[link]] that was learnt."""

    key: str
    value: Value
    evidence: str


class Learnt(NamedTuple):
    """What a trial taught."""

    settings: tuple[Setting, ...]
    unknown: tuple[tuple[str, str], ...]  # key of [[link]], why it could not be learnt
    notes: tuple[str, ...]  # what no setting says


def learn(observed: Observed, settings: LinkSettings) -> Learnt:
    """Conclude. `settings` are those that the trial was made with."""
    lesson = _Lesson(observed, settings)
    for take in (
        lesson.interface_version,
        lesson.default_alphabet,
        lesson.concatenation,
        lesson.flash,
        lesson.validity,
        lesson.priority_flag,
        lesson.receipts,
        lesson.text_receipts,
        lesson.message_id_format,
        lesson.window_size,
    ):
        take()
    lesson.note_the_rest()
    return Learnt(tuple(lesson.settings), tuple(lesson.unknown), tuple(lesson.notes))


class _Lesson:
    def __init__(self, observed: Observed, settings: LinkSettings) -> None:
        self._seen = observed
        self._of_file = settings
        self._keys = {trial.key for trial in observed.trials}
        self._overrides = {number: Verdict(verdict) for number, verdict in settings.status_overrides.items()}
        self._plain = self._first_refusal(PLAIN)
        self.settings: list[Setting] = []
        self.unknown: list[tuple[str, str]] = []
        self.notes: list[str] = []

    # What became of one form

    def _first_refusal(self, key: str) -> int | None:
        return next((one.command_status for one in self._seen.answers if one.key == key and one.command_status), None)

    def _outcome(self, key: str) -> Outcome:
        """Say what the answers to a trial mean for its form; a refusal that the plain text met too means nothing."""
        outcome, _ = self._seen.outcome(key)
        if outcome == "refused":
            refusal = self._first_refusal(key)
            assert refusal is not None
            if refusal == self._plain or status.verdict(refusal, self._overrides) in _PASSING:
                return "unclear"
        return outcome

    def _accepted(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if self._outcome(key) == "accepted"]

    def _refused(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if self._outcome(key) == "refused"]

    def _evidence(self, keys: Iterable[str]) -> str:
        """Say what became of each, those with the same outcome together."""
        groups: dict[str, list[str]] = {}
        for key in keys:
            if key in self._keys:
                outcome, why = self._seen.outcome(key)
                said = {"accepted": "accepted", "refused": f"refused with {why}"}.get(outcome, why)
                groups.setdefault(said, []).append(key)
        return "; ".join(f"{', '.join(names)} {said}" for said, names in groups.items())

    def _set(self, key: str, value: Value, evidence: str) -> None:
        self.settings.append(Setting(key, value, evidence))

    # The settings

    def interface_version(self) -> None:
        """Confirm what it was bound with, where bind_resp tells that or more: no other was tried."""
        told, bound_with = self._seen.sc_interface_version, self._of_file.interface_version
        if told is None:
            why = "bind_resp has no sc_interface_version" if self._seen.is_bound else "not bound"
            self.unknown.append(("interface_version", why))
            return
        evidence = f"sc_interface_version of bind_resp is 0x{told:02X}; it was bound with {bound_with}"
        if told >= INTERFACE_VERSIONS[bound_with]:
            self._set("interface_version", bound_with, evidence)
        else:
            self.unknown.append(("interface_version", f"{evidence}, and an older one was not tried"))

    def default_alphabet(self) -> None:
        """Only the handset shows it."""
        numbers = {trial.key: trial.number for trial in self._seen.trials}
        shown = f"the handset shows text {numbers['gsm7']} (gsm7) or text {numbers['latin1']} (latin1) as it was sent"
        self.unknown.append(("default_alphabet", shown if self._seen.accepted else "nothing was accepted"))

    def concatenation(self) -> None:
        """The form of the file where it is taken, else the first of the others."""
        order = _once((self._of_file.concatenation, *CONCATENATIONS))
        accepted = self._accepted(order)
        if accepted:
            evidence = self._evidence(order)
            if self._of_file.national_tables and accepted[0] not in ("udh8", "udh16"):
                evidence += "; national_tables must go, they need a header in each segment"
            self._set("concatenation", accepted[0], evidence)
        else:
            self.unknown.append(("concatenation", self._evidence(order)))

    def flash(self) -> None:
        """The first way that is taken, in the order in which the link would try them, and the others after it."""
        order = _once((self._of_file.flash, *self._of_file.flash_fallback, *FLASH_WAYS))
        accepted, refused = self._accepted(order), self._refused(order)
        evidence = self._evidence((*order, "class0_ucs2"))
        if accepted:
            self._set("flash", accepted[0], evidence)
            self._set("flash_fallback", tuple(accepted), "the ways that were accepted, in this order")
        elif refused and set(refused) == self._keys & set(order):
            self.unknown.append(("flash", f"{evidence}: texts go without flash"))
            first = self._of_file.flash
            self._set("flash_fallback", (first,), "no way was accepted: without flash after the first refusal")
        else:
            self.unknown.append(("flash", evidence))

    def validity(self) -> None:
        """Relative before absolute: it does not depend on two clocks."""
        evidence = self._evidence(("relative", "absolute"))
        if accepted := self._accepted(("relative", "absolute")):
            self._set("validity", accepted[0], evidence)
        elif len(self._refused(("relative", "absolute"))) == 2:
            self._set("validity", "none", evidence)
        else:
            self.unknown.append(("validity", evidence))

    def priority_flag(self) -> None:
        """Only a refusal needs a setting."""
        if self._refused(("priority_flag",)):
            self._set("priority_flag", 0, self._evidence(("priority_flag",)))

    def receipts(self) -> None:
        """Whether they come; that none came in so short a time does not show that none ever does."""
        final = self._final()
        if final:
            asked = [one for one in self._seen.answers if self._awaits_receipt(one)]
            matched = {one.answer_id for one in final if one.key} & {one.message_id for one in asked}
            delays = [one.after_s for one in final if one.key]
            told = f"; after {min(delays):.2f} s at least, {median(delays):.2f} s in the median" if delays else ""
            self._set("receipts", "all", f"{len(matched)} of {len(asked)} came{told}")
        elif self._seen.accepted:
            why = f'none came within {self._seen.wait_s:g} s; "none" if the carrier says that it sends none'
            self.unknown.append(("receipts", why))
        else:
            self.unknown.append(("receipts", "nothing was accepted"))

    def _awaits_receipt(self, answer: Answer) -> bool:
        asks = {trial.key for trial in self._seen.trials if trial.registered_delivery == ALL_RECEIPTS}
        return answer.command_status == status.OK and answer.key in asks

    def _final(self) -> list[Came]:
        return [one for one in self._seen.receipts if one.state is not DeliveryState.ENROUTE]

    def text_receipts(self) -> None:
        """Where the text alone says that it is one, the daemon would take it for a reply."""
        seen = [one for one in self._seen.receipts if one.key]
        bare = [one for one in seen if one.message_type == 0 and not one.has_tlvs]
        if bare:
            evidence = (
                f"{len(bare)} of {len(seen)} receipts have esm_class 0 and only a text, which a handset could forge;"
                " better ask the carrier for esm_class 0x04, or for receipted_message_id and message_state"
            )
            self._set("text_receipts", True, evidence)  # a value of the file

    def message_id_format(self) -> None:
        """The narrowest format that explains every pair of an answer's and a receipt's id."""
        key = "message_id_format"
        pairs = {(one.answer_id, one.receipt_id) for one in self._seen.receipts if one.key}
        ids = [one.message_id for one in self._seen.answers if one.command_status == status.OK]
        if len(set(ids)) < len(ids) and any(ids):
            self.unknown.append((key, "several answers have the same id: receipts cannot be told apart"))
        elif ids and not any(ids):
            self.unknown.append((key, "answers have no message_id: receipts cannot be matched"))
        elif not pairs:
            strange = any(not one.key for one in self._seen.receipts)
            why = "ids of receipts are ids of answers in no form" if strange else "no receipt came"
            self.unknown.append((key, why))
        else:
            found = format_of(pairs)
            self._set(key, found, f"{_ids(ids)}; {_FORMAT_MEANS[found]} in {len(pairs)} of {len(pairs)}")

    def window_size(self) -> None:
        """As many as are on their way at full rate."""
        took = [one.took_s for one in self._seen.answers if one.command_status == status.OK]
        if not took:
            self.unknown.append(("window_size", "nothing was accepted"))
            return
        rate, middle = self._of_file.throughput_per_s, median(took)
        size = suggested_window(rate, middle)
        evidence = (
            f"throughput_per_s {rate} x median answer time {middle:.3f} s x {WINDOW_MARGIN},"
            f" {SMALLEST_WINDOW} at least; {len(took)} answers, the slowest {max(took):.3f} s;"
            " not more than the carrier allows"
        )
        self._set("window_size", size, evidence)

    # What no setting says

    def note_the_rest(self) -> None:
        """Note how receipts look, and what else an operator should know."""
        seen = self._seen
        self._note_receipts()
        refused = self._refused(OPTIONAL)
        if refused and set(refused) == self._keys & set(OPTIONAL):
            self.notes.append(f"optional parameters are refused: {self._evidence(OPTIONAL)}")
        if self._refused(("failures",)):
            self.notes.append(f'receipts = "failures" is not taken: {self._evidence(("failures",))}')
        if any(one.key == "failures" and one.state is DeliveryState.DELIVERED for one in seen.receipts):
            self.notes.append('receipts = "failures" is not kept: a receipt came for a text that was delivered')
        if seen.enquiry_answered is not None:
            said = "answered" if seen.enquiry_answered else "not answered: sessions will end by themselves when quiet"
            self.notes.append(f"enquire_link is {said}")
        if seen.throttled:
            self.notes.append(f"ESME_RTHROTTLED {seen.throttled} times: the carrier grants less than throughput_per_s")

    def _note_receipts(self) -> None:
        receipts = self._seen.receipts
        for describe in (_session, _dialect, _state):
            counted: dict[str, int] = {}
            for one in receipts:
                counted[describe(one)] = counted.get(describe(one), 0) + 1
            self.notes.extend(f"receipts: {said} ({count} of {len(receipts)})" for said, count in counted.items())
        strange = sum(not one.key for one in receipts)
        if strange:
            self.notes.append(f"receipts that name the test number and no id of an answer: {strange}")


def format_of(pairs: Iterable[tuple[str, str]]) -> IdFormat:
    """Give the narrowest message_id_format by which each receipt's id finds its answer's; pairs are (answer, receipt).

    Where letters' case or zeros alone differ both `hex` and `decimal` do, and `auto` is given.
    """
    pairs = list(pairs)
    fits = [one for one in ID_FORMATS if all(answer in id_forms(receipt, one) for answer, receipt in pairs)]
    if "text" in fits:
        return "text"
    return fits[0] if len(fits) == 1 else "auto"


def suggested_window(throughput_per_s: int, answer_s: float) -> int:
    """Requests that are unanswered at this rate and answer time, with a margin."""
    return max(SMALLEST_WINDOW, min(LARGEST_WINDOW, math.ceil(throughput_per_s * answer_s * WINDOW_MARGIN)))


_FORMAT_MEANS: Final = {
    "text": "receipts write the same",
    "hex": "receipts write the number in hexadecimal, answers in decimal",
    "decimal": "receipts write the number in decimal, answers in hexadecimal",
    "auto": "receipts write it with other zeros or letters",
}


def _once(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _ids(ids: Sequence[str]) -> str:
    """Describe the ids of answers without repeating one."""
    lengths = sorted({len(one) for one in ids})
    size = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    tests: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("decimal digits", lambda one: one.isascii() and one.isdigit()),
        ("hexadecimal digits", lambda one: all(letter in "0123456789abcdefABCDEF" for letter in one)),
    )
    what = next((name for name, holds in tests if all(map(holds, ids))), "characters")
    return f"ids of answers: {size} {what}"


def _session(one: Came) -> str:
    return f"on the {one.kind} session"


def _state(one: Came) -> str:
    return f"state {one.state}"


def _dialect(one: Came) -> str:
    text = "text in message_payload" if one.in_payload else "text" if one.has_text else "no text"
    tlvs = "both TLVs" if one.has_tlvs else "no TLVs"
    return f"esm_class 0x{one.message_type:02X}, {text}, {tlvs}"
