"""What goes wrong, and when: a plan that is asked at each occasion and answers from its seeded chance.

No clock, socket or task is in here. The same plan, asked the same at the same times, gives the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway.smsc.numbers import OUTCOMES, SYSTEM_ERROR, THROTTLED, NumberRule, Numbers

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator

    from gateway.smsc.numbers import Behaviour

Kind = Literal[
    "delay_answer",
    "reorder_answers",
    "throttle",
    "rate_limit",
    "refuse",
    "nack",
    "nack_unnamed",
    "lose_answer",
    "double_answer",
    "stray_answer",
    "unbind",
    "reset",
    "silence",
    "mute_enquire_link",
    "refuse_bind",
    "slow_bind",
    "drop_bind",
    "http",
    "reset_in_pdu",
    "garbage",
    "nack_nobody",
    "unknown_command",
    "bare_answer",
    "open_answer",
    "false_length",
    "pad_delivery",
    "cut_delivery",
    "dribble",
    "coalesce",
    "enquire_link_flood",
    "mo_flood",
    "receipt_flood",
]
Range = tuple[float, float]

BIND_FAILED: Final = 0x0D


class KindForm(NamedTuple):
    """What one kind of fault does, and which keys beyond the common ones it reads."""

    occasion: str  # what `skip`, `every`, `count` and `share` count
    meaning: str  # for the manual
    keys: frozenset[str] = frozenset()


SUBMIT: Final = "submit_sm read"
ANSWER: Final = "submit_sm_resp written"
DELIVERY: Final = "deliver_sm written"
SECOND: Final = "1/`per_s` second"

KINDS: Final[dict[Kind, KindForm]] = {
    "delay_answer": KindForm(SUBMIT, "The answer comes `seconds` later than it would.", frozenset({"seconds"})),
    "reorder_answers": KindForm(
        SUBMIT,
        "Answers are held until there are `batch` of them, or for `seconds`, and go out last first.",
        frozenset({"batch", "seconds"}),
    ),
    "throttle": KindForm(SUBMIT, "Refused with ESME_RTHROTTLED (0x58)."),
    "rate_limit": KindForm(
        SUBMIT,
        "Refused with ESME_RTHROTTLED (0x58) above `per_s` in a second, all sessions together.",
        frozenset({"per_s"}),
    ),
    "refuse": KindForm(SUBMIT, "Refused with `status`.", frozenset({"status"})),
    "nack": KindForm(SUBMIT, "Refused by a generic_nack with `status`.", frozenset({"status"})),
    "nack_unnamed": KindForm(
        SUBMIT,
        "Refused by a generic_nack with `status` and sequence number 0, which names no request.",
        frozenset({"status"}),
    ),
    "lose_answer": KindForm(SUBMIT, "Accepted, and its receipt comes; the answer is never written."),
    "double_answer": KindForm(SUBMIT, "The answer is written twice."),
    "stray_answer": KindForm(SUBMIT, "Before its answer comes one to a sequence number that was never used."),
    "unbind": KindForm(SUBMIT, "The SMSC unbinds; what it has read and not answered stays unanswered."),
    "reset": KindForm("PDU read from a bound session", "The connection is reset (TCP RST) before the PDU is acted on."),
    "silence": KindForm("PDU read from a bound session", "The PDU is ignored."),
    "mute_enquire_link": KindForm("enquire_link read", "It is not answered."),
    "refuse_bind": KindForm("bind with good credentials", "Refused with `status`.", frozenset({"status"})),
    "slow_bind": KindForm(
        "bind with good credentials", "Nothing is written for `seconds`, the answer included.", frozenset({"seconds"})
    ),
    "drop_bind": KindForm("bind with good credentials", "The connection is reset (TCP RST) in place of an answer."),
    "http": KindForm(
        "bind with good credentials", "A web server's refusal in place of an answer; then the connection ends."
    ),
    "reset_in_pdu": KindForm(ANSWER, "Half of the answer is written, then the connection is reset (TCP RST)."),
    "garbage": KindForm(ANSWER, "`octets` random octets are written before the answer.", frozenset({"octets"})),
    "nack_nobody": KindForm(ANSWER, "Before the answer comes a generic_nack with sequence number 0."),
    "unknown_command": KindForm(
        ANSWER,
        "Before the answer comes a PDU of an operation that no specification has, its body of `octets`.",
        frozenset({"octets"}),
    ),
    "bare_answer": KindForm(ANSWER, "It ends with its header, accepted or not."),
    "open_answer": KindForm(ANSWER, "Its message_id has no NUL."),
    "false_length": KindForm(ANSWER, "Its command_length says `octets`, whatever it has.", frozenset({"octets"})),
    "pad_delivery": KindForm(DELIVERY, "A NUL stands behind short_message, which sm_length does not count."),
    "cut_delivery": KindForm(
        DELIVERY, "Its last `octets` are missing, and command_length says so.", frozenset({"octets"})
    ),
    "coalesce": KindForm(
        "write", "What is to be written waits `seconds`, and goes out in one piece.", frozenset({"seconds"})
    ),
    "dribble": KindForm("PDU written", "It is written one octet at a time, `seconds` apart.", frozenset({"seconds"})),
    "enquire_link_flood": KindForm(SECOND, "An enquire_link to each bound session.", frozenset({"per_s"})),
    "mo_flood": KindForm(
        SECOND, "An MO message to `destination`, for an account that receives.", frozenset({"per_s", "destination"})
    ),
    "receipt_flood": KindForm(
        SECOND, "A receipt to `destination` of a message that was never sent.", frozenset({"per_s", "destination"})
    ),
}
FLOODS: Final = frozenset({"enquire_link_flood", "mo_flood", "receipt_flood"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, in a span of time and on some of its occasions."""

    kind: Kind
    after_s: float = 0.0  # since the simulator listens
    for_s: float | None = None  # None: to the end
    skip: int = 0  # occasions within the span that are let pass first
    every: int = 1  # then every so many-th one
    share: float = 1.0  # of these, by chance
    count: int | None = None  # at most so often; None: no limit
    seconds: Range = (1.0, 1.0)
    status: int | None = None  # None: what the kind is usually refused with
    per_s: float = 10.0
    batch: int = 10
    octets: int = 16
    destination: str = "88222"

    @property
    def command_status(self) -> int:
        """Status of the refusal."""
        if self.status is not None:
            return self.status
        return {"refuse_bind": BIND_FAILED, "throttle": THROTTLED, "rate_limit": THROTTLED}.get(self.kind, SYSTEM_ERROR)

    def spans(self, now_s: float) -> bool:
        """Say whether it is its time."""
        return self.after_s <= now_s and (self.for_s is None or now_s < self.after_s + self.for_s)


