"""What a text from a handset asks of us: to stop, to start again, for help; or that somebody may be in danger.

A STOP that is missed is a message to somebody who refused it; one that is imagined is a reminder that a patient never
gets. So a text is compared as a whole, after everything that a keyboard, a phone or a careful writer adds is gone:

    normal form     NFKC; no invisible characters; no Arabic vowel signs, one form of each Arabic letter; no accents
                    on Latin letters; capitals; all but letters and digits to single spaces; letters one by one joined
    the whole       is a word of STOP, START or HELP; for STOP also with look-alike letters of other scripts
    politely        the same, up to three words of politeness aside
    a phrase        of STOP_PHRASES, or of WRONG_PERSON, somewhere in it
    a word inside   SOFT: nobody is cut off for "Stop by the clinic at 5", but a person should read it
    by a machine    AUTO_RESPONDER as the whole, or one of its phrases: who answers it may begin a loop

Nothing here raises, and no text is ever kept.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from dispatcher.stop_words import (
    AUTO_RESPONDER,
    AUTO_RESPONDER_PHRASES,
    EMERGENCY,
    HELP,
    POLITE,
    SOFT,
    START,
    STOP,
    STOP_PHRASES,
    WRONG_PERSON,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST: Final = 2_000  # characters looked at: the longest text that a handset can send has 255 parts, and says less
MOST_POLITE: Final = 3


class Wish(StrEnum):
    """What a text asks for."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    WRONG_PERSON = "wrong_person"
    SOFT_STOP = "soft_stop"  # a word of STOP inside other words: a person should read it
    AUTO_RESPONDER = "auto_responder"  # nothing: a handset answers by itself
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a text asks for, and the language of the words that say so; "" where they are of no one language."""

    wish: Wish = Wish.NONE
    language: str = ""
    emergency: str | None = None  # language of the words by which somebody may be in danger; None: there are none


NOTHING: Final = Recognised()

_ARABIC_LETTERS = str.maketrans("أإآٱىةکی", "اااايهكي")
# Capitals of Cyrillic and Greek, and a digit, to the Latin capitals that look the same
_LOOK_ALIKES = str.maketrans(
    "АВЕКМНОРСТУХЅІЈԚԜѴΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹ0",  # noqa: RUF001
    "ABEKMHOPCTYXSIJQWVABEZHIKMNOPTYXCO",
)
_TATWEEL = "\u0640"  # lengthens an Arabic word on the page
_OTHER_ASCII = re.compile("[^A-Z0-9]+")


def normal_form(text: str) -> str:
    """Fold a text as the head of this file says; "" where nothing of it is a letter or a digit."""
    text = text[:LONGEST]
    if text.isascii():
        return _OTHER_ASCII.sub(" ", text.upper()).strip()
    kept: list[str] = []
    base = " "  # the last character that is no mark
    for character in unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text)):
        category = unicodedata.category(character)
        if category in {"Mn", "Mc"}:
            if not _says_nothing(character, base):
                kept.append(character)
        elif category not in {"Cf", "Me"} and character != _TATWEEL:
            base = character
            kept.append(character if category[0] in "LN" else " ")
    folded = unicodedata.normalize("NFC", "".join(kept)).translate(_ARABIC_LETTERS).upper()
    return " ".join(folded.split())


def _says_nothing(mark: str, base: str) -> bool:
    """Say whether it is an Arabic vowel sign, a variation selector, or an accent on a Latin letter."""
    if "\u064b" <= mark <= "\u0652" or mark == "\u0670" or "\ufe00" <= mark <= "\ufe0f":
        return True
    return "\u0300" <= mark <= "\u036f" and unicodedata.name(base, "").startswith("LATIN")


def _by_form(words: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Language by normal form; of a word of two languages the first."""
    forms: dict[str, str] = {}
    for language, of_it in words.items():
        for word in of_it:
            forms.setdefault(normal_form(word), language)
    if "" in forms:
        raise ValueError("a word without letters would match every text without letters")
    return forms


