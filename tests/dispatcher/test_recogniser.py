"""What people text: STOP in every dress, and nothing that is none."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher import recogniser
from dispatcher.recogniser import LONGEST, Recognised, Wish, collides, normal_form, recognise
from dispatcher.stop_words import (
    AUTO_RESPONDER,
    AUTO_RESPONDER_PHRASES,
    EMERGENCY,
    HELP,
    START,
    STOP,
    STOP_PHRASES,
    WRONG_PERSON,
)

TEXTS = {
    "STOP": ("stop", ""),
    " stop. ": ("stop", ""),
    "Stop!!!": ("stop", ""),
    "S\u200bT\u2060OP": ("stop", ""),  # zero width space, word joiner
    "\u202eSTOP\u202c": ("stop", ""),  # bidi override
    "ST\u00adOP": ("stop", ""),  # soft hyphen
    "\uff33\uff34\uff2f\uff30": ("stop", ""),  # fullwidth
    "\u0405\u0422\u041e\u0420": ("stop", ""),  # Cyrillic letters that look like it
    "S.T.O.P": ("stop", ""),
    "s t o p": ("stop", ""),
    "ST0P": ("stop", ""),
    "STOP PLEASE": ("stop", ""),
    "please stop now, thanks": ("stop", ""),
    "Stop all": ("stop", ""),
    "opt-out": ("stop", ""),
    "STOP \U0001f64f": ("stop", ""),  # an emoji
    "CANCEL": ("stop", "en"),
    "End": ("stop", "en"),
    "unsubscribe": ("stop", "en"),
    "\u062a\u0648\u0642\u0651\u0641": ("stop", "ar"),  # with a vowel sign
    "\u0625\u064a\u0642\u0627\u0641": ("stop", "ar"),
    "\u0627\u064a\u0642\u0627\u0641": ("stop", "ar"),  # another alef
    "\u0623\u0648\u0642\u0641": ("stop", "ar"),
    "\u0625\u0644\u063a\u0627\u0621 \u0627\u0644\u0627\u0634\u062a\u0631\u0627\u0643": ("stop", "ar"),
    "\u062a\u0648\u0640\u0640\u0642\u0641": ("stop", "ar"),  # tatweel
    "\u9000\u8ba2": ("stop", "zh"),
    "TD": ("stop", "zh"),
    "Arr\u00eat": ("stop", "fr"),
    "ARRET": ("stop", "fr"),
    "\u092c\u0902\u0926": ("stop", "hi"),
    "\u0441\u0442\u043e\u043f": ("stop", "ru"),
    "Por favor, no m\u00e1s": ("stop", "es"),
    "d\u1eebng": ("stop", "vi"),
    "don't text me again": ("stop", "en"),
    "Don\u2019t text me": ("stop", "en"),
    "please stop texting me!": ("stop", "en"),
    "take me off this list": ("stop", "en"),
    "LEAVE ME ALONE": ("stop", "en"),
    "START": ("start", ""),
    "unstop": ("start", ""),
    "HELP": ("help", "en"),
    "Info please": ("help", "en"),
    "Ayuda": ("help", "es"),
    "Wrong number, who is this?": ("wrong_person", "en"),
    "Stop by the clinic at 5": ("soft_stop", ""),
    "I'll stop taking the pills": ("soft_stop", ""),
    "We need to cancel Tuesday": ("soft_stop", ""),
    "I\u2019m driving": ("auto_responder", ""),
    "I'm driving with Driving Focus turned on. I'll see your message when I get there.": ("auto_responder", ""),
    "Automatic reply: Out of Office": ("auto_responder", ""),
    "Abwesenheitsnotiz: ab Montag wieder da": ("auto_responder", ""),
    "Je conduis": ("auto_responder", ""),
    "I'm driving to you, ten minutes late": ("none", ""),
    "Out of office. Please stop by.": ("soft_stop", ""),  # a person may have written it
    "YES": ("none", ""),
    "C": ("none", ""),
    "X 4821": ("none", ""),
    "weekend": ("none", ""),
    "The end": ("none", ""),
    "nonstop": ("none", ""),
    "Help me find the clinic": ("none", ""),
    "": ("none", ""),
    "   ": ("none", ""),
    "\u2705": ("none", ""),  # only an emoji
    "\u2705\ufe0f\U0001f44d\U0001f3fd": ("none", ""),
    "\ufffd\x00\x1b": ("none", ""),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_asks_for(text):
    wish, language = TEXTS[text]

    assert (recognise(text).wish, recognise(text).language) == (Wish(wish), language)


@pytest.mark.parametrize(
    ("text", "wish", "language"),
    [
        ("HELP I can't breathe", Wish.NONE, "en"),
        ("Can\u2019t breathe, chest pain", Wish.NONE, "en"),
        ("stop texting me I want to die", Wish.STOP, "en"),
        ("No puedo respirar", Wish.NONE, "es"),
        ("\u6211\u80f8\u75db\u5f97\u5f88\u5389\u5bb3", Wish.NONE, "zh"),  # no spaces between words
    ],
)
def test_words_of_emergency_are_seen_whatever_else_is_said(text, wish, language):
    assert recognise(text) == Recognised(wish, recognise(text).language, language)


@pytest.mark.parametrize("text", ["HELP", "STOP", "See you on Tuesday", "my chest is fine"])
def test_other_texts_are_no_emergency(text):
    assert recognise(text).emergency is None


WORDS = [
    (wish, language, word)
    for wish, words in ((Wish.STOP, STOP), (Wish.START, START), (Wish.HELP, HELP))
    for language, of_it in words.items()
    for word in of_it
]
INVISIBLE = "\u200b\u200c\u200d\u2060\u00ad\ufeff\u200e\u202b"


@given(st.sampled_from(WORDS), st.data())
def test_each_word_is_recognised_in_any_dress(word_of, data):
    """Case, invisible characters, blanks and punctuation about it, a composed or a decomposed form."""
    wish, language, word = word_of
    form = data.draw(st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
    characters = list(unicodedata.normalize(form, data.draw(st.sampled_from([word, word.upper(), word.title()]))))
    for _ in range(data.draw(st.integers(0, 3))):
        characters.insert(data.draw(st.integers(0, len(characters))), data.draw(st.sampled_from(INVISIBLE)))
    around = st.text(" \t\n.,!?*-()\u2026\u00a0\u3000", max_size=4)

    found = recognise(data.draw(around) + "".join(characters) + data.draw(around))

    assert (found.wish, found.language) == (wish, language)


@pytest.mark.parametrize("phrases", [STOP_PHRASES, WRONG_PERSON, EMERGENCY, AUTO_RESPONDER_PHRASES])
def test_each_phrase_is_found_within_a_text(phrases):
    wishes = {
        id(STOP_PHRASES): Wish.STOP,
        id(WRONG_PERSON): Wish.WRONG_PERSON,
        id(AUTO_RESPONDER_PHRASES): Wish.AUTO_RESPONDER,
    }
    wish = wishes.get(id(phrases))
    for of_it in phrases.values():
        for phrase in of_it:
            found = recognise(f"Xyz {phrase}, xyz")
            assert (found.wish is wish) if wish else found.emergency is not None, phrase


def test_what_a_handset_answers_by_itself_is_recognised_as_a_whole():
    for of_it in AUTO_RESPONDER.values():
        for word in of_it:
            assert recognise(f"{word.capitalize()}!").wish is Wish.AUTO_RESPONDER
            assert recognise(f"{word}, xyz").wish is Wish.NONE


@given(st.text())
@example("\u0345")
@example("\u0130")
def test_a_normal_form_is_its_own(text):
    """Folded twice it is what it is folded once, so that tables and texts meet."""
    assert normal_form(normal_form(text)) == normal_form(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_quick_way_for_ascii_is_the_same(text):
    assert normal_form(text) == normal_form(text + "\u200b")


@given(st.text(max_size=300))
def test_no_text_raises(text):
    assert isinstance(recognise(text), Recognised)


def test_no_more_than_so_much_is_looked_at():
    assert len(normal_form("x" * 10 * LONGEST)) == LONGEST


def test_a_table_with_a_word_that_matches_everything_is_refused():
    """Its normal form is empty, as that of every text of emoji."""
    with pytest.raises(ValueError, match="without letters"):
        recogniser._by_form({"": ("\u2705",)})


@pytest.mark.parametrize(
    ("word", "wish"),
    [("CANCEL", Wish.STOP), ("End", Wish.STOP), ("info", Wish.HELP), ("Start", Wish.START), ("C", None), ("YES", None)],
)
def test_an_app_s_word_that_means_stop_collides(word, wish):
    assert collides(word) is wish


def test_an_app_s_word_needs_a_letter_or_a_digit():
    with pytest.raises(ValueError, match="neither letters nor digits"):
        collides("\u2705")
