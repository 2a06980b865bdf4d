"""The messages of the demonstration: what a clinic sends on a working day, in four scripts.

All of it is invented, and so are the recipients: 07700 900000 to 900999 are numbers kept free for fiction.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

FIRST_NUMBER: Final = 447_700_900_000
EMERGENCY_NUMBER: Final = str(FIRST_NUMBER + 999)
EMERGENCY_TEXT: Final = "CODE BLUE, ward 4, bed 12. Cardiac arrest team to ward 4 now."


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message; ``{n}`` in its text is the number of the job."""

    name: str
    category: str
    jobs: int
    text: str = field(repr=False)
    flash: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One message, with the names that ``tocsin.enqueue_many`` reads."""

    recipient: str = field(repr=False)  # each has a number of its own
    body: str = field(repr=False)
    category: str
    flash: bool


KINDS: Final = (
    Kind(
        "appointment reminders",
        "transactional",
        180,
        "Reminder {n}: your appointment at the Northside clinic is tomorrow at 09:30. Reply YES to confirm.",
    ),
    Kind(
        "long instructions",
        "transactional",
        50,
        "Before your examination {n}: " + "please do not eat for six hours, and drink only water or clear tea. " * 5,
    ),
    Kind("Arabic", "transactional", 40, "تذكير {n}: موعدك في العيادة غدا الساعة التاسعة والنصف صباحا"),
    Kind(
        "Cyrillic",
        "transactional",
        40,
        "Напоминание {n}: приём завтра в 9:30. Пожалуйста, возьмите паспорт и результаты анализов.",
    ),
    Kind("emoji", "informational", 40, "Visiting hours {n}: 14:00 to 19:00 today 🏥👍 See you soon! 👩🏽‍⚕️"),
    Kind("flash to staff", "staff", 30, "Shift change {n}: please report to the desk on ward 4.", flash=True),
    Kind("marketing", "marketing", 120, "Free flu vaccination {n} this week at Northside, no appointment needed."),
)


def requests() -> list[Request]:
    """Make the load, well mixed and the same every time."""
    kinds = [kind for kind in KINDS for _ in range(kind.jobs)]
    random.Random(1).shuffle(kinds)  # noqa: S311  # no secret
    return [
        Request(str(FIRST_NUMBER + number), kind.text.format(n=number), kind.category, kind.flash)
        for number, kind in enumerate(kinds)
    ]
