"""Test numbers: what happens to a message by where it goes.

The shipped ones end the fictional range of British mobile numbers, +447700900000 to +447700900999, which no
subscriber will ever have. The other numbers of the range are delivered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway.smsc.deliveries import DELETED, DELIVERED, EXPIRED, REJECTED, UNDELIVERABLE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

Behaviour = Literal[
    "delivered",
    "undeliverable",
    "expired",
    "deleted",
    "rejected",
    "unknown",
    "no_receipt",
    "unanswered",
    "answer_lost",
    "throttled",
    "queue_full",
    "invalid_destination",
    "system_error",
]

INVALID_DESTINATION: Final = 0x0B
SYSTEM_ERROR: Final = 0x08
QUEUE_FULL: Final = 0x14
THROTTLED: Final = 0x58


class Outcome(NamedTuple):
    """What a behaviour comes down to."""

    meaning: str  # for the manual
    command_status: int = 0  # of the answer
    message_state: int | None = None  # of the receipt; None: whatever the simulator's `outcome` says
    is_taken: bool = True  # False: as if the submit_sm had never come, neither answer nor receipt
    is_answered: bool = True
    has_receipt: bool = True


OUTCOMES: Final[dict[Behaviour, Outcome]] = {
    "delivered": Outcome("accepted; the receipt says DELIVRD", message_state=DELIVERED),
    "undeliverable": Outcome("accepted; the receipt says UNDELIV", message_state=UNDELIVERABLE),
    "expired": Outcome("accepted; the receipt says EXPIRED", message_state=EXPIRED),
    "deleted": Outcome("accepted; the receipt says DELETED", message_state=DELETED),
    "rejected": Outcome("accepted; the receipt says REJECTD", message_state=REJECTED),
    "unknown": Outcome("accepted; the receipt says UNKNOWN", message_state=UNKNOWN),
    "no_receipt": Outcome("accepted; no receipt ever comes", has_receipt=False),
    "unanswered": Outcome("no submit_sm_resp and no receipt: the SMSC never took it", is_taken=False),
    "answer_lost": Outcome("no submit_sm_resp, and yet it is delivered: the receipt says DELIVRD", is_answered=False),
    "throttled": Outcome("refused with ESME_RTHROTTLED (0x58)", THROTTLED),
    "queue_full": Outcome("refused with ESME_RMSGQFUL (0x14)", QUEUE_FULL),
    "invalid_destination": Outcome("refused with ESME_RINVDSTADR (0x0B)", INVALID_DESTINATION),
    "system_error": Outcome("refused with ESME_RSYSERR (0x08)", SYSTEM_ERROR),
}


class NumberRule(NamedTuple):
    """All destinations of a pattern behave alike."""

    pattern: str  # of a destination_addr without its plus: `*` is any characters, `?` one
    behaviour: Behaviour


SHIPPED: Final = tuple(
    NumberRule(f"447700900{900 + place}", behaviour) for place, behaviour in enumerate(OUTCOMES)
)  # 447700900900 is delivered, 447700900901 undeliverable, and so on


class Numbers:
    """Looks a destination up; the first pattern that fits counts."""

    def __init__(self, numbers: Iterable[NumberRule] = ()) -> None:
        self._patterns: list[tuple[re.Pattern[str], Behaviour]] = []
        for number in numbers:
            expression = re.escape(number.pattern).replace(r"\*", ".*").replace(r"\?", ".")
            self._patterns.append((re.compile(expression), number.behaviour))

    def behaviour(self, destination: str) -> Behaviour | None:
        """Say how a message to this destination is treated; None: like any other."""
        digits = destination.removeprefix("+")
        for pattern, behaviour in self._patterns:
            if pattern.fullmatch(digits):
                return behaviour
        return None
