"""The texts that a carrier is tried with: each in one form that some carriers refuse, or show in another way.

All of them go to one handset. Each begins with its number and says what it is, so that whoever holds the handset can
compare; each differs from the plain one in one thing, so that a refusal means that thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway.messages import FlashWay
from gateway.segment import Alphabet, Concatenation, segment

if TYPE_CHECKING:
    from config.settings import LinkSettings
    from gateway.messages import Segment

Validity = Literal["none", "relative", "absolute"]

PLAIN: Final = "plain"  # key of the one that the others are held against
LONG_UNITS: Final = 180  # characters of a long text: two segments in every alphabet but UCS-2
SINGLE_UNITS: Final = {"gsm7": 160, "ascii": 160, "latin1": 140}
UCS2_UNITS: Final = 70
COMPARED: Final = "@ \u00a3 $ \u00e8 \u00e9 \u00f1 \u00fc \u00e0 \u00d8"  # each another octet in GSM-7 and in Latin-1
FILLER: Final = "abcdefghij klmnopqrst uvwxyz "
END: Final = "END"
HIGHEST_PRIORITY: Final = 3  # SMPP v3.4 section 5.2.14
ALL_RECEIPTS: Final = 1  # registered_delivery, section 5.2.17
FAILURES_ONLY: Final = 2


class Trial(NamedTuple):
    """One text, and the form in which it goes."""

    key: str  # the form, for whoever learns from the answer
    number: int  # 1..of, as the text says
    about: str  # what is tried
    text: str
    alphabet: Alphabet
    concatenation: Concatenation = "udh8"
    flash: FlashWay = "plain"
    validity: Validity = "none"
    priority_flag: int = 0
    registered_delivery: int = ALL_RECEIPTS

    def segments(self, reference: int) -> tuple[Segment, ...]:
        """Cut it, as any message is; the form of flash is not in it yet."""
        return segment(self.text, reference=reference, alphabet=self.alphabet, concatenation=self.concatenation)

    @property
    def messages(self) -> int:
        """How many messages a carrier charges: also of one submit_sm that the SMSC cuts."""
        whole = self._replace(concatenation="udh8") if self.concatenation == "payload" else self
        return len(whole.segments(0))


class _Plan(NamedTuple):
    """A trial before it is known how many there are."""

    key: str
    about: str
    rest: str = ""
    units: int = 0  # 16-bit units or characters to fill up to; 0: as it is
    alphabet: Alphabet | None = None  # None: the link's
    concatenation: Concatenation = "udh8"
    flash: FlashWay = "plain"
    validity: Validity = "none"
    priority_flag: int = 0
    registered_delivery: int = ALL_RECEIPTS
    needs_tlvs: bool = False  # SMPP v3.3 has no optional parameters


def trials(settings: LinkSettings) -> tuple[Trial, ...]:
    """Give the trials of one link, in the order in which they go."""
    plans = [plan for plan in _plans(settings) if not (plan.needs_tlvs and settings.interface_version == "3.3")]
    return tuple(
        Trial(
            plan.key,
            number,
            plan.about,
            _filled(f"Tocsin test {number} of {len(plans)}: {plan.about}{plan.rest}", plan.units),
            plan.alphabet or settings.default_alphabet,
            plan.concatenation,
            plan.flash,
            plan.validity,
            plan.priority_flag,
            plan.registered_delivery,
        )
        for number, plan in enumerate(plans, start=1)
    )


def _plans(settings: LinkSettings) -> list[_Plan]:
    single = SINGLE_UNITS[settings.default_alphabet]
    priority = HIGHEST_PRIORITY if settings.priority_flag is None else settings.priority_flag
    long = f"long text, {LONG_UNITS} characters, must be one"
    plans = [
        _Plan(PLAIN, f"one segment of {single} characters", ", ", single),
        _Plan("extension", "extension characters", ": \u20ac [ ] { } \\ ^ ~ |", alphabet="gsm7"),
        _Plan("gsm7", "written in GSM-7", f": {COMPARED}", alphabet="gsm7"),
        _Plan("latin1", "written in Latin-1", f": {COMPARED}", alphabet="latin1"),
        _Plan("ucs2", "UCS-2", ", \u0416 \u68c0\u67e5 \U0001f642 ", UCS2_UNITS),
        _Plan("udh8", f"{long}, by udh8", ", ", LONG_UNITS),
        _Plan("udh16", f"{long}, by udh16", ", ", LONG_UNITS, concatenation="udh16"),
        _Plan("sar", f"{long}, by sar", ", ", LONG_UNITS, concatenation="sar", needs_tlvs=True),
        _Plan("payload", f"{long}, by payload", ", ", LONG_UNITS, concatenation="payload", needs_tlvs=True),
        _Plan("class0", "flash by class0", flash="class0"),
        _Plan("class0_ucs2", "flash by class0, UCS-2", ": \u0416", flash="class0"),
        _Plan("group_f", "flash by group_f", flash="group_f"),
        _Plan("dest_addr_subunit", "flash by dest_addr_subunit", flash="dest_addr_subunit", needs_tlvs=True),
    ]
    if priority:
        plans.append(_Plan("priority_flag", f"priority_flag {priority}", priority_flag=priority))
    plans += [
        _Plan("failures", "receipt asked for failures alone", registered_delivery=FAILURES_ONLY),
        _Plan("relative", "relative validity_period", validity="relative"),
        _Plan("absolute", "absolute validity_period", validity="absolute"),
    ]
    return plans


def _filled(text: str, units: int) -> str:
    """Fill with letters up to so many 16-bit units, END the last of them."""
    used = len(text.encode("utf-16-be")) // 2
    room = units - used - len(END)
    if not units:
        return text
    assert room >= 0, text
    filler = (FILLER * (room // len(FILLER) + 1))[:room]
    return f"{text}{filler}{END}"
