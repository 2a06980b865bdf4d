"""The messages of the demonstration: what a clinic sends on a working day, and what patients answer.

All of it is invented, and so are the recipients: 07700 900000 to 900999 are numbers kept free for fiction. There are
more jobs than such numbers, so some people get up to three messages, all of one kind; each text is there once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from config.settings import SHIPPED_CATEGORIES

FIRST_NUMBER: Final = 447_700_900_000
NUMBERS: Final = 1_000
JOBS_A_NUMBER: Final = 3  # at most
LANE_OF: Final = {category.name: category.lane for category in SHIPPED_CATEGORIES}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message; ``{n}`` in its text is the number of the job."""

    name: str
    category: str
    jobs: int
    text: str = field(repr=False)
    flash: bool = False
    is_reachable: bool = True  # False: the SMSC says undelivered


@dataclass(frozen=True, slots=True)
class Request:
    """One message, with the names that ``tocsin.enqueue_many`` reads."""

    recipient: str = field(repr=False)
    body: str = field(repr=False)
    category: str
    flash: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a patient sends back as soon as a message has come."""

    source: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Load:
    """All that is enqueued at once, and what its recipients do about it."""

    requests: tuple[Request, ...]
    unreachable: frozenset[str] = field(repr=False)  # numbers that are no longer in use
    answers: tuple[Answer, ...]


KINDS: Final = (
    Kind("flash to staff", "staff", 60, "Shift change {n}: please report to the desk on ward 4.", flash=True),
    Kind("rotas for staff", "staff", 60, "Rota {n}: nights Mon-Wed, days Thu. Reply to swap. [ward 4] ~ 37.5 h"),
    Kind("login codes", "auth", 150, "{n:06d} is your code for the patient portal. Nobody will ask you for it."),
    Kind("answers to questions", "conversational", 120, "About question {n}: yes, bring the card; the fee is €12."),
    Kind(
        "appointment reminders",
        "transactional",
        260,
        "Reminder {n}: your appointment at the Northside clinic is tomorrow at 09:30. Reply YES to confirm.",
    ),
    Kind(
        "long instructions",
        "transactional",
        120,
        "Before your examination {n}: " + "please do not eat for six hours, and drink only water or clear tea. " * 5,
    ),
    Kind("Arabic reminders", "transactional", 80, "تذكير {n}: موعدك في العيادة غدا الساعة التاسعة والنصف صباحا"),
    Kind(
        "Cyrillic reminders",
        "transactional",
        120,
        "Напоминание {n}: приём завтра в 9:30. Пожалуйста, возьмите паспорт и результаты анализов.",
    ),
    Kind(
        "long Arabic with emoji",
        "transactional",
        60,
        "تعليمات {n}: " + "يرجى عدم الأكل قبل الفحص بست ساعات وشرب الماء فقط 💧🚰. " * 3,
    ),
    Kind(
        "numbers no longer in use",
        "transactional",
        20,
        "Reminder {n}: your appointment at the Northside clinic is next week.",
        is_reachable=False,
    ),
    Kind(
        "visiting hours with emoji", "informational", 350, "Visiting hours {n}: 14:00 to 19:00 🏥👍 See you soon! 👩🏽‍⚕️"
    ),
    Kind("marketing", "marketing", 597, "Free flu vaccination {n} this week at Northside, no appointment needed."),
)

CATEGORIES: Final = ("emergency", *dict.fromkeys(kind.category for kind in KINDS))

# In the order in which they are raised; each has a number of its own, the second one's is routed to the other link.
EMERGENCIES: Final = (
    Request(str(FIRST_NUMBER), "CODE BLUE, ward 4, bed 12. Cardiac arrest team to ward 4 now.", "emergency"),
    Request(str(FIRST_NUMBER + 999), "FIRE ALARM, building C. Close doors, await the team.", "emergency", flash=True),
    Request(
        str(FIRST_NUMBER + 1),
        "MAJOR INCIDENT declared. All surgical teams to the emergency department. Theatres 1 to 4 to be cleared, "
        "elective lists are stopped. Blood bank: prepare 40 units O neg. Report to the control room on arrival.",
        "emergency",
    ),
)
RAISED_AT: Final = (0.3, 0.5, 0.7)  # share of the load that is on the wire by then

LONG_ANSWER: Final = (
    "YES, I will come tomorrow at half past nine, but my daughter has to drive me and she can not be there before "
    "nine. Is there a place to park near the entrance, and may she come in with me? I also still have the letter "
    "of my doctor from last spring, shall I bring it along?"
)
ANSWERS: Final = (
    ("appointment reminders", ("YES",) * 10 + (LONG_ANSWER,)),
    ("Cyrillic reminders", ("Да, я приду 👍",)),
    ("Arabic reminders", ("نعم",)),
    ("visiting hours with emoji", ("STOP",)),
)


def load() -> Load:
    """Make the load, well mixed and the same every time."""
    chance = random.Random(1)  # noqa: S311  # no secret
    taken = {request.recipient for request in EMERGENCIES}
    numbers = [number for n in range(NUMBERS) if (number := str(FIRST_NUMBER + n)) not in taken]
    chance.shuffle(numbers)
    dealt: list[tuple[str, Kind]] = []
    recipients: dict[str, list[str]] = {}
    for kind in KINDS:
        theirs = [numbers.pop() for _ in range(-(-kind.jobs // JOBS_A_NUMBER))]
        recipients[kind.name] = theirs
        dealt += [(theirs[n % len(theirs)], kind) for n in range(kind.jobs)]
    chance.shuffle(dealt)
    return Load(
        requests=tuple(
            Request(recipient, kind.text.format(n=n), kind.category, kind.flash)
            for n, (recipient, kind) in enumerate(dealt, start=1)
        ),
        unreachable=frozenset(
            recipient for kind in KINDS if not kind.is_reachable for recipient in recipients[kind.name]
        ),
        answers=tuple(
            Answer(source, text)
            for name, texts in ANSWERS
            for source, text in zip(recipients[name], texts, strict=False)
        ),
    )