_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA")  # scripts that put no spaces between words


def _phrases(words: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The same of phrases, as they are looked for in a text that has a space at both ends."""
    return {
        form if unicodedata.name(form[0], "").startswith(_UNSPACED) else f" {form} ": language
        for form, language in _by_form(words).items()
    }


_STOP, _START, _HELP = _by_form(STOP), _by_form(START), _by_form(HELP)
_STOP_PHRASES, _WRONG_PERSON, _EMERGENCY = _phrases(STOP_PHRASES), _phrases(WRONG_PERSON), _phrases(EMERGENCY)
_AUTO_RESPONDER, _AUTO_RESPONDER_PHRASES = _by_form(AUTO_RESPONDER), _phrases(AUTO_RESPONDER_PHRASES)
_POLITE = frozenset(map(normal_form, POLITE))
_SOFT = frozenset(map(normal_form, SOFT))


def recognise(text: str) -> Recognised:
    """Say what a text asks for. STOP goes before START, START before HELP, all of them before texts of machines.

    The words of emergency are looked for in every text.
    """
    form = _joined(normal_form(text))
    if not form:
        return NOTHING
    emergency = _phrase(form, _EMERGENCY)
    for wish, words in ((Wish.STOP, _STOP), (Wish.START, _START), (Wish.HELP, _HELP)):
        language = _whole(form, words, looks=wish is Wish.STOP)
        if language is not None:
            return Recognised(wish, language, emergency)
    language = _phrase(form, _STOP_PHRASES)
    if language is not None:
        return Recognised(Wish.STOP, language, emergency)
    language = _phrase(form, _WRONG_PERSON)
    if language is not None:
        return Recognised(Wish.WRONG_PERSON, language, emergency)
    if not _SOFT.isdisjoint(form.split()):
        return Recognised(Wish.SOFT_STOP, "", emergency)
    if _whole(form, _AUTO_RESPONDER, looks=False) or _phrase(form, _AUTO_RESPONDER_PHRASES):
        return Recognised(Wish.AUTO_RESPONDER, "", emergency)
    return Recognised(emergency=emergency)


def _joined(form: str) -> str:
    """Put letters together that stand one by one, as in S.T.O.P."""
    words = form.split(" ")
    return "".join(words) if len(words) > 2 and all(len(word) == 1 for word in words) else form


def _whole(form: str, words: Mapping[str, str], *, looks: bool) -> str | None:
    """Language of the word that the whole text is, words of politeness aside; None where it is none."""
    if form in words:
        return words[form]
    if looks and (alike := form.translate(_LOOK_ALIKES)) in words:
        return words[alike]
    parts = form.split()
    plain = [word for word in parts if word not in _POLITE]
    if plain and len(parts) - len(plain) <= MOST_POLITE:
        return words.get(" ".join(plain))
    return None


def _phrase(form: str, phrases: Mapping[str, str]) -> str | None:
    """Language of the first phrase that stands in the text, at the bounds of words; None where none does."""
    padded = f" {form} "
    for phrase, language in phrases.items():
        if phrase in padded:
            return language
    return None


def known_words() -> list[tuple[str, str]]:
    """Give normal forms that an app's own word may not have, with how they are looked for, and words of politeness.

    ``asks``: the whole text; ``phrase``: anywhere in it; ``polite``: does not count.
    """
    whole = [(form, "asks") for words in (_STOP, _START, _HELP) for form in words]
    return whole + [(form.strip(), "phrase") for form in _STOP_PHRASES] + [(form, "polite") for form in sorted(_POLITE)]


def collides(word: str) -> Wish | None:
    """Say which of STOP, START and HELP an app's own word would be taken for; None where it is free.

    Raises:
        ValueError: the word has no letter and no digit, and would match every such text.

    """
    form = normal_form(word)
    if not form:
        raise ValueError("has neither letters nor digits")
    wish = recognise(word).wish
    return wish if wish in {Wish.STOP, Wish.START, Wish.HELP} else None