class Treatment(NamedTuple):
    """What is done with one submit_sm."""

    command_status: int = 0
    is_taken: bool = True  # False: neither answered nor delivered
    is_answered: bool = True
    has_receipt: bool = True
    message_state: int | None = None  # None: whatever the simulator's `outcome` says
    nack: bool = False  # the refusal is a generic_nack
    is_named: bool = True  # False: that nack has sequence number 0
    delay_s: float = 0.0
    is_doubled: bool = False
    is_strayed: bool = False  # an answer to nobody's request comes before
    reorder: tuple[int, float] | None = None  # held for so many answers, or so long
    unbinds: bool = False
    behaviour: str | None = None  # of the test number
    faults: tuple[str, ...] = ()  # kinds that have happened to it


PLAIN: Final = Treatment()


class Armed:
    """One fault of a plan, and how often it has met its occasion."""

    __slots__ = ("_at", "_tokens", "fault", "met", "struck")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.met = 0  # occasions within its span
        self.struck = 0  # times that it happened
        self._tokens = max(fault.per_s, 1.0)
        self._at = 0.0

    @property
    def is_flood(self) -> bool:
        """Say whether it happens by itself, not at what a peer does."""
        return self.fault.kind in FLOODS

    def strikes(self, now_s: float, chance: random.Random) -> bool:
        """Say whether it happens at this occasion."""
        fault = self.fault
        if not fault.spans(now_s) or (fault.count is not None and self.struck >= fault.count):
            return False
        self.met += 1
        beyond = self.met - fault.skip
        if beyond <= 0 or beyond % fault.every or (fault.share < 1.0 and chance.random() >= fault.share):
            return False
        if fault.kind == "rate_limit" and self._take_token(now_s):
            return False
        self.struck += 1
        return True

    def _take_token(self, now_s: float) -> bool:
        """Take one of the tokens that come evenly, and of which one second's are kept at most."""
        most = max(self.fault.per_s, 1.0)
        self._tokens = min(most, self._tokens + (now_s - self._at) * self.fault.per_s)
        self._at = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Plan:
    """All faults and test numbers of one run."""

    def __init__(
        self, faults: Iterable[Fault] = (), numbers: Iterable[NumberRule] = (), *, chance: random.Random
    ) -> None:
        """`chance` decides everything that is left to chance."""
        self.chance = chance
        self._numbers = Numbers(numbers)
        self._armed: dict[str, list[Armed]] = {}
        for fault in faults:
            self.add(fault)

    def __iter__(self) -> Iterator[Armed]:
        """Give every fault, those of a kind together."""
        return (armed for same in self._armed.values() for armed in same)

    def add(self, fault: Fault) -> Armed:
        """Let one more fault happen from now on."""
        armed = Armed(fault)
        self._armed.setdefault(fault.kind, []).append(armed)
        return armed

    def strike(self, kind: Kind, now_s: float) -> Fault | None:
        """Meet an occasion, `now_s` seconds after the start: the fault that happens, or None."""
        for armed in self._armed.get(kind, ()):
            if armed.strikes(now_s, self.chance):
                return armed.fault
        return None

    def drawn(self, span: Range) -> float:
        """Draw evenly from a range."""
        return span[0] if span[0] == span[1] else self.chance.uniform(*span)

    def treatment(self, destination: str, now_s: float) -> Treatment:
        """Decide what is done with one submit_sm: by its number first, then by the faults that are due."""
        found = PLAIN
        behaviour = self._numbers.behaviour(destination)
        if behaviour is not None:
            found = _of_number(behaviour)
        if self._armed and found.is_taken:
            found = self._with_faults(found, now_s)
        return found

    def _with_faults(self, found: Treatment, now_s: float) -> Treatment:
        if self.strike("unbind", now_s):
            return found._replace(is_taken=False, unbinds=True, faults=("unbind",))
        happened: list[Kind] = []
        if not found.command_status:
            kind, found = self._refused(found, now_s)
            happened += [] if kind is None else [kind]
        if self.strike("double_answer", now_s):
            happened.append("double_answer")
            found = found._replace(is_doubled=True)
        if self.strike("stray_answer", now_s):
            happened.append("stray_answer")
            found = found._replace(is_strayed=True)
        if delay := self.strike("delay_answer", now_s):
            happened.append("delay_answer")
            found = found._replace(delay_s=self.drawn(delay.seconds))
        if held := self.strike("reorder_answers", now_s):
            happened.append("reorder_answers")
            found = found._replace(reorder=(held.batch, self.drawn(held.seconds)))
        return found._replace(faults=tuple(happened)) if happened else found

    def _refused(self, found: Treatment, now_s: float) -> tuple[Kind | None, Treatment]:
        """Meet the faults that exclude each other: the first one counts."""
        for kind in ("throttle", "rate_limit", "refuse", "nack", "nack_unnamed", "lose_answer"):
            fault = self.strike(kind, now_s)
            if fault is not None:
                if kind == "lose_answer":
                    return kind, found._replace(is_answered=False)
                return kind, found._replace(
                    command_status=fault.command_status, nack=kind.startswith("nack"), is_named=kind != "nack_unnamed"
                )
        return None, found


def _of_number(behaviour: Behaviour) -> Treatment:
    outcome = OUTCOMES[behaviour]
    return Treatment(
        command_status=outcome.command_status,
        is_taken=outcome.is_taken,
        is_answered=outcome.is_answered,
        has_receipt=outcome.has_receipt,
        message_state=outcome.message_state,
        behaviour=behaviour,
    )
